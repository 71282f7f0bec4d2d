"""Labelled rows, their weights and a teacher's lessons in, one fitted classifier out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.errors import KaznewsError

Rows = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lessons:
    """What a teacher says of sentences without labels, to be learned beside labelled ones.

    Attributes
    ----------
    rows : ndarray of int, shape (n_lessons,)
        Which unlabelled sentence; one may stand several times, once a likely class.
    y : ndarray of str, shape (n_lessons,)
    weight : ndarray, shape (n_lessons,)
        Where a labelled sentence weighs 1.
    """

    rows: Rows
    y: Strings
    weight: Floats


def source_weights(sources: Sequence[str], weights: Mapping[str, float]) -> Floats | None:
    """Return the weight of each sentence by its source; None where all weigh the same.

    Parameters
    ----------
    sources : sequence of str
        As `data.Corpus.sources` returns them, of the sentences that are learned.
    weights : mapping of str to float
        By source; the others weigh 1.

    Raises
    ------
    KaznewsError
        A weight is not above 0.
    """
    for name, weight in weights.items():
        if not weight > 0:
            raise KaznewsError(f"weights.{name} must be above 0, not {weight}")
    found = np.array([weights.get(source, 1.0) for source in sources], dtype=np.float64)
    # All weights alike would only change what the classifier's own regularisation means.
    return found if len(np.unique(found)) > 1 else None


def with_lessons(kept: Rows, lessons: Lessons | None, n: int) -> tuple[Rows, Rows]:
    """Return rows of texts to fit on, and for each labelled row and lesson its row among them.

    Unlabelled sentences stand behind the `n` labelled ones. Each is in the vocabulary and IDF once.
    """
    if lessons is None:
        return kept, np.arange(len(kept))
    rows, index = np.unique(lessons.rows, return_inverse=True)
    behind = len(kept) + index.reshape(-1)
    return np.concatenate([kept, n + rows]), np.concatenate([np.arange(len(kept)), behind])


def learn(
    classifier: Any,
    matrix: Any,
    y: Strings,
    lessons: Lessons | None,
    index: Rows,
    weight: Floats | None = None,
) -> Any:
    """Fit a clone of a classifier on labelled rows and, weighed, on lessons.

    Parameters
    ----------
    matrix, index
        Features of the rows that `with_lessons` returned, and its second value.
    weight : ndarray, shape (n_labelled,), optional
        Of the labelled rows; 1 by default.

    Raises
    ------
    KaznewsError
        The classifier takes no weights.
    """
    from sklearn.base import clone
    from sklearn.utils.validation import has_fit_parameter

    if lessons is None and weight is None:
        return clone(classifier).fit(matrix, y)
    if not has_fit_parameter(classifier, "sample_weight"):
        raise KaznewsError(
            f"{type(classifier).__name__} cannot weigh its sentences, "
            f"which {'weights' if lessons is None else 'distil'} asks for"
        )
    weight = np.ones(len(y)) if weight is None else weight
    if lessons is None:
        return clone(classifier).fit(matrix, y, sample_weight=weight)
    weight = np.concatenate([weight, lessons.weight])
    labels = np.concatenate([y, lessons.y])
    return clone(classifier).fit(matrix[index], labels, sample_weight=weight)
