"""Recipes for a student of a teacher, tried by cross-validation on real train sentences alone.

Writes experiments/results/distil.md: a row a recipe. Teachers are cross-fitted, so that neither a
teacher nor a student has seen the fold it is judged on; dev and test take no part. With --test the
recipes of conf/distil are fitted on train and asked about the test sentences, once, beside the
plain model and the teacher. Needs `make data` and `make encoder`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from joblib import Parallel, delayed

from kaznews.data import Task, load
from kaznews.distil import Recipe, lessons_by_fold, teach
from kaznews.evaluate import evaluate
from kaznews.folds import FoldCache, fold_matrices, tokenize
from kaznews.lessons import learn, with_lessons
from kaznews.root import ROOT
from kaznews.split import split_corpus
from kaznews.train import register_resolvers, resolve
from kaznews.unlabelled import gather, held_out_of

RESULTS = ROOT / "experiments" / "results"
JSON, TABLE = RESULTS / "distil.json", RESULTS / "distil.md"
FOLDS = 3
SHOWN = {"topic": ("accuracy", "macro_f1")}
RECIPES = [
    Recipe("hard", 1.0, 0.0, "teacher"),
    Recipe("hard", 1.0, 0.0, "labelled"),
    Recipe("soft", 1.0, 0.0, "teacher"),
    Recipe("soft", 1.0, 0.0, "labelled"),
    Recipe("confidence", 1.0, 0.0, "teacher"),
    Recipe("confidence", 1.0, 0.0, "labelled"),
    Recipe("confidence", 0.5, 0.6, "teacher"),
    Recipe("confidence", 1.0, 0.6, "teacher"),
    Recipe("confidence", 1.0, 0.6, "labelled"),
    Recipe("confidence", 2.0, 0.6, "teacher"),
    Recipe("confidence", 1.0, 0.8, "teacher"),
    Recipe("confidence", 2.0, 0.8, "teacher"),
]


def configured(*overrides: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", overrides=["data=gold", "distil=default", *overrides])
    return resolve(config)


def shown(task: Task) -> tuple[str, ...]:
    return SHOWN.get(task.name, ("f1_favor", "f1_against"))


def fold_answers(
    vectorizer: Any, classifier: Any, texts: Any, y: Any, held_out: Any, lessons: Any, asked: Any
) -> Any:
    kept, index = with_lessons(np.flatnonzero(~held_out), lessons, len(y))
    matrix, question = fold_matrices(vectorizer, texts, kept, asked)
    return learn(classifier, matrix, y[~held_out], lessons, index).predict(question)


def prepared(resolved: Any) -> tuple[Any, Any, Any, Any]:
    s = resolved.settings
    corpus = load(s.source(), s.task_list())
    sizes = {"dev_size": s.split.dev_size, "test_size": s.split.test_size}
    split = split_corpus(corpus, **sizes, n_folds=FOLDS, seed=s.seed)
    found = gather(s.data.unlabelled, held_out_of(corpus, split))
    texts = [*corpus.dataset["text"], *found.texts]
    return corpus, split, found, texts


def trials(resolved: Any) -> None:
    corpus, split, found, texts = prepared(resolved)
    student_texts = tokenize(texts, resolved.vectorizer)
    teacher_texts = tokenize(texts, resolved.teacher[0])
    behind = np.arange(len(corpus.dataset), len(texts))
    cache = FoldCache(ROOT / "experiments/cache", f"{corpus.digest}-{found.digest}", 4000)
    result: dict[str, Any] = {
        "unlabelled": {"n": len(found.texts), "digest": found.digest, "dropped": found.dropped},
        "tasks": {},
    }
    for task in corpus.tasks:
        labels, usable = corpus.learnable(task)
        train = np.flatnonzero(usable & (split.part == "train"))
        rows, y, fold = np.concatenate([train, behind]), labels[train], split.fold[train]
        own = student_texts[rows]
        teacher = teach(
            *resolved.teacher,
            teacher_texts[rows],
            y,
            fold,
            matrices=cache.of(rows).matrices,
            n_jobs=2,
        )

        def scores(said: Any, task: Task = task, y: Any = y) -> dict[str, float]:
            metrics = evaluate(task, y.tolist(), said.tolist()).metrics
            return {name: round(metrics[name], 4) for name in shown(task)}

        def student(recipe: Recipe | None, y: Any = y, fold: Any = fold, own: Any = own) -> Any:
            lessons = lessons_by_fold(teacher, y, recipe) if recipe else {}  # noqa: B023
            answers = Parallel(n_jobs=2)(
                delayed(fold_answers)(
                    resolved.vectorizer, resolved.classifier, own, y,
                    fold == k, lessons.get(k), np.flatnonzero(fold == k),
                )
                for k in range(FOLDS)
            )  # fmt: skip
            said = np.empty(len(y), dtype=object)
            for k, answer in enumerate(answers):
                said[fold == k] = answer
            return said.astype(str)

        entry = [{"name": "labels alone", **scores(student(None))}]
        print(task.name, entry[-1], flush=True)
        entry.append(
            {
                "name": "the teacher itself",
                **scores(teacher.classes[teacher.oof_probability.argmax(axis=1)]),
            }
        )
        print(task.name, entry[-1], flush=True)
        for recipe in RECIPES:
            name = (
                f"{recipe.labels}, weight {recipe.weight:g}, from confidence "
                f"{recipe.min_confidence:g}, prior {recipe.prior}"
            )
            entry.append({"name": name, **scores(student(recipe))})
            print(task.name, entry[-1], flush=True)
        result["tasks"][task.name] = entry
    before = json.loads(JSON.read_text("utf-8")) if JSON.exists() else {}
    write({**before, **result})


def test(resolved: Any) -> None:
    corpus, split, _, texts = prepared(resolved)
    s = resolved.settings
    behind = np.arange(len(corpus.dataset), len(texts))
    alone = configured("features=encoder").vectorizer
    vectorizers = {
        "char_wb": resolved.vectorizer,
        "encoder": alone,
        "encoder_char_wb": resolved.teacher[0],
    }
    tokenized = {name: tokenize(texts, v) for name, v in vectorizers.items()}
    groups = np.array(corpus.dataset["group"], dtype=object)
    rows_of_table = []
    for name in (*vectorizers, "student"):
        features = "char_wb" if name == "student" else name
        row: dict[str, Any] = {"name": name}
        for task in corpus.tasks:
            labels, usable = corpus.learnable(task)
            train, asked = (np.flatnonzero(usable & (split.part == p)) for p in ("train", "test"))
            y = labels[train]
            lessons = None
            rows = np.concatenate([train, behind])
            if name == "student" and task.name in s.distil.tasks:
                teacher = teach(
                    *resolved.teacher, tokenized["encoder_char_wb"][rows], y, split.fold[train],
                    n_jobs=2,
                )  # fmt: skip
                lessons = lessons_by_fold(teacher, y, s.distil.tasks[task.name])[-1]
            said = fold_answers(
                vectorizers[features],
                resolved.classifier,
                tokenized[features][np.concatenate([rows, asked])],
                y,
                np.zeros(len(y), dtype=bool),
                lessons,
                len(rows) + np.arange(len(asked)),
            )
            report = evaluate(
                task,
                labels[asked].tolist(),
                said.tolist(),
                groups=groups[asked].tolist(),
                resamples=s.resamples,
                seed=s.seed,
            )
            row[task.name] = {m: round(report.metrics[m], 4) for m in shown(task)}
            interval = report.intervals.get(task.main_metric)
            row[task.name]["interval"] = [round(v, 3) for v in interval] if interval else None
        print(row, flush=True)
        rows_of_table.append(row)
    write({**json.loads(JSON.read_text("utf-8")), "test": rows_of_table})


def write(result: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    JSON.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    TABLE.write_text(as_markdown(result), "utf-8")
    print(as_markdown(result))


def as_markdown(result: dict[str, Any]) -> str:
    n = result["unlabelled"]["n"]
    lines = [
        f"A student (`char_wb`) of a teacher (`encoder_char_wb`) that labels {n:,} unlabelled "
        f"sentences; {FOLDS}-fold cross-validation on the real train sentences, teachers "
        "cross-fitted. `python benchmarks/distil.py`",
        "",
    ]
    for task, entry in result["tasks"].items():
        names = [name for name in entry[0] if name != "name"]
        lines += [f"| {task} | " + " | ".join(names) + " |", "|" + " --- |" * (len(names) + 1)]
        lines += [
            f"| {row['name']} | " + " | ".join(f"{row[m]:.3f}" for m in names) + " |"
            for row in entry
        ]
        lines.append("")
    if "test" in result:
        lines += [
            "Real test sentences, asked once, models fitted on train (dev unused), recipes of "
            "conf/distil/default.yaml. `python benchmarks/distil.py --test`",
            "",
            "| | topic accuracy | topic macro-F1 | cooperation F1 favor | trade F1 favor |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in result["test"]:
            low, high = row["topic"]["interval"]
            favor = [
                row[f"stance_{t}"]["f1_favor"] for t in ("economic_cooperation", "trade_balance")
            ]
            lines.append(
                f"| {row['name']} | {row['topic']['accuracy']:.3f} | "
                f"{row['topic']['macro_f1']:.3f} ({low:.2f}–{high:.2f}) | "
                + " | ".join(f"{value:.3f}" for value in favor)
                + " |"
            )
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (test if sys.argv[1:] == ["--test"] else trials)(configured())
