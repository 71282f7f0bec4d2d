"""The commands behind the tables: fair splits, honest records, and README as they made it."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import peers, readme, seconds, sib200, systems, transfer
from benchmarks.peers import Asked
from benchmarks.sib200 import Data, Entry
from tests.conftest import STANCES, TASKS

from kaznews.data import Corpus, Task, load
from kaznews.reading import Source
from kaznews.split import Split, split_corpus

LABELS = np.array(["a"] * 500 + ["b"] * 400 + ["c"] * 104)


def test_a_resplit_uses_every_sentence_once_in_the_sizes_of_the_official_one() -> None:
    parts = sib200.resplit(LABELS, 3)
    assert {name: len(rows) for name, rows in parts.items()} == sib200.SIZES
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(LABELS)))


def test_a_resplit_is_that_of_its_seed_and_keeps_the_shares_of_the_labels() -> None:
    first, again, other = (sib200.resplit(LABELS, seed) for seed in (0, 0, 1))
    assert all((first[name] == again[name]).all() for name in first)
    assert set(first["test"]) != set(other["test"])
    for rows in first.values():
        assert (LABELS[rows] == "b").mean() == pytest.approx(400 / 1004, abs=0.01)


def little() -> Data:
    """Return sentences of which all but their number tells the label."""
    y = np.array(["sport", "travel", "health"] * 20)
    texts = np.array([f"{label} сөйлем {i}" for i, label in enumerate(y)], dtype=object)
    part = np.array((["train"] * 4 + ["dev", "test"]) * 10)
    task = Task("sib200", ("sport", "travel", "health"))
    return Data(task, texts, y, part, np.array([], dtype=object), "0")


ENTRIES = (
    sib200.fixed("text", "majority"),
    Entry("chosen", (("text", "majority"), ("char_wb (2, 5)", "Complement NB"))),
)


def test_the_best_candidate_is_chosen_and_of_equals_the_first() -> None:
    data = little()
    assert sib200.choose(ENTRIES[1].candidates, data.texts, data.y)[1] == "Complement NB"
    equal = (("char_wb (2, 5)", "linear SVC, C 1"), ("char_wb (2, 5)", "linear SVC"))
    assert sib200.choose(equal, data.texts, data.y) == equal[0]


def test_labels_of_dev_and_test_have_no_say_in_what_is_chosen_and_fitted() -> None:
    data = little()
    parts = sib200.official(data.part)
    other = data.y.copy()
    other[data.part == "test"] = "sport"
    turned = replace(data, y=other)
    candidate = ("char_wb (2, 5)", "linear SVC")
    train_and_dev = np.concatenate([parts["train"], parts["dev"]])
    for kept in (parts["train"], train_and_dev):
        said = [
            sib200.say(sib200.fitted(ENTRIES[1], candidate, one, kept), one.texts[parts["test"]])
            for one in (data, turned)
        ]
        assert (said[0] == said[1]).all()
    other[data.part == "dev"] = "sport"
    found = [sib200.run_split(one, parts, ENTRIES, "test") for one in (data, turned)]
    assert found[0]["chosen"]["candidate"] == found[1]["chosen"]["candidate"]
    assert found[0]["chosen"]["train"]["accuracy"] == [1.0]


def test_dev_is_asked_only_of_what_has_not_learned_from_it() -> None:
    data = little()
    (found,) = sib200.run_split(data, sib200.official(data.part), ENTRIES[:1], "dev").values()
    assert set(found) == {"candidate", "train"}


def sib_record() -> dict[str, Any]:
    result = {"candidate": ["char_wb (2, 5)", "Complement NB"]}
    for name, value in (("train", 0.5), ("train and dev", 0.6)):
        result[name] = {m: [value, value - 0.1, value + 0.1] for m in sib200.METRICS}
    other = {**result, "train": {m: [0.7] for m in sib200.METRICS}}
    return {
        "split": "test", "sizes": sib200.SIZES, "resplits": 2, "unlabelled": 9, "packages": {},
        "encoding_ms": 30.0,
        "entries": [
            {"name": "chosen", "chosen": True, "official": result, "resplits": [result, other],
             "fit_seconds": 1.5, "sentences_per_second": 2000.0},
            {"name": "fastText", "skipped": "fastText is not installed"},
        ],
    }  # fmt: skip


def test_the_table_of_resplits_has_mean_and_deviation_and_says_what_is_left_out() -> None:
    text = sib200.as_markdown(sib_record())
    row = next(line for line in text.splitlines() if line.startswith("| chosen"))
    assert "0.600 (0.50–0.70) | 0.600 ± 0.141 | 0.600 ± 0.000 | 0.600 ± 0.000 | 1.5 | 2,000" in row
    assert "- fastText: left out, fastText is not installed." in text
    assert "- chosen, of 3 splits: char_wb (2, 5), Complement NB (3)." in text


def test_sib200_of_other_sizes_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    for part in ("train", "dev", "test"):
        line = f"1\tsports\t{part} туралы бір сөйлем"
        (tmp_path / f"{part}.tsv").write_text(f"index_id\tcategory\ttext\n{line}\n", "utf-8")
    monkeypatch.setenv("KAZNEWS_SIB200", str(tmp_path))
    with pytest.raises(sib200.KaznewsError, match="'train': 1"):
        sib200.read()


@pytest.fixture(scope="module")
def small(small_file: Path) -> tuple[Corpus, Split]:
    corpus = load(Source("small", files=(str(small_file),)), TASKS)
    return corpus, split_corpus(corpus, dev_size=0.15, test_size=0.15, n_folds=3, seed=0)


@pytest.mark.parametrize(
    "overrides", [s.fit.args[0] for s in systems.SYSTEMS if s.kind == "kaznews"]
)
def test_every_preset_of_the_list_composes(overrides: tuple[str, ...]) -> None:
    resolved = systems.configured(*overrides)
    assert resolved.settings.data.name == "both"
    assert set(resolved.settings.tasks) == {task.name for task in TASKS}


def test_a_system_learns_from_train_alone(small: tuple[Corpus, Split]) -> None:
    corpus, split = small
    texts = list(corpus.dataset["text"])
    for task in corpus.tasks:
        rows, y = systems.learned_rows(corpus, split, task)
        assert (split.part[rows] == "train").all()
        assert not set(y) & {"", *task.excluded}
    seen: dict[str, list[str]] = {}

    def spy(known: list[str], y: Any) -> None:
        seen.setdefault("texts", []).extend(known)

    systems.each_task(corpus, split, spy)
    assert set(seen["texts"]) <= {texts[i] for i in np.flatnonzero(split.part == "train")}


def test_a_preset_answers_as_a_stock_pipeline_of_the_same_parts(
    small: tuple[Corpus, Split], small_file: Path
) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    corpus, split = small
    overrides = [
        "data=files", f"data.files=['{small_file}']", "features=word", "calibration=temperature",
    ]  # fmt: skip
    ours = systems.preset(overrides, corpus, split)

    def same() -> Any:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        return make_pipeline(vectorizer, LinearSVC(C=0.5, class_weight="balanced", random_state=0))

    texts = [corpus.dataset["text"][i] for i in np.flatnonzero(split.part == "test")]
    said, stock = ours.predict(texts), systems.stock(same, corpus, split).predict(texts)
    assert ours.encoded == 0
    for task in TASKS:
        assert said[task.name].tolist() == stock[task.name].tolist()


def test_what_is_not_installed_is_skipped_with_the_reason(monkeypatch: Any) -> None:
    monkeypatch.setattr(systems, "find_spec", lambda name: None)
    absent = {s.name: s.absent() for s in systems.SYSTEMS}
    assert absent["fastText"] == "fastText (make .venv/.bench) is not installed"
    assert "make encoder" in absent["frozen e5, logistic regression"]
    assert absent["default"] == ""


def test_contrast_groups_count_as_right_where_both_stances_of_all_members_are(
    tmp_path: Path,
) -> None:
    rows = [
        {"text": f"сөйлем {i}", "article": f"a{i}", "contrast": contrast,
         **{task.name: label for task in STANCES}}
        for i, (contrast, label) in enumerate(
            [("x", "favor"), ("x", "against"), ("y", "favor"), ("y", "none"), (None, "none")]
        )
    ]  # fmt: skip

    path = tmp_path / "contrast.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    corpus = load(Source("contrast", files=(str(path),)), STANCES)
    said = {task.name: np.array(corpus.labels(task), dtype=object) for task in STANCES}
    said[STANCES[0].name][3] = "favor"
    found = peers.score_all(STANCES, said, Asked(corpus, np.arange(5)), 20, 0)
    assert found["contrast"]["groups"] == 2
    assert found["contrast"]["wholly_right"] == 0.5
    one = found["contrast"][STANCES[0].name]
    assert one["n"] == 4
    assert one["f1_favor"][0] == pytest.approx(0.8)
    assert one["f1_favor"][1] <= 0.8 <= one["f1_favor"][2]
    assert found[STANCES[1].name]["f1_against"][0] == 1.0


def peers_record() -> dict[str, Any]:
    stance = {"n": 9, "f1_favor": [0.7, 0.61, 0.79], "f1_against": [0.4, 0.3, 0.5]}
    scores = {
        "topic": {"n": 9, "accuracy": [0.8, 0.7, 0.9], "macro_f1": [0.75, 0.7, 0.8]},
        **{task.name: stance for task in STANCES},
    }
    contrast = {task.name: stance for task in STANCES} | {"groups": 4, "wholly_right": 0.25}
    whole = {"fit_seconds": 1234.5, "sentences_per_second": 9876, "real": scores,
             "written": {**scores, "contrast": contrast}}  # fmt: skip
    return {
        "split": "test", "train": 1000, "tests": {"real": 9, "written": 8}, "encoding_ms": 30.0,
        "python": "3", "packages": {"scikit-learn": "1"},
        "systems": [
            {"name": "majority", "kind": "yardstick", "note": "", **whole},
            {"name": "default", "kind": "kaznews", "note": "without its teacher", **whole},
            {"name": "fastText", "kind": "peer", "skipped": "it is not installed"},
        ],
    }  # fmt: skip


def test_the_tables_of_peers_have_intervals_times_and_what_is_left_out() -> None:
    text = peers.as_markdown(peers_record())
    scores = "0.800 (0.70–0.90) | 0.750 (0.70–0.80) | 0.700 (0.61–0.79) | 0.700 (0.61–0.79)"
    assert f"| kaznews, default | {scores} | 1,234.5 | 9,876 |" in text
    pair = "0.700 (0.61–0.79) / 0.400 (0.30–0.50)"
    assert f"| {pair} | {pair} | {pair} | {pair} | 25% of 4 |" in text
    assert "- kaznews, default: without its teacher." in text
    assert "- fastText: left out, it is not installed." in text


def test_the_plot_shows_every_measured_system_but_the_yardstick() -> None:
    drawn = peers.figure(peers_record())
    assert [text.get_text() for text in drawn.axes[0].texts] == ["kaznews, default"]
    assert drawn.axes[0].get_xscale() == "log"


def test_tables_of_readme_are_made_from_the_record(tmp_path: Path) -> None:
    text = "before\n<!-- table peers -->\nold\n<!-- end -->\nbehind\n"
    assert readme.with_tables(text, tmp_path) == text
    (tmp_path / "peers.json").write_text(json.dumps(peers_record()), "utf-8")
    made = readme.with_tables(text, tmp_path)
    assert "old" not in made
    assert "| kaznews, default |" in made
    assert readme.with_tables(made, tmp_path) == made


def test_readme_and_the_data_card_say_what_was_recorded() -> None:
    for page in readme.PAGES:
        text = page.read_text("utf-8")
        assert readme.with_tables(text) == text
    text = readme.PAGES[0].read_text("utf-8")
    assert {name for name in readme.TABLES if f"<!-- table {name} -->" in text} == {
        "transfer", "peers", "sib200",
    }  # fmt: skip


@pytest.mark.parametrize("module", [transfer, peers, sib200], ids=lambda m: m.__name__)
def test_a_recorded_table_is_that_of_its_record(module: Any) -> None:
    name = module.__name__.split(".")[-1]
    record = readme.RESULTS / f"{name}.json"
    if not record.exists():
        pytest.skip(f"{name} has not been measured yet: make results")
    kept = record.with_suffix(".md").read_text("utf-8")
    assert kept == module.as_markdown(json.loads(record.read_text("utf-8")))


@pytest.mark.parametrize(("module", "function"), seconds.STEPS.values())
def test_the_steps_that_are_timed_exist(module: str, function: str) -> None:
    assert callable(getattr(importlib.import_module(module), function))
