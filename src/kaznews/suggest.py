"""Unlabelled sentences and a bundle in, the ones worth labelling next out, for Label Studio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from kaznews.errors import KaznewsError
from kaznews.predict import Bundle
from kaznews.text import normalize

# Candidates per suggestion: the most uncertain ones, from which clusters pick.
CANDIDATES = 10
_COMPONENTS = 50


def uncertainty(probabilities: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Return the mean over tasks of the entropy of each sentence, as a share of its maximum.

    Parameters
    ----------
    probabilities : sequence of ndarray, each of shape (n_sentences, n_classes)

    Returns
    -------
    ndarray, shape (n_sentences,)
        0 where every task is certain, 1 where all classes are equally likely.
    """
    from scipy.stats import entropy

    return np.asarray(np.mean([entropy(p, axis=1) / np.log(p.shape[1]) for p in probabilities], 0))


def choose(bundle: Bundle, texts: Sequence[str], n: int, seed: int) -> list[int]:
    """Return positions of the `n` sentences whose labels would help most, best first.

    The most uncertain sentences are clustered by their words, weighted by uncertainty; each cluster
    gives its most uncertain one, so that the batch is not n times the same question. Texts that
    repeat another one, or are empty, are not asked about.

    References
    ----------
    Zhdanov (2019), Diverse mini-batch Active Learning.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    first: dict[str, int] = {}
    for position, text in enumerate(texts):
        if normal := normalize(text).lower():
            first.setdefault(normal, position)
    positions = np.array(sorted(first.values()), dtype=int)
    if not len(positions):
        raise KaznewsError("no sentence to choose from")
    unique = [texts[i] for i in positions]
    score = uncertainty(list(bundle.probabilities(unique).values()))
    order = np.argsort(-score, kind="stable")
    if len(order) <= n:
        return [int(i) for i in positions[order]]
    pool = order[: n * CANDIDATES]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
    matrix = vectors.fit_transform([unique[i] for i in pool])
    components = max(1, min(_COMPONENTS, min(matrix.shape) - 1))
    reduce = make_pipeline(TruncatedSVD(components, random_state=seed), Normalizer())
    clusters = KMeans(n, n_init=1, random_state=seed).fit_predict(
        reduce.fit_transform(matrix), sample_weight=score[pool] + 1e-9
    )
    # The pool is in order of uncertainty: the first of a cluster is its most uncertain one.
    best = {int(c): int(i) for c, i in reversed(list(zip(clusters, pool, strict=True)))}
    chosen = sorted(best.values(), key=lambda i: -score[i])
    # Identical vectors can leave clusters empty: fill up by uncertainty alone.
    chosen += [int(i) for i in pool if int(i) not in set(chosen)][: n - len(chosen)]
    return [int(positions[i]) for i in chosen]


def label_studio_tasks(bundle: Bundle, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tasks that Label Studio imports, the bundle's labels as pre-annotations.

    Format: Label Studio, "Basic Label Studio JSON format" and "Import pre-annotated data": a list
    of objects with ``data`` and ``predictions``.
    """
    answers = bundle.predict([row["text"] for row in rows]).to_dict("records")
    tasks = []
    for row, answer in zip(rows, answers, strict=True):
        names = [t.task.name for t in bundle.tasks]
        result = [
            {
                "id": name,
                "from_name": name,
                "to_name": "text",
                "type": "choices",
                "value": {"choices": [answer[name]]},
            }
            for name in names
        ]
        confidence = float(np.mean([answer[f"{name}_confidence"] for name in names]))
        prediction = {"model_version": "kaznews", "score": confidence, "result": result}
        tasks.append({"data": dict(row), "predictions": [prediction]})
    return tasks


def label_studio_config(bundle: Bundle) -> str:
    """Return the labelling interface for these tasks: one single choice a label column."""
    lines = ["<View>", '  <Text name="text" value="$text"/>']
    for t in bundle.tasks:
        lines.append(f"  <Header value={quoteattr(t.task.name)}/>")
        lines.append(f"  <Choices name={quoteattr(t.task.name)} toName='text' choice='single'>")
        lines += [
            f"    <Choice value={quoteattr(label)}/>" for label in t.task.labels + t.task.excluded
        ]
        lines.append("  </Choices>")
    return "\n".join([*lines, "</View>"]) + "\n"
