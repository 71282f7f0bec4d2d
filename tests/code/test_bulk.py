"""Labelling in bulk: every kind of input, the same rows as one process, whatever was killed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import store_environment

from kaznews import Bundle, bulk, load, parts
from kaznews.batches import find_input
from kaznews.cli import main
from kaznews.errors import KaznewsError

TEXTS = [f"Екі ел арасындағы сауда айналымы {i} млрд долларға жетті." for i in range(23)]


@pytest.fixture(scope="module")
def model(store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of the trained bundle."""
    folder = tmp_path_factory.mktemp("bulk") / "bundle"
    code = f"from kaznews import load; from pathlib import Path; load().save(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, env=store_environment(store))
    return str(folder)


@pytest.fixture(scope="module")
def bundle(model: str) -> Bundle:
    return load(model)


def write_parquet(path: Path, texts: list[Any], **columns: list[Any]) -> Path:
    pq.write_table(pa.table({"text": pa.array(texts, pa.string()), **columns}), path)
    return path


def run(source: Path | str, output: Path, model: str, **options: Any) -> bulk.Summary:
    size = options.pop("size", 5)
    prepared = bulk.prepare(str(source), str(output), model, size=size, **options)
    return bulk.label(prepared, n_jobs=1)


def as_written(path: Path, write: Callable[[Path], None]) -> Path:
    write(path)
    return path


def lines(path: Path) -> None:
    content = "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(TEXTS))
    (gzip.open if path.suffix == ".gz" else open)(path, "wb").write(content.encode())


def plain(path: Path) -> None:
    content = "\ufeff" + "\n".join(TEXTS)
    (gzip.open if path.suffix == ".gz" else open)(path, "wb").write(content.encode())


def table(path: Path) -> None:
    separator = "\t" if ".tsv" in path.suffixes else ","
    frame = pd.DataFrame({"id": range(len(TEXTS)), "text": TEXTS})
    frame.to_csv(path, index=False, sep=separator)


def columns(path: Path) -> None:
    # Row groups that fit no part.
    pq.write_table(pa.table({"id": range(len(TEXTS)), "text": TEXTS}), path, row_group_size=7)


