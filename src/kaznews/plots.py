"""Reports, scored sentences and coefficients in, matplotlib figures out.

Figures are made without pyplot: no global state, safe in any thread and without a display. The
font that matplotlib brings, DejaVu Sans, has all Kazakh letters.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kaznews.data import Task
from kaznews.evaluate import Report
from kaznews.explain import show
from kaznews.scores import (
    COVERAGE,
    TARGET_ACCURACY,
    Scored,
    precision_recall,
    reliability,
    risk_coverage,
)
from kaznews.slices import Slice, main_metric_of
from kaznews.yardsticks import CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
BLUE, RED, GREY = "#2563eb", "#dc2626", "#9ca3af"


def png(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


METRIC_NAMES = {
    "macro_f1": "macro-F1",
    "f_favor_against": "mean F1 of favor and against",
    "mcc": "Matthews correlation",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "ece": "expected calibration error",
    "aurc": "area under risk-coverage curve",
    COVERAGE: f"coverage at {TARGET_ACCURACY:.0%} accuracy",
}


def words_of(name: str) -> str:
    """Return an identifier as people write it: ``trade_balance`` as trade balance."""
    return METRIC_NAMES.get(name, name.replace("_", " "))


def _figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def confusion_figure(report: Report, title: str) -> Figure:
    """Draw the confusion matrix: colour by share of the true label, share and count written in.

    Parameters
    ----------
    report : Report
    title : str
        What was tested on what.
    """
    counts = report.matrix
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    size = 2.6 + 0.62 * len(report.labels)
    figure, axes = _figure(size + 1.2, size, f"{title}\n{report.n} sentences")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(report.labels))
    names = [words_of(label) for label in report.labels]
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for i in ticks:
        for j in ticks:
            if counts[i, j]:
                axes.text(
                    j,
                    i,
                    f"{counts[i, j]:.0f}\n{shares[i, j]:.0%}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    linespacing=1.1,
                    color="white" if shares[i, j] > 0.5 else "black",
                )
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true label")
    return figure


def _whiskers(axes: Axes, y: float, interval: tuple[float, float] | None, colour: str) -> None:
    if interval is not None:
        axes.plot(interval, (y, y), color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(interval, (y, y), "|", color=colour, markersize=7)


def f1_figure(report: Report, words: Report | None, title: str) -> Figure:
    """Draw the F1 of every class with its interval, the word baseline's beside it."""
    labels = report.labels
    figure, axes = _figure(7.5, 1.6 + 0.42 * len(labels), title)
    support = report.matrix.sum(axis=1)
    for i, label in enumerate(labels):
        value = report.metrics[f"f1_{label}"]
        _whiskers(axes, i, report.intervals.get(f"f1_{label}"), BLUE)
        axes.plot(value, i, "o", color=BLUE, markersize=6, label="model" if i == 0 else None)
        if words is not None:
            below = words.metrics[f"f1_{label}"]
            name = "word TF-IDF + logistic regression" if i == 0 else None
            axes.plot(below, i + 0.24, "D", color=GREY, markersize=4, label=name)
        axes.text(1.02, i, f"{value:.2f}", va="center", fontsize=9)
    ticks = [f"{words_of(c)} ({n:.0f})" for c, n in zip(labels, support, strict=True)]
    axes.set_yticks(range(len(labels)), ticks)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, 1.0)
    axes.set_xlabel("F1, 95 % interval over articles; in brackets how many sentences are of it")
    axes.grid(axis="x", color="#e5e7eb")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def precision_recall_figure(scored: Scored, labels: Sequence[str], title: str) -> Figure:
    """Draw precision against recall of every class against the rest."""
    from matplotlib import colormaps

    figure, axes = _figure(7.5, 4.6, title)
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for i, label in enumerate(labels):
        recall, precision, average = precision_recall(scored, label)
        if average == 0:
            continue
        style = "-" if i < len(colours) else "--"
        colour = colours[i % len(colours)]
        name = f"{words_of(label)}, AP {average:.2f}"
        # A precision holds from the recall before it up to its own, as average precision counts it.
        steps = np.concatenate([[0], recall]), np.concatenate([precision[:1], precision])
        axes.step(*steps, where="pre", color=colour, ls=style, lw=1.5, label=name)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.grid(color="#e5e7eb")
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    return figure


