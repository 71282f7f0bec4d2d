"""Real sentences in, any number of different ones out: what the benchmarks of large corpora read.

A sentence of the volume is the beginning of one real sentence and the end of another, cut between
words: words, lengths and n-grams are those of real text, sentences are hardly ever equal, and every
row keeps labels and article of its first half. Real sentences are those of ../shared/gold (train
alone), or of the corpus where there is none.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kaznews.root import ROOT

GOLD = ROOT.parent / "shared" / "gold"
LABELS = ("topic", "stance_economic_cooperation", "stance_trade_balance")
CHUNK = 50_000


def real_rows() -> tuple[str, list[dict[str, Any]]]:
    """Return a name for the real sentences and their rows."""
    file = GOLD / "train.jsonl"
    if file.exists():
        return "gold (train)", [json.loads(line) for line in file.open(encoding="utf-8")]
    files = sorted((ROOT / "data" / "corpus").glob("*.jsonl"))
    return "corpus", [json.loads(line) for path in files for line in path.open(encoding="utf-8")]


def mixed(rows: Sequence[dict[str, Any]], count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield `count` rows; the same for the same seed."""
    draw = random.Random(seed)
    words = [row["text"].split() for row in rows]
    for i in range(count):
        a, b = draw.randrange(len(rows)), draw.randrange(len(rows))
        text = [*words[a][: (len(words[a]) + 1) // 2 + 1], *words[b][len(words[b]) // 2 :]]
        # Ten rows an article, as in a newspaper; not the real article, which would recur for ever.
        yield {"id": str(i), "text": " ".join(text), "article": f"a{i // 10}"} | {
            label: rows[a].get(label) or None for label in LABELS
        }


def write(path: Path, rows: Sequence[dict[str, Any]], count: int) -> None:
    """Write `count` mixed rows as Parquet, row groups of CHUNK rows."""
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "article", *LABELS)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        made = mixed(rows, count)
        for start in range(0, count, CHUNK):
            chunk = [next(made) for _ in range(min(CHUNK, count - start))]
            writer.write_table(pa.Table.from_pylist(chunk, schema))


@dataclass(frozen=True)
class Measured:
    """Seconds of a command, and the most memory that it and its children held at once, in bytes."""

    seconds: float
    peak: int
    stdout: str


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _tree(int(child))


def resident(pid: int) -> int:
    """Return the resident bytes of a process and its children; shared pages count each time."""
    total = 0
    try:
        for process in _tree(pid):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return total * os.sysconf("SC_PAGE_SIZE")


def measure(command: Sequence[str], **environment: str) -> Measured:
    """Run a command and sample the memory of all its processes ten times a second (Linux)."""
    peak = 0
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Measured(time.perf_counter() - start, peak, said)


def load_note() -> str:
    """Return how busy the machine was: times under load are no more than an upper bound."""
    return f"{os.cpu_count()} cores, load average {os.getloadavg()[1]:.1f} over five minutes"
