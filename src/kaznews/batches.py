"""Files or a Hub set of any size in, Arrow tables of a fixed number of rows out, in a fixed order.

The same input and size give the same tables in every process, so that work can be taken up again
and shared out. What is in memory at once is a table and a buffer, never a file.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from kaznews.errors import KaznewsError

if TYPE_CHECKING:
    import pyarrow as pa

LINE_KINDS = (".jsonl", ".csv", ".tsv", ".txt")
KINDS = (".parquet", *LINE_KINDS, *(f"{kind}.gz" for kind in LINE_KINDS))
HUB = "hub:"
# Of JSON Lines: keys that no earlier row has, and sentences that are no strings, as JSON.
OTHER = "other"
# Rows of JSON Lines whose keys become columns.
_SAMPLED_ROWS = 1000
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Input:
    """What is read: files of one kind, or a set of the Hugging Face Hub.

    Attributes
    ----------
    name : str
        As the user gave it.
    kind : str
        An ending of KINDS without ``.gz``, or ``hub:``.
    files : tuple of str
        Absolute paths in `filesystem`, in the order they are read.
    filesystem : pyarrow.fs.FileSystem
    """

    name: str
    kind: str
    files: tuple[str, ...]
    filesystem: Any

    def identity(self) -> list[Any]:
        """Return what tells this input from another: name, size, time, digest of both ends."""
        if self.kind == HUB:
            return _hub_identity(self.name)
        found = []
        for path in self.files:
            with self.filesystem.open_input_file(path) as stream:
                size = stream.size()
                digest = hashlib.sha256(stream.read(_BUFFER))
                stream.seek(max(0, size - _BUFFER))
                digest.update(stream.read(_BUFFER))
            changed = self.filesystem.get_file_info(path).mtime_ns
            found.append([path.rsplit("/", 1)[-1], size, changed, digest.hexdigest()[:16]])
        return found

    def rows(self) -> int | None:
        """Return the number of rows where the format says it without reading all, else None."""
        if self.kind != ".parquet":
            return None
        return sum(int(file.metadata.num_rows) for file in self._parquet_files())

    def _parquet_files(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in self.files:
            try:
                # A buffer instead of whole column chunks: row groups may be of any size.
                with pq.ParquetFile(
                    path, filesystem=self.filesystem, buffer_size=_BUFFER, pre_buffer=False
                ) as file:
                    yield file
            except (pa.ArrowException, OSError) as error:
                raise KaznewsError(f"cannot read {path}: {str(error).splitlines()[0]}") from None

    def tables(self, size: int, column: str) -> Iterator[pa.Table]:
        """Yield all rows as tables of `size` rows, the last one shorter; at least one table.

        Parquet and Hub columns keep their types (a ClassLabel becomes its name). CSV columns are
        strings. JSON Lines: the keys of the first 1000 rows become columns, strings stay, anything
        else is kept as JSON; what has no column is JSON in `other`.

        Parameters
        ----------
        size : int
        column : str
            Name of the column with the sentence; a string column in every table.

        Raises
        ------
        KaznewsError
            A file cannot be read, the column is missing or no string.
        """
        if self.kind == ".parquet":
            read: Iterable[pa.Table] = self._parquet_tables(size)
        elif self.kind == HUB:
            read = _hub_tables(self.name, size)
        else:
            read = self._line_tables(size, column)
        import pyarrow as pa

        try:
            for table in _of_size(read, size):
                yield _with_sentences(table, column, self.name)
        except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
            raise KaznewsError(f"cannot read {self.name}: {str(error).splitlines()[0]}") from None

    def slice(self, start: int, stop: int, column: str) -> pa.Table:
        """Return rows `start` to `stop` of Parquet files, without reading other row groups."""
        import pyarrow as pa

        try:
            return _with_sentences(self._slice(start, stop), column, self.name)
        except (pa.ArrowException, OSError) as error:
            raise KaznewsError(f"cannot read {self.name}: {str(error).splitlines()[0]}") from None

    def _slice(self, start: int, stop: int) -> pa.Table:
        import pyarrow as pa

        found, first = [], 0
        for file in self._parquet_files():
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                if first < stop and last > start:
                    at = first
                    for batch in file.iter_batches(batch_size=65_536, row_groups=[group]):
                        low, high = max(start - at, 0), min(stop - at, batch.num_rows)
                        if low < high:
                            found.append(pa.Table.from_batches([batch.slice(low, high - low)]))
                        at += batch.num_rows
                        if at >= stop:
                            break
                first = last
            if not found and first >= stop:
                found.append(file.schema_arrow.empty_table())
            if first >= stop:
                break
        return pa.concat_tables(found)

    def _parquet_tables(self, size: int) -> Iterator[pa.Table]:
        import pyarrow as pa

        schema = None
        for path, file in zip(self.files, self._parquet_files(), strict=True):
            own = file.schema_arrow.remove_metadata()
            schema = schema or own
            if not own.equals(schema):
                raise KaznewsError(f"{path} has other columns than {self.files[0]}")
            yield schema.empty_table()
            for batch in file.iter_batches(batch_size=min(size, 65_536)):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)

    def _line_tables(self, size: int, column: str) -> Iterator[pa.Table]:
        rows = _json_rows if self.kind == ".jsonl" else _csv_rows
        if self.kind == ".txt":
            rows = _text_rows
        names, found = rows(self.files, column)
        yield _strings(names, [])
        while chunk := list(itertools.islice(found, min(size, 10_000))):
            yield _strings(names, chunk)


def find_input(name: str) -> Input:
    """Return what a path, pattern, folder, address or ``hub:`` name stands for.

    Parameters
    ----------
    name : str
        A file of one of KINDS, a pattern or a folder of such, ``s3://`` or ``gs://`` of Parquet, or
        ``hub:owner/set[:config[:split]]``.

    Raises
    ------
    KaznewsError
        Nothing is there, or files are of several kinds or an unknown one.
    """
    from pyarrow import ArrowException, fs

    if name.startswith(HUB):
        return Input(name, HUB, (), None)
    if name == "-":
        raise KaznewsError("standard input cannot be read again after a break: give a file")
    try:
        if "://" in name:
            filesystem, path = fs.FileSystem.from_uri(name)
            paths = _listed(filesystem, path)
        else:
            filesystem, path = fs.LocalFileSystem(), str(Path(name).absolute())
            found = [path] if Path(path).exists() else sorted(glob.glob(path, recursive=True))
            paths = [file for one in found for file in _listed(filesystem, one)]
    except (ArrowException, OSError) as error:
        raise KaznewsError(f"cannot read {name}: {str(error).splitlines()[0]}") from None
    if not paths:
        raise KaznewsError(f"cannot read {name}: there is no file of {', '.join(KINDS)}")
    kinds = {_kind(path) for path in paths}
    if unknown := [p for p in paths if _kind(p) not in KINDS]:
        raise KaznewsError(f"unknown file type {unknown[0]!r}: --input takes {', '.join(KINDS)}")
    if len(kinds) > 1:
        raise KaznewsError(f"{name} holds files of several types: {', '.join(sorted(kinds))}")
    kind = kinds.pop().removesuffix(".gz")
    if "://" in name and not name.startswith("file:") and kind != ".parquet":
        raise KaznewsError(f"{name}: only Parquet is read from an address")
    return Input(name, kind, tuple(paths), filesystem)


def _kind(path: str) -> str:
    suffixes = Path(path).suffixes
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def _listed(filesystem: Any, path: str) -> list[str]:
    """Return a file, or the files of a folder that do not start with a dot or an underscore."""
    from pyarrow import fs

    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        return []
    if info.type == fs.FileType.File:
        return [path]
    return sorted(
        entry.path
        for entry in filesystem.get_file_info(fs.FileSelector(path, recursive=True))
        if entry.is_file and entry.base_name[0] not in "._" and _kind(entry.path) in KINDS
    )


def _of_size(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut and join tables of any length into tables of `size` rows; yield at least one."""
    import pyarrow as pa

    held: list[pa.Table] = []
    count, yielded = 0, False
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= size:
            whole = pa.concat_tables(held)
            yield whole.slice(0, size).combine_chunks()
            yielded = True
            held, count = [whole.slice(size)], count - size
    if count or not yielded:
        yield pa.concat_tables(held).combine_chunks()


