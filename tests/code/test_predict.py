"""Inference: every kind of input, through Python, MLflow, REST, with and without this package."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.conftest import TASKS, store_environment

from kaznews import Bundle, load
from kaznews.errors import KaznewsError
from kaznews.tracking import task_model_name

TEXTS = [
    "Екі ел арасындағы сауда айналымы бір миллиард доллардан асты.",
    "Құрама төрт медаль жеңіп алды.",
    "Ауданда өрт шығып, екі адам зардап шекті.",
]
COLUMNS = [c for t in TASKS for c in (t.name, f"{t.name}_confidence", f"{t.name}_abstain")]
COLUMNS += ["script", "language"]


@pytest.fixture
def bundle(tracking_store: Path) -> Bundle:
    return load()


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        tuple,
        np.array,
        pd.Series,
        lambda texts: pd.DataFrame({"n": range(len(texts)), "text": texts}),
        lambda texts: {"text": texts},
    ],
)
def test_every_kind_of_input_gives_one_row_a_sentence_in_order(bundle: Bundle, wrap: Any) -> None:
    answers = bundle.predict(wrap(TEXTS))
    assert answers.columns.tolist() == COLUMNS
    backwards = bundle.predict(TEXTS[::-1])
    assert answers["topic"].tolist() == backwards["topic"].tolist()[::-1]
    for task in TASKS:
        assert set(answers[task.name]) <= set(task.labels)
        assert answers[f"{task.name}_confidence"].between(1 / len(task.labels) - 1e-9, 1).all()


def test_a_task_abstains_below_the_threshold_that_training_has_found(bundle: Bundle) -> None:
    import mlflow

    answers = bundle.predict(TEXTS)
    for t in bundle.tasks:
        assert answers[f"{t.task.name}_abstain"].dtype == bool
        logged = mlflow.models.get_model_info(
            f"models:/{task_model_name(t.task.name)}@challenger"
        ).metadata
        assert logged["abstain_threshold"] == t.threshold
        confidence = float(answers[f"{t.task.name}_confidence"].iloc[0])
        for threshold, abstains in ((confidence, False), (np.nextafter(confidence, 1), True)):
            one = Bundle((replace(t, threshold=threshold),), bundle.seen).predict(TEXTS[:1])
            assert one[f"{t.task.name}_abstain"].tolist() == [abstains]


def test_explain_returns_the_same_answers_and_what_carried_them(bundle: Bundle) -> None:
    given = pd.Series(TEXTS, index=[7, 5, 3])
    explained = bundle.predict(given, explain=True)
    pd.testing.assert_frame_equal(explained.answers, bundle.predict(given))
    assert len(explained) == 3
    for t in bundle.tasks:
        linear = t.pipeline.named_steps["classifier"]
        values = linear.decision_function(t.pipeline[:-1].transform(pd.DataFrame({"text": TEXTS})))
        for i, e in enumerate(explained[t.task.name]):
            assert e.label == explained.answers[t.task.name].iloc[i]
            k = t.pipeline.classes_.tolist().index(e.label)
            total = e.intercept + sum(weight for _, weight in e.weights)
            assert total == pytest.approx(e.decision, rel=1e-12)
            assert total == pytest.approx(values[i, k], rel=1e-12)
    assert len(bundle.predict([], explain=True)) == 0
    with pytest.raises(KaznewsError, match="row 0 is not a string"):
        bundle.predict([None], explain=True)


@pytest.mark.parametrize(
    ("text", "script", "language"),
    [
        ("Екі ел сауда айналымын арттыруға уағдаласты.", "cyrl", "kk"),
        ("Qazaqstan eksportty ūlğaitty.", "latn", "kk"),
        ("Qazaqstan eksportty ulǵaıtty.", "latn-2018", "kk"),
        ("Стороны договорились увеличить товарооборот между двумя странами.", "cyrl", "ru"),
        ("The two sides agreed to increase their trade.", "other", "other"),
        ("100 500", "other", "und"),
    ],
)
def test_script_and_language_stand_beside_and_what_is_no_kazakh_abstains(
    bundle: Bundle, text: str, script: str, language: str
) -> None:
    sure = replace(bundle, tasks=tuple(replace(t, threshold=0.0) for t in bundle.tasks))
    row = sure.predict([text]).iloc[0]
    assert (row["script"], row["language"]) == (script, language)
    assert {bool(row[f"{t.name}_abstain"]) for t in TASKS} == {language != "kk"}


def test_an_evaluation_says_what_abstaining_comes_to(bundle: Bundle, small_file: Path) -> None:
    rows = [json.loads(line) for line in small_file.open(encoding="utf-8")]
    report = bundle.score(rows, resamples=0)["topic"]
    answers = bundle.predict([row["text"] for row in rows])
    clear = np.array([row["topic"] != "unclear" for row in rows])
    assert 0 < clear.sum() < len(rows)
    figures = report.as_dict()
    abstains = answers["topic_abstain"].to_numpy()
    assert figures["abstain_coverage"] == pytest.approx(np.mean(~abstains[clear]))
    assert figures["abstain_rate_unclear"] == pytest.approx(np.mean(abstains[~clear]))
    right = answers["topic"].to_numpy() == np.array([row["topic"] for row in rows])
    assert figures["abstain_accuracy"] == pytest.approx(np.mean(right[clear & ~abstains]))


def test_the_index_of_a_series_is_kept(bundle: Bundle) -> None:
    assert bundle.predict(pd.Series(TEXTS, index=[7, 5, 3])).index.tolist() == [7, 5, 3]


@pytest.mark.parametrize("empty", [[], pd.Series([], dtype=object), pd.DataFrame({"text": []})])
def test_empty_input_gives_an_empty_frame_with_the_columns(bundle: Bundle, empty: Any) -> None:
    answers = bundle.predict(empty)
    assert answers.columns.tolist() == COLUMNS
    assert len(answers) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["бір", None], "row 1 is not a string: None"),
        (["бір", 3.5], "row 1 is not a string: 3.5"),
        (pd.Series(["бір", "екі", float("nan")]), "row 2 is not a string: nan"),
        (pd.DataFrame({"sentence": ["бір"]}), "no column 'text'; its columns are sentence"),
        ("бір", "got one string"),
        (7, "expected a list of sentences, got int"),
    ],
)
def test_bad_rows_are_named_by_position(bundle: Bundle, data: Any, message: str) -> None:
    with pytest.raises(KaznewsError, match=message):
        bundle.predict(data)


def test_batches_do_not_change_the_answer(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bundle.predict(TEXTS * 3)
    monkeypatch.setattr("kaznews.predict.BATCH", 2)
    pd.testing.assert_frame_equal(bundle.predict(TEXTS * 3), whole)


@pytest.mark.parametrize("text", ["", " ", "\0", "\ud800", "🙂", "a" * 100_000, "١٢٣", "\u0301"])
def test_odd_sentences_get_an_answer(bundle: Bundle, text: str) -> None:
    assert len(bundle.predict([text])) == 1


def test_a_bundle_survives_saving(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "bundle")
    again = load(str(tmp_path / "bundle"))
    pd.testing.assert_frame_equal(again.predict(TEXTS), bundle.predict(TEXTS))
    assert (again.seen == bundle.seen).all()
    assert [t.threshold for t in again.tasks] == [t.threshold for t in bundle.tasks]


def test_the_bundle_knows_what_it_was_trained_on(bundle: Bundle, small_file: Path) -> None:
    rows = [json.loads(line) for line in small_file.open(encoding="utf-8")]
    seen = bundle.has_seen([r["text"] for r in rows], ["?"] * len(rows))
    assert 0.6 < np.mean(seen) < 0.8
    assert bundle.has_seen(["Мүлде басқа сөйлем."], ["?"]) == [False]


@pytest.mark.parametrize("damage", ["no manifest", "other format", "no model", "pickle inside"])
def test_a_folder_that_is_no_bundle_is_refused(bundle: Bundle, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "bundle"
    bundle.save(folder)
    if damage == "no manifest":
        (folder / "bundle.json").unlink()
    elif damage == "other format":
        manifest = json.loads((folder / "bundle.json").read_text("utf-8"))
        (folder / "bundle.json").write_text(json.dumps(manifest | {"format": 99}), "utf-8")
    elif damage == "no model":
        (folder / "topic.skops").unlink()
    else:
        np.save(folder / "seen.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(KaznewsError, match="bundle"):
        load(str(folder))


def test_a_model_that_asks_for_other_types_is_refused_by_name(
    bundle: Bundle, tmp_path: Path
) -> None:
    import skops.io

    class Stranger:
        def predict_proba(self, frame: Any) -> Any:
            return frame

    folder = tmp_path / "bundle"
    bundle.save(folder)
    skops.io.dump(Stranger(), folder / "topic.skops")
    with pytest.raises(KaznewsError, match=r"refused to load.*Stranger"):
        load(str(folder))


def test_pyfunc_takes_lists_series_and_frames(tracking_store: Path) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model("models:/kaznews@champion")
    expected = load().predict(TEXTS)
    for data in (TEXTS, pd.Series(TEXTS), pd.DataFrame({"text": TEXTS})):
        pd.testing.assert_frame_equal(model.predict(data), expected)
    assert model.predict([]).columns.tolist() == COLUMNS
    with pytest.raises(mlflow.MlflowException, match="row 1 is not a string: None"):
        model.predict(["бір", None])


def test_three_rows_through_the_pyfunc_of_a_task_model_are_three_predictions(
    tracking_store: Path,
) -> None:
    import mlflow

    for task in TASKS:
        model = mlflow.pyfunc.load_model(f"models:/{task_model_name(task.name)}@challenger")
        assert len(model.predict(pd.DataFrame({"text": TEXTS}))) == 3
        assert model.metadata.get_input_schema().input_names() == ["text"]


def test_a_task_model_loads_where_this_project_is_not_installed(
    tracking_store: Path, tmp_path: Path
) -> None:
    import mlflow

    name = task_model_name("topic")
    folder = mlflow.artifacts.download_artifacts(
        f"models:/{name}@challenger", dst_path=str(tmp_path)
    )
    # -S keeps the editable install's path hook out; the packages beside it are named by hand.
    packages = [p for p in sys.path if p.endswith("site-packages")]
    code = (
        "import sys, json, mlflow.sklearn, pandas as pd\n"
        "try:\n    import kaznews\n    raise SystemExit('kaznews is on the path')\n"
        "except ImportError:\n    pass\n"
        "model = mlflow.sklearn.load_model(sys.argv[1])\n"
        "print(json.dumps(model.predict(pd.DataFrame({'text': json.loads(sys.argv[2])})).tolist()))"
    )
    said = subprocess.run(
        [sys.executable, "-S", "-c", code, folder, json.dumps(TEXTS)],
        env=store_environment(tmp_path) | {"PYTHONPATH": os.pathsep.join(packages)},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    expected = load().predict(TEXTS)["topic"].tolist()
    assert json.loads(said.stdout.splitlines()[-1]) == expected


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(port: int, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize("name", ["kaznews@champion", "kaznews-topic@challenger"])
def test_rest_answers_one_prediction_a_row(store: Path, name: str) -> None:
    port = free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    server = subprocess.Popen(
        [
            sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}",
            "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port),
        ],
        env=store_environment(store) | {"PATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2)
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        frame = {"dataframe_split": {"columns": ["text"], "data": [[t] for t in TEXTS]}}
        status, answer = post(port, frame)
        assert status == 200
        assert len(answer["predictions"]) == 3
        if name.startswith("kaznews@"):
            assert set(answer["predictions"][0]) == set(COLUMNS)
            assert post(port, {"inputs": TEXTS}) == (200, answer)
            records = {"dataframe_records": [{"text": "бір"}, {"text": None}]}
            status, answer = post(port, records)
            assert status == 400
            assert "row 1 is not a string" in json.dumps(answer)
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def test_a_copied_model_folder_can_be_loaded(tracking_store: Path, tmp_path: Path) -> None:
    import mlflow

    source = mlflow.artifacts.download_artifacts("models:/kaznews@champion")
    shutil.copytree(source, tmp_path / "copy")
    assert load(str(tmp_path / "copy")).predict(TEXTS).shape == (3, len(COLUMNS))
