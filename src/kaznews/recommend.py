"""A configured search in, its record, tables and a preset a task out: what ``make search`` does."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.choose import Options, Scorer, Trial, rounds, shown_metrics, simplest, taught
from kaznews.data import Corpus, Task, load
from kaznews.distil import study_of
from kaznews.folds import FoldCache, tokenize
from kaznews.lessons import source_weights
from kaznews.settings import SearchSettings, Settings
from kaznews.split import split_corpus

# Sentences that name their source, whatever it is.
NAMED = "real"
GROUPS = ("features", "classifier", "weights")
# What conf/config.yaml does.
DEFAULT = ["features=char_wb", "classifier=linear_svc", "weights=null"]
DEFAULT_OPTION = "default"
Strings = npt.NDArray[np.str_]
log = logging.getLogger("kaznews.train")


def _entry(task: Task, options: Options, trials: Sequence[Trial], score: str) -> dict[str, Any]:
    """Return the trials of a task as plain data."""
    n_folds = max(len(trial.scores) for trial in trials)
    names = [list(options.features), list(options.classifiers), list(options.weights)]
    return {
        "score": score,
        "chosen": trials.index(simplest([t for t in trials if len(t.scores) == n_folds])),
        "metrics": list(shown_metrics(task)),
        "trials": [
            {
                **{group: names[i][trial.key[i]] for i, group in enumerate(GROUPS)},
                "score": round(trial.mean, 4),
                "standard_error": round(trial.error, 4),
                "folds": len(trial.scores),
                "seconds": round(trial.seconds, 2),
                "parts": _rounded(trial.parts),
            }
            for trial in trials
        ],
    }


def _rounded(parts: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {kind: {k: round(v, 4) for k, v in own.items()} for kind, own in parts.items()}


def _prefix(option: str) -> str:
    """Return what names of the record and presets of an option of conf/search begin with."""
    return "" if option == DEFAULT_OPTION else f"{option}_"


def _command(option: str) -> str:
    return "make search" if option == DEFAULT_OPTION else f"make search SEARCH={option}"


def preset(task: str, trial: Mapping[str, Any], data: str, option: str = DEFAULT_OPTION) -> str:
    """Return conf/experiment/<task>.yaml for a trial, what differs from conf/config.yaml alone.

    `option` of conf/search names the search whose record the first line points to.
    """
    import yaml

    chosen: list[str] = []
    changed: dict[str, Any] = {}
    for group in ("features", "classifier"):
        first, *deltas = trial[group].split()
        chosen.append(f"  - /{group}@per_task.{task}.{group}: {first.split('=', 1)[1]}")
        if deltas:
            changed[group] = {}
        for delta in deltas:
            name, value = delta.removeprefix("+").removeprefix(f"{group}.").split("=", 1)
            *outer, last = name.split(".")
            inner = changed[group]
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[last] = yaml.safe_load(value)
    if weights := _weights(trial["weights"]):
        changed["weights"] = weights
    lines = [
        "# @package _global_",
        f"# What `{_command(option)}` says of {task}: "
        f"experiments/results/{_prefix(option)}search.md.",
        "defaults:",
        *chosen,
        "  - _self_",
        f"  - override /task: {task}",
        f"  - override /data: {data}",
    ]
    if changed:
        lines += ["per_task:", f"  {task}:"]
        for name, values in changed.items():
            text = yaml.safe_dump(values, default_flow_style=True, width=10**6).strip()
            lines.append(f"    {name}: {text}")
    return "\n".join(lines) + "\n"


def _taught_entry(trial: Trial, found: Trial, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a teacher adds to a trial; it pays if that is above its standard error."""
    gain = found.scores - trial.scores
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return {
        "recipe": facts["recipe"],
        "teacher_accuracy": round(facts["teacher_cv_accuracy"], 4),
        "unlabelled": facts["unlabelled_sentences"],
        "score": round(found.mean, 4),
        "gain": round(float(gain.mean()), 4),
        "standard_error": round(error, 4),
        "pays": bool(gain.mean() > error),
        "parts": _rounded(found.parts),
    }


