"""The shell's face: one clear line and exit code 2, or the whole output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.conftest import store_environment

from kaznews import load
from kaznews.cli import main

TEXTS = ["Екі ел сауда айналымын арттырды.", "Дәрігерлер ауылға барды."]
COLUMNS = [
    "text",
    "topic", "topic_confidence", "topic_abstain",
    "stance_economic_cooperation", "stance_economic_cooperation_confidence",
    "stance_economic_cooperation_abstain",
    "stance_trade_balance", "stance_trade_balance_confidence", "stance_trade_balance_abstain",
    "script", "language",
]  # fmt: skip


def test_sentences_as_arguments_are_printed_for_people(
    tracking_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *TEXTS]) == 0
    said = capsys.readouterr().out
    assert all(text in said for text in TEXTS)
    assert said.count("stance_trade_balance") == 2
    answers = load().predict(TEXTS)
    abstains = sum(int(answers[c].sum()) for c in COLUMNS if c.endswith("_abstain"))
    assert said.count("  abstains\n") == abstains


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("output", [".jsonl", ".csv", ".parquet"])
def test_every_input_and_output_type(
    tracking_store: Path, tmp_path: Path, kind: str, output: str
) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    source, target = tmp_path / f"in{kind}", tmp_path / f"out{output}"
    if kind == ".txt":
        source.write_text("\n".join(TEXTS) + "\n", "utf-8")
    elif kind == ".jsonl":
        frame.to_json(source, orient="records", lines=True, force_ascii=False)
    elif kind == ".parquet":
        frame.to_parquet(source)
    else:
        frame.to_csv(source, index=False, sep="\t" if kind == ".tsv" else ",")
    assert main(["predict", "--input", str(source), "--output", str(target)]) == 0
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}.get(
        output, lambda path: pd.read_json(path, lines=True)
    )
    answers = read(target)
    assert answers.columns.tolist() == COLUMNS
    assert answers["text"].tolist() == TEXTS
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name}


def test_standard_input_is_read_line_by_line(store: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "kaznews.cli", "predict", "--input", "-"],
        input="\n".join(TEXTS).encode(), env=store_environment(store), capture_output=True,
        check=True, timeout=120,
    )  # fmt: skip
    rows = [json.loads(line) for line in said.stdout.decode().splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert list(rows[0]) == COLUMNS


def test_an_empty_file_gives_an_empty_output(tracking_store: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").touch()
    target = tmp_path / "out.csv"
    assert main(["predict", "--input", str(tmp_path / "in.txt"), "--output", str(target)]) == 0
    assert pd.read_csv(target).columns.tolist() == COLUMNS


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "in.docx": (b"", "unknown file type '.docx'"),
    "in.txt": ("сауда".encode("cp1251"), "is not UTF-8"),
    "in.csv": (b"sentence\nx\n", "in.csv:1 has no column 'text'; its columns are sentence"),
    "in.jsonl": (b'{"text": "x"}\n{"text": null}\n', "in.jsonl:2: text is not a string: None"),
    "broken.jsonl": (b"{", "not JSON"),
    "in.parquet": (b"no", "cannot read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_input_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, message = BAD_FILES[name]
    source, target = tmp_path / name, tmp_path / "out.jsonl"
    source.write_bytes(content)
    assert main(["predict", "--input", str(source), "--output", str(target)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict"], "give sentences as arguments or --input"),
        (["predict", "x", "--input", "y.txt"], "one of the two"),
        (["predict", "--input", "nowhere.txt"], "cannot read"),
        (["predict", "x", "--output", "out.xlsx"], "unknown output type"),
        (["predict", "x", "--output", "/nowhere/out.csv"], "cannot write"),
        (["predict", "x", "--model", "nowhere"], "no such model folder"),
        (["predict", "x", "--model", "models:/kaznews/99"], "cannot load models:/kaznews/99"),
        (["evaluate", "--data", "nowhere.jsonl"], "cannot read"),
        (["promote", "--version", "99"], "has no version 99"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    tracking_store: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def evaluate(path: Path, rows: list[dict[str, Any]], *words: str) -> int:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return main(["evaluate", "--data", str(path), *words])


def test_evaluate_writes_the_documented_json(tracking_store: Path, tmp_path: Path) -> None:
    rows = [
        {"text": TEXTS[0], "topic": "trade_balance", "stance_trade_balance": "favor"},
        {"text": TEXTS[1], "topic": "society", "stance_trade_balance": None},
        {"text": "Жоқ.", "topic": "unclear"},
        {"text": "Белгісіз.", "article": "a"},
    ]
    out = tmp_path / "report.json"
    assert evaluate(tmp_path / "data.jsonl", rows, "--json", str(out), "--resamples", "50") == 0
    report = json.loads(out.read_text("utf-8"))
    assert set(report) == {"topic", "stance_trade_balance"}
    assert report["topic"]["n"] == 2
    assert report["stance_trade_balance"]["n"] == 1
    topic = report["topic"]
    # Where nothing is answered there is no accuracy of answers.
    assert set(topic) - {"abstain_accuracy"} == {
        "n", "accuracy", "macro_f1", "mcc", "log_loss", "brier", "ece", "aurc", "coverage_at_95",
        "abstain_coverage", "abstain_rate_unclear", "abstain_rate_clear", "abstain_auroc",
        "per_class", "ci95",
    }  # fmt: skip
    assert set(topic["per_class"]["society"]) == {"precision", "recall", "f1", "support"}
    assert len(topic["ci95"]["macro_f1"]) == 2
    assert "f_favor_against" in report["stance_trade_balance"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "бір"}], "no row has a label"),
        ([{"text": "бір", "topic": "econmy"}], "does not have: econmy"),
        ([{"text": 3, "topic": "sport"}], ":1: text is not a string: 3"),
    ],
)
def test_evaluate_refuses_what_it_cannot_score(
    tracking_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    message: str,
) -> None:
    assert evaluate(tmp_path / "data.jsonl", rows, "--json", str(tmp_path / "out.json")) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
