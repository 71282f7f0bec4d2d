"""Whole runs: what they log, that they repeat, and what remains of interrupted ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TASKS, run_train, store_environment

from kaznews.data import load
from kaznews.notes import EXPERIMENT, USE
from kaznews.reading import Source
from kaznews.tracking import task_model_name
from kaznews.views import MAIN

QUICK = ["data=files", "experiment=quick", "+features.max_features=500"]


def client(folder: Path) -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")


def runs(folder: Path) -> list[Any]:
    c = client(folder)
    experiment = c.get_experiment_by_name("kaznews")
    return list(c.search_runs([experiment.experiment_id]))


def metrics_of(folder: Path) -> dict[str, dict[str, float]]:
    return {run.data.tags.get("task", "parent"): run.data.metrics for run in runs(folder)}


def test_one_parent_and_a_child_a_task(store: Path) -> None:
    by_task = {run.data.tags.get("task", "parent"): run for run in runs(store)}
    assert set(by_task) == {"parent", *(task.name for task in TASKS)}
    parent = by_task.pop("parent")
    assert parent.info.status == "FINISHED"
    for run in by_task.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_child_logs_what_a_reviewer_needs(store: Path, task: Any) -> None:
    run = next(r for r in runs(store) if r.data.tags.get("task") == task.name)
    for part in ("cv", "dev", "test"):
        names = ["accuracy", "macro_f1", "mcc", "log_loss", "brier", "ece", "aurc"]
        names += ["coverage_at_95", *(f"f1_{label}" for label in task.labels)]
        names += ["f_favor_against"] if "favor" in task.labels else []
        assert {f"{part}_{name}" for name in names} <= set(run.data.metrics)
    assert f"test_majority_{task.main_metric}" in run.data.metrics
    assert f"test_words_{task.main_metric}" in run.data.metrics
    assert f"cv_{task.main_metric}_std" in run.data.metrics
    assert {"test_by_case/cased_accuracy", "test_by_case/lower_accuracy"} <= set(run.data.metrics)
    for name in ("mcc", "brier", "aurc", "coverage_at_95", f"f1_{task.labels[0]}"):
        low, high = (run.data.metrics[f"test_{name}_ci_{side}"] for side in ("low", "high"))
        assert low <= run.data.metrics[f"test_{name}"] <= high
    low, high = (run.data.metrics[f"test_{task.main_metric}_ci_{side}"] for side in ("low", "high"))
    assert low <= run.data.metrics[f"test_{task.main_metric}"] <= high
    assert run.data.params["calibration_chosen"] in ("none", "temperature", "isotonic")
    tried = {n: run.data.metrics[f"cv_log_loss_{n}"] for n in ("none", "temperature", "isotonic")}
    assert run.data.metrics["cv_log_loss"] == pytest.approx(
        tried[run.data.params["calibration_chosen"]]
    )
    assert run.data.metrics["cv_abstain_coverage"] == 0 or (
        run.data.metrics["cv_abstain_accuracy"] >= 0.9
    )
    rates = {f"{part}_abstain_{name}" for part in ("cv", "dev", "test")
             for name in ("rate_unclear", "rate_clear", "auroc")}  # fmt: skip
    assert (rates <= set(run.data.metrics)) == (task.name == "topic")
    assert run.data.params["classifier.C"] == "0.5"
    assert run.data.params["features.ngram_range"] == "[2, 5]"
    assert run.data.params["seed"] == "0"
    assert {d.dataset.digest for d in run.inputs.dataset_inputs} == {run.data.tags["data_digest"]}
    assert sorted(d.dataset.name for d in run.inputs.dataset_inputs) == [
        "files-dev", "files-test", "files-train",
    ]  # fmt: skip
    files = {f.path for f in client(store).list_artifacts(run.info.run_id)}
    pictures = {"f1_by_class", "precision_recall", "reliability", "risk_coverage", "slices"}
    pictures |= {"learning_curve", "ngrams", "confusion_test", "confusion_dev", "confusion_cv"}
    assert {f"{name}.png" for name in pictures} <= files
    assert {"config.yaml", "report_test.json", "test_sentences.json"} <= files
    (model,) = run.outputs.model_outputs
    logged = client(store).get_logged_model(model.model_id)
    assert any(m.key == f"test_{task.main_metric}" for m in logged.metrics)


def test_tables_hold_every_test_sentence_and_the_surest_errors(tracking_store: Path) -> None:
    import mlflow
    import pandas as pd

    run = next(r for r in runs(tracking_store) if r.data.tags.get("task") == "topic")
    # What the UI lists as tables.
    shown = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    names = ("test_sentences.json", "confident_errors.json", "label_audit.json", "slices.json")
    assert {(a["path"], a["type"]) for a in shown} == {(name, "table") for name in names}
    table, errors, audited, _ = (
        pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{name}"))
        for name in names
    )
    assert {"text", "gold", "predicted", "right", "confidence", "n_grams"} <= set(table.columns)
    assert table["right"].mean() == pytest.approx(run.data.metrics["test_accuracy"])
    assert table["confidence"].between(0, 1).all()
    assert len(errors) == min(50, (~table["right"]).sum())
    assert not errors["right"].any()
    assert errors["confidence"].is_monotonic_decreasing
    assert errors["confidence"].max() == table.loc[~table["right"], "confidence"].max()
    # The labels of training, never those of test.
    assert (audited["given"] != audited["suggested"]).all()
    assert audited["score"].is_monotonic_increasing
    assert not set(audited["id"]) & set(table["id"])


def test_every_run_has_the_columns_by_which_runs_are_compared(store: Path) -> None:
    for run in runs(store):
        assert set(MAIN.values()) <= set(run.data.metrics)
        assert {"data", "data_digest", "features", "classifier", "kind"} <= set(run.data.tags)
    metrics = metrics_of(store)
    for name in MAIN.values():
        of_tasks = [metrics[task.name][name] for task in TASKS]
        assert metrics["parent"][name] == pytest.approx(sum(of_tasks) / 3)


def test_the_bundle_has_the_metrics_of_its_run_each_with_its_dataset(store: Path) -> None:
    parent = next(r for r in runs(store) if r.data.tags["kind"] == "parent")
    (output,) = parent.outputs.model_outputs
    found = {m.key: m for m in client(store).get_logged_model(output.model_id).metrics}
    for part, name in MAIN.items():
        assert found[name].value == parent.data.metrics[name]
        expected = "train" if part == "cv" else part
        assert found[name].dataset_name == f"files-{expected}"
        assert found[name].dataset_digest == parent.data.tags["data_digest"]


def test_runs_models_and_versions_say_what_they_are(store: Path) -> None:
    c = client(store)
    for run in runs(store):
        note = run.data.tags["mlflow.note.content"]
        name = run.data.tags.get("task")
        for task in TASKS:
            if name in (task.name, None):
                prefix = "" if name else f"{task.name}_"
                value = run.data.metrics[f"{prefix}test_{task.main_metric}"]
                assert f"{value:.3f}" in note.partition("Registered")[0]
                assert f"](#/models/{task_model_name(task.name)}/versions/1)" in note
        assert "](#/models/kaznews/versions/1)" in note
        assert run.data.tags["data_digest"] in note
    for model in c.search_registered_models():
        assert model.description
        version = c.get_model_version(model.name, "1")
        for words in (USE, "**Licence of the training text**\n\nNot stated.", "length: 9-14 words"):
            assert words in version.description
        assert version.tags["data"] == "files"
    experiment = c.get_experiment_by_name("kaznews")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.note.content"] == EXPERIMENT


def test_the_parent_run_has_one_page_that_needs_no_network(tracking_store: Path) -> None:
    import mlflow

    (parent,) = [r for r in runs(tracking_store) if r.data.tags.get("kind") == "parent"]
    page = mlflow.artifacts.load_text(f"runs:/{parent.info.run_id}/report.html")
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png;base64,") == 3 * 8
    for task in TASKS:
        assert task.name.replace("_", " ") in page
        child = next(r for r in runs(tracking_store) if r.data.tags.get("task") == task.name)
        assert f"{child.data.metrics[f'test_{task.main_metric}']:.3f} (" in page


def test_versions_and_aliases(store: Path) -> None:
    c = client(store)
    names = {m.name for m in c.search_registered_models()}
    assert names == {
        "kaznews", "kaznews-topic",
        "kaznews-stance-economic-cooperation", "kaznews-stance-trade-balance",
    }  # fmt: skip
    for name in names:
        assert str(c.get_model_version_by_alias(name, "challenger").version) == "1"
        assert c.get_registered_model(name).aliases.keys() == {"challenger", "champion"}
        assert str(c.get_model_version_by_alias(name, "champion").version) == "1"
    assert "promoted" in c.get_model_version("kaznews", "1").tags["decision"]


def test_the_decision_is_a_table_of_the_parent_run(store: Path) -> None:
    parent = next(r for r in runs(store) if r.data.tags.get("kind") == "parent")
    assert parent.data.tags["promoted"] == "true"
    rows = gate_table(client(store), 1)
    assert all(row[5] is True for row in rows)
    checks = {(row[0], row[1].partition(" ")[2]) for row in rows}
    assert checks == {(t.name, c) for t in TASKS for c in ("at least floor", "above majority")}
    text = Path(client(store).download_artifacts(parent.info.run_id, "gate.md")).read_text("utf-8")
    decision = client(store).get_model_version("kaznews", "1").tags["decision"]
    assert text.startswith(f"**{decision}**")


def test_what_is_printed(store: Path) -> None:
    said = (store / "stdout.txt").read_text("utf-8")
    for words in ("stance_trade_balance", "is champion", "make ui", 'make predict TEXT="…"'):
        assert words in said
    assert "\r" not in said


def test_two_runs_are_byte_equal_and_the_directory_does_not_matter(
    small_file: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, cwd in zip(folders, (tmp_path, Path("/")), strict=True):
        folder.mkdir()
        done = run_train(folder, *QUICK, f"data.files=[{small_file}]", "resamples=50", cwd=cwd)
        assert done.returncode == 0, done.stderr
    first, second = map(metrics_of, folders)
    assert first == second
    assert first["topic"]


def test_mlflow_run_id_of_the_environment_does_not_replace_our_runs(
    small_file: Path, tmp_path: Path
) -> None:
    done = run_train(
        tmp_path,
        *QUICK,
        "task=topic",
        f"data.files=[{small_file}]",
        env={"MLFLOW_RUN_ID": "0" * 32},
    )
    assert done.returncode == 0, done.stderr
    assert len(runs(tmp_path)) == 2


def test_two_jobs_of_a_sweep_share_a_fresh_store_and_one_parent(
    small_file: Path, tmp_path: Path
) -> None:
    done = run_train(
        tmp_path, "--multirun", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *QUICK,
        "task=topic", f"data.files=[{small_file}]", "classifier=complement_nb,linear_svc",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = runs(tmp_path)
    (sweep,) = [r for r in found if r.data.tags.get("kind") == "sweep"]
    jobs = [r for r in found if r.data.tags.get("mlflow.parentRunId") == sweep.info.run_id]
    assert len(jobs) == 2
    assert {r.info.status for r in found} == {"FINISHED"}
    assert "classifier=complement_nb" in done.stdout
    assert "classifier=complement_nb" in sweep.data.tags["mlflow.note.content"]
    assert len([r for r in found if r.data.tags.get("task") == "topic"]) == 2
    assert client(tmp_path).search_registered_models() == []


def test_two_processes_may_open_a_fresh_store_at_once(small_file: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "kaznews.train", *QUICK, "task=topic", f"data.files=[{small_file}]",
        f"hydra.run.dir={tmp_path}/hydra", "n_jobs=1",
    ]  # fmt: skip
    started = [
        subprocess.Popen(
            command, env=store_environment(tmp_path), stderr=subprocess.PIPE, cwd=tmp_path
        )
        for _ in range(2)
    ]
    for process in started:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors.decode()
    assert len(runs(tmp_path)) == 4


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGTERM, "KILLED"), (signal.SIGINT, "KILLED"), (signal.SIGKILL, "RUNNING")],
)
def test_an_interrupted_run_is_marked_and_leaves_no_version(
    small_file: Path, tmp_path: Path, signum: int, status: str
) -> None:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "kaznews.train", "data=files", f"data.files=[{small_file}]",
            f"hydra.run.dir={tmp_path}/hydra", "n_jobs=1", "classifier=logistic_regression",
        ],
        env=store_environment(tmp_path), stdout=subprocess.PIPE, text=True,
        # A test run in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout
    # The first line is printed when the store stands and the data are loaded.
    assert "train" in process.stdout.readline()
    deadline = time.monotonic() + 60
    while not any(r.data.tags.get("kind") == "task" for r in runs(tmp_path)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signum)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert {r.info.status for r in runs(tmp_path)} == {status}
    again = run_train(tmp_path, *QUICK, "register=true", f"data.files=[{small_file}]")
    assert again.returncode == 0, again.stderr
    states = sorted(r.info.status for r in runs(tmp_path))
    assert states == ["FINISHED"] * 4 + ["KILLED"] * 2
    models = client(tmp_path).search_registered_models()
    assert {str(m.latest_versions[0].version) for m in models} == {"1"}


def test_a_run_that_cannot_be_reported_leaves_no_version(small_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys, kaznews.train as train\n"
        "def broken(*arguments, **named): raise RuntimeError('no report')\n"
        "train.render = broken\n"
        "sys.argv = ['train', *sys.argv[1:]]\n"
        "train.main()"
    )
    overrides = [*QUICK, f"data.files=[{small_file}]", "register=true"]
    done = subprocess.run(
        [sys.executable, "-c", code, *overrides, f"hydra.run.dir={tmp_path}/hydra"],
        env=store_environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "no report" in done.stderr
    parent = next(r for r in runs(tmp_path) if r.data.tags["kind"] == "parent")
    assert parent.info.status == "FAILED"
    assert client(tmp_path).search_registered_models() == []


def test_a_failing_run_is_marked_as_failed(small_file: Path, tmp_path: Path) -> None:
    done = run_train(
        tmp_path, *QUICK, f"data.files=[{small_file}]", "classifier.C=-1", "register=true"
    )
    assert done.returncode == 2
    assert "cannot fit LinearSVC" in done.stderr
    assert "Traceback" not in done.stderr
    assert {r.info.status for r in runs(tmp_path)} == {"FAILED"}
    assert client(tmp_path).search_registered_models() == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=nowhere"], "Could not find 'data/nowhere'"),
        (["data=files"], "data.files"),
        (["data=files", "data.files=[nowhere.jsonl]"], "no file matches nowhere.jsonl"),
        (["split.n_folds=1"], "split.n_folds must be at least 2"),
        (["nonsense=1"], "nonsense"),
    ],
)
def test_user_errors_exit_with_2_and_no_traceback(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    done = run_train(tmp_path, *overrides)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def with_split(small_file: Path, target: Path, order: str) -> str:
    """Write the small file with a split column: articles in turn, ten to a round."""
    rows = [json.loads(line) for line in small_file.open(encoding="utf-8")]
    corpus = load(Source("files", (str(small_file),)), TASKS)
    turn = {group: i for i, group in enumerate(sorted(set(corpus.dataset["group"])))}
    names = {"t": "train", "d": "dev", "e": "test"}
    for row, group in zip(rows, corpus.dataset["group"], strict=True):
        row["split"] = names[order[turn[group] % len(order)]]
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return f"data.files=[{target}]"


def test_a_second_champion_needs_a_better_score_on_dev_that_neither_has_seen(
    small_file: Path, tmp_path: Path
) -> None:
    # Isotonic curves of so few sentences lose the rare topics.
    quick = [*QUICK, "register=true", "calibration=temperature"]
    data = with_split(small_file, tmp_path / "one.jsonl", "ttttttddee")
    first = run_train(tmp_path, *quick, data)
    same = run_train(tmp_path, *quick, data)
    assert "kaznews is champion: first model" in first.stdout
    assert "kaznews stays challenger: failed: tasks better" in same.stdout
    c = client(tmp_path)
    assert str(c.get_model_version_by_alias("kaznews", "champion").version) == "1"
    assert str(c.get_model_version_by_alias("kaznews", "challenger").version) == "2"
    swapped = with_split(small_file, tmp_path / "two.jsonl", "ddttttttee")
    third = run_train(tmp_path, *quick, swapped)
    assert "stays challenger: the champion was trained on" in third.stdout
    better = run_train(tmp_path, *quick, data, "features=char_wb")
    assert "kaznews is champion: better on" in better.stdout
    aliases = {k: str(v) for k, v in c.get_registered_model("kaznews").aliases.items()}
    assert aliases == {"challenger": "4", "champion": "4", "previous": "1"}
    checks = [row[1] for row in gate_table(c, 4)]
    assert "log_loss within margin" in checks
    assert "f1_sport not collapsed" in checks or "f1_none not collapsed" in checks
    for words, said, champion in (
        (["rollback"], "version 1 is champion again", "1"),
        (["promote", "--version", "3"], "version 3 is champion", "3"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "kaznews.cli", *words],
            env=store_environment(tmp_path), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said in done.stdout
        topic = c.get_model_version_by_alias("kaznews-topic", "champion")
        assert str(topic.version) == champion


def gate_table(c: Any, version: int) -> list[list[Any]]:
    """Return the rows of the decision about a bundle version."""
    run_id = c.get_model_version("kaznews", str(version)).run_id
    table = json.loads(Path(c.download_artifacts(run_id, "gate.json")).read_text("utf-8"))
    return list(table["data"])


def test_two_first_trainings_at_once_are_one_first_champion_and_one_comparison(
    small_file: Path, tmp_path: Path
) -> None:
    # Of two that had both found no champion, both would be the first model.
    command = [
        sys.executable, "-m", "kaznews.train", *QUICK, f"data.files=[{small_file}]",
        f"hydra.run.dir={tmp_path}/hydra", "n_jobs=1", "register=true",
    ]  # fmt: skip
    started = [
        subprocess.Popen(
            command, env=store_environment(tmp_path), cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = []
    for process in started:
        out, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
        said.append(out)
    assert sum("is champion: first model" in out for out in said) == 1
    assert sum("stays challenger: failed: tasks better" in out for out in said) == 1
    c = client(tmp_path)
    champion = str(c.get_model_version_by_alias("kaznews", "champion").version)
    assert "first model" in c.get_model_version("kaznews", champion).tags["decision"]
