"""The trained tasks of a run in, their bundle, summary and registered versions, judged, out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from kaznews import tracking
from kaznews.data import Corpus
from kaznews.errors import KaznewsError
from kaznews.evaluate import text_table
from kaznews.export import export
from kaznews.fit import TaskResult
from kaznews.gate import Decision
from kaznews.judge import origins, submit
from kaznews.notes import bundle_card, model_about, task_card
from kaznews.predict import Bundle, BundleTask, seen_keys
from kaznews.settings import Settings
from kaznews.split import Split

# What a version says of the teacher it learned from.
_TEACHER_FACTS = ("teacher_version", "teacher_digest", "unlabelled_digest")
log = logging.getLogger("kaznews.train")


@dataclass(frozen=True)
class Outcome:
    """What `train` returns."""

    results: tuple[TaskResult, ...]
    run_id: str
    versions: Mapping[str, int]
    decision: Decision | None

    def table(self) -> str:
        """Return the result table as text: one row a task."""
        rows = [["task", "metric", "cv", "dev", "test", "95 % interval", "words", "majority"]]
        for r in self.results:
            metric, test = r.task.main_metric, r.reports["test"]
            interval, words = test.intervals.get(metric), r.words.get("test")
            rows.append(
                [
                    r.task.name,
                    metric,
                    *(f"{r.reports[part].metrics[metric]:.3f}" for part in ("cv", "dev", "test")),
                    f"{interval[0]:.3f}–{interval[1]:.3f}" if interval else "",
                    f"{words.metrics[metric]:.3f}" if words else "",
                    f"{r.majority['test'].metrics[metric]:.3f}",
                ]
            )
        return text_table(rows)


def conclude(
    settings: Settings,
    corpus: Corpus,
    split: Split,
    results: list[TaskResult],
    datasets: Mapping[str, Any],
    model_ids: Mapping[str, str],
    run_id: str,
    title: str,
    facts: Mapping[str, str],
    learned_with: Mapping[str, Mapping[str, str]],
    unlabelled: Iterable[str],
) -> Outcome:
    """Log the bundle and the summary in the parent run, register versions, judge the bundle.

    Parameters
    ----------
    datasets, model_ids : mapping
        As `tracking.make_datasets` and `tracking.log_task` return them; ids by task.
    title : str
        Of the run.
    facts : mapping of str to str
        Tags of the versions.
    learned_with : mapping
        Tags of the version of a task in their place, by task.
    unlabelled : iterable of str
        Sentences that were learned from beside those of the corpus.

    Raises
    ------
    KaznewsError
        The registry cannot be read.
    """
    complete = len(results) == len(settings.tasks) and len(results) > 1
    in_train = split.part == "train"
    names = [own for own, known in zip(origins(corpus), in_train, strict=True) if known]
    bundle = Bundle(
        tuple(BundleTask(r.task, r.fitted.pipeline, r.fitted.threshold) for r in results),
        seen_keys(
            [*np.array(corpus.dataset["text"])[in_train].tolist(), *unlabelled],
            chain.from_iterable(names),
        ),
    )
    bundle_id = _log_bundle(bundle) if complete else None
    tracking.log_summary(
        {r.task: r.reports for r in results},
        {r.task: r.majority for r in results},
        datasets,
        bundle_id,
    )
    if not settings.register:
        return Outcome(tuple(results), run_id, {}, None)
    versions = {}
    for r in results:
        name = tracking.task_model_name(r.task.name)
        learned = {k: str(r.distilled[k]) for k in _TEACHER_FACTS if k in r.distilled}
        versions[name] = tracking.register(
            model_ids[r.task.name],
            name,
            {**facts, **learned_with[r.task.name], **learned, "task": r.task.name},
            card=task_card(title, r, corpus, split),
            about=model_about(r.task),
        )
    if bundle_id is None:
        log.info("no bundle: it needs all tasks, this run trained %d", len(results))
        return Outcome(tuple(results), run_id, versions, None)
    version, decision = submit(
        bundle,
        bundle_id,
        results,
        corpus,
        split,
        settings.gate,
        seed=settings.seed,
        versions=versions,
        facts=facts,
        card=partial(bundle_card, title, results, corpus, split, dict(versions)),
    )
    versions[tracking.BUNDLE_NAME] = version
    return Outcome(tuple(results), run_id, versions, decision)


def _log_bundle(bundle: Bundle) -> str:
    """Log the bundle and, where its models are linear, the file that needs NumPy alone."""
    with tempfile.TemporaryDirectory() as folder:
        portable = Path(folder) / "kaznews.npz"
        try:
            export(bundle, portable)
        except KaznewsError as error:
            log.info("no %s: %s", portable.name, error)
        return tracking.log_bundle(bundle, [*Path(folder).iterdir()])
