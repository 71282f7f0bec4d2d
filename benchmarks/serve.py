"""A running server in; whether it withstands garbage and a soak, and how fast it is, out.

    python -m benchmarks.serve [--fuzz 5000] [--soak 10000] [--model ADDRESS]

Starts `kaznews serve` on a free port, sends it garbage, then distinct sentences of the corpus at
concurrency 16, each answer compared with the model's own, and writes
experiments/results/serve.md. Ends with code 1 if an answer was lost, wrong or a 5xx, or if memory
grew. The client is written in Python and shares the cores with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.garbage import Request, dumped, http, requests

from kaznews.evaluate import text_table
from kaznews.root import ROOT
from kaznews.serve import open_model

RESULT = ROOT / "experiments" / "results" / "serve.md"
CONCURRENCY = 16
# The allocator keeps pages that are free again; a leak of 400 bytes a request would show.
GROWTH_MB = 4.0
SECONDS = 60


@contextlib.contextmanager
def running(*words: str, env: dict[str, str] | None = None) -> Iterator[tuple[int, int]]:
    """Run `kaznews serve` on a free port of loopback; yield its port and its process id."""
    command = [sys.executable, "-m", "kaznews.cli", "serve", "--port", "0", *words]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        try:
            assert server.stdout
            line = server.stdout.readline()
            found = re.search(r":(\d+)/invocations", line)
            if not found:
                log.seek(0)
                raise SystemExit(f"the server did not start: {line}{log.read()}")
            yield int(found[1]), server.pid
            assert server.poll() is None, "the server has died"
        finally:
            server.terminate()
            server.wait(20)
            if server.stdout:
                server.stdout.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer; status 0 where the connection ended without one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        body = await (reader.readexactly(int(length[1])) if length else reader.read())
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, b""
    return int(head.split()[1]), body


async def send(port: int, request: Request) -> str | None:
    """Send one piece of garbage on its own connection; return what is wrong with the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.raw)
        with contextlib.suppress(ConnectionError):
            # The server may have answered and closed before everything was sent.
            await writer.drain()
        if not request.statuses:
            return None
        try:
            async with asyncio.timeout(SECONDS):
                status, body = await answer(reader)
        except TimeoutError:
            return "no answer in time"
        if status not in request.statuses:
            return f"status {status} {body[:200]!r}, not {sorted(request.statuses)}"
        if status >= 400 and b"Invalid HTTP request received." not in body:
            # That line is uvicorn's, where there is no request that could be answered.
            try:
                reason = json.loads(body)["message"]
            except (ValueError, TypeError, KeyError):
                reason = ""
            if not reason:
                return f"no reason: {body[:200]!r}"
        return None
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def fuzz(port: int, seed: int, n: int, at_once: int = 8) -> tuple[Counter[str], list[str]]:
    """Send n pieces of garbage; return how many of each kind, and every wrong answer."""
    queue = iter(requests(seed, n))
    kinds: Counter[str] = Counter()
    wrong: list[str] = []

    async def client() -> None:
        for request in queue:
            kinds[request.kind] += 1
            fault = await send(port, request)
            if fault:
                wrong.append(f"{request.kind}: {request.raw[:300]!r}: {fault}")

    await asyncio.gather(*(client() for _ in range(at_once)))
    return kinds, wrong


async def soak(
    port: int, texts: Sequence[str], expected: Sequence[dict[str, Any]], n: int, at_once: int
) -> tuple[list[float], int, float]:
    """Ask n times for one sentence, on connections that are kept.

    Returns
    -------
    latencies : list of float
        Seconds, one an answer.
    lost : int
        Requests without an answer, or with another one than the model itself gives.
    seconds : float
        From the first request to the last answer.
    """
    numbers = iter(range(n))
    latencies: list[float] = []
    lost = 0

    async def client() -> None:
        nonlocal lost
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body = dumped({"inputs": [texts[number % len(texts)]]})
            raw = http(body).replace(b"Connection: close\r\n", b"")
            start = time.perf_counter()
            writer.write(raw)
            status, said = await answer(reader)
            latencies.append(time.perf_counter() - start)
            right = expected[number % len(texts)]
            lost += status != 200 or json.loads(said)["predictions"] != [right]
            if status == 0:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_once)))
    return latencies, lost, time.perf_counter() - start


def memory(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) / 1000


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fuzz", type=int, default=5000)
    parser.add_argument("--soak", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="models:/kaznews@champion")
    arguments = parser.parse_args(words)
    files = sorted((ROOT / "data" / "corpus").glob("*.jsonl"))
    texts = [json.loads(line)["text"] for path in files for line in path.open(encoding="utf-8")]
    with tempfile.TemporaryDirectory() as folder:
        model, _ = open_model(arguments.model, Path(folder))
    expected = [model.predict([text])[0] for text in texts]
    load = f"{os.getloadavg()[0]:.1f}"
    with running("--model", arguments.model) as (port, pid):
        kinds, wrong = asyncio.run(fuzz(port, arguments.seed, arguments.fuzz))
        for line in wrong[:20]:
            print(line)
        # Once through: the words that the model remembers, the pools of threads and connections.
        _, early, _ = asyncio.run(soak(port, texts, expected, len(texts), CONCURRENCY))
        alone, lost, _ = asyncio.run(soak(port, texts, expected, 1000, 1))
        before = memory(pid)
        latencies, late, seconds = asyncio.run(
            soak(port, texts, expected, arguments.soak, CONCURRENCY)
        )
        after = memory(pid)
    lost += early + late
    rows = [["", "one client", f"{CONCURRENCY} clients"]]
    for name, share in (("p50, ms", 0.5), ("p99, ms", 0.99)):
        rows.append([name, *(f"{quantile(v, share) * 1e3:.1f}" for v in (alone, latencies))])
    each = [f"{len(alone) / sum(alone):.0f}", f"{len(latencies) / seconds:.0f}"]
    rows.append(["requests a second", *each])
    report = (
        "# The server\n\nMeasured by `make soak`; one worker, one sentence a request, "
        f"{os.cpu_count()} cores shared with the client, load average {load} before.\n\n"
        f"```text\n{text_table(rows)}\n```\n\n"
        f"- garbage: {sum(kinds.values())} requests of {len(kinds)} kinds, seed {arguments.seed}: "
        f"{len(wrong)} answered wrongly or with 5xx (a sentence that is merely odd is answered)\n"
        f"- soak: {len(latencies)} requests at concurrency {CONCURRENCY}: {lost} lost or "
        "unlike the model's own answer\n"
        f"- resident memory {before:.1f} MB before the soak (every sentence had been asked about "
        f"once), {after:.1f} MB after it\n"
    )
    print(report)
    RESULT.write_text(report, "utf-8")
    return int(bool(wrong) or lost > 0 or after - before > GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
