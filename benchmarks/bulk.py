"""A champion and generated volume in, rate and memory of labelling in bulk out.

    python benchmarks/bulk.py [--count 2000000] [--model ADDRESS]

Writes experiments/results/bulk.md. Memory is the sum over the command and its workers; a second,
four times smaller run shows whether it grows with the input, and the projection follows from both.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from volume import load_note, measure, real_rows, write

from kaznews.bulk import ROWS
from kaznews.root import ROOT

RESULT = ROOT / "experiments" / "results" / "bulk.md"
PROJECTED = 10_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--model", default="models:/kaznews@champion")
    arguments = parser.parse_args()
    name, rows = real_rows()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (arguments.count // 4, arguments.count):
            source = Path(folder) / f"{count}.parquet"
            write(source, rows, count)
            command = [sys.executable, "-m", "kaznews.cli", "predict", "--input", str(source)]
            command += ["--output", f"{folder}/out-{count}/", "--model", arguments.model]
            measured = measure(command)
            found.append((count, source.stat().st_size, measured))
            print(count, measured.seconds, measured.peak / 1e6, flush=True)
    (small, _, first), (large, _, second) = found
    growth = max(0.0, (second.peak - first.peak) / (large - small))
    rate = (large - small) / (second.seconds - first.seconds)
    memory = (second.peak + growth * (PROJECTED - large)) / 1e9
    lines = [
        "# Labelling in bulk",
        "",
        f"`python benchmarks/bulk.py --count {arguments.count}`: sentences mixed from {name}, all "
        f"three tasks, {os.cpu_count()} processes, parts of {ROWS} rows. {load_note()}.",
        "",
        "| sentences | input, MB | seconds | sentences a second | peak memory, MB |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {count:,} | {size / 1e6:.0f} | {m.seconds:.0f} | {count / m.seconds:,.0f} | "
            f"{m.peak / 1e6:.0f} |"
            for count, size, m in found
        ),
        f"| {PROJECTED:,}, projected | | {PROJECTED / rate:.0f} | {rate:,.0f} | "
        f"{memory * 1e3:.0f} |",
        "",
        "Projected from both rows: the rate without the start of the processes, and the memory as "
        "if its difference went on growing with the input. Resident memory is summed over the "
        "command and its workers, pages that they share counted in each.",
    ]
    RESULT.write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
