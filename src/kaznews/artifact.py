"""The folder of a saved model in, the folder of its bundle out, once nothing in it leads outside.

Nothing is imported, run or unpickled here: MLmodel is read as plain YAML, and what MLflow's own
loader would follow in it (code, other loaders, paths) is refused unless it is ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from kaznews.errors import KaznewsError

MLMODEL = "MLmodel"
# The loader that `tracking.log_bundle` writes. It is compared, never imported by name.
LOADER = "kaznews.predict"
FLAVOR = "python_function"
# Ours are 1.3 kB; reading YAML is slow, and a model has no reason for more.
_LARGEST_MLMODEL = 256 * 1024


def check_files(folder: Path) -> None:
    """Refuse a folder that is or holds anything but folders and regular files.

    A symbolic link would let a model read files that are not its own; a pipe would block the reader
    for ever.

    Raises
    ------
    KaznewsError
        Names the first such entry, or says that there is no such folder.
    """
    if folder.is_symlink():
        raise KaznewsError(
            f"refused to load {folder.name}: it is a symbolic link; name the folder it leads to"
        )
    if not folder.is_dir():
        raise KaznewsError(f"no such model folder: {folder}")
    for entry in _entries(folder):
        kind = entry.stat(follow_symlinks=False).st_mode
        name = Path(entry.path).relative_to(folder)
        if stat.S_ISLNK(kind):
            raise KaznewsError(f"refused to load {folder.name}: {name} is a symbolic link")
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise KaznewsError(f"refused to load {folder.name}: {name} is not a regular file")


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        for entry in sorted(found, key=lambda e: e.name):
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))


def bundle_folder(folder: Path) -> Path:
    """Return where the bundle lies in a saved MLflow model.

    Parameters
    ----------
    folder : Path
        What MLflow wrote: an ``MLmodel`` and what it names.

    Raises
    ------
    KaznewsError
        A link or special file; no MLmodel or a damaged one; one that names another loader, carries
        code, or holds a path that leaves the folder. Names the field.
    """
    check_files(folder)
    content = _read_mlmodel(folder)
    flavors = content.get("flavors")
    flavor = flavors.get(FLAVOR) if isinstance(flavors, dict) else None
    if not isinstance(flavor, dict):
        raise KaznewsError(f"{folder} is not a kaznews bundle: its MLmodel has no {FLAVOR}")
    if flavor.get("loader_module") != LOADER:
        raise KaznewsError(
            f"{folder} is not a kaznews bundle: its loader is "
            f"{flavor.get('loader_module')!s:.100}, not {LOADER}"
        )
    if flavor.get("code") is not None:
        raise KaznewsError(f"refused to load {folder.name}: it carries code, a bundle has none")
    # artifact_path at the top is the address where the model was logged: nobody follows it.
    for part in ("flavors", "saved_input_example_info"):
        for field, text in _strings(part, content.get(part), set()):
            if _leaves(text):
                raise KaznewsError(
                    f"refused to load {folder.name}: {field} in MLmodel leaves its folder: "
                    f"{text:.100}"
                )
    data = flavor.get("data")
    if not isinstance(data, str) or not (folder / data).is_dir():
        raise KaznewsError(f"{folder} is not a kaznews bundle: no data folder {data!r:.100}")
    return folder / data


def _read_mlmodel(folder: Path) -> dict[Any, Any]:
    import yaml

    path = folder / MLMODEL
    try:
        if path.stat().st_size > _LARGEST_MLMODEL:
            raise KaznewsError(f"refused to load {folder.name}: its MLmodel is too large")
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise KaznewsError(
            f"{folder} is not a kaznews bundle: {MLMODEL}: {error.strerror}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, KaznewsError):
            raise
        reason = str(error).splitlines()[0]
        raise KaznewsError(f"{folder} is not a kaznews bundle: {MLMODEL}: {reason}") from None
    if not isinstance(content, dict):
        raise KaznewsError(f"{folder} is not a kaznews bundle: its MLmodel is not a mapping")
    return content


def _strings(field: str, value: Any, above: set[int]) -> Iterator[tuple[str, str]]:
    """Yield each string below a value with its dotted name; an alias of YAML is followed once."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict | list) and id(value) not in above:
        above.add(id(value))
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in entries:
            yield from _strings(f"{field}.{key}", entry, above)


def _leaves(text: str) -> bool:
    """Return whether a string, taken as a path of any system or as an address, leads outside."""
    windows = PureWindowsPath(text)
    return (
        PurePosixPath(text).is_absolute()
        or bool(windows.anchor)
        or ".." in windows.parts
        or text.startswith("~")
        or ":/" in text
        or text.startswith("file:")
    )
