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

from kaznews.data import Task
from kaznews.errors import KaznewsError

Floats = npt.NDArray[np.float64]
STANCE_CLASSES = ("favor", "against")
INTERVAL = (2.5, 97.5)


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
        et al. 2016, SemEval-2016 Task 6); ``precision_<label>``, ``recall_<label>``,
        ``f1_<label>``, 0 where nothing is predicted or true.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    true = matrix.sum(axis=-1)
    predicted = matrix.sum(axis=-2)
    f1 = _ratio(2 * hits, true + predicted)
    occurs = (true + predicted) > 0
    metrics = {
        "accuracy": _ratio(hits.sum(axis=-1), matrix.sum(axis=(-2, -1))),
        "macro_f1": _ratio((f1 * occurs).sum(axis=-1), occurs.sum(axis=-1).astype(float)),
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


def log_loss(classes: Sequence[str], true: Sequence[str], probability: Floats) -> float:
    """Return the mean negative log-probability of the true label, in nats.

    Parameters
    ----------
    classes : sequence of str
        Columns of `probability`. A true label that is none of them counts as probability 0.
    true : sequence of str, length n_sentences
    probability : ndarray, shape (n_sentences, n_classes)

    Notes
    -----
    Probabilities are clipped at the machine epsilon, as `sklearn.metrics.log_loss` does.
    """
    column = {label: i for i, label in enumerate(classes)}
    chosen = np.array(
        [row[column[t]] if t in column else 0.0 for t, row in zip(true, probability, strict=True)]
    )
    return float(-np.log(np.clip(chosen, np.finfo(np.float64).eps, 1.0)).mean())


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
        As `label_metrics`, and ``log_loss`` where probabilities were given.
    intervals : dict of str to (float, float)
        Bootstrap 95 % interval of every label metric; empty if no resample was asked for.
    """

    n: int
    labels: tuple[str, ...]
    matrix: Floats
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON data: the ``--json`` format of ``kaznews evaluate``."""
        headline = [m for m in ("accuracy", "macro_f1", "f_favor_against") if m in self.metrics]
        support = self.matrix.sum(axis=1)
        result: dict[str, Any] = {"n": self.n}
        result |= {
            name: self.metrics[name] for name in [*headline, "log_loss"] if name in self.metrics
        }
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
    groups: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Return a 95 % percentile interval of every label metric, resampling whole articles.

    Sentences of one article are not independent: the article is the unit that is drawn.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 8 and 13.
    """
    index = {label: i for i, label in enumerate(labels)}
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    size = len(labels)
    cell = [index[t] * size + index[p] for t, p in zip(true, predicted, strict=True)]
    per_group = np.zeros((len(names), size * size))
    np.add.at(per_group, (group_of.tolist(), cell), 1)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    matrices = (draws @ per_group).reshape(resamples, size, size)
    return {
        name: (float(low), float(high))
        for name, values in label_metrics(matrices, labels).items()
        for low, high in [np.percentile(values, INTERVAL)]
    }


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
    if probability is not None:
        metrics["log_loss"] = log_loss(classes, gold, probability[kept])
    intervals = {}
    if resamples:
        units = [str(i) for i in kept] if groups is None else [groups[i] for i in kept]
        intervals = bootstrap(task.labels, gold, said, units, resamples=resamples, seed=seed)
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


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned text, the first row underlined."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
