"""Public news files in, the labelled real sentences of `data/gold` out.

The repository holds labels only. Each table of `data/gold` names one public file at one commit;
a row names a line of it and the hash of the text that the rules below derive from that line.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kaznews.errors import AbsentError, KaznewsError, ProblemsError
from kaznews.text import normalize, text_hash

MIRROR_VARIABLE = "KAZNEWS_SOURCES"
RAW_URL = "https://raw.githubusercontent.com/{repo}/{commit}/{path}"
TIMEOUT_SECONDS = 60

_SPACE_BEFORE = re.compile(r"\s+(?=[,.;:!?%»”)\]])")
_SPACE_AFTER = re.compile(r"(?<=[«“(\[])\s+")
_SPACED_QUOTES = re.compile(r'" ([^"]*?) "')


def detokenize(text: str) -> str:
    """Undo the tokenisation of the sources: no white space inside brackets, before punctuation.

    Source of the rules: data/README.md, "From the file to the text".
    """
    text = _SPACE_BEFORE.sub("", text)
    text = _SPACE_AFTER.sub("", text)
    return _SPACED_QUOTES.sub(r'"\1"', text)


def _iob2(lines: list[str], index: int) -> str:
    tokens = []
    for line in lines[index + 1 :]:
        if not line.strip():
            break
        tokens.append(line.rstrip().rsplit(" ", 1)[0])
    return " ".join(tokens)


def _tsv(lines: list[str], index: int) -> str:
    return lines[index].split("\t", 1)[0]


def _conllu(lines: list[str], index: int) -> str:
    return lines[index].split("=", 1)[1]


def _plain(lines: list[str], index: int) -> str:
    return lines[index]


# How one sentence stands in a file of each format: (lines of the file, 0-based index) -> raw text.
READERS: dict[str, Callable[[list[str], int], str]] = {
    "iob2": _iob2,
    "tsv": _tsv,
    "conllu": _conllu,
    "plain": _plain,
}


def _is_iob2(lines: list[str], index: int) -> bool:
    return bool(lines[index].strip()) and (index == 0 or not lines[index - 1].strip())


def _is_line(lines: list[str], index: int) -> bool:
    return bool(lines[index].strip())


def _is_conllu(lines: list[str], index: int) -> bool:
    return lines[index].startswith("# text =")


# Whether a sentence of a format begins at a line.
BEGINS: dict[str, Callable[[list[str], int], bool]] = {
    "iob2": _is_iob2,
    "tsv": _is_line,
    "conllu": _is_conllu,
    "plain": _is_line,
}
_NUMBER = re.compile(r"\d+")


def derive_text(lines: list[str], line: int, file_format: str) -> str:
    """Return the normalised sentence that stands at a line of a source file.

    Parameters
    ----------
    lines : list of str
        The file split at newlines alone.
    line : int
        1-based line number.
    file_format : {"iob2", "tsv", "conllu", "plain"}
        iob2: sentence-id line, then a token and its tag a line; tsv: first field; conllu: the
        ``# text =`` comment; plain: the line.
    """
    return normalize(detokenize(READERS[file_format](lines, line - 1)))


def _read_manifest(labels: Path) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = json.loads((labels / "manifest.json").read_text("utf-8"))["files"]
    return files


def labels_digest(labels: Path) -> str:
    """Return a digest of the manifest and all label tables: a new one means new texts."""
    digest = hashlib.sha256((labels / "manifest.json").read_bytes())
    for entry in _read_manifest(labels):
        digest.update((labels / entry["table"]).read_bytes())
    return digest.hexdigest()[:12]


def texts_path(labels: Path) -> Path:
    """Return where the derived sentences of these labels are written (outside version control)."""
    return labels / "text" / f"gold-{labels_digest(labels)}.jsonl"


def _fetch(entry: dict[str, Any], mirror: Path | None) -> bytes:
    """Return the bytes of a source file, checked against its SHA-256; raise KaznewsError."""
    name = f"{entry['repo']}/{entry['path']}"
    content: bytes
    if mirror is not None:
        try:
            content = (mirror / entry["repo"] / entry["path"]).read_bytes()
        except OSError as error:
            raise AbsentError(
                f"source file missing in the mirror: {name} ({error.strerror})"
            ) from None
    else:
        try:
            with urllib.request.urlopen(RAW_URL.format(**entry), timeout=TIMEOUT_SECONDS) as reply:
                content = reply.read()
        except (urllib.error.URLError, OSError) as error:
            raise AbsentError(
                f"cannot fetch {name} at commit {entry['commit'][:12]}: {error}; "
                f"name a local mirror with MIRROR=dir or {MIRROR_VARIABLE}"
            ) from None
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise KaznewsError(
            f"source file changed: {name} does not have the SHA-256 recorded in data/gold"
        )
    return content


def _mirror(named: Path | None) -> Path | None:
    """Return the folder to read public files from; None for the network."""
    if named is None and os.environ.get(MIRROR_VARIABLE):
        named = Path(os.environ[MIRROR_VARIABLE])
    if named is not None and not named.is_dir():
        raise KaznewsError(f"the mirror is not a folder: {named}")
    return named


def _sentences(entry: dict[str, Any], labels: Path, content: bytes) -> Iterator[dict[str, Any]]:
    lines = content.decode("utf-8").split("\n")
    problems = []
    with (labels / entry["table"]).open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            line = int(row.pop("line"))
            expected = row.pop("text_sha256")
            text = derive_text(lines, line, entry["format"])
            if text_hash(text) != expected:
                problems.append(f"{entry['path']}:{line}: text does not have the hash {expected}")
            yield {
                "id": f"{entry['repo']}:{entry['path']}:{line}",
                "text": text,
                "source": entry["source"],
                **row,
                "passes": int(row["passes"]),
            }
    if problems:
        raise ProblemsError("derived texts differ from the labelled ones", problems)


def prepare(
    labels: Path, mirror: Path | None = None, report: Callable[[str], None] = print
) -> Path:
    """Derive all gold sentences and write them as JSON Lines; do nothing if they are there.

    Parameters
    ----------
    labels : Path
        The folder ``data/gold``: ``manifest.json`` and one table a file.
    mirror : Path, optional
        A folder that holds ``<repo>/<path>``; default the environment variable KAZNEWS_SOURCES,
        and without it the public repositories at the pinned commits.
    report : callable
        Receives one line a file.

    Returns
    -------
    Path
        The written file. It appears whole or not at all.

    Raises
    ------
    KaznewsError
        A source file is missing or changed, or a derived text does not have its recorded hash.
    """
    target = texts_path(labels)
    if target.exists():
        report(f"real sentences are in place: {target.name}")
        return target
    mirror = _mirror(mirror)
    rows: list[dict[str, Any]] = []
    contents: dict[str, bytes] = {}
    for entry in _read_manifest(labels):
        key = f"{entry['repo']}/{entry['path']}"
        if key not in contents:
            contents[key] = _fetch(entry, mirror)
        before = len(rows)
        rows.extend(_sentences(entry, labels, contents[key]))
        report(f"  {entry['source']}: {len(rows) - before} sentences of {key}")
    write_jsonl(target, rows)
    report(f"{len(rows)} real sentences written to {target.name}, every hash checked")
    return target


def whole_path(labels: Path) -> Path:
    """Return where all sentences of the public files are written (outside version control)."""
    return labels / "text" / f"whole-{labels_digest(labels)}.jsonl"


def _whole(entry: dict[str, Any], content: bytes) -> Iterator[dict[str, Any]]:
    lines = content.decode("utf-8").split("\n")
    begins = BEGINS[entry["format"]]
    count = 0
    for index in range(len(lines)):
        if not begins(lines, index):
            continue
        count += 1
        text = derive_text(lines, index + 1, entry["format"])
        place, position = f"{entry['repo']}:{entry['path']}", count
        if entry["format"] == "iob2":
            # Sentences of KazNERD are shuffled over its files; their numbers are in order.
            place = entry["repo"]
            number = _NUMBER.search(lines[index])
            position = int(number.group()) if number else count
        if text:
            yield {
                "id": f"{entry['repo']}:{entry['path']}:{index + 1}",
                "text": text,
                "source": entry["source"],
                "place": place,
                "position": position,
            }


def prepare_whole(
    labels: Path, mirror: Path | None = None, report: Callable[[str], None] = print
) -> Path:
    """Derive every sentence of the public files, labelled or not; do nothing if they are there.

    Rows hold ``id`` and ``text`` as those of `prepare`, and ``place`` and ``position``: sentences
    whose positions in a place are close were published close to each other.

    Parameters
    ----------
    labels, mirror, report
        As for `prepare`.
    """
    target = whole_path(labels)
    if target.exists():
        return target
    mirror = _mirror(mirror)
    entries = {f"{e['repo']}/{e['path']}": e for e in _read_manifest(labels)}
    rows: list[dict[str, Any]] = []
    for entry in entries.values():
        rows.extend(_whole(entry, _fetch(entry, mirror)))
    write_jsonl(target, rows)
    report(f"{len(rows)} sentences of the same files, for data.unlabelled, in {target.name}")
    return target


def write_jsonl(target: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON Lines atomically: a reader sees the whole file or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
