"""A Hydra configuration in, trained, evaluated, logged and registered models out.

`main` is Hydra's entry. `train` takes plain typed values, so that it can be called from Python.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from hydra.experimental.callback import Callback

from kaznews import tracking
from kaznews.audit import audit
from kaznews.data import SPLITS, Corpus, load
from kaznews.distil import study
from kaznews.errors import KaznewsError
from kaznews.estimators import check_targets, tuples_for_ranges
from kaznews.evaluate import text_table
from kaznews.export import export
from kaznews.fit import TaskResult, run_task
from kaznews.folds import FoldCache, tokenize
from kaznews.gate import Decision
from kaznews.judge import origins, submit
from kaznews.predict import Bundle, BundleTask, seen_keys
from kaznews.provenance import environment_tags
from kaznews.report import render
from kaznews.review import review
from kaznews.root import ROOT
from kaznews.settings import Settings
from kaznews.split import Split, split_corpus
from kaznews.unlabelled import gather, held_out_of

# What a version says of the teacher it learned from.
_TEACHER_FACTS = ("teacher_version", "teacher_digest", "unlabelled_digest")
# Named, because run as a program this module is called __main__.
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


def train(
    settings: Settings,
    vectorizer: Any,
    classifier: Any,
    *,
    names: Mapping[str, str],
    flat: Mapping[str, Any],
    config_text: str,
    teacher: tuple[Any, Any] | None = None,
) -> Outcome:
    """Train all tasks of the settings, log them under one parent run, register and judge them.

    Parameters
    ----------
    settings : Settings
    vectorizer, classifier : estimators
        Unfitted.
    names : mapping
        Name of the chosen ``data``, ``features`` and ``classifier``, for run names and tags.
    flat : mapping
        Every resolved config value under its dotted name.
    config_text : str
        The whole resolved config as YAML.
    teacher : (estimator, estimator), optional
        Vectorizer and classifier of the teacher; needed where ``settings.distil`` is set.

    Raises
    ------
    KaznewsError
        The data are not valid or cannot be split, or an estimator cannot be fitted.
    """
    experiment = tracking.open_experiment(settings.experiment_name)
    corpus = load(settings.source(), settings.task_list())
    split = split_corpus(
        corpus,
        dev_size=settings.split.dev_size,
        test_size=settings.split.test_size,
        n_folds=settings.split.n_folds,
        seed=settings.seed,
    )
    counts = ", ".join(f"{(split.part == part).sum()} {part}" for part in SPLITS)
    log.info(
        "data=%s (%s): %s sentences, split %s", corpus.name, corpus.digest, counts, split.origin
    )
    tags = {
        "data": corpus.name,
        "data_digest": corpus.digest,
        **environment_tags(),
        **names,
    }
    title = f"{corpus.name}: {names['features']} + {names['classifier']}"
    if "distil" in names:
        title += f" + distil {names['distil']}"
    if "overrides" in names:
        title += f" [{names['overrides']}]"
    note = f"{corpus.description}\n\n{counts} sentences, split {split.origin}, by article."
    texts, digest, lessons = list(corpus.dataset["text"]), corpus.digest, None
    if settings.distil is not None and teacher is not None:
        found = gather(settings.data.unlabelled, held_out_of(corpus, split))
        log.info("unlabelled (%s): %d sentences", found.digest, len(found.texts))
        task_names = [task.name for task in corpus.tasks]
        lessons = study(*teacher, found, texts, settings.distil.tasks, task_names)
        texts, digest = [*texts, *found.texts], f"{digest}-{found.digest}"
        tags |= lessons.tags()
    texts = tokenize(texts, vectorizer)
    cache = None
    if settings.cache_mb > 0:
        cache = FoldCache(tracking.EXPERIMENTS / "cache", digest, settings.cache_mb)
    results, reviews, model_ids = [], [], {}
    with tracking.run(experiment, title, {**tags, "kind": "parent"}, note) as run_id:
        tracking.log_config(flat, config_text)
        for task in corpus.tasks:
            name = f"{task.name} · {title}"
            with tracking.run(experiment, name, {**tags, "task": task.name, "kind": "task"}, note):
                result = run_task(
                    task,
                    corpus,
                    split,
                    texts,
                    vectorizer,
                    classifier,
                    cache=cache,
                    n_jobs=settings.n_jobs,
                    resamples=settings.resamples,
                    seed=settings.seed,
                    curve_shares=settings.curve_shares,
                    study=lessons,
                )
                tracking.log_config({**flat, **_as_params(result.distilled)}, config_text)
                if facts := result.distilled:
                    lines = json.dumps(facts, indent=1, ensure_ascii=False).encode("utf-8")
                    accuracy = facts["teacher_cv_accuracy"]
                    tracking.log_review({"distil.json": lines}, teacher_cv_accuracy=accuracy)
                model_ids[task.name] = tracking.log_task(
                    task,
                    corpus,
                    result.rows,
                    result.fitted,
                    result.reports,
                    result.majority,
                    result.spread,
                )
                seen = review(result, corpus)
                tracking.log_review(seen.pictures, seen.tables, **result.further_metrics())
                reviews.append(seen)
            results.append(result)
            metric = task.main_metric
            log.info(
                "%s: %s %.3f on test", task.name, metric, result.reports["test"].metrics[metric]
            )
        if cache is not None:
            cache.shrink()
        # Once before anything is registered: a run that cannot be reported fails without a version.
        page = render(title, corpus, split, results, reviews)
        tracking.log_review({"report.html": page.encode("utf-8")})
        learned = lessons.found.texts if lessons else ()
        outcome = _conclude(settings, corpus, split, results, model_ids, run_id, learned)
        if decision := outcome.decision:
            page = render(
                title,
                corpus,
                split,
                results,
                reviews,
                verdict=decision.reason,
                comparison=decision.cells(),
            )
            tracking.log_review({"report.html": page.encode("utf-8")})
    return outcome


def _as_params(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a distillation's facts under ``distillation.``."""
    return {f"distillation.{k}": v for k, v in facts.items() if not isinstance(v, Mapping)}