def recommend(
    settings: Settings,
    options: Options,
    search: SearchSettings,
    cache: Path,
    teacher: tuple[Any, Any] | None = None,
) -> str:
    """Search every task of the settings, write ``search.json`` and ``.md``; return presets.

    An option of conf/search that is not the default has its name before theirs.

    Parameters
    ----------
    options : Options
    search : SearchSettings
    cache : Path
        Folder that keeps the matrices of folds.
    teacher : (estimator, estimator), optional
        With ``settings.distil``: its recipes are tried on what was chosen.

    Raises
    ------
    KaznewsError
        The data are not valid or cannot be split, or a metric is not known.
    """
    corpus = load(settings.source(), settings.task_list())
    split = split_corpus(corpus, **vars(settings.split), seed=settings.seed)
    study = None
    if settings.distil is not None and teacher is not None:
        pool, recipes = settings.data.unlabelled, settings.distil.recipes()
        study = study_of(*teacher, pool, corpus, split, recipes, settings.distil.optional)
    more = study.found.texts if study else ()
    texts = tokenize([*corpus.dataset["text"], *more], *options.features.values())
    sources = np.array(corpus.sources())
    kinds = np.where(sources == corpus.unnamed, corpus.unnamed, NAMED)
    megabytes = max(settings.cache_mb, 1)
    digest = f"{corpus.digest}-{study.found.digest}" if study else corpus.digest
    kept = FoldCache(cache, digest, megabytes)
    folder, name = Path(search.folder), f"{_prefix(search.name)}search"
    start = time.monotonic()
    record: dict[str, Any] = {
        "search": search.name,
        "data": corpus.name,
        "digest": corpus.digest,
        "folds": settings.split.n_folds,
        "sentences": {
            kind: int((split.part[kinds == kind] == "train").sum()) for kind in np.unique(kinds)
        },
        "cores": os.cpu_count(),
        "tasks": {},
    }
    for task in corpus.tasks:
        y, rows = _learnable(corpus, task, split.part == "train")
        wanted = search.score.get(task.name, [])
        scorer = Scorer(task, y, split.fold[rows], kinds[rows], wanted)
        trials, failed = rounds(
            options,
            search,
            scorer,
            sources[rows].tolist(),
            texts[rows],
            cache=kept.of(rows),
            n_jobs=settings.n_jobs,
        )
        score = " and ".join(f"{m} of {kind}" for kind, m in scorer.wanted) or task.main_metric
        entry = {**_entry(task, options, trials, score), "failed": failed}
        if study is not None and task.name in study.recipes:
            best = trials[entry["chosen"]]
            by_source = list(options.weights.values())[best.key[2]]
            weight = source_weights(sources[rows].tolist(), by_source)
            found, facts = taught(
                study,
                scorer,
                best,
                options,
                rows,
                texts,
                weight,
                cache=kept,
                n_jobs=settings.n_jobs,
            )
            entry["taught"] = _taught_entry(best, found, facts)
            log.info("%s: gain by a teacher %s", task.name, entry["taught"]["gain"])
        record["tasks"][task.name] = entry
        record["minutes"] = round((time.monotonic() - start) / 60, 1)
        # After every task: an interrupted search leaves what it has found.
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", "utf-8")
        (folder / f"{name}.md").write_text(as_markdown(record, search.shown), "utf-8")
    kept.shrink()
    said = [f"every trial: {folder / name}.md"]
    for task_name, entry in record["tasks"].items():
        text = preset(task_name, entry["trials"][entry["chosen"]], corpus.name, search.name)
        said.append(f"conf/experiment/{_prefix(search.name)}{task_name}.yaml:\n{text}")
    return "\n\n".join(said)


def _learnable(
    corpus: Corpus, task: Task, within: npt.NDArray[np.bool_]
) -> tuple[Strings, npt.NDArray[np.int64]]:
    """Return the labels of a task that can be learned within some rows, and their rows."""
    y, usable = corpus.learnable(task)
    rows = np.flatnonzero(within & usable)
    return y[rows], rows


