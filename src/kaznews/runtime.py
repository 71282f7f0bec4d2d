"""One exported file and sentences in, labels with confidences out, with NumPy alone.

What scikit-learn's text pipelines do to one sentence is written out here once more: the weighting
of `TfidfTransformer`, the softmax of `LogisticRegression`, the isotonic curves of
`CalibratedClassifierCV` (the analyzers are in `terms`). The tasks of a model share the n-grams of a
sentence: they are cut and looked up once. Sums run in scikit-learn's order, so that probabilities
are not only close but, nearly always, the same number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews import npz
from kaznews.errors import KaznewsError
from kaznews.language import KAZAKH, WRITING, language_of
from kaznews.terms import Analysis, char_ngrams
from kaznews.text import NORMALIZATION, normalize
from kaznews.text import read as read_text

FORMAT = "kaznews-portable"
FORMAT_VERSION = 2
NORMS = (None, "l1", "l2")

# Words whose n-grams are remembered, and the longest of them: 20 MB at the very most.
_REMEMBERED_WORDS = 16_384
_REMEMBERED_LENGTH = 32

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Weighting:
    """How counts become numbers: the parameters of `TfidfTransformer` of the same names."""

    binary: bool
    sublinear_tf: bool
    norm: str | None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"a norm that is not known: {self.norm!r}")


class _Block:
    """The vectorizers of all tasks that cut and weigh alike: one vocabulary, a column a task.

    Parameters
    ----------
    terms : list of str, length n_terms
        All terms that any task knows.
    idf : ndarray, shape (n_terms, n_parts)
        0 where a part does not know the term.
    weight : ndarray, shape (n_parts,)
        As in `FeatureUnion.transformer_weights`.
    coef : ndarray, shape (n_terms, n_columns)
    part_of_column : ndarray of int, shape (n_columns,)
    columns : ndarray of int, shape (n_columns,)
        Columns of the model's scores that those of `coef` add to.
    """

    def __init__(
        self,
        analysis: Analysis,
        weighting: Weighting,
        terms: list[str],
        idf: Floats,
        weight: Floats,
        coef: Floats,
        part_of_column: Ints,
        columns: Ints,
    ) -> None:
        self.weighting = weighting
        self.index = dict(zip(terms, range(len(terms)), strict=True))
        if len(self.index) != len(terms):
            raise ValueError("a term stands in the vocabulary twice")
        self.idf, self.coef, self.columns = idf, coef, columns
        self.weight = None if (weight == 1).all() else weight
        self.part_of_column = part_of_column
        self.ids = self._whole_text(analysis)
        if analysis.analyzer == "char_wb":
            self.ids = self._word_by_word(analysis)

    def _known(self, terms: Iterable[str]) -> Ints:
        get = self.index.get
        return np.array([i for term in terms if (i := get(term)) is not None], dtype=np.intp)

    def _whole_text(self, analysis: Analysis) -> Callable[[str], Ints]:
        terms = analysis.terms()
        return lambda text: self._known(terms(text))

    def _word_by_word(self, analysis: Analysis) -> Callable[[str], Ints]:
        """Return a function that looks a word's n-grams up once for all sentences with it."""
        before = analysis.preprocessor()
        low, high = analysis.ngram_range
        memory: dict[str, Ints] = {}
        nothing = np.empty(0, dtype=np.intp)

        def ids(text: str) -> Ints:
            found = []
            for word in before(text).split():
                known = memory.get(word)
                if known is None:
                    known = self._known(char_ngrams(word, low, high))
                    if len(word) <= _REMEMBERED_LENGTH:
                        if len(memory) >= _REMEMBERED_WORDS:
                            memory.clear()
                        memory[word] = known
                found.append(known)
            return np.concatenate(found) if found else nothing

        return ids

    def add_scores(self, text: str, scores: Floats) -> None:
        """Add what the terms of a normalised text say to the scores, shape (n_columns_of_model,).

        tf is 1 + ln(count) where sublinear; a row is divided by its norm unless that is 0.
        """
        ids = self.ids(text)
        if not len(ids):
            return
        ids.sort()
        starts = np.concatenate(([0], np.flatnonzero(ids[1:] != ids[:-1]) + 1, [len(ids)]))
        tf = np.diff(starts).astype(np.float64)
        ids = ids[starts[:-1]]
        if self.weighting.binary:
            tf.fill(1.0)
        if self.weighting.sublinear_tf:
            tf = np.log(tf) + 1.0
        values = tf[:, None] * self.idf[ids]
        if self.weighting.norm:
            if self.weighting.norm == "l2":
                norm = np.sqrt(np.add.reduce(values * values))
            else:
                norm = np.add.reduce(np.abs(values))
            norm[norm == 0.0] = 1.0
            values /= norm
        if self.weight is not None:
            values *= self.weight
        scores[self.columns] += np.add.reduce(values[:, self.part_of_column] * self.coef[ids])


