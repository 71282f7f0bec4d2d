"""The trained tasks of a run in, one self-contained HTML page out: what to trust, and how far.

The page needs no network: styles and pictures are inside. Whatever comes from data is escaped by
the template engine.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaznews.calibrate import ABSTENTION
from kaznews.data import SPLITS, Corpus
from kaznews.evaluate import CONFIDENCE, HEADLINE, Report
from kaznews.explain import show
from kaznews.fit import TaskResult
from kaznews.plots import words_of
from kaznews.review import Example, Review
from kaznews.split import Split

TEMPLATE = "report.html.jinja"
# File names of task_pictures in the order of the page, under what stands above them.
PICTURES = {
    "confusion_test.png": "Confusion on test",
    "f1_by_class.png": "F1 by class",
    "slices.png": "By kind of sentence",
    "precision_recall.png": "Precision and recall",
    "reliability.png": "Is it as sure as it is right?",
    "risk_coverage.png": "Answering only when sure",
    "learning_curve.png": "More training sentences",
    "ngrams.png": "N-grams that weigh most",
}
# Pictures with small print: two beside each other, not three.
LARGE = ("confusion_test.png", "f1_by_class.png", "slices.png", "ngrams.png")


def render(
    title: str,
    corpus: Corpus,
    split: Split,
    results: Sequence[TaskResult],
    reviews: Sequence[Review],
    *,
    verdict: str = "",
    comparison: Sequence[Sequence[str]] = (),
) -> str:
    """Return the page.

    Parameters
    ----------
    title : str
        Name of the run.
    results, reviews : sequence
        One of each a task, in the same order.
    verdict : str
        How the run compares with the champion, in words; empty if it was not compared.
    comparison : sequence of rows
        The same as a table, its head first.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        title=title,
        corpus=corpus,
        split=split,
        tasks=[
            {"title": words_of(r.task.name), "examples": _examples(seen.examples)}
            for r, seen in zip(results, reviews, strict=True)
        ],
        headline=_headline(results),
        verdict=verdict,
        comparison=comparison,
        parts=SPLITS,
        counts=_counts(corpus, results),
        pictures=_pictures(results, reviews),
    )


def number(report: Report | None, metric: str) -> str:
    """Return a metric with its interval as text, an empty one where there is none."""
    if report is None or metric not in report.metrics:
        return ""
    text = f"{report.metrics[metric]:.3f}"
    if metric in report.intervals:
        low, high = report.intervals[metric]
        text += f" ({low:.3f}–{high:.3f})"
    return text


def _headline(results: Sequence[TaskResult]) -> list[dict[str, Any]]:
    """Return the rows of the table that sets the tasks side by side."""

    def row(name: str, cells: Sequence[str], first: bool = False, main: bool = False) -> Any:
        return {"name": name, "cells": cells, "first": first, "main": main}

    def main_of(reports: Mapping[str, Report], r: TaskResult) -> str:
        return number(reports.get("test"), r.task.main_metric)

    rows = [
        row("main metric", [words_of(r.task.main_metric) for r in results]),
        row("test", [main_of(r.reports, r) for r in results], main=True),
        row("dev", [number(r.reports["dev"], r.task.main_metric) for r in results]),
        row(
            "cross-validation, mean ± deviation",
            [
                "{:.3f} ± {:.3f}".format(*r.spread[r.task.main_metric])
                if r.task.main_metric in r.spread
                else ""
                for r in results
            ],
        ),
        row(
            "test: word TF-IDF + logistic regression", [main_of(r.words, r) for r in results], True
        ),
        row("test: always the most frequent class", [main_of(r.majority, r) for r in results]),
        row("test sentences", [str(r.reports["test"].n) for r in results], True),
    ]
    for metric in (*HEADLINE, *CONFIDENCE, *ABSTENTION):
        cells = [number(r.reports["test"], metric) for r in results]
        if any(cells):
            rows.append(row(f"test: {words_of(metric)}", cells))
    if any(r.consistency for r in results):
        cells = []
        for r in results:
            value, interval, n = r.consistency or (0.0, None, 0)
            text = f"{value:.3f}" + (" ({:.3f}–{:.3f})".format(*interval) if interval else "")
            cells.append(f"{text}, {n} groups" if n else "")
        rows.append(row("test: contrast groups with all members right", cells))
    return rows


def _counts(corpus: Corpus, results: Sequence[TaskResult]) -> list[dict[str, Any]]:
    """Return how many sentences of each part carry each label."""
    rows = []
    for r in results:
        labels = corpus.labels(r.task)
        parts = [Counter(labels[i] for i in r.rows[part].tolist()) for part in SPLITS]
        for i, label in enumerate(r.task.labels):
            counts = [part[label] for part in parts]
            rows.append(
                {
                    "task": words_of(r.task.name),
                    "label": words_of(label),
                    "counts": counts,
                    "first": i == 0,
                }
            )
    return rows


def _pictures(results: Sequence[TaskResult], reviews: Sequence[Review]) -> list[dict[str, Any]]:
    """Return the pictures in groups of one kind, tasks side by side."""
    groups = []
    for file, title in PICTURES.items():
        pictures = [
            {
                "task": words_of(r.task.name),
                "data": base64.b64encode(seen.pictures[file]).decode("ascii"),
            }
            for r, seen in zip(results, reviews, strict=True)
            if file in seen.pictures
        ]
        if pictures:
            groups.append({"title": title, "pictures": pictures, "large": file in LARGE})
    return groups


def _examples(examples: Sequence[Example]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for e in examples:
        rows.append(
            {
                "kind": e.kind,
                "first": not rows or rows[-1]["kind"] != e.kind,
                "pieces": [
                    {"text": text, "alpha": round(0.12 * abs(shade), 2), "positive": shade > 0}
                    for text, shade in e.explanation.pieces()
                ],
                "gold": words_of(e.gold),
                "label": words_of(e.explanation.label),
                "right": e.gold == e.explanation.label,
                "confidence": f"{e.explanation.confidence:.2f}",
                "top": ", ".join(f"{show(t)} {w:+.2f}" for t, w in e.explanation.top()),
            }
        )
    return rows
