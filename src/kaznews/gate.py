"""Answers of a challenger and of the champion on dev in, a decision with its reasons out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kaznews.data import Task
from kaznews.errors import KaznewsError
from kaznews.evaluate import Report, evaluate, label_metrics
from kaznews.scores import Floats

ALL = "all"


@dataclass
class Limits:
    """An option of conf/gate: how much a challenger may lose and what it must reach.

    Attributes
    ----------
    confidence : float
        One-sided level of the paired bootstrap: what a main metric may lose by chance.
    resamples : int
        Of that bootstrap.
    collapse : float
        A class has collapsed whose F1 is under this share of the champion's ...
    min_support : int
        ... if dev holds at least so many sentences of it.
    log_loss_margin : float
        Nats that log-loss may be above the champion's.
    min_unseen : float
        Share of dev that the champion must not have been trained on.
    floors : dict of str to float
        Main metric that a task must reach; a task without an entry has no floor.
    """

    confidence: float
    resamples: int
    collapse: float
    min_support: int
    log_loss_margin: float
    min_unseen: float
    floors: dict[str, float]

    def __post_init__(self) -> None:
        """Refuse limits that would make a check meaningless."""
        ranges = {
            "confidence": (0.5, 1 - 1e-9), "resamples": (1, float("inf")), "collapse": (0, 1),
            "min_support": (1, float("inf")), "log_loss_margin": (0, float("inf")),
            "min_unseen": (0, 1),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise KaznewsError(f"gate.{name} must be between {low:g} and {high:g}, not {value}")


@dataclass(frozen=True)
class Answers:
    """What one model says to the sentences of one task.

    Attributes
    ----------
    probability : ndarray, shape (n_sentences, n_classes)
    classes : tuple of str
        Its columns.
    """

    probability: Floats
    classes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The most probable label of each sentence."""
        return [self.classes[i] for i in self.probability.argmax(axis=1)]


@dataclass(frozen=True)
class Contest:
    """One task on dev: gold labels, articles, and the answers of those who are compared.

    Attributes
    ----------
    true : sequence of str or None
        Gold label of each sentence.
    groups : sequence of str
        Article of each sentence.
    champion : Answers or None
        None if there is no champion yet.
    majority : float
        Main metric of the majority baseline; what a first champion must beat.
    """

    task: Task
    true: Sequence[str | None]
    groups: Sequence[str]
    challenger: Answers
    champion: Answers | None
    majority: float


@dataclass(frozen=True)
class Check:
    """One row of a decision's table."""

    task: str
    check: str
    challenger: float | None
    champion: float | None
    limit: float | None
    passed: bool

    @property
    def reason(self) -> str:
        """The row in words."""
        values = [
            f"{name} {value:.4g}"
            for name in ("challenger", "champion", "limit")
            if (value := getattr(self, name)) is not None
        ]
        where = "" if self.task == ALL else f"{self.task} "
        return f"{where}{self.check} ({', '.join(values)})"


@dataclass(frozen=True)
class Decision:
    """Whether a challenger becomes champion, and why.

    Attributes
    ----------
    saw : str
        What of this run's dev and test the challenger was trained on; empty as it should be.
    """

    promote: bool
    reason: str
    checks: tuple[Check, ...] = ()
    saw: str = ""

    def __str__(self) -> str:
        return ("promoted: " if self.promote else "not promoted: ") + self.reason

    def rows(self) -> list[dict[str, Any]]:
        """Return the checks as rows of a table; one row of all if nothing could be checked."""
        nothing = Check(ALL, self.reason, None, None, None, self.promote)
        return [asdict(check) for check in self.checks or (nothing,)]

    def cells(self) -> list[list[str]]:
        """Return the checks as rows of text, their head first."""

        def cell(value: object) -> str:
            if isinstance(value, bool):
                return "yes" if value else "no"
            if isinstance(value, float):
                return f"{value:.4f}"
            return "" if value is None else str(value)

        rows = self.rows()
        return [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]

    def markdown(self) -> str:
        """Return the decision as a Markdown document: the verdict, then the table."""
        head, *rows = self.cells()
        lines = [" | ".join(head), " | ".join("---" for _ in head)]
        lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
        return "\n".join([f"**{self}**", "", *(f"| {line} |" for line in lines)]) + "\n"


