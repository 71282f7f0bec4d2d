"""A Hydra configuration in, trained, evaluated, logged and registered models out.

`main` is Hydra's entry. `train` takes plain typed values, so that it can be called from Python.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hydra.experimental.callback import Callback

from kaznews import cluster, stream, tracking
from kaznews.audit import audit
from kaznews.choose import Options
from kaznews.conclude import Outcome, conclude
from kaznews.data import SPLITS, load
from kaznews.distil import study_of
from kaznews.errors import KaznewsError
from kaznews.estimators import (
    Learner,
    check_targets,
    flatten,
    names_of,
    shared_values,
    title_of,
    tuples_for_ranges,
)
from kaznews.fit import run_task
from kaznews.folds import FoldCache, encoder_version, tokenize
from kaznews.notes import run_note, task_note
from kaznews.provenance import environment_tags
from kaznews.recommend import recommend
from kaznews.report import render
from kaznews.review import review
from kaznews.root import ROOT
from kaznews.settings import SearchSettings, Settings
from kaznews.split import split_corpus
from kaznews.sweep import end_sweep, start_sweep
from kaznews.ui import install_views

# Named, because run as a program this module is called __main__.
log = logging.getLogger("kaznews.train")


def train(
    settings: Settings,
    learners: Mapping[str, Learner],
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
    learners : mapping of str to Learner
        By task.
    names : mapping
        Name of the chosen ``distil`` and ``experiment``, and ``overrides``, for run names and tags.
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
    learners = {task.name: learners[task.name] for task in corpus.tasks}
    lessons = None
    if settings.distil is not None and teacher is not None:
        pool, recipes = settings.data.unlabelled, settings.distil.recipes()
        lessons = study_of(*teacher, pool, corpus, split, recipes, settings.distil.optional)
    if lessons is None:
        names = {group: name for group, name in names.items() if group != "distil"}
    facts = {"data": corpus.name, "data_digest": corpus.digest, **names}
    facts |= names_of(learners.values())
    tags = {**facts, **environment_tags()}
    title = title_of(corpus.name, learners.values(), names)
    install_views(experiment, corpus.tasks)
    datasets = tracking.make_datasets(corpus, split)
    texts, digest = list(corpus.dataset["text"]), corpus.digest
    if lessons is not None:
        found = lessons.found
        texts, digest = [*texts, *found.texts], f"{digest}-{found.digest}"
        tags |= lessons.tags()
    texts = tokenize(texts, *(learner.vectorizer for learner in learners.values()))
    cache = None
    if settings.cache_mb > 0:
        cache = FoldCache(tracking.EXPERIMENTS / "cache", digest, settings.cache_mb)
    results, reviews, model_ids, run_ids = [], [], {}, {}
    with tracking.run(experiment, title, {**tags, "kind": "parent"}) as run_id:
        tracking.log_config(flat, config_text)
        tracking.log_inputs(datasets)
        for task in corpus.tasks:
            learner = learners[task.name]
            title_here = title_of(corpus.name, [learner], names)
            name = f"{task.name} · {title_here}"
            own = {**tags, **learner.names, "task": task.name, "kind": "task"}
            with tracking.run(experiment, name, own) as run_ids[task.name]:
                result = run_task(
                    task,
                    corpus,
                    split,
                    texts,
                    learner.vectorizer,
                    learner.classifier,
                    cache=cache,
                    n_jobs=settings.n_jobs,
                    resamples=settings.resamples,
                    seed=settings.seed,
                    curve_shares=settings.curve_shares,
                    calibration=settings.calibration,
                    target_accuracy=settings.abstain.target_of(task.name),
                    study=lessons,
                    weights=learner.weights,
                )
                params = {**learner.values, **_as_params(result.distilled)}
                tracking.log_config({**shared_values(flat), **params}, config_text)
                if taught := result.distilled:
                    lines = json.dumps(taught, indent=1, ensure_ascii=False).encode("utf-8")
                    accuracy = float(taught["teacher_cv_accuracy"])
                    tracking.log_review({"distil.json": lines}, teacher_cv_accuracy=accuracy)
                model_ids[task.name] = tracking.log_task(
                    task,
                    datasets,
                    result.fitted,
                    result.reports,
                    result.majority,
                    result.spread,
                )
                seen = review(result, corpus)
                tracking.log_review(seen.pictures, seen.tables, **result.further_metrics())
                tracking.describe(task_note(title_here, result, corpus, split, {}))
                reviews.append(seen)
            results.append(result)
            metric = task.main_metric
            test = result.reports["test"].metrics
            log.info(
                "%s: %s %.3f on test, %.0f %% answered",
                task.name,
                metric,
                test[metric],
                100 * test["abstain_coverage"],
            )
        if cache is not None:
            cache.shrink()
        # Once before anything is registered: a run that cannot be reported fails without a version.
        page = render(title, corpus, split, results, reviews)
        tracking.log_review({"report.html": page.encode("utf-8")})
        tracking.describe(run_note(title, results, corpus, split, {}, None))
        learned = lessons.found.texts if lessons else ()
        outcome = conclude(
            settings,
            corpus,
            split,
            results,
            datasets,
            model_ids,
            run_id,
            title,
            facts,
            {name: learner.names for name, learner in learners.items()},
            learned,
        )
        versions = outcome.versions
        tracking.describe(run_note(title, results, corpus, split, versions, outcome.decision))
        for r in results:
            own_versions = {n: versions[n] for n in tracking.names_of(r.task.name) if n in versions}
            own_title = title_of(corpus.name, [learners[r.task.name]], names)
            text = task_note(own_title, r, corpus, split, own_versions)
            tracking.describe(text, run_ids[r.task.name])
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


class SweepRun(Callback):
    """Opens the run that all jobs of a ``--multirun`` hang under, before they are launched."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Create store, experiment and parent run; jobs inherit its id by the environment."""
        start_sweep(str(config.experiment_name), list(config.hydra.overrides.task))
        if "ray" in config.hydra.launcher:
            # Its jobs log where this process does, under its run. The launcher's own start cannot
            # connect to a cluster (it insists on the size of the object store).
            cluster.start(tuple(n for n in os.environ if n.startswith(("KAZNEWS_", "MLFLOW_"))))

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Close the parent run and print its jobs, best first."""
        print(end_sweep("FINISHED"))


@dataclass(frozen=True)
class Resolved:
    """A checked configuration: typed settings, unfitted estimators, and the plain values.

    `teacher` holds vectorizer and classifier of the teacher of a distillation, `own` what single
    tasks have in place of `vectorizer` and `classifier`, by task and config group.
    """

    settings: Settings
    vectorizer: Any
    classifier: Any
    plain: dict[str, Any]
    teacher: tuple[Any, Any] | None = None
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def learner(self, task: str, choices: Mapping[str, str]) -> Learner:
        """Return what a task learns with; `choices` names the option taken of each group."""
        settings, parts = (
            self.settings,
            {"features": self.vectorizer, "classifier": self.classifier},
        )
        own, plain = self.own.get(task, {}), self.plain["per_task"].get(task) or {}
        names: dict[str, str] = {}
        values: dict[str, Any] = {}
        for group in parts:
            replaced = f"{group}@per_task.{task}.{group}" if group in own else group
            names[group] = choices.get(replaced) or choices.get(group, "")
            values |= flatten(plain[group] if group in own else self.plain[group], group)
        weights = settings.weights or {}
        if task in settings.per_task and settings.per_task[task].weights is not None:
            weights = settings.per_task[task].weights or {}
        parts |= own
        values |= flatten(dict(weights), "weights")
        if version := encoder_version(parts["features"]):
            values["encoder"] = version
        return Learner(parts["features"], parts["classifier"], weights, names, values)

    def learners(self, choices: Mapping[str, str]) -> dict[str, Learner]:
        """Return what every task of the run learns with."""
        return {name: self.learner(name, choices) for name in self.settings.tasks}


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
    replaced = {
        task: {
            group: estimator(entry[group], f"per_task.{task}.{group}")
            for group in ("features", "classifier")
            if entry[group] is not None
        }
        for task, entry in plain["per_task"].items()
    }
    return Resolved(settings, own[0], own[1], plain, teacher, replaced)


def run_from_config(config: Any, choices: Mapping[str, str]) -> Outcome | str:
    """Do what a composed Hydra config says; `choices` names the option taken of each group.

    Returns
    -------
    Outcome or str
        Of ``command=train``, or the text that ``command=audit`` or ``stream`` has to say.
    """
    from omegaconf import OmegaConf

    resolved = resolve(config)
    text = OmegaConf.to_yaml(OmegaConf.create(resolved.plain), sort_keys=False)
    with cluster.parallel(resolved.settings.parallel):
        return _run_resolved(resolved, text, choices)


def _run_resolved(resolved: Resolved, text: str, choices: Mapping[str, str]) -> Outcome | str:
    settings = resolved.settings
    learners = resolved.learners(choices)
    if settings.command == "audit":
        return audit(settings, learners, flat=flatten(resolved.plain), text=text)
    if settings.command == "search":
        if settings.search is None:
            raise KaznewsError("command=search needs search=default, which says what to try")
        options = _options(settings.search, choices)
        cache = tracking.EXPERIMENTS / "cache"
        return recommend(settings, options, settings.search, cache, resolved.teacher)
    names = {
        group: choices[group]
        for group in ("distil", "experiment", "overrides")
        if choices.get(group) not in (None, "None")
    }
    if resolved.settings.command == "stream":
        return stream.run(
            resolved.settings,
            resolved.vectorizer,
            resolved.classifier,
            names=names | names_of(learners.values()),
            flat=flatten(resolved.plain),
            text=text,
        )
    if resolved.settings.command != "train":
        raise KaznewsError(
            f"command must be train, audit, search or stream, not {resolved.settings.command!r}"
        )
    return train(
        resolved.settings,
        learners,
        names=names,
        flat=flatten(resolved.plain),
        config_text=text,
        teacher=resolved.teacher,
    )


def _options(search: SearchSettings, choices: Mapping[str, str]) -> Options:
    """Return what the overrides of a search stand for, each composed over the configuration."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig

    # The command line goes before: seeds and processes are the same for all.
    given = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []

    def composed(entry: str) -> Resolved:
        return resolve(compose("config", overrides=[*given, *entry.split()]))

    return Options(
        {entry: composed(entry).vectorizer for entry in search.features},
        {entry: composed(entry).classifier for entry in search.all_classifiers()},
        {entry: composed(entry).settings.weights or {} for entry in search.weights},
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
        end_sweep("FAILED")
        sys.exit(_complain(error))
    except KeyboardInterrupt:
        end_sweep("KILLED")
        print("interrupted: no version was registered", file=sys.stderr)
        sys.exit(130)


def _complain(error: Exception) -> int:
    print(f"error: {str(error).strip()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
