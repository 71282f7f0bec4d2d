"""Splits: no group on both sides, every class learnable, the seed decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import CORPUS_FILES, TASKS, TOPIC

from kaznews.data import Corpus, load
from kaznews.errors import KaznewsError, ProblemsError
from kaznews.reading import Source
from kaznews.split import split_corpus

SIZES: dict[str, Any] = {"dev_size": 0.15, "test_size": 0.15, "n_folds": 5}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load(Source("corpus", tuple(map(str, CORPUS_FILES))), TASKS)


def tiny(tmp_path: Path, rows: list[dict[str, Any]]) -> Corpus:
    path = tmp_path / "tiny.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return load(Source("tiny", (str(path),)), (TOPIC,))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sentences_of_one_article_never_cross_a_split(corpus: Corpus, seed: int) -> None:
    split = split_corpus(corpus, **SIZES, seed=seed)
    side: dict[str, set[tuple[str, int]]] = {}
    for column in ("group", "article", "text"):
        for value, part, fold in zip(corpus.dataset[column], split.part, split.fold, strict=True):
            side.setdefault(f"{column} {value}", set()).add((str(part), int(fold)))
    assert all(len(places) == 1 for places in side.values())


def test_parts_have_the_asked_sizes_and_every_class(corpus: Corpus) -> None:
    split = split_corpus(corpus, **SIZES, seed=0)
    for part, share in (("train", 0.7), ("dev", 0.15), ("test", 0.15)):
        assert abs((split.part == part).mean() - share) < 0.04
        for task in corpus.tasks:
            labels = np.array(corpus.labels(task))[split.part == part]
            assert set(task.labels) <= set(labels.tolist())
    assert split.n_folds == 5
    assert set(split.fold[split.part != "train"].tolist()) == {-1}


def test_the_seed_decides(corpus: Corpus) -> None:
    first, again, other = (split_corpus(corpus, **SIZES, seed=s) for s in (0, 0, 1))
    assert (first.part == again.part).all()
    assert (first.fold == again.fold).all()
    assert (first.part != other.part).any()


def rows_with_split(parts: str) -> list[dict[str, Any]]:
    names = {"t": "train", "d": "dev", "e": "test"}
    return [
        {
            "text": f"s{i}",
            "article": f"a{i}",
            "topic": ("sport", "economy")[i % 2],
            "split": names[p],
        }
        for i, p in enumerate(parts)
    ]


def test_a_split_of_the_data_is_kept(tmp_path: Path) -> None:
    split = split_corpus(
        tiny(tmp_path, rows_with_split("tttttttdde")), **SIZES | {"n_folds": 2}, seed=0
    )
    assert split.origin == "fixed"
    assert split.part.tolist() == ["train"] * 7 + ["dev"] * 2 + ["test"]


def test_an_article_on_both_sides_of_a_given_split_is_refused(tmp_path: Path) -> None:
    rows = rows_with_split("tttttttdde")
    rows[9]["article"] = "a0"
    with pytest.raises(ProblemsError, match="article a0 is in test and train"):
        split_corpus(tiny(tmp_path, rows), **SIZES | {"n_folds": 2}, seed=0)


def test_a_half_filled_split_column_is_refused(tmp_path: Path) -> None:
    rows = rows_with_split("tttttttdde")
    del rows[3]["split"]
    with pytest.raises(ProblemsError, match=r"tiny\.jsonl: 1 rows name no split while others do"):
        tiny(tmp_path, rows)


def test_a_file_with_a_split_keeps_it_beside_one_without(tmp_path: Path) -> None:
    fixed = rows_with_split("tttttttdde")
    drawn = [{"text": f"t{i}", "topic": ("sport", "economy")[i % 2]} for i in range(40)]
    for name, rows in (("a", fixed), ("b", drawn)):
        content = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(content, "utf-8")
    corpus = load(Source("both", (f"{tmp_path}/*.jsonl",)), (TOPIC,))
    split = split_corpus(corpus, **SIZES, seed=0)
    assert split.origin == "partly fixed"
    assert split.part[:10].tolist() == ["train"] * 7 + ["dev"] * 2 + ["test"]
    assert set(split.part[10:].tolist()) == {"train", "dev", "test"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_size": 0.0}, "split.test_size"),
        ({"dev_size": 0.9}, "split.dev_size"),
        ({"n_folds": 1}, "split.n_folds"),
        ({"n_folds": 50}, "articles cannot be split into 50 parts"),
    ],
)
def test_impossible_sizes_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = [{"text": f"s{i}", "topic": ("sport", "economy")[i % 2]} for i in range(20)]
    with pytest.raises(KaznewsError, match=message):
        split_corpus(tiny(tmp_path, rows), **SIZES | change, seed=0)


def test_a_class_that_cannot_be_learned_is_named(tmp_path: Path) -> None:
    rows = [{"text": f"s{i}", "topic": ("sport", "economy")[i % 2]} for i in range(20)]
    rows.append({"text": "alone", "topic": "culture"})
    with pytest.raises(ProblemsError, match="class 'culture' is in"):
        split_corpus(tiny(tmp_path, rows), **SIZES | {"n_folds": 2}, seed=0)
