"""Reports and fitted models in, MLflow runs, registered versions and aliases out."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaznews.data import SPLITS, Corpus, Task
from kaznews.errors import KaznewsError
from kaznews.evaluate import Report, flat_metrics
from kaznews.model import TRUSTED_TYPES, FittedTask, encoders_of, forget_dicts
from kaznews.notes import EXPERIMENT
from kaznews.provenance import git_commit, is_alive, this_process
from kaznews.root import ROOT
from kaznews.split import Split
from kaznews.views import MAIN, summary_metric

EXPERIMENTS = ROOT / "experiments"
BUNDLE_NAME = "kaznews"
CHALLENGER = "challenger"
PARENT_VARIABLE = "KAZNEWS_PARENT_RUN"
# Without its kind, MLflow takes an experiment for one of generative AI and hides the run table.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": EXPERIMENT,
}
PROCESS_TAG = "kaznews.process"
# Written for this project: what a served model is shown as an example of its input.
INPUT_EXAMPLE = "Екі ел өзара сауда көлемін арттыруға уағдаласты."


def default_uri() -> str:
    """Return the address of the embedded store, absolute wherever the process was started."""
    return f"sqlite:///{EXPERIMENTS / 'mlflow.db'}"


def use_store() -> None:
    """Point MLflow at MLFLOW_TRACKING_URI or, without it, at the embedded store.

    A tracking URI that the caller has set in this process is left alone. MLflow's telemetry is
    off unless the user has turned it on by MLFLOW_DISABLE_TELEMETRY=false.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri(default_uri())
    # Creating the tables is 40 lines of migration log that tell a user nothing.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


def open_experiment(name: str) -> str:
    """Create the store and the experiment if they are new; return the experiment's id.

    A file lock stands around it: two jobs that create a SQLite store at once crash it.
    """
    from filelock import FileLock

    use_store()
    import mlflow

    # Set by `mlflow run` and some schedulers; it would silently replace the run we start.
    os.environ.pop("MLFLOW_RUN_ID", None)
    database = sqlite_path(mlflow.get_tracking_uri())
    if database is None:
        return _find_or_create(name, None)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        experiment_id = _find_or_create(name, (database.parent / "artifacts").as_uri())
    _close_stale_runs(experiment_id)
    return experiment_id


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a SQLite store, None for servers and other databases."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def _find_or_create(name: str, artifact_location: str | None) -> str:
    import mlflow

    # Constructing a client is what creates the tables.
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location, tags=EXPERIMENT_TAGS))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key in EXPERIMENT_TAGS.keys() - found.tags.keys():
        client.set_experiment_tag(found.experiment_id, key, EXPERIMENT_TAGS[key])
    return str(found.experiment_id)


def _close_stale_runs(experiment_id: str) -> None:
    """Mark runs as killed whose process died without a word (power loss, kill -9)."""
    import mlflow

    client = mlflow.MlflowClient()
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        process = run.data.tags.get(PROCESS_TAG)
        if process and process != this_process() and not is_alive(process):
            client.set_terminated(run.info.run_id, "KILLED")


