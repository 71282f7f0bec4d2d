"""Declared options and folds of train in, for each task the simplest recipe as good as any out.

Three rounds: features under one classifier; the best of them under every classifier; the best pairs
with every weighting of the sources. Scores are those of held-out folds of train; dev and test take
no part.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.data import Corpus, Task, load
from kaznews.evaluate import STANCE_CLASSES, evaluate
from kaznews.folds import FoldCache, tokenize
from kaznews.lessons import source_weights
from kaznews.search import Answers, Candidate, out_of_fold
from kaznews.settings import SearchSettings, Settings
from kaznews.split import split_corpus

# Sentences that name their source, whatever it is.
NAMED = "real"
log = logging.getLogger("kaznews.train")

Key = tuple[int, int, int]
Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Options:
    """What is tried, simplest first, each under the overrides that ask for it.

    Attributes
    ----------
    features, classifiers : mapping of str to estimator
        Unfitted.
    weights : mapping of str to mapping
        Weights by source.
    """

    features: Mapping[str, Any]
    classifiers: Mapping[str, Any]
    weights: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Trial:
    """One recipe on the folds of train.

    Attributes
    ----------
    key : (int, int, int)
        Places of features, classifier and weights among the options: the smaller, the simpler.
    scores : ndarray, shape (n_folds,)
    seconds : float
        As in `search.Answers`.
    parts : mapping of str to mapping
        Metrics out of fold, by kind of source.
    """

    key: Key
    scores: Floats
    seconds: float
    parts: Mapping[str, Mapping[str, float]]

    @property
    def mean(self) -> float:
        """Mean score over folds."""
        return float(self.scores.mean())

    @property
    def error(self) -> float:
        """Standard error of that mean."""
        return float(self.scores.std(ddof=1) / np.sqrt(len(self.scores)))


def simplest(trials: Sequence[Trial]) -> Trial:
    """Return the simplest trial that is worse than the best by no more than one standard error.

    It is that of the difference, fold by fold: all trials share the folds, and what makes one fold
    harder than another says nothing of their order. (The rule of Breiman, Friedman, Olshen and
    Stone, 1984, section 3.4.3, on paired differences.)
    """
    best = max(trials, key=lambda trial: trial.mean)

    def as_good(trial: Trial) -> bool:
        difference = best.scores - trial.scores
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        return bool(difference.mean() <= error)

    return min((trial for trial in trials if as_good(trial)), key=lambda trial: trial.key)


def shown_metrics(task: Task) -> tuple[str, ...]:
    """Return the metrics that tables show of a task."""
    if set(STANCE_CLASSES) <= set(task.labels):
        return tuple(f"f1_{name}" for name in STANCE_CLASSES)
    return ("accuracy", "macro_f1")


class Scorer:
    """Scores answers of one task by fold and by kind of source.

    Parameters
    ----------
    task : Task
    y, fold : ndarray, shape (n_sentences,)
    kinds : ndarray of str, shape (n_sentences,)
        Kind of source.
    wanted : sequence of str
        ``<kind>.<metric>``, whose mean is the score; kinds that the data lack are passed over, and
        without any the main metric on all sentences is the score.
    """

    def __init__(
        self,
        task: Task,
        y: Strings,
        fold: npt.NDArray[np.int64],
        kinds: npt.NDArray[np.str_],
        wanted: Sequence[str],
    ) -> None:
        self.task, self.y, self.fold, self.kinds = task, y, fold, kinds
        pairs = [tuple(entry.split(".", 1)) for entry in wanted]
        self.wanted = [(kind, metric) for kind, metric in pairs if (kinds == kind).any()]

    def __call__(self, key: Key, answers: Answers) -> Trial:
        """Return the trial of what was answered."""
        everywhere = np.ones(len(self.y), dtype=bool)
        wanted = [(self.kinds == kind, metric) for kind, metric in self.wanted]
        wanted = wanted or [(everywhere, self.task.main_metric)]
        scores = [
            np.mean([self._metrics(answers, (self.fold == k) & rows)[m] for rows, m in wanted])
            for k in np.unique(self.fold)
        ]
        parts = {}
        for kind in np.unique(self.kinds).tolist():
            metrics = self._metrics(answers, self.kinds == kind)
            parts[kind] = {name: metrics[name] for name in shown_metrics(self.task)}
        return Trial(key, np.array(scores), answers.seconds, parts)

    def _metrics(self, answers: Answers, rows: npt.NDArray[np.bool_]) -> Mapping[str, float]:
        return evaluate(self.task, self.y[rows].tolist(), answers.said[rows].tolist()).metrics


def rounds(
    options: Options,
    search: SearchSettings,
    scorer: Scorer,
    sources: Sequence[str],
    texts: Any,
    *,
    cache: FoldCache,
    n_jobs: int,
) -> tuple[list[Trial], dict[str, str]]:
    """Try the options on one task, round by round.

    Returns
    -------
    list of Trial
        Best first.
    dict of str to str
        Classifiers that cannot be fitted on this task, and why.
    """
    vectorizers, classifiers = list(options.features.values()), list(options.classifiers.values())
    weights = [source_weights(sources, entry) for entry in options.weights.values()]
    trials: dict[Key, Trial] = {}
    failed: dict[str, str] = {}

    def attempt(keys: Sequence[Key]) -> None:
        new = [key for key in dict.fromkeys(keys) if key not in trials]
        candidates = [Candidate(vectorizers[f], classifiers[c], weights[w]) for f, c, w in new]
        found = out_of_fold(
            candidates, texts, scorer.y, scorer.fold, matrices=cache.matrices, n_jobs=n_jobs
        )
        for key, answers in zip(new, found, strict=True):
            if isinstance(answers, str):
                failed[list(options.classifiers)[key[1]]] = answers
            else:
                trials[key] = scorer(key, answers)

    def best(n: int) -> list[Trial]:
        return sorted(trials.values(), key=lambda trial: -trial.mean)[:n]

    reference = list(options.classifiers).index(search.reference)
    attempt([(f, reference, 0) for f in range(len(vectorizers))])
    log.info("%s: %d features tried", scorer.task.name, len(trials))
    # The simplest that are as good go on beside the best.
    leading = {trial.key[0] for trial in [*best(search.keep), simplest(list(trials.values()))]}
    attempt([(f, c, 0) for f in sorted(leading) for c in range(len(classifiers))])
    log.info("%s: %d pairs tried", scorer.task.name, len(trials))
    leaders = {trial.key[:2] for trial in [*best(search.keep), simplest(list(trials.values()))]}
    attempt([(f, c, w) for f, c in sorted(leaders) for w in range(len(weights))])
    log.info("%s: %d recipes tried", scorer.task.name, len(trials))
    return best(len(trials)), failed


def _entry(task: Task, options: Options, trials: Sequence[Trial], score: str) -> dict[str, Any]:
    """Return the trials of a task as plain data."""
    names = [list(options.features), list(options.classifiers), list(options.weights)]
    return {
        "score": score,
        "chosen": trials.index(simplest(trials)),
        "metrics": list(shown_metrics(task)),
        "trials": [
            {
                **{
                    group: names[i][trial.key[i]]
                    for i, group in enumerate(("features", "classifier", "weights"))
                },
                "score": round(trial.mean, 4),
                "standard_error": round(trial.error, 4),
                "seconds": round(trial.seconds, 2),
                "parts": {
                    kind: {name: round(value, 4) for name, value in metrics.items()}
                    for kind, metrics in trial.parts.items()
                },
            }
            for trial in trials
        ],
    }


def preset(task: str, trial: Mapping[str, Any], data: str) -> str:
    """Return conf/experiment/<task>.yaml for a trial, what differs from conf/config.yaml alone."""
    import yaml

    chosen, changed = [], {}
    for group in ("features", "classifier"):
        first, *deltas = trial[group].split()
        chosen.append(f"  - /{group}@per_task.{task}.{group}: {first.split('=', 1)[1]}")
        if deltas:
            pairs = [delta.removeprefix(f"{group}.").split("=", 1) for delta in deltas]
            changed[group] = {name: yaml.safe_load(value) for name, value in pairs}
    if weights := _weights(trial["weights"]):
        changed["weights"] = weights
    lines = [
        "# @package _global_",
        f"# What `make search` recommends for {task}: experiments/results/search.md.",
        "defaults:",
        *chosen,
        "  - _self_",
        f"  - override /task: {task}",
        f"  - override /data: {data}",
    ]
    if changed:
        lines += ["per_task:", f"  {task}:"]
        for name, values in changed.items():
            inner = yaml.safe_dump(values, default_flow_style=True, width=10**6).strip()
            lines.append(f"    {name}: {inner}")
    return "\n".join(lines) + "\n"


def choose(settings: Settings, options: Options, search: SearchSettings, cache: Path) -> str:
    """Search every task of the settings, write ``search.json`` and ``search.md``; return presets.

    Parameters
    ----------
    options : Options
    search : SearchSettings
    cache : Path
        Folder that keeps the matrices of folds.

    Raises
    ------
    KaznewsError
        The data are not valid or cannot be split, or a metric is not known.
    """
    corpus = load(settings.source(), settings.task_list())
    split = split_corpus(corpus, **vars(settings.split), seed=settings.seed)
    texts = tokenize(list(corpus.dataset["text"]), *options.features.values())
    sources = np.array(corpus.sources())
    kinds = np.where(sources == corpus.unnamed, corpus.unnamed, NAMED)
    megabytes = max(settings.cache_mb, 1)
    kept = FoldCache(cache, corpus.digest, megabytes)
    record: dict[str, Any] = {
        "data": corpus.name,
        "digest": corpus.digest,
        "folds": settings.split.n_folds,
        "sentences": {
            kind: int((split.part[kinds == kind] == "train").sum()) for kind in np.unique(kinds)
        },
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
        record["tasks"][task.name] = {**_entry(task, options, trials, score), "failed": failed}
    kept.shrink()
    folder = Path(search.folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (folder / "search.json").write_text(text + "\n", "utf-8")
    (folder / "search.md").write_text(as_markdown(record, search.shown), "utf-8")
    found = [f"every trial: {folder / 'search.md'}"]
    for name, entry in record["tasks"].items():
        text = preset(name, entry["trials"][entry["chosen"]], corpus.name)
        found.append(f"conf/experiment/{name}.yaml:\n{text}")
    return "\n\n".join(found)


def _learnable(
    corpus: Corpus, task: Task, within: npt.NDArray[np.bool_]
) -> tuple[Strings, npt.NDArray[np.int64]]:
    """Return the labels of a task that can be learned within some rows, and their rows."""
    y = np.array([label or "" for label in corpus.labels(task)])
    rows = np.flatnonzero(within & (y != "") & ~np.isin(y, task.excluded))
    return y[rows], rows


def as_markdown(record: Mapping[str, Any], shown: int) -> str:
    """Return the record as one table a task: its best trials and the chosen one."""
    sentences = ", ".join(f"{n:,} {kind}" for kind, n in record["sentences"].items())
    lines = [
        f"Recipes by {record['folds']}-fold cross-validation, disjoint by article, on the train "
        f"sentences of `data={record['data']}` (`{record['digest']}`: {sentences}). `make search`",
        "",
        "Chosen (**bold**) is the simplest that is worse than the best by no more than one "
        "standard error of the difference, fold by fold; simpler is what stands earlier in "
        "`conf/search/default.yaml`, features first. The score behind ± has its own standard "
        "error. Seconds of one processor fit the classifier of a fold.",
    ]
    for name, entry in record["tasks"].items():
        trials, chosen = entry["trials"], entry["chosen"]
        kinds = list(trials[0]["parts"])
        columns = [f"{kind} {metric}" for kind in kinds for metric in entry["metrics"]]
        lines += ["", f"## {name}", "", f"Score: {entry['score']}. {len(trials)} recipes.", ""]
        lines.append(
            "| features | classifier | weights | score | " + " | ".join(columns) + " | s |"
        )
        lines.append("|" + " --- |" * (5 + len(columns)))
        for i in sorted({*range(min(shown, len(trials))), chosen}):
            trial = trials[i]
            cells = [
                _short(trial["features"], "features"),
                _short(trial["classifier"], "classifier"),
                ", ".join(f"{k} {v:g}" for k, v in _weights(trial["weights"]).items()),
                f"{trial['score']:.3f} ± {trial['standard_error']:.3f}",
                *(f"{trial['parts'][k][m]:.3f}" for k in kinds for m in entry["metrics"]),
                f"{trial['seconds']:.1f}",
            ]
            if i == chosen:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append("| " + " | ".join(cells) + " |")
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
