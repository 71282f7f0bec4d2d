"""Files of labelled sentences in, a validated `datasets.Dataset` with fixed label names out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaznews.errors import KaznewsError, ProblemsError
from kaznews.reading import Source, read_tables
from kaznews.text import normalize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from datasets import Dataset

SPLITS = ("train", "dev", "test")
# Columns that are kept beside text and labels where a file has them.
META_COLUMNS = ("article", "split", "source", "genre", "date", "contrast", "script")


@dataclass(frozen=True)
class Task:
    """One label column: what may stand in it and which score counts.

    Attributes
    ----------
    name : str
        Name of the column.
    labels : tuple of str
        Class names in the fixed order of the config; the order of every table and matrix.
    excluded : tuple of str
        Labels that may stand in the data but are neither learned nor scored.
    main_metric : str
        The metric by which models are compared: ``macro_f1`` or ``f_favor_against``.
    """

    name: str
    labels: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    main_metric: str = "macro_f1"


@dataclass(frozen=True)
class Corpus:
    """Validated sentences, one row each, with what a run records of them.

    Attributes
    ----------
    dataset : datasets.Dataset
        Columns ``id``, ``text``, ``group``, those of META_COLUMNS that occur, and a ClassLabel a
        task (null where a sentence has no label).
    tasks : tuple of Task
        The tasks whose column occurs.
    name, digest, description : str
        Name; 16 hexadecimal digits that change with any text, label, group or split; prose.
    licence : str
        Of the texts.
    unnamed : str
        What the source of a sentence is called that names none.
    """

    dataset: Dataset
    tasks: tuple[Task, ...]
    name: str
    digest: str
    description: str = field(default="", compare=False)
    licence: str = field(default="", compare=False)
    unnamed: str = field(default="unnamed", compare=False)

    def labels(self, task: Task) -> list[str | None]:
        """Return the label names of a task, one a sentence; None where there is none."""
        names = self.dataset.features[task.name].names
        return [None if i is None else names[i] for i in self.dataset[task.name]]

    def learnable(self, task: Task) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.bool_]]:
        """Return the labels of a task, empty where there is none, and where one can be learned.

        Labels that the task excludes cannot.
        """
        import numpy as np

        labels = np.array([label or "" for label in self.labels(task)], dtype=str)
        return labels, (labels != "") & ~np.isin(labels, task.excluded)

    def sources(self) -> list[str]:
        """Return the source of every sentence, `unnamed` where it names none."""
        if "source" not in self.dataset.column_names:
            return [self.unnamed] * len(self.dataset)
        return [source or self.unnamed for source in self.dataset["source"]]


def _check_row(
    row: Mapping[str, Any], where: str, part: str | None, source: Source, tasks: Sequence[Task]
) -> tuple[dict[str, Any], list[str]]:
    """Return the row in normal form and what is wrong with it."""
    problems = []
    text = row.get(source.text_column)
    if not isinstance(text, str):
        problems.append(f"{where}: {source.text_column} is not a string: {text!r}")
        text = ""
    elif not normalize(text):
        problems.append(f"{where}: {source.text_column} is empty: {text!r}")
    clean: dict[str, Any] = {"id": str(row.get("id") or where), "text": normalize(text)}
    for column in META_COLUMNS:
        value = row.get(column)
        clean[column] = None if value in (None, "") else str(value)
    clean["split"] = clean["split"] or part
    if clean["split"] is not None and clean["split"] not in SPLITS:
        problems.append(f"{where}: unknown split {clean['split']!r}: expected one of {SPLITS}")
    for task in tasks:
        label = row.get(source.label_columns.get(task.name, task.name))
        if label in (None, ""):
            clean[task.name] = None
        elif label in task.labels or label in task.excluded:
            clean[task.name] = label
        else:
            problems.append(
                f"{where}: unknown {task.name} {label!r}: expected one of "
                f"{', '.join(task.labels + task.excluded)}"
            )
            clean[task.name] = None
    return clean, problems


def _check_together(rows: Sequence[dict[str, Any]], tasks: Sequence[Task]) -> list[str]:
    """Return what is wrong between rows: ids, contradicting labels, texts across splits."""
    problems = []
    first_with_id: dict[str, str] = {}
    by_text: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["id"] in first_with_id:
            problems.append(
                f"{row['where']}: duplicate id {row['id']!r}, first at {first_with_id[row['id']]}"
            )
        first_with_id.setdefault(row["id"], row["where"])
        if row["text"]:
            by_text[row["text"]].append(row)
    for text, same in by_text.items():
        if len(same) == 1:
            continue
        places = ", ".join(row["where"] for row in same)
        for task in tasks:
            labels = sorted({row[task.name] for row in same} - {None})
            if len(labels) > 1:
                problems.append(
                    f"{places}: one text, {task.name} both {' and '.join(labels)}: {text[:60]!r}"
                )
        splits = sorted({row["split"] for row in same} - {None})
        if len(splits) > 1:
            problems.append(f"{places}: one text in both {' and '.join(splits)}: {text[:60]!r}")
    return problems


def group_rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a group name a row; rows of one group must never be on both sides of a split.

    Rows belong together when they share the article, the contrast group (its members are near
    copies of each other by design) or the text; groups are the connected components.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys: dict[tuple[str, str], int] = {}
    edges = []
    for i, row in enumerate(rows):
        for column in ("article", "contrast", "text"):
            if row.get(column):
                edges.append((i, len(rows) + keys.setdefault((column, row[column]), len(keys))))
    size = len(rows) + len(keys)
    start, end = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_array(([1] * len(edges), (start, end)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(rows)]
    name_of: dict[int, str] = {}
    return [
        name_of.setdefault(c, row.get("article") or row["id"])
        for c, row in zip(component.tolist(), rows, strict=True)
    ]


def _digest(rows: Iterable[Mapping[str, Any]], tasks: Sequence[Task]) -> str:
    columns = ["id", "text", "article", "split", "contrast", *(task.name for task in tasks)]
    lines = sorted(json.dumps([row[c] for c in columns], ensure_ascii=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def load(source: Source, tasks: Sequence[Task]) -> Corpus:
    """Read, normalise and validate all sentences of a source.

    Parameters
    ----------
    source : Source
    tasks : sequence of Task
        Label columns to read; those that no row has are left out of the result.

    Raises
    ------
    KaznewsError
        A file cannot be read, or no label column occurs.
    ProblemsError
        All invalid rows at once, each with file, row and value: text empty or not a string,
        unknown label or split, duplicate id, one text with two labels, one text in two splits.
    """
    from datasets import ClassLabel, Dataset, Features, Value

    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    seen_columns: Counter[str] = Counter()
    for table in read_tables(source):
        first = len(rows)
        for number, raw in enumerate(table.rows, 1):
            where = f"{table.name}:{number}"
            clean, found = _check_row(raw, where, table.part, source, tasks)
            clean["where"] = where
            rows.append(clean)
            problems.extend(found)
            seen_columns.update(raw.keys())
        named = sum(row["split"] is not None for row in rows[first:])
        if 0 < named < len(table.rows):
            problems.append(
                f"{table.name}: {len(table.rows) - named} rows name no split while others do: "
                "fill the column or drop it"
            )
    if not rows:
        raise KaznewsError(f"data={source.name} holds no sentence")
    if not seen_columns[source.text_column]:
        raise KaznewsError(
            f"data={source.name} has no column {source.text_column!r}; "
            f"its columns are {', '.join(seen_columns)}"
        )
    present = tuple(task for task in tasks if any(row[task.name] is not None for row in rows))
    problems.extend(_check_together(rows, present))
    if problems:
        raise ProblemsError(f"data={source.name} is not valid", problems)
    if not present:
        raise KaznewsError(
            f"data={source.name} has none of the label columns {', '.join(t.name for t in tasks)}"
        )
    for row, group in zip(rows, group_rows(rows), strict=True):
        row["group"] = group
    meta = [c for c in META_COLUMNS if any(row[c] is not None for row in rows)]
    features = Features(
        {name: Value("string") for name in ("id", "text", "group", *meta)}
        | {task.name: ClassLabel(names=[*task.labels, *task.excluded]) for task in present}
    )
    dataset = Dataset.from_list([{c: row[c] for c in features} for row in rows], features=features)
    return Corpus(
        dataset,
        present,
        source.name,
        _digest(rows, present),
        source.description,
        source.licence,
        source.unnamed,
    )
