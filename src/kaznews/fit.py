"""A corpus, a split and two estimators in, one fitted and scored task out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.calibrate import AUTO, abstention
from kaznews.data import SPLITS, Corpus, Task
from kaznews.distil import Study
from kaznews.evaluate import Report, evaluate, flat_metrics, fold_spread
from kaznews.folds import FoldCache, fold_matrices
from kaznews.lessons import source_weights
from kaznews.model import TEXT_COLUMN, FittedTask, fit_majority, train_task
from kaznews.scores import Scored
from kaznews.slices import Slice, contrast_consistency, kinds_of, score_slices, slice_metrics
from kaznews.split import Split
from kaznews.yardsticks import CurvePoint, fit_words, learning_curve


@dataclass(frozen=True)
class TaskResult:
    """One trained task: the model, its reports on cv, dev and test, those of the baselines.

    Attributes
    ----------
    scored : mapping
        What the model said on ``cv``, ``dev`` and ``test``.
    words : mapping
        Reports of the word baseline on ``dev`` and ``test``; empty where it cannot be fitted.
    slices : tuple of Slice
        Of test.
    consistency : (float, interval or None, int) or None
        As `slices.contrast_consistency`, on test.
    curve : tuple of CurvePoint
        On dev, the full model last.
    distilled : mapping
        What `distil.Study.lessons` says of the lessons; empty where labels alone were learned.
    """

    task: Task
    fitted: FittedTask
    rows: Mapping[str, npt.NDArray[np.int64]]
    reports: Mapping[str, Report]
    majority: Mapping[str, Report]
    spread: Mapping[str, tuple[float, float]]
    scored: Mapping[str, Scored]
    words: Mapping[str, Report]
    slices: tuple[Slice, ...]
    consistency: tuple[float, tuple[float, float] | None, int] | None
    curve: tuple[CurvePoint, ...]
    distilled: Mapping[str, Any] = field(default_factory=dict)

    def further_metrics(self) -> dict[str, float]:
        """Return the metrics beyond the reports: word baseline, slices, contrast groups, curve."""
        flat = slice_metrics(self.task, self.slices)
        for part, report in self.words.items():
            flat |= flat_metrics(f"{part}_words", report)
        for point in self.curve:
            metric = self.task.main_metric
            flat[f"dev_curve/{point.sentences}_{metric}"] = point.report.metrics[metric]
        if self.consistency is not None:
            value, interval, _ = self.consistency
            flat["test_contrast_consistency"] = value
            if interval is not None:
                low, high = interval
                flat["test_contrast_consistency_ci_low"] = low
                flat["test_contrast_consistency_ci_high"] = high
        return flat


def progress_bar(
    label: str, unit: str = "fit"
) -> Callable[[Iterable[Any], int | None], Iterable[Any]]:
    """Return a progress bar for people at a terminal; a log file gets no bar."""
    from tqdm import tqdm

    def wrap(jobs: Iterable[Any], total: int | None) -> Iterable[Any]:
        bar: Iterable[Any] = tqdm(
            jobs, total=total, desc=label, unit=unit, disable=None, leave=False
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
    cache: FoldCache | None = None,
    n_jobs: int,
    resamples: int,
    seed: int,
    curve_shares: Sequence[float] = (),
    calibration: str = AUTO,
    target_accuracy: float = 0.9,
    study: Study | None = None,
    weights: Mapping[str, float] | None = None,
) -> TaskResult:
    """Train one task on train and score it on its folds, on dev and on test.

    Parameters
    ----------
    texts : sequence of str
        All sentences of the corpus, then those of the study, as `folds.tokenize` returns them:
        shared by all tasks.
    cache : FoldCache, optional
        Keeps the matrices of folds for the other tasks and later runs.
    curve_shares : sequence of float
        Shares of the training sentences for the learning curve; none gives no curve.
    calibration, target_accuracy
        As in `model.train_task`.
    study : Study, optional
        A teacher whose lessons are learned beside the labels, where it has a recipe for the task;
        such a task gets no learning curve.
    weights : mapping of str to float, optional
        Of training sentences, by their source; as in `lessons.source_weights`.

    Notes
    -----
    Reports hold the figures of `calibrate.abstention` too. Sentences with an excluded label are
    scored by the final model, which has learned none of them, also those of train: they stand
    beside the out-of-fold answers in the report on ``cv``. The final model knows other sentences of
    their articles, and more sentences than a fold's: it is, if anything, too sure of them.
    """
    import pandas as pd

    y, usable = corpus.learnable(task)
    groups = np.array(corpus.dataset["group"], dtype=object)
    rows = {part: np.flatnonzero(usable & (split.part == part)) for part in SPLITS}
    rows["cv"] = rows["train"]
    own, lessons = rows["train"], None
    sources = np.array(corpus.sources(), dtype=object)
    weight = source_weights(sources[own].tolist(), weights or {})
    distilled: dict[str, Any] = {}
    if study is not None and task.name in study.recipes:
        lessons, distilled = study.lessons(
            task.name,
            own,
            y[own],
            split.fold[own],
            matrices=cache.of(own).matrices if cache else fold_matrices,
            n_jobs=n_jobs,
            weight=weight,
        )
        own = np.concatenate([own, study.behind()])
        curve_shares = ()
    fitted = train_task(
        vectorizer,
        classifier,
        texts[own],
        y[rows["train"]],
        split.fold[rows["train"]],
        calibration=calibration,
        target_accuracy=target_accuracy,
        matrices=cache.of(own).matrices if cache else fold_matrices,
        n_jobs=n_jobs,
        progress=progress_bar(task.name),
        lessons=lessons,
        weight=weight,
    )
    majority = fit_majority(y[rows["train"]])

    def score(part: str, classes: Any, probability: Any) -> Scored:
        return Scored(y[rows[part]], probability, classes, groups[rows[part]])

    def report(scored: Scored, resamples: int = 0) -> Report:
        return evaluate(
            task,
            scored.true.tolist(),
            scored.predicted.tolist(),
            probability=scored.probability,
            classes=scored.classes.tolist(),
            groups=scored.groups.tolist(),
            resamples=resamples,
            seed=seed,
        )

    scored = {"cv": score("cv", fitted.classes, fitted.oof_probability)}
    reports = {"cv": report(scored["cv"])}
    words = fit_words(texts[rows["train"]], y[rows["train"]], seed)
    baseline, word_reports = {}, {}
    for part in ("dev", "test"):
        frame = pd.DataFrame({TEXT_COLUMN: list(texts[rows[part]])}, dtype=object)
        scored[part] = score(part, fitted.classes, fitted.pipeline.predict_proba(frame))
        reports[part] = report(scored[part], resamples)
        baseline[part] = report(score(part, majority.classes_, majority.predict_proba(frame)))
        if words is not None:
            said = words.predict_proba(list(texts[rows[part]]))
            word_reports[part] = report(score(part, words.classes_, said), resamples)
    excluded = np.isin(y, task.excluded)
    for part, of_split in (("cv", "train"), ("dev", "dev"), ("test", "test")):
        asked = np.flatnonzero(excluded & (split.part == of_split))
        frame = pd.DataFrame({TEXT_COLUMN: list(texts[asked])}, dtype=object)
        unclear = fitted.pipeline.predict_proba(frame).max(axis=1) if len(asked) else None
        figures = abstention(scored[part].confidence, scored[part].hit, fitted.threshold, unclear)
        reports[part] = replace(reports[part], metrics=reports[part].metrics | figures)
    spread = fold_spread(
        task,
        y[rows["cv"]].tolist(),
        fitted.classes[fitted.oof_probability.argmax(axis=1)].tolist(),
        split.fold[rows["cv"]],
    )
    test = corpus.dataset.select(rows["test"])
    contrast = test["contrast"] if "contrast" in test.column_names else []
    curve = learning_curve(
        task,
        vectorizer,
        classifier,
        texts,
        y,
        groups,
        rows["train"],
        rows["dev"],
        shares=curve_shares,
        n_jobs=n_jobs,
        resamples=resamples,
        seed=seed,
        weight=weight,
    )
    return TaskResult(
        task,
        fitted,
        rows,
        reports,
        baseline,
        spread,
        scored,
        word_reports,
        score_slices(
            task, scored["test"], kinds_of(corpus, rows["test"]), resamples=resamples, seed=seed
        ),
        contrast_consistency(scored["test"], contrast, resamples=resamples, seed=seed),
        (*curve, CurvePoint(len(rows["train"]), reports["dev"])) if curve else (),
        distilled,
    )
