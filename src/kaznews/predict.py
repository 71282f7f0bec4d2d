"""A saved bundle in, a frame of labels with confidences out: the inference side of kaznews."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from kaznews.artifact import bundle_folder, check_files
from kaznews.calibrate import abstention
from kaznews.data import Task
from kaznews.errors import KaznewsError
from kaznews.evaluate import Report, evaluate
from kaznews.explain import Explained, explain
from kaznews.language import KAZAKH, WRITING, language_of
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
from kaznews.text import normalize, read, text_hash

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_MODEL = "models:/kaznews@champion"
BUNDLE_FORMAT = 2
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
    """One task of a bundle: its scheme, a fitted pipeline, and when it abstains.

    On disk the pipeline is made of stock scikit-learn classes; loaded, its vectorizers are the fast
    ones of `kaznews.features`, which give the same matrices.

    Attributes
    ----------
    threshold : float
        Confidence below which the task abstains (see `calibrate.fit_threshold`).
    """

    task: Task
    pipeline: Any
    threshold: float = 0.0


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
        """Columns of a prediction: each task's label, confidence, whether it abstains; WRITING."""
        return [
            c
            for name in (t.task.name for t in self.tasks)
            for c in (name, f"{name}_confidence", f"{name}_abstain")
        ] + [*WRITING]

    def probabilities(self, texts: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
        """Return calibrated probabilities, shape (n_sentences, n_classes), for each task.

        Columns are in the order of `classes`; the sentences are normalised here.
        """
        return self._probabilities([normalize(text) for text in texts])

    def _probabilities(self, normal: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
        parts: dict[str, list[npt.NDArray[np.float64]]] = {
            t.task.name: [np.empty((0, len(t.pipeline.classes_)))] for t in self.tasks
        }
        pipelines = [t.pipeline for t in self.tasks]
        for start in range(0, len(normal), BATCH):
            batch = normal[start : start + BATCH]
            for t, found in zip(self.tasks, probabilities(pipelines, batch), strict=True):
                parts[t.task.name].append(found)
        return {name: np.concatenate(found) for name, found in parts.items()}

    def classes(self, name: str) -> list[str]:
        """Return the class names of a task in the order of its probability columns."""
        return [str(c) for t in self.tasks if t.task.name == name for c in t.pipeline.classes_]

    @overload
    def predict(self, data: Any, *, explain: Literal[False] = ...) -> pd.DataFrame: ...

    @overload
    def predict(self, data: Any, *, explain: Literal[True]) -> Explained: ...

    def predict(self, data: Any, *, explain: bool = False) -> pd.DataFrame | Explained:
        """Return labels with confidences, one row a sentence in the order given.

        Parameters
        ----------
        data : sequence of str, Series, ndarray, or DataFrame or mapping with a column ``text``
        explain : bool
            Return with the frame what carried each label.

        Returns
        -------
        DataFrame
            For each task its label (str), ``<task>_confidence`` (float, the calibrated probability
            of that label) and ``<task>_abstain`` (bool, the confidence is below the task's
            threshold, or the sentence is not Kazakh); then ``script`` and ``language`` (str, see
            `script.script_of` and `language.language_of`). The index of a Series or DataFrame is
            kept. Empty input gives an empty frame with these columns.
        explain.Explained
            With `explain`: the frame as ``answers``, and an explanation a sentence and task.

        Raises
        ------
        KaznewsError
            A row is null or no string, or the column is missing; with `explain`, a task is not
            linear in n-grams.
        """
        import pandas as pd

        texts = as_texts(data)
        columns: dict[str, Any] = {}
        normal, scripts = zip(*map(read, texts), strict=True) if texts else ((), ())
        languages = np.array([language_of(text) for text in normal], dtype=object)
        said = self._probabilities(normal)
        for t in self.tasks:
            name, probability = t.task.name, said[t.task.name]
            best = probability.argmax(axis=1)
            confidence = probability[np.arange(len(best)), best]
            columns[name] = np.array(self.classes(name), dtype=object)[best]
            columns[f"{name}_confidence"] = confidence
            columns[f"{name}_abstain"] = (confidence < t.threshold) | (languages != KAZAKH)
        columns |= dict(zip(WRITING, (np.array(scripts, dtype=object), languages), strict=True))
        index = data.index if isinstance(data, pd.DataFrame | pd.Series) else None
        answers = pd.DataFrame(columns, columns=self.columns, index=index)
        return self._explained(normal, answers) if explain else answers

    def _explained(self, normal: Sequence[str], answers: pd.DataFrame) -> Explained:
        return Explained(
            answers,
            {
                t.task.name: tuple(explain(t.pipeline, normal, answers[t.task.name].tolist()))
                for t in self.tasks
            },
        )

    def score(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        resamples: int = 1000,
        seed: int = 0,
        progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda tasks, total: tasks,
    ) -> dict[str, Report]:
        """Score the bundle on labelled rows, each task on the rows that carry its label.

        Reports hold the figures of `calibrate.abstention` too; excluded labels are its unclear.

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
        normal = [normalize(text) for text in texts]
        probabilities = self._probabilities(normal)
        is_kazakh = np.array([language_of(text) == KAZAKH for text in normal])
        for t in progress(self.tasks, len(self.tasks)):
            true = [row.get(t.task.name) or None for row in rows]
            if all(label is None or label in t.task.excluded for label in true):
                continue
            probability, classes = probabilities[t.task.name], self.classes(t.task.name)
            predicted = [classes[i] for i in probability.argmax(axis=1)]
            report = evaluate(
                t.task,
                true,
                predicted,
                probability=probability,
                classes=classes,
                groups=groups,
                resamples=resamples,
                seed=seed,
            )
            unclear = np.array([label in t.task.excluded for label in true])
            clear = ~unclear & np.array([label is not None for label in true])
            # No confidence in what is no Kazakh, as in `predict`.
            confidence = probability.max(axis=1) * is_kazakh
            figures = abstention(
                confidence[clear],
                np.array([p == g for p, g in zip(predicted, true, strict=True)])[clear],
                t.threshold,
                confidence[unclear],
            )
            reports[t.task.name] = replace(report, metrics=report.metrics | figures)
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
        manifest = {
            "format": BUNDLE_FORMAT,
            "tasks": [asdict(t.task) for t in self.tasks],
            "thresholds": [t.threshold for t in self.tasks],
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        for t in self.tasks:
            pipeline = with_vectorizers(t.pipeline, compact)
            forget_dicts(pipeline)
            skops.io.dump(pipeline, folder / f"{t.task.name}.skops")
        np.save(folder / SEEN, self.seen, allow_pickle=False)

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Read what `save` wrote; runs no code from the files and follows no path out of them.

        Raises
        ------
        KaznewsError
            The folder is no bundle, of another format, holds a symbolic link, or asks for types
            beyond scikit-learn's.
        """
        check_files(folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            if manifest["format"] != BUNDLE_FORMAT:
                raise KaznewsError(
                    f"bundle format {manifest['format']!r} is not {BUNDLE_FORMAT}: train anew with "
                    "the version that is to read it"
                )
            tasks = []
            for entry, threshold in zip(manifest["tasks"], manifest["thresholds"], strict=True):
                entry = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
                task = Task(**entry)
                # The name becomes a file's name.
                if not re.fullmatch(r"[\w-]+", task.name):
                    raise KaznewsError(f"refused to load {folder.name}: task {task.name!r:.100}")
                pipeline = _read_pipeline(folder / f"{task.name}.skops", task)
                tasks.append(BundleTask(task, pipeline, float(threshold)))
            seen = np.load(folder / SEEN, allow_pickle=False)
            if seen.dtype != np.uint64 or seen.ndim != 1:
                raise ValueError(f"{SEEN} is {seen.dtype} {seen.shape}")
        except KaznewsError:
            raise
        except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise KaznewsError(f"{folder} is not a kaznews bundle: {error!r}") from error
        return cls(tuple(tasks), seen)


def _read_pipeline(path: Path, task: Task) -> Any:
    """Read one task's pipeline from skops, trusting our own list of types, never the file's."""
    import skops.io
    from sklearn.pipeline import Pipeline
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        pipeline = skops.io.load(path, trusted=TRUSTED_TYPES)
        if not isinstance(pipeline, Pipeline):
            raise TypeError(f"it holds a {type(pipeline).__name__}, not a Pipeline")
        unknown = {str(c) for c in pipeline.classes_} - set(task.labels)
        if unknown:
            raise ValueError(f"it answers {', '.join(sorted(unknown)):.100}")
        check_encoders(pipeline)
        return accelerated(pipeline)
    except UntrustedTypesFoundException as error:
        raise KaznewsError(f"refused to load {path.name} of the bundle: {error}") from None
    except KaznewsError:
        raise
    except Exception as error:
        # A foreign or damaged file makes zipfile, json, NumPy and skops raise whatever they have.
        raise KaznewsError(
            f"refused to load {path.name}: not a pipeline of a kaznews bundle: {error!r:.200}"
        ) from error


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
    return Bundle.read(locate(model))


def locate(model: str) -> Path:
    """Return the folder of a bundle in the registry, a run or a saved MLflow model.

    Raises
    ------
    KaznewsError
        There is no such model.
    """
    if "://" not in model and ":/" not in model:
        path = Path(model)
        if path.suffix == ".npz":
            raise KaznewsError(
                f"{model} is an exported model, not a bundle: it is read by "
                "`kaznews predict --model` and by kaznews.runtime.read"
            )
    else:
        path = _fetch(model)
    return path if (path / MANIFEST).exists() else bundle_folder(path)


def _fetch(model: str) -> Path:
    """Return the folder of a model of the registry or of a run, downloaded where it is remote.

    A registered model that lies on this machine is looked up, not downloaded: MLflow's download
    writes a note into the folder first, and would do so through a link that stands there.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository as Registered
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    from kaznews import tracking

    hint = "; train one first: make train" if model == DEFAULT_MODEL else ""
    database = tracking.registry_database()
    if database is not None and not database.exists():
        # Asked all the same, MLflow would create it: seconds of work for the same answer.
        raise KaznewsError(f"cannot load {model}: there is no {database.name} yet{hint}")
    try:
        if Registered.is_models_uri(model):
            address, inside = Registered.split_models_uri(model)
            source = Registered.get_underlying_uri(address)
            if is_local_uri(source, is_tracking_or_registry_uri=False) and not inside:
                return Path(local_file_uri_to_path(source))
        return Path(mlflow.artifacts.download_artifacts(model))
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise KaznewsError(f"cannot load {model}: {reason}{hint}") from None


class _PyfuncBundle:
    """What MLflow calls: a bundle whose errors are MLflow's, so that REST answers with 4xx."""

    def __init__(self, bundle: Any) -> None:
        self.bundle = bundle

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        try:
            return self.bundle.predict(data)
        except KaznewsError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


def _load_pyfunc(path: str) -> _PyfuncBundle:
    """Entry point of MLflow: ``loader_module: kaznews.predict`` in MLmodel names this function."""
    return _PyfuncBundle(Bundle.read(Path(path)))


def scoring_app(model: Any) -> Any:
    """Return MLflow's scoring server, an ASGI application, over a model that is already loaded.

    MLflow's own command would load it by whatever its files name; here nothing is loaded.

    Parameters
    ----------
    model : Bundle or runtime.Model
        Anything whose ``predict`` takes sentences and returns a frame or a list of records.
    """
    from kaznews import tracking

    tracking.use_store()
    from mlflow.models import Model
    from mlflow.pyfunc import PyFuncModel, scoring_server

    return scoring_server.init(PyFuncModel(Model(), _PyfuncBundle(model)))