@contextlib.contextmanager
def run(
    experiment_id: str, name: str, tags: Mapping[str, str], description: str = ""
) -> Iterator[str]:
    """Start a run, nested under the active one or under KAZNEWS_PARENT_RUN; yield its id.

    It ends as FINISHED, as FAILED on an error, and as KILLED on Ctrl-C or SIGTERM.
    """
    import mlflow

    parent = None if mlflow.active_run() else os.environ.get(PARENT_VARIABLE)
    commit = git_commit()
    all_tags = {PROCESS_TAG: this_process(), **({"git_commit": commit} if commit else {}), **tags}
    started = mlflow.start_run(
        experiment_id=experiment_id,
        run_name=name,
        nested=mlflow.active_run() is not None or parent is not None,
        parent_run_id=parent,
        tags=all_tags,
        description=description or None,
    )
    status = "FAILED"
    try:
        with _terminate_as_interrupt():
            yield str(started.info.run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that runs are closed; restore it afterwards."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        # Only the main thread may set handlers.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def log_config(flat: Mapping[str, Any], text: str) -> None:
    """Log every resolved config value as a parameter and the whole as ``config.yaml``."""
    import mlflow

    mlflow.log_params(dict(flat))
    mlflow.log_text(text, "config.yaml")


def describe(text: str, run_id: str | None = None) -> None:
    """Give a run, by default the active one, its description in Markdown."""
    import mlflow

    run_id = run_id or mlflow.active_run().info.run_id
    mlflow.MlflowClient().set_tag(run_id, "mlflow.note.content", text)


def tag(name: str, value: str) -> None:
    """Set a tag of the active run."""
    import mlflow

    mlflow.set_tag(name, value)


def make_datasets(corpus: Corpus, split: Split) -> dict[str, Any]:
    """Return the parts of a corpus as MLflow datasets: text and the labels of all tasks.

    ``cv`` is ``train``. Runs of all tasks share them: MLflow knows a dataset by name and digest.
    """
    import mlflow

    frame = corpus.dataset.select_columns(["text"]).to_pandas()
    for task in corpus.tasks:
        frame[task.name] = corpus.labels(task)
    datasets = {
        part: mlflow.data.from_pandas(
            frame[split.part == part], name=f"{corpus.name}-{part}", digest=corpus.digest
        )
        for part in SPLITS
    }
    return datasets | {"cv": datasets["train"]}


def log_inputs(datasets: Mapping[str, Any]) -> None:
    """Log the datasets as inputs of the active run."""
    import mlflow

    for part in SPLITS:
        mlflow.log_input(datasets[part], context=part)


def log_task(
    task: Task,
    datasets: Mapping[str, Any],
    fitted: FittedTask,
    reports: Mapping[str, Report],
    majority: Mapping[str, Report],
    spread: Mapping[str, tuple[float, float]],
) -> str:
    """Log model, datasets and metrics of one task to the active run.

    Parameters
    ----------
    datasets : mapping
        As `make_datasets`.
    reports, majority : mapping
        The model's reports on ``cv``, ``dev`` and ``test``; the baseline's on ``dev``, ``test``.
    spread : mapping
        Mean and standard deviation over folds of every metric.

    Returns
    -------
    str
        Id of the logged model. Metrics are linked to it and to the dataset they were measured on.
    """
    import mlflow

    log_inputs(datasets)
    chosen = fitted.facts()
    mlflow.log_params(chosen)
    mlflow.log_metrics({f"cv_log_loss_{name}": loss for name, loss in fitted.losses.items()})
    model_id = log_pipeline(fitted.pipeline, task.name, chosen)
    for part, report in reports.items():
        flat = flat_metrics(part, report) | {MAIN[part]: report.metrics[task.main_metric]}
        mlflow.log_metrics(flat, dataset=datasets[part], model_id=model_id)
        mlflow.log_dict(report.as_dict(), f"report_{part}.json")
    others: dict[str, float] = {}
    for part, report in majority.items():
        others |= flat_metrics(f"{part}_majority", report)
    for name, (mean, deviation) in spread.items():
        others |= {f"cv_{name}_mean": mean, f"cv_{name}_std": deviation}
    mlflow.log_metrics(others)
    return model_id


def log_progress(step: int, metrics: Mapping[str, float]) -> None:
    """Log metrics of the active run as they stood after so many training sentences."""
    import mlflow

    mlflow.log_metrics(dict(metrics), step=step)


def log_review(
    files: Mapping[str, bytes], tables: Mapping[str, Any] | None = None, **metrics: float
) -> None:
    """Log files (pictures, pages), tables of the UI and metrics to the active run."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        mlflow.log_artifacts(folder)
    for name, table in (tables or {}).items():
        mlflow.log_table(table, name)
    mlflow.log_metrics(metrics)


def registry() -> Any:
    """Return a client of runs and the model registry."""
    use_store()
    import mlflow

    return mlflow.MlflowClient()


def registry_error() -> type[Exception]:
    """Return the class of the errors that the registry raises."""
    from mlflow.exceptions import MlflowException

    error: type[Exception] = MlflowException
    return error


def registry_database() -> Path | None:
    """Return the SQLite file of the registry, None for servers and other databases."""
    use_store()
    import mlflow

    return sqlite_path(mlflow.get_registry_uri())


def log_summary(
    reports: Mapping[Task, Mapping[str, Report]],
    majority: Mapping[Task, Mapping[str, Report]],
    datasets: Mapping[str, Any],
    model_id: str | None,
) -> None:
    """Log the headline numbers of all tasks to the active run, prefixed by the task's name.

    Beside them the means of the main metrics: by that of cross-validation sweeps are ranked.

    Parameters
    ----------
    model_id : str or None
        Of the logged bundle, to which the numbers are linked.
    """
    import mlflow

    for part, name in MAIN.items():
        flat = {
            summary_metric(t, part): of[part].metrics[t.main_metric] for t, of in reports.items()
        }
        flat[name] = sum(flat.values()) / len(flat)
        for task, of in reports.items():
            flat[f"{task.name}_{part}_accuracy"] = of[part].metrics["accuracy"]
        mlflow.log_metrics(flat, dataset=datasets[part], model_id=model_id)
    mlflow.log_metrics(
        {
            summary_metric(task, f"{part}_majority"): report.metrics[task.main_metric]
            for task, of in majority.items()
            for part, report in of.items()
        }
    )


def _requirements(*pipelines: Any) -> list[str]:
    """Return the packages that pipelines need, the backends of their encoders among them."""
    from importlib.metadata import version

    packages = ["mlflow", "scikit-learn", "skops", "pandas"]
    packages += sorted({e.backend for pipeline in pipelines for e in encoders_of(pipeline)})
    return [f"{package}=={version(package)}" for package in packages]


def log_pipeline(pipeline: Any, name: str, params: Mapping[str, Any]) -> str:
    """Log a fitted pipeline in skops format; return the id of the logged model.

    The signature is one string column ``text``. Requirements are given, because inferring them
    costs seconds a model; kaznews is not among them.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from pandas import DataFrame

    forget_dicts(pipeline)
    with _quiet_mlflow():
        info = mlflow.sklearn.log_model(
            pipeline,
            name=name,
            serialization_format="skops",
            skops_trusted_types=TRUSTED_TYPES,
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", "text")]), outputs=Schema([ColSpec("string")])
            ),
            input_example=DataFrame({"text": [INPUT_EXAMPLE]}),
            pip_requirements=_requirements(pipeline),
            params={key: str(value) for key, value in params.items()},
            metadata=dict(params),
        )
    return str(info.model_id)


