"""A saved bundle in, a frame of labels with confidences out: the inference side of kaznews."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaznews.data import Task
from kaznews.errors import KaznewsError
from kaznews.evaluate import Report, evaluate
from kaznews.model import (
    TEXT_COLUMN,
    TRUSTED_TYPES,
    accelerated,
    check_encoders,
    compact,
    forget_dicts,
    probabilities,
    with_vectorizers,
)
from kaznews.text import normalize, text_hash

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_MODEL = "models:/kaznews@champion"
BUNDLE_FORMAT = 1
MANIFEST = "bundle.json"
SEEN = "seen.npy"
# Sentences a task is asked about at once: bounds the memory of the sparse matrices.
BATCH = 10_000


def as_texts(data: Any) -> list[str]:
    """Return the sentences of any accepted input as a list of strings.

    Parameters
    ----------
    data : sequence of str, Series, ndarray, or DataFrame or mapping with a column ``text``

    Raises
    ------
    KaznewsError
        A single string, a missing column, or a row that is null or no string; names the position.
    """
    import pandas as pd

    if isinstance(data, str | bytes):
        raise KaznewsError("expected a list of sentences, got one string: pass [text]")
    if isinstance(data, pd.DataFrame | Mapping):
        if TEXT_COLUMN not in data:
            raise KaznewsError(
                f"the input has no column {TEXT_COLUMN!r}; its columns are "
                f"{', '.join(map(str, data)) or '(none)'}"
            )
        data = data[TEXT_COLUMN]
        if isinstance(data, str):
            data = [data]
    if not isinstance(data, Iterable):
        raise KaznewsError(f"expected a list of sentences, got {type(data).__name__}")
    texts = []
    for position, value in enumerate(np.ravel(data) if isinstance(data, np.ndarray) else data):
        if not isinstance(value, str):
            raise KaznewsError(f"row {position} is not a string: {value!r}")
        texts.append(str(value))
    return texts


def seen_keys(texts: Iterable[str], groups: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return sorted 64-bit keys of sentences and articles that a model was trained on."""
    keys = {int(text_hash(text), 16) for text in texts}
    keys |= {int(text_hash(f"article\0{group}"), 16) for group in groups}
    return np.array(sorted(keys), dtype=np.uint64)


@dataclass(frozen=True)
class BundleTask:
    """One task of a bundle: its scheme and a fitted pipeline.

    On disk the pipeline is made of stock scikit-learn classes; loaded, its vectorizers are the fast
    ones of `kaznews.features`, which give the same matrices.
    """

    task: Task
    pipeline: Any


