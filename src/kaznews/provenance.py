"""Nothing in, facts about this process and checkout out: what a run records of where it ran."""

from __future__ import annotations

import os
import platform
import socket
import subprocess

from kaznews.root import ROOT


def this_process() -> str:
    """Return host and process id, as `is_alive` reads them."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_alive(process: str) -> bool:
    """Return whether a process of this host lives; those of other hosts are taken to live."""
    host, _, pid = process.rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def git_commit() -> str | None:
    """Return the checked-out commit, with ``-dirty`` where files differ; None outside Git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def environment_tags() -> dict[str, str]:
    """Return versions that a result depends on, as run tags."""
    from importlib.metadata import version

    names = ("scikit-learn", "numpy", "scipy", "mlflow")
    return {"python": platform.python_version()} | {n: version(n) for n in names}