def _conclude(
    settings: Settings,
    corpus: Corpus,
    split: Split,
    results: list[TaskResult],
    model_ids: dict[str, str],
    run_id: str,
    unlabelled: Iterable[str],
) -> Outcome:
    """Log the bundle and the summary in the parent run, register versions, judge the bundle."""
    for r in results:
        tracking.log_summary(r.task, r.reports, r.majority)
    tracking.log_mean([r.reports["cv"].metrics[r.task.main_metric] for r in results])
    complete = len(results) == len(settings.tasks) and len(results) > 1
    in_train = split.part == "train"
    names = [own for own, known in zip(origins(corpus), in_train, strict=True) if known]
    bundle = Bundle(
        tuple(BundleTask(r.task, r.fitted.pipeline) for r in results),
        seen_keys(
            [*np.array(corpus.dataset["text"])[in_train].tolist(), *unlabelled],
            chain.from_iterable(names),
        ),
    )
    bundle_id = _log_bundle(bundle) if complete else None
    if not settings.register:
        return Outcome(tuple(results), run_id, {}, None)
    versions = {}
    for r in results:
        name = tracking.task_model_name(r.task.name)
        facts = {k: str(r.distilled[k]) for k in _TEACHER_FACTS if k in r.distilled}
        versions[name] = tracking.register(model_ids[r.task.name], name, corpus, facts)
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


