"""Loading: every problem named at once, labels in the order of the config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.conftest import STANCES, TASKS, TOPIC

from kaznews.data import Source, group_rows, load, read_rows
from kaznews.errors import KaznewsError, ProblemsError


def write(path: Path, rows: list[dict[str, Any]]) -> Source:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return Source("files", (str(path),))


def test_all_invalid_rows_are_listed_with_file_row_and_value(tmp_path: Path) -> None:
    source = write(
        tmp_path / "news.jsonl",
        [
            {"id": "a", "text": "Сауда өсті.", "topic": "trade_balance", "split": "train"},
            {"id": "b", "text": "  ", "topic": "economy"},
            {"id": "c", "text": 7, "topic": "economy"},
            {"id": "d", "text": "Бюджет бекітілді.", "topic": "econmy"},
            {"id": "a", "text": "Баға қымбаттады.", "topic": "economy"},
            {"id": "e", "text": "Cауда өсті.", "topic": "economy", "split": "test"},
            {"id": "f", "text": "Көлем артты.", "stance_trade_balance": "pro"},
            {"id": "g", "text": "Тағы бір сөйлем.", "split": "valid"},
        ],
    )
    with pytest.raises(ProblemsError) as caught:
        load(source, TASKS)
    said = "\n".join(caught.value.problems)
    assert "news.jsonl:2: text is empty" in said
    assert "news.jsonl:3: text is not a string: 7" in said
    assert "news.jsonl:4: unknown topic 'econmy'" in said
    assert "news.jsonl:5: duplicate id 'a', first at news.jsonl:1" in said
    assert "topic both economy and trade_balance" in said
    assert "one text in both test and train" in said
    assert "news.jsonl:7: unknown stance_trade_balance 'pro'" in said
    assert "news.jsonl:8: unknown split 'valid'" in said
    assert len(caught.value.problems) == 8


def test_label_order_comes_from_the_config_not_from_the_data(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.jsonl",
        [{"text": "бір", "topic": "sport"}, {"text": "екі", "topic": "economic_cooperation"}],
    )
    corpus = load(source, TASKS)
    assert corpus.dataset.features["topic"].names == [*TOPIC.labels, "unclear"]
    assert corpus.dataset["topic"] == [8, 0]
    assert corpus.labels(TOPIC) == ["sport", "economic_cooperation"]


def test_columns_that_are_absent_drop_their_task_only(tmp_path: Path) -> None:
    corpus = load(write(tmp_path / "a.jsonl", [{"text": "бір", "topic": "sport"}]), TASKS)
    assert corpus.tasks == (TOPIC,)
    with pytest.raises(KaznewsError, match="none of the label columns"):
        load(write(tmp_path / "b.jsonl", [{"text": "бір"}]), TASKS)
    with pytest.raises(KaznewsError, match="no column 'text'; its columns are sentence"):
        load(write(tmp_path / "c.jsonl", [{"sentence": "бір"}]), TASKS)


def test_the_same_sentences_load_alike_from_every_format(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "text": "Экспорт «өсті», импорт азайды.", "topic": "trade_balance"},
        {"id": "2", "text": "Екі жол\u00a0салынды", "topic": "economy"},
    ]
    frame = pd.DataFrame(rows)
    write(tmp_path / "a.jsonl", rows)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.json", orient="records", force_ascii=False)
    digests = {
        load(Source("x", (str(tmp_path / f"a.{end}"),)), (TOPIC,)).digest
        for end in ("jsonl", "csv", "tsv", "parquet", "json")
    }
    assert len(digests) == 1


def test_the_digest_sees_text_label_and_article_but_not_the_order(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "text": "бір", "topic": "sport", "article": "x"},
        {"id": "2", "text": "екі", "topic": "economy", "article": "y"},
    ]

    def digest(changed: list[dict[str, Any]]) -> str:
        return load(write(tmp_path / "a.jsonl", changed), TASKS).digest

    original = digest(rows)
    assert digest(rows[::-1]) == original
    for change in ({"text": "үш"}, {"topic": "culture"}, {"article": "y"}, {"id": "3"}):
        assert digest([rows[0] | change, rows[1]]) != original


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.docx", b"", "unknown file type '.docx'"),
        ("a.jsonl", b'{"text": "x"}\n{oops\n', "a.jsonl:2: not JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: not a JSON object"),
        ("a.jsonl", "сауда".encode("cp1251"), "is not UTF-8"),
        ("a.csv", "text\nсауда\n".encode("utf-16"), "is not UTF-8"),
        ("a.parquet", b"PAR0", "cannot read"),
    ],
)
def test_unreadable_files_give_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KaznewsError, match=message):
        read_rows(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KaznewsError, match=r"no file matches .*nothing\.jsonl"):
        load(Source("files", (str(tmp_path / "nothing.jsonl"),)), TASKS)
    with pytest.raises(KaznewsError, match="cannot read"):
        read_rows(tmp_path / "nothing.jsonl")


def test_rows_are_grouped_by_article_contrast_and_text() -> None:
    rows = [
        {"id": "1", "text": "a", "article": "x"},
        {"id": "2", "text": "b", "article": "x"},
        {"id": "3", "text": "c", "article": "y", "contrast": "k"},
        {"id": "4", "text": "d", "article": "z", "contrast": "k"},
        {"id": "5", "text": "d"},
        {"id": "6", "text": "e"},
    ]
    group = group_rows(rows)
    assert group[0] == group[1]
    assert group[2] == group[3] == group[4]
    assert len(set(group)) == 3


def test_stance_tasks_compare_by_favor_and_against() -> None:
    assert {task.main_metric for task in STANCES} == {"f_favor_against"}
