"""Markdown of runs and model cards: tables, and cards that a registry takes whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import TOPIC

from kaznews.data import load
from kaznews.estimators import tuples_for_ranges
from kaznews.fit import TaskResult, run_task
from kaznews.gate import Decision
from kaznews.notes import LONGEST, bundle_card, link, run_note, table, task_card, task_note
from kaznews.reading import Source
from kaznews.slices import Slice
from kaznews.split import split_corpus


@pytest.fixture(scope="module")
def trained(small_file: Path) -> tuple[TaskResult, object, object]:
    """Return a task trained on the small file, its corpus and split."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    corpus = load(Source("small", (str(small_file),), licence="CC0, for a test"), [TOPIC])
    split = split_corpus(corpus, dev_size=0.2, test_size=0.2, n_folds=3, seed=0)
    vectorizer = tuples_for_ranges(TfidfVectorizer(max_features=300))
    result = run_task(
        TOPIC, corpus, split, _texts(corpus, vectorizer), vectorizer, LinearSVC(),
        n_jobs=1, resamples=20, seed=0,
    )  # fmt: skip
    return result, corpus, split


def _texts(corpus: object, vectorizer: object) -> object:
    from kaznews.folds import tokenize

    return tokenize(list(corpus.dataset["text"]), vectorizer)  # type: ignore[attr-defined]


def test_a_table_cannot_be_broken_by_what_stands_in_it() -> None:
    lines = table(["a", "b"], [["x|y", "one\ntwo"]]).splitlines()
    assert len(lines) == 3
    assert lines[1] == "| --- | --- |"
    assert "x\\|y" in lines[2]
    assert "one two" in lines[2]


def test_the_first_lines_of_a_run_have_its_numbers_and_its_versions(trained) -> None:  # type: ignore[no-untyped-def]
    result, corpus, split = trained
    score = f"{result.reports['test'].metrics['macro_f1']:.3f}"
    note = task_note("a title", result, corpus, split, {"kaznews-topic": 7})
    assert score in note.splitlines()[0]
    assert link("kaznews-topic", 7) in note.splitlines()[2]
    assert corpus.digest in note
    alone = run_note("a title", [result], corpus, split, {}, None)
    assert score in alone.splitlines()[0]
    assert "No version was registered." in alone
    judged = run_note("a title", [result], corpus, split, {}, Decision(False, "too bad"))
    assert "Gate: not promoted: too bad." in judged


def test_a_card_says_what_data_scores_limits_and_licence_are(trained) -> None:  # type: ignore[no-untyped-def]
    result, corpus, split = trained
    card = task_card("a title", result, corpus, split)
    assert "CC0, for a test" in card
    for title in ("Scores", "Intended use", "Data", "Limits", "By kind of sentence"):
        assert f"**{title}" in card
    for kind in {(s.kind, s.value) for s in result.slices}:
        assert f"{kind[0]}: {kind[1]}" in card
    assert "more in `slices.json`" not in card


def test_a_card_is_never_longer_than_a_registry_takes(trained) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import replace

    result, corpus, split = trained
    report = result.slices[0].report
    many = replace(result, slices=tuple(Slice("source", f"s{i:03}", report) for i in range(200)))
    versions = {"kaznews-topic": 1}
    decision = Decision(True, "better")
    card = bundle_card("a title", [many, many], corpus, split, versions, decision)
    assert LONGEST - 300 < len(card) <= LONGEST
    assert card.splitlines()[-1].endswith("more in `slices.json` of the task runs.")
    assert link("kaznews-topic", 1) in card
