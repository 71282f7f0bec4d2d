"""Reports and fitted models in, MLflow runs, registered versions and aliases out."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaznews.data import SPLITS, Corpus, Task
from kaznews.errors import KaznewsError
from kaznews.evaluate import Report, flat_metrics, text_table
from kaznews.model import TRUSTED_TYPES, FittedTask, encoders_of, forget_dicts
from kaznews.provenance import git_commit, is_alive, this_process
from kaznews.root import ROOT

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENTS = ROOT / "experiments"
BUNDLE_NAME = "kaznews"
CHALLENGER = "challenger"
PARENT_VARIABLE = "KAZNEWS_PARENT_RUN"
SWEEP_METRIC = "cv_mean_main_metric"
SWEEP_VARIABLE = "KAZNEWS_SWEEP_PROCESS"
# Without its kind, MLflow takes an experiment for one of generative AI and hides the run table.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Topic and stance of Kazakh news sentences: one run a `make train`, "
    "one child a task.",
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


def log_task(
    task: Task,
    corpus: Corpus,
    rows: Mapping[str, Any],
    fitted: FittedTask,
    reports: Mapping[str, Report],
    majority: Mapping[str, Report],
    spread: Mapping[str, tuple[float, float]],
) -> str:
    """Log model, datasets and metrics of one task to the active run.

    Parameters
    ----------
    rows : mapping
        Row numbers of ``train``, ``dev`` and ``test`` in the corpus.
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

    frame = corpus.dataset.select_columns(["text"]).to_pandas()
    frame[task.name] = corpus.labels(task)
    datasets = {}
    for part in SPLITS:
        datasets[part] = mlflow.data.from_pandas(
            frame.iloc[rows[part]],
            name=f"{corpus.name}-{part}",
            digest=corpus.digest,
            targets=task.name,
        )
        mlflow.log_input(datasets[part], context=part)
    model_id = _log_pipeline(fitted.pipeline, task.name, {"beta": fitted.beta})
    datasets["cv"] = datasets["train"]
    for part, report in reports.items():
        mlflow.log_metrics(flat_metrics(part, report), dataset=datasets[part], model_id=model_id)
        mlflow.log_dict(report.as_dict(), f"report_{part}.json")
    others: dict[str, float] = {}
    for part, report in majority.items():
        others |= flat_metrics(f"{part}_majority", report)
    for name, (mean, deviation) in spread.items():
        others |= {f"cv_{name}_mean": mean, f"cv_{name}_std": deviation}
    mlflow.log_metrics(others)
    return model_id


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


def log_findings(table: pd.DataFrame, name: str) -> None:
    """Log an audit to the active run: as a table of the UI, as CSV, and its counts as metrics."""
    import mlflow

    mlflow.log_table(table, f"{name}.json")
    mlflow.log_text(table.to_csv(index=False), f"{name}.csv")
    for finding, count in table["finding"].value_counts().items():
        mlflow.log_metric(f"findings_{finding}", int(count))


def log_decision(rows: Sequence[Mapping[str, Any]], markdown: str, promoted: bool) -> None:
    """Log a gate's table to the active run: as a table of the UI, as text, and a tag."""
    import mlflow
    from pandas import DataFrame

    mlflow.log_table(DataFrame(list(rows)), "gate.json")
    mlflow.log_text(markdown, "gate.md")
    mlflow.set_tag("promoted", str(promoted).lower())


def registry() -> Any:
    """Return a client of the model registry."""
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


def log_mean(metrics: Sequence[float]) -> None:
    """Log the mean of the tasks' cross-validated main metrics, by which sweeps are ranked."""
    import mlflow

    mlflow.log_metric(SWEEP_METRIC, sum(metrics) / len(metrics))


def log_summary(task: Task, reports: Mapping[str, Report], majority: Mapping[str, Report]) -> None:
    """Log the headline numbers of a task to the parent run, prefixed by the task's name."""
    import mlflow

    metric = task.main_metric
    flat = {
        f"{task.name}_{part}_majority_{metric}": r.metrics[metric] for part, r in majority.items()
    }
    for part, report in reports.items():
        for name in ("accuracy", metric):
            flat[f"{task.name}_{part}_{name}"] = report.metrics[name]
    mlflow.log_metrics(flat)