def _with_sentences(table: pa.Table, column: str, where: str) -> pa.Table:
    """Return the table with its sentence column as plain strings."""
    import pyarrow as pa

    if column not in table.column_names:
        raise KaznewsError(
            f"{where} has no column {column!r}; its columns are {', '.join(table.column_names)}"
        )
    position = table.column_names.index(column)
    kind = table.schema.types[position]
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_null(text)):
        raise KaznewsError(f"{where}: column {column!r} holds {kind}, not strings")
    return table.set_column(position, column, table.column(position).cast(pa.string()))


def _strings(names: Sequence[str], rows: Sequence[Sequence[str | None]]) -> pa.Table:
    """Return rows of strings as a table; a lone surrogate, which has no UTF-8, as ``\\ud800``."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    arrays = []
    for values in columns:
        try:
            arrays.append(pa.array(values, pa.string()))
        except UnicodeEncodeError:
            mended = [v and v.encode("utf-8", "backslashreplace").decode("utf-8") for v in values]
            arrays.append(pa.array(mended, pa.string()))
    return pa.Table.from_arrays(arrays, names=list(names))


def _opened(path: str) -> TextIO:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _lines(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield where a line stands and the line, split at line feeds alone."""
    for path in files:
        number = 0
        try:
            with _opened(path) as stream:
                for number, line in enumerate(stream, 1):
                    yield f"{Path(path).name}:{number}", line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise KaznewsError(f"{path} is not UTF-8: {error.reason} after line {number}") from None