class SweepRun(Callback):
    """Opens the run that all jobs of a ``--multirun`` hang under, before they are launched."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Create store, experiment and parent run; jobs inherit its id by the environment."""
        tracking.start_sweep(str(config.experiment_name), list(config.hydra.overrides.task))

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Close the parent run and print its jobs, best first."""
        print(tracking.end_sweep("FINISHED"))


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings and lists of mappings as one mapping with dotted names."""
    if isinstance(value, Mapping):
        items = [(str(key), v) for key, v in value.items()]
    elif isinstance(value, list) and any(isinstance(v, Mapping | list) for v in value):
        items = [(str(i), v) for i, v in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, v in items:
        flat |= _flatten(v, f"{prefix}.{key}" if prefix else key)
    return flat


@dataclass(frozen=True)
class Resolved:
    """A checked configuration: typed settings, unfitted estimators, and the plain values.

    `teacher` holds vectorizer and classifier of the teacher of a distillation.
    """

    settings: Settings
    vectorizer: Any
    classifier: Any
    plain: dict[str, Any]
    teacher: tuple[Any, Any] | None = None


def resolve(config: Any) -> Resolved:
    """Check a composed Hydra config and turn it into plain values and estimators.

    Raises
    ------
    KaznewsError
        A key is unknown, a value is missing or has the wrong type, or a ``_target_`` is not an
        estimator of scikit-learn or kaznews.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        typed = OmegaConf.merge(OmegaConf.structured(Settings), config)
        if missing := sorted(OmegaConf.missing_keys(typed)):
            raise KaznewsError(f"configuration: give a value for {', '.join(missing)}")
        settings: Settings = OmegaConf.to_object(typed)  # type: ignore[assignment]
        plain: Any = OmegaConf.to_container(typed, resolve=True)
    except OmegaConfBaseException as error:
        raise KaznewsError(f"configuration: {str(error).splitlines()[0]}") from None

    def estimator(spec: Any, where: str) -> Any:
        check_targets(spec, where)
        try:
            return tuples_for_ranges(instantiate(spec, _convert_="all"))
        except (HydraException, TypeError, AttributeError) as error:
            raise KaznewsError(f"{where}: {str(error).splitlines()[0]}") from None

    own = [estimator(plain[group], group) for group in ("features", "classifier")]
    teacher = None
    if settings.distil is not None:
        spec = plain["distil"]["teacher"]
        teacher = (
            estimator(spec["features"], "distil.teacher.features"),
            estimator(spec["classifier"], "distil.teacher.classifier"),
        )
    return Resolved(settings, own[0], own[1], plain, teacher)


def run_from_config(config: Any, choices: Mapping[str, str]) -> Outcome | str:
    """Do what a composed Hydra config says; `choices` names the option taken of each group.

    Returns
    -------
    Outcome or str
        Of ``command=train``, or the text that ``command=audit`` has to say.
    """
    from omegaconf import OmegaConf

    resolved = resolve(config)
    text = OmegaConf.to_yaml(OmegaConf.create(resolved.plain), sort_keys=False)
    if resolved.settings.command == "audit":
        return audit(
            resolved.settings,
            resolved.vectorizer,
            resolved.classifier,
            flat=_flatten(resolved.plain),
            text=text,
        )
    if resolved.settings.command != "train":
        raise KaznewsError(f"command must be train or audit, not {resolved.settings.command!r}")
    return train(
        resolved.settings,
        resolved.vectorizer,
        resolved.classifier,
        names={
            group: choices[group]
            for group in ("features", "classifier", "distil", "experiment", "overrides")
            if choices.get(group) not in (None, "None")
        },
        flat=_flatten(resolved.plain),
        config_text=text,
        teacher=resolved.teacher,
    )


def register_resolvers() -> None:
    """Let configs say ``${project:}`` for the absolute project folder."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("project", lambda: str(ROOT), replace=True)


def _hydra_job(config: Any) -> float:
    """Run one job of Hydra; the returned mean cross-validated main metric serves optimisers."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    choices = {str(k): str(v) for k, v in HydraConfig.get().runtime.choices.items()}
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        # What tells the jobs of a sweep apart.
        choices["overrides"] = HydraConfig.get().job.override_dirname
    try:
        outcome = run_from_config(config, choices)
    except KaznewsError as error:
        # Raised through Hydra it would gain a traceback; in a sweep Hydra has to collect it.
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        sys.exit(_complain(error))
    if isinstance(outcome, str):
        print(f"\n{outcome}")
        return 0.0
    print(f"\n{outcome.table()}\n")
    for name, version in outcome.versions.items():
        print(f"registered {name} version {version}")
    if outcome.decision is not None:
        verdict = "is champion" if outcome.decision.promote else "stays challenger"
        print(f"{tracking.BUNDLE_NAME} {verdict}: {outcome.decision.reason}")
    print("\nNext:  make ui                  look at the run")
    print('       make predict TEXT="…"    use the champion')
    return float(np.mean([r.reports["cv"].metrics[r.task.main_metric] for r in outcome.results]))


def main() -> None:
    """Train as the command line says; see conf/config.yaml.

    Exit codes: 0 done, 2 the user's to mend (one message, no traceback), 130 interrupted.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register_resolvers()
    # Hydra would print its own traceback and exit with 1; we decide here.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    run = hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")(
        _hydra_job
    )
    try:
        run()
    except (KaznewsError, HydraException, OmegaConfBaseException) as error:
        tracking.end_sweep("FAILED")
        sys.exit(_complain(error))
    except KeyboardInterrupt:
        tracking.end_sweep("KILLED")
        print("interrupted: no version was registered", file=sys.stderr)
        sys.exit(130)


def _complain(error: Exception) -> int:
    print(f"error: {str(error).strip()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
