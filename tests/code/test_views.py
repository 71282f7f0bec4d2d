"""Saved views: what they hold, and that those of people and of other tasks are left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TASKS, TOPIC

from kaznews import tracking, ui
from kaznews.data import Task
from kaznews.views import ALL_RUNS, CONTEST, TAG_PREFIX, address, models_key, saved_views

# What MLflow keeps of a view; another key would be dropped without a word.
KNOWN = {
    "searchFilter", "orderByKey", "orderByAsc", "selectedColumns", "columnOrder", "columnWidths",
    "compareRunCharts", "compareRunSections", "isAccordionReordered",
}  # fmt: skip


def states(tasks: tuple[Task, ...]) -> dict[str, dict[str, Any]]:
    found = {k.removeprefix(TAG_PREFIX): json.loads(v) for k, v in saved_views(tasks).items()}
    for envelope in found.values():
        assert isinstance(envelope["name"], str)
        assert isinstance(envelope["createdAt"], int)
    return {key: json.loads(envelope["state"]) for key, envelope in found.items()}


def test_there_is_a_view_of_all_runs_of_the_contest_and_of_each_task() -> None:
    found = states(TASKS)
    assert set(found) == {ALL_RUNS, CONTEST, *map(models_key, TASKS)}
    assert all(set(state) <= KNOWN for state in found.values())
    # Only so does MLflow fold children under their parents.
    assert (found[ALL_RUNS]["searchFilter"], found[ALL_RUNS]["orderByKey"]) == (
        "", "attributes.start_time",
    )  # fmt: skip
    assert "metrics.`main_dev`" in found[ALL_RUNS]["selectedColumns"]
    topic = found[models_key(TOPIC)]
    assert "tags.task = 'topic'" in topic["searchFilter"]
    assert topic["orderByKey"] == "metrics.`dev_macro_f1`"
    assert topic["compareRunCharts"][0]["metricKey"] == "dev_macro_f1"
    # What MLflow takes as the value of a tag, however many labels a task has.
    large = Task("large", tuple(f"a_label_of_some_length_{i}" for i in range(500)))
    assert all(len(value) <= 20_000 for value in saved_views([large]).values())


def test_the_columns_of_views_exist_in_the_runs_of_a_training(tracking_store: Path) -> None:
    client = tracking.registry()
    for key, state in states(TASKS).items():
        runs = client.search_runs(["1"], state["searchFilter"])
        assert runs, key
        known = {f"metrics.`{m}`" for run in runs for m in run.data.metrics}
        known |= {f"tags.`{t}`" for run in runs for t in run.data.tags}
        assert set(state["selectedColumns"]) <= known, key
        charts = {f"metrics.`{c['metricKey']}`" for c in state.get("compareRunCharts", [])}
        assert charts <= known, key


def test_views_of_people_stay_and_a_run_of_one_task_keeps_those_of_several(
    tracking_store: Path,
) -> None:
    client = tracking.registry()
    experiment = client.create_experiment("views")
    own = f"{TAG_PREFIX}of-a-person"
    client.set_experiment_tag(experiment, own, "{}")
    ui.install_views(experiment, TASKS)
    ui.install_views(experiment, [Task("sib200", ("a", "b"))])
    tags = client.get_experiment(experiment).tags
    assert tags[own] == "{}"
    expected = saved_views(TASKS)
    assert {key: tags[key] for key in expected} == expected
    assert TAG_PREFIX + "models-sib200" in tags
    # A view that an older version of this project has written is replaced.
    client.set_experiment_tag(experiment, TAG_PREFIX + ALL_RUNS, "old")
    ui.install_views(experiment, TASKS)
    assert client.get_experiment(experiment).tags[TAG_PREFIX + ALL_RUNS] != "old"


def test_ui_prints_the_address_of_all_runs_and_opens_it_if_asked(
    tracking_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, words: started.append(words))
    monkeypatch.setattr("subprocess.Popen", lambda words: started.append(words))
    ui.serve(5123)
    page = f"http://127.0.0.1:5123{address('1')}"
    assert page in capsys.readouterr().out
    assert started[0][1:4] == ["-m", "mlflow", "server"]
    assert f"sqlite:///{tracking_store}/mlflow.db" in started[0]
    started.clear()
    ui.serve(5123, show=True)
    assert started[0][1:] == ["-m", "kaznews.ui", page]


def test_the_browser_is_opened_when_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda page: opened.append(page) or True)
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{server.server_port}{address('1')}"
        assert ui.open_when_up(page, patience=10)
        server.shutdown()
    assert opened == [page]
    # Nobody listens any more.
    assert not ui.open_when_up(page, patience=0.1)
