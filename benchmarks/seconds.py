"""Where the seconds of `make train` go, with scikit-learn's vectorizers and with our own.

Runs the real training in a process of its own and store of its own, with a clock around each step.
Writes experiments/results/seconds.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from kaznews.root import ROOT

RESULTS = ROOT / "experiments" / "results"
STEPS = {
    "create the store": ("kaznews.tracking", "open_experiment"),
    "read and validate the data": ("kaznews.train", "load"),
    "draw splits and folds": ("kaznews.train", "split_corpus"),
    "analyse the texts": ("kaznews.train", "tokenize"),
    "fit folds and final model": ("kaznews.fit", "train_task"),
    "fit the baseline of words": ("kaznews.fit", "fit_words"),
    "learning curve": ("kaznews.fit", "learning_curve"),
    "pictures and tables": ("kaznews.train", "review"),
    "log a task (datasets, metrics, model)": ("kaznews.tracking", "log_task"),
    "report": ("kaznews.train", "render"),
    "log the bundle": ("kaznews.tracking", "log_bundle"),
    "judge and register": ("kaznews.conclude", "submit"),
}
STOCK = "features._target_=sklearn.feature_extraction.text.TfidfVectorizer"


def child(overrides: list[str]) -> None:
    """Train with clocks around the steps; print the seconds of each."""
    import importlib

    begin = time.perf_counter()
    from kaznews import train

    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                spent[name] += time.perf_counter() - start

        return run

    for name, (module, function) in STEPS.items():
        found = importlib.import_module(module)
        setattr(found, function, timed(name, getattr(found, function)))
    sys.argv = ["train", *overrides]
    train.main()
    total = time.perf_counter() - begin
    spent["imports, configuration, scoring, the rest"] = total - sum(spent.values())
    spent["all"] = total
    for name, seconds in spent.items():
        print(f"@@{name}\t{seconds:.2f}")


def measure(*overrides: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                sys.executable, __file__, "--child", f"hydra.run.dir={folder}/hydra",
                "cache_mb=0", *overrides,
            ],
            env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    lines = [line[2:].split("\t") for line in done.stdout.splitlines() if line.startswith("@@")]
    return {name: float(seconds) for name, seconds in lines}


def main() -> None:
    stock, ours = measure(STOCK), measure()
    lines = [
        "Seconds of `make train` on the corpus, set-up aside, without the cache of folds:", "",
        "| step | scikit-learn's vectorizers | ours |", "| --- | --- | --- |",
    ]  # fmt: skip
    lines += [f"| {name} | {stock.get(name, 0):.1f} | {ours.get(name, 0):.1f} |" for name in ours]
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "seconds.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
