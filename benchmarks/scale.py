"""Recorded rates of labelling and streaming in, time and cost for 10^8 and 10^10 sentences out.

    python benchmarks/scale.py [--price 0.05]

Reads experiments/results/bulk.md and stream.md and writes the table of docs/scale.md. The price of
a core-hour is an assumption, no quotation; so is that cores of a cluster are as fast as these.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from kaznews.root import ROOT

RESULTS = ROOT / "experiments" / "results"
PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- benchmarks/scale.py -->", "<!-- end -->"
CORES = (64, 1000)


def cells(file: Path, pattern: str) -> list[str]:
    """Return the cells of the table row that begins with a pattern."""
    row = re.search(rf"^\| {pattern}.*$", file.read_text("utf-8"), re.MULTILINE)
    if row is None:
        raise SystemExit(f"{file.name} has no row {pattern}: run the benchmark first")
    return [cell.strip().replace(",", "") for cell in row.group().split("|")[1:-1]]


def duration(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--price", type=float, default=0.05, help="of a core-hour, in dollars")
    price = parser.parse_args().price
    bulk = RESULTS / "bulk.md"
    said = re.search(r"three tasks, (\d+) cores", bulk.read_text("utf-8"))
    cores = int(said[1]) if said else 1
    alone = float(cells(bulk, r"local \| .*projected")[5])
    measured = cells(bulk, r"ray \| 2,")
    stream = cells(RESULTS / "stream.md", r"5,")
    rate = float(measured[5]) / cores
    size = float(measured[3]) / float(measured[1])
    learned = float(stream[3])
    head = ["sentences", "label: core-hours", "cost", "output"]
    head += [f"{cores} cores, no Ray", *(f"{n} cores" for n in CORES)]
    head += ["stream once through training"]
    lines = [
        BEGIN,
        f"Labelling: {rate:,.0f} sentences a second and core with Ray, {alone / cores:,.0f} "
        f"without; streamed training: {learned:,.0f} a second, on one core. {price:.2f} dollars a "
        "core-hour (assumed).",
        "",
        f"| {' | '.join(head)} |",
        f"| {' | '.join('---' for _ in head)} |",
    ]
    for power in (8, 10):
        count = 10**power
        hours = count / rate / 3600
        row = [
            f"10^{power}",
            f"{hours:,.1f}",
            f"{hours * price:,.2f} $",
            f"{count * size / 1e3:,.0f} GB",
        ]
        row += [duration(count / alone / 3600), *(duration(hours / n) for n in CORES)]
        row += [duration(count / learned / 3600)]
        lines.append(f"| {' | '.join(row)} |")
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + "\n".join(lines) + "\n" + END + rest.split(END)[1], "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
