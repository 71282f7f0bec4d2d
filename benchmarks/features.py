"""Speed and memory of `kaznews.features` beside scikit-learn and fastText: `make bench`.

Writes experiments/results/features.md and features.png. All times are processor times on one core,
so that what counts, the ratios, hardly depends on the machine or on what else it does.
"""

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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kaznews.root import ROOT

RESULTS = ROOT / "experiments" / "results"
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
# Interleaved rounds by size; more where a round is short.
ROUNDS = {4_000: 9, 200_000: 1}


class Row(NamedTuple):
    """One measurement: what was done, times as fast as scikit-learn, seconds a sentence."""

    step: str
    ratio: float
    seconds: float


def read_rows() -> list[dict[str, Any]]:
    """Return labelled sentences, shuffled: the real ones where `make data` has put them."""
    from kaznews import gold

    paths = [gold.texts_path(ROOT / "data" / "gold")]
    if not paths[0].exists():
        print("no real sentences (make data): measuring on the written ones")
        paths = sorted((ROOT / "data" / "corpus").glob("*.jsonl"))
    rows = [json.loads(line) for path in paths for line in path.open(encoding="utf-8")]
    random.Random(0).shuffle(rows)
    return rows


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


def time_configuration(params: dict[str, Any], texts: list[str], size: int) -> list[Row]:
    """Return medians over interleaved rounds: fit_transform, transform, one sentence at a time."""
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
    for _ in range(ROUNDS.get(size, 5)):
        stock, fast = sk.TfidfVectorizer(**params), features.TfidfVectorizer(**params)
        for name, step in steps.items():
            ratios[name].append((clock(step, stock), clock(step, fast)))
    counts = {"fit_transform": len(train), "transform": len(test)}
    return [
        Row(
            name,
            statistics.median(a / b for a, b in pairs),
            statistics.median(b for _, b in pairs) / counts.get(name, len(singles)),
        )
        for name, pairs in ratios.items()
    ]


def time_folds(texts: list[str]) -> list[Row]:
    """Return the time of five folds, analysed once and anew, against scikit-learn's."""
    import numpy as np
    from sklearn.feature_extraction import text as sk
    from sklearn.model_selection import KFold

    from kaznews import features

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
    return [
        Row("five folds, each analysed anew", stock / fast, fast / len(texts)),
        Row("five folds, analysed once", stock / together, together / len(texts)),
    ]


def time_search(rows: list[dict[str, Any]]) -> list[Row]:
    """Return the time of a search of 24 points on 5 folds against GridSearchCV."""
    import numpy as np
    from sklearn.feature_extraction import text as sk
    from sklearn.metrics import accuracy_score
    from sklearn.model_selection import GridSearchCV, ParameterGrid, PredefinedSplit
    from sklearn.pipeline import Pipeline
    from sklearn.svm import LinearSVC

    from kaznews import features
    from kaznews.search import search

    grid = {
        "vectorizer__ngram_range": [(2, 4), (2, 5)],
        "vectorizer__min_df": [2, 3],
        "vectorizer__sublinear_tf": [False, True],
        "classifier__C": [0.1, 0.3, 1.0],
    }
    texts = [row["text"] for row in rows]
    y = np.array([row["stance_trade_balance"] for row in rows])
    fold = np.arange(len(rows)) % 5
    stock = GridSearchCV(
        Pipeline(
            [("vectorizer", sk.TfidfVectorizer(analyzer="char_wb")), ("classifier", LinearSVC())]
        ),
        grid,
        cv=PredefinedSplit(fold),
        scoring="accuracy",
        refit=False,
    )
    theirs = clock(stock.fit, texts, y)
    start = time.process_time()
    points = search(
        features.TfidfVectorizer(analyzer="char_wb"), LinearSVC(), list(ParameterGrid(grid)),
        texts, y, fold, accuracy_score,
    )  # fmt: skip
    ours = time.process_time() - start
    for k in range(5):
        assert [p.scores[k] for p in points] == stock.cv_results_[f"split{k}_test_score"].tolist()
    return [Row("24 points on 5 folds, equal scores", theirs / ours, ours / len(rows))]


