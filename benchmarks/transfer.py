"""Written or real sentences to train on, real and written ones to test on: what transfers.

Trains the default model on the corpus, on the real train sentences and on both; tests each on the
real test sentences and on the corpus's own test articles; writes experiments/results/transfer.*.
Nothing is chosen here: features and classifier are those of conf/config.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from benchmarks.peers import groups_right, table
from benchmarks.systems import learned_rows, prepared

from kaznews.data import Task
from kaznews.evaluate import Report, evaluate
from kaznews.folds import tokenize
from kaznews.model import TEXT_COLUMN, train_task
from kaznews.root import ROOT

RESULTS = ROOT / "experiments" / "results"
LENGTHS = {"up to 8 words": (0, 8), "9 to 15": (9, 15), "16 and more": (16, 10**6)}


def fit_all(data: str) -> dict[str, Any]:
    """Return a fitted pipeline a task, trained on the train part of a data option."""
    resolved, corpus, split = prepared(f"data={data}")
    texts = tokenize(list(corpus.dataset["text"]), resolved.vectorizer)
    pipelines = {}
    for task in corpus.tasks:
        rows, y = learned_rows(corpus, split, task)
        pipelines[task.name] = train_task(
            resolved.vectorizer,
            resolved.classifier,
            texts[rows],
            y,
            split.fold[rows],
            n_jobs=resolved.settings.n_jobs,
        ).pipeline
    return pipelines


def scored(task: Task, true: Any, said: Any, **how: Any) -> Report:
    return evaluate(task, list(true), list(said), **how)


def slices_of(texts: Any, genres: Any, contrasts: Any) -> dict[str, Any]:
    """Return a mask a slice: by genre, by length in words, and the contrast sentences."""
    lengths = np.array([len(text.split()) for text in texts])
    return (
        {genre: genres == genre for genre in sorted(set(genres))}
        | {name: (lengths >= low) & (lengths <= high) for name, (low, high) in LENGTHS.items()}
        | {"contrast": np.array([name is not None for name in contrasts])}
    )


def slice_scores(task: Task, true: Any, said: Any) -> dict[str, float]:
    metrics = scored(task, true, said).metrics
    return {"n": len(true), **{f"f1_{k}": metrics[f"f1_{k}"] for k in ("favor", "against")}}


def main() -> None:
    import pandas as pd

    resolved, both, split = prepared("data=both")
    real = np.array(both.sources()) != both.unnamed
    _, written_alone, split_alone = prepared("data=corpus")
    # The written test articles must be the same whether real sentences stand beside them or not.
    ids = np.array(both.dataset["id"])
    alone = np.array(written_alone.dataset["id"])[split_alone.part == "test"]
    assert set(ids[(split.part == "test") & ~real]) == set(alone)

    tests = {"real": (split.part == "test") & real, "written": (split.part == "test") & ~real}
    texts = np.array(both.dataset["text"], dtype=object)
    groups = np.array(both.dataset["group"], dtype=object)
    columns = {c: np.array(both.dataset[c], dtype=object) for c in ("genre", "contrast")}
    result: dict[str, Any] = {"tests": {k: int(v.sum()) for k, v in tests.items()}, "models": {}}
    labels = {task.name: np.array(both.labels(task), dtype=object) for task in both.tasks}
    for data in ("corpus", "gold", "both"):
        pipelines = fit_all(data)
        result["models"][data] = {}
        for test, mask in tests.items():
            rows = np.flatnonzero(mask)
            frame = pd.DataFrame({TEXT_COLUMN: texts[rows]}, dtype=object)
            said = {name: pipeline.predict(frame) for name, pipeline in pipelines.items()}
            score = partial(
                scored,
                groups=groups[rows].tolist(),
                resamples=resolved.settings.resamples,
                seed=resolved.settings.seed,
            )
            entry: dict[str, Any] = {
                task.name: score(task, labels[task.name][rows], said[task.name]).as_dict()
                for task in both.tasks
            }
            if test == "written":
                stances = [task for task in both.tasks if "against" in task.labels]
                slices = slices_of(texts[rows], columns["genre"][rows], columns["contrast"][rows])
                for task in stances:
                    entry[task.name]["slices"] = {
                        name: slice_scores(task, labels[task.name][rows[m]], said[task.name][m])
                        for name, m in slices.items()
                    }
                right = np.all([labels[t.name][rows] == said[t.name] for t in stances], axis=0)
                n, share = groups_right(right, columns["contrast"][rows])
                entry["contrast_groups"] = {"n": n, "wholly_right": share}
            result["models"][data][test] = entry
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "transfer.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (RESULTS / "transfer.md").write_text(as_markdown(result), "utf-8")
    print(as_markdown(result))


NAMES = {"corpus": "written", "gold": "real", "both": "both"}


def main_table(result: Mapping[str, Any]) -> list[str]:
    """Return the table that README quotes."""
    head = [
        "trained on", "tested on", "topic accuracy", "topic macro-F1",
        "cooperation F1 favor / against", "trade F1 favor / against",
    ]  # fmt: skip
    rows = []
    for data, tests in result["models"].items():
        for test, entry in tests.items():
            topic = entry["topic"]
            low, high = topic["ci95"]["macro_f1"]
            cells = [
                NAMES[data],
                f"{test} ({result['tests'][test]})",
                f"{topic['accuracy']:.3f}",
                f"{topic['macro_f1']:.3f} ({low:.2f}–{high:.2f})",
            ]
            for target in ("economic_cooperation", "trade_balance"):
                per_class = entry[f"stance_{target}"]["per_class"]
                cells.append(" / ".join(f"{per_class[k]['f1']:.3f}" for k in ("favor", "against")))
            rows.append(cells)
    return table(head, rows)


def as_markdown(result: Mapping[str, Any]) -> str:
    """Return the whole record as people read it."""
    lines = main_table(result)
    lines += ["", "F1 of `favor` / `against` on the written test sentences, by slice:", ""]
    head = ["slice", "n"]
    head += [
        f"{t}, trained on {NAMES[d]}" for d in result["models"] for t in ("cooperation", "trade")
    ]
    rows = []
    first = result["models"]["corpus"]["written"]["stance_trade_balance"]["slices"]
    for name, values in first.items():
        cells = [name, str(values["n"])]
        for tests in result["models"].values():
            for target in ("economic_cooperation", "trade_balance"):
                found = tests["written"][f"stance_{target}"]["slices"][name]
                cells.append(f"{found['f1_favor']:.2f} / {found['f1_against']:.2f}")
        rows.append(cells)
    lines += table(head, rows)
    lines += ["", "Contrast groups of which every sentence got both stances right:", ""]
    lines += [
        f"- trained on {NAMES[data]}: {tests['written']['contrast_groups']['wholly_right']:.0%} of "
        f"{tests['written']['contrast_groups']['n']}"
        for data, tests in result["models"].items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
