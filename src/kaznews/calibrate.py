"""Scores and true classes in, probabilities and the confidence to abstain below out.

Which calibration is used, and from which confidence on a task answers, is decided on out-of-fold
scores: by rows that neither the model nor the calibration they are judged by has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.errors import KaznewsError

# What `abstention` returns, in the order of tables.
ABSTENTION = (
    "abstain_coverage",
    "abstain_accuracy",
    "abstain_rate_unclear",
    "abstain_rate_clear",
    "abstain_auroc",
)
# From the simplest to the one with most freedom.
METHODS = ("none", "temperature", "isotonic")
AUTO = "auto"
# Above every confidence: where no threshold reaches the target, a task always abstains.
UNREACHABLE = 2.0
# An accuracy of fewer kept sentences is an accident.
MIN_KEPT = 20
# exp(-4) to exp(6): beyond, probabilities are uniform or one-hot to machine precision.
_LOG_BETA_BOUNDS = (-4.0, 6.0)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass
class Abstain:
    """The group ``abstain`` of the configuration.

    Attributes
    ----------
    target_accuracy : float
        What a task's answers shall reach out of fold; it abstains where it is not sure enough.
    per_task : dict of str to float
        The same for single tasks.
    """

    target_accuracy: float
    per_task: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        targets = {f"per_task.{task}": target for task, target in self.per_task.items()}
        targets["target_accuracy"] = self.target_accuracy
        for name, value in targets.items():
            if not 0 <= value <= 1:
                raise KaznewsError(f"abstain.{name} must be between 0 and 1, not {value}")

    def target_of(self, task: str) -> float:
        """Return the accuracy that a task's answers shall reach."""
        return self.per_task.get(task, self.target_accuracy)


def check_method(name: str) -> None:
    """Refuse a calibration that is not known.

    Raises
    ------
    KaznewsError
    """
    if name not in (AUTO, *METHODS):
        raise KaznewsError(f"calibration must be {AUTO}, {', '.join(METHODS)}, not {name!r}")


def softmax(scores: Floats, beta: float = 1.0) -> Floats:
    """Return the softmax of ``beta * scores`` along the last axis."""
    scaled = beta * scores
    exponential = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=-1, keepdims=True))


def fit_beta(scores: Floats, target: Ints) -> float:
    """Return the inverse temperature that minimises the log-loss of the scores.

    Parameters
    ----------
    scores : ndarray, shape (n_samples, n_classes)
    target : ndarray of int, shape (n_samples,)
        Column of the true class.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017), On Calibration of Modern Neural Networks, section 4.2.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(target))

    def loss(log_beta: float) -> float:
        return -float(log_softmax(np.exp(log_beta) * scores, axis=1)[rows, target].mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_BETA_BOUNDS, method="bounded").x))


def fit_curves(response: Floats, target: Ints) -> tuple[Any, ...]:
    """Return one isotonic regression a class, of the class against the rest.

    With two classes there is one, of the second. Probabilities stay between 1/(n+2) and
    (n+1)/(n+2), the rule of succession: 0 would be a certainty that no count of rows can give.

    Parameters
    ----------
    response : ndarray, shape (n_samples, n_classes)
        What the curves are asked about.
    target : ndarray of int, shape (n_samples,)

    References
    ----------
    Zadrozny and Elkan (2002), Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates. The bounds are Platt's (1999), Probabilistic Outputs for Support Vector Machines,
    for a side without any row.
    """
    from sklearn.isotonic import IsotonicRegression

    low = 1 / (len(target) + 2)
    n_classes = response.shape[1]
    return tuple(
        IsotonicRegression(y_min=low, y_max=1 - low, out_of_bounds="clip").fit(
            response[:, k], target == k
        )
        for k in ([1] if n_classes == 2 else range(n_classes))
    )


@dataclass(frozen=True)
class Calibration:
    """How scores become probabilities.

    Attributes
    ----------
    method : str
        One of METHODS.
    beta : float
        Inverse temperature; 1 without one.
    curves : tuple of IsotonicRegression
        As `fit_curves` returns them, for ``isotonic`` alone.
    """

    method: str
    beta: float = 1.0
    curves: tuple[Any, ...] = ()

    def probabilities(self, scores: Floats, response: Floats) -> Floats:
        """Return probabilities, shape (n_samples, n_classes).

        As `sklearn.calibration.CalibratedClassifierCV` has them: isotonic ones of more than two
        classes are divided by their sum.
        """
        if not self.curves:
            return softmax(scores, self.beta)
        if response.shape[1] == 2:
            second = self.curves[0].predict(response[:, 1])
            return np.column_stack([1 - second, second])
        found = np.column_stack(
            [curve.predict(column) for curve, column in zip(self.curves, response.T, strict=True)]
        )
        return np.asarray(found / found.sum(axis=1, keepdims=True))


def fit_calibration(method: str, scores: Floats, response: Floats, target: Ints) -> Calibration:
    """Fit one of METHODS; parameters as in `calibrate`."""
    if method == "temperature":
        return Calibration(method, beta=fit_beta(scores, target))
    if method == "isotonic":
        return Calibration(method, curves=fit_curves(response, target))
    return Calibration(method)


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate` yields.

    Attributes
    ----------
    calibration : Calibration
        Fitted on all rows.
    probability : ndarray, shape (n_samples, n_classes)
        Each row by a calibration that was fitted without its fold.
    losses : mapping of str to float
        Mean log-loss of each candidate, so cross-fitted, in nats.
    """

    calibration: Calibration
    probability: Floats
    losses: Mapping[str, float]


