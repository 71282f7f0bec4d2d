"""The container's recipe: what it copies exists, and what it runs is a command of this project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaznews.cli import build_parser
from kaznews.root import ROOT

RECIPE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", "")


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", RECIPE, re.MULTILINE)


def test_hadolint_has_nothing_to_say() -> None:
    found = Path(sys.executable).with_name("hadolint")
    if not found.exists():
        pytest.skip("hadolint is not installed here (requirements-dev.lock has it)")
    said = subprocess.run([found, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    for line in instructions("COPY"):
        if line.startswith("--from"):
            continue
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored


def test_the_command_is_one_and_listens_where_the_port_and_the_health_check_are() -> None:
    [command] = map(json.loads, instructions("CMD"))
    assert command[0] == "kaznews"
    arguments = build_parser().parse_args(command[1:])
    assert arguments.model.endswith(".npz")
    assert instructions("EXPOSE") == [str(arguments.port)]
    assert f"127.0.0.1:{arguments.port}/ping" in instructions("HEALTHCHECK")[0]


def test_it_does_not_run_as_root() -> None:
    assert instructions("USER") == ["10001"]
    assert RECIPE.index("USER 10001") < RECIPE.index("\nCMD")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_serve_is_loopback_unless_it_is_told_otherwise() -> None:
    def said(*words: str) -> str:
        command = ["make", "-n", "-o", ".venv/.train", "serve", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "--host 127.0.0.1 --port 5001" in said()
    assert "--host 0.0.0.0 --port 80 --workers 2" in said("HOST=0.0.0.0", "PORT=80", "WORKERS=2")
