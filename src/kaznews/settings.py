"""The typed schema of the configuration: what conf/ composes is checked against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kaznews.calibrate import Abstain, check_method
from kaznews.data import Task
from kaznews.distil import Recipe
from kaznews.errors import KaznewsError
from kaznews.gate import Limits
from kaznews.reading import Source
from kaznews.unlabelled import Pool


@dataclass
class TaskSettings:
    """An entry of conf/task."""

    labels: list[str]
    excluded: list[str]
    main_metric: str


@dataclass
class SourceSettings:
    """An option of conf/data."""

    name: str
    description: str
    licence: str = ""
    unnamed: str = "unnamed"
    files: list[str] = field(default_factory=list)
    gold: str | None = None
    path: str | None = None
    config_name: str | None = None
    text_column: str = "text"
    label_columns: dict[str, str] = field(default_factory=dict)
    split_names: dict[str, str] = field(default_factory=dict)
    unlabelled: Pool = field(default_factory=Pool)


@dataclass
class TeacherSettings:
    """The estimators that label unlabelled sentences."""

    features: dict[str, Any]
    classifier: dict[str, Any]


@dataclass
class DistilSettings:
    """An option of conf/distil.

    Attributes
    ----------
    optional : bool
        Whether to train without a teacher where it or the unlabelled sentences are not at hand.
    """

    teacher: TeacherSettings
    tasks: dict[str, Recipe | None]
    optional: bool = False

    def recipes(self) -> dict[str, Recipe]:
        """Return the recipes by task; tasks with null learn from labels alone."""
        return {name: recipe for name, recipe in self.tasks.items() if recipe is not None}


@dataclass
class OwnSettings:
    """What one task learns with in place of what the others do (an entry of ``per_task``)."""

    features: dict[str, Any] | None = None
    classifier: dict[str, Any] | None = None
    weights: dict[str, float] | None = None


@dataclass
class SearchSettings:
    """An option of conf/search: what `recommend` tries for every task.

    Attributes
    ----------
    name : str
        Of the option; what names of its record and presets begin with, if it is not the default.
    features, classifiers, weights : list of str
        Overrides of the configuration, simplest first.
    further : dict of str to list of str
        Classifiers for single tasks, by task, which stand behind `classifiers`.
    reference : str
        The one of `classifiers` with which features are compared.
    keep : int
        How many of the best go on into the next round, beside the simplest that is as good.
    margin : float
        How far behind the best a recipe may be on the first folds to be asked about the others.
    score : dict of str to list of str
        Task to ``<source>.<metric>``, of which the mean counts; ``real`` are all sentences that
        name their source. A task without an entry is scored by its main metric on all sentences.
    shown : int
        Rows of a table.
    folder : str
        Where the record is written.
    """

    name: str
    features: list[str]
    classifiers: list[str]
    further: dict[str, list[str]]
    weights: list[str]
    reference: str
    keep: int
    margin: float
    score: dict[str, list[str]]
    shown: int
    folder: str

    def all_classifiers(self) -> list[str]:
        """Return the classifiers of all tasks, simplest first."""
        more = [entry for entries in self.further.values() for entry in entries]
        return list(dict.fromkeys([*self.classifiers, *more]))

    def __post_init__(self) -> None:
        """Refuse a search that tries nothing."""
        for name in ("features", "classifiers", "weights"):
            if not getattr(self, name):
                raise KaznewsError(f"search.{name} is empty")
        if self.reference not in self.classifiers:
            raise KaznewsError(f"search.reference={self.reference} is not one of its classifiers")
        if self.keep < 1:
            raise KaznewsError(f"search.keep must be at least 1, not {self.keep}")


@dataclass
class SplitSettings:
    """An option of conf/split."""

    dev_size: float
    test_size: float
    n_folds: int


@dataclass
class StreamSettings:
    """How a stream is learned from.

    Attributes
    ----------
    batch : int
        Training sentences a `partial_fit`.
    epochs : int
        Times the stream is read.
    shuffle : int
        Sentences that `datasets` draws from at random; 0 keeps the order of the input.
    held_out : int
        Dev sentences, and as many test sentences, that are kept at most: the first of the stream.
    checkpoint_every : int
        Batches between two checkpoints, each with a score on dev.
    balanced : bool
        Whether rare classes weigh more, by their share among the sentences so far.
    """

    batch: int = 10_000
    epochs: int = 1
    shuffle: int = 10_000
    held_out: int = 20_000
    checkpoint_every: int = 20
    balanced: bool = True

    def check(self) -> None:
        """Refuse values that make no sense."""
        for name in ("batch", "epochs", "held_out", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise KaznewsError(f"stream.{name} must be at least 1, not {getattr(self, name)}")
        if self.shuffle < 0:
            raise KaznewsError(f"stream.shuffle must be at least 0, not {self.shuffle}")


@dataclass
class Settings:
    """The whole configuration; an unknown key or a value of another type is refused."""

    tasks: dict[str, TaskSettings]
    data: SourceSettings
    split: SplitSettings
    features: dict[str, Any]
    classifier: dict[str, Any]
    gate: Limits
    calibration: str
    abstain: Abstain
    command: str
    seed: int
    n_jobs: int
    parallel: str
    cache_mb: int
    resamples: int
    curve_shares: list[float]
    register: bool
    experiment_name: str
    weights: dict[str, float] | None = None
    per_task: dict[str, OwnSettings] = field(default_factory=dict)
    distil: DistilSettings | None = None
    search: SearchSettings | None = None
    stream: StreamSettings = field(default_factory=StreamSettings)

    def __post_init__(self) -> None:
        """Refuse a calibration that is not known, and a target accuracy for no task."""
        check_method(self.calibration)
        if unknown := sorted(set(self.abstain.per_task) - set(self.tasks)):
            raise KaznewsError(
                f"abstain.per_task names {', '.join(unknown)}; the tasks of this run are "
                f"{', '.join(self.tasks)}"
            )

    def source(self) -> Source:
        """Return the data source as plain values."""
        plain = {k: v for k, v in vars(self.data).items() if k != "unlabelled"}
        return Source(**{**plain, "files": tuple(self.data.files)})

    def task_list(self) -> tuple[Task, ...]:
        """Return the tasks in the order of the config."""
        return tuple(
            Task(name, tuple(t.labels), tuple(t.excluded), t.main_metric)
            for name, t in self.tasks.items()
        )
