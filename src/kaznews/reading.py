"""Files and Hub data sets in, plain rows out: one dict a row, columns not yet interpreted."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaznews import gold
from kaznews.errors import KaznewsError, ProblemsError


@dataclass(frozen=True)
class Source:
    """Where sentences come from.

    Attributes
    ----------
    name : str
        Name of the data set in runs and tables.
    files : tuple of str
        Paths or glob patterns of JSON Lines, CSV, TSV, Parquet, Label Studio exports (JSON) or any
        file that `datasets` reads.
    gold : str or None
        Folder of label tables whose sentences are derived from public files (see `gold.prepare`).
    path, config_name : str or None
        What `datasets.load_dataset` is called with: a set on the Hugging Face Hub, or a folder.
    text_column : str
        The column that holds the sentence.
    label_columns : mapping of str to str
        Task name to the column that holds its labels, where they differ.
    split_names : mapping of str to str
        Name of a file (without its ending) or of a Hub split to train, dev or test.
    description : str
        One sentence for people who review runs.
    licence : str
        Of the texts, for the model card.
    unnamed : str
        What the source of a sentence is called where its column ``source`` is empty.
    """

    name: str
    files: tuple[str, ...] = ()
    gold: str | None = None
    path: str | None = None
    config_name: str | None = None
    text_column: str = "text"
    label_columns: Mapping[str, str] = field(default_factory=dict)
    split_names: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    licence: str = ""
    unnamed: str = "unnamed"


@dataclass(frozen=True)
class Table:
    """Rows of one file or Hub split.

    Attributes
    ----------
    name : str
        File or split name, for messages and row ids.
    part : str or None
        train, dev or test where `Source.split_names` says so.
    rows : list of dict
    """

    name: str
    part: str | None
    rows: list[dict[str, Any]]


def _read_jsonl(path: Path) -> list[Any]:
    rows, problems = [], []
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                problems.append(
                    f"{path.name}:{number}: not JSON ({error.msg}): {line.strip()[:60]!r}"
                )
                continue
            if isinstance(row, dict):
                rows.append(row)
            else:
                problems.append(f"{path.name}:{number}: not a JSON object: {line.strip()[:60]!r}")
    if problems:
        raise ProblemsError(f"cannot read {path.name}", problems)
    return rows


def _read_csv(path: Path) -> list[Any]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        return list(reader)


def _read_parquet(path: Path) -> list[Any]:
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_table(path).to_pylist())
    except pyarrow.ArrowException as error:
        raise KaznewsError(f"cannot read {path}: {str(error).splitlines()[0]}") from None


def _read_text(path: Path) -> list[Any]:
    with path.open(encoding="utf-8-sig") as stream:
        return [{"text": line.rstrip("\n")} for line in stream]


def _read_json(path: Path) -> list[Any]:
    """Read a JSON array: rows as they are, or the tasks that Label Studio exports."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise KaznewsError(f"{path.name}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise KaznewsError(f"{path.name} is not a JSON array of objects")
    return [_from_label_studio(row) if "annotations" in row else row for row in content]


def _from_label_studio(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return one exported task as a row: its data, and the choices of the last valid annotation.

    Format: Label Studio, "Export annotations", raw JSON. A choice lands in the column that its
    control tag (``from_name``) is named after. The short form JSON-MIN needs no translation.
    """
    row = dict(task.get("data", {}))
    valid = [a for a in task["annotations"] if not a.get("was_cancelled")]
    for result in valid[-1]["result"] if valid else ():
        if result.get("type") == "choices":
            choices = result["value"]["choices"]
            row[result["from_name"]] = choices[0] if len(choices) == 1 else ", ".join(choices)
    return row


def _read_with_datasets(path: Path) -> list[Any]:
    import datasets

    builders = {".arrow": "arrow", ".gz": "json", ".xml": "xml"}
    if path.suffix not in builders:
        known = ", ".join(sorted({*READERS, *builders}))
        raise KaznewsError(
            f"unknown file type {path.suffix or path.name!r}: expected one of {known}"
        )
    table = datasets.load_dataset(builders[path.suffix], data_files=str(path), split="train")
    return list(table.to_list())


READERS = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".txt": _read_text,
}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a file of sentences, one dict a row, without interpreting the columns.

    Parameters
    ----------
    path : Path
        ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet``, ``.txt`` (one sentence a line), or another
        type that `datasets` reads.

    Raises
    ------
    KaznewsError
        The file is missing, of an unknown type, not UTF-8, or broken.
    """
    try:
        return READERS.get(path.suffix, _read_with_datasets)(path)
    except KaznewsError:
        raise
    except OSError as error:
        raise KaznewsError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise KaznewsError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise KaznewsError(f"cannot read {path}: {str(error).splitlines()[0]}") from None
    except Exception as error:
        # `datasets` wraps whatever its builders raise in errors of many kinds.
        raise KaznewsError(f"cannot read {path}: {error}") from error


def find_files(source: Source) -> list[Path]:
    """Return the files that a source names, in sorted order; gold texts are derived if need be."""
    patterns = list(source.files)
    if source.gold is not None:
        labels = Path(source.gold)
        texts = gold.texts_path(labels)
        if not texts.exists():
            if not os.environ.get(gold.MIRROR_VARIABLE):
                raise KaznewsError(
                    "the texts of data=gold are not here yet: run `make data` (fetches public "
                    f"files) or set {gold.MIRROR_VARIABLE} to a local mirror"
                )
            gold.prepare(labels)
        patterns.append(str(texts))
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise KaznewsError(f"data={source.name}: no file matches {pattern}")
        files.extend(Path(path) for path in found)
    return files


def _read_hub(source: Source) -> Iterator[Table]:
    import datasets

    try:
        loaded = datasets.load_dataset(source.path, source.config_name)
    except Exception as error:
        # Network, authentication, missing set, broken files: `datasets` has an error for each.
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise KaznewsError(f"data={source.name}: cannot load {source.path}: {reason}") from error
    for split, table in loaded.items():
        names = {
            c: f.names for c, f in table.features.items() if isinstance(f, datasets.ClassLabel)
        }
        rows = [
            {c: names[c][v] if c in names and v is not None else v for c, v in row.items()}
            for row in table.to_list()
        ]
        yield Table(str(split), source.split_names.get(str(split)), rows)


def read_tables(source: Source) -> list[Table]:
    """Read everything that a source names, files in sorted order.

    Raises
    ------
    KaznewsError
        Nothing is named, a file or set is missing, of an unknown type, not UTF-8, or broken.
    """
    tables = [
        Table(path.name, source.split_names.get(path.stem), read_rows(path))
        for path in find_files(source)
    ]
    if source.path is not None and not tables:
        tables.extend(_read_hub(source))
    if not tables:
        raise KaznewsError(f"data={source.name}: name at least one file (data.files=[path])")
    if len({table.part for table in tables}) == 1:
        # A set that comes as one part (a lone "train") is a set without a split.
        return [Table(table.name, None, table.rows) for table in tables]
    return tables
