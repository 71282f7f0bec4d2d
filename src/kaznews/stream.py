"""A stream of labelled sentences in, models fitted batch by batch out: training past memory.

`datasets` streams and shuffles, a hashing vectorizer needs no vocabulary, and classifiers learn by
`partial_fit`. In memory are one batch, the shuffle buffer, the weights and the held-out sentences.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews import tracking
from kaznews.calibrate import fit_calibration, fit_threshold, softmax
from kaznews.data import Task
from kaznews.errors import KaznewsError
from kaznews.evaluate import Report, evaluate, flat_metrics, text_table
from kaznews.fit import progress_bar
from kaznews.model import FittedTask, assemble
from kaznews.parts import Folder, open_folder, sole_writer
from kaznews.predict import Bundle, BundleTask
from kaznews.provenance import environment_tags
from kaznews.reader import Reader, open_reader
from kaznews.settings import Settings, StreamSettings
from kaznews.stock import calibrated

CHECKPOINT = "checkpoint.skops"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Sentences of dev or test that never teach: the first ones of the stream."""

    rows: list[dict[str, Any]]
    matrix: Any

    def of(self, task: Task) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.str_], list[str]]:
        """Return row numbers, labels and groups of the sentences with a label of the task."""
        kept = [i for i, row in enumerate(self.rows) if row[task.name]]
        labels = np.array([self.rows[i][task.name] for i in kept], dtype=np.str_)
        return np.array(kept, dtype=np.int64), labels, [self.rows[i]["group"] for i in kept]


@dataclass
class State:
    """All that a checkpoint holds: with it, learning goes on as if never stopped.

    Attributes
    ----------
    classifiers : dict
        One a task.
    counts : dict
        Training sentences of every class so far, one array a task.
    epoch, position : int
        Epochs done, and training sentences taken from the present one.
    learned : int
        Training sentences in all.
    history : list
        ``[learned, {metric: value}]`` of every score on dev.
    """

    classifiers: dict[str, Any]
    counts: dict[str, Floats]
    epoch: int = 0
    position: int = 0
    learned: int = 0
    history: list[Any] = field(default_factory=list)


def hashed(vectorizer: Any, texts: Sequence[str]) -> Any:
    """Return what `vectorizer.transform` returns; `char_wb` n-grams are cut once a distinct word.

    They never cross a word: the counts of a sentence are the sums of the counts of its words.
    """
    from sklearn.base import clone
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
    from sklearn.preprocessing import normalize as scaled

    if (
        type(vectorizer) is not HashingVectorizer
        or (vectorizer.analyzer, vectorizer.input) != ("char_wb", "content")
        or (vectorizer.binary, vectorizer.dtype) != (False, np.float64)
    ):
        return vectorizer.transform(texts)
    before = vectorizer.build_preprocessor()
    sentences = [before(text).split() for text in texts]
    if not any(sentences):
        return vectorizer.transform(texts)
    words = CountVectorizer(analyzer=list, dtype=np.float64)
    by_sentence = words.fit_transform(sentences)
    cut = clone(vectorizer).set_params(
        norm=None, lowercase=False, strip_accents=None, preprocessor=None
    )
    matrix = by_sentence @ cut.transform(words.get_feature_names_out())
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix if vectorizer.norm is None else scaled(matrix, vectorizer.norm, copy=False)


def check_estimators(vectorizer: Any, classifier: Any) -> None:
    """Refuse a vectorizer that has to see all texts first and a classifier that has to, too."""
    from sklearn.utils import get_tags

    if get_tags(vectorizer).requires_fit:
        raise KaznewsError(
            f"command=stream needs features without a vocabulary (features=hashing), "
            f"not {type(vectorizer).__name__}"
        )
    if not hasattr(classifier, "partial_fit") or not hasattr(classifier, "decision_function"):
        raise KaznewsError(
            "command=stream needs a linear classifier with partial_fit "
            f"(classifier=sgd_stream), not {type(classifier).__name__}"
        )


def collect(reader: Reader, vectorizer: Any, limit: int) -> dict[str, HeldOut]:
    """Return the held-out sentences of dev and test, the first `limit` of each in the stream.

    Raises
    ------
    KaznewsError
        There is no dev or no test sentence with a label.
    """
    kept: dict[str, list[dict[str, Any]]] = {"dev": [], "test": []}
    for row in reader.rows():
        if len(mine := kept.get(row["part"], [])) < limit and row["part"] != "train":
            mine.append(row)
        elif all(len(rows) >= limit for rows in kept.values()):
            break
    for part, rows in kept.items():
        for task in reader.tasks:
            if not any(row[task.name] for row in rows):
                raise KaznewsError(
                    f"data={reader.source.name}: no {part} sentence has a {task.name}; "
                    f"raise split.{part}_size"
                )
    return {
        part: HeldOut(rows, hashed(vectorizer, [row["text"] for row in rows]))
        for part, rows in kept.items()
    }