@dataclass(frozen=True)
class Bundle:
    """All tasks in one model: sentences in, one row of labels and confidences each out.

    Attributes
    ----------
    tasks : tuple of BundleTask
    seen : ndarray of uint64
        Keys of the sentences and articles in its training data (see `seen_keys`).
    """

    tasks: tuple[BundleTask, ...]
    seen: npt.NDArray[np.uint64]

    @property
    def columns(self) -> list[str]:
        """Columns of a prediction, in order: each task's label and its confidence."""
        return [c for t in self.tasks for c in (t.task.name, f"{t.task.name}_confidence")]

    def probabilities(self, texts: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
        """Return calibrated probabilities, shape (n_sentences, n_classes), for each task.

        Columns are in the order of `classes`; the sentences are normalised here.
        """
        parts: dict[str, list[npt.NDArray[np.float64]]] = {
            t.task.name: [np.empty((0, len(t.pipeline.classes_)))] for t in self.tasks
        }
        pipelines = [t.pipeline for t in self.tasks]
        for start in range(0, len(texts), BATCH):
            batch = [normalize(text) for text in texts[start : start + BATCH]]
            for t, found in zip(self.tasks, probabilities(pipelines, batch), strict=True):
                parts[t.task.name].append(found)
        return {name: np.concatenate(found) for name, found in parts.items()}

    def classes(self, name: str) -> list[str]:
        """Return the class names of a task in the order of its probability columns."""
        return [str(c) for t in self.tasks if t.task.name == name for c in t.pipeline.classes_]

    def predict(self, data: Any) -> pd.DataFrame:
        """Return labels and confidences, one row a sentence in the order given.

        Parameters
        ----------
        data : sequence of str, Series, ndarray, or DataFrame or mapping with a column ``text``

        Returns
        -------
        DataFrame
            For each task its label (str) and ``<task>_confidence`` (float, the calibrated
            probability of that label); the index of a Series or DataFrame is kept. Empty input
            gives an empty frame with these columns.

        Raises
        ------
        KaznewsError
            A row is null or no string, or the column is missing.
        """
        import pandas as pd

        texts = as_texts(data)
        columns: dict[str, Any] = {}
        for name, probability in self.probabilities(texts).items():
            best = probability.argmax(axis=1)
            columns[name] = np.array(self.classes(name), dtype=object)[best]
            columns[f"{name}_confidence"] = probability[np.arange(len(best)), best]
        index = data.index if isinstance(data, pd.DataFrame | pd.Series) else None
        return pd.DataFrame(columns, columns=self.columns, index=index)

    def score(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        resamples: int = 1000,
        seed: int = 0,
        progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda tasks, total: tasks,
    ) -> dict[str, Report]:
        """Score the bundle on labelled rows, each task on the rows that carry its label.

        Parameters
        ----------
        rows : sequence of mapping
            ``text`` and any of the label columns; ``article`` where known, so that intervals
            resample whole articles. Absent, null and excluded labels are skipped.
        resamples, seed : int
            Bootstrap resamples for the intervals; 0 for none.
        progress : callable
            Wraps the iterator over tasks, given it and how many there are.

        Raises
        ------
        KaznewsError
            No row has any label, a text is not a string, or a label is unknown.
        """
        texts = as_texts([row.get(TEXT_COLUMN) for row in rows])
        groups = [str(row.get("article") or f"row {i}") for i, row in enumerate(rows)]
        reports = {}
        probabilities = self.probabilities(texts)
        for t in progress(self.tasks, len(self.tasks)):
            true = [row.get(t.task.name) or None for row in rows]
            if all(label is None or label in t.task.excluded for label in true):
                continue
            probability, classes = probabilities[t.task.name], self.classes(t.task.name)
            reports[t.task.name] = evaluate(
                t.task,
                true,
                [classes[i] for i in probability.argmax(axis=1)],
                probability=probability,
                classes=classes,
                groups=groups,
                resamples=resamples,
                seed=seed,
            )
        if not reports:
            names = ", ".join(t.task.name for t in self.tasks)
            raise KaznewsError(f"no row has a label in any of the columns {names}")
        return reports

    def has_seen(self, texts: Sequence[str], groups: Sequence[str]) -> list[bool]:
        """Return for each sentence whether it or its article was in the training data."""
        seen = set(self.seen.tolist())
        return [
            int(text_hash(text), 16) in seen or int(text_hash(f"article\0{group}"), 16) in seen
            for text, group in zip(texts, groups, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write the bundle: a JSON manifest, one skops file a task, the keys of seen text."""
        import skops.io

        folder.mkdir(parents=True)
        manifest = {"format": BUNDLE_FORMAT, "tasks": [asdict(t.task) for t in self.tasks]}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        for t in self.tasks:
            pipeline = with_vectorizers(t.pipeline, compact)
            forget_dicts(pipeline)
            skops.io.dump(pipeline, folder / f"{t.task.name}.skops")
        np.save(folder / SEEN, self.seen, allow_pickle=False)

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Read what `save` wrote; runs no code from the files.

        Raises
        ------
        KaznewsError
            The folder is no bundle, of another format, or asks for types beyond scikit-learn's.
        """
        import skops.io
        from skops.io.exceptions import UntrustedTypesFoundException

        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            if manifest["format"] != BUNDLE_FORMAT:
                raise KaznewsError(f"bundle format {manifest['format']!r} is not {BUNDLE_FORMAT}")
            tasks = []
            for entry in manifest["tasks"]:
                entry = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
                task = Task(**entry)
                # Our own list, never the one in the file.
                path = folder / f"{task.name}.skops"
                pipeline = skops.io.load(path, trusted=TRUSTED_TYPES)
                check_encoders(pipeline)
                tasks.append(BundleTask(task, accelerated(pipeline)))
            seen = np.load(folder / SEEN, allow_pickle=False)
        except UntrustedTypesFoundException as error:
            raise KaznewsError(f"refused to load {folder.name}: {error}") from None
        except KaznewsError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise KaznewsError(f"{folder} is not a kaznews bundle: {error!r}") from error
        return cls(tuple(tasks), seen)


def load(model: str = DEFAULT_MODEL) -> Bundle:
    """Load a bundle from the registry, or from the folder of a saved MLflow model.

    Parameters
    ----------
    model : str
        ``models:/kaznews@champion``, ``models:/kaznews/<version>``, ``runs:/…`` or a folder.

    Raises
    ------
    KaznewsError
        There is no such model, or it is not a bundle of this project.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    from kaznews import tracking

    if "://" not in model and ":/" not in model:
        path = Path(model)
        if path.suffix == ".npz":
            raise KaznewsError(
                f"{model} is an exported model, not a bundle: it is read by "
                "`kaznews predict --model` and by kaznews.runtime.read"
            )
        if not path.is_dir():
            raise KaznewsError(f"no such model folder: {model}")
    else:
        tracking.use_store()
        try:
            path = Path(mlflow.artifacts.download_artifacts(model))
        except (MlflowException, OSError) as error:
            hint = "; train one first: make train" if model == DEFAULT_MODEL else ""
            reason = str(error).splitlines()[0]
            raise KaznewsError(f"cannot load {model}: {reason}{hint}") from None
    return Bundle.read(path if (path / MANIFEST).exists() else path / "data" / "bundle")


class _PyfuncBundle:
    """What MLflow calls: a bundle whose errors are MLflow's, so that REST answers with 4xx."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        try:
            return self.bundle.predict(data)
        except KaznewsError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


def _load_pyfunc(path: str) -> _PyfuncBundle:
    """Entry point of MLflow: ``loader_module: kaznews.predict`` in MLmodel names this function."""
    return _PyfuncBundle(Bundle.read(Path(path)))