def reliability_figure(scored: Scored, report: Report, title: str) -> Figure:
    """Draw accuracy against confidence in bins, and how many sentences each bin holds."""
    from matplotlib.figure import Figure

    confidence, accuracy, count = reliability(scored)
    figure = Figure(figsize=(6, 5.2), layout="constrained", dpi=DPI)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    upper.set_title(f"{title}\nexpected calibration error {_with_interval(report, 'ece')}", size=10)
    upper.plot((0, 1), (0, 1), "--", color=GREY, linewidth=1)
    upper.vlines(confidence, confidence, accuracy, color=RED, linewidth=2, alpha=0.6)
    upper.plot(confidence, accuracy, "o-", color=BLUE, markersize=5)
    upper.set_ylabel("share that is right")
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1.03)
    lower.bar(confidence, count, width=0.03, color=GREY)
    lower.set_ylabel("sentences")
    lower.set_xlabel("confidence of the predicted label (above the dashed line: too modest)")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e5e7eb")
        axes.set_axisbelow(True)
    return figure


def _with_interval(report: Report, name: str) -> str:
    text = f"{report.metrics[name]:.3f}"
    if name in report.intervals:
        low, high = report.intervals[name]
        text += f" ({low:.3f}–{high:.3f})"
    return text


def risk_coverage_figure(scored: Scored, report: Report, title: str) -> Figure:
    """Draw the error rate among the surest sentences against their share."""
    coverage, risk = risk_coverage(scored)
    figure, axes = _figure(
        6, 4.2, f"{title}\narea under the curve {_with_interval(report, 'aurc')}"
    )
    error = 1 - report.metrics["accuracy"]
    axes.plot(coverage, risk, color=BLUE, linewidth=1.8)
    axes.axhline(error, color=GREY, linestyle="--", linewidth=1)
    axes.axhline(1 - TARGET_ACCURACY, color=RED, linestyle=":", linewidth=1.2)
    axes.axvline(report.metrics[COVERAGE], color=RED, linestyle=":", linewidth=1.2)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(1.25 * risk.max(), 0.08))
    axes.set_xlabel(
        f"share of sentences answered, surest first\n"
        f"dotted: {TARGET_ACCURACY:.0%} right up to {_with_interval(report, COVERAGE)}; "
        f"dashed: all answered, {error:.1%} wrong",
        fontsize=9,
    )
    axes.set_ylabel("share of them that is wrong")
    axes.grid(color="#e5e7eb")
    return figure


