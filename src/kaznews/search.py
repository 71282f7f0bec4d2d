"""Estimators, texts and folds in, what each says out of fold out; or the scores of a whole grid.

Candidates that differ in the classifier alone share the matrices of a fold; vectorizers that cut
alike share the analysis of the texts. Scores equal those of scikit-learn's GridSearchCV over the
pipeline of both estimators.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.errors import KaznewsError
from kaznews.folds import fold_matrices, tokenize
from kaznews.lessons import learn

Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Candidate:
    """What is tried: unfitted estimators, and the weights of the sentences, 1 by default."""

    vectorizer: Any
    classifier: Any
    weight: Floats | None = None


@dataclass(frozen=True)
class Answers:
    """What a candidate said.

    Attributes
    ----------
    said : ndarray of str, shape (n_sentences,)
        Out of fold; empty on folds that were left out.
    seconds : float
        Of one processor, to fit the classifier of one fold; the mean over folds.
    """

    said: Strings
    seconds: float


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


def _fold_answers(
    candidates: Sequence[Candidate],
    texts: Any,
    y: Strings,
    kept: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.int64],
    matrices: Callable[..., tuple[Any, Any]],
) -> list[tuple[Any, float] | str]:
    """Return what each of the candidates, which share a vectorizer, says and its seconds.

    Of one that cannot be fitted the reason.
    """
    matrix, asked = matrices(candidates[0].vectorizer, texts, kept, held_out)
    found: list[tuple[Any, float] | str] = []
    for candidate in candidates:
        weight = None if candidate.weight is None else candidate.weight[kept]
        start = time.process_time()
        try:
            fitted = learn(candidate.classifier, matrix, y[kept], None, kept, weight)
        except ValueError as error:
            found.append(str(error).splitlines()[0])
            continue
        seconds = time.process_time() - start
        found.append((fitted.predict(asked), seconds))
    return found


def out_of_fold(
    candidates: Sequence[Candidate],
    texts: Any,
    y: Strings,
    fold: npt.NDArray[np.int64],
    *,
    only: Sequence[int] | None = None,
    matrices: Callable[..., tuple[Any, Any]] = fold_matrices,
    n_jobs: int = 1,
) -> list[Answers | str]:
    """Return what every candidate says of every sentence when it has not seen its fold.

    Parameters
    ----------
    candidates : sequence of Candidate
        Those with equal vectorizers share their matrices.
    texts : indexable by arrays of rows
        As `folds.tokenize` returns them for all vectorizers.
    y : ndarray of str, shape (n_sentences,)
    fold : ndarray of int, shape (n_sentences,)
    only : sequence of int, optional
        Folds to be asked; all by default.
    matrices : callable
        As `folds.fold_matrices`, or `folds.FoldCache.matrices` to keep them across searches.
    n_jobs : int
        Processes, as in joblib.

    Returns
    -------
    list of Answers or str
        In the order of the candidates; of one that cannot be fitted the reason.
    """
    from joblib import Parallel, delayed, hash

    by_vectorizer: dict[str, list[int]] = {}
    for position, candidate in enumerate(candidates):
        by_vectorizer.setdefault(hash(candidate.vectorizer), []).append(position)
    jobs, owners = [], []
    for positions in by_vectorizer.values():
        own = [candidates[i] for i in positions]
        for k in np.unique(fold) if only is None else only:
            kept, held_out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            jobs.append(delayed(_fold_answers)(own, texts, y, kept, held_out, matrices))
            owners.append((positions, held_out))
    said = np.full((len(candidates), len(y)), "", dtype=object)
    seconds: list[list[float]] = [[] for _ in candidates]
    reasons: dict[int, str] = {}
    for (positions, rows), found in zip(owners, Parallel(n_jobs=n_jobs)(jobs), strict=True):
        for position, answer in zip(positions, found, strict=True):
            if isinstance(answer, str):
                reasons[position] = answer
            else:
                said[position, rows] = answer[0]
                seconds[position].append(answer[1])
    return [
        reasons[i]
        if i in reasons
        else Answers(said[i].astype(str), float(np.mean(seconds[i] or 0)))
        for i in range(len(candidates))
    ]


def search(
    vectorizer: Any,
    classifier: Any,
    grid: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    y: Strings,
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
    y, fold, matrices, n_jobs
        As for `out_of_fold`.
    score : callable
        Of true and predicted labels.

    Returns
    -------
    list of Point
        In the order of the grid.

    Raises
    ------
    KaznewsError
        A point cannot be fitted.
    """
    from sklearn.base import clone

    candidates = [
        Candidate(
            clone(vectorizer).set_params(**_part(params, "vectorizer")),
            clone(classifier).set_params(**_part(params, "classifier")),
        )
        for params in grid
    ]
    tokenized = tokenize(texts, *(candidate.vectorizer for candidate in candidates))
    found = out_of_fold(candidates, tokenized, y, fold, matrices=matrices, n_jobs=n_jobs)
    points = []
    for params, answers in zip(grid, found, strict=True):
        if isinstance(answers, str):
            raise KaznewsError(f"cannot fit {dict(params)}: {answers}")
        scores = [score(y[fold == k], answers.said[fold == k]) for k in np.unique(fold)]
        points.append(Point(params, np.array(scores)))
    return points
