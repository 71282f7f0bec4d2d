"""A trained task in, what a person looks at to judge it out: pictures, tables, examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kaznews.data import Corpus
from kaznews.errors import KaznewsError
from kaznews.explain import Explanation, explain, heaviest, show
from kaznews.findings import label_findings
from kaznews.fit import TaskResult
from kaznews.plots import task_pictures
from kaznews.slices import slice_rows

if TYPE_CHECKING:
    import pandas as pd

CONFIDENT_ERRORS = 50
TOP = 5
HEAVIEST = 8
# Examples of the report a task: the surest right and wrong ones, and the least sure.
EXAMPLES = 4


@dataclass(frozen=True)
class Example:
    """A test sentence of the report: gold label, and why the model said what it said."""

    kind: str
    gold: str
    explanation: Explanation


@dataclass(frozen=True)
class Review:
    """Pictures (PNG by file name), tables (by file name) and examples of one task."""

    pictures: dict[str, bytes]
    tables: dict[str, pd.DataFrame]
    examples: tuple[Example, ...]


def review(result: TaskResult, corpus: Corpus) -> Review:
    """Return what a person looks at to judge a task.

    Models without linear weights over n-grams have no explanations: their tables lack the
    n-grams, and there are no examples.
    """
    rows, scored = result.rows["test"], result.scored["test"]
    texts = corpus.dataset.select(rows)["text"]
    explanations: list[Explanation] = []
    weights = None
    try:
        weights = heaviest(result.fitted.pipeline, HEAVIEST)
        explanations = explain(result.fitted.pipeline, texts, scored.predicted.tolist())
    except KaznewsError:
        pass
    sentences = _sentences(result, corpus, explanations)
    wrong = sentences[~sentences["right"]]
    tables = {
        "test_sentences.json": sentences,
        "confident_errors.json": wrong.sort_values(
            "confidence", ascending=False, kind="stable"
        ).head(CONFIDENT_ERRORS),
    }
    tables["label_audit.json"] = _label_audit(result, corpus)
    if result.slices:
        tables["slices.json"] = _frame(slice_rows(result.task, result.slices))
    return Review(
        task_pictures(result, weights, corpus.name),
        {name: table for name, table in tables.items() if len(table)},
        _examples(result, explanations),
    )


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)


def _sentences(result: TaskResult, corpus: Corpus, explanations: list[Explanation]) -> pd.DataFrame:
    """Return one row a test sentence: text, gold, prediction, confidence, top n-grams, origin."""
    scored = result.scored["test"]
    table = corpus.dataset.select(result.rows["test"])
    frame = _frame(
        {
            "text": table["text"],
            "gold": scored.true,
            "predicted": scored.predicted,
            "right": scored.hit,
            "confidence": np.round(scored.confidence, 4),
        }  # type: ignore[arg-type]
    )
    if explanations:
        frame["n_grams"] = [
            ", ".join(f"{show(term)} {weight:+.2f}" for term, weight in e.top(TOP))
            for e in explanations
        ]
    for column in ("source", "genre", "article", "id"):
        if column in table.column_names:
            frame[column] = table[column]
    return frame


def _label_audit(result: TaskResult, corpus: Corpus) -> pd.DataFrame:
    """Return training sentences whose label their own folds contradict, the likeliest first.

    The ``score`` is the out-of-fold probability of the given label.
    """
    table = corpus.dataset.select(result.rows["cv"])
    found = label_findings(
        result.task, table["id"], table["text"], result.scored["cv"].true, result.fitted
    )
    keys = ("text", "given", "suggested", "score", "id")
    return _frame([{key: finding[key] for key in keys} for finding in found])


def _examples(result: TaskResult, explanations: list[Explanation]) -> tuple[Example, ...]:
    """Choose the surest errors, the surest hits of each class in turn, and the least sure."""
    if not explanations:
        return ()
    scored = result.scored["test"]
    sure = np.argsort(-scored.confidence, kind="stable")
    first_of_class: dict[str, int] = {}
    for i in sure[scored.hit[sure]].tolist():
        first_of_class.setdefault(str(scored.true[i]), i)
    chosen = {
        "sure and right": list(first_of_class.values()),
        "sure and wrong": sure[~scored.hit[sure]][:EXAMPLES].tolist(),
        "least sure": sure[::-1][:EXAMPLES].tolist(),
    }
    return tuple(
        Example(kind, str(scored.true[i]), explanations[i])
        for kind, rows in chosen.items()
        for i in rows
    )
