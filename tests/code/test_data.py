"""Loading: every problem named at once, labels in the order of the config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.conftest import STANCES, TASKS, TOPIC

from kaznews.data import Task, group_rows, load
from kaznews.errors import KaznewsError, ProblemsError
from kaznews.reading import Source, read_rows


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
    assert "news.jsonl: 5 rows name no split while others do" in said
    assert len(caught.value.problems) == 9


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
        ("a.json", b"{}", "not a JSON array of objects"),
        ("a.json", b"[1,", "a.json:1: not JSON"),
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


def test_a_label_studio_export_is_read_back_as_rows(tmp_path: Path) -> None:
    def annotation(cancelled: bool = False, **choices: str) -> dict[str, Any]:
        result = [
            {"from_name": n, "to_name": "text", "type": "choices", "value": {"choices": [c]}}
            for n, c in choices.items()
        ]
        return {"result": result, "was_cancelled": cancelled}

    tasks = [
        {"id": 1, "data": {"text": "бір"}, "annotations": [
            annotation(topic="economy"), annotation(topic="sport", stance_trade_balance="favor"),
        ]},
        {"id": 2, "data": {"text": "екі"}, "annotations": [
            annotation(topic="culture"), annotation(cancelled=True, topic="sport"),
        ]},
        {"id": 3, "data": {"text": "үш"}, "annotations": []},
    ]  # fmt: skip
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks), "utf-8")
    corpus = load(Source("files", (str(path),)), TASKS)
    assert corpus.labels(TOPIC) == ["sport", "culture", None]
    assert corpus.labels(STANCES[1]) == ["favor", None, None]


def test_a_hub_set_is_loaded_with_its_splits_and_columns(tmp_path: Path) -> None:
    """`datasets.load_dataset` is really called, on a folder in the layout of a Hub set."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name, text in (("train", "бір"), ("validation", "екі"), ("test", "үш")):
        pd.DataFrame({"sentence": [text], "label": ["sport"]}).to_csv(
            folder / f"{name}.csv", index=False
        )
    source = Source(
        "hub",
        path=str(folder),
        text_column="sentence",
        label_columns={"topic": "label"},
        split_names={"train": "train", "validation": "dev", "test": "test"},
    )
    corpus = load(source, TASKS)
    assert sorted(zip(corpus.dataset["text"], corpus.dataset["split"], strict=True)) == [
        ("бір", "train"), ("екі", "dev"), ("үш", "test"),
    ]  # fmt: skip
    assert corpus.labels(TOPIC) == ["sport"] * 3
    with pytest.raises(KaznewsError, match="cannot load"):
        load(Source("hub", path=str(tmp_path / "nothing")), TASKS)


def test_sib200_is_read_from_its_own_files(tmp_path: Path) -> None:
    for part in ("train", "dev", "test"):
        content = f"index_id\tcategory\ttext\n1\tsports\t{part} сөйлемі\n"
        (tmp_path / f"{part}.tsv").write_text(content, "utf-8")
    task = Task("sib200", ("sports", "travel"))
    source = Source(
        "sib200",
        (f"{tmp_path}/*.tsv",),
        label_columns={"sib200": "category"},
        split_names={"train": "train", "dev": "dev", "test": "test"},
    )
    corpus = load(source, (task,))
    assert sorted(corpus.dataset["split"]) == ["dev", "test", "train"]
    assert corpus.labels(task) == ["sports"] * 3
