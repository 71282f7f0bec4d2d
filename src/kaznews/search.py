"""A grid of parameters, texts and folds in, the score of every point on every fold out.

Points that differ in the classifier alone share the matrices of a fold; points that differ in the
vectorizer share the analysis of the texts. Scores equal those of scikit-learn's GridSearchCV over
the pipeline of both estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.folds import fold_matrices, tokenize

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One point of a search.

    Attributes
    ----------
    params : mapping
        As they were asked for, ``vectorizer__…`` and ``classifier__…``.
    scores : ndarray, shape (n_folds,)
    """

    params: Mapping[str, Any]
    scores: Floats


def _part(params: Mapping[str, Any], name: str) -> dict[str, Any]:
    prefix = f"{name}__"
    return {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}


def _score_fold(
    vectorizer: Any,
    classifiers: Sequence[Any],
    texts: Any,
    y: npt.NDArray[np.str_],
    kept: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.int64],
    score: Callable[[Any, Any], float],
    matrices: Callable[..., tuple[Any, Any]],
) -> list[float]:
    matrix, asked = matrices(vectorizer, texts, kept, held_out)
    return [
        score(y[held_out], classifier.fit(matrix, y[kept]).predict(asked))
        for classifier in classifiers
    ]


def search(
    vectorizer: Any,
    classifier: Any,
    grid: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    y: npt.NDArray[np.str_],
    fold: npt.NDArray[np.int64],
    score: Callable[[Any, Any], float],
    *,
    matrices: Callable[..., tuple[Any, Any]] = fold_matrices,
    n_jobs: int = 1,
) -> list[Point]:
    """Score every point of a grid on every fold.

    Parameters
    ----------
    vectorizer, classifier : estimators
        Unfitted; cloned.
    grid : sequence of mapping
        Parameters of a point, ``vectorizer__<name>`` and ``classifier__<name>``; for instance a
        list of ``sklearn.model_selection.ParameterGrid``.
    texts : sequence of str, length n_sentences
    y : ndarray of str, shape (n_sentences,)
    fold : ndarray of int, shape (n_sentences,)
    score : callable
        Of true and predicted labels.
    matrices : callable
        As `folds.fold_matrices`, or `folds.FoldCache.matrices` to keep them across searches.
    n_jobs : int
        Processes, as in joblib.

    Returns
    -------
    list of Point
        In the order of the grid.
    """
    from joblib import Parallel, delayed
    from sklearn.base import clone

    # Points by vectorizer: repr of the parameters tells the vectorizers apart.
    by_vectorizer: dict[str, list[int]] = {}
    for position, params in enumerate(grid):
        key = repr(sorted(_part(params, "vectorizer").items()))
        by_vectorizer.setdefault(key, []).append(position)
    numbers = np.unique(fold)
    jobs, owners = [], []
    tokenized: dict[Any, Any] = {}
    for positions in by_vectorizer.values():
        changed = clone(vectorizer).set_params(**_part(grid[positions[0]], "vectorizer"))
        # Vectorizers that differ only in what they keep and how they weigh share one analysis.
        analysis = repr([changed.get_params().get(name) for name in _ANALYSIS])
        if analysis not in tokenized:
            tokenized[analysis] = tokenize(texts, changed)
        classifiers = [
            clone(classifier).set_params(**_part(grid[i], "classifier")) for i in positions
        ]
        for k in numbers:
            kept, held_out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            arguments = (tokenized[analysis], y, kept, held_out, score, matrices)
            jobs.append(delayed(_score_fold)(changed, classifiers, *arguments))
            owners.append((positions, int(np.searchsorted(numbers, k))))
    scores = np.empty((len(grid), len(numbers)))
    for (positions, column), values in zip(owners, Parallel(n_jobs=n_jobs)(jobs), strict=True):
        scores[positions, column] = values
    return [Point(params, row) for params, row in zip(grid, scores, strict=True)]


_ANALYSIS = (
    "analyzer", "ngram_range", "lowercase", "strip_accents", "token_pattern", "stop_words",
)  # fmt: skip