WRITERS = {
    "in.parquet": columns, "in.jsonl": lines, "in.jsonl.gz": lines, "in.csv": table,
    "in.csv.gz": table, "in.tsv": table, "in.txt": plain, "in.txt.gz": plain,
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_input_is_labelled_as_the_bundle_does(
    model: str, bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    source = as_written(tmp_path / kind, WRITERS[kind])
    summary = run(source, tmp_path / "out", model)
    assert (summary.rows, summary.parts, summary.without_sentence) == (23, 5, 0)
    found = pd.read_parquet(tmp_path / "out")
    assert found["row"].tolist() == list(range(23))
    assert found["text"].tolist() == TEXTS
    if "txt" not in kind:
        assert found["id"].astype(int).tolist() == list(range(23))
    expected = bundle.predict(TEXTS)
    pd.testing.assert_frame_equal(found[expected.columns.tolist()], expected, check_dtype=False)


def test_a_hub_set_is_streamed(model: str, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    lines(tmp_path / "set" / "train.jsonl")
    assert run(f"hub:{tmp_path}/set", tmp_path / "out", model).rows == 23
    found = pd.read_parquet(tmp_path / "out")
    assert found["topic"].tolist() == bundle.predict(TEXTS)["topic"].tolist()


def test_a_pattern_and_a_folder_are_read_in_the_order_of_names(model: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in (1, 0):
        write_parquet(tmp_path / "in" / f"{i}.parquet", TEXTS[i * 10 : i * 10 + 10])
    run(tmp_path / "in" / "*.parquet", tmp_path / "out", model, size=6)
    run(tmp_path / "in", tmp_path / "again", model, size=6)
    for out in ("out", "again"):
        assert pd.read_parquet(tmp_path / out)["text"].tolist() == TEXTS[:20]


def test_an_exported_model_labels_in_bulk(model: str, bundle: Bundle, tmp_path: Path) -> None:
    portable = tmp_path / "kaznews.npz"
    assert main(["export", str(portable), "--model", model]) == 0
    run(write_parquet(tmp_path / "in.parquet", TEXTS), tmp_path / "out", str(portable))
    found = pd.read_parquet(tmp_path / "out")
    assert found["topic"].tolist() == bundle.predict(TEXTS)["topic"].tolist()


def test_null_has_no_label_and_an_empty_sentence_is_asked(
    model: str, bundle: Bundle, tmp_path: Path
) -> None:
    texts = [None] * 5 + ["", TEXTS[0], None, "  "]
    summary = run(write_parquet(tmp_path / "in.parquet", texts), tmp_path / "out", model)
    assert summary.without_sentence == 6
    found = pd.read_parquet(tmp_path / "out")
    assert found["topic"].isna().tolist() == [t is None for t in texts]
    assert found["topic_confidence"].isna().tolist() == [t is None for t in texts]
    asked = bundle.predict([t for t in texts if t is not None])
    assert found["topic"].dropna().tolist() == asked["topic"].tolist()


def test_what_json_lines_hold_is_not_lost(model: str, tmp_path: Path) -> None:
    rows = [{"text": TEXTS[0], "tags": ["a", 1]}, {"text": 3.5}, {"text": "\ud800"}]
    rows += [{"text": TEXTS[1]}] * 1000 + [{"text": TEXTS[2], "late": "x"}]
    source = tmp_path / "in.jsonl"
    source.write_text("\n\n".join(json.dumps(row) for row in rows), "utf-8")
    assert run(source, tmp_path / "out", model, size=600).without_sentence == 1
    found = pd.read_parquet(tmp_path / "out")
    assert len(found) == 1004
    assert json.loads(found["tags"][0]) == ["a", 1]
    assert json.loads(found["other"][1]) == {"text": 3.5}
    assert found["text"][2] == "\\ud800"
    assert json.loads(found["other"][1003]) == {"late": "x"}


def test_columns_of_the_input_pass_through_and_never_stand_for_answers(
    model: str, bundle: Bundle, tmp_path: Path
) -> None:
    source = write_parquet(
        tmp_path / "in.parquet", TEXTS[:2], topic=["gold", None], n=[1, 2], row=[9, 9]
    )
    run(source, tmp_path / "out", model)
    found = pd.read_parquet(tmp_path / "out")
    assert found["input_topic"].fillna("null").tolist() == ["gold", "null"]
    assert found["n"].tolist() == [1, 2]
    assert (found["row"].tolist(), found["input_row"].tolist()) == ([0, 1], [9, 9])
    assert found["topic"].tolist() == bundle.predict(TEXTS[:2])["topic"].tolist()


def test_an_empty_input_gives_one_empty_part_with_the_columns(model: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n")
    assert run(tmp_path / "in.csv", tmp_path / "out", model).rows == 0
    found = pd.read_parquet(tmp_path / "out")
    assert found.columns.tolist()[:4] == ["row", "id", "text", "topic"]


def damaged(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + b"?" * 9 + content[third + 9 :]


def damaged_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [str(i) * 9 for i in range(9999)]}), sink, compression="zstd")
    return damaged(sink.getvalue().to_pybytes())


def damage(path: Path) -> None:
    path.write_bytes(damaged(path.read_bytes()))


@pytest.mark.parametrize(
    "break_it", [Path.unlink, damage, lambda p: p.write_bytes(p.read_bytes()[:100])]
)
def test_a_part_that_is_not_as_written_is_made_again(
    model: str, tmp_path: Path, break_it: Callable[[Path], None]
) -> None:
    source = write_parquet(tmp_path / "in.parquet", TEXTS)
    run(source, tmp_path / "out", model)
    whole = pd.read_parquet(tmp_path / "out")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("part-*")}
    break_it(tmp_path / "out" / parts.part_name(2))
    assert run(source, tmp_path / "out", model).found == 4
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), whole)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("part-*")}
    assert [name for name in before if before[name] != after[name]] == [parts.part_name(2)]


def test_a_killed_run_goes_on_with_the_same_result(model: str, tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "in.parquet", TEXTS * 1000)
    run(source, tmp_path / "whole", model, size=500)
    command = [sys.executable, "-m", "kaznews.cli", "predict", "--input", str(source)]
    command += ["--output", str(tmp_path / "out"), "--model", model]
    command += ["--rows", "500", "--jobs", "2"]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("part-*"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = len(list((tmp_path / "out").glob("part-*")))
    assert finished < 46
    assert not (tmp_path / "out" / parts.SUCCESS).exists()
    (tmp_path / "out" / ".unfinished-1-x").write_bytes(b"PAR1")
    summary = run(source, tmp_path / "out", model, size=500)
    assert summary.found == finished
    assert summary.rows == 23_000
    assert not list((tmp_path / "out").glob(".unfinished*"))
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out"), pd.read_parquet(tmp_path / "whole")
    )