@dataclass(frozen=True)
class PortableTask:
    """One task of a portable model.

    Attributes
    ----------
    name : str
    classes : tuple of str
        The columns of probabilities.
    threshold : float
        Confidence below which the task abstains.
    curves : tuple of (ndarray, ndarray)
        Decision values and probabilities between which `IsotonicRegression` draws straight lines:
        one curve a class, with two classes that of the second alone. None for a softmax.
    """

    name: str
    classes: tuple[str, ...]
    threshold: float = 0.0
    curves: tuple[tuple[Floats, Floats], ...] = ()

    def calibrate(self, own: Floats) -> None:
        """Turn decision values into probabilities in place, shape (n_classes,)."""
        if not self.curves:
            own -= own.max()
            np.exp(own, out=own)
            own /= own.sum()
        elif len(own) == 2:
            own[1] = np.interp(own[1], *self.curves[0])
            own[0] = 1.0 - own[1]
        else:
            own[:] = [np.interp(v, *curve) for v, curve in zip(own, self.curves, strict=True)]
            own /= own.sum()


class Model:
    """All tasks of an exported bundle: sentences in, labels and confidences out.

    Made by `read`. May be asked by several threads at once.

    Attributes
    ----------
    tasks : tuple of PortableTask
    info : mapping
        What the file says of itself: ``format``, ``version``, ``normalization``, ``kaznews`` (the
        version that wrote it) and ``digests`` of the labels and of the training data.
    """

    def __init__(
        self,
        tasks: Sequence[PortableTask],
        blocks: Sequence[_Block],
        intercept: Floats,
        info: Mapping[str, Any],
    ) -> None:
        self.tasks = tuple(tasks)
        self.info = MappingProxyType(dict(info))
        self._blocks = tuple(blocks)
        self._intercept = intercept
        sizes = [len(task.classes) for task in self.tasks]
        self._ends = np.cumsum(sizes).tolist()
        self._starts = [end - size for end, size in zip(self._ends, sizes, strict=True)]

    @property
    def columns(self) -> list[str]:
        """Columns of a prediction: each task's label, confidence, whether it abstains; WRITING."""
        return [
            c for t in self.tasks for c in (t.name, f"{t.name}_confidence", f"{t.name}_abstain")
        ] + [*WRITING]

    def classes(self, name: str) -> list[str]:
        """Return the class names of a task in the order of its probability columns."""
        return [c for t in self.tasks if t.name == name for c in t.classes]

    def _rows(self, normals: Iterable[str]) -> Iterator[Floats]:
        """Yield for each normalised text the probabilities of all tasks side by side."""
        for normal in normals:
            scores = np.zeros_like(self._intercept)
            for block in self._blocks:
                block.add_scores(normal, scores)
            scores += self._intercept
            for task, start, end in zip(self.tasks, self._starts, self._ends, strict=True):
                task.calibrate(scores[start:end])
            yield scores

    def probabilities(self, texts: Iterable[str]) -> dict[str, Floats]:
        """Return calibrated probabilities, shape (n_sentences, n_classes), for each task.

        Columns are in the order of `classes`; the sentences are normalised here.

        Raises
        ------
        KaznewsError
            One string instead of several, or a row that is no string.
        """
        rows = [*self._rows(map(normalize, _checked(texts)))]
        together = np.array(rows) if rows else np.empty((0, len(self._intercept)))
        return {
            task.name: together[:, start:end]
            for task, start, end in zip(self.tasks, self._starts, self._ends, strict=True)
        }

    def predict(self, texts: Iterable[str]) -> list[dict[str, Any]]:
        """Return labels with confidences, one dict a sentence in the order given.

        Parameters
        ----------
        texts : iterable of str

        Returns
        -------
        list of dict
            For each task its label (str), ``<task>_confidence`` (float, the calibrated
            probability of that label) and ``<task>_abstain`` (bool, the confidence is below the
            task's threshold, or the sentence is not Kazakh), then ``script`` and ``language`` (see
            `script.script_of` and `language.language_of`), in the order of `columns`.

        Raises
        ------
        KaznewsError
            One string instead of several, or a row that is no string.
        """
        answers = []
        for text in _checked(texts):
            normal, script = read_text(text)
            language = language_of(normal)
            (row,) = self._rows([normal])
            answer: dict[str, Any] = {}
            for task, start, end in zip(self.tasks, self._starts, self._ends, strict=True):
                best = int(row[start:end].argmax())
                answer[task.name] = task.classes[best]
                confidence = float(row[start + best])
                answer[f"{task.name}_confidence"] = confidence
                answer[f"{task.name}_abstain"] = confidence < task.threshold or language != KAZAKH
            answer |= dict(zip(WRITING, (script, language), strict=True))
            answers.append(answer)
        return answers


def _checked(texts: Iterable[str]) -> Iterator[str]:
    if isinstance(texts, str | bytes):
        raise KaznewsError("expected a list of sentences, got one string: pass [text]")
    if not isinstance(texts, Iterable):
        raise KaznewsError(f"expected a list of sentences, got {type(texts).__name__}")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise KaznewsError(f"row {position} is not a string: {text!r}")
        yield text


