"""Features and labels in, one linear classifier out that was put together from several.

Each of these estimators fits stock linear classifiers and folds what they found into one matrix of
coefficients, so that `stock.calibrated` saves a plain LogisticRegression whatever it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, has_fit_parameter, validate_data

from kaznews.stock import linear

Floats = npt.NDArray[np.float64]

# What `Shifted` tries, in units of the spread of decision values and of nats.
STRENGTHS = np.linspace(-0.6, 0.6, 61).round(2)


class _Composed(LinearClassifierMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Checks of input and the last step, from one row a class to scikit-learn's coefficients."""

    classes_: npt.NDArray[Any]
    coef_: Floats
    intercept_: Floats

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Floats | None]:
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            name, only = type(self).__name__, self.classes_[0]
            raise ValueError(f"{name} needs two classes or more, got one class: {only}")
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        return X, y, sample_weight

    def _keep(self, coef: Floats, intercept: Floats) -> Self:
        """Keep one row a class; of two classes the difference, as scikit-learn does."""
        if len(self.classes_) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_, self.intercept_ = coef, intercept
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _fitted(estimator: Any, X: Any, y: Any, sample_weight: Floats | None) -> Any:
    fresh = clone(estimator)
    if sample_weight is None:
        return fresh.fit(X, y)
    if not has_fit_parameter(fresh, "sample_weight"):
        raise ValueError(f"{type(fresh).__name__} takes no sample_weight")
    return fresh.fit(X, y, sample_weight=sample_weight)


