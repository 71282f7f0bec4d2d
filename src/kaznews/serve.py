"""A model in, an HTTP server out: MLflow's scoring server behind a guard against bad requests.

MLflow's server answers `/invocations`, `/ping`, `/health` and `/version`. The guard stands before
it: what is too large, of another type or shape is refused with 4xx and a reason, larger bodies
before they are parsed, and what passes reaches MLflow as a plain list of sentences.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaznews.errors import KaznewsError
from kaznews.payload import JSON, Limits, Refused, media_type, read_texts

if TYPE_CHECKING:
    import socket

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

INVOCATIONS = "/invocations"
ROUTES = {INVOCATIONS: "POST", "/ping": "GET", "/health": "GET", "/version": "GET"}
# A body that trickles in for longer is given up.
BODY_SECONDS = 30.0
# A refused body is read to its end, and thrown away, where it has at most this many times the
# limit: a client that is still sending when the connection closes may never see the answer.
DRAINED = 8
DRAIN_SECONDS = 5.0
# MLflow's names of the errors, as its clients know them.
ERROR_CODES = {404: "ENDPOINT_NOT_FOUND", 413: "INVALID_PARAMETER_VALUE"}
# How the processes of several workers learn what to serve.
WORKER_VARIABLE = "KAZNEWS_SERVE"

_log = logging.getLogger("kaznews.serve")


class Disconnected(Exception):
    """The client has gone; nobody waits for an answer."""


class Guard:
    """An ASGI application before MLflow's that lets through only what can be answered.

    Parameters
    ----------
    app : ASGI application
        MLflow's scoring server.
    limits : Limits
    """

    def __init__(self, app: App, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {bytes(name).decode("latin-1"): value for name, value in scope["headers"]}
        body = _Body(receive, headers, self.limits.body)
        try:
            passed = await self._checked(scope, headers, body)
        except Disconnected:
            return
        except Refused as refused:
            ended = await body.drain()
            extra = [] if ended else [(b"connection", b"close")]
            if refused.status == 405:
                extra.append((b"allow", ROUTES[scope["path"]].encode()))
            await _answer(send, refused.status, str(refused), extra)
            return
        await self.app(*passed, _Mended(send, scope["path"] == INVOCATIONS))

    async def _checked(
        self, scope: Message, headers: Mapping[str, bytes], body: _Body
    ) -> tuple[Message, Receive]:
        """Return the request as MLflow is to see it."""
        path, method = scope["path"], scope["method"]
        if path not in ROUTES:
            raise Refused(404, f"there is no {path[:100]!a}: POST {INVOCATIONS}, GET /ping")
        if method != ROUTES[path]:
            raise Refused(405, f"{method[:20]!a} {path}: use {ROUTES[path]}")
        if method == "GET":
            return scope, body.receive
        if headers.get("content-encoding", b"identity").lower() != b"identity":
            raise Refused(415, "Content-Encoding is not read: send the body uncompressed")
        given = headers.get("content-type")
        kind = media_type(None if given is None else given.decode("latin-1"))
        texts = read_texts(await body.read(), kind, self.limits)
        content = json.dumps({"inputs": texts}).encode("ascii")
        clean: Headers = [
            (b"content-type", JSON.encode()),
            (b"content-length", str(len(content)).encode()),
        ]
        messages = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive() -> Message:
            # After the body comes nothing but the client's leaving.
            return next(messages, None) or await body.receive()

        return {**scope, "headers": clean}, receive


class _Body:
    """The body of a request: read up to a limit, or thrown away."""

    def __init__(self, receive: Receive, headers: Mapping[str, bytes], limit: int) -> None:
        self.receive = receive
        self._limit = limit
        self._declared = int(headers.get("content-length", b"0"))
        # Such a client sends nothing until it is told to; reading would tell it to.
        self._waits = b"100-continue" in headers.get("expect", b"").lower()
        self._taken = 0
        self._ended = False

    async def _next(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        self._taken += len(chunk)
        self._ended = not message.get("more_body", False)
        return chunk

    async def read(self) -> bytes:
        """Return the whole body; refuse it as soon as it is known to be larger than the limit."""
        self._waits = self._waits and self._declared > self._limit
        chunks = []
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not self._ended:
                    if max(self._declared, self._taken) > self._limit:
                        raise Refused(413, f"the body has more than {self._limit} bytes")
                    chunks.append(await self._next())
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
        if self._taken > self._limit:
            raise Refused(413, f"the body has more than {self._limit} bytes")
        return b"".join(chunks)

    async def drain(self) -> bool:
        """Throw the rest away; return whether its end was reached."""
        most = DRAINED * self._limit
        if self._waits or self._declared > most:
            return self._ended
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._ended and self._taken <= most:
                    await self._next()
        except (TimeoutError, Disconnected):
            return False
        return self._ended


class _Mended:
    """Send MLflow's answers on: its errors as clean JSON, its plain text not labelled as JSON."""

    def __init__(self, send: Send, is_json: bool) -> None:
        self._send = send
        self._is_json = is_json
        self._failed: int | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self._failed = message["status"]
                return
            if not self._is_json:
                rest = [(k, v) for k, v in message["headers"] if k.lower() != b"content-type"]
                message = {**message, "headers": [*rest, (b"content-type", b"text/plain")]}
        if self._failed is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        _log.error("MLflow answered %d: %s", self._failed, self._body.decode("utf-8", "replace"))
        # What passed the guard is a list of sentences: if it fails, the fault is not the client's.
        status = self._failed if self._failed >= 500 else 500
        reason = "took too long" if status == 504 else "failed; its log says why"
        await _answer(self._send, status, f"the model {reason}", [])


