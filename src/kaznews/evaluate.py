"""True and predicted labels in, a report of plain numbers out: metrics, intervals, counts.

All label metrics are functions of the confusion matrix, so that a bootstrap over articles is one
matrix product: (resample x article) times (article x confusion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.calibrate import ABSTENTION
from kaznews.data import Task
from kaznews.errors import KaznewsError
from kaznews.scores import COVERAGE, Floats, draw_articles, interval_of, probability_metrics

STANCE_CLASSES = ("favor", "against")
# What stands first in tables and reports; logged with its interval.
HEADLINE = ("accuracy", "macro_f1", "f_favor_against", "mcc")
CONFIDENCE = ("log_loss", "brier", "ece", "aurc", COVERAGE)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; 0 where the denominator is 0, as scikit-learn's ``zero_division=0``."""
    return np.divide(
        numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator != 0
    )


def confusion(labels: Sequence[str], true: Sequence[str], predicted: Sequence[str]) -> Floats:
    """Return counts, shape (n_labels, n_labels): true labels down, predicted ones across."""
    index = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)))
    np.add.at(matrix, ([index[t] for t in true], [index[p] for p in predicted]), 1)
    return matrix


def _matthews(hits: Floats, true: Floats, predicted: Floats) -> Floats:
    total = true.sum(axis=-1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return _ratio(hits * total - (true * predicted).sum(axis=-1), np.sqrt(spread))


def label_metrics(matrix: Floats, labels: Sequence[str]) -> dict[str, Floats]:
    """Return the metrics of one or many confusion matrices.

    Parameters
    ----------
    matrix : ndarray, shape (..., n_labels, n_labels)
        True labels down, predicted ones across.
    labels : sequence of str

    Returns
    -------
    dict of str to ndarray of shape (...)
        ``accuracy``; ``macro_f1``: unweighted mean over the labels that occur, true or predicted;
        ``f_favor_against`` for stances: mean F1 of favor and against, ``none`` left out (Mohammad
        et al. 2016, SemEval-2016 Task 6); ``mcc``: Matthews correlation of several classes
        (Gorodkin 2004, R_K), 0 where all is true or said of one class; ``precision_<label>``,
        ``recall_<label>``, ``f1_<label>``, 0 where nothing is predicted or true.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    true = matrix.sum(axis=-1)
    predicted = matrix.sum(axis=-2)
    f1 = _ratio(2 * hits, true + predicted)
    occurs = (true + predicted) > 0
    metrics = {
        "accuracy": _ratio(hits.sum(axis=-1), matrix.sum(axis=(-2, -1))),
        "macro_f1": _ratio((f1 * occurs).sum(axis=-1), occurs.sum(axis=-1).astype(float)),
        "mcc": _matthews(hits.sum(axis=-1), true, predicted),
    }
    if set(STANCE_CLASSES) <= set(labels):
        metrics["f_favor_against"] = f1[
            ..., [labels.index(label) for label in STANCE_CLASSES]
        ].mean(axis=-1)
    precision, recall = _ratio(hits, predicted), _ratio(hits, true)
    for i, label in enumerate(labels):
        metrics[f"precision_{label}"] = precision[..., i]
        metrics[f"recall_{label}"] = recall[..., i]
        metrics[f"f1_{label}"] = f1[..., i]
    return metrics


@dataclass(frozen=True)
class Report:
    """How one task's predictions on one set of sentences compare with the truth.

    Attributes
    ----------
    n : int
        Scored sentences.
    labels : tuple of str
    matrix : ndarray, shape (n_labels, n_labels)
        True labels down, predicted ones across.
    metrics : dict of str to float
        As `label_metrics`, and as `scores.probability_metrics` where probabilities were given; as
        `calibrate.abstention` where a threshold is known.
    intervals : dict of str to (float, float)
        Bootstrap 95 % interval of every metric; empty if no resample was asked for.
    """

    n: int
    labels: tuple[str, ...]
    matrix: Floats
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON data: the ``--json`` format of ``kaznews evaluate``."""
        support = self.matrix.sum(axis=1)
        result: dict[str, Any] = {"n": self.n}
        single = (*HEADLINE, *CONFIDENCE, *ABSTENTION)
        result |= {m: self.metrics[m] for m in single if m in self.metrics}
        result["per_class"] = {
            label: {
                **{m: self.metrics[f"{m}_{label}"] for m in ("precision", "recall", "f1")},
                "support": int(support[i]),
            }
            for i, label in enumerate(self.labels)
        }
        result["ci95"] = {name: list(interval) for name, interval in self.intervals.items()}
        return result


def bootstrap(
    labels: Sequence[str],
    true: Sequence[str],
    predicted: Sequence[str],
    draws: Floats,
    article: npt.NDArray[np.int64],
) -> dict[str, tuple[float, float]]:
    """Return a 95 % percentile interval of every label metric, resampling whole articles.

    Parameters
    ----------
    draws, article : ndarray
        As `scores.draw_articles` returns them.
    """
    index = {label: i for i, label in enumerate(labels)}
    size = len(labels)
    cell = [index[t] * size + index[p] for t, p in zip(true, predicted, strict=True)]
    per_article = np.zeros((draws.shape[1], size * size))
    np.add.at(per_article, (article.tolist(), cell), 1)
    matrices = (draws @ per_article).reshape(len(draws), size, size)
    values = label_metrics(matrices, labels)
    return {name: interval_of(drawn) for name, drawn in values.items()}


def evaluate(
    task: Task,
    true: Sequence[str | None],
    predicted: Sequence[str],
    *,
    probability: Floats | None = None,
    classes: Sequence[str] = (),
    groups: Sequence[str] | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> Report:
    """Score predictions; sentences without a label or with an excluded one are left out.

    Parameters
    ----------
    task : Task
    true : sequence of str or None, length n_sentences
    predicted : sequence of str, length n_sentences
    probability : ndarray, shape (n_sentences, n_classes), optional
        With `classes` naming its columns.
    groups : sequence of str, length n_sentences, optional
        Article of each sentence; without it every sentence stands alone.
    resamples : int
        Bootstrap resamples; 0 for none.
    seed : int

    Raises
    ------
    KaznewsError
        No sentence is left to score, or a label is none of the task's.
    """
    kept = [i for i, label in enumerate(true) if label is not None and label not in task.excluded]
    if not kept:
        raise KaznewsError(f"no sentence with a label of {task.name} to score")
    gold = [str(true[i]) for i in kept]
    said = [str(predicted[i]) for i in kept]
    unknown = sorted({*gold, *said} - set(task.labels))
    if unknown:
        raise KaznewsError(f"labels that {task.name} does not have: {', '.join(unknown)}")
    matrix = confusion(task.labels, gold, said)
    metrics = {name: float(value) for name, value in label_metrics(matrix, task.labels).items()}
    hit = np.array(gold) == np.array(said)
    kept_probability = None if probability is None else probability[kept]
    if kept_probability is not None:
        confidence = probability_metrics(classes, gold, kept_probability, hit)
        metrics |= {name: float(value[0]) for name, value in confidence.items()}
    intervals = {}
    if resamples:
        units = [str(i) for i in kept] if groups is None else [groups[i] for i in kept]
        drawn = draw_articles(units, resamples, seed)
        intervals = bootstrap(task.labels, gold, said, *drawn)
        if kept_probability is not None:
            values = probability_metrics(classes, gold, kept_probability, hit, *drawn)
            intervals |= {name: interval_of(value) for name, value in values.items()}
    return Report(len(kept), task.labels, matrix, metrics, intervals)


def fold_spread(
    task: Task, true: Sequence[str], predicted: Sequence[str], fold: npt.NDArray[np.int64]
) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation over folds of every label metric.

    Standard deviation with one degree of freedom less than folds (``ddof=1``).
    """
    per_fold = [
        evaluate(task, [true[i] for i in rows], [predicted[i] for i in rows]).metrics
        for rows in (np.flatnonzero(fold == k).tolist() for k in np.unique(fold))
    ]
    return {
        name: (
            float(np.mean([m[name] for m in per_fold])),
            float(np.std([m[name] for m in per_fold], ddof=1)),
        )
        for name in per_fold[0]
    }


def flat_metrics(prefix: str, report: Report) -> dict[str, float]:
    """Return a report's metrics under ``<prefix>_<metric>``, with the intervals beside.

    Intervals are those of the headline, of what probabilities are worth, and of each class's F1.
    """
    flat = {f"{prefix}_{name}": value for name, value in report.metrics.items()}
    for name, (low, high) in report.intervals.items():
        if name in (*HEADLINE, *CONFIDENCE) or name.startswith("f1_"):
            flat |= {f"{prefix}_{name}_ci_low": low, f"{prefix}_{name}_ci_high": high}
    return flat


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned text, the first row underlined."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
