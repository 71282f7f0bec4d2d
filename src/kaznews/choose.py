"""Declared options and the folds of a task in, trials of recipes out, and the simplest good one.

Four rounds, each on what the last one left: features under one classifier; every classifier on the
best features; the best of both in every combination; the best pairs with every weighting of the
sources. What is far behind on the first folds is not asked about the others. Scores are those of
held-out folds of train; dev and test take no part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.data import Task
from kaznews.distil import Study
from kaznews.errors import KaznewsError
from kaznews.evaluate import STANCE_CLASSES, evaluate
from kaznews.folds import FoldCache
from kaznews.lessons import source_weights
from kaznews.model import train_task
from kaznews.search import Answers, Candidate, out_of_fold
from kaznews.settings import SearchSettings

# On so many folds all are asked.
HEATS = 2
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
        Of the first HEATS alone where it was far behind on them.
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
        asked = answers.said != ""
        wanted = [(self.kinds == kind, metric) for kind, metric in self.wanted]
        wanted = wanted or [(np.ones_like(asked), self.task.main_metric)]
        scores = [
            np.mean([self._metrics(answers, (self.fold == k) & rows)[m] for rows, m in wanted])
            for k in np.unique(self.fold[asked])
        ]
        parts = {}
        for kind in np.unique(self.kinds).tolist():
            metrics = self._metrics(answers, (self.kinds == kind) & asked)
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
        Best first; behind them those that were asked about the first folds alone.
    dict of str to str
        Classifiers that cannot be fitted on this task, and why.
    """
    vectorizers, classifiers = list(options.features.values()), list(options.classifiers.values())
    weights = [source_weights(sources, entry) for entry in options.weights.values()]
    numbers = np.unique(scorer.fold).tolist()
    heats, others = numbers[:HEATS], numbers[HEATS:]
    trials: dict[Key, Trial] = {}
    behind: dict[Key, Trial] = {}
    failed: dict[str, str] = {}

    def attempt(keys: Sequence[Key]) -> None:
        new = [key for key in dict.fromkeys(keys) if key not in trials and key not in behind]
        first = ask(new, heats)
        scored = {key: scorer(key, answers) for key, answers in first.items()}
        means = [trial.mean for trial in scored.values()]
        means += [float(trial.scores[:HEATS].mean()) for trial in trials.values()]
        near = [k for k, trial in scored.items() if trial.mean >= max(means) - search.margin]
        behind.update({key: trial for key, trial in scored.items() if key not in near})
        for key, answers in ask(near, others).items():
            own = first[key]
            said = np.where(answers.said == "", own.said, answers.said)
            seconds = np.average([own.seconds, answers.seconds], weights=[HEATS, len(others)])
            trials[key] = scorer(key, Answers(said, float(seconds)))

    def ask(keys: Sequence[Key], folds: Sequence[int]) -> dict[Key, Answers]:
        candidates = [Candidate(vectorizers[f], classifiers[c], weights[w]) for f, c, w in keys]
        found = out_of_fold(
            candidates,
            texts,
            scorer.y,
            scorer.fold,
            only=folds,
            matrices=cache.matrices,
            n_jobs=n_jobs,
        )
        answered = {}
        for key, answers in zip(keys, found, strict=True):
            if isinstance(answers, str):
                failed[list(options.classifiers)[key[1]]] = answers
            else:
                answered[key] = answers
        return answered

    def best(n: int) -> list[Trial]:
        return sorted(trials.values(), key=lambda trial: -trial.mean)[:n]

    def leaders() -> list[Trial]:
        return [*best(search.keep), simplest(list(trials.values()))]

    reference = list(options.classifiers).index(search.reference)
    attempt([(f, reference, 0) for f in range(len(vectorizers))])
    if not trials:
        raise KaznewsError(f"{scorer.task.name}: {search.reference} cannot be fitted: {failed}")
    log.info("%s: features tried", scorer.task.name)
    # Beside the best goes on the simplest that is as good.
    leading = sorted({trial.key[0] for trial in leaders()})
    own = {*search.classifiers, *search.further.get(scorer.task.name, [])}
    tried = [c for c, name in enumerate(options.classifiers) if name in own]
    attempt([(best(1)[0].key[0], c, 0) for c in tried])
    log.info("%s: classifiers tried", scorer.task.name)
    attempt([(f, trial.key[1], 0) for f in leading for trial in leaders()])
    log.info("%s: pairs tried", scorer.task.name)
    pairs = sorted({trial.key[:2] for trial in leaders()})
    attempt([(f, c, w) for f, c in pairs for w in range(len(weights))])
    log.info("%s: %d recipes tried", scorer.task.name, len(trials) + len(behind))
    return [*best(len(trials)), *sorted(behind.values(), key=lambda trial: -trial.mean)], failed


def taught(
    study: Study,
    scorer: Scorer,
    trial: Trial,
    options: Options,
    rows: npt.NDArray[np.int64],
    texts: Any,
    weight: Floats | None,
    *,
    cache: FoldCache,
    n_jobs: int,
) -> tuple[Trial, dict[str, Any]]:
    """Return how the recipe of a trial does when it learns from a cross-fitted teacher too.

    Parameters
    ----------
    rows : ndarray of int
        Of the labelled sentences among `texts`, which go on with the unlabelled ones.
    weight : ndarray, shape (n_rows,), optional

    Returns
    -------
    Trial
        Its seconds are 0.
    dict
        As `distil.Study.lessons` returns it.
    """
    name, y, fold = scorer.task.name, scorer.y, scorer.fold
    own = np.concatenate([rows, study.behind()])
    how: dict[str, Any] = {"matrices": cache.of(own).matrices, "n_jobs": n_jobs, "weight": weight}
    lessons, facts = study.lessons(
        name, rows, y, fold, **(how | {"matrices": cache.of(rows).matrices})
    )
    fitted = train_task(
        list(options.features.values())[trial.key[0]],
        list(options.classifiers.values())[trial.key[1]],
        texts[own],
        y,
        fold,
        calibration="none",
        lessons=lessons,
        **how,
    )
    said = fitted.classes[fitted.oof_probability.argmax(axis=1)]
    return scorer(trial.key, Answers(said, 0.0)), facts
