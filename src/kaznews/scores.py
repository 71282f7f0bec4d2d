"""Probabilities and true labels in, how far they can be trusted out: loss, calibration, abstention.

Every score is a function of weighted sentences, so that a bootstrap over articles is the same
arithmetic with other weights: how often each article was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
INTERVAL = (2.5, 97.5)
# Equal-width bins of the confidence, as in Guo et al. (2017).
ECE_BINS = 15
TARGET_ACCURACY = 0.95
COVERAGE = f"coverage_at_{TARGET_ACCURACY * 100:.0f}"
# Weights held at once, resamples times sentences: bounds the memory of the risk-coverage curves.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Scored:
    """What a model said about labelled sentences of one part of the data.

    Attributes
    ----------
    true : ndarray of str, shape (n_sentences,)
    probability : ndarray, shape (n_sentences, n_classes)
    classes : ndarray of str, shape (n_classes,)
        Columns of `probability`.
    groups : ndarray of object, shape (n_sentences,)
        Article of each sentence.
    """

    true: npt.NDArray[np.str_]
    probability: Floats
    classes: npt.NDArray[np.str_]
    groups: npt.NDArray[np.object_]

    @property
    def predicted(self) -> npt.NDArray[np.str_]:
        """Most likely class of each sentence."""
        return np.asarray(self.classes[self.probability.argmax(axis=1)])

    @property
    def confidence(self) -> Floats:
        """Probability of the most likely class."""
        return np.asarray(self.probability.max(axis=1))

    @property
    def hit(self) -> npt.NDArray[np.bool_]:
        """Whether the most likely class is the true one."""
        return np.asarray(self.predicted == self.true)

    def take(self, rows: npt.NDArray[np.int64]) -> Scored:
        """Return the same of some sentences."""
        return Scored(self.true[rows], self.probability[rows], self.classes, self.groups[rows])


def draw_articles(
    groups: Sequence[str] | npt.NDArray[np.object_], resamples: int, seed: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return how often each article is drawn, and which article each sentence is of.

    Sentences of one article are not independent: the article is the unit that is drawn.

    Returns
    -------
    draws : ndarray, shape (resamples, n_articles)
    article : ndarray of int, shape (n_sentences,)

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 8 and 13.
    """
    names, article = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return draws.astype(np.float64), article.astype(np.int64)