async def _answer(send: Send, status: int, message: str, headers: Headers) -> None:
    code = ERROR_CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
    body = json.dumps({"error_code": code, "message": message}).encode("ascii")
    start: Headers = [
        (b"content-type", JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def open_model(address: str, folder: Path) -> tuple[Any, str]:
    """Return a model in its fastest form, warm, and the address under which that can be read again.

    A bundle is exported for the runtime that needs NumPy alone, wherever that can follow it.

    Parameters
    ----------
    address : str
        What `predict.load` takes, or a file that ``kaznews export`` wrote.
    folder : Path
        Where the export goes.

    Raises
    ------
    KaznewsError
        There is no such model, or it is not safe to load.
    """
    from kaznews import runtime

    if address.endswith(".npz"):
        model: Any = runtime.read(address)
    else:
        from kaznews.export import export
        from kaznews.predict import load

        model = bundle = load(address)
        try:
            model = export(bundle, folder / "model.npz")
            address = str(folder / "model.npz")
        except KaznewsError as error:
            print(f"warning: served by scikit-learn, slower: {error}", file=sys.stderr)
    model.predict(["Экспорт өсті."])
    return model, address


def application(model: Any, limits: Limits) -> App:
    """Return the guarded server over a model as an ASGI application."""
    from kaznews.predict import scoring_app

    app = Guard(scoring_app(model), limits)
    # What is loaded stays: without this, every full collection walks through all of it while the
    # clients wait.
    gc.collect()
    gc.freeze()
    return app


def worker_application() -> App:
    """Return the application of one of several workers; uvicorn calls it in each process."""
    settings = json.loads(os.environ[WORKER_VARIABLE])
    with tempfile.TemporaryDirectory() as folder:
        model, _ = open_model(settings["model"], Path(folder))
    return application(model, Limits(**settings["limits"]))


def _listen(host: str, port: int) -> socket.socket:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        # Python adds "(while attempting to bind …)" to what the system says.
        reason = f"{getattr(error, 'strerror', None) or error}".partition(" (")[0]
        raise KaznewsError(
            f"cannot listen on {host} port {port}: {reason}; choose another with --port (PORT=…)"
        ) from None
    # Inherited by its connections. asyncio would set it only on sockets made with IPPROTO_TCP, and
    # without it an answer waits 40 ms for the acknowledgement of its own header.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(model: str, host: str, port: int, workers: int, limits: Limits) -> None:
    """Serve a model over HTTP until the process is stopped by Ctrl-C or SIGTERM.

    Parameters
    ----------
    model : str
        As for `open_model`.
    host : str
        Address to listen on; beyond loopback a warning is printed.
    port : int
        0 for any free one; the line that is printed names it.
    workers : int
        Processes, each with a model of its own.
    limits : Limits

    Raises
    ------
    KaznewsError
        There is no such model, or the address cannot be listened on.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    if workers < 1:
        raise KaznewsError(f"--workers must be at least 1, not {workers}")
    with tempfile.TemporaryDirectory() as folder:
        # Opened here even if workers open their own: what is wrong is said once, in one line, and
        # all of them answer with the version that was champion now.
        opened, address = open_model(model, Path(folder))
        options: dict[str, Any] = {
            "http": "h11", "ws": "none", "lifespan": "off", "log_level": "error",
            "access_log": False, "proxy_headers": False, "server_header": False,
            "timeout_keep_alive": 30, "timeout_graceful_shutdown": 10,
        }  # fmt: skip
        with _listen(host, port) as listener:
            if workers > 1:
                content = {"model": address, "limits": asdict(limits)}
                os.environ[WORKER_VARIABLE] = json.dumps(content)
                name = f"{__name__}:{worker_application.__name__}"
                config = uvicorn.Config(name, factory=True, workers=workers, **options)
                _announce(model, listener)
                Multiprocess(config, sockets=[listener]).run()
                return
            config = uvicorn.Config(application(opened, limits), **options)
            # SIGTERM ends this process inside of uvicorn.
            shutil.rmtree(folder)
            Path(folder).mkdir()
            _announce(model, listener)
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])


def _announce(model: str, listener: socket.socket) -> None:
    from ipaddress import ip_address

    address, port = listener.getsockname()[:2]
    if not ip_address(address).is_loopback:
        print(
            f"warning: listening on {address}, beyond this machine: whoever reaches the port "
            "may ask, there is no password and no encryption",
            file=sys.stderr,
        )
    shown = f"[{address}]" if ":" in address else address
    print(f"{model} (Ctrl-C stops it): http://{shown}:{port}{INVOCATIONS}", flush=True)