def _batches(
    reader: Reader, settings: StreamSettings, seed: int, epoch: int, skip: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the training sentences of an epoch in batches, the first `skip` of them left out."""
    import datasets

    def train() -> Iterator[dict[str, Any]]:
        return (row for row in reader.rows() if row["part"] == "train")

    stream = datasets.IterableDataset.from_generator(train)
    if settings.shuffle:
        stream = stream.shuffle(seed=seed, buffer_size=settings.shuffle)
        stream.set_epoch(epoch)
    batch: list[dict[str, Any]] = []
    for number, row in enumerate(stream):
        if number >= skip:
            batch.append(row)
        if len(batch) == settings.batch:
            yield batch
            batch = []
    if batch:
        yield batch


def _learn(
    state: State, tasks: Sequence[Task], vectorizer: Any, batch: list[dict[str, Any]], even: bool
) -> None:
    matrix = hashed(vectorizer, [row["text"] for row in batch])
    for task in tasks:
        labels = np.array([row[task.name] for row in batch], dtype=np.str_)
        rows = np.flatnonzero(labels != "")
        classes = np.unique(task.labels)
        target = np.searchsorted(classes, labels[rows])
        counts = state.counts[task.name]
        counts += np.bincount(target, minlength=len(classes))
        if len(rows):
            weight = counts.sum() / len(classes) / np.maximum(counts, 1)
            state.classifiers[task.name].partial_fit(
                matrix[rows],
                labels[rows],
                classes=classes,
                sample_weight=weight[target] if even else None,
            )
    state.learned += len(batch)
    state.position += len(batch)


def _score(state: State, tasks: Sequence[Task], held_out: HeldOut) -> dict[str, float]:
    found = {}
    for task in tasks:
        classifier = state.classifiers[task.name]
        if hasattr(classifier, "coef_"):
            rows, labels, _ = held_out.of(task)
            said = classifier.predict(held_out.matrix[rows])
            report = evaluate(task, labels.tolist(), said.tolist(), resamples=0)
            found[f"{task.name}_stream_{task.main_metric}"] = report.metrics[task.main_metric]
    return found


def save(state: State, folder: Folder) -> None:
    """Write a checkpoint in place of the last one: skops, no code."""
    import skops.io

    folder.write(CHECKPOINT, skops.io.dumps(vars(state)))


def read(folder: Folder) -> State | None:
    """Return the state of a checkpoint, None where there is none.

    Raises
    ------
    KaznewsError
        It is damaged, or asks for types beyond scikit-learn's.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    if CHECKPOINT not in folder.names():
        return None
    try:
        return State(**skops.io.loads(folder.read(CHECKPOINT)))
    except (UntrustedTypesFoundException, Exception) as error:
        raise KaznewsError(f"cannot read {folder.path}/{CHECKPOINT}: {error}") from None


def learn(
    reader: Reader,
    vectorizer: Any,
    classifier: Any,
    settings: StreamSettings,
    folder: Folder,
    held_out: HeldOut,
    *,
    seed: int = 0,
    progress: Callable[[Iterable[Any], int | None], Iterable[Any]] = lambda batches, total: batches,
    scored: Callable[[int, Mapping[str, float]], None] = lambda learned, metrics: None,
) -> State:
    """Fit one classifier a task on the stream, from the last checkpoint in the folder if any.

    Parameters
    ----------
    reader : Reader
    vectorizer, classifier : estimators
        As `check_estimators` wants them; the classifier is cloned.
    settings : StreamSettings
    folder : Folder
        Of checkpoints; one input, configuration and seed each.
    held_out : HeldOut
        Dev sentences, scored at every checkpoint.
    seed : int
        Of the shuffle.
    progress : callable
        Wraps the iterator over the batches of an epoch.
    scored : callable
        Given every score, those of an interrupted run first.

    Returns
    -------
    State
        The same, number for number, whether it was interrupted or not.
    """
    from sklearn.base import clone

    state = read(folder) or State(
        {task.name: clone(classifier) for task in reader.tasks},
        {task.name: np.zeros(len(task.labels)) for task in reader.tasks},
    )
    for learned, metrics in state.history:
        scored(learned, metrics)

    def checkpoint() -> None:
        if not state.history or state.history[-1][0] != state.learned:
            metrics = _score(state, reader.tasks, held_out)
            state.history.append([state.learned, metrics])
            scored(state.learned, metrics)
        save(state, folder)

    while state.epoch < settings.epochs:
        batches = _batches(reader, settings, seed, state.epoch, state.position)
        for batch in progress(batches, None):
            _learn(state, reader.tasks, vectorizer, batch, settings.balanced)
            if state.position % (settings.batch * settings.checkpoint_every) == 0:
                checkpoint()
        state.epoch, state.position = state.epoch + 1, 0
        checkpoint()
    return state


def finish(
    state: State,
    task: Task,
    vectorizer: Any,
    held_out: Mapping[str, HeldOut],
    *,
    target_accuracy: float,
    resamples: int,
    seed: int,
) -> tuple[FittedTask, dict[str, Report]]:
    """Return a task calibrated on dev, in the place of out-of-fold scores, and its reports.

    Its probabilities on dev flatter therefore; labels are not touched by it.
    """
    classifier = state.classifiers[task.name]
    if not hasattr(classifier, "coef_"):
        raise KaznewsError(f"no training sentence has a {task.name}")
    classes = classifier.classes_
    scores, labels, groups = {}, {}, {}
    for part, sentences in held_out.items():
        rows, labels[part], groups[part] = sentences.of(task)
        scores[part] = _decision(classifier, sentences.matrix[rows])
    target = np.searchsorted(classes, labels["dev"])
    calibration = fit_calibration("temperature", scores["dev"], scores["dev"], target)
    probabilities = {part: softmax(found, calibration.beta) for part, found in scores.items()}
    hit = probabilities["dev"].argmax(axis=1) == target
    fitted = FittedTask(
        classes,
        probabilities["dev"],
        assemble(vectorizer, calibrated(classifier, calibration)),
        fit_threshold(probabilities["dev"].max(axis=1), hit, target_accuracy),
        calibration,
    )
    reports = {}
    for part, probability in probabilities.items():
        reports[part] = evaluate(
            task,
            labels[part].tolist(),
            classes[probability.argmax(axis=1)].tolist(),
            probability=probability,
            classes=classes.tolist(),
            groups=groups[part],
            resamples=resamples,
            seed=seed,
        )
    return fitted, reports


def _decision(classifier: Any, matrix: Any) -> Floats:
    scores: Floats = np.asarray(classifier.decision_function(matrix), dtype=np.float64)
    return np.column_stack([np.zeros_like(scores), scores]) if scores.ndim == 1 else scores


def _folder(flat: Mapping[str, Any], digest: str) -> Folder:
    """Return the folder of one configuration over one input."""
    groups = ("tasks.", "features.", "classifier.", "split.", "stream.", "seed")
    counted = {key: value for key, value in flat.items() if key.startswith(groups)}
    text = json.dumps([counted, digest], sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return open_folder(str(tracking.EXPERIMENTS / "stream" / name))


def run(
    settings: Settings,
    vectorizer: Any,
    classifier: Any,
    *,
    names: Mapping[str, str],
    flat: Mapping[str, Any],
    text: str,
) -> str:
    """Train all tasks on the stream of the settings and log them; return the result table.

    An interrupted run is taken up by the next one of the same configuration and input. Nothing is
    registered: the gate compares sentences that it can look up, and a stream is not kept.

    Raises
    ------
    KaznewsError
        The input, a label or an estimator is not as it has to be.
    """
    settings.stream.check()
    check_estimators(vectorizer, classifier)
    reader = open_reader(
        settings.source(),
        settings.task_list(),
        dev_size=settings.split.dev_size,
        test_size=settings.split.test_size,
    )
    digest = reader.digest()
    held_out = collect(reader, vectorizer, settings.stream.held_out)
    folder = _folder(flat, digest)
    experiment = tracking.open_experiment(settings.experiment_name)
    title = f"{settings.data.name}: {names['features']} + {names['classifier']}, streamed"
    tags = {"data": settings.data.name, "data_digest": digest, **environment_tags(), **names}
    table = [["task", "metric", "dev", "test", "95 % interval"]]
    fitted = []
    with (
        sole_writer(folder),
        tracking.run(experiment, title, {**tags, "kind": "parent"}, settings.data.description),
    ):
        tracking.log_config(flat, text)
        state = learn(
            reader,
            vectorizer,
            classifier,
            settings.stream,
            folder,
            held_out["dev"],
            seed=settings.seed,
            progress=progress_bar("stream", "batch"),
            scored=tracking.log_progress,
        )
        for task in reader.tasks:
            done, reports = finish(
                state,
                task,
                vectorizer,
                held_out,
                target_accuracy=settings.abstain.target_of(task.name),
                resamples=settings.resamples,
                seed=settings.seed,
            )
            name = f"{task.name} · {title}"
            with tracking.run(experiment, name, {**tags, "task": task.name, "kind": "task"}):
                tracking.log_config(flat, text)
                tracking.log_pipeline(done.pipeline, task.name, done.facts())
                for part, report in reports.items():
                    content = json.dumps(report.as_dict(), ensure_ascii=False).encode()
                    metrics = flat_metrics(part, report)
                    tracking.log_review({f"report_{part}.json": content}, None, **metrics)
            fitted.append(BundleTask(task, done.pipeline, done.threshold))
            metric, test = task.main_metric, reports["test"]
            interval = test.intervals.get(metric)
            scores = [f"{reports[part].metrics[metric]:.3f}" for part in ("dev", "test")]
            table.append([task.name, metric, *scores, ""])
            if interval:
                table[-1][-1] = f"{interval[0]:.3f}–{interval[1]:.3f}"
        bundle = Path(folder.path) / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        Bundle(tuple(fitted), np.empty(0, dtype=np.uint64)).save(bundle)
        # Done: the next run of this configuration starts anew.
        (Path(folder.path) / CHECKPOINT).unlink()
    counts = ", ".join(f"{len(part.rows)} {name}" for name, part in held_out.items())
    return (
        f"{text_table(table)}\n\n{state.learned} sentences learned in {state.epoch} epochs, "
        f"{counts}\nkaznews predict --model {bundle} labels with it"
    )