def time_labels(rows: list[dict[str, Any]]) -> list[Row]:
    """Return text-to-label times a task, beside those of fastText where it is installed."""
    import numpy as np
    import pandas as pd
    from sklearn.svm import LinearSVC

    from kaznews.data import Task
    from kaznews.features import TfidfVectorizer
    from kaznews.model import accelerated, train_task
    from kaznews.predict import Bundle, BundleTask, seen_keys

    texts = [row["text"] for row in rows]
    n = len(texts) * 4 // 5
    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True
    )
    tasks = []
    for name in ("topic", "stance_economic_cooperation", "stance_trade_balance"):
        y = np.array([row[name] for row in rows[:n]])
        pipeline = train_task(vectorizer, LinearSVC(C=0.5), texts[:n], y, np.arange(n) % 2).pipeline
        tasks.append(BundleTask(Task(name, tuple(np.unique(y))), accelerated(pipeline)))
    bundle = Bundle(tuple(tasks), seen_keys([], []))
    bundle.predict(texts[n:])
    stock = train_task(vectorizer, LinearSVC(C=0.5), texts[:n], y, np.arange(n) % 2).pipeline
    frame = pd.DataFrame({"text": texts[n:]}, dtype=object)
    ours = statistics.median(clock(bundle.predict, texts[n:]) / 3 for _ in range(5))
    theirs = statistics.median(clock(stock.predict, frame) for _ in range(3))
    found = [Row("bulk labels, per task, against scikit-learn", theirs / ours, ours / len(frame))]
    try:
        import fasttext
    except ImportError:
        print("fastText is not installed (extra bench): no comparison with it")
        return found
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(f"__label__{r['topic']} {r['text']}\n" for r in rows[:n])
        file.flush()
        model = fasttext.train_supervised(
            file.name, wordNgrams=2, minn=2, maxn=5, epoch=10, thread=1, verbose=0
        )
    clean = [text.replace("\n", " ") for text in texts[n:]]
    peer = statistics.median(clock(model.predict, clean) for _ in range(5))
    return [*found, Row("bulk labels, per task, against fastText", peer / ours, ours / len(frame))]


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


def memory_rows(sizes: list[int]) -> list[str]:
    """Return table rows: growth of peak resident memory of a call in a process of its own."""
    lines = []
    for size in sizes:
        for name in CONFIGURATIONS:
            for step in ("fit_transform", "transform", "batches"):
                peaks = [
                    int(
                        subprocess.run(
                            [sys.executable, __file__, "--peak", name, module, step, str(size)],
                            capture_output=True, text=True, check=True,
                        ).stdout.splitlines()[-1]
                    )
                    for module in ("sklearn", "kaznews")
                ]  # fmt: skip
                cells = (name, f"{size:,}", step, *(f"{peak / 1024:.0f}" for peak in peaks))
                lines.append("| " + " | ".join(cells) + " |")
    return lines


def draw(costs: dict[str, dict[int, tuple[float, float]]]) -> None:
    """Draw how the cost of a sentence grows with the number of sentences."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=120)
    axes = figure.subplots()
    for colour, (name, points) in enumerate(costs.items()):
        sizes = sorted(points)
        for style, column, who in (("--", 0, "scikit-learn"), ("-", 1, "kaznews")):
            values = [points[size][column] * 1e6 for size in sizes]
            axes.plot(sizes, values, f"o{style}C{colour}", label=f"{name}, {who}")
    axes.set(xscale="log", yscale="log", xlabel="sentences", ylabel="µs a sentence, fit_transform")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(RESULTS / "features.png")


def main() -> None:
    """Run the benchmark, or one memory measurement of it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also 200,000 sentences")
    parser.add_argument("--peak", nargs=4, metavar=("NAME", "MODULE", "STEP", "SIZE"))
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = read_rows()
    texts = [row["text"] for row in rows]
    if options.peak:
        name, module, step, size = options.peak
        print(measure_peak(name, module, step, texts, int(size)))
        return
    lines = ["One core, one process, interleaved; medians of ratios to scikit-learn.", ""]
    head = ["what", "sentences", "step", "times as fast", "µs a sentence"]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    costs: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in CONFIGURATIONS}

    def add(what: str, size: int, found: list[Row]) -> None:
        for row in found:
            cells = (what, f"{size:,}", row.step, f"{row.ratio:.1f}", f"{row.seconds * 1e6:.0f}")
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)

    sizes = [4_000, len(texts) * 7 // 10, *([200_000] if options.large else [])]
    for size in sizes:
        for name, params in CONFIGURATIONS.items():
            found = time_configuration(params, texts, size)
            add(name, size, found)
            costs[name][size] = (found[0].ratio * found[0].seconds, found[0].seconds)
    add("char_wb(2,5)", len(texts), time_folds(texts))
    add("char_wb, linear SVC", 4_000, time_search(rows[:4_000]))
    add("three tasks", len(texts), time_labels(rows))
    lines += ["", "Growth of peak resident memory over a call, MB:", ""]
    head = ["what", "sentences", "step", "scikit-learn", "kaznews"]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += memory_rows(sizes[:2])
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "features.md").write_text("\n".join(lines) + "\n", "utf-8")
    draw(costs)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
