"""An input of any size and a model in, a folder of labelled Parquet parts out, on all cores.

Part i holds rows i * size to (i + 1) * size of the input, whoever labels it: a run that was killed
goes on with the parts that are missing, and the result is the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaznews import parts
from kaznews.batches import Input, find_input
from kaznews.errors import KaznewsError
from kaznews.parts import Folder

if TYPE_CHECKING:
    import pyarrow as pa

# Rows of a part: a few megabytes, and seconds of work that a kill can cost a core.
ROWS = 50_000
ROW = "row"
# An input column that has the name of an answer (gold labels have) is kept under this prefix.
INPUT_PREFIX = "input_"
PORTABLE = ".npz"

Texts = Sequence[str]
Answers = dict[str, list[Any]]


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of a run besides the rows of its part.

    Attributes
    ----------
    model : str
        Folder of a bundle, or an exported ``.npz`` file.
    column : str
        The column with the sentence.
    folder : Folder
    plan : str
        Digest of the plan, which stands in every part.
    """

    model: str
    column: str
    folder: Folder
    plan: str


@dataclass(frozen=True)
class Part:
    """A finished part: its number, its rows, how many have no sentence, whether it was found."""

    index: int
    rows: int
    without_sentence: int
    found: bool


@dataclass(frozen=True)
class Summary:
    """What a whole run did."""

    rows: int
    parts: int
    found: int
    without_sentence: int


@dataclass(frozen=True)
class Run:
    """An input, a model and a folder that belong together; made by `prepare`."""

    source: Input
    size: int
    job: Job


def model_path(model: str) -> Path:
    """Return where a model lies: the file of an exported one, the folder of a bundle."""
    if Path(model).suffix == PORTABLE:
        return Path(model)
    from kaznews.predict import locate

    return locate(model)


def _model_digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            found.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:16]


@functools.lru_cache(maxsize=1)
def _model(path: str) -> Callable[[Texts], Answers]:
    """Return the function from sentences to answers by column; a process loads a model once."""
    if path.endswith(PORTABLE):
        from kaznews import runtime

        portable = runtime.read(path)

        def ask(texts: Texts) -> Answers:
            rows = portable.predict(list(texts))
            return {column: [row[column] for row in rows] for column in portable.columns}

        return ask
    from kaznews.predict import Bundle

    bundle = Bundle.read(Path(path))
    return lambda texts: {
        str(column): values.tolist() for column, values in bundle.predict(list(texts)).items()
    }


@functools.lru_cache(maxsize=1)
def _types(path: str) -> dict[str, Any]:
    """Return the Arrow type of every answer, so that a part without any sentence has them too."""
    import pyarrow as pa

    return {name: pa.array(values).type for name, values in _model(path)([""]).items()}


def labelled(model: str, table: pa.Table, column: str, start: int) -> pa.Table:
    """Return the rows of a table with their number and their answers.

    Parameters
    ----------
    model : str
        As `Job.model`.
    table : pyarrow.Table
    column : str
    start : int
        Number of the first row in the input, from 0.

    Returns
    -------
    pyarrow.Table
        ``row``, the columns of the input, then each answer as `Bundle.predict` gives it. Where the
        sentence is null, so are the answers; an empty sentence is asked like any other.
    """
    import numpy as np
    import pyarrow as pa

    sentences = table.column(column).combine_chunks()
    asked = np.flatnonzero(sentences.is_valid().to_numpy(zero_copy_only=False))
    answers = _model(model)(sentences.take(pa.array(asked)).to_pylist()) if len(asked) else {}
    types = _types(model)
    # From the rows that were asked back to all rows: null where nothing was.
    place = np.full(len(sentences), -1)
    place[asked] = np.arange(len(asked))
    order = pa.array(place, mask=place < 0)
    columns = {ROW: pa.array(np.arange(start, start + len(sentences)))}
    taken = {ROW, *types}
    for name in table.column_names:
        kept = name
        while kept in taken or (kept != name and kept in table.column_names):
            kept = INPUT_PREFIX + kept
        columns[kept] = table.column(name)
    for name, kind in types.items():
        columns[name] = pa.array(answers.get(name, []), kind).take(order)
    return pa.table(columns)


