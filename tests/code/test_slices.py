"""Slices score what they say they score; yardsticks are drawn by article and never see test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC
from tests.conftest import STANCES, TOPIC

from kaznews.data import load
from kaznews.reading import Source
from kaznews.scores import Scored
from kaznews.slices import (
    contrast_consistency,
    kinds_of,
    main_metric_of,
    score_slices,
    slice_metrics,
    slice_rows,
)
from kaznews.yardsticks import fit_words, learning_curve, subsets

STANCE = STANCES[0]
CLASSES = np.array(["against", "favor", "none"])


def scored(true: list[str], said: list[str], groups: list[str] | None = None) -> Scored:
    probability = np.array([np.where(label == CLASSES, 0.8, 0.1) for label in said])
    articles = np.array(groups or [str(i) for i in range(len(true))], dtype=object)
    return Scored(np.array(true), probability, CLASSES, articles)


def test_kinds_of_sentences(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [
        {"text": "Екі ел келісті", "genre": "agency", "contrast": "c1", "topic": "diplomacy"},
        {"text": "екі ел келіспеді " * 5, "script": "cyrl", "contrast": "c1", "topic": "sport"},
        {"text": "Баға " * 25, "genre": "quote", "script": "latn", "topic": "economy"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    kinds = kinds_of(load(Source("files", (str(path),)), (TOPIC,)), np.array([2, 0, 1]))
    assert kinds == {
        "length": ["21 words or more", "1-8 words", "15-20 words"],
        "case": ["cased", "cased", "lower"],
        "genre": ["quote", "agency", "unknown"],
        "script": ["latn", "unknown", "cyrl"],
        "contrast": ["alone", "in a group", "in a group"],
    }


def test_a_slice_is_scored_on_its_own_sentences() -> None:
    true = ["favor", "against", "none"] * 16
    said = ["favor", "against", "none"] * 8 + ["none", "none", "none"] * 8
    kinds = {
        "genre": ["a"] * 24 + ["b"] * 24,
        "source": ["one"] * 48,
        "case": ["x"] * 40 + ["y"] * 8,
    }
    slices = score_slices(STANCE, scored(true, said), kinds, resamples=50)
    # One source tells nothing apart; eight sentences are too few.
    assert [(s.kind, s.value, s.report.n) for s in slices] == [
        ("genre", "a", 24), ("genre", "b", 24), ("case", "x", 40),
    ]  # fmt: skip
    assert [s.report.metrics["accuracy"] for s in slices[:2]] == [1, pytest.approx(1 / 3)]
    flat = slice_metrics(STANCE, slices)
    assert flat["test_by_genre/a_f_favor_against"] == 1
    assert flat["test_by_genre/b_f_favor_against"] == 0
    row = slice_rows(STANCE, slices)[1]
    assert row["low"] <= row["value"] <= row["high"]


def test_lengths_stand_in_their_own_order() -> None:
    names = ["9-14 words", "21 words or more", "1-8 words", "15-20 words"]
    kinds = {"length": [name for name in names for _ in range(10)]}
    slices = score_slices(STANCE, scored(["none"] * 40, ["none"] * 40), kinds)
    assert [s.value for s in slices] == [names[i] for i in (2, 0, 3, 1)]


def test_a_slice_with_few_of_a_stance_is_compared_by_accuracy() -> None:
    kinds = {"genre": ["a"] * 10 + ["b"] * 10}
    # Five of each stance are enough, four are not.
    true = ["favor", "against"] * 5 + ["favor"] * 6 + ["against"] * 4
    a, b = score_slices(STANCE, scored(true, true), kinds)
    assert main_metric_of(STANCE, a.report) == "f_favor_against"
    assert main_metric_of(STANCE, b.report) == "accuracy"
    assert "test_by_genre/b_f_favor_against" not in slice_metrics(STANCE, (a, b))


def test_a_contrast_group_counts_only_when_all_its_members_are_right() -> None:
    true = ["favor", "against", "favor", "against", "none", "favor"]
    said = ["favor", "against", "favor", "favor", "none", "none"]
    contrast = ["c1", "c1", "c2", "c2", "c3", None]
    # c3 has one member here.
    value, interval, n = contrast_consistency(scored(true, said), contrast, resamples=100) or ()
    assert (value, n) == (0.5, 2)
    assert interval == (0, 1)
    assert contrast_consistency(scored(true, said), [None] * 6) is None


def test_subsets_are_nested_whole_articles_of_about_the_share() -> None:
    groups = np.array([f"g{i // 3}" for i in range(300)], dtype=object)
    small, large = subsets(groups, [0.25, 0.5], seed=0)
    assert set(small) < set(large)
    for rows, share in ((small, 0.25), (large, 0.5)):
        assert len(rows) == pytest.approx(300 * share, abs=3)
        others = np.setdiff1d(np.arange(300), rows)
        assert not set(groups[rows]) & set(groups[others])
    assert len(subsets(groups, [1e-9], seed=0)[0]) == 3
    assert not np.array_equal(small, subsets(groups, [0.25], seed=1)[0])


def test_the_learning_curve_rises_and_asks_nothing_but_dev(
    corpus_rows: list[dict[str, Any]],
) -> None:
    rows = [row for row in corpus_rows if row["topic"] in TOPIC.labels][::3]
    texts = np.array([row["text"] for row in rows], dtype=object)
    y = np.array([row["topic"] for row in rows])
    groups = np.array([row["article"] for row in rows], dtype=object)
    part = np.unique(groups.astype(str), return_inverse=True)[1] % 4
    train, dev, test = np.flatnonzero(part < 2), np.flatnonzero(part == 2), part == 3
    # Whoever reads a test sentence fails.
    texts[test] = None
    curve = learning_curve(
        TOPIC, TfidfVectorizer(), LinearSVC(), texts, y, groups, train, dev,
        shares=[0.05, 0.8], n_jobs=1, resamples=20, seed=0,
    )  # fmt: skip
    assert [point.report.n for point in curve] == [len(dev)] * 2
    assert curve[0].sentences < curve[1].sentences < len(train)
    first, second = (point.report.metrics["accuracy"] for point in curve)
    assert first < second
    assert curve[0].report.intervals


def test_the_word_baseline_learns_and_knows_when_it_cannot(
    corpus_rows: list[dict[str, Any]],
) -> None:
    rows = [row for row in corpus_rows if row["topic"] in ("sport", "trade_balance")]
    texts, y = [row["text"] for row in rows], np.array([row["topic"] for row in rows])
    train = np.unique([row["article"] for row in rows], return_inverse=True)[1] % 2 == 0
    model = fit_words([t for t, k in zip(texts, train, strict=True) if k], y[train], seed=0)
    assert model is not None
    right = model.predict([t for t, k in zip(texts, train, strict=True) if not k]) == y[~train]
    assert right.mean() > 0.9
    assert fit_words(texts, np.array(["sport"] * len(texts)), seed=0) is None
    assert fit_words(["бір", "екі"], np.array(["a", "b"]), seed=0) is None
