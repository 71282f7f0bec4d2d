"""Generated volume and gold in, memory and rate of streamed training and its accuracy out.

    python benchmarks/stream.py [--count 5000000] [--epochs 4]

Writes experiments/results/stream.md. The volume shows memory and rate; accuracy is measured on the
real sentences of ../shared/gold: learned from its train part as a stream and in memory, scored on
its dev and test parts. Nothing is chosen on test.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from volume import GOLD, Measured, load_note, measure, real_rows, write

from kaznews.root import ROOT

RESULT = ROOT / "experiments" / "results" / "stream.md"
LIMIT = 2e9


def train(folder: Path, *overrides: str) -> Measured:
    command = [sys.executable, "-m", "kaznews.train", f"hydra.run.dir={folder}/hydra"]
    store = f"sqlite:///{folder}/mlflow.db"
    return measure([*command, "register=false", *overrides], MLFLOW_TRACKING_URI=store)


def scores(said: str) -> dict[str, dict[str, str]]:
    """Return the cells of a printed result table by task and column."""
    lines = said.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("task "))
    names, found = lines[head].split(), {}
    for line in lines[head + 2 :]:
        if not line.strip():
            break
        cells = line.split()
        found[cells[0]] = dict(zip(names, cells, strict=False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5_000_000)
    parser.add_argument("--epochs", type=int, default=4, help="over gold")
    arguments = parser.parse_args()
    name, rows = real_rows()
    lines = ["# Streamed training", ""]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.count:
            write(folder / "volume.parquet", rows, arguments.count)
            found = train(
                folder, "experiment=streaming", "data=files",
                f"data.files=[{folder}/volume.parquet]", "resamples=0",
            )  # fmt: skip
            assert "sentences learned" in found.stdout, found.stdout
            learned = int(found.stdout.split(" sentences learned")[0].split()[-1])
            lines += [
                f"`python benchmarks/stream.py --count {arguments.count}`: sentences mixed from "
                f"{name}, all three tasks, one epoch, one process. {load_note()}.",
                "",
                "| sentences | learned | seconds | sentences a second | peak memory, MB |",
                "| --- | --- | --- | --- | --- |",
                f"| {arguments.count:,} | {learned:,} | {found.seconds:.0f} | "
                f"{arguments.count / found.seconds:,.0f} | {found.peak / 1e6:.0f} |",
                "",
            ]
            print("\n".join(lines), flush=True)
            assert found.peak < LIMIT, "more than 2 GB"
        if (GOLD / "train.jsonl").exists():
            gold = ("data=files", f"data.files=[{GOLD}/*.jsonl]")
            streamed = scores(
                train(
                    folder, "experiment=streaming", *gold, "stream.batch=1000",
                    f"stream.epochs={arguments.epochs}",
                ).stdout
            )  # fmt: skip
            whole = scores(train(folder, *gold, "curve_shares=[]", "resamples=0").stdout)
            lines += [
                "Accuracy on real sentences, learned from gold train "
                f"({arguments.epochs} epochs in batches of 1000 streamed; in memory the default "
                "model):",
                "",
                "| task | metric | dev, streamed | in memory | test, streamed | in memory |",
                "| --- | --- | --- | --- | --- | --- |",
                *(
                    f"| {task} | {cells['metric']} | {cells['dev']} | {whole[task]['dev']} | "
                    f"{cells['test']} | {whole[task]['test']} |"
                    for task, cells in streamed.items()
                ),
                "",
                "`against` hardly occurs in gold: a stance score can hardly rise above one half.",
            ]
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
