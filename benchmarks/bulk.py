"""A champion and generated volume in, rate and memory of labelling in bulk out.

    python benchmarks/bulk.py [--count 2000000] [--model ADDRESS]

Writes experiments/results/bulk.md. A second, four times smaller run shows whether memory grows with
the input, and the projection follows from both. Where Ray is installed, it is measured too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib.util import find_spec
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
    engines = ["local", *(["ray"] if find_spec("ray") else [])]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (arguments.count // 4, arguments.count):
            source = Path(folder) / f"{count}.parquet"
            write(source, rows, count)
            for engine in engines:
                output = Path(folder) / f"out-{count}-{engine}"
                command = [sys.executable, "-m", "kaznews.cli", "predict", "--engine", engine]
                command += ["--input", str(source), "--output", f"{output}/"]
                measured = measure([*command, "--model", arguments.model])
                size = sum(part.stat().st_size for part in output.glob("part-*"))
                found.append((engine, count, source.stat().st_size, size, measured))
                print(engine, count, measured.seconds, measured.peak / 1e6, flush=True)
    lines = [
        "# Labelling in bulk",
        "",
        f"`python benchmarks/bulk.py --count {arguments.count}`: sentences mixed from {name}, all "
        f"three tasks, {os.cpu_count()} cores, parts of {ROWS} rows. {load_note()}.",
        "",
        "| engine | sentences | input, MB | output, MB | seconds | sentences a second | peak MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {engine} | {count:,} | {read / 1e6:.0f} | {written / 1e6:.0f} | {m.seconds:.0f} | "
            f"{count / m.seconds:,.0f} | {m.peak / 1e6:.0f} |"
            for engine, count, read, written, m in found
        ),
    ]
    for engine in engines:
        (_, small, *_, first), (_, large, _, size, second) = (
            row for row in found if row[0] == engine
        )
        growth = max(0.0, (second.peak - first.peak) / (large - small))
        rate = large / second.seconds
        memory = (second.peak + growth * (PROJECTED - large)) / 1e6
        lines.append(
            f"| {engine} | {PROJECTED:,}, projected | | {size / large * PROJECTED / 1e6:.0f} | "
            f"{PROJECTED / rate:.0f} | {rate:,.0f} | {memory:.0f} |"
        )
    lines += [
        "",
        "Projected: the rate of the larger run, its start included; memory as if it went on "
        "growing by its difference to the smaller one. It is the peak of the resident pages of all "
        "processes, those that they share counted in each; Ray's own services and its object store "
        "are among them.",
    ]
    RESULT.write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
