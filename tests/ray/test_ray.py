"""Ray: a real cluster of two nodes on this machine, one of which is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import run_train, store_environment

ray = pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
# Before a node starts: no node may report its use.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from kaznews import bulk, cluster, parts  # noqa: E402
from kaznews.cli import main  # noqa: E402
from kaznews.errors import KaznewsError  # noqa: E402

TEXTS = [f"Екі ел арасындағы сауда айналымы {i} млрд долларға жетті." for i in range(4000)]
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


@pytest.fixture(scope="module")
def model(store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("ray") / "bundle"
    code = f"from kaznews import load; from pathlib import Path; load().save(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, env=store_environment(store))
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ray") / "in.parquet"
    texts = pa.array([None if i % 97 == 5 else text for i, text in enumerate(TEXTS)], pa.string())
    pq.write_table(pa.table({"text": texts, "n": range(len(TEXTS))}), path, row_group_size=333)
    return path


@pytest.fixture(scope="module")
def alone(model: str, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what one process without Ray says."""
    folder = tmp_path_factory.mktemp("ray") / "alone"
    bulk.label(bulk.prepare(str(source), str(folder), model, size=100), n_jobs=1)
    return folder


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start two nodes of one core each, and yield the cluster and the second node."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started = Cluster(initialize_head=True, head_node_args=dict(NODE))
    worker = started.add_node(num_cpus=1, object_store_memory=100_000_000)
    started.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    yield started, worker
    ray.shutdown()
    started.shutdown()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[p_]*"))}


def test_a_killed_node_changes_no_row(
    nodes: Any, model: str, source: Path, alone: Path, tmp_path: Path
) -> None:
    started, worker = nodes
    prepared = bulk.prepare(str(source), f"file://{tmp_path}/out", model, size=100)
    done: list[bulk.Summary] = []
    thread = threading.Thread(target=lambda: done.append(cluster.label(prepared)))
    thread.start()
    deadline = time.monotonic() + 120
    # Both cores taken: each node holds an actor, and is labelling.
    while True:
        finished = len(list((tmp_path / "out").glob("part-*")))
        if finished >= 3 and ray.available_resources().get("CPU", 0) == 0:
            break
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started.remove_node(worker, allow_graceful=False)
    thread.join(timeout=180)
    assert finished < 40
    assert sum(node["Alive"] for node in ray.nodes()) == 1
    assert [(s.rows, s.parts) for s in done] == [(4000, 40)]
    assert files(tmp_path / "out") == files(alone)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), pd.read_parquet(alone))


def test_a_run_begun_here_is_finished_on_a_cluster(
    nodes: Any, model: str, source: Path, alone: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["predict", "--input", str(source), "--output", f"{tmp_path}/out/", "--model", model]
    words += ["--rows", "100"]
    assert main(words) == 0
    for index in (0, 7, 39):
        (tmp_path / "out" / parts.part_name(index)).unlink()
    assert main([*words, "--engine", "ray"]) == 0
    assert "40 parts, 37 of them found" in capsys.readouterr().out
    assert files(tmp_path / "out") == files(alone)


def test_folds_run_on_a_cluster_with_the_same_scores(
    nodes: Any, small_file: Path, tmp_path: Path
) -> None:
    said = {}
    for backend in ("loky", "ray"):
        (tmp_path / backend).mkdir()
        result = run_train(
            tmp_path / backend, "data=files", f"data.files=[{small_file}]", "experiment=quick",
            "task=topic", "cache_mb=0", f"parallel={backend}", "n_jobs=2",
            env={"RAY_ADDRESS": os.environ["RAY_ADDRESS"]},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        said[backend] = result.stdout.split("\n\n")[1]
    assert "macro_f1" in said["ray"]
    assert said["ray"] == said["loky"]


def test_a_sweep_runs_on_a_cluster_and_its_jobs_hang_under_one_run(
    nodes: Any, small_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="make test-ray installs it")
    result = run_train(
        tmp_path, "--multirun", "hydra/launcher=ray", "data=files", f"data.files=[{small_file}]",
        "experiment=quick", "task=topic", "classifier=sgd,complement_nb", "n_jobs=1",
        env={"RAY_ADDRESS": os.environ["RAY_ADDRESS"]},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    table = result.stdout.split("mean main metric, cv\n")[-1]
    assert table.count("FINISHED") == 2
    assert "classifier=sgd" in table


def test_what_ray_cannot_do_is_said(model: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\na\n")
    prepared = bulk.prepare(str(tmp_path / "in.csv"), str(tmp_path / "out"), model)
    with pytest.raises(KaznewsError, match="--engine ray reads Parquet"):
        cluster.label(prepared)


def test_an_address_without_a_cluster_is_said(
    model: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "here")
    prepared = bulk.prepare(str(source), str(tmp_path / "out"), model)
    with pytest.raises(KaznewsError, match="no Ray cluster at here"):
        cluster.label(prepared)


def test_an_error_in_a_worker_reaches_the_user(nodes: Any, model: str, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": TEXTS}), path)
    prepared = bulk.prepare(str(path), str(tmp_path / "out"), model, size=1000)
    pq.write_table(pa.table({"text": list(range(len(TEXTS)))}), path)
    with pytest.raises(KaznewsError, match="column 'text' holds int64, not strings"):
        cluster.label(prepared)
    assert not (tmp_path / "out" / parts.SUCCESS).exists()
