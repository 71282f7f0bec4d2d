"""Gold sentences go in; a table of speed and memory of `kaznews.features` against scikit-learn."""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "char_wb(2,5)": {"analyzer": "char_wb", "ngram_range": (2, 5)},
    "char_wb(2,5) min_df=2 sublinear": {
        "analyzer": "char_wb",
        "ngram_range": (2, 5),
        "min_df": 2,
        "sublinear_tf": True,
    },
    "word(1,2)": {"ngram_range": (1, 2)},
}
ROUNDS = {4_000: 9, 17_000: 5, 200_000: 1}


def read_texts(shared: Path) -> list[str]:
    """Return the gold sentences, shuffled."""
    paths = sorted((shared / "gold").glob("*.jsonl"))
    texts = [json.loads(line)["text"] for p in paths for line in p.read_text("utf-8").splitlines()]
    random.Random(0).shuffle(texts)
    return texts


def enlarge(texts: list[str], size: int) -> list[str]:
    """Return `size` texts, the surplus made of halves of others, a tenth of the words altered."""
    rng = random.Random(1)
    made = texts[:size]
    while len(made) < size:
        first, second = rng.choice(texts).split(), rng.choice(texts).split()
        words = first[: len(first) // 2] + second[len(second) // 2 :]
        for i in range(len(words)):
            if rng.random() < 0.1:
                other = rng.choice(rng.choice(texts).split())
                words[i] = words[i][: len(words[i]) // 2] + other[len(other) // 2 :]
        made.append(" ".join(words))
    return made


def split(texts: list[str], size: int) -> tuple[list[str], list[str]]:
    """Return `size` texts to fit and as many unseen ones, a quarter as many if not enough."""
    if size * 2 <= len(texts):
        return texts[:size], texts[size : 2 * size]
    corpus = enlarge(texts, size)
    return corpus[: size * 4 // 5], corpus[size * 4 // 5 :]


def clock(call: Callable[..., Any], *arguments: Any) -> float:
    """Return the processor time of a call in seconds."""
    start = time.process_time()
    call(*arguments)
    return time.process_time() - start


def time_configuration(params: dict[str, Any], texts: list[str], size: int) -> None:
    """Print medians over interleaved rounds: fit_transform, transform, one sentence at a time."""
    from sklearn.feature_extraction import text as sk

    from kaznews import features

    train, test = split(texts, size)
    singles = [[text] for text in test[:500]]

    def one_by_one(vectorizer: Any) -> None:
        for text in singles:
            vectorizer.transform(text)

    steps: dict[str, Callable[[Any], Any]] = {
        "fit_transform": lambda v: v.fit_transform(train),
        "transform": lambda v: v.transform(test),
        "one sentence, after fit": one_by_one,
        "one sentence, again": one_by_one,
    }
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(ROUNDS.get(size, 3)):
        stock, fast = sk.TfidfVectorizer(**params), features.TfidfVectorizer(**params)
        for name, step in steps.items():
            ratios[name].append((clock(step, stock), clock(step, fast)))
    for name, pairs in ratios.items():
        ratio = statistics.median(a / b for a, b in pairs)
        ours = statistics.median(b for _, b in pairs)
        unit = f"{ours * 1e3:8.0f} ms" if "one" not in name else f"{ours * 1e6 / 500:8.0f} µs"
        print(f"  {name:26} {ratio:6.1f} x   ({unit})", flush=True)


def time_folds(texts: list[str], size: int) -> None:
    """Print the time of five folds with one shared tokenisation against five fits anew."""
    import numpy as np
    from sklearn.feature_extraction import text as sk
    from sklearn.model_selection import KFold

    from kaznews import features

    texts = texts[:size]
    params = CONFIGURATIONS["char_wb(2,5)"]

    def folds(vectorizer: Any, corpus: Any, select: Callable[[Any, Any], Any]) -> None:
        for train, test in KFold(5).split(np.zeros(len(texts))):
            vectorizer.fit_transform(select(corpus, train))
            vectorizer.transform(select(corpus, test))

    def shared() -> None:
        vectorizer = features.TfidfVectorizer(**params)
        folds(vectorizer, features.TokenizedCorpus(texts, vectorizer), lambda c, rows: c[rows])

    def anew(vectorizer: Any) -> None:
        folds(vectorizer, texts, lambda c, rows: [c[i] for i in rows])

    stock = clock(anew, sk.TfidfVectorizer(**params))
    fast = clock(anew, features.TfidfVectorizer(**params))
    together = clock(shared)
    print(f"5 folds, char_wb(2,5), {len(texts)} sentences")
    print(f"  tokenised in each fold     {stock / fast:6.1f} x")
    print(f"  tokenised once             {stock / together:6.1f} x")


def measure_peak(name: str, module: str, step: str, texts: list[str], size: int) -> int:
    """Return the growth of this process's peak resident memory over one call, in kB."""
    from sklearn.feature_extraction import text as sk

    from kaznews import features

    source = sk if module == "sklearn" else features
    params = CONFIGURATIONS[name]
    train, test = split(texts, size)
    source.TfidfVectorizer(**params).fit_transform(train[:100])
    vectorizer = source.TfidfVectorizer(**params)
    if step != "fit_transform":
        vectorizer.fit(train)
    gc.collect()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # let the peak start from the present
    before = memory("VmRSS")
    if step == "fit_transform":
        vectorizer.fit_transform(train)
    elif step == "transform":
        vectorizer.transform(test)
    else:
        for _ in map(vectorizer.transform, (test[i : i + 2000] for i in range(0, len(test), 2000))):
            pass
    return memory("VmHWM") - before


def memory(field: str) -> int:
    """Return this process's present (VmRSS) or peak (VmHWM) resident memory in kB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would report the parent's peak if that was higher
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Run the benchmark, or one memory measurement of it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shared", type=Path, default=os.environ.get("KAZNEWS_SHARED", "../shared")
    )
    parser.add_argument("--large", action="store_true", help="also 200,000 sentences")
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--peak", nargs=4, metavar=("NAME", "MODULE", "STEP", "SIZE"))
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    texts = read_texts(Path(options.shared))
    if options.peak:
        name, module, step, size = options.peak
        print(measure_peak(name, module, step, texts, int(size)))
        return
    sizes = [4_000, 17_000, *([200_000] if options.large else [])]
    for size in [] if options.memory_only else sizes:
        for name, params in CONFIGURATIONS.items():
            print(f"{name}, {size} sentences")
            time_configuration(params, texts, size)
    if not options.memory_only:
        time_folds(texts, 17_000)
    command = [sys.executable, __file__, "--shared", str(options.shared)]
    print("growth of peak resident memory, MB (scikit-learn, this)")
    for size in sizes:
        for name in CONFIGURATIONS:
            for step in ("fit_transform", "transform", "batches"):
                peaks = [
                    int(
                        subprocess.run(
                            [*command, "--peak", name, module, step, str(size)],
                            check=True,
                            capture_output=True,
                        ).stdout
                    )
                    / 1024
                    for module in ("sklearn", "kaznews")
                ]
                print(f"  {name:32} {size:7} {step:14} {peaks[0]:7.0f} {peaks[1]:7.0f}", flush=True)


if __name__ == "__main__":
    main()
