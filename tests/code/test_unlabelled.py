"""Unlabelled sentences: nothing that is held out comes back this way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TASKS

from kaznews import gold
from kaznews.data import load
from kaznews.errors import KaznewsError
from kaznews.reading import Source
from kaznews.root import ROOT
from kaznews.similar import NEAR, near_pairs
from kaznews.split import split_corpus
from kaznews.unlabelled import HeldOut, Pool, gather, held_out_of, near_held_out, sentences_of

HELD_OUT = "Екі ел арасындағы сауда айналымы былтыр он пайызға артты."
LABELLED = "Ауданда үш жүз орындық жаңа мектеп ашылды."
FREE = "Облыс орталығында жаңа аурухана салынып жатыр."
NONE = HeldOut((), frozenset(), frozenset(), frozenset(), frozenset())
SOME = HeldOut(
    (HELD_OUT,),
    frozenset({"held"}),
    frozenset({"article 1"}),
    frozenset({HELD_OUT, LABELLED}),
    frozenset({"held", "labelled"}),
)


def pool(tmp_path: Path, rows: list[dict[str, Any]], **values: Any) -> Pool:
    path = tmp_path / "news.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Pool(files=[str(tmp_path / "*.jsonl")], **values)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HELD_OUT, "held out"),
        (HELD_OUT.upper().replace(".", " !"), "held out"),
        (HELD_OUT.replace("былтыр", "биыл"), "nearly a held-out one"),
        (LABELLED, "labelled"),
        ("Екі сөз.", "short or not Kazakh"),
        ("Only Latin letters here", "short or not Kazakh"),
        (FREE.lower(), "repeated"),
    ],
)
def test_what_is_left_out_and_why(tmp_path: Path, text: str, reason: str) -> None:
    found = gather(pool(tmp_path, [{"text": FREE}, {"text": text}]), SOME)
    assert found.texts == (FREE,)
    assert found.dropped == {reason: 1}


def test_a_held_out_article_is_left_out_whole(tmp_path: Path) -> None:
    other = "Футболдан ұлттық құрама келесі кезеңге жолдама алды."
    rows = [
        {"text": FREE, "article": "article 1"},
        {"text": HELD_OUT, "article": "article 2"},
        {"text": "Жаңа көпір келесі жылы пайдалануға беріледі.", "article": "article 2"},
        {"text": other, "article": "article 3"},
    ]
    found = gather(pool(tmp_path, rows), SOME)
    assert found.texts == (other,)
    assert found.dropped["of a held-out article"] == 2


def test_a_document_with_a_held_out_sentence_is_left_out_whole(tmp_path: Path) -> None:
    rows = [{"text": f"{FREE} {HELD_OUT}"}, {"text": f"{FREE} Жаңа көпір келесі жылы ашылады."}]
    found = gather(pool(tmp_path, rows, documents=True), SOME)
    assert found.texts == (FREE, "Жаңа көпір келесі жылы ашылады.")
    assert found.dropped == {"held out": 1, "of a held-out article": 1}


def test_documents_are_cut_into_sentences() -> None:
    document = "«Экспорт өсті.» Импорт ше? 2,5 пайызға кеміді…\nЖаңа жол. ашылды"
    assert sentences_of(document) == [
        "«Экспорт өсті.»", "Импорт ше?", "2,5 пайызға кеміді…", "Жаңа жол. ашылды",
    ]  # fmt: skip


def test_the_digest_changes_with_any_sentence_and_not_with_the_order(tmp_path: Path) -> None:
    other = "Жаңа көпір келесі жылы ашылады."
    first = gather(pool(tmp_path, [{"text": FREE}, {"text": other}]), NONE).digest
    assert gather(pool(tmp_path, [{"text": other}, {"text": FREE}]), NONE).digest == first
    assert gather(pool(tmp_path, [{"text": FREE}]), NONE).digest != first


def test_a_limit_bounds_what_is_read(tmp_path: Path) -> None:
    rows = [{"text": f"Бұл мәтіннің {i} сөйлемі"} for i in range(9)]
    assert len(gather(pool(tmp_path, rows, limit=4), NONE).texts) == 4


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(KaznewsError, match=r"name some with data\.unlabelled\.files"):
        gather(Pool(), NONE)
    with pytest.raises(KaznewsError, match="no file matches"):
        gather(Pool(files=[str(tmp_path / "none.txt")]), NONE)
    with pytest.raises(KaznewsError, match="has no column 'body'; its columns are text"):
        gather(pool(tmp_path, [{"text": FREE}], text_column="body"), NONE)
    with pytest.raises(KaznewsError, match="holds no sentence that may be learned from"):
        gather(pool(tmp_path, [{"text": HELD_OUT}]), SOME)


def test_a_set_in_a_folder_is_streamed(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"body": f"{FREE} {i}"} for i in range(50)]
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    found = gather(Pool(path=str(folder), text_column="body", limit=3), NONE)
    assert found.texts == tuple(f"{FREE} {i}" for i in range(3))
    with pytest.raises(KaznewsError, match=r"data\.unlabelled: cannot read"):
        gather(Pool(path=str(tmp_path / "nowhere")), NONE)


def row(name: str, position: int, place: str = "file") -> dict[str, Any]:
    return {"id": name, "position": position, "place": place}


def test_what_may_be_of_a_held_out_article_reaches_to_the_next_labelled_sentences() -> None:
    rows = [row(f"s{i}", 10 * i) for i in range(10)] + [row("near", 33), row("far", 36)]
    found = near_held_out(rows, labelled={"s1", "s3", "s6", "s9"}, held_out={"s3"})
    # Between the labelled ones around s3 ...
    assert {"s2", "s4", "s5"} <= found
    # ... and nothing beyond them.
    assert not {"s0", "s7", "s8"} & found
    # Five positions away it may be of the article whatever is labelled in between.
    found = near_held_out(rows, labelled={"s3", "near"}, held_out={"near"})
    assert "far" in found


def test_places_have_nothing_to_do_with_each_other() -> None:
    rows = [row("held", 5), row("a", 6), row("b", 6, "other file")]
    assert near_held_out(rows, {"held"}, {"held"}) == {"held", "a"}


def test_near_pairs_agree_with_all_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [HELD_OUT, FREE, HELD_OUT.replace("былтыр", "биыл"), LABELLED, FREE + "!"]
    monkeypatch.setattr("kaznews.similar._BLOCK", 2)
    assert [(i, j) for i, j, _ in near_pairs(texts)] == [(0, 2), (1, 4)]
    assert [(i, j) for i, j, _ in near_pairs(texts[:2], texts[2:])] == [(0, 0), (1, 2)]
    assert all(score >= NEAR for _, _, score in near_pairs(texts))
    assert not list(near_pairs([], [])) + list(near_pairs(["аб"], ["аб"]))


def test_the_rest_of_the_public_files_holds_nothing_of_dev_or_test(
    gold_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "gold"
    labels.mkdir()
    for path in (ROOT / "data" / "gold").glob("*.*"):
        (labels / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv(gold.MIRROR_VARIABLE, str(gold_sources))
    corpus = load(Source("gold", gold=str(labels)), TASKS)
    split = split_corpus(corpus, dev_size=0.15, test_size=0.15, n_folds=2, seed=0)
    held_out = held_out_of(corpus, split)
    assert len(held_out.texts) == 421 + 765
    found = gather(Pool(gold=str(labels)), held_out)
    rows = [json.loads(line) for line in gold.whole_path(labels).open(encoding="utf-8")]
    labelled = {r["id"] for r in rows} & held_out.labelled_ids
    assert len(labelled) == 18_453
    assert len(found.texts) > 20_000
    assert not set(found.texts) & held_out.labelled
    # Sentences of KazNERD with one number are of one item: AID… and BID….
    number = {r["text"]: (r["place"], r["position"]) for r in rows if "KazNERD" in r["id"]}
    held = {number[text] for text in held_out.texts if text in number}
    assert held
    assert not held & {number[text] for text in found.texts if text in number}
