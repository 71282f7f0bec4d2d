"""A report in, matplotlib figures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaznews.evaluate import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_figure(report: Report, title: str) -> Figure:
    """Draw the confusion matrix: colour by share of the true label, counts written in.

    Parameters
    ----------
    report : Report
    title : str
        What was tested on what.
    """
    # Figure without pyplot: no global state, safe in any thread and without a display.
    from matplotlib.figure import Figure

    counts = report.matrix
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    size = 2.6 + 0.62 * len(report.labels)
    figure = Figure(figsize=(size + 1.2, size), layout="constrained", dpi=130)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(report.labels))
    axes.set_xticks(ticks, report.labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, report.labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{title}\n{report.n} sentences", fontsize=10)
    for i in ticks:
        for j in ticks:
            if counts[i, j]:
                axes.text(
                    j,
                    i,
                    f"{counts[i, j]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if shares[i, j] > 0.5 else "black",
                )
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true label")
    return figure
