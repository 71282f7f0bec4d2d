"""The committed label tables of real news: compact, complete, without a word of the texts."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from typing import Any

import pytest
from tests.conftest import STANCES, TOPIC

from kaznews.root import ROOT

LABELS = ROOT / "data" / "gold"
MANIFEST = json.loads((LABELS / "manifest.json").read_text("utf-8"))["files"]


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, Any]]]:
    return {
        entry["table"]: list(
            csv.DictReader((LABELS / entry["table"]).open(encoding="utf-8"), delimiter="\t")
        )
        for entry in MANIFEST
    }


def test_everything_is_there_in_under_two_megabytes(tables: dict[str, Any]) -> None:
    assert sum(map(len, tables.values())) == 18_453
    assert [len(tables[entry["table"]]) for entry in MANIFEST] == [e["sentences"] for e in MANIFEST]
    assert sum(path.stat().st_size for path in LABELS.glob("*.*")) < 2_000_000


def test_rows_hold_references_and_labels_only(tables: dict[str, list[dict[str, Any]]]) -> None:
    for rows in tables.values():
        for row in rows:
            assert row["line"].isdigit()
            assert re.fullmatch(r"[0-9a-f]{16}", row["text_sha256"])
            assert row["topic"] in (*TOPIC.labels, "unclear")
            assert all(row[task.name] in task.labels for task in STANCES)
            assert row["passes"] in ("1", "2")
            assert not re.search("[а-яА-Я]", "".join(row.values()))


def test_no_article_and_no_text_stands_in_two_splits(
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    places: dict[tuple[str, str], set[str]] = defaultdict(set)
    splits: Counter[str] = Counter()
    for rows in tables.values():
        for row in rows:
            splits[row["split"]] += 1
            for column in ("article", "text_sha256"):
                places[column, row[column]].add(row["split"])
    assert all(len(found) == 1 for found in places.values())
    assert splits == {"train": 17_267, "dev": 421, "test": 765}


def test_dev_and_test_were_labelled_twice(tables: dict[str, list[dict[str, Any]]]) -> None:
    for rows in tables.values():
        assert {row["passes"] for row in rows if row["split"] != "train"} <= {"2"}


def test_files_are_pinned_with_their_licence() -> None:
    for entry in MANIFEST:
        assert re.fullmatch(r"[0-9a-f]{40}", entry["commit"])
        assert re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])
        assert entry["licence"].startswith("CC BY")
