"""Scored sentences and what is known of them in, the same scores for each kind of sentence out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.data import Corpus, Task
from kaznews.evaluate import STANCE_CLASSES, Report, evaluate
from kaznews.scores import Scored, draw_articles, interval_of

# Words of a sentence; the written corpus has 13 on average.
LENGTHS = ((8, "1-8 words"), (14, "9-14 words"), (20, "15-20 words"))
LONGEST = "21 words or more"
_ORDER = {name: i for i, name in enumerate([*(name for _, name in LENGTHS), LONGEST])}
# Below this many sentences a score of a slice says nothing.
MIN_SLICE = 10
# And below this many of either stance, their F1.
MIN_STANCE = 5


@dataclass(frozen=True)
class Slice:
    """The sentences of one kind, and how a model did on them.

    Attributes
    ----------
    kind, value : str
        ``genre`` and ``agency``, for example.
    report : Report
    """

    kind: str
    value: str
    report: Report


def _length(text: str) -> str:
    words = len(text.split())
    return next((name for most, name in LENGTHS if words <= most), LONGEST)


def kinds_of(corpus: Corpus, rows: npt.NDArray[np.int64]) -> dict[str, list[str]]:
    """Return, for every way to tell sentences apart, which kind each of the rows is.

    ``source``, ``genre`` and ``script`` where the data have the column (the script is that of the
    raw sentence: models see all in Cyrillic), ``length`` in words, ``case`` (no capital letter at
    all, or some) and ``contrast`` (in a group of near copies with different labels, or alone).
    """
    table = corpus.dataset.select(rows)
    texts = table["text"]
    kinds: dict[str, list[str]] = {
        "length": [_length(text) for text in texts],
        "case": ["lower" if text == text.lower() else "cased" for text in texts],
    }
    for column in ("source", "genre", "script"):
        if column in table.column_names:
            kinds[column] = [value or "unknown" for value in table[column]]
    if "contrast" in table.column_names:
        kinds["contrast"] = ["in a group" if value else "alone" for value in table["contrast"]]
    return kinds


def score_slices(
    task: Task,
    scored: Scored,
    kinds: Mapping[str, Sequence[str]],
    *,
    resamples: int = 0,
    seed: int = 0,
) -> tuple[Slice, ...]:
    """Score each slice of at least MIN_SLICE sentences; a way that tells none apart is left out.

    Parameters
    ----------
    task : Task
    scored : Scored
    kinds : mapping of str to sequence of str, length n_sentences
        As `kinds_of` returns them.
    resamples, seed : int
        For the intervals, over the articles of the slice.
    """
    slices = []
    for kind, values in kinds.items():
        of_row = np.array(values)
        if len(names := np.unique(of_row)) < 2:
            continue
        # Lengths in their own order, everything else by name.
        for value in sorted(names, key=lambda name: (_ORDER.get(name, 0), name)):
            rows = np.flatnonzero(of_row == value)
            if len(rows) < MIN_SLICE:
                continue
            part = scored.take(rows)
            report = evaluate(
                task,
                part.true.tolist(),
                part.predicted.tolist(),
                probability=part.probability,
                classes=part.classes.tolist(),
                groups=part.groups.tolist(),
                resamples=resamples,
                seed=seed,
            )
            slices.append(Slice(kind, str(value), report))
    return tuple(slices)


def main_metric_of(task: Task, report: Report) -> str:
    """Return the metric by which a slice is compared: the task's, or accuracy.

    The mean F1 of favor and against is no measure where one of the two hardly occurs.
    """
    support = report.matrix.sum(axis=1)
    stances = [support[task.labels.index(c)] for c in STANCE_CLASSES if c in task.labels]
    return task.main_metric if all(n >= MIN_STANCE for n in stances) else "accuracy"


def contrast_consistency(
    scored: Scored, contrast: Sequence[str | None], *, resamples: int = 0, seed: int = 0
) -> tuple[float, tuple[float, float] | None, int] | None:
    """Return the share of contrast groups right in all members, its interval, their number.

    Parameters
    ----------
    contrast : sequence of str or None, length n_sentences
        Group of each sentence. Groups with one member here are left out; None if none is left.

    References
    ----------
    Gardner et al. (2020), Evaluating Models' Local Decision Boundaries via Contrast Sets, for the
    measure (contrast consistency).
    """
    members: dict[str, list[int]] = {}
    for row, name in enumerate(contrast):
        if name:
            members.setdefault(name, []).append(row)
    groups = [rows for rows in members.values() if len(rows) > 1]
    if not groups:
        return None
    right = np.array([bool(scored.hit[rows].all()) for rows in groups], dtype=np.float64)
    if not resamples:
        return float(right.mean()), None, len(groups)
    draws, article = draw_articles([scored.groups[rows[0]] for rows in groups], resamples, seed)
    of_article = np.zeros((draws.shape[1], 2))
    np.add.at(of_article, article, np.column_stack([right, np.ones_like(right)]))
    totals = draws @ of_article
    return float(right.mean()), interval_of(totals[:, 0] / totals[:, 1]), len(groups)


def slice_rows(task: Task, slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """Return one plain row a slice: its size, its headline scores, interval of the main metric."""
    rows = []
    for s in slices:
        metrics = s.report.metrics
        name = main_metric_of(task, s.report)
        low, high = s.report.intervals.get(name, (None, None))
        rows.append(
            {
                "kind": s.kind,
                "slice": s.value,
                "sentences": s.report.n,
                "metric": name,
                "value": metrics[name],
                "low": low,
                "high": high,
                **{m: metrics[m] for m in ("accuracy", "macro_f1", "mcc", "log_loss", "brier")},
                **{m: metrics[m] for m in ("ece", "aurc", "coverage_at_95")},
            }
        )
    return rows


def slice_metrics(task: Task, slices: Sequence[Slice]) -> dict[str, float]:
    """Return accuracy and main metric of every slice under ``test_by_<kind>/<slice>_<metric>``.

    MLflow makes a section of the chart page of what stands before the slash.
    """
    flat = {}
    for s in slices:
        value = "".join(c if c.isalnum() and c.isascii() else "_" for c in s.value)
        for metric in {"accuracy", main_metric_of(task, s.report)}:
            flat[f"test_by_{s.kind}/{value}_{metric}"] = s.report.metrics[metric]
    return flat
