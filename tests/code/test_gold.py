"""Deriving the real sentences: every hash checked, nothing half-written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.conftest import SHARED

from kaznews import gold
from kaznews.errors import KaznewsError, ProblemsError
from kaznews.root import ROOT
from kaznews.text import text_hash

LABELS = ROOT / "data" / "gold"
FILES = {
    "iob2": "AID1\nСауда O\n, O\nэкспорт B\n\nAID2\n« O\nБаж O\n» O\n",
    "tsv": "бірінші\tfirst\nекінші\u00a0сөйлем\tsecond\n",
    "conllu": "# sent_id = 1\n# text = Экспорт ( былтыр ) өсті .\n1\tЭкспорт\n",
    "plain": 'Ол " өсті " деді\n',
}
EXPECTED = {
    "iob2": [(1, "Сауда, экспорт"), (6, "«Баж»")],
    "tsv": [(2, "екінші сөйлем")],
    "conllu": [(2, "Экспорт (былтыр) өсті.")],
    "plain": [(1, 'Ол "өсті" деді')],
}


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    """Return label tables and a mirror of four invented files, one of each format."""
    labels, mirror = tmp_path / "gold", tmp_path / "mirror"
    (mirror / "o/r").mkdir(parents=True)
    labels.mkdir()
    entries = []
    for file_format, content in FILES.items():
        (mirror / "o/r" / file_format).write_text(content, "utf-8")
        entries.append(
            {
                "table": f"{file_format}.tsv", "source": file_format, "repo": "o/r",
                "commit": "0" * 40, "path": file_format, "format": file_format,
                "sha256": hashlib.sha256(content.encode()).hexdigest(),
            }
        )  # fmt: skip
        rows = ["line\ttext_sha256\tarticle\tsplit\ttopic\tpasses"]
        rows += [
            f"{line}\t{text_hash(text)}\ta{line}\ttrain\teconomy\t1"
            for line, text in EXPECTED[file_format]
        ]
        (labels / f"{file_format}.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    (labels / "manifest.json").write_text(json.dumps({"files": entries}), "utf-8")
    return labels, mirror


def test_each_format_is_derived_by_its_rules(tiny: tuple[Path, Path]) -> None:
    labels, mirror = tiny
    target = gold.prepare(labels, mirror, report=lambda line: None)
    rows = [json.loads(line) for line in target.open(encoding="utf-8")]
    assert [r["text"] for r in rows] == [t for found in EXPECTED.values() for _, t in found]
    assert rows[0]["id"] == "o/r:iob2:1"
    assert rows[0]["passes"] == 1


def test_a_second_call_reads_no_source(tiny: tuple[Path, Path]) -> None:
    labels, mirror = tiny
    first = gold.prepare(labels, mirror, report=lambda line: None)
    assert gold.prepare(labels, mirror / "nowhere", report=lambda line: None) == first


@pytest.mark.parametrize("damage", ["missing", "changed", "no mirror"])
def test_a_missing_or_changed_file_is_named_and_nothing_is_written(
    tiny: tuple[Path, Path], damage: str
) -> None:
    labels, mirror = tiny
    expected = {
        "missing": "source file missing in the mirror: o/r/tsv",
        "changed": "source file changed: o/r/tsv",
        "no mirror": "the mirror is not a folder",
    }
    if damage == "missing":
        (mirror / "o/r/tsv").unlink()
    elif damage == "changed":
        (mirror / "o/r/tsv").write_text("басқа\n", "utf-8")
    else:
        mirror = mirror / "nowhere"
    with pytest.raises(KaznewsError, match=expected[damage]):
        gold.prepare(labels, mirror, report=lambda line: None)
    assert not (labels / "text").exists()


def test_a_text_with_another_hash_is_refused(tiny: tuple[Path, Path]) -> None:
    labels, mirror = tiny
    table = labels / "plain.tsv"
    table.write_text(table.read_text("utf-8").replace(text_hash(EXPECTED["plain"][0][1]), "f" * 16))
    with pytest.raises(ProblemsError, match="plain:1: text does not have the hash"):
        gold.prepare(labels, mirror, report=lambda line: None)
    assert not (labels / "text").exists()


def test_new_labels_get_a_new_file(tiny: tuple[Path, Path]) -> None:
    labels, _ = tiny
    before = gold.texts_path(labels)
    table = labels / "plain.tsv"
    table.write_text(table.read_text("utf-8").replace("economy", "sport"), "utf-8")
    assert gold.texts_path(labels) != before


def test_an_unreachable_network_is_one_clear_error(
    tiny: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(gold.MIRROR_VARIABLE, raising=False)
    # Port 9 of this machine: nothing listens there.
    monkeypatch.setattr(gold, "RAW_URL", "http://127.0.0.1:9/{repo}/{commit}/{path}")
    with pytest.raises(KaznewsError, match="cannot fetch o/r/iob2 at commit 000000000000"):
        gold.prepare(tiny[0], report=lambda line: None)


def test_all_real_sentences_derive_from_the_public_files(
    gold_sources: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "gold"
    labels.mkdir()
    for path in LABELS.glob("*.*"):
        (labels / path.name).write_bytes(path.read_bytes())
    target = gold.prepare(labels, gold_sources, report=lambda line: None)
    derived = {row["id"]: row for row in map(json.loads, target.open(encoding="utf-8"))}
    assert len(derived) == 18_453
    if not (SHARED / "gold").is_dir():
        pytest.skip("hashes agree; ../shared/gold is not here to compare the rows with")
    for part in ("train", "dev", "test"):
        for line in (SHARED / "gold" / f"{part}.jsonl").open(encoding="utf-8"):
            row = json.loads(line)
            for column, value in derived[row["id"]].items():
                assert row[column] == value


def test_every_sentence_of_the_files_is_derived_with_its_place(tiny: tuple[Path, Path]) -> None:
    labels, mirror = tiny
    target = gold.prepare_whole(labels, mirror, report=lambda line: None)
    rows = [json.loads(line) for line in target.open(encoding="utf-8")]
    assert [(r["id"], r["text"], r["place"], r["position"]) for r in rows] == [
        ("o/r:iob2:1", "Сауда, экспорт", "o/r", 1),
        ("o/r:iob2:6", "«Баж»", "o/r", 2),
        ("o/r:tsv:1", "бірінші", "o/r:tsv", 1),
        ("o/r:tsv:2", "екінші сөйлем", "o/r:tsv", 2),
        ("o/r:conllu:2", "Экспорт (былтыр) өсті.", "o/r:conllu", 1),
        ("o/r:plain:1", 'Ол "өсті" деді', "o/r:plain", 1),
    ]
