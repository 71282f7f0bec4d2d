"""The body of a scoring request in, its sentences out, or a refusal with a status and a reason.

The formats are those of MLflow's scoring server; see "Inference server specification" in its
documentation. Everything is checked here, so that what reaches the model is a list of strings.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kaznews.errors import KaznewsError

TEXT = "text"
JSON, CSV = "application/json", "text/csv"
FORMATS = ("inputs", "instances", "dataframe_split", "dataframe_records")
_SHAPE = f"the body must be an object with one of {', '.join(FORMATS)}"


class Refused(KaznewsError):
    """A request that cannot be answered; the server says so with an HTTP status.

    Parameters
    ----------
    status : int
        4xx.
    message : str
        What is wrong with it, for whoever sent it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Attributes
    ----------
    rows : int
        Sentences.
    characters : int
        Code points of one sentence, as sent.
    body : int
        Bytes of the body, as sent. More than this is never parsed.
    """

    rows: int = 1000
    characters: int = 10_000
    body: int = 2 * 1024 * 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise KaznewsError(f"the limit of {name} must be at least 1, not {value}")


def media_type(content_type: str | None) -> str:
    """Return the media type of a Content-Type header, one of those that are read.

    Raises
    ------
    Refused
        415: the header is missing, or names another type, character set or parameter.
    """
    if content_type is None:
        raise Refused(415, f"no Content-Type: send {JSON} or {CSV}")
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if kind not in (JSON, CSV):
        raise Refused(415, f"Content-Type {kind!r:.100} is not read: send {JSON} or {CSV}")
    for parameter in filter(None, parameters):
        name, _, value = parameter.partition("=")
        if name != "charset" or value.strip('"') not in ("utf-8", "utf8"):
            raise Refused(415, f"{parameter!r:.100} in Content-Type is not read: send UTF-8")
    return kind


def read_texts(body: bytes, kind: str, limits: Limits) -> list[str]:
    """Return the sentences of a request in their order.

    Parameters
    ----------
    body : bytes
        Not longer than ``limits.body``.
    kind : str
        What `media_type` returned.
    limits : Limits

    Raises
    ------
    Refused
        400: not UTF-8, JSON or CSV, another shape, or a row that is no string, named by position;
        413: too many rows or characters.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    column = _csv_column(text) if kind == CSV else _json_column(text)
    if len(column) > limits.rows:
        raise Refused(413, f"{len(column)} sentences: a request may hold {limits.rows}")
    for position, value in enumerate(column):
        if not isinstance(value, str):
            raise Refused(400, f"row {position} is not a string but {_kind(value)}")
        if len(value) > limits.characters:
            raise Refused(
                413,
                f"row {position} has {len(value)} characters: "
                f"a sentence may have {limits.characters}",
            )
    return column


def _kind(value: Any) -> str:
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
    }
    return names.get(type(value), "an object")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _json_column(text: str) -> list[Any]:
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error!s:.200}") from None
    if not isinstance(content, dict):
        raise Refused(400, f"{_SHAPE}; it is {_kind(content)}")
    if content.pop("params", None) not in (None, {}):
        raise Refused(400, "this model takes no params")
    if len(content) != 1 or not content.keys() <= set(FORMATS):
        raise Refused(400, f"{_SHAPE}; its fields are {_names(content)}")
    [(form, data)] = content.items()
    return _split_column(data) if form == "dataframe_split" else _column(form, data)


def _names(fields: Mapping[str, Any] | list[Any]) -> str:
    # Escaped: a lone surrogate could not be sent back.
    return f"{json.dumps(list(fields)[:10]):.200}"


def _column(form: str, data: Any) -> list[Any]:
    """Return the sentences of a list of strings, a list of records, or an object of columns."""
    if form != "dataframe_records" and isinstance(data, dict):
        if TEXT not in data:
            raise Refused(400, f"{form} has no column {TEXT!r}; its columns are {_names(data)}")
        data = data[TEXT]
        data = [data] if isinstance(data, str) else data
    if not isinstance(data, list):
        raise Refused(400, f"{form} must be a list, not {_kind(data)}")
    if not any(isinstance(row, dict) for row in data):
        if form == "dataframe_records" and data:
            raise Refused(400, f"{form} must be a list of objects, row 0 is {_kind(data[0])}")
        return data
    for position, row in enumerate(data):
        if not isinstance(row, dict):
            raise Refused(400, f"row {position} is {_kind(row)}, other rows are objects")
        if TEXT not in row:
            raise Refused(
                400, f"row {position} has no column {TEXT!r}; its columns are {_names(row)}"
            )
    return [row[TEXT] for row in data]


def _split_column(data: Any) -> list[Any]:
    """Return the sentences of pandas' ``split`` form: columns, data and, ignored, index."""
    if not isinstance(data, dict) or not data.keys() <= {"columns", "data", "index"}:
        raise Refused(400, "dataframe_split must be an object with columns and data")
    columns, rows = data.get("columns"), data.get("data")
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise Refused(400, "columns and data of dataframe_split must be lists")
    if columns.count(TEXT) != 1:
        raise Refused(
            400, f"dataframe_split must have one column {TEXT!r}; its columns are {_names(columns)}"
        )
    for position, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise Refused(400, f"row {position} is not a list of {len(columns)} values")
    place = columns.index(TEXT)
    return [row[place] for row in rows]


def _csv_column(text: str) -> list[str]:
    import csv

    try:
        table = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [row for row in table if row]
    except csv.Error as error:
        raise Refused(400, f"the body is not CSV: {error}") from None
    columns = rows[0] if rows else []
    if columns.count(TEXT) != 1:
        raise Refused(400, f"the CSV must have one column {TEXT!r}; it has {_names(columns)}")
    place = columns.index(TEXT)
    for position, row in enumerate(rows[1:]):
        if len(row) != len(columns):
            raise Refused(400, f"row {position} has {len(row)} values, not {len(columns)}")
    return [row[place] for row in rows[1:]]
