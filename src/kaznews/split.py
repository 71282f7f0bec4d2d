"""A corpus in, train, dev, test and cross-validation folds out: no group on both sides."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kaznews.data import SPLITS, Corpus
from kaznews.errors import KaznewsError, ProblemsError


@dataclass(frozen=True)
class Split:
    """Which row goes where.

    Attributes
    ----------
    part : ndarray of str, shape (n_sentences,)
        ``train``, ``dev`` or ``test``.
    fold : ndarray of int, shape (n_sentences,)
        0 to n_folds - 1 for train rows, -1 for others.
    origin : str
        ``fixed`` where the data brought all parts, ``drawn`` or ``partly fixed`` otherwise.
    """

    part: npt.NDArray[np.str_]
    fold: npt.NDArray[np.int64]
    origin: str

    @property
    def n_folds(self) -> int:
        """Number of cross-validation folds."""
        return int(self.fold.max()) + 1


def _strata(corpus: Corpus, rows: npt.NDArray[np.int64], minimum: int) -> list[str]:
    """Return one stratum a row: all labels together, coarser where that would be too rare."""
    by_task = [corpus.labels(task) for task in corpus.tasks]
    levels = [["/".join(str(labels[i]) for labels in by_task) for i in rows]]
    # The last tasks are the rare stances: drop columns from the front until the stratum is common.
    levels += [
        ["/".join(str(labels[i]) for labels in by_task[skip:]) for i in rows]
        for skip in range(1, len(by_task))
    ]
    counts = [Counter(level) for level in levels]
    return [
        next(
            (level[i] for level, n in zip(levels, counts, strict=True) if n[level[i]] >= minimum),
            "",
        )
        for i in range(len(rows))
    ]


def draw_folds(
    corpus: Corpus, rows: npt.NDArray[np.int64], groups: Sequence[str], n_splits: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return a fold number a row: stratified over all labels, grouped, shuffled by the seed.

    Parameters
    ----------
    rows : ndarray of int
        Rows of the corpus that are drawn.
    groups : sequence of str
        Group of every row of the corpus.

    Raises
    ------
    KaznewsError
        There are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if len({groups[i] for i in rows}) < n_splits:
        raise KaznewsError(
            f"{len({groups[i] for i in rows})} articles cannot be split into {n_splits} parts"
        )
    folds = np.empty(len(rows), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=n_splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Strata rarer than n_splits are spread as far as they go; learnability is checked below.
        warnings.filterwarnings("ignore", message="The least populated class")
        strata = _strata(corpus, rows, n_splits)
        for k, (_, held_out) in enumerate(splitter.split(rows, strata, [groups[i] for i in rows])):
            folds[held_out] = k
    return folds


def split_corpus(
    corpus: Corpus, *, dev_size: float, test_size: float, n_folds: int, seed: int
) -> Split:
    """Assign every sentence to a part, and every train sentence to a fold.

    A split that the data name is kept; rows without one are drawn by group, stratified over all
    label columns together, so that the tasks share their folds.

    Parameters
    ----------
    corpus : Corpus
    dev_size, test_size : float
        Share of the sentences, between 0 and 0.5; what is drawn is 1/k for the nearest whole k.
    n_folds : int
        Cross-validation folds over train, at least 2.
    seed : int

    Raises
    ------
    KaznewsError
        Too few articles, a bad size, a group or text on both sides of a fixed split, or a class
        that train holds in fewer than two articles.
    """
    for name, size in (("dev_size", dev_size), ("test_size", test_size)):
        if not 0 < size <= 0.5:
            raise KaznewsError(f"split.{name} must be above 0 and at most 0.5, not {size}")
    if n_folds < 2:
        raise KaznewsError(f"split.n_folds must be at least 2, not {n_folds}")
    groups = list(corpus.dataset["group"])
    everything = np.arange(len(groups))
    part = np.full(len(groups), "", dtype="<U5")
    if "split" in corpus.dataset.column_names:
        part[:] = [name or "" for name in corpus.dataset["split"]]
        _inherit(part, groups)
        _check_fixed(part, groups)
    given = part != ""
    if not given.all():
        rest = everything[~given]
        n_splits = max(2, round(1 / test_size))
        part[rest] = np.where(draw_folds(corpus, rest, groups, n_splits, seed) == 0, "test", "")
        rest = everything[part == ""]
        n_splits = max(2, round(len(rest) / ((~given).sum() * dev_size)))
        part[rest] = np.where(draw_folds(corpus, rest, groups, n_splits, seed) == 0, "dev", "train")
    origin = "fixed" if given.all() else "partly fixed" if given.any() else "drawn"
    train = everything[part == "train"]
    fold = np.full(len(groups), -1, dtype=np.int64)
    fold[train] = draw_folds(corpus, train, groups, n_folds, seed)
    _check_learnable(corpus, train, groups)
    return Split(part, fold, origin)


def _inherit(part: npt.NDArray[np.str_], groups: Sequence[str]) -> None:
    """Give rows without a part the part that another row of their group has, in place."""
    of_group = {g: name for g, name in zip(groups, part.tolist(), strict=True) if name}
    for i, group in enumerate(groups):
        if not part[i]:
            part[i] = of_group.get(group, "")


def _check_fixed(part: npt.NDArray[np.str_], groups: Sequence[str]) -> None:
    missing = [name for name in SPLITS if not (part == name).any()]
    if missing and (part != "").all():
        raise KaznewsError(f"the data's own split has no {' and no '.join(missing)} sentence")
    sides: dict[str, set[str]] = {}
    for group, name in zip(groups, part.tolist(), strict=True):
        if name:
            sides.setdefault(group, set()).add(name)
    problems = [
        f"article {group} is in {' and '.join(sorted(names))}"
        for group, names in sides.items()
        if len(names) > 1
    ]
    if problems:
        raise ProblemsError("articles on both sides of the data's own split", problems)


def _check_learnable(corpus: Corpus, train: npt.NDArray[np.int64], groups: Sequence[str]) -> None:
    """Every class must be in at least two groups of train: one to learn, one to check."""
    problems = []
    for task in corpus.tasks:
        labels = corpus.labels(task)
        in_train: dict[str, set[str]] = {}
        for i in train:
            label = labels[i]
            if label is not None and label not in task.excluded:
                in_train.setdefault(label, set()).add(groups[i])
        if len(in_train) < 2:
            problems.append(
                f"{task.name}: train has only the class {', '.join(in_train) or '(none)'}"
            )
        for label in sorted({name for name in labels if name} - set(task.excluded)):
            if len(in_train.get(label, ())) < 2:
                problems.append(
                    f"{task.name}: class {label!r} is in {len(in_train.get(label, ()))} article(s) "
                    "of train; at least 2 are needed"
                )
    if problems:
        raise ProblemsError("too few examples to train on", problems)
