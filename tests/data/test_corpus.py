"""The committed corpus: what the data card promises of it is true."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from datetime import date
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from tests.conftest import CORPUS_FILES, SHARED, STANCES, TASKS, TOPIC

from kaznews.data import load
from kaznews.reading import Source
from kaznews.text import normalize

GENRES = {"headline", "agency", "official", "quote", "analysis", "regional", "reader"}
# Words of trade and cooperation that other topics use in another sense.
AMBIGUOUS = re.compile(r"сауда|келісім|қарсы|шектеу|баланс|тапшылы|төмендеді", re.IGNORECASE)
FOREIGN_TRADE = ("trade_balance", "economic_cooperation")
# Stems, so that every case ending counts.
COUNTRIES = [
    "ресей",
    "қытай",
    "өзбек",
    "қырғыз",
    "тәжік",
    "түрікмен",
    "әзербайжан",
    "грузи",
    "армени",
    "беларус",
    "украин",
    "түрки",
    "иран",
    "ауған",
    "пәкістан",
    "үнді",
    "жапон",
    "корей",
    "моңғол",
    "вьетнам",
    "индонези",
    "малайзи",
    "сингапур",
    "таиланд",
    "сауд",
    "катар",
    "эмират",
    "израил",
    "египет",
    "нигери",
    "кени",
    "эфиопи",
    "мексик",
    "бразили",
    "аргентин",
    "чили",
    "канад",
    "америк",
    "ақш",
    "герман",
    "франц",
    "итали",
    "испан",
    "британ",
    "польш",
    "венгри",
    "чех",
    "швейцари",
    "нидерланд",
    "норвеги",
    "финлянди",
    "болгар",
    "румын",
    "сербия",
    "грек",
    "аустрали",
    "еуроода",
    "еаэо",
    "дсұ",
    "шыұ",
    "опек",
    "брикс",
    "адб",
    "еқдб",
    "бұұ",
    "асеан",
    "меркосур",
]
REGIONS = [
    "абай",
    "ақмола",
    "ақтөбе",
    "алматы",
    "атырау",
    "жамбыл",
    "жетісу",
    "қарағанды",
    "қостанай",
    "қызылорда",
    "маңғыстау",
    "павлодар",
    "түркістан",
    "ұлытау",
    "астана",
    "шымкент",
    "бқо|орал",
    "сқо|петропавл|қызылжар",
    "шқо|өскемен",
]


@pytest.fixture(scope="module")
def rows(corpus_rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return corpus_rows


@pytest.fixture(scope="module")
def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [normalize(row["text"]) for row in rows]


def stance_values(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[task.name] for task in STANCES)


def test_it_loads_without_a_problem() -> None:
    corpus = load(Source("corpus", tuple(map(str, CORPUS_FILES))), TASKS)
    assert corpus.tasks == TASKS


def test_every_row_is_well_formed(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert set(row) - {"contrast"} == {
            "id", "text", "article", "date", "genre", "script", "topic",
            *(task.name for task in STANCES),
        }  # fmt: skip
        assert row["genre"] in GENRES
        assert row["script"] in ("cyrl", "latn")
        assert date.fromisoformat(row["date"]).year in range(2019, 2026)
        assert row["topic"] in (*TOPIC.labels, "unclear")
        assert set(stance_values(row)) <= {"favor", "against", "none"}
        assert row["id"].startswith(row["article"])


def test_articles_have_three_to_nine_sentences_of_one_date_and_genre(
    rows: list[dict[str, Any]],
) -> None:
    articles = defaultdict(list)
    for row in rows:
        articles[row["article"]].append(row)
    assert len(articles) >= 500
    for sentences in articles.values():
        assert 3 <= len(sentences) <= 9
        assert len({(row["date"], row["genre"], row["script"]) for row in sentences}) == 1
    assert {row["genre"] for row in rows} == GENRES


def test_counts_of_labels(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 3000
    topics = Counter(row["topic"] for row in rows)
    assert min(topics[label] for label in TOPIC.labels) >= 200
    for task in STANCES:
        values = Counter(row[task.name] for row in rows)
        assert values["favor"] >= 450
        assert values["against"] >= 450
    both = [row for row in rows if "none" not in stance_values(row)]
    assert len(both) >= 100
    assert len({stance_values(row) for row in both}) == 4


def test_hard_sentences_without_a_stance(rows: list[dict[str, Any]]) -> None:
    none = [row for row in rows if set(stance_values(row)) == {"none"}]
    bare = [row for row in none if row["topic"] in FOREIGN_TRADE]
    other_sense = [
        row for row in none if row["topic"] not in FOREIGN_TRADE and AMBIGUOUS.search(row["text"])
    ]
    assert len(bare) >= 150
    assert len(other_sense) >= 150


def test_contrast_groups_differ_in_stance_and_span_articles(rows: list[dict[str, Any]]) -> None:
    groups = defaultdict(list)
    for row in rows:
        if "contrast" in row:
            groups[row["contrast"]].append(row)
    assert sum(map(len, groups.values())) >= 300
    for name, members in groups.items():
        assert 2 <= len(members) <= 3, name
        assert len({stance_values(row) for row in members}) >= 2, name


def test_about_a_quarter_is_lower_case_and_some_is_latin(
    rows: list[dict[str, Any]], texts: list[str]
) -> None:
    lower = np.mean([row["text"] == row["text"].lower() for row in rows])
    assert 0.2 < lower < 0.35
    latin = [t for row, t in zip(rows, texts, strict=True) if row["script"] == "latn"]
    assert len(latin) >= 100
    read = [bool(re.search("[а-я]", text)) for text in latin]
    # Sentences that happen to hold no letter of the new alphabet alone stay as they are.
    assert np.mean(read) > 0.95


def test_breadth_of_countries_and_regions(texts: list[str]) -> None:
    everything = "\n".join(texts).lower()
    assert sum(stem in everything for stem in COUNTRIES) >= 60
    assert [region for region in REGIONS if not re.search(region, everything)] == []


def test_vocabulary_is_wide(texts: list[str]) -> None:
    words = {w for text in texts for w in re.findall(r"[а-яәғқңөұүһі]+", text.lower())}
    assert len(words) >= 12_000


def test_there_is_no_template(texts: list[str]) -> None:
    counts = CountVectorizer(ngram_range=(5, 5), token_pattern=r"\w+", binary=True)
    matrix = counts.fit_transform(texts)
    assert matrix.sum(axis=0).max() <= 6


def test_no_two_sentences_are_nearly_the_same(rows: list[dict[str, Any]], texts: list[str]) -> None:
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(4, 4), use_idf=False)
    matrix = vectors.fit_transform(texts)
    similar = (matrix @ matrix.T).tocoo()
    pairs = [
        (rows[i]["id"], rows[j]["id"])
        for i, j, value in zip(similar.row, similar.col, similar.data, strict=True)
        if i < j
        and value >= 0.80
        and (not rows[i].get("contrast") or rows[i].get("contrast") != rows[j].get("contrast"))
    ]
    assert pairs == []


def test_no_sentence_is_taken_from_real_news(texts: list[str]) -> None:
    if not SHARED.is_dir():
        pytest.skip("no real sentences beside the checkout (../shared) to compare with")
    real = {
        normalize(json.loads(line)["text"]).lower()
        for part in ("train", "dev", "test")
        for line in (SHARED / "gold" / f"{part}.jsonl").open(encoding="utf-8")
    }
    for path in (SHARED / "sib200").glob("*.tsv"):
        real |= {normalize(line.split("\t")[-1]).lower() for line in path.open(encoding="utf-8")}
    assert not {text.lower() for text in texts} & real
