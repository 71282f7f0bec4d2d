"""Training sentences in, what a model is measured against out: plain words, and itself on less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.data import Task
from kaznews.evaluate import Report, evaluate
from kaznews.lessons import learn
from kaznews.model import Floats, Strings

Rows = npt.NDArray[np.int64]


def fit_words(texts: Sequence[str], y: Strings, seed: int) -> Any | None:
    """Return a fitted logistic regression over TF-IDF of single words: the usual first baseline.

    Parameters
    ----------
    texts : sequence of str, length n_sentences
    y : ndarray of str, shape (n_sentences,)

    Returns
    -------
    sklearn.pipeline.Pipeline or None
        Reads a sequence of sentences. None where there is one class or no word to learn from.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    if len(np.unique(y)) < 2:
        return None
    model = make_pipeline(
        TfidfVectorizer(min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, class_weight="balanced", max_iter=300, random_state=seed),
    )
    try:
        # The products are small: two threads that share two busy cores take 30 times as long.
        with threadpool_limits(1):
            return model.fit(list(texts), y)
    except ValueError:
        # No word stands in two sentences.
        return None


@dataclass(frozen=True)
class CurvePoint:
    """A model trained on part of the training articles, scored on dev."""

    sentences: int
    report: Report


def subsets(groups: npt.NDArray[np.object_], shares: Sequence[float], seed: int) -> list[Rows]:
    """Return nested subsets of rows by whole articles, one a share, at least one article each.

    Articles come in one random order; a subset is those that begin before its share of the rows.
    """
    names, article, count = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    begins = np.empty(len(names))
    begins[order] = np.cumsum(count[order]) - count[order]
    return [np.flatnonzero(begins[article] < share * len(groups)) for share in shares]


def _fit_and_predict(
    vectorizer: Any, classifier: Any, texts: Any, y: Strings, asked: Any, weight: Floats | None
) -> Any:
    from sklearn.base import clone

    try:
        fitted = clone(vectorizer)
        matrix = fitted.fit_transform(texts)
        model = learn(classifier, matrix, y, None, np.arange(len(y)), weight)
        return model.predict(fitted.transform(asked))
    except ValueError:
        # Too few sentences for these parameters, or one class: no point on the curve.
        return None


def learning_curve(
    task: Task,
    vectorizer: Any,
    classifier: Any,
    texts: Any,
    y: Strings,
    groups: npt.NDArray[np.object_],
    train: Rows,
    dev: Rows,
    *,
    shares: Sequence[float],
    n_jobs: int,
    resamples: int,
    seed: int,
    weight: Floats | None = None,
) -> tuple[CurvePoint, ...]:
    """Return how the model does on dev when it is trained on shares of the training articles.

    Parameters
    ----------
    vectorizer, classifier : estimators
        Unfitted; cloned for every point.
    texts : sequence of str, length n_sentences
        As `model.tokenize` returns them.
    y, groups : ndarray, shape (n_sentences,)
    train, dev : ndarray of int
        Rows to draw from, rows to score. Test is never asked.
    shares : sequence of float
        In (0, 1); none gives no curve. The full model is not fitted again: add its report.
    weight : ndarray, shape (n_train,), optional
        Of the rows of train; 1 by default.
    """
    from joblib import Parallel, delayed

    parts = subsets(groups[train], shares, seed) if shares else []
    chosen = [train[rows] for rows in parts]
    weights = [None if weight is None else weight[rows] for rows in parts]
    said = Parallel(n_jobs=n_jobs)(
        delayed(_fit_and_predict)(vectorizer, classifier, texts[rows], y[rows], texts[dev], own)
        for rows, own in zip(chosen, weights, strict=True)
    )
    return tuple(
        CurvePoint(
            len(rows),
            evaluate(
                task,
                y[dev].tolist(),
                answer.tolist(),
                groups=groups[dev].tolist(),
                resamples=resamples,
                seed=seed,
            ),
        )
        for rows, answer in zip(chosen, said, strict=True)
        if answer is not None
    )
