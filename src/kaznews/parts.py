"""A plan and Arrow tables in, a folder of Parquet parts out that is whole or can be taken up again.

A part is written under another name first, or appears in an object store when it is complete: what
is called ``part-000000.parquet`` is finished. Each part names its plan, and pages carry checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaznews.errors import KaznewsError

if TYPE_CHECKING:
    import pyarrow as pa

PLAN = "_plan.json"
SUCCESS = "_SUCCESS"
_PLAN_KEY = b"kaznews.plan"
_TEMPORARY = ".unfinished-"
_LOCK = ".lock"


@dataclass(frozen=True)
class Folder:
    """A folder on a disk or in an object store; can be sent to other processes.

    Attributes
    ----------
    filesystem : pyarrow.fs.FileSystem
    path : str
    """

    filesystem: Any
    path: str

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a file system of this machine."""
        return str(self.filesystem.type_name) == "local"

    def names(self) -> list[str]:
        """Return the names of what is in the folder."""
        from pyarrow import fs

        selector = fs.FileSelector(self.path, allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        with self.filesystem.open_input_file(f"{self.path}/{name}") as stream:
            return bytes(stream.read())

    def write(self, name: str, content: Any) -> None:
        """Write a file so that it is there with all its bytes, or not there at all."""
        if not self.is_local:
            with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
                stream.write(content)
            return
        temporary = Path(self.path, f"{_TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(Path(self.path, name))
        finally:
            temporary.unlink(missing_ok=True)
        # The new name, too, has to survive a power cut.
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def open_folder(name: str) -> Folder:
    """Return the folder of a path or an address (``s3://``, ``gs://``, ``file://``), created.

    Raises
    ------
    KaznewsError
        It cannot be created.
    """
    from pyarrow import ArrowException, fs

    try:
        if "://" in name:
            filesystem, path = fs.FileSystem.from_uri(name)
        else:
            filesystem, path = fs.LocalFileSystem(), str(Path(name).absolute())
        filesystem.create_dir(path, recursive=True)
    except (ArrowException, OSError) as error:
        raise KaznewsError(f"cannot write {name}: {str(error).splitlines()[0]}") from None
    return Folder(filesystem, path.rstrip("/"))


@contextlib.contextmanager
def sole_writer(folder: Folder) -> Iterator[None]:
    """Hold the folder while parts are written, on a local disk; refuse a second process.

    Raises
    ------
    KaznewsError
        Another process is writing into the folder.
    """
    if not folder.is_local:
        yield
        return
    from filelock import FileLock, Timeout

    # The kernel drops the lock of a killed process.
    lock = FileLock(Path(folder.path, _LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise KaznewsError(f"another process is writing into {folder.path}") from None
    try:
        yield
    finally:
        lock.release()


def digest(plan: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that change with anything in the plan."""
    text = json.dumps(plan, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def adopt(folder: Folder, plan: Mapping[str, Any]) -> None:
    """Write the plan into an empty folder, or check that the folder was begun with the same one.

    Raises
    ------
    KaznewsError
        The folder holds something else, or parts of another input, model or setting.
    """
    names = [name for name in folder.names() if name[0] != "."]
    if PLAN not in names:
        if names:
            raise KaznewsError(
                f"{folder.path} is not empty ({names[0]}) and was not begun by "
                "kaznews predict: give a new folder"
            )
        folder.write(PLAN, json.dumps(plan, indent=1, ensure_ascii=False).encode() + b"\n")
        return
    try:
        begun = json.loads(folder.read(PLAN))
        differing = [key for key in {**plan, **begun} if plan.get(key) != begun.get(key)]
    except (ValueError, TypeError):
        raise KaznewsError(f"{folder.path}/{PLAN} is damaged: give a new folder") from None
    if differing:
        key = differing[0]
        raise KaznewsError(
            f"{folder.path} was begun with another {key} ({_brief(begun.get(key))}, now "
            f"{_brief(plan.get(key))}): give a new folder, or go on with the same {key}"
        )
    if folder.is_local:
        for name in folder.names():
            if name.startswith(_TEMPORARY):
                Path(folder.path, name).unlink(missing_ok=True)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"


def part_name(index: int) -> str:
    """Return the name of a part; names sort in the order of the rows up to 10^6 parts."""
    return f"part-{index:06d}.parquet"


def write_part(folder: Folder, index: int, table: pa.Table, plan_digest: str) -> None:
    """Write one finished part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({_PLAN_KEY: plan_digest.encode()})
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    folder.write(part_name(index), sink.getvalue())


def read_part(folder: Folder, index: int, plan_digest: str) -> pa.Table | None:
    """Return a part of this plan, None where there is none or it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pa.BufferReader(folder.read(part_name(index)))
        with pq.ParquetFile(content, page_checksum_verification=True) as file:
            table = file.read()
    except (OSError, pa.ArrowException):
        return None
    return table if (table.schema.metadata or {}).get(_PLAN_KEY) == plan_digest.encode() else None
