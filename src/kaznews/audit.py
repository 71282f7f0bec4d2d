"""A labelled corpus in, a run with a table of what is probably wrong with it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kaznews import tracking
from kaznews.data import Corpus, load
from kaznews.estimators import Learner
from kaznews.evaluate import text_table
from kaznews.findings import audit_table, duplicate_findings, label_findings
from kaznews.fit import progress_bar
from kaznews.folds import tokenize
from kaznews.lessons import source_weights
from kaznews.model import train_task
from kaznews.settings import Settings
from kaznews.split import draw_folds, split_corpus


def _column(corpus: Corpus, name: str) -> list[Any]:
    """Return a column of the corpus, or nulls where it has none."""
    present = name in corpus.dataset.column_names
    return list(corpus.dataset[name]) if present else [None] * len(corpus.dataset)


def audit(
    settings: Settings, learners: Mapping[str, Learner], *, flat: Mapping[str, Any], text: str
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
    learners = {task.name: learners[task.name] for task in corpus.tasks}
    tokenized = tokenize(texts.tolist(), *(own.vectorizer for own in learners.values()))
    sources = np.array(corpus.sources(), dtype=object)
    contrasts = np.array(_column(corpus, "contrast"), dtype=object)
    findings: list[dict[str, Any]] = []
    tags = {"kind": "audit", "data": corpus.name, "data_digest": corpus.digest}
    note = (
        f"Labels that are probably wrong, near-duplicates and leaks of **{corpus.name}** "
        f"(`{corpus.digest}`): {len(rows)} sentences. `audit-{corpus.name}.json` has every finding."
        f"\n\n{corpus.description}"
    )
    with tracking.run(experiment, f"audit: {corpus.name}", tags, note):
        tracking.log_config(flat, text)
        for task in corpus.tasks:
            labels, can_learn = corpus.learnable(task)
            y, usable = labels[rows], can_learn[rows]
            chosen, learner = rows[usable], learners[task.name]
            fitted = train_task(
                learner.vectorizer,
                learner.classifier,
                tokenized[chosen],
                y[usable],
                fold[usable],
                n_jobs=settings.n_jobs,
                progress=progress_bar(task.name),
                weight=source_weights(sources[chosen].tolist(), learner.weights),
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
        tracking.log_review(
            {f"audit-{corpus.name}.csv": table.to_csv(index=False).encode("utf-8")},
            {f"audit-{corpus.name}.json": table},
            **{f"findings_{name}": int(n) for name, n in table["finding"].value_counts().items()},
        )
    target = tracking.EXPERIMENTS / f"audit-{corpus.name}.csv"
    target.parent.mkdir(exist_ok=True)
    table.to_csv(target, index=False)
    counts = table.groupby(["finding", "task"]).size()
    lines = [["finding", "task", "count"]]
    lines += [[finding, task, str(n)] for (finding, task), n in counts.items()]
    return f"{text_table(lines)}\n\n{len(rows)} sentences audited; every finding: {target.name}"