def paired_noise(contest: Contest, limits: Limits, seed: int) -> float:
    """Return by how much the challenger's main metric may fall short by chance.

    Both models are scored on the same resamples of whole articles; the distribution of their
    difference, moved to mean 0 loss, is what chance does to two equally good models. Its quantile
    at `confidence` is the noise: two models that err on the same sentences have little of it.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 16. Berg-Kirkpatrick,
    Burkett and Klein (2012), An Empirical Investigation of Statistical Significance in NLP.
    """
    task, champion = contest.task, contest.champion
    if champion is None:
        raise ValueError("noise is that of a pair: there is no champion")
    kept = [i for i, t in enumerate(contest.true) if t is not None and t not in task.excluded]
    size = len(task.labels)
    index = {label: i for i, label in enumerate(task.labels)}
    names, group_of = np.unique([contest.groups[i] for i in kept], return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=limits.resamples
    )

    def scores(labels: Sequence[str]) -> tuple[Floats, float]:
        cells = [index[str(contest.true[i])] * size + index[labels[i]] for i in kept]
        per_group = np.zeros((len(names), size * size))
        np.add.at(per_group, (group_of.tolist(), cells), 1)
        matrices = np.vstack([draws @ per_group, per_group.sum(axis=0)])
        values = label_metrics(matrices.reshape(-1, size, size), task.labels)[task.main_metric]
        return values[:-1], float(values[-1])

    (new, new_value), (old, old_value) = scores(contest.challenger.labels), scores(champion.labels)
    shortfall = (old - new) - (old_value - new_value)
    return max(0.0, float(np.quantile(shortfall, limits.confidence)))


def contest_checks(contest: Contest, limits: Limits, seed: int) -> tuple[list[Check], bool]:
    """Return the checks of one task, and whether the challenger is the better one there.

    Raises
    ------
    KaznewsError
        No sentence has a label of the task, or a model answers with labels it does not have.
    """
    task, metric = contest.task, contest.task.main_metric
    checks: list[Check] = []

    def check(name: str, new: float, old: float | None, limit: float, passed: bool) -> None:
        checks.append(Check(task.name, name, new, old, limit, passed))

    def report(answers: Answers) -> Report:
        return evaluate(
            task,
            contest.true,
            answers.labels,
            probability=answers.probability,
            classes=answers.classes,
        )

    new = report(contest.challenger).metrics
    value = new[metric]
    if task.name in limits.floors:
        floor = limits.floors[task.name]
        check(f"{metric} at least floor", value, None, floor, value >= floor)
    if contest.champion is None:
        beaten = value > contest.majority
        check(f"{metric} above majority", value, None, contest.majority, beaten)
        return checks, beaten
    champion = report(contest.champion)
    old = champion.metrics
    limit = old[metric] - paired_noise(contest, limits, seed)
    check(f"{metric} within noise of champion", value, old[metric], limit, value >= limit)
    for label, support in zip(task.labels, champion.matrix.sum(axis=1), strict=True):
        if support >= limits.min_support:
            f1, f1_old = new[f"f1_{label}"], old[f"f1_{label}"]
            limit = limits.collapse * f1_old
            check(f"f1_{label} not collapsed", f1, f1_old, limit, f1 >= limit)
    loss, loss_old = new["log_loss"], old["log_loss"]
    limit = loss_old + limits.log_loss_margin
    check("log_loss within margin", loss, loss_old, limit, loss <= limit)
    return checks, value > old[metric]


def decide(contests: Sequence[Contest], limits: Limits, seed: int = 0) -> Decision:
    """Decide from the answers of challenger and champion to the same dev sentences.

    Notes
    -----
    A first champion must reach the floors and beat the majority baseline on every task. Later ones
    must reach the floors, be better on one task at least by the main metric, worse on none by more
    than paired bootstrap noise, have no collapsed class, and no log-loss beyond the margin.
    """
    checks, better = [], []
    for contest in contests:
        found, is_better = contest_checks(contest, limits, seed)
        checks += found
        if is_better:
            better.append(contest.task.name)
    first = all(contest.champion is None for contest in contests)
    if not first:
        checks.append(Check(ALL, "tasks better", float(len(better)), None, 1.0, bool(better)))
    failed = [check.reason for check in checks if not check.passed]
    if failed:
        reason = f"failed: {'; '.join(failed)}"
    elif first:
        reason = "first model, beats the majority baseline on every task"
    else:
        reason = f"better on {', '.join(better)}, no check failed"
    return Decision(not failed, reason, tuple(checks))


def refuse(seen: Mapping[str, int]) -> Decision | None:
    """Return the refusal of a challenger trained on held-out sentences, None of a clean one.

    Parameters
    ----------
    seen : mapping of ``dev`` and ``test`` to the number of sentences it was trained on
    """
    checks = tuple(
        Check(ALL, f"{part} sentences seen in training", float(count), None, 0.0, count == 0)
        for part, count in seen.items()
    )
    if not any(seen.values()):
        return None
    saw = " and ".join(f"{count} {part} sentences" for part, count in seen.items() if count)
    return Decision(False, f"it was trained on {saw} or on their articles", checks, saw)


def incomparable(seen: Sequence[bool], limits: Limits) -> Decision | None:
    """Return the decision where the champion has seen too much of dev, else None."""
    unseen = len(seen) - sum(seen)
    if unseen and unseen >= limits.min_unseen * len(seen):
        return None
    share = unseen / max(1, len(seen))
    check = Check(ALL, "share of dev unseen by the champion", None, share, limits.min_unseen, False)
    reason = (
        f"the champion was trained on {sum(seen)} of {len(seen)} dev sentences or on their "
        "articles, so the two cannot be compared; `make promote` decides by hand"
    )
    return Decision(False, reason, (check,))