def log_bundle(bundle: Any, files: Sequence[Path] = ()) -> str:
    """Log a `predict.Bundle` as a pyfunc model, and files beside it; return the model's id.

    There is no input schema on purpose: with one, MLflow would refuse a list of strings and would
    answer a null row in its own words. The bundle checks its input itself.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from pandas import DataFrame

    for path in files:
        mlflow.log_artifact(str(path))
    kinds = {"confidence": "double", "abstain": "boolean"}
    outputs = [
        ColSpec(kinds.get(column.rpartition("_")[2], "string"), column) for column in bundle.columns
    ]
    with tempfile.TemporaryDirectory() as folder, _quiet_mlflow():
        bundle.save(Path(folder) / "bundle")
        info = mlflow.pyfunc.log_model(
            name=BUNDLE_NAME,
            loader_module="kaznews.predict",
            data_path=str(Path(folder) / "bundle"),
            signature=ModelSignature(outputs=Schema(outputs)),
            input_example=DataFrame({"text": [INPUT_EXAMPLE]}),
            pip_requirements=_requirements(*(t.pipeline for t in bundle.tasks)),
            metadata={"abstain_thresholds": {t.task.name: t.threshold for t in bundle.tasks}},
        )
    return str(info.model_id)


@contextlib.contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Hold back MLflow's warnings about what we do on purpose (they are about each model)."""
    names = ("mlflow.models.model", "mlflow.pyfunc", "mlflow.sklearn")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def names_of(task_name: str) -> tuple[str, str]:
    """Return the registered names under which a task can be asked: its own and the bundle's."""
    return task_model_name(task_name), BUNDLE_NAME


def task_model_name(task_name: str) -> str:
    """Return the registered name of a task's model: ``kaznews-stance-trade-balance``."""
    return f"{BUNDLE_NAME}-{task_name.replace('_', '-')}"


def register(model_id: str, name: str, tags: Mapping[str, str], *, card: str, about: str) -> int:
    """Register a logged model as the newest version and make it the challenger.

    Parameters
    ----------
    card, about : str
        Descriptions, in Markdown, of the version and of the registered model; the latter is kept
        where a person has written one.
    """
    import mlflow

    with _quiet_registry():
        version = mlflow.register_model(f"models:/{model_id}", name, tags=dict(tags))
    client = mlflow.MlflowClient()
    client.update_model_version(name, version.version, card)
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, about)
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    return int(version.version)


@contextlib.contextmanager
def _quiet_registry() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(open(os.devnull, "w")),
        contextlib.redirect_stderr(open(os.devnull, "w")),
    ):
        yield


def server_arguments() -> list[str]:
    """Return what `mlflow server` is to be told about the store.

    Raises
    ------
    KaznewsError
        The store is a SQLite file that does not exist.
    """
    use_store()
    import mlflow

    uri = mlflow.get_tracking_uri()
    database = sqlite_path(uri)
    if database is None:
        return ["--backend-store-uri", uri]
    if not database.exists():
        raise KaznewsError("there is no run yet: make train")
    artifacts = (database.parent / "artifacts").as_uri()
    return ["--backend-store-uri", uri, "--default-artifact-root", artifacts]