def _terms(blob: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> list[str]:
    """Return the strings of a vocabulary: one UTF-8 text and how many characters each has."""
    text = blob.tobytes().decode("utf-8", "surrogatepass")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    if (ends[-1] if ends else 0) != len(text):
        raise ValueError("the lengths of the terms do not add up")
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _shaped(arrays: npz.Arrays, name: str, dtype: str, *shape: int) -> npt.NDArray[Any]:
    array = arrays[name]
    if array.dtype.str != dtype or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype.str} {array.shape}, not {dtype} {shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return array


def _block(
    entry: Mapping[str, Any], number: int, arrays: npz.Arrays, tasks: Sequence[PortableTask]
) -> _Block:
    starts = np.concatenate(([0], np.cumsum([len(t.classes) for t in tasks])))
    parts = [(int(part["task"]), float(part["weight"])) for part in entry["parts"]]
    if not all(0 <= task < len(tasks) for task, _ in parts):
        raise ValueError("a vectorizer without a task")
    own = [np.arange(starts[task], starts[task + 1]) for task, _ in parts]
    analysis = {**entry["analysis"], "ngram_range": tuple(entry["analysis"]["ngram_range"])}
    stop_words = analysis["stop_words"]
    analysis["stop_words"] = None if stop_words is None else tuple(stop_words)
    n_terms = int(entry["n_terms"])
    lengths = _shaped(arrays, f"lengths_{number}", "<u4", n_terms)
    n_bytes = len(arrays[f"terms_{number}"])
    columns = np.concatenate(own)
    if len(np.unique(columns)) != len(columns):
        raise ValueError("two vectorizers of one task in one block")
    return _Block(
        Analysis(**analysis),
        Weighting(**entry["weighting"]),
        _terms(_shaped(arrays, f"terms_{number}", "|u1", n_bytes), lengths),
        _shaped(arrays, f"idf_{number}", "<f8", n_terms, len(parts)),
        np.array([weight for _, weight in parts]),
        _shaped(arrays, f"coef_{number}", "<f8", n_terms, len(columns)),
        np.repeat(np.arange(len(parts)), [len(c) for c in own]),
        columns,
    )


def _tasks(manifest: Mapping[str, Any], arrays: npz.Arrays) -> list[PortableTask]:
    entries = [
        (str(t["name"]), tuple(map(str, t["classes"])), t["isotonic"]) for t in manifest["tasks"]
    ]
    if not entries or not all(classes for _, classes, _ in entries):
        raise ValueError("a model without tasks, or a task without classes")
    # Two classes share a curve: the probability of the first is what that of the second leaves.
    counts = [(len(c) if len(c) > 2 else 1) if isotonic else 0 for _, c, isotonic in entries]
    lengths = _shaped(arrays, "curve_lengths", "<u4", sum(counts))
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    n_points = ends[-1] if ends else 0
    x = _shaped(arrays, "curve_x", "<f8", n_points)
    y = _shaped(arrays, "curve_y", "<f8", n_points)
    spans = zip([0, *ends], ends, strict=False)
    curves = [(x[start:end], y[start:end]) for start, end in spans]
    if not all(len(a) and (np.diff(a) > 0).all() and (np.diff(b) >= 0).all() for a, b in curves):
        raise ValueError("an isotonic curve that is empty or falls")
    if not ((y > 0) & (y < 1)).all():
        raise ValueError("an isotonic curve that is no probability")
    threshold = _shaped(arrays, "threshold", "<f8", len(entries)).tolist()
    if min(threshold) < 0:
        raise ValueError("a threshold below 0")
    left = iter(curves)
    return [
        PortableTask(name, classes, value, tuple(islice(left, count)))
        for (name, classes, _), value, count in zip(entries, threshold, counts, strict=True)
    ]


def read(path: str | Path) -> Model:
    """Read a file that ``kaznews export`` wrote; runs no code from it and imports NumPy alone.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    KaznewsError
        The file is missing, truncated, altered or of another kind, or of a format or normal form
        of text that this version does not have.
    """
    path = Path(path)
    manifest, arrays = npz.read(path)
    try:
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r:.60}")
        for key, expected in (("version", FORMAT_VERSION), ("normalization", NORMALIZATION)):
            if manifest[key] != expected:
                raise KaznewsError(
                    f"{path} has {key} {manifest[key]!r:.60}, this kaznews reads {expected}: "
                    "export the model anew with the version that is to read it"
                )
        tasks = _tasks(manifest, arrays)
        blocks = [_block(b, i, arrays, tasks) for i, b in enumerate(manifest["blocks"])]
        intercept = _shaped(arrays, "intercept", "<f8", sum(len(t.classes) for t in tasks))
        info = {
            k: manifest[k] for k in ("format", "version", "normalization", "kaznews", "digests")
        }
    except KaznewsError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, re.error) as error:
        raise KaznewsError(f"{path} is not a model that kaznews export wrote: {error}") from None
    return Model(tasks, blocks, intercept, info)
