"""The typed schema of the configuration: what conf/ composes is checked against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kaznews.data import Task
from kaznews.distil import Recipe
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
    """An option of conf/distil."""

    teacher: TeacherSettings
    tasks: dict[str, Recipe]


@dataclass
class SplitSettings:
    """An option of conf/split."""

    dev_size: float
    test_size: float
    n_folds: int


@dataclass
class Settings:
    """The whole configuration; an unknown key or a value of another type is refused."""

    tasks: dict[str, TaskSettings]
    data: SourceSettings
    split: SplitSettings
    features: dict[str, Any]
    classifier: dict[str, Any]
    gate: Limits
    command: str
    seed: int
    n_jobs: int
    cache_mb: int
    resamples: int
    curve_shares: list[float]
    register: bool
    experiment_name: str
    distil: DistilSettings | None = None

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
