"""A corpus, a split and two estimators in, one fitted and scored task out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.data import SPLITS, Corpus, Task
from kaznews.evaluate import Report, evaluate, fold_spread
from kaznews.folds import FoldCache, fold_matrices
from kaznews.model import TEXT_COLUMN, FittedTask, fit_majority, train_task
from kaznews.split import Split


@dataclass(frozen=True)
class TaskResult:
    """One trained task: the model, its reports on cv, dev and test, the baseline's."""

    task: Task
    fitted: FittedTask
    rows: Mapping[str, npt.NDArray[np.int64]]
    reports: Mapping[str, Report]
    majority: Mapping[str, Report]
    spread: Mapping[str, tuple[float, float]]


def progress_bar(label: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    """Return a progress bar for people at a terminal; a log file gets no bar."""
    from tqdm import tqdm

    def wrap(jobs: Iterable[Any], total: int) -> Iterable[Any]:
        bar: Iterable[Any] = tqdm(
            jobs, total=total, desc=label, unit="fit", disable=None, leave=False
        )
        return bar

    return wrap


def run_task(
    task: Task,
    corpus: Corpus,
    split: Split,
    texts: Any,
    vectorizer: Any,
    classifier: Any,
    *,
    cache: FoldCache | None,
    n_jobs: int,
    resamples: int,
    seed: int,
) -> TaskResult:
    """Train one task on train and score it on its folds, on dev and on test.

    Parameters
    ----------
    texts : sequence of str
        All sentences of the corpus, as `folds.tokenize` returns them: shared by all tasks.
    cache : FoldCache, optional
        Keeps the matrices of folds for the other tasks and later runs.
    """
    import pandas as pd

    labels = corpus.labels(task)
    usable = np.array([label is not None and label not in task.excluded for label in labels])
    y = np.array([label or "" for label in labels])
    groups = np.array(corpus.dataset["group"], dtype=object)
    rows = {part: np.flatnonzero(usable & (split.part == part)) for part in SPLITS}
    rows["cv"] = rows["train"]
    fitted = train_task(
        vectorizer,
        classifier,
        texts[rows["train"]],
        y[rows["train"]],
        split.fold[rows["train"]],
        matrices=cache.of(rows["train"]).matrices if cache else fold_matrices,
        n_jobs=n_jobs,
        progress=progress_bar(task.name),
    )
    majority = fit_majority(y[rows["train"]])

    def report(part: str, classes: Any, probability: Any, resamples: int = 0) -> Report:
        return evaluate(
            task,
            y[rows[part]].tolist(),
            classes[probability.argmax(axis=1)].tolist(),
            probability=probability,
            classes=classes.tolist(),
            groups=groups[rows[part]].tolist(),
            resamples=resamples,
            seed=seed,
        )

    reports = {"cv": report("cv", fitted.classes, fitted.oof_probability)}
    baseline = {}
    for part in ("dev", "test"):
        frame = pd.DataFrame({TEXT_COLUMN: list(texts[rows[part]])}, dtype=object)
        probability = fitted.pipeline.predict_proba(frame)
        reports[part] = report(part, fitted.classes, probability, resamples)
        baseline[part] = report(part, majority.classes_, majority.predict_proba(frame))
    spread = fold_spread(
        task,
        y[rows["cv"]].tolist(),
        fitted.classes[fitted.oof_probability.argmax(axis=1)].tolist(),
        split.fold[rows["cv"]],
    )
    return TaskResult(task, fitted, rows, reports, baseline, spread)