Rows = tuple[list[str], Iterator[Sequence[str | None]]]


def _text_rows(files: Sequence[str], column: str) -> Rows:
    return [column], ((line,) for _, line in _lines(files))


def _csv_rows(files: Sequence[str], column: str) -> Rows:
    def read(path: str) -> Iterator[list[str]]:
        delimiter = "\t" if ".tsv" in Path(path).suffixes else ","
        try:
            with _opened(path) as stream:
                yield from csv.reader(stream, delimiter=delimiter)
        except UnicodeDecodeError as error:
            raise KaznewsError(f"{path} is not UTF-8: {error.reason}") from None
        except csv.Error as error:
            raise KaznewsError(f"cannot read {path}: {error}") from None

    header = next(read(files[0]), [])
    if len(set(header)) < len(header):
        raise KaznewsError(f"{files[0]} names a column twice: {', '.join(header)}")

    def rows() -> Iterator[Sequence[str | None]]:
        for path in files:
            lines = read(path)
            if next(lines, []) != header:
                raise KaznewsError(f"{path} has other columns than {files[0]}")
            for number, row in enumerate(lines, 2):
                if len(row) > len(header):
                    raise KaznewsError(f"{path}: record {number} has more fields than the header")
                if row:
                    yield [*row, *[None] * (len(header) - len(row))]

    return header, rows()


def _json_rows(files: Sequence[str], column: str) -> Rows:
    def parsed() -> Iterator[dict[str, Any]]:
        for where, line in _lines(files):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise KaznewsError(f"{where}: not JSON ({error.msg}): {line[:60]!r}") from None
                if not isinstance(row, dict):
                    raise KaznewsError(f"{where}: not a JSON object: {line[:60]!r}")
                yield row

    found = parsed()
    sample = list(itertools.islice(found, _SAMPLED_ROWS))
    names = list(dict.fromkeys(key for row in sample for key in row)) or [column]
    names = [name for name in names if name != OTHER]
    known = set(names)

    def as_text(value: Any) -> str | None:
        if value is None or isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False)

    def rows() -> Iterator[Sequence[str | None]]:
        for row in itertools.chain(sample, found):
            rest = {key: value for key, value in row.items() if key not in known}
            sentence = row.get(column)
            if sentence is not None and not isinstance(sentence, str):
                rest[column], row[column] = sentence, None
            yield [*(as_text(row.get(name)) for name in names), as_text(rest or None)]

    return [*names, OTHER], rows()


def _hub_builder(name: str) -> tuple[Any, str]:
    import datasets

    path, config, split, *rest = [*name.removeprefix(HUB).split(":"), "", ""]
    if not path or any(rest):
        raise KaznewsError(f"{name}: expected {HUB}owner/set[:config[:split]]")
    try:
        builder = datasets.load_dataset_builder(path, config or None)
    except Exception as error:
        # Network, authentication, missing set, broken files: `datasets` has an error for each.
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise KaznewsError(f"cannot load {path}: {reason}") from error
    return builder, split or "train"


def hub_splits(path: str, config: str | None) -> list[str]:
    """Return the names of the splits of a Hub set."""
    builder, _ = _hub_builder(f"{HUB}{path}:{config or ''}")
    return [str(split) for split in builder.config.data_files or builder.info.splits or ["train"]]


def _hub_identity(name: str) -> list[Any]:
    """Return the files of a set with their revision (Hub) or time of change (folder)."""
    builder, split = _hub_builder(name)
    files = (builder.config.data_files or {}).get(split, [])
    origin = [[str(x) for x in entry] for entry in getattr(files, "origin_metadata", [])]
    return [name, split, builder.hash, *origin]


def _hub_tables(name: str, size: int) -> Iterator[pa.Table]:
    import datasets
    import pyarrow as pa

    builder, split = _hub_builder(name)
    try:
        stream = builder.as_streaming_dataset(split=split)
        features = stream.features or {}
        names = {c: f.names for c, f in features.items() if isinstance(f, datasets.ClassLabel)}
        for table in stream.with_format("arrow").iter(min(size, 10_000)):
            for column, labels in names.items():
                position = table.column_names.index(column)
                known = pa.array(labels, pa.string()).take(table.column(position).combine_chunks())
                table = table.set_column(position, column, known)
            yield table.replace_schema_metadata(None)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise KaznewsError(f"cannot read {name}: {reason}") from error