def interval_of(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap values."""
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def true_probability(classes: Sequence[str], true: Sequence[str], probability: Floats) -> Floats:
    """Return the probability given to the true label; 0 where it is none of the classes."""
    column = {label: i for i, label in enumerate(classes)}
    chosen = np.array([column.get(label, -1) for label in true], dtype=np.int64)
    known = chosen >= 0
    return np.where(known, probability[np.arange(len(chosen)), np.where(known, chosen, 0)], 0.0)


def bins_of(confidence: Floats) -> npt.NDArray[np.int64]:
    """Return the bin of each confidence: ECE_BINS of equal width, each open below."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)


def probability_metrics(
    classes: Sequence[str],
    true: Sequence[str],
    probability: Floats,
    hit: npt.NDArray[np.bool_],
    draws: Floats | None = None,
    article: npt.NDArray[np.int64] | None = None,
) -> dict[str, Floats]:
    """Return the scores of probabilities, once as they are or once a bootstrap draw.

    Parameters
    ----------
    classes : sequence of str
        Columns of `probability`. A true label that is none of them counts as probability 0.
    true : sequence of str, length n_sentences
    probability : ndarray, shape (n_sentences, n_classes)
    hit : ndarray of bool, shape (n_sentences,)
        Whether the most likely class is the true one.
    draws, article : ndarray, optional
        As `draw_articles` returns them.

    Returns
    -------
    dict of str to ndarray of shape (n_draws,)
        ``log_loss``: mean negative log-probability of the true label, in nats, clipped at the
        machine epsilon as in `sklearn.metrics.log_loss`. ``brier``: mean squared distance of the
        probabilities from the one-hot truth, 0 to 2. ``ece``: expected calibration error, the mean
        over sentences of the distance between accuracy and mean confidence in their bin (15 bins
        of equal width). ``aurc`` and ``coverage_at_95``: see `selective`.

    Notes
    -----
    The bootstrap distribution of the ECE lies somewhat above its value, because noise within bins
    only adds to a distance: read its interval as an upper one.

    References
    ----------
    Brier (1950), Verification of forecasts expressed in terms of probability. Guo, Pleiss, Sun,
    Weinberger (2017), On Calibration of Modern Neural Networks, section 2.
    """
    if draws is None or article is None:
        draws, article = np.ones((1, 1)), np.zeros(len(true), dtype=np.int64)
    of_true = true_probability(classes, true, probability)
    confidence = probability.max(axis=1)
    sums = np.zeros((draws.shape[1], 3 + ECE_BINS))
    np.add.at(sums[:, 0], article, 1.0)
    np.add.at(sums[:, 1], article, -np.log(np.clip(of_true, np.finfo(np.float64).eps, 1.0)))
    np.add.at(sums[:, 2], article, (probability**2).sum(axis=1) - 2 * of_true + 1)
    np.add.at(sums, (article, 3 + bins_of(confidence)), confidence - hit)
    totals = draws @ sums
    count = totals[:, 0]
    aurc, coverage = selective(confidence, hit, draws, article)
    return {
        "log_loss": totals[:, 1] / count,
        "brier": totals[:, 2] / count,
        "ece": np.abs(totals[:, 3:]).sum(axis=1) / count,
        "aurc": aurc,
        COVERAGE: coverage,
    }


def _by_confidence(confidence: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the order from sure to unsure, and where in it each run of equal confidence ends."""
    order = np.argsort(-confidence, kind="stable")
    return order, np.flatnonzero(np.diff(confidence[order], append=-1.0) != 0)


def selective(
    confidence: Floats,
    hit: npt.NDArray[np.bool_],
    draws: Floats,
    article: npt.NDArray[np.int64],
) -> tuple[Floats, Floats]:
    """Return what answering only when sure would give, for each draw.

    Returns
    -------
    aurc : ndarray, shape (n_draws,)
        Area under the risk-coverage curve: mean over sentences of the error rate among those at
        least as sure. Lower is better; equal confidences stand or fall together.
    coverage : ndarray, shape (n_draws,)
        Greatest share of sentences, the surest ones, that are answered 95 % right; 0 if none.

    References
    ----------
    El-Yaniv and Wiener (2010), On the Foundations of Noise-free Selective Classification;
    Geifman, Uziel, El-Yaniv (2019), Bias-Reduced Uncertainty Estimation, section 3, for the area.
    """
    order, ends = _by_confidence(confidence)
    miss = 1.0 - hit[order]
    area, coverage = np.empty(len(draws)), np.empty(len(draws))
    step = max(1, _BLOCK // len(order))
    for start in range(0, len(draws), step):
        block = slice(start, start + step)
        weight = draws[block][:, article[order]]
        answered = np.cumsum(weight, axis=1)[:, ends]
        wrong = np.cumsum(weight * miss, axis=1)[:, ends]
        risk = np.divide(wrong, answered, out=np.zeros_like(wrong), where=answered > 0)
        total = answered[:, -1]
        area[block] = (risk * np.diff(answered, axis=1, prepend=0)).sum(axis=1) / total
        # 1 - 0.95 is a little more than 0.05 in binary; 19 of 20 must count as 95 %.
        enough = wrong <= (1 - TARGET_ACCURACY) * answered + 1e-9
        coverage[block] = (answered * enough).max(axis=1) / total
    return area, coverage


def risk_coverage(scored: Scored) -> tuple[Floats, Floats]:
    """Return the points of the risk-coverage curve: shares answered, error rates among them."""
    order, ends = _by_confidence(scored.confidence)
    answered = ends + 1.0
    return answered / len(order), np.cumsum(~scored.hit[order])[ends] / answered


def reliability(scored: Scored) -> tuple[Floats, Floats, Floats]:
    """Return mean confidence, accuracy and number of sentences of every bin that is not empty."""
    bins = bins_of(scored.confidence)
    count = np.bincount(bins, minlength=ECE_BINS)
    filled = np.flatnonzero(count)
    confidence = np.bincount(bins, scored.confidence, ECE_BINS)[filled] / count[filled]
    accuracy = np.bincount(bins, scored.hit, ECE_BINS)[filled] / count[filled]
    return confidence, accuracy, count[filled].astype(np.float64)


def precision_recall(scored: Scored, label: str) -> tuple[Floats, Floats, float]:
    """Return recall, precision and average precision of one class against the rest.

    One point a distinct probability of the class, from the surest on. Average precision is the sum
    of precisions weighted by the steps of recall, without interpolation, as in
    `sklearn.metrics.average_precision_score`; 0 where the class does not occur.
    """
    column = np.flatnonzero(scored.classes == label)
    positive = scored.true == label
    if not len(column) or not positive.any():
        return np.zeros(1), np.zeros(1), 0.0
    order, ends = _by_confidence(scored.probability[:, column[0]])
    found = np.cumsum(positive[order])[ends]
    recall, precision = found / positive.sum(), found / (ends + 1.0)
    return recall, precision, float((np.diff(recall, prepend=0) * precision).sum())
