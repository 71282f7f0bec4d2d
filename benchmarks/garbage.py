"""A seed in, HTTP requests as bytes out: what careless, broken and hostile clients send.

Each comes with the statuses that are right for it. The requests are the same for the same seed.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

SENTENCE = "Екі ел өзара сауда көлемін арттыруға уағдаласты."
FORMATS = ("inputs", "instances", "dataframe_split", "dataframe_records")
JSON = "application/json"
# Sentences as odd as they come: each deserves an answer.
ODD = ("", " ", "\0", "\ud800", "\udfff\ud800", "🙂" * 9, "١٢٣", "\u0301" * 50, "\u202eabc",
       "а\u0301", "\r\n", "'; DROP TABLE", "<script>", "{{7*7}}", "%s%n", "\ufeff", "NaN", "null",
       "a" * 1500, "қ " * 700)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes
    ----------
    kind : str
        The function below that made it.
    raw : bytes
        What goes over the wire.
    statuses : frozenset of int
        Right answers, 0 for none; empty where the client leaves before there is one.
    """

    kind: str
    raw: bytes
    statuses: frozenset[int]


Made = tuple[bytes, set[int]]


def http(
    body: bytes, content_type: str | None = JSON, method: str = "POST", path: str = "/invocations",
    **headers: str,
) -> bytes:  # fmt: skip
    """Return a request that is well-formed HTTP, whatever its body is."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if "Transfer_Encoding" not in headers and "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def well_formed(texts: list[Any], form: str) -> dict[str, Any]:
    """Return the object that asks about sentences in one of the formats."""
    if form == "dataframe_split":
        return {form: {"columns": ["text"], "data": [[text] for text in texts]}}
    if form == "dataframe_records":
        return {form: [{"text": text} for text in texts]}
    return {form: texts}


def dumped(content: Any) -> bytes:
    return json.dumps(content).encode("ascii")


def odd_sentences(rng: random.Random) -> Made:
    texts = rng.choices(ODD, k=rng.randrange(5))
    return http(dumped(well_formed(texts, rng.choice(FORMATS)))), {200}


def random_bytes(rng: random.Random) -> Made:
    return http(rng.randbytes(rng.randrange(200))), {400}


def mutated_json(rng: random.Random) -> Made:
    body = bytearray(
        json.dumps(well_formed([SENTENCE] * 2, rng.choice(FORMATS)), ensure_ascii=False).encode()
    )
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(body))
        match rng.randrange(4):
            case 0:
                body[place] = rng.randrange(256)
            case 1:
                del body[place : place + rng.randint(1, 9)]
            case 2:
                body[place:place] = rng.choice(
                    [b'"', b"[", b"}", b"\\u", b"\xff", b"\0", b",", b"-"]
                )
            case _:
                del body[place:]
        if not body:
            break
    return http(bytes(body)), {200, 400}


def value(rng: random.Random, depth: int = 0) -> Any:
    """Return any JSON value."""
    kind = rng.randrange(6 if depth > 3 else 8)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        keys = ("text", "columns", "data", "index", "a", "", *FORMATS)
        return {rng.choice(keys): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return (None, True, rng.randrange(-9, 9), rng.random() * 1e300, rng.choice(ODD), "text")[kind]


def random_json(rng: random.Random) -> Made:
    content = value(rng)
    if rng.random() < 0.7:
        content = {rng.choice(FORMATS): content}
    return http(dumped(content)), {200, 400}


def wrong_rows(rng: random.Random) -> Made:
    wrong = rng.choice([None, 1, 2.5, True, [SENTENCE], {"a": 1}, {}, []])
    texts = [SENTENCE, wrong, SENTENCE]
    rng.shuffle(texts)
    return http(dumped(well_formed(texts, rng.choice(FORMATS)))), {400}


def not_quite_json(rng: random.Random) -> Made:
    inner = rng.choice(
        ["NaN", "Infinity", "-Infinity", "9" * 5000, "[" * 2000, '{"a":' * 2000, "'a'", "[1,]",
         "undefined", "0x10", "1e", '"\\x41"', '"\t"', "[" * 2000 + "]" * 2000, "1e999", "-", ""]
    )  # fmt: skip
    return http(f'{{"inputs": {inner}}}'.encode()), {400}


def wrong_fields(rng: random.Random) -> Made:
    good = well_formed([SENTENCE], "inputs")
    content = rng.choice(
        [{}, [], "text", None, [SENTENCE], {"text": [SENTENCE]}, {"data": [[SENTENCE]]},
         {**good, "instances": []}, {**good, "params": {"n": 1}}, {**good, "params": 7},
         {**good, "signature_name": "x"}, {"inputs": SENTENCE}, {"inputs": {"sentence": ["a"]}},
         {"messages": [{"role": "user", "content": SENTENCE}]}, {"prompt": SENTENCE},
         {"dataframe_split": {"columns": ["text", "text"], "data": [["a", "b"]]}},
         {"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}},
         {"dataframe_split": {"columns": "text", "data": [["a"]]}},
         {"dataframe_split": {"columns": [["text"]], "data": [["a"]]}},
         {"dataframe_split": {"data": [["a"]]}}, {"dataframe_split": [["a"]]},
         {"dataframe_records": {"text": ["a"]}}, {"dataframe_records": ["a"]},
         {"dataframe_records": [{"text": "a"}, {"\ud800": "b"}]}]
    )  # fmt: skip
    return http(dumped(content)), {400}


def content_types(rng: random.Random) -> Made:
    kind = rng.choice(
        [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
         "application/vnd.apache.parquet", "application/json; charset=cp1251", "json", "*/*",
         "application/json; boundary=x", "application/xml", "\xff\xfe", ";;;", "application/json,",
         "text/csv; header=present", "application/octet-stream"]
    )  # fmt: skip
    return http(dumped({"inputs": [SENTENCE]}), kind), {415}


def routes(rng: random.Random) -> Made:
    path = rng.choice(
        ["/", "/invocations/", "/../etc/passwd", "/%00", "/%ff", "/docs", "/openapi.json", "/Ping",
         "/api/2.0/mlflow/runs/search", "//invocations", "/ping/..", "/" + "a" * 5000]
    )  # fmt: skip
    return http(b"{}", JSON, rng.choice(["GET", "POST", "PUT"]), path), {404}


def methods(rng: random.Random) -> Made:
    path = rng.choice(["/invocations", "/ping", "/health", "/version"])
    method = rng.choice(["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "X" * 100])
    return http(rng.choice([b"", b"{}"]), JSON, method, path), {405}


def too_much(rng: random.Random) -> Made:
    content = rng.choice(
        [["a"] * 1001, ["a" * 10_001], ["\U0001f642" * 10_001], [["a"]] * 1001, ["a" * 2_200_000]]
    )
    return http(dumped({"inputs": content})), {413}


def declared_too_large(rng: random.Random) -> Made:
    """Say that more will come than may, and send a little of it."""
    size = rng.choice([2**21 + 1, 2**31, 2**63, 10**19])
    return http(b"{", Content_Length=str(size), Expect="100-continue"), {413}


def chunked(rng: random.Random) -> Made:
    body = dumped({"inputs": [SENTENCE]})
    size = rng.randint(1, 40)
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    raw = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    end, statuses = rng.choice([(b"0\r\n\r\n", {200}), (b"zz\r\n", {400}), (b"-1\r\n\r\n", {400})])
    return http(raw + end, Transfer_Encoding="chunked"), statuses


def broken_http(rng: random.Random) -> Made:
    raw = rng.choice(
        [b"\r\n\r\n\r\nGET\r\n\r\n", b"GET /ping\r\n\r\n", b"GET /ping HTTP/x\r\n\r\n",
         b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(40) + b"\r\n\r\n",
         http(b"x", Content_Length="-1"), http(b"x", Content_Length="abc"),
         http(b"x", Content_Length="1, 2"), http(b"x", Transfer_Encoding="rot13"),
         b"POST /invocations HTTP/1.1\r\n\r\n",
         b"POST /invocations HTTP/1.1\r\nHost: a\r\nHost: b\r\nNo colon\r\n\r\n",
         b"POST /\xd2\x9b HTTP/1.1\r\nHost: a\r\n\r\n", b"\0" * 50 + b"\r\n\r\n"]
    )  # fmt: skip
    return raw, {400, 404, 501}


def large_header(rng: random.Random) -> Made:
    # The server closes while this is still being sent: the answer may get lost on its way (0).
    return http(b"", X_Large="a" * rng.randrange(100_000, 200_000)), {0, 400}


def compressed(rng: random.Random) -> Made:
    body = gzip.compress(dumped({"inputs": [SENTENCE]}), mtime=0)
    return http(body, Content_Encoding=rng.choice(["gzip", "br", "deflate", "zstd"])), {415}


def csv_bodies(rng: random.Random) -> Made:
    body, status = rng.choice(
        [(f"text\n{SENTENCE}\n", 200), (f"id,text\n1,{SENTENCE}\n2,b\n", 200), ("text\n", 200),
         ("", 400), (f"{SENTENCE}\n", 400), ("text,text\na,b\n", 400), ("id,text\n1\n", 400),
         ('text\n"never closed', 400), ('text\n"a"b\n', 400), ("text\n" + "a\n" * 1001, 413),
         ("text\n" + "a" * 200_000, 400)]
    )  # fmt: skip
    return http(body.encode(), "text/csv"), {status}


def leaving_early(rng: random.Random) -> Made:
    raw = http(dumped({"inputs": [SENTENCE] * 50}))
    return raw[: rng.randrange(1, len(raw))], set()


def two_at_once(rng: random.Random) -> Made:
    raw = http(b"", None, "GET", "/ping")
    return raw + rng.choice([raw, b"garbage\r\n\r\n", rng.randbytes(30)]), {200}


MAKERS: tuple[Callable[[random.Random], Made], ...] = (
    odd_sentences, random_bytes, mutated_json, random_json, wrong_rows, not_quite_json,
    wrong_fields, content_types, routes, methods, declared_too_large, chunked, broken_http,
    large_header, compressed, csv_bodies, leaving_early, two_at_once,
)  # fmt: skip


def requests(seed: int, n: int) -> Iterator[Request]:
    """Yield n requests; large bodies are one in a hundred, for they cost the client most."""
    rng = random.Random(seed)
    for number in range(n):
        make = too_much if number % 100 == 99 else rng.choice(MAKERS)
        raw, statuses = make(rng)
        yield Request(make.__name__, raw, frozenset(statuses))