def test_another_input_model_or_size_is_refused_with_the_reason(
    model: str, bundle: Bundle, tmp_path: Path
) -> None:
    source = write_parquet(tmp_path / "in.parquet", TEXTS)
    run(source, tmp_path / "out", model)
    with pytest.raises(KaznewsError, match="begun with another rows \\(5, now 6\\)"):
        run(source, tmp_path / "out", model, size=6)
    smaller = Bundle(bundle.tasks[:1], bundle.seen)
    smaller.save(tmp_path / "smaller")
    with pytest.raises(KaznewsError, match="begun with another model"):
        run(source, tmp_path / "out", str(tmp_path / "smaller"))
    write_parquet(source, TEXTS[::-1])
    with pytest.raises(KaznewsError, match="begun with another input"):
        run(source, tmp_path / "out", model)


def test_a_folder_with_other_things_is_left_alone(model: str, tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "in.parquet", TEXTS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(KaznewsError, match=r"not empty \(thesis.tex\)"):
        run(source, tmp_path / "out", model)


def test_two_processes_never_write_into_one_folder(model: str, tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "in.parquet", TEXTS)
    with (
        parts.sole_writer(parts.open_folder(str(tmp_path / "out"))),
        pytest.raises(KaznewsError, match="another process"),
    ):
        run(source, tmp_path / "out", model)


def test_parts_appear_in_an_object_store_too() -> None:
    from pyarrow import fs

    # What s3:// and gs:// go through, with a file system that has no rename.
    store, path = fs.FileSystem.from_uri("mock:///bucket/out")
    folder = parts.Folder(store, path)
    store.create_dir(path)
    parts.adopt(folder, {"rows": 1})
    written = pa.table({"row": [0]})
    parts.write_part(folder, 0, written, "plan")
    assert folder.names() == ["_plan.json", "part-000000.parquet"]
    found = parts.read_part(folder, 0, "plan")
    assert found is not None
    assert found.equals(written)
    assert parts.read_part(folder, 0, "another plan") is None


BROKEN: dict[str, tuple[bytes, str]] = {
    "in.docx": (b"", "unknown file type"),
    "latin.txt": ("сауда".encode("cp1251"), "is not UTF-8"),
    "in.jsonl": (b'{"text": "a"}\n{"text"\n', "in.jsonl:2: not JSON"),
    "list.jsonl": (b"[1]\n", "list.jsonl:1: not a JSON object"),
    "short.jsonl.gz": (gzip.compress(b'{"text": "a"}\n' * 999)[:30], "cannot read"),
    "wide.csv": (b"text\na,b\n", "record 2 has more fields"),
    "other.csv": (b"sentence\na\n", "no column 'text'; its columns are sentence"),
    "in.parquet": (b"PAR1", "cannot read"),
    "page.parquet": (damaged_parquet(), "cannot read"),
    "bits.jsonl.gz": (gzip.compress(b"{}\n")[:-8] + b"12345678", "cannot read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_said_in_one_line(
    model: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    words = ["predict", "--input", str(tmp_path / name), "--output", f"{tmp_path}/out/"]
    assert main([*words, "--model", model, "--jobs", "1"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / parts.SUCCESS).exists()


def test_an_error_of_the_reader_reaches_the_user_from_any_process(
    model: str, tmp_path: Path
) -> None:
    # Late: joblib is then drawing from the reader in a thread of its own.
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n' * 2000 + "{\n")
    prepared = bulk.prepare(str(tmp_path / "in.jsonl"), f"{tmp_path}/out", model, size=100)
    with pytest.raises(KaznewsError, match=r"in\.jsonl:2001: not JSON"):
        bulk.label(prepared, n_jobs=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "-", "--output", "out/"], "give a file"),
        (["--input", "nowhere.parquet", "--output", "out/"], "there is no file"),
        (["--input", "nowhere.parquet", "--output", "out/", "--rows", "0"], "at least 1"),
        (["--input", "x.csv", "--output", "out.csv", "--engine", "ray"], "--output FOLDER/"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["predict", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, 4, 7, 23, 24])
def test_a_slice_is_what_the_stream_has_there(tmp_path: Path, size: int) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        columns(tmp_path / "in" / f"{name}.parquet")
    source = find_input(str(tmp_path / "in"))
    assert source.rows() == 46
    for index, streamed in enumerate(source.tables(size, "text")):
        start = index * size
        assert source.slice(start, start + streamed.num_rows, "text").equals(streamed)
