"""The audit finds what was broken on purpose, and looks at no fixed test part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC
from tests.code.test_train import runs
from tests.conftest import STANCES, run_train

from kaznews.findings import COLUMNS, duplicate_findings, label_findings
from kaznews.model import train_task

SPORT = ["құрама медаль жеңді", "боксшы турнирде ұтты", "футболшы гол соқты", "палуан белдесті"]
BUDGET = ["бюджет кірісі өсті", "салық мөлшері артты", "банк несие берді", "баға қымбаттады"]


def test_swapped_labels_come_first() -> None:
    texts = [
        f"{t} {w}" for t in SPORT + BUDGET for w in ("бүгін", "кеше", "биыл", "былтыр", "енді")
    ]
    y = np.array(["favor"] * 20 + ["none"] * 20)
    y[[3, 27]] = ["none", "favor"]
    fitted = train_task(TfidfVectorizer(), LinearSVC(), texts, y, np.arange(40) % 5)
    ids = [str(i) for i in range(40)]
    found = list(label_findings(STANCES[0], ids, texts, y, fitted))
    assert {f["id"] for f in found[:2]} == {"3", "27"}
    assert {f["suggested"] for f in found[:2]} == {"favor", "none"}


def test_near_duplicates_and_leaks_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "Екі ел сауда көлемін арттыруға келісті.",
        "Екі ел сауда көлемін арттыруға келісті!",
        "Ауданда үш жүз орындық жаңа мектеп ашылды.",
        "Ауданда үш жүз орындық жаңа мектеп ашылды, дейді.",
        "Баж салығы алынды.",
        "Баж салығы алынды ма.",
        "Мүлде басқа сөйлем.",
    ]
    parts = ["train", "test", "train", "train", "train", "train", "dev"]
    contrasts = [None, None, None, None, "k", "k", None]
    ids = list("abcdefg")
    found = list(duplicate_findings(ids, texts, parts, contrasts))
    assert [(f["finding"], f["id"], f["other_id"]) for f in found] == [
        ("leak", "a", "b"), ("near-duplicate", "c", "d"),
    ]  # fmt: skip
    monkeypatch.setattr("kaznews.similar._BLOCK", 2)
    assert list(duplicate_findings(ids, texts, parts, contrasts)) == found


def test_an_audit_run_logs_its_table(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    rows = [json.loads(line) for line in small_file.open(encoding="utf-8")]
    original = next(row for row in rows if "contrast" not in row and len(row["text"]) > 60)
    rows.append(original | {"id": "copy", "article": "copy", "text": original["text"] + "!!"})
    path = tmp_path / "audited.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = run_train(
        tmp_path, "command=audit", "data=files", "data.name=audited", f"data.files=[{path}]",
        "features=word", "task=topic",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{len(rows)} sentences audited" in done.stdout
    (run,) = runs(tmp_path)
    assert run.data.tags["kind"] == "audit"
    table = load_table(mlflow, tmp_path, run)
    assert tuple(table.columns) == COLUMNS
    assert "copy" in set(table["other_id"])
    assert (table["finding"] == "label").sum() == run.data.metrics["findings_label"]


def load_table(mlflow: Any, folder: Path, run: Any) -> pd.DataFrame:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    path = client.download_artifacts(run.info.run_id, "audit-audited.json")
    return pd.read_json(path, orient="split")


def test_fixed_dev_and_test_parts_are_not_audited(small_file: Path, tmp_path: Path) -> None:
    from tests.code.test_train import with_split

    data = with_split(small_file, tmp_path / "fixed.jsonl", "ttttttddee")
    done = run_train(tmp_path, "command=audit", "data=files", data, "features=word", "task=topic")
    rows = [json.loads(line) for line in (tmp_path / "fixed.jsonl").open(encoding="utf-8")]
    train = sum(row["split"] == "train" for row in rows)
    assert f"{train} sentences audited" in done.stdout
