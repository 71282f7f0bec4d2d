"""A loaded bundle in, one file for `kaznews.runtime` out: vocabularies, IDF, weights as arrays.

What the runtime cannot follow to the last digit is refused with the reason, and a file is left only
if it has been read back and answers as the bundle does.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews import __version__, npz, runtime
from kaznews.errors import KaznewsError
from kaznews.model import vectorizers
from kaznews.predict import Bundle
from kaznews.stock import linear_part
from kaznews.terms import ANALYZERS, STRIP_ACCENTS, Analysis
from kaznews.text import NORMALIZATION

# Probabilities may differ by this much between a bundle and its export.
TOLERANCE = 1e-9

Floats = npt.NDArray[np.float64]
# Decision values, ascending, and the probabilities an isotonic regression gives them.
_Curve = tuple[Floats, Floats]


@dataclass(frozen=True)
class _Part:
    """One vectorizer of one task with its share of the classifier.

    `coef` has the shape (n_terms, n_classes).
    """

    task: int
    analysis: Analysis
    weighting: runtime.Weighting
    weight: float
    terms: list[str]
    idf: Floats
    coef: Floats


def _analysis(vectorizer: Any, where: str) -> Analysis:
    from sklearn.feature_extraction import text as sk

    from kaznews import features

    followed = (sk.CountVectorizer, sk.TfidfVectorizer)
    if type(vectorizer) not in (*followed, features.CountVectorizer, features.TfidfVectorizer):
        reason = {
            "HashingVectorizer": " (hashing keeps no vocabulary)",
            "SentenceEncoder": " (the encoder itself would have to come along)",
        }
        name = type(vectorizer).__name__
        raise KaznewsError(
            f"cannot export {where}: it reads text with {name}{reason.get(name, '')}; "
            "only CountVectorizer and TfidfVectorizer can be exported"
        )
    checks = {
        "analyzer": vectorizer.analyzer in ANALYZERS,
        "input": vectorizer.input == "content",
        "preprocessor": vectorizer.preprocessor is None,
        "tokenizer": vectorizer.tokenizer is None,
        "strip_accents": vectorizer.strip_accents in STRIP_ACCENTS,
        # Counts of whole numbers are as exact as those in double precision.
        "dtype": np.dtype(vectorizer.dtype).kind in "iu" or vectorizer.dtype == np.float64,
    }
    for name, can_be_followed in checks.items():
        if not can_be_followed:
            raise KaznewsError(
                f"cannot export {where}: its vectorizer has {name}={getattr(vectorizer, name)!r}"
            )
    is_word = vectorizer.analyzer == "word"
    stop_words = vectorizer.get_stop_words() if is_word else None
    low, high = vectorizer.ngram_range
    return Analysis(
        vectorizer.analyzer,
        (int(low), int(high)),
        bool(vectorizer.lowercase),
        vectorizer.strip_accents,
        vectorizer.token_pattern if is_word else "",
        tuple(sorted(stop_words)) if stop_words else None,
    )


def _weights_of(pipeline: Any, n: int) -> list[float]:
    """Return `FeatureUnion.transformer_weights`, one a vectorizer."""
    from sklearn.pipeline import FeatureUnion

    vectorizer = pipeline.named_steps["text"].named_transformers_["vectorizer"]
    vectorizer = getattr(vectorizer, "estimator", vectorizer)
    if not isinstance(vectorizer, FeatureUnion):
        return [1.0] * n
    weights = vectorizer.transformer_weights or {}
    return [float(weights.get(name, 1.0)) for name, _ in vectorizer.transformer_list]


def _parts(number: int, where: str, pipeline: Any) -> tuple[list[_Part], Floats, list[_Curve]]:
    """Return the vectorizers of a task, its intercepts and its isotonic curves."""
    from sklearn.linear_model import LogisticRegression

    found = linear_part(pipeline)
    classifier = found[0] if found else pipeline.named_steps["classifier"]
    if found is None or type(classifier) is not LogisticRegression:
        raise KaznewsError(
            f"cannot export {where}: {type(classifier).__name__} is not a linear classifier; "
            "a bundle of linear ones (linear_svc, sgd, logistic_regression, complement_nb) can be"
        )
    coef = np.asarray(classifier.coef_, dtype=np.float64).T
    intercept = np.asarray(classifier.intercept_, dtype=np.float64)
    if len(classifier.classes_) == 2:
        # The logistic function is the softmax of 0 and the score.
        coef = np.column_stack([np.zeros(len(coef)), coef[:, 0]])
        intercept = np.array([0.0, intercept[0]])
    parts, start = [], 0
    fitted = vectorizers(pipeline)
    for vectorizer, weight in zip(fitted, _weights_of(pipeline, len(fitted)), strict=True):
        analysis = _analysis(vectorizer, where)
        terms = vectorizer.get_feature_names_out().tolist()
        weighting = runtime.Weighting(
            bool(vectorizer.binary),
            bool(getattr(vectorizer, "sublinear_tf", False)),
            getattr(vectorizer, "norm", None),
        )
        has_idf = getattr(vectorizer, "use_idf", False)
        idf = np.asarray(vectorizer.idf_, dtype=np.float64) if has_idf else np.ones(len(terms))
        end = start + len(terms)
        parts.append(_Part(number, analysis, weighting, weight, terms, idf, coef[start:end]))
        start = end
    if start != len(coef):
        raise KaznewsError(f"cannot export {where}: {len(coef)} weights for {start} terms")
    curves = [(curve.X_thresholds_, curve.y_thresholds_) for curve in found[1]]
    return parts, intercept, curves


def _blocks(parts: list[_Part]) -> list[list[_Part]]:
    """Group vectorizers that cut and weigh alike, no task twice in one group."""
    groups: dict[Any, list[_Part]] = {}
    seen: defaultdict[Any, int] = defaultdict(int)
    for part in parts:
        key = (part.analysis, part.weighting)
        nth = seen[(key, part.task)]
        seen[(key, part.task)] += 1
        groups.setdefault((key, nth), []).append(part)
    return list(groups.values())


def _arrays(number: int, parts: list[_Part]) -> dict[str, npt.NDArray[Any]]:
    # In the order of scikit-learn's columns, which is that of the sums.
    terms = sorted(set().union(*(part.terms for part in parts)))
    row_of = {term: row for row, term in enumerate(terms)}
    idf = np.zeros((len(terms), len(parts)))
    coef = np.zeros((len(terms), sum(part.coef.shape[1] for part in parts)))
    first = 0
    for column, part in enumerate(parts):
        rows = [row_of[term] for term in part.terms]
        last = first + part.coef.shape[1]
        idf[rows, column] = part.idf
        coef[rows, first:last] = part.coef
        first = last
    text = "".join(terms).encode("utf-8", "surrogatepass")
    return {
        f"terms_{number}": np.frombuffer(text, dtype=np.uint8),
        f"lengths_{number}": np.array([len(term) for term in terms], dtype="<u4"),
        f"idf_{number}": idf.astype("<f8"),
        f"coef_{number}": coef.astype("<f8"),
    }


def export(bundle: Bundle, target: Path) -> runtime.Model:
    """Write a bundle as one file that `kaznews.runtime` reads; return what it reads.

    Parameters
    ----------
    bundle : predict.Bundle
        All its classifiers linear (saved as a softmax, or under isotonic curves), its vectorizers
        TfidfVectorizer or CountVectorizer, or a FeatureUnion of them.
    target : Path
        Overwritten where it exists.

    Raises
    ------
    KaznewsError
        Something in the bundle cannot be followed by the runtime; names the task and the reason.
    """
    parts: list[_Part] = []
    tasks, intercepts, curves = [], [], []
    for number, task in enumerate(bundle.tasks):
        own, intercept, own_curves = _parts(number, task.task.name, task.pipeline)
        parts += own
        tasks.append(
            {
                "name": task.task.name,
                "classes": bundle.classes(task.task.name),
                "isotonic": bool(own_curves),
            }
        )
        intercepts.append(intercept)
        curves += own_curves
    arrays: dict[str, npt.NDArray[Any]] = {
        "intercept": np.concatenate(intercepts).astype("<f8"),
        "threshold": np.array([task.threshold for task in bundle.tasks], dtype="<f8"),
        "curve_lengths": np.array([len(x) for x, _ in curves], dtype="<u4"),
        "curve_x": np.concatenate([np.empty(0), *(x for x, _ in curves)]).astype("<f8"),
        "curve_y": np.concatenate([np.empty(0), *(y for _, y in curves)]).astype("<f8"),
    }
    blocks = []
    for number, group in enumerate(_blocks(parts)):
        arrays |= _arrays(number, group)
        blocks.append(
            {
                "analysis": asdict(group[0].analysis),
                "weighting": asdict(group[0].weighting),
                "n_terms": len(arrays[f"lengths_{number}"]),
                "parts": [{"task": part.task, "weight": part.weight} for part in group],
            }
        )
    manifest = {
        "format": runtime.FORMAT,
        "version": runtime.FORMAT_VERSION,
        "normalization": NORMALIZATION,
        "kaznews": __version__,
        "digests": {
            "labels": hashlib.sha256(json.dumps(tasks).encode("ascii")).hexdigest(),
            "training_data": hashlib.sha256(bundle.seen.astype("<u8").tobytes()).hexdigest(),
        },
        "tasks": tasks,
        "blocks": blocks,
    }
    npz.write(target, manifest, arrays)
    try:
        model = runtime.read(target)
        _compare(bundle, model, [part.terms for part in parts])
    except KaznewsError:
        target.unlink()
        raise
    return model


def _compare(bundle: Bundle, model: runtime.Model, vocabularies: list[list[str]]) -> None:
    """Ask both about sentences that are made of known terms."""
    probes = ["", *(" ".join(v[k :: max(1, len(v) // 20)]) for v in vocabularies for k in range(5))]
    answers = model.probabilities(probes)
    for name, expected in bundle.probabilities(probes).items():
        distance = float(np.abs(expected - answers[name]).max())
        if not distance <= TOLERANCE:
            raise KaznewsError(
                f"cannot export {name}: the file would answer otherwise than the bundle "
                f"(probabilities differ by {distance:.1e})"
            )
