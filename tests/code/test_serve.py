"""The server: every format is answered, everything else refused with 4xx and a reason."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.garbage import ODD, dumped, well_formed
from benchmarks.garbage import http as request
from benchmarks.serve import fuzz, memory, running, soak
from tests.conftest import store_environment

from kaznews import load, runtime
from kaznews.errors import KaznewsError
from kaznews.export import export
from kaznews.payload import FORMATS, Limits, Refused, media_type, read_texts
from kaznews.serve import DRAINED, Guard, _listen

TEXTS = [
    "Екі ел арасындағы сауда айналымы бір миллиард доллардан асты.",
    "Құрама төрт медаль жеңіп алды.",
    "Ауданда өрт шығып, екі адам зардап шекті.",
]
JSON = {"Content-Type": "application/json"}
LIMITS = Limits()


@pytest.fixture(scope="module")
def port(store: Path) -> Iterator[int]:
    """Run the server over the champion of the small training run."""
    with running(env=store_environment(store)) as (found, _):
        yield found


@pytest.fixture(scope="module")
def portable(store: Path, tmp_path_factory: pytest.TempPathFactory) -> runtime.Model:
    """Return the champion as the server holds it."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    try:
        return export(load(), tmp_path_factory.mktemp("export") / "kaznews.npz")
    finally:
        mlflow.set_tracking_uri(before)