def label_part(job: Job, index: int, start: int, table: pa.Table) -> Part:
    """Label one table and write it as a finished part."""
    answered = labelled(job.model, table, job.column, start)
    parts.write_part(job.folder, index, answered, job.plan)
    return Part(index, table.num_rows, table.column(job.column).null_count, found=False)


def found_part(job: Job, index: int, rows: int | None) -> Part | None:
    """Return a part that an earlier run finished, None if it is missing or not as it should be."""
    table = parts.read_part(job.folder, index, job.plan)
    if table is None or (rows is not None and table.num_rows != rows):
        return None
    names = [name for name in table.column_names if name in _types(job.model)]
    nulls = table.column(names[0]).null_count if names else 0
    return Part(index, table.num_rows, nulls, found=True)


def prepare(source: str, output: str, model: str, *, column: str = "text", size: int = ROWS) -> Run:
    """Check input, model and folder, and begin or take up a run.

    Parameters
    ----------
    source : str
        As `batches.find_input`.
    output : str
        Folder, or an address of one.
    model : str
        As `predict.load`, or an exported ``.npz`` file.
    column : str
        The column with the sentence.
    size : int
        Rows of a part.

    Raises
    ------
    KaznewsError
        Input or model cannot be read, or the folder belongs to something else.
    """
    if size < 1:
        raise KaznewsError(f"--rows must be at least 1, not {size}")
    found = find_input(source)
    path = model_path(model)
    plan = {
        "format": 1,
        "input": found.identity(),
        "column": column,
        "rows": size,
        "model": _model_digest(path) if path.exists() else "",
    }
    # Loaded before anything is written: a model that cannot be read leaves no folder.
    _types(str(path))
    folder = parts.open_folder(output)
    with parts.sole_writer(folder):
        parts.adopt(folder, plan)
    return Run(found, size, Job(str(path), column, folder, parts.digest(plan)))


def label(
    run: Run,
    *,
    n_jobs: int = -1,
    progress: Callable[[Any, int | None], Any] = lambda done, total: done,
) -> Summary:
    """Label what is missing on the cores of this machine and close the folder.

    Parameters
    ----------
    n_jobs : int
        Processes, as in joblib; each holds one model and one part.
    progress : callable
        Wraps the iterator over parts, given it and how many will come, where that is known.

    Raises
    ------
    KaznewsError
        The input cannot be read to its end; finished parts stay.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    failed: list[Exception] = []

    def jobs() -> Iterator[Any]:
        start = 0
        # joblib draws from this in a thread of its own, where an error would be lost.
        try:
            for index, table in enumerate(run.source.tables(run.size, run.job.column)):
                yield delayed(_find_or_label)(run.job, index, start, table)
                start += table.num_rows
        except Exception as error:
            failed.append(error)

    rows = run.source.rows()
    total = None if rows is None else max(1, -(-rows // run.size))
    with parts.sole_writer(run.job.folder):
        # Two parts a process in flight: the reader is never more than that ahead.
        parallel = Parallel(
            n_jobs=n_jobs,
            return_as="generator_unordered",
            pre_dispatch=2 * effective_n_jobs(n_jobs),
            batch_size=1,
        )
        done = list(progress(parallel(jobs()), total))
        if failed:
            raise failed[0]
        return close(run, done)


def _find_or_label(job: Job, index: int, start: int, table: pa.Table) -> Part:
    return found_part(job, index, table.num_rows) or label_part(job, index, start, table)


def close(run: Run, done: Sequence[Part]) -> Summary:
    """Write the mark of success: the folder holds every row of the input."""
    summary = Summary(
        sum(part.rows for part in done),
        len(done),
        sum(part.found for part in done),
        sum(part.without_sentence for part in done),
    )
    content = {
        "rows": summary.rows,
        "parts": summary.parts,
        "without_sentence": summary.without_sentence,
        "plan": run.job.plan,
    }
    run.job.folder.write(parts.SUCCESS, json.dumps(content).encode() + b"\n")
    return summary
