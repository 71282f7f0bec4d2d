"""A labelled corpus in, a table of what is probably wrong with it out.

Three kinds of findings: labels that out-of-fold predictions contradict, sentences that are nearly
the same, and among these the ones that stand on both sides of a split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaznews import tracking
from kaznews.data import Corpus, Task, load
from kaznews.evaluate import text_table
from kaznews.fit import progress_bar
from kaznews.folds import tokenize
from kaznews.model import FittedTask, train_task
from kaznews.settings import Settings
from kaznews.similar import near_pairs
from kaznews.split import draw_folds, split_corpus

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("finding", "task", "id", "given", "suggested", "score", "text", "other_id", "other_text")


def label_findings(
    task: Task,
    ids: Sequence[str],
    texts: Sequence[str],
    y: npt.NDArray[np.str_],
    fitted: FittedTask,
) -> Iterator[dict[str, Any]]:
    """Yield sentences whose label is probably wrong, the likeliest first.

    Parameters
    ----------
    y : ndarray of str, shape (n_sentences,)
        Given labels, in the order of ``fitted.oof_probability``.

    Notes
    -----
    Confident learning (Northcutt, Jiang, Chuang 2021) by cleanlab, ranked by the out-of-fold
    probability of the given label, which is the ``score``.
    """
    from cleanlab.filter import find_label_issues

    target = np.searchsorted(fitted.classes, y)
    found = find_label_issues(
        target, fitted.oof_probability, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    for i in found:
        probability = fitted.oof_probability[i]
        yield {
            "finding": "label",
            "task": task.name,
            "id": ids[i],
            "given": str(y[i]),
            "suggested": str(fitted.classes[probability.argmax()]),
            "score": float(probability[target[i]]),
            "text": texts[i],
        }


def duplicate_findings(
    ids: Sequence[str],
    texts: Sequence[str],
    parts: Sequence[str],
    contrasts: Sequence[str | None],
) -> Iterator[dict[str, Any]]:
    """Yield pairs of sentences that are nearly the same, ``leak`` where their parts differ.

    Pairs of one contrast group are near copies by design and left out. The ``score`` is the cosine
    of their character 4-gram counts (`similar.near_pairs`).
    """
    for i, j, score in near_pairs(texts):
        if contrasts[i] is not None and contrasts[i] == contrasts[j]:
            continue
        yield {
            "finding": "near-duplicate" if parts[i] == parts[j] else "leak",
            "id": ids[i],
            "score": score,
            "text": texts[i],
            "other_id": ids[j],
            "other_text": texts[j],
        }


def audit_table(findings: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return findings as a table with the columns COLUMNS; empty cells where they do not apply."""
    import pandas as pd

    return pd.DataFrame(findings, columns=list(COLUMNS)).fillna("")


def _column(corpus: Corpus, name: str) -> list[Any]:
    """Return a column of the corpus, or nulls where it has none."""
    present = name in corpus.dataset.column_names
    return list(corpus.dataset[name]) if present else [None] * len(corpus.dataset)


def audit(
    settings: Settings, vectorizer: Any, classifier: Any, *, flat: Mapping[str, Any], text: str
) -> str:
    """Look for wrong labels, near-duplicates and leaks; return the counts as text.

    All rows are audited, except those of a dev or test part that the data itself has fixed: these
    must not be looked at. The table goes into a run of its own and into ``experiments/audit-…csv``.
    """
    experiment = tracking.open_experiment(settings.experiment_name)
    corpus = load(settings.source(), settings.task_list())
    given = np.array([part or "train" for part in _column(corpus, "split")])
    rows = np.flatnonzero(given == "train")
    groups = list(corpus.dataset["group"])
    fold = draw_folds(corpus, rows, groups, settings.split.n_folds, settings.seed)
    split = split_corpus(corpus, **vars(settings.split), seed=settings.seed)
    ids = np.array(corpus.dataset["id"], dtype=object)
    texts = np.array(corpus.dataset["text"], dtype=object)
    tokenized = tokenize(texts.tolist(), vectorizer)
    contrasts = np.array(_column(corpus, "contrast"), dtype=object)
    findings: list[dict[str, Any]] = []
    with tracking.run(experiment, f"audit: {corpus.name}", {"kind": "audit"}):
        tracking.log_config(flat, text)
        for task in corpus.tasks:
            y = np.array([label or "" for label in corpus.labels(task)])[rows]
            usable = (y != "") & ~np.isin(y, task.excluded)
            chosen = rows[usable]
            fitted = train_task(
                vectorizer,
                classifier,
                tokenized[chosen],
                y[usable],
                fold[usable],
                n_jobs=settings.n_jobs,
                progress=progress_bar(task.name),
            )
            findings += label_findings(
                task, ids[chosen].tolist(), texts[chosen].tolist(), y[usable], fitted
            )
        findings += duplicate_findings(
            ids[rows].tolist(),
            texts[rows].tolist(),
            split.part[rows].tolist(),
            contrasts[rows].tolist(),
        )
        table = audit_table(findings)
        tracking.log_findings(table, f"audit-{corpus.name}")
    target = tracking.EXPERIMENTS / f"audit-{corpus.name}.csv"
    target.parent.mkdir(exist_ok=True)
    table.to_csv(target, index=False)
    counts = table.groupby(["finding", "task"]).size()
    lines = [["finding", "task", "count"]]
    lines += [[finding, task, str(n)] for (finding, task), n in counts.items()]
    return f"{text_table(lines)}\n\n{len(rows)} sentences audited; every finding: {target.name}"