def ask(
    port: int, body: Any, headers: dict[str, str] = JSON, method: str = "POST",
    path: str = "/invocations",
) -> tuple[int, Any, dict[str, str]]:  # fmt: skip
    """Send one request; return status, body (parsed where it is JSON) and headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        content = body if body is None or isinstance(body, bytes) else dumped(body)
        connection.request(method, path, content, headers)
        reply = connection.getresponse()
        said = reply.read()
        found = {name.lower(): value for name, value in reply.getheaders()}
        parsed = json.loads(said) if found["content-type"] == "application/json" else said
        return reply.status, parsed, found
    finally:
        connection.close()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_mlflow_gives_one_answer_a_row_in_order(
    port: int, portable: runtime.Model, form: str
) -> None:
    status, said, _ = ask(port, well_formed(TEXTS, form))
    assert (status, said) == (200, {"predictions": portable.predict(TEXTS)})
    assert ask(port, well_formed([], form))[:2] == (200, {"predictions": []})


def test_the_server_answers_as_the_bundle_does(port: int, tracking_store: Path) -> None:
    _, said, _ = ask(port, {"inputs": TEXTS})
    expected = load().predict(TEXTS).to_dict("records")
    for given, right in zip(said["predictions"], expected, strict=True):
        assert list(given) == list(right)
        assert given == pytest.approx(right, abs=1e-9)


def test_more_shapes_of_the_same_question(port: int, portable: runtime.Model) -> None:
    right = {"predictions": portable.predict(TEXTS)}
    frame = {"columns": ["n", "text"], "index": [5, 6, 7], "data": [[0, t] for t in TEXTS]}
    records = [{"text": t, "n": None} for t in TEXTS]
    for body in (
        {"inputs": {"text": TEXTS}}, {"instances": {"text": TEXTS}}, {"instances": records},
        {"inputs": records}, {"dataframe_split": frame}, {"inputs": TEXTS, "params": {}},
        {"inputs": TEXTS, "params": None},
    ):  # fmt: skip
        assert ask(port, body)[:2] == (200, right)
    csv = "\ufefftext,n\r\n" + "".join(f'"{text}",1\r\n' for text in TEXTS)
    for kind in ("text/csv", "Text/CSV; charset=UTF-8"):
        assert ask(port, csv.encode(), {"Content-Type": kind})[:2] == (200, right)


def test_mlflows_own_client_understands_the_server(port: int, portable: runtime.Model) -> None:
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", port)
    client.wait_server_ready(timeout=10)
    found = client.invoke(pd.DataFrame({"text": TEXTS})).get_predictions()
    assert found.to_dict("records") == portable.predict(TEXTS)
    with pytest.raises(Exception, match=r"error code 400.*one column 'text'"):
        client.invoke(pd.DataFrame({"sentence": TEXTS}))


def test_odd_sentences_get_an_answer(port: int, portable: runtime.Model) -> None:
    status, said, _ = ask(port, {"inputs": list(ODD)})
    assert (status, said["predictions"]) == (200, portable.predict(ODD))


def test_health_and_version_are_mlflows(port: int) -> None:
    import mlflow

    for path, right in (("/ping", b"\n"), ("/health", b"\n"), ("/version", mlflow.__version__)):
        status, said, headers = ask(port, None, {}, "GET", path)
        assert status == 200
        assert said == (right if isinstance(right, bytes) else right.encode())
        assert headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"inputs": ["а"] * 1001}, 413, "1001 sentences: a request may hold 1000"),
        ({"inputs": ["а", "б" * 10_001]}, 413, "row 1 has 10001 characters"),
        (b" " * (LIMITS.body + 1), 413, "more than 2097152 bytes"),
        (b" " * (DRAINED - 1) * LIMITS.body, 413, "more than 2097152 bytes"),
        (b"", 400, "not JSON"),
        (b'{"inputs": ["a"', 400, "not JSON"),
        (b'{"inputs": [NaN]}', 400, "NaN is no JSON"),
        (b'{"inputs": [' + b"9" * 5000 + b"]}", 400, "not JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"inputs": ["\xff"]}', 400, "not UTF-8: invalid start byte at byte 13"),
        ([], 400, "it is a list"),
        ({}, 400, "its fields are []"),
        ({"inputs": ["a"], "instances": ["a"]}, 400, 'its fields are ["inputs", "instances"]'),
        ({"data": ["a"]}, 400, 'its fields are ["data"]'),
        ({"inputs": ["a"], "params": {"a": 1}}, 400, "takes no params"),
        ({"inputs": "a"}, 400, "inputs must be a list, not a string"),
        ({"inputs": {"sentence": ["a"]}}, 400, "no column 'text'; its columns are [\"sentence\"]"),
        ({"inputs": ["a", None]}, 400, "row 1 is not a string but null"),
        ({"inputs": ["a", 1.5]}, 400, "row 1 is not a string but a number"),
        ({"inputs": [["a"]]}, 400, "row 0 is not a string but a list"),
        ({"inputs": [{"text": "a"}, "b"]}, 400, "row 1 is a string, other rows are objects"),
        ({"dataframe_records": [{"text": "a"}, {"b": 1}]}, 400, "row 1 has no column 'text'"),
        ({"dataframe_records": [{"text": None}]}, 400, "row 0 is not a string but null"),
        ({"dataframe_records": ["a"]}, 400, "must be a list of objects"),
        ({"dataframe_split": {"data": [["a"]]}}, 400, "columns and data"),
        ({"dataframe_split": {"columns": ["text"], "data": [["a", 1]]}}, 400, "list of 1 values"),
        ({"dataframe_split": {"columns": ["a"], "data": []}}, 400, "must have one column 'text'"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    port: int, body: Any, status: int, reason: str
) -> None:
    found, said, _ = ask(port, body)
    assert (found, set(said)) == (status, {"error_code", "message"})
    assert reason in said["message"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "must have one column 'text'; it has []"),
        (b"id\n1\n", 'it has ["id"]'),
        (b"id,text\n1\n", "row 0 has 1 values, not 2"),
        (b'text\n"open', "not CSV"),
    ],
)
def test_csv_that_cannot_be_read_is_refused(port: int, body: bytes, reason: str) -> None:
    status, said, _ = ask(port, body, {"Content-Type": "text/csv"})
    assert status == 400
    assert reason in said["message"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "reason"),
    [
        ("POST", "/invocations", {}, 415, "no Content-Type"),
        ("POST", "/invocations", {"Content-Type": "text/plain"}, 415, "'text/plain' is not read"),
        ("POST", "/invocations", {"Content-Type": "text/csv; charset=cp1251"}, 415, "send UTF-8"),
        ("POST", "/invocations", JSON | {"Content-Encoding": "gzip"}, 415, "uncompressed"),
        ("GET", "/invocations", {}, 405, "use POST"),
        ("DELETE", "/ping", {}, 405, "use GET"),
        ("GET", "/docs", {}, 404, "there is no '/docs'"),
        ("POST", "/invocations/", JSON, 404, "POST /invocations"),
    ],
)  # fmt: skip
def test_other_types_methods_and_paths_are_refused(
    port: int, method: str, path: str, headers: dict[str, str], status: int, reason: str
) -> None:
    found, said, sent = ask(port, b"{}", headers, method, path)
    assert found == status
    assert reason in said["message"]
    assert sent.get("allow") == ({"/ping": "GET"}.get(path, "POST") if status == 405 else None)


def test_a_body_that_never_ends_is_refused_and_not_kept(port: int) -> None:
    chunk = b"%x\r\n%s\r\n" % (2**16, b"a" * 2**16)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(request(b"", Transfer_Encoding="chunked"))
        sent = 0
        try:
            while sent < 4 * DRAINED * LIMITS.body:
                client.sendall(chunk)
                sent += 2**16
            answered = client.recv(100)
        except ConnectionError:
            answered = b"HTTP/1.1 413"
    assert answered.startswith(b"HTTP/1.1 413")
    # Closed as soon as it is hopeless; the system's own buffers hold a few more megabytes.
    assert sent < 3 * DRAINED * LIMITS.body


def test_a_client_that_asks_first_sends_nothing_in_vain(port: int) -> None:
    headers = request(b"", Content_Length=str(LIMITS.body + 1), Expect="100-continue")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(headers)
        assert client.recv(100).startswith(b"HTTP/1.1 413")
    body = dumped({"inputs": TEXTS})
    headers = request(b"", Content_Length=str(len(body)), Expect="100-continue")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(headers)
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_garbage_never_gets_a_5xx_and_the_server_goes_on(port: int) -> None:
    kinds, wrong = asyncio.run(fuzz(port, seed=1, n=300))
    assert not wrong
    assert len(kinds) > 15
    assert ask(port, {"inputs": TEXTS})[0] == 200


def test_concurrent_requests_each_get_the_answer_to_their_own_sentence(
    port: int, portable: runtime.Model, corpus_rows: list[dict[str, Any]]
) -> None:
    texts = [row["text"] for row in corpus_rows[:150]]
    expected = [portable.predict([text])[0] for text in texts]
    latencies, lost, _ = asyncio.run(soak(port, texts, expected, 300, 16))
    assert (len(latencies), lost) == (300, 0)


def test_the_comparison_of_the_soak_would_notice_another_answer(
    port: int, portable: runtime.Model
) -> None:
    wrong = [portable.predict([text])[0] for text in TEXTS[::-1]]
    assert asyncio.run(soak(port, TEXTS, wrong, 30, 2))[1] == 20


@pytest.fixture
def exported(portable: runtime.Model, tracking_store: Path, tmp_path: Path) -> Path:
    export(load(), tmp_path / "kaznews.npz")
    return tmp_path / "kaznews.npz"


def test_limits_come_from_options_and_the_environment(store: Path, exported: Path) -> None:
    environment = store_environment(store) | {"KAZNEWS_MAX_ROWS": "2", "KAZNEWS_MAX_BODY": "9"}
    words = ("--model", str(exported), "--max-body", "500", "--max-characters", "70")
    with running(*words, env=environment) as (port, pid):
        assert ask(port, {"inputs": ["a", "b"]})[0] == 200
        assert "may hold 2" in ask(port, {"inputs": ["a", "b", "c"]})[1]["message"]
        assert "may have 70" in ask(port, {"inputs": ["a" * 71]})[1]["message"]
        assert "more than 500 bytes" in ask(port, {"inputs": ["a" * 500]})[1]["message"]
        assert memory(pid) > 1


def test_several_workers_answer_alike_and_stop_together(
    store: Path, exported: Path, portable: runtime.Model
) -> None:
    words = ("--model", str(exported), "--workers", "2")
    with running(*words, env=store_environment(store)) as (port, _):
        for _ in range(4):
            status, said, _ = ask(port, {"inputs": TEXTS})
            assert (status, said["predictions"]) == (200, portable.predict(TEXTS))
    with pytest.raises(ConnectionRefusedError):
        ask(port, {"inputs": TEXTS})


def serve_briefly(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kaznews.cli", "serve", *words],
        env=store_environment(folder), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_a_champion_one_line_says_what_to_do(tmp_path: Path) -> None:
    said = serve_briefly(tmp_path)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "cannot load models:/kaznews@champion" in said.stderr
    assert "make train" in said.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--workers", "0"), "--workers must be at least 1"),
        (("--max-rows", "0"), "the limit of rows must be at least 1"),
        (("--port", "99999"), "cannot listen on 127.0.0.1 port 99999"),
        (("--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
    ],
)
def test_options_that_cannot_work_are_said_in_one_line(
    exported: Path, words: tuple[str, ...], reason: str
) -> None:
    said = serve_briefly(exported.parent, "--model", str(exported), *words)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert reason in said.stderr


def test_a_port_that_is_taken_is_said_in_one_line(port: int, exported: Path) -> None:
    said = serve_briefly(exported.parent, "--model", str(exported), "--port", str(port))
    assert said.returncode == 2
    assert said.stderr == (
        f"error: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another with --port (PORT=…)\n"
    )


def test_beyond_loopback_there_is_a_warning_and_ctrl_c_ends_it_quietly(exported: Path) -> None:
    command = [sys.executable, "-m", "kaznews.cli", "serve", "--model", str(exported)]
    server = subprocess.Popen(
        [*command, "--host", "0.0.0.0", "--port", "0"],
        env=store_environment(exported.parent), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout
    line = server.stdout.readline()
    # Announced before uvicorn has its signal handlers.
    ask(int(line.split(":")[-1].split("/")[0]), {"inputs": TEXTS})
    os.kill(server.pid, signal.SIGINT)
    _, said = server.communicate(timeout=30)
    assert said.startswith("warning: listening on 0.0.0.0")
    assert said.count("\n") == 1
    assert server.returncode == 0


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with (
        _listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# The guard alone, with an application of its own behind it.
def through(
    app: Callable[..., Any], receive: Callable[..., Any], **scope: Any
) -> tuple[int, dict[str, Any]]:
    """Ask a guard before `app`; return status and parsed body of its answer."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    whole = {
        "type": "http", "method": "POST", "path": "/invocations",
        "headers": [(b"content-type", b"application/json")],
    } | scope  # fmt: skip
    asyncio.run(Guard(app, Limits())(whole, receive, send))
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], json.loads(sent[1]["body"])