def calibrate(
    scores: Floats,
    target: Ints,
    fold: Ints,
    *,
    method: str = AUTO,
    response: Floats | None = None,
) -> Calibrated:
    """Choose and fit a calibration on out-of-fold scores.

    Parameters
    ----------
    scores : ndarray, shape (n_samples, n_classes)
        Out of fold, on the scale of log-odds.
    target : ndarray of int, shape (n_samples,)
        Column of the true class.
    fold : ndarray of int, shape (n_samples,)
    method : str
        One of METHODS, or AUTO: the best by log-loss (see `choose`) of those whose labels have no
        lower macro-F1 than the uncalibrated ones, out of fold.
    response : ndarray, shape (n_samples, n_classes), optional
        What isotonic curves are asked about, where it is not `scores`.
    """
    from sklearn.metrics import f1_score

    check_method(method)
    response = scores if response is None else response
    rows = np.arange(len(target))
    probabilities, losses, macro_f1 = {}, {}, {}
    for name in METHODS if method == AUTO else (method,):
        found = np.empty_like(scores)
        for k in np.unique(fold):
            out = fold == k
            fitted = fit_calibration(name, scores[~out], response[~out], target[~out])
            found[out] = fitted.probabilities(scores[out], response[out])
        probabilities[name] = found
        losses[name] = -np.log(np.clip(found[rows, target], np.finfo(np.float64).eps, 1.0))
        macro_f1[name] = f1_score(target, found.argmax(axis=1), average="macro", zero_division=0)
    # Isotonic curves put the shares of classes back in that `class_weight` has taken out: a better
    # log-loss, bought with the labels of rare classes, is no better calibration.
    first = next(iter(macro_f1.values()))
    chosen = choose({name: loss for name, loss in losses.items() if macro_f1[name] >= first})
    return Calibrated(
        fit_calibration(chosen, scores, response, target),
        probabilities[chosen],
        {name: float(loss.mean()) for name, loss in losses.items()},
    )


def choose(losses: Mapping[str, Floats]) -> str:
    """Return the name with the lowest mean loss; a later one must be better by more than chance.

    Parameters
    ----------
    losses : mapping of str to ndarray of shape (n_samples,)
        From the simplest to the freest. A later one replaces the one before if the mean of the
        paired differences is above its standard error.
    """
    best, *others = losses
    for name in others:
        gain = losses[best] - losses[name]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best = name
    return best


def fit_threshold(confidence: Floats, hit: npt.NDArray[np.bool_], target: float) -> float:
    """Return the lowest confidence from which on answers reach an accuracy.

    Parameters
    ----------
    confidence : ndarray, shape (n_sentences,)
        Of the most likely class, out of fold.
    hit : ndarray of bool, shape (n_sentences,)
        Whether it is the true one.
    target : float
        Accuracy of the answers that are kept, 0 to 1.

    Returns
    -------
    float
        Confidences below it abstain. 0 where all answers together are right often enough;
        otherwise half-way between the last confidence that is kept and the next one. UNREACHABLE
        where no MIN_KEPT sentences reach the target: then the task always abstains. Sentences of
        equal confidence stand or fall together.

    References
    ----------
    El-Yaniv and Wiener (2010), On the Foundations of Noise-free Selective Classification.
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    ends = np.flatnonzero(np.diff(sure, append=-1.0) != 0)
    kept = ends + 1
    # 0.9 * 10 is a little more than 9 in binary; 9 of 10 must count as 90 %.
    enough = np.cumsum(hit[order])[ends] >= target * kept - 1e-9
    reached = ends[enough & (kept >= min(MIN_KEPT, len(sure)))]
    if not len(reached):
        return UNREACHABLE
    last = int(reached[-1])
    if last == len(sure) - 1:
        return 0.0
    middle = (sure[last] + sure[last + 1]) / 2
    return float(middle if middle > sure[last + 1] else sure[last])


def abstention(
    confidence: Floats,
    hit: npt.NDArray[np.bool_],
    threshold: float,
    unclear: Floats | None = None,
) -> dict[str, float]:
    """Return what abstaining below a threshold comes to.

    Parameters
    ----------
    confidence, hit : ndarray, shape (n_sentences,)
        Of sentences with a label of the task.
    threshold : float
    unclear : ndarray, shape (n_unclear,), optional
        Confidence in sentences whose label is excluded from the task: nobody can say what is right.

    Returns
    -------
    dict of str to float
        ``abstain_coverage``: share that is answered; ``abstain_accuracy``: of the answers, absent
        where there is none. With unclear sentences ``abstain_rate_unclear`` and
        ``abstain_rate_clear``: shares without an answer; ``abstain_auroc``: probability that an
        unclear sentence gets less confidence than a clear one, ties counted half (0.5 is chance).
    """
    kept = confidence >= threshold
    figures = {"abstain_coverage": float(kept.mean())}
    if kept.any():
        figures["abstain_accuracy"] = float(hit[kept].mean())
    if unclear is not None and len(unclear):
        from sklearn.metrics import roc_auc_score

        is_unclear = np.repeat([True, False], [len(unclear), len(confidence)])
        figures["abstain_rate_unclear"] = float((unclear < threshold).mean())
        figures["abstain_rate_clear"] = float((~kept).mean())
        figures["abstain_auroc"] = float(
            roc_auc_score(is_unclear, -np.concatenate([unclear, confidence]))
        )
    return figures
