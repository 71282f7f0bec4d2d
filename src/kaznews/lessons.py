"""Labelled rows and a teacher's lessons in, one fitted classifier out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.errors import KaznewsError

Rows = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]


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
    weight: npt.NDArray[np.float64]


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
) -> Any:
    """Fit a clone of a classifier on labelled rows and, weighed, on lessons.

    Parameters
    ----------
    matrix, index
        Features of the rows that `with_lessons` returned, and its second value.

    Raises
    ------
    KaznewsError
        The classifier takes no weights.
    """
    from sklearn.base import clone
    from sklearn.utils.validation import has_fit_parameter

    if lessons is None:
        return clone(classifier).fit(matrix, y)
    if not has_fit_parameter(classifier, "sample_weight"):
        raise KaznewsError(f"distil: {type(classifier).__name__} cannot weigh its sentences")
    weight = np.concatenate([np.ones(len(y)), lessons.weight])
    labels = np.concatenate([y, lessons.y])
    return clone(classifier).fit(matrix[index], labels, sample_weight=weight)