def one_body(content: bytes) -> Callable[..., Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    return receive


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("must not be asked")


def test_a_body_that_trickles_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaznews.serve.BODY_SECONDS", 0.1)
    monkeypatch.setattr("kaznews.serve.DRAIN_SECONDS", 0.1)

    async def trickle() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    status, said = through(never, trickle)
    assert status == 408
    assert "did not arrive within" in said["message"]


@pytest.mark.parametrize(("theirs", "ours"), [(400, 500), (500, 500), (504, 504)])
def test_a_failing_model_is_the_servers_fault_and_shows_no_traceback(
    theirs: int, ours: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": theirs, "headers": []})
        await send({"type": "http.response.body", "body": b"Trace", "more_body": True})
        await send({"type": "http.response.body", "body": b"back"})

    status, said = through(fails, one_body(dumped({"inputs": TEXTS})))
    assert status == ours
    assert "Trace" not in said["message"]
    assert "Traceback" in caplog.text


def test_mlflow_gets_nothing_but_a_list_of_sentences() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((dict(scope["headers"]), (await receive())["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    headers = [(b"content-type", b"application/json"), (b"x-evil", b"1")]
    content = b'{"dataframe_split": {"columns": ["n", "text"], "data": [[{}, "\\ud800"]]}}'
    through(app, one_body(content), headers=headers)
    [(passed, body)] = seen
    assert set(passed) == {b"content-type", b"content-length"}
    assert body == b'{"inputs": ["\\ud800"]}'


def test_limits_are_inclusive() -> None:
    limits = Limits(rows=2, characters=3, body=100)
    assert read_texts(b'{"inputs": ["abc", "a"]}', "application/json", limits) == ["abc", "a"]
    for body in (b'{"inputs": ["a", "a", "a"]}', b'{"inputs": ["abcd"]}'):
        with pytest.raises(Refused) as refused:
            read_texts(body, "application/json", limits)
        assert refused.value.status == 413
    with pytest.raises(KaznewsError, match="limit of characters"):
        Limits(characters=0)


@pytest.mark.parametrize(
    "given", ["application/json", "application/JSON ;charset=utf-8", "text/csv;"]
)
def test_media_types_are_read_as_http_means_them(given: str) -> None:
    assert media_type(given) in ("application/json", "text/csv")
