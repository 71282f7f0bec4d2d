"""A manifest and arrays in, one sealed ``.npz`` file out, and back: nothing is run, no surprises.

`numpy.load` reads such a file too; this reader is stricter than a zip needs. Members are stored,
never compressed, so what the file claims to hold can be no larger than the file. The zip comment is
the SHA-256 of every byte before it, and the array headers are compared with those the manifest asks
for, never parsed. All of it happens before the first array exists.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.errors import KaznewsError

MAX_BYTES = 2**30
MAX_MANIFEST_BYTES = 2**20
MAX_MEMBERS = 64
# The types a file may hold: text as bytes, lengths, numbers.
DTYPES = ("|u1", "<u4", "<f8")

_MANIFEST = "manifest"
_DIGEST_LENGTH = 64
# PKWARE APPNOTE 6.3.10, sections 4.3.7 and 4.3.16: start of a member, end of the directory.
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_END = struct.Struct("<4sHHHHLLH")
# Members start at multiples of this, so that arrays can be used where they lie.
_ALIGNMENT = 64
_PADDING_ID = 0x7A6B

Arrays = dict[str, npt.NDArray[Any]]


def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the header of a ``.npy`` file, format 1.0 (numpy.lib.format)."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, }}".encode("ascii")
    text += b" " * (-(len(text) + 11) % _ALIGNMENT) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def write(path: Path, manifest: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a sealed file; equal content gives an equal file, to the byte.

    Parameters
    ----------
    path : Path
    manifest : mapping
        What JSON can hold; ``arrays`` is added: type and shape of each array.
    arrays : mapping of str to ndarray
        Of the types in `DTYPES`, one or two dimensions.

    Raises
    ------
    KaznewsError
        More than a reader would accept.
    """
    import zipfile

    shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    text = json.dumps({**manifest, "arrays": shapes}, sort_keys=True).encode("ascii")
    members = {_MANIFEST: np.frombuffer(text, dtype=np.uint8), **arrays}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            padding = -(buffer.tell() + 30 + len(info.filename) + 4) % _ALIGNMENT
            info.extra = struct.pack("<HH", _PADDING_ID, padding) + bytes(padding)
            content = np.ascontiguousarray(array).tobytes()
            archive.writestr(info, _header(array.dtype.str, array.shape) + content)
        archive.comment = b"0" * _DIGEST_LENGTH
    sealed = buffer.getbuffer()[:-_DIGEST_LENGTH]
    if len(buffer.getbuffer()) > MAX_BYTES or len(text) > MAX_MANIFEST_BYTES:
        raise KaznewsError(f"the model is too large for one file: more than {MAX_BYTES} bytes")
    with path.open("wb") as stream:
        stream.write(sealed)
        stream.write(hashlib.sha256(sealed).hexdigest().encode("ascii"))


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a named pipe that nobody writes to would otherwise never open."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _sealed_bytes(path: Path) -> bytes:
    """Return the bytes of a file whose frame and digest are right."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KaznewsError(f"{path} is not a file")
            if status.st_size > MAX_BYTES:
                raise KaznewsError(
                    f"{path} has {status.st_size} bytes; a model has {MAX_BYTES} at most"
                )
            tail_length = _END.size + _DIGEST_LENGTH
            if stream.read(4) != b"PK\x03\x04":
                raise KaznewsError(f"{path} is not a file that kaznews export wrote")
            stream.seek(max(0, status.st_size - tail_length))
            tail = stream.read(tail_length)
            if len(tail) < tail_length or not _ends_well(tail, status.st_size):
                raise KaznewsError(f"{path} is truncated, or kaznews export did not write it")
            stream.seek(0)
            content = stream.read(status.st_size)
    except OSError as error:
        raise KaznewsError(f"cannot read {path}: {error.strerror or error}") from None
    seal = content[-_DIGEST_LENGTH:]
    digest = hashlib.sha256(memoryview(content)[:-_DIGEST_LENGTH]).hexdigest()
    if digest.encode("ascii") != seal:
        raise KaznewsError(f"{path} is damaged or was altered: its SHA-256 is not the one it names")
    return content


def _ends_well(tail: bytes, size: int) -> bool:
    """Return whether a file ends as ours do: a small directory, then the digest as comment."""
    mark, disk, first, here, count, length, offset, comment = _END.unpack_from(tail)
    return bool(
        (mark, disk, first, comment) == (b"PK\x05\x06", 0, 0, _DIGEST_LENGTH)
        and 1 <= here == count <= MAX_MEMBERS
        and offset + length + len(tail) == size
    )


def _members(content: bytes) -> dict[str, tuple[int, int]]:
    """Return start and length of each member; ValueError for any that is not plainly stored."""
    import zipfile

    found: dict[str, tuple[int, int]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error) as error:
        raise ValueError(f"broken zip directory ({error})") from None
    for info in infos:
        name, ending = info.filename[:-4], info.filename[-4:]
        if ending != ".npy" or name in found:
            raise ValueError(f"unexpected member {info.filename[:60]!r}")
        if info.compress_type or info.flag_bits & 1 or info.compress_size != info.file_size:
            raise ValueError(f"member {info.filename[:60]!r} is compressed or encrypted")
        if not 0 <= info.header_offset <= len(content) - _LOCAL_HEADER.size:
            raise ValueError(f"member {info.filename[:60]!r} lies outside the file")
        mark, *lengths = _LOCAL_HEADER.unpack_from(content, info.header_offset)
        start = info.header_offset + _LOCAL_HEADER.size + sum(lengths)
        if mark != b"PK\x03\x04" or start + info.file_size > len(content):
            raise ValueError(f"member {info.filename[:60]!r} lies outside the file")
        found[name] = (start, info.file_size)
    return found


def _manifest(content: bytes, start: int, size: int) -> dict[str, Any]:
    if size > MAX_MANIFEST_BYTES:
        raise ValueError(f"a manifest of {size} bytes")
    # The header of a short array has one length, whatever the number in it.
    n = size - len(_header("|u1", (1,)))
    header = _header("|u1", (n,))
    if n < 0 or content[start : start + len(header)] != header:
        raise ValueError("the manifest is not an array of bytes")
    manifest = json.loads(content[start + len(header) : start + size].decode("ascii"))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("arrays"), dict):
        raise ValueError("the manifest names no arrays")
    return manifest


def _array(content: bytes, place: tuple[int, int], declared: Any) -> npt.NDArray[Any]:
    dtype, shape = declared
    if dtype not in DTYPES:
        raise ValueError(f"an array of type {str(dtype)[:60]!r}")
    if not 1 <= len(shape) <= 2 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise ValueError(f"an array of shape {str(shape)[:60]}")
    start, size = place
    header = _header(dtype, tuple(shape))
    count = math.prod(shape)
    if size != len(header) + count * np.dtype(dtype).itemsize:
        raise ValueError(f"{size} bytes cannot be a {dtype} array of shape {tuple(shape)}")
    if content[start : start + len(header)] != header:
        raise ValueError("an array header says something else than the manifest")
    return np.frombuffer(content, dtype, count, start + len(header)).reshape(shape)


def read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Return manifest and arrays of a sealed file.

    Returns
    -------
    manifest : dict
    arrays : dict of str to ndarray
        Read-only, where they lie in the one copy of the file.

    Raises
    ------
    KaznewsError
        The file is missing, truncated, altered, of another kind, too large, or says in one place
        something else than in another.
    """
    content = _sealed_bytes(path)
    try:
        members = _members(content)
        manifest = _manifest(content, *members.pop(_MANIFEST, (0, 0)))
        declared = manifest["arrays"]
        if members.keys() != declared.keys():
            raise ValueError("members and manifest name different arrays")
        return manifest, {name: _array(content, members[name], declared[name]) for name in declared}
    except (ValueError, TypeError, RecursionError) as error:
        raise KaznewsError(f"{path} is not a file that kaznews export wrote: {error}") from None