def summary(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table: what was chosen for each task, and its score.

    Behind it the score of DEFAULT, where that was asked about all folds.
    """
    lines = ["| task | features | classifier | weights | score | default |", "|" + " --- |" * 6]
    for name, entry in record["tasks"].items():
        chosen = entry["trials"][entry["chosen"]]
        plain = [
            f"{trial['score']:.3f}"
            for trial in entry["trials"]
            if [trial[group] for group in GROUPS] == DEFAULT and trial["folds"] == record["folds"]
        ]
        cells = [name, *_recipe(chosen), f"{chosen['score']:.3f} ± {chosen['standard_error']:.3f}"]
        lines.append("| " + " | ".join([*cells, *(plain or [""])]) + " |")
    return lines


def _recipe(trial: Mapping[str, Any]) -> list[str]:
    """Return features, classifier and weights of a trial, as tables show them."""
    weights = ", ".join(f"{k} {v:g}" for k, v in _weights(trial["weights"]).items())
    return [_short(trial[group], group) for group in GROUPS[:2]] + [weights]


def as_markdown(record: Mapping[str, Any], shown: int) -> str:
    """Return the record as one table a task: its best trials and the chosen one."""
    sentences = ", ".join(f"{n:,} {kind}" for kind, n in record["sentences"].items())
    option = record["search"]
    lines = [
        f"Recipes by {record['folds']}-fold cross-validation, disjoint by article, on the train "
        f"sentences of `data={record['data']}` (`{record['digest']}`: {sentences}), in "
        f"{record['minutes']:.0f} minutes on {record['cores']} cores. `{_command(option)}`",
        "",
        "Chosen (**bold**) is the simplest that is worse than the best by no more than one "
        "standard error of the difference, fold by fold; simpler is what stands earlier in "
        f"`conf/search/{option}.yaml`, features first. The score behind ± has its own standard "
        "error. Seconds of one processor fit the classifier of a fold.",
        "",
        *summary(record),
    ]
    for name, entry in record["tasks"].items():
        trials, chosen = entry["trials"], entry["chosen"]
        kinds = list(trials[0]["parts"])
        columns = [f"{kind} {metric}" for kind in kinds for metric in entry["metrics"]]
        lines += ["", f"## {name}", "", f"Score: {entry['score']}. {len(trials)} recipes.", ""]
        trials = [trial for trial in trials if trial["folds"] == record["folds"]]
        lines.append(
            "| features | classifier | weights | score | " + " | ".join(columns) + " | s |"
        )
        lines.append("|" + " --- |" * (5 + len(columns)))
        for i in sorted({*range(min(shown, len(trials))), chosen}):
            trial = trials[i]
            cells = [
                *_recipe(trial),
                f"{trial['score']:.3f} ± {trial['standard_error']:.3f}",
                *(f"{trial['parts'][k][m]:.3f}" for k in kinds for m in entry["metrics"]),
                f"{trial['seconds']:.1f}",
            ]
            if i == chosen:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append("| " + " | ".join(cells) + " |")
        if found := entry.get("taught"):
            values = ", ".join(
                f"{found['parts'][k][m]:.3f} {k} {m}" for k in kinds for m in entry["metrics"]
            )
            lines += [
                "",
                f"What was chosen, learning from a teacher too ({found['unlabelled']:,} unlabelled "
                f"sentences, teacher and recipe of `conf/distil/best.yaml`, its accuracy "
                f"{found['teacher_accuracy']:.3f}): {found['score']:.3f}, a gain of "
                f"{found['gain']:+.3f} ± {found['standard_error']:.3f}; {values}.",
            ]
        lines += [f"\n`{which}` is left out: {why}" for which, why in entry["failed"].items()]
    return "\n".join(lines) + "\n"


def _weights(override: str) -> dict[str, float]:
    """Return the weights that an override asks for, ``weights={written:0.5}`` for instance."""
    import yaml

    found = yaml.safe_load(override.split("=", 1)[1].replace(":", ": "))
    return dict(found or {})


def _short(overrides: str, group: str) -> str:
    first, *deltas = overrides.split()
    return " ".join([first.removeprefix(f"{group}="), *(d.split(".", 1)[-1] for d in deltas)])
