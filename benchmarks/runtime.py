"""A trained champion in, what its export costs beside scikit-learn out: start, one sentence, many.

    python benchmarks/runtime.py [SENTENCES.jsonl]

Times are medians; every sentence is asked about once, so that no word is known from a first round.
The stock pipelines are those of the saved bundle, one a task, as `skops` loads them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import skops.io

from kaznews import load, runtime
from kaznews.evaluate import text_table
from kaznews.export import export
from kaznews.model import TRUSTED_TYPES
from kaznews.root import ROOT
from kaznews.text import normalize

STARTS = 15


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median_starts(*commands: Sequence[str]) -> list[float]:
    """Return the median time of each Python process; they take turns, so that load hits all."""
    times: list[list[float]] = [[] for _ in commands]
    for _ in range(STARTS):
        for command, own in zip(commands, times, strict=True):
            words = [sys.executable, *command]
            own.append(seconds(lambda w=words: subprocess.run(w, check=True, capture_output=True)))
    return [statistics.median(own) for own in times]


def main(files: Sequence[str]) -> None:
    paths = [Path(f) for f in files] or sorted((ROOT / "data" / "corpus").glob("*.jsonl"))
    texts = [json.loads(line)["text"] for path in paths for line in path.open(encoding="utf-8")]
    bundle = load()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kaznews.npz"
        export(bundle, file)
        bundle.save(Path(folder) / "bundle")
        stock = [
            skops.io.load(Path(folder) / "bundle" / f"{t.task.name}.skops", trusted=TRUSTED_TYPES)
            for t in bundle.tasks
        ]
        predict = ("-m", "kaznews.cli", "predict", "--model", str(file), texts[0])
        numpy_alone, start = median_starts(("-c", "import numpy"), predict)
        model = runtime.read(file)

    def ask_stock(batch: Sequence[str]) -> None:
        frame = pd.DataFrame({"text": [normalize(text) for text in batch]}, dtype=object)
        for pipeline in stock:
            pipeline.predict_proba(frame)

    asked = texts[:: max(1, len(texts) // 300)]
    ask_stock(asked[:1])
    theirs = statistics.median(seconds(lambda t=text: ask_stock([t])) for text in asked)
    ours = statistics.median(seconds(lambda t=text: model.predict([t])) for text in asked)
    many, many_stock = seconds(lambda: model.predict(texts)), seconds(lambda: ask_stock(texts))
    table = [
        ["", "scikit-learn", "kaznews.npz", "ratio"],
        ["one sentence, µs", f"{theirs * 1e6:.0f}", f"{ours * 1e6:.0f}", f"{theirs / ours:.1f}"],
        [
            f"{len(texts)} sentences, s", f"{many_stock:.2f}", f"{many:.2f}",
            f"{many_stock / many:.1f}",
        ],
    ]  # fmt: skip
    print(text_table(table))
    print(
        f"first answer of a new process: {start:.3f} s, {start / numpy_alone:.2f} times "
        f'`python -c "import numpy"` ({numpy_alone:.3f} s)'
    )


if __name__ == "__main__":
    main(sys.argv[1:])