def learning_curve_figure(curve: Sequence[CurvePoint], metric: str, title: str) -> Figure:
    """Draw the main metric on dev against the number of training sentences."""
    figure, axes = _figure(6, 4, title)
    sizes = [point.sentences for point in curve]
    values = [point.report.metrics[metric] for point in curve]
    bands = [point.report.intervals.get(metric) for point in curve]
    if all(bands):
        low, high = zip(*[band for band in bands if band], strict=True)
        axes.fill_between(sizes, low, high, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(sizes, values, "o-", color=BLUE)
    for size, value in zip(sizes, values, strict=True):
        axes.annotate(
            f"{value:.3f}", (size, value), (0, 7), textcoords="offset points", ha="center", size=9
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.margins(x=0.1, y=0.2)
    axes.set_xlabel("training sentences, whole articles")
    axes.set_ylabel(f"{words_of(metric)} on dev")
    axes.grid(color="#e5e7eb")
    return figure


def ngrams_figure(
    heaviest: Mapping[str, tuple[list[tuple[str, float]], ...]],
    labels: Sequence[str],
    title: str,
) -> Figure:
    """Draw the n-grams that weigh most for and against every class, their spaces visible."""
    from matplotlib.figure import Figure

    shown = [label for label in labels if label in heaviest]
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    n = max(len(part) for both in heaviest.values() for part in both)
    figure = Figure(figsize=(9.6, lines * (0.5 + 0.34 * n) + 0.6), layout="constrained", dpi=DPI)
    figure.suptitle(f"{title}: n-grams that weigh most for (blue) and against (red)", fontsize=11)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes, label in zip(grid, shown, strict=False):
        best, worst = heaviest[label]
        bars = [*best, *reversed(worst)]
        weights = [weight for _, weight in bars]
        axes.barh(range(len(bars)), weights, color=[BLUE if w > 0 else RED for w in weights])
        axes.set_yticks(range(len(bars)), [show(term) for term, _ in bars], fontsize=8)
        axes.invert_yaxis()
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(words_of(label), fontsize=9.5)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def slices_figure(slices: Sequence[Slice], task: Task, whole: Report, title: str) -> Figure:
    """Draw the main metric of every slice with its interval, beside that of all sentences."""
    figure, axes = _figure(7.8, 1.5 + 0.33 * len(slices), title)
    value = whole.metrics[task.main_metric]
    axes.axvline(value, color=GREY, linestyle="--", linewidth=1)
    names = []
    for i, s in enumerate(slices):
        metric = main_metric_of(task, s.report)
        # With too few stances in a slice there is only its accuracy to show.
        colour = BLUE if metric == task.main_metric else GREY
        _whiskers(axes, i, s.report.intervals.get(metric), colour)
        axes.plot(s.report.metrics["accuracy"], i, "D", color=GREY, mfc="white", markersize=5)
        if metric == task.main_metric:
            axes.plot(s.report.metrics[metric], i, "o", color=BLUE, markersize=6)
        axes.text(1.02, i, f"{s.report.metrics[metric]:.2f}", va="center", fontsize=8.5)
        names.append(f"{s.kind}: {s.value} ({s.report.n})")
        if i and slices[i - 1].kind != s.kind:
            axes.axhline(i - 0.5, color="#d1d5db", linewidth=0.8)
    axes.set_yticks(range(len(slices)), names, fontsize=8.5)
    axes.set_ylim(len(slices) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel(
        f"{words_of(task.main_metric)}, 95 % interval over articles; dashed: all, {value:.2f}\n"
        "hollow: accuracy (grey: too few of a stance for its F1)",
        fontsize=9,
    )
    axes.grid(axis="x", color="#e5e7eb")
    axes.set_axisbelow(True)
    return figure


def task_pictures(result: Any, heaviest: Any, name: str) -> dict[str, bytes]:
    """Return all pictures of a `fit.TaskResult` as PNG under their file names.

    Parameters
    ----------
    result : fit.TaskResult
    heaviest : mapping or None
        As `explain.heaviest` returns it; None where the model has no n-grams.
    name : str
        Of the data, for the titles.
    """
    task, test, scored = result.task, result.reports["test"], result.scored["test"]
    title = f"{words_of(task.name)}, {name}"
    on_test = f"{title} test"
    figures = {
        f"confusion_{part}.png": confusion_figure(report, f"{title} {part}")
        for part, report in result.reports.items()
    }
    figures |= {
        "f1_by_class.png": f1_figure(test, result.words.get("test"), on_test),
        "precision_recall.png": precision_recall_figure(scored, task.labels, on_test),
        "reliability.png": reliability_figure(scored, test, on_test),
        "risk_coverage.png": risk_coverage_figure(scored, test, on_test),
    }
    if result.slices:
        figures["slices.png"] = slices_figure(result.slices, task, test, on_test)
    if result.curve:
        figures["learning_curve.png"] = learning_curve_figure(
            result.curve, task.main_metric, f"{title} dev"
        )
    if heaviest:
        figures["ngrams.png"] = ngrams_figure(heaviest, task.labels, title)
    return {file: png(figure) for file, figure in figures.items()}
