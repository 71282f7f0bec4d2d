"""A real MLflow server over a store that real trainings have filled, and a browser before it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.conftest import run_train, store_environment

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Set by `make screenshots`: a folder for the pictures, of a full training on the whole corpus.
PICTURES = os.environ.get("KAZNEWS_SCREENSHOTS")
SIZE = {"width": 1440, "height": 900}
# MLflow asks who is signed in; a server without accounts answers that it does not know.
EXPECTED_ERRORS = ("/ajax-api/2.0/mlflow/users/current",)
# Chromium's word for a layout that took two frames; harmless, and said of charts.
RESIZE = "ResizeObserver loop completed with undelivered notifications"
# A busy machine of two cores may need this long for a page.
PATIENCE = 60_000


@dataclass(frozen=True)
class Site:
    """A running server: its address, and the one that `kaznews ui` has printed."""

    base: str
    printed: str
    store: Path

    def client(self) -> Any:
        import mlflow

        return mlflow.MlflowClient(f"sqlite:///{self.store}/mlflow.db")

    def newest(self, **tags: str) -> Any:
        """Return the newest run with these tags."""
        where = " AND ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
        return self.client().search_runs(["1"], where)[0]

    def page_of(self, run: Any, rest: str = "") -> str:
        return f"{self.base}/#/experiments/1/runs/{run.info.run_id}{rest}"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Yield a browser; skip where playwright or a browser is missing."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make test-browser"
    )
    named = os.environ.get("CHROMIUM")
    path = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is in PATH, CHROMIUM is not set")
    with sync_api.sync_playwright() as playwright:
        # Without the sandbox, which root and most containers do not have: it sees our pages only.
        arguments = (
            "--no-sandbox --disable-gpu --disable-quic --no-first-run "
            "--disable-background-networking --disable-component-update --disable-sync"
        )
        started = playwright.chromium.launch(executable_path=path, args=arguments.split())
        yield started
        started.close()


@pytest.fixture(scope="session")
def site(
    browser: Any, small_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Train twice, so that there is a champion and its predecessor, and start `kaznews ui`."""
    store = tmp_path_factory.mktemp("browser")
    if os.environ.get("E2DEV"):
        store = Path(os.environ["E2DEV"])
    quick = ["data=files", f"data.files=[{small_file}]", "experiment=quick", "register=true"]
    # Words alone do not reach the floor on so few sentences.
    quick += ["resamples=50", "gate.floors.stance_trade_balance=0"]
    for features in ("word", "char_wb"):
        done = run_train(store, f"features={features}", *([] if PICTURES else quick))
        assert done.returncode == 0, done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (store / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "kaznews.cli", "ui", "--port", str(port)],
            env=store_environment(store), stdout=subprocess.PIPE, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert server.stdout
        printed = server.stdout.readline().split()[-1]
        base = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{base}/health", server, store / "server.log")
            yield Site(base, printed, store)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.communicate(timeout=60)


def _wait_for(address: str, server: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            with urlopen(address, timeout=5):
                return
        except OSError:
            assert server.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.2)


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    """Yield a fresh page; a console error or a failed answer of our server fails the test."""
    context = browser.new_context(viewport=SIZE)
    context.set_default_timeout(PATIENCE)
    # MLflow opens its assistant over every first visit.
    context.add_init_script(
        # A sandboxed frame (that of a report) has no storage.
        "try { localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true') }"
        " catch {}"
    )
    opened = context.new_page()
    errors: list[str] = []

    def complain(message: Any) -> None:
        source = str(message.location.get("url", ""))
        expected = source.endswith(EXPECTED_ERRORS) or RESIZE in message.text
        if message.type == "error" and not expected:
            errors.append(f"{message.text} ({source})")

    # No test depends on other hosts.
    context.route(lambda url: not url.startswith(site.base), lambda route: route.abort())
    opened.on("console", complain)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors


@pytest.fixture
def picture(page: Any) -> Callable[[str], None]:
    """Return a function that keeps a picture of the page for README, if pictures are wanted."""

    def keep(name: str) -> None:
        if not PICTURES:
            return
        from io import BytesIO

        from PIL import Image

        # What moves or fades comes to rest.
        page.wait_for_timeout(1500)
        shot = Image.open(BytesIO(page.screenshot()))
        target = Path(PICTURES) / f"{name}.png"
        # A palette is a quarter of the size; this one keeps the rare colours.
        few = shot.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        few.save(target, optimize=True)

    return keep