def _rows(fitted: Any) -> tuple[Floats, Floats]:
    """Return coefficients and intercepts, one row a class, of a fitted linear classifier.

    Of two classes the first gets minus half of the decision value and the second half of it.
    """
    found = linear(fitted)
    if found is None:
        raise ValueError(f"{type(fitted).__name__} is not a linear classifier")
    coef, intercept = found
    if len(fitted.classes_) == 2:
        coef = np.concatenate([-coef, coef]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    return coef, np.array(intercept, dtype=np.float64)


def _spread(scores: Floats, sample_weight: Floats | None) -> float:
    """Return the standard deviation of scores, each row less its mean; 0 without rows."""
    if not len(scores):
        return 0.0
    variance = (scores - scores.mean(axis=1, keepdims=True)) ** 2
    return float(np.sqrt(np.average(variance.mean(axis=1), weights=sample_weight)))


class NBWeighted(_Composed):
    """Linear classifier over features scaled by naive Bayes log-count ratios, one against the rest.

    For each class, feature j is multiplied by ``r_j = log((p_j / |p|) / (q_j / |q|))``, where p
    sums the feature over the class's rows and q over all others, each plus `alpha`; a classifier is
    fitted on the scaled features, and its weights w are drawn towards their mean magnitude:
    ``(1 - beta) * mean(|w|) + beta * w``. The scale is then multiplied into the weights.

    Parameters
    ----------
    estimator : estimator
        A linear binary classifier, cloned for each class. Its ``class_weight`` is that of the class
        against the rest.
    alpha : float, default=1.0
        Smoothing of the sums.
    beta : float, default=1.0
        Interpolation: 1 is the classifier alone, 0 naive Bayes with the classifier's intercept.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coef_ : ndarray, shape (n_classes, n_features), one row for two classes
        For the features as they are given.
    intercept_ : ndarray, shape (n_classes,) or (1,)

    Raises
    ------
    ValueError
        In `fit`: a negative feature, or `alpha` or `beta` out of range.

    References
    ----------
    Wang and Manning (2012), Baselines and Bigrams: Simple, Good Sentiment and Topic Classification,
    equations 2 to 4. There the features of the classifier are binary; here they stay as they are,
    which for TF-IDF rows of unit length is what later work does.
    """

    def __init__(self, estimator: Any, alpha: float = 1.0, beta: float = 1.0) -> None:
        self.estimator = estimator
        self.alpha = alpha
        self.beta = beta

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit one weighted classifier a class; `sample_weight` weighs the sums too."""
        X, y, sample_weight = self._checked(X, y, sample_weight)
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, not {self.alpha}")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta must be between 0 and 1, not {self.beta}")
        if X.min() < 0:
            raise ValueError("Negative values in data passed to NBWeighted, which counts features")
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        total = np.asarray(X.T @ weight).ravel()
        # Two classes share one classifier: the ratios of one are minus those of the other.
        named = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        coef, intercept = np.empty((len(named), X.shape[1])), np.empty(len(named))
        for row, name in enumerate(named):
            is_class = y == name
            p = np.asarray(X.T @ np.where(is_class, weight, 0.0)).ravel()
            # A difference of sums can fall below 0 by a rounding error.
            q = np.maximum(total - p, 0.0) + self.alpha
            p += self.alpha
            ratio = np.log((p / p.sum()) / (q / q.sum()))
            scaled = X.multiply(ratio).tocsr() if hasattr(X, "multiply") else X * ratio
            fitted = _fitted(self.estimator, scaled, is_class, sample_weight)
            found = linear(fitted)
            if found is None:
                raise ValueError(f"{type(fitted).__name__} is not a linear classifier")
            w = found[0][0]
            w = (1 - self.beta) * np.abs(w).mean() + self.beta * w
            coef[row], intercept[row] = ratio * w, found[1][0]
        self.coef_, self.intercept_ = coef, intercept
        return self


class TwoStep(_Composed):
    """First whether a sentence is of any class but one, then of which: for stance, and linear.

    Step one tells the class `rest` from all others (decision value a), step two tells the others
    apart and is fitted on their rows alone (decision values d, one a class; of two classes -d and
    d). The scores are ``-a`` for `rest` and ``a + scale * d`` for each other class.

    Parameters
    ----------
    estimator : estimator
        A linear classifier; cloned for step one, and for step two where `direction` is None.
    direction : estimator, optional
        For step two.
    rest : str, default="none"
        Where `y` does not hold it, or only one class beside it, there is one step.
    scale : float, default=1.0

    Attributes
    ----------
    classes_, coef_, intercept_ : ndarray
        As those of scikit-learn's linear classifiers.

    References
    ----------
    Mohammad, Sobhani, Kiritchenko (2017), Stance and Sentiment in Tweets, section 5, for the two
    steps. That their scores add up to one linear model is our own choice: both steps see all
    sentences, so that a clear direction can outvote a doubtful first step.
    """

    def __init__(
        self, estimator: Any, direction: Any = None, rest: str = "none", scale: float = 1.0
    ) -> None:
        self.estimator = estimator
        self.direction = direction
        self.rest = rest
        self.scale = scale

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit both steps; `sample_weight` weighs both."""
        X, y, sample_weight = self._checked(X, y, sample_weight)
        is_rest = self.classes_ == self.rest
        if not is_rest.any() or len(self.classes_) == 2:
            return self._keep(*_rows(_fitted(self.estimator, X, y, sample_weight)))
        others = y != self.rest
        about = _rows(_fitted(self.estimator, X, others, sample_weight))
        weight = None if sample_weight is None else sample_weight[others]
        second = self.estimator if self.direction is None else self.direction
        which = _rows(_fitted(second, X[others], y[others], weight))
        coef, intercept = np.empty((len(self.classes_), X.shape[1])), np.empty(len(self.classes_))
        for all_rows, (first, direction) in zip(
            (coef, intercept), zip(about, which, strict=True), strict=True
        ):
            # `_rows` halves a binary decision value.
            all_rows[is_rest] = 2 * first[0]
            all_rows[~is_rest] = 2 * first[1] + 2 * self.scale * direction
        return self._keep(coef, intercept)


class Average(_Composed):
    """Mean of the decision values of several linear classifiers, brought to one scale.

    Parameters
    ----------
    estimators : list of estimators
        Linear classifiers, or naive Bayes ones.
    weights : list of float, optional
        One an estimator; equal ones by default.

    Attributes
    ----------
    classes_, coef_, intercept_ : ndarray
        As those of scikit-learn's linear classifiers.

    Notes
    -----
    The scale of an estimator is the standard deviation of its decision values on the training rows,
    each row less its mean over the classes. Unlike a soft vote of probabilities, a mean of decision
    values is one linear classifier again.
    """

    def __init__(self, estimators: Sequence[Any], weights: Sequence[float] | None = None) -> None:
        self.estimators = estimators
        self.weights = weights

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit all estimators and average what they found."""
        X, y, sample_weight = self._checked(X, y, sample_weight)
        weights = [1.0] * len(self.estimators) if self.weights is None else list(self.weights)
        if not weights or len(weights) != len(self.estimators) or not min(weights) > 0:
            raise ValueError(
                f"weights must be one number above 0 an estimator, not {self.weights} for "
                f"{len(self.estimators)}"
            )
        coef, intercept = np.zeros((len(self.classes_), X.shape[1])), np.zeros(len(self.classes_))
        for estimator, weight in zip(self.estimators, weights, strict=True):
            own_coef, own_intercept = _rows(_fitted(estimator, X, y, sample_weight))
            # What a row adds to every class tells nothing.
            own_coef = own_coef - own_coef.mean(axis=0)
            own_intercept = own_intercept - own_intercept.mean()
            spread = _spread(X @ own_coef.T + own_intercept, sample_weight)
            share = weight / sum(weights) / (spread or 1.0)
            coef += share * own_coef
            intercept += share * own_intercept
        return self._keep(coef, intercept)


class Shifted(_Composed):
    """Linear classifier whose decision values are shifted by the rarity of the classes.

    To the decision value of class k the shift ``strength * spread * -log(share_k)`` is added:
    post-hoc logit adjustment with its factor, which may be negative, found by cross-validation
    within the training rows. The spread is the standard deviation of the held-out decision values.

    Parameters
    ----------
    estimator : estimator
        A linear classifier.
    averaged : sequence of str, optional
        The aim is the mean F1 of these classes; of all where none of them is in `y`.
    parts : int, default=5
        Of the rows; each is held out once.
    stretch : int, default=20
        So many rows that follow one another stay together when they are dealt out to the parts:
        sentences of an article do follow one another.

    Attributes
    ----------
    classes_, coef_, intercept_ : ndarray
        As those of scikit-learn's linear classifiers; the shift is in the intercepts.
    strength_ : float
    shift_ : ndarray, shape (n_classes,)

    Notes
    -----
    Every strength of STRENGTHS is tried; its score is averaged with those of two neighbours on
    either side, since F1 jumps where a threshold passes a row. One number for all classes: an
    offset a class found in the same way fits the held-out rows of the rare classes themselves.
    Rows are held out within `fit`, so that whoever holds out others sees an honest score.

    References
    ----------
    Menon, Jayasumana, Rawat, Jain, Veit, Kumar (2021), Long-tail Learning via Logit Adjustment,
    section 4.1.
    """

    def __init__(
        self,
        estimator: Any,
        averaged: Sequence[str] | None = None,
        parts: int = 5,
        stretch: int = 20,
    ) -> None:
        self.estimator = estimator
        self.averaged = averaged
        self.parts = parts
        self.stretch = stretch

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the strength on held-out rows, and fit the estimator on all."""
        X, y, sample_weight = self._checked(X, y, sample_weight)
        if self.parts < 2 or self.stretch < 1:
            raise ValueError(
                "parts must be at least 2 and stretch at least 1, "
                f"not {self.parts} and {self.stretch}"
            )
        part = np.arange(len(y)) // self.stretch % self.parts
        target = np.searchsorted(self.classes_, y)
        scores = np.zeros((len(y), len(self.classes_)))
        asked = np.zeros(len(y), bool)
        for k in np.unique(part):
            held_out = part == k
            kept = ~held_out
            if len(np.unique(target[kept])) < len(self.classes_):
                continue
            weight = None if sample_weight is None else sample_weight[kept]
            coef, intercept = _rows(_fitted(self.estimator, X[kept], y[kept], weight))
            scores[held_out] = X[held_out] @ coef.T + intercept
            asked |= held_out
        coef, intercept = _rows(_fitted(self.estimator, X, y, sample_weight))
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        rarity = -np.log(np.maximum(np.bincount(target, weight) / weight.sum(), 1e-12))
        rarity -= rarity.mean()
        spread = _spread(scores[asked], weight[asked])
        aim = np.isin(self.classes_, list(self.averaged or ()))
        aim = aim if aim.any() else ~aim
        found = [
            _mean_f1(target[asked], scores[asked] + s * spread * rarity, weight[asked], aim)
            for s in STRENGTHS
        ]
        window = np.ones(5) / 5
        smooth = np.convolve(np.pad(found, 2, mode="edge"), window, mode="valid")
        # Of equal ones the weakest.
        order = np.lexsort((np.abs(STRENGTHS), -smooth.round(9)))
        self.strength_ = float(STRENGTHS[order[0]]) if asked.any() else 0.0
        self.shift_ = self.strength_ * spread * rarity
        return self._keep(coef, intercept + self.shift_)


def _mean_f1(target: Any, scores: Floats, weight: Floats, aim: npt.NDArray[np.bool_]) -> float:
    """Return the mean F1 of the classes where `aim` is true."""
    said, n = scores.argmax(axis=1), len(aim)
    hits = np.bincount(target[said == target], weight[said == target], minlength=n)
    sizes = np.bincount(target, weight, minlength=n) + np.bincount(said, weight, minlength=n)
    return float((2 * hits[aim] / np.maximum(sizes[aim], 1e-12)).mean())