def _requirements(*pipelines: Any) -> list[str]:
    """Return the packages that pipelines need, the backends of their encoders among them."""
    from importlib.metadata import version

    packages = ["mlflow", "scikit-learn", "skops", "pandas"]
    packages += sorted({e.backend for pipeline in pipelines for e in encoders_of(pipeline)})
    return [f"{package}=={version(package)}" for package in packages]


def _log_pipeline(pipeline: Any, name: str, params: Mapping[str, Any]) -> str:
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
    outputs = [
        ColSpec("double" if column.endswith("_confidence") else "string", column)
        for column in bundle.columns
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
        )
    return str(info.model_id)


@contextlib.contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Hold back MLflow's warnings about what we do on purpose (they are about each model)."""
    loggers = [
        logging.getLogger(n) for n in ("mlflow.models.model", "mlflow.pyfunc", "mlflow.sklearn")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def task_model_name(task_name: str) -> str:
    """Return the registered name of a task's model: ``kaznews-stance-trade-balance``."""
    return f"{BUNDLE_NAME}-{task_name.replace('_', '-')}"


def register(model_id: str, name: str, corpus: Corpus, tags: Mapping[str, str]) -> int:
    """Register a logged model as the newest version and make it the challenger."""
    import mlflow

    with _quiet_registry():
        version = mlflow.register_model(f"models:/{model_id}", name, tags=dict(tags))
    client = mlflow.MlflowClient()
    client.update_model_version(
        name, version.version, f"Trained on {corpus.name} ({corpus.digest}). {corpus.description}"
    )
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    return int(version.version)


@contextlib.contextmanager
def _quiet_registry() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(open(os.devnull, "w")),
        contextlib.redirect_stderr(open(os.devnull, "w")),
    ):
        yield


def start_sweep(experiment_name: str, overrides: Sequence[str]) -> None:
    """Create the store and the run that the jobs of a sweep hang under; export its id."""
    experiment_id = open_experiment(experiment_name)
    import mlflow

    tags = {"mlflow.runName": f"sweep: {' '.join(overrides)}", "kind": "sweep"}
    tags[PROCESS_TAG] = this_process()
    created = mlflow.MlflowClient().create_run(experiment_id, tags=tags)
    os.environ[PARENT_VARIABLE] = created.info.run_id
    os.environ[SWEEP_VARIABLE] = str(os.getpid())


def end_sweep(status: str) -> str:
    """Close the sweep that this process opened, if any; return its jobs as a table, best first."""
    if os.environ.get(SWEEP_VARIABLE) != str(os.getpid()):
        return ""
    import mlflow

    run_id = os.environ.pop(PARENT_VARIABLE)
    del os.environ[SWEEP_VARIABLE]
    client = mlflow.MlflowClient()
    client.set_terminated(run_id, status)
    experiment_id = client.get_run(run_id).info.experiment_id
    jobs = client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    jobs = sorted(jobs, key=lambda job: -job.data.metrics.get(SWEEP_METRIC, -1.0))
    rows = [["job", "status", "mean main metric, cv"]]
    rows += [
        [
            job.info.run_name,
            job.info.status,
            f"{job.data.metrics.get(SWEEP_METRIC, float('nan')):.4f}",
        ]
        for job in jobs
    ]
    return text_table(rows)


def serve_ui(port: int, experiment_name: str = "kaznews") -> None:
    """Run the MLflow server on 127.0.0.1 over the store until it is stopped; does not return.

    MLflow's own host checks stay on.
    """
    use_store()
    import mlflow

    uri = mlflow.get_tracking_uri()
    database = sqlite_path(uri)
    arguments = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    if database is not None:
        if not database.exists():
            raise KaznewsError("there is no run yet: make train")
        arguments += ["--default-artifact-root", (database.parent / "artifacts").as_uri()]
    found = mlflow.MlflowClient().get_experiment_by_name(experiment_name)
    # MLflow opens an experiment on its overview of traces; this address leads to the run table.
    page = (
        f"/#/experiments/{found.experiment_id}/runs?workflowType=machine_learning" if found else ""
    )
    print(f"MLflow (Ctrl-C stops it): http://127.0.0.1:{port}{page}", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])
