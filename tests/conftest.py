"""Shared fixtures: a small real training run in a store of its own, and what stands beside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Two test processes on two cores: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from filelock import FileLock

from kaznews.data import Task
from kaznews.root import ROOT

SHARED = ROOT.parent / "shared"
CORPUS_FILES = sorted((ROOT / "data" / "corpus").glob("*.jsonl"))

TOPIC = Task(
    "topic",
    (
        "economic_cooperation", "trade_balance", "economy", "diplomacy", "politics",
        "society", "incidents", "culture", "sport", "science_technology",
    ),
    ("unclear",),
)  # fmt: skip
STANCES = tuple(
    Task(f"stance_{target}", ("favor", "against", "none"), (), "f_favor_against")
    for target in ("economic_cooperation", "trade_balance")
)
TASKS = (TOPIC, *STANCES)


@pytest.fixture(scope="session")
def corpus_rows() -> list[dict[str, Any]]:
    """Return every row of the committed corpus."""
    return [json.loads(line) for path in CORPUS_FILES for line in path.open(encoding="utf-8")]


@pytest.fixture(scope="session")
def gold_sources() -> Path:
    """Return the local mirror of the public files; skip where there is none."""
    found = Path(os.environ.get("KAZNEWS_SOURCES", SHARED / "sources"))
    if not found.is_dir():
        pytest.skip("no mirror of the public files (../shared/sources or KAZNEWS_SOURCES)")
    return found


@pytest.fixture(scope="session")
def small_file(corpus_rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of about 600 corpus sentences, whole articles, every class among them."""
    path = tmp_path_factory.mktemp("data") / "small.jsonl"
    # The later articles ("v") are on trade and cooperation: too few of the other topics.
    articles = sorted({row["article"] for row in corpus_rows if row["article"].startswith("w")})
    chosen = set(articles[:: max(1, len(articles) * 5 // 600)])
    rows = [row for row in corpus_rows if row["article"] in chosen]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def store_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which kaznews and MLflow use a store of their own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KAZNEWS_"))}
    return environment | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def run_train(
    folder: Path, *overrides: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m kaznews.train` against a store in `folder`; return what it said."""
    return subprocess.run(
        [
            sys.executable, "-m", "kaznews.train",
            *overrides, f"hydra.run.dir={folder}/hydra", f"hydra.sweep.dir={folder}/sweep",
        ],
        cwd=cwd or folder, env=store_environment(folder) | (env or {}),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def store(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a store that one real training run over the small file has filled.

    The processes of pytest-xdist share it: the first to come trains.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "trained"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            result = run_train(folder, "data=files", f"data.files=[{small_file}]", "resamples=200")
            assert result.returncode == 0, result.stdout + result.stderr
            (folder / "stdout.txt").write_text(result.stdout, "utf-8")
            (folder / "done").touch()
    return folder


@pytest.fixture
def tracking_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point MLflow in this process at the trained store for one test."""
    import mlflow

    for name, value in store_environment(store).items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    yield store
    mlflow.set_tracking_uri(before)
