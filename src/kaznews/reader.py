"""A data source of any size in, checked labelled sentences out one by one, each on its side.

What `data.load` and `split_corpus` do to a whole corpus is done here to a row at a time, as far as
one row can tell: which article it belongs to decides where it stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaznews.batches import HUB, Input, find_input, hub_splits
from kaznews.data import SPLITS, Task
from kaznews.errors import KaznewsError
from kaznews.reading import Source, find_files
from kaznews.text import normalize, text_hash

# Sentences read at once.
_READ = 10_000


@dataclass(frozen=True)
class Reader:
    """Where rows come from and on which side of the split each belongs.

    Attributes
    ----------
    inputs : tuple of (Input, str or None)
        And the part that all rows of it belong to, where the source says so.
    source : Source
    tasks : tuple of Task
    dev_size, test_size : float
        Shares drawn by article (by text where a row has none) where no split is given.
    """

    inputs: tuple[tuple[Input, str | None], ...]
    source: Source
    tasks: tuple[Task, ...]
    dev_size: float
    test_size: float

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield checked rows in the order of the input: text, group, part, a label a task.

        Rows without a sentence are left out.

        Raises
        ------
        KaznewsError
            A file cannot be read, or a label or split is unknown.
        """
        column = self.source.text_column
        for read, part in self.inputs:
            number = 0
            for table in read.tables(_READ, column):
                for row in table.to_pylist():
                    number += 1
                    if row[column] and (text := normalize(row[column])):
                        yield self._checked(row, text, part, f"{read.name}, row {number}")

    def _checked(
        self, row: Mapping[str, Any], text: str, part: str | None, where: str
    ) -> dict[str, Any]:
        group = str(row.get("article") or row.get("contrast") or text)
        part = row.get("split") or part or self._drawn(group)
        if part not in SPLITS:
            raise KaznewsError(f"{where}: unknown split {part!r}: expected one of {SPLITS}")
        clean = {"text": text, "group": group, "part": part}
        for task in self.tasks:
            label = row.get(self.source.label_columns.get(task.name, task.name)) or ""
            if label and label not in task.labels and label not in task.excluded:
                known = ", ".join(task.labels + task.excluded)
                raise KaznewsError(
                    f"{where}: unknown {task.name} {label!r}: expected one of {known}"
                )
            clean[task.name] = "" if label in task.excluded else label
        return clean

    def _drawn(self, group: str) -> str:
        # The same side in every process and run: 64 bits of a hash as a number from 0 to 1.
        place = int(text_hash(f"part\0{group}"), 16) / 2**64
        if place < self.test_size:
            return "test"
        return "dev" if place < self.test_size + self.dev_size else "train"

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with the input."""
        known = json.dumps([[read.identity(), part] for read, part in self.inputs])
        return hashlib.sha256(known.encode()).hexdigest()[:16]


def open_reader(
    source: Source, tasks: Sequence[Task], *, dev_size: float, test_size: float
) -> Reader:
    """Return the reader of a data source.

    Raises
    ------
    KaznewsError
        Nothing is named or nothing is there.
    """
    inputs: list[tuple[Input, str | None]] = [
        (find_input(str(path)), source.split_names.get(path.name.split(".")[0]))
        for path in find_files(source)
    ]
    if source.path is not None and not inputs:
        for split in hub_splits(source.path, source.config_name):
            name = f"{HUB}{source.path}:{source.config_name or ''}:{split}"
            inputs.append((find_input(name), source.split_names.get(split)))
    if not inputs:
        raise KaznewsError(f"data={source.name}: name at least one file (data.files=[path])")
    if len(inputs) == 1:
        # A set that comes as one part (a lone "train") is a set without a split.
        inputs = [(inputs[0][0], None)]
    return Reader(tuple(inputs), source, tuple(tasks), dev_size, test_size)
