"""The store in, what a person opens out: views of the run table, MLflow's server, its address."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import webbrowser
from collections.abc import Sequence
from urllib.error import URLError
from urllib.request import urlopen

from kaznews import tracking
from kaznews.data import Task
from kaznews.views import SEVERAL_TASKS, address, saved_views

# A cold start on a busy machine.
_PATIENCE = 180


def install_views(experiment_id: str, tasks: Sequence[Task]) -> None:
    """Give the experiment the saved views of its run table; those of other names are kept.

    The views over several tasks are those of the last run that had several.
    """
    client = tracking.registry()
    present = client.get_experiment(experiment_id).tags
    for key, value in saved_views(tasks).items():
        if len(tasks) == 1 and key in present and key in SEVERAL_TASKS:
            continue
        if present.get(key) != value:
            client.set_experiment_tag(experiment_id, key, value)


def serve(port: int, *, show: bool = False, experiment_name: str = "kaznews") -> None:
    """Run the MLflow server over the store until it is stopped; does not return.

    MLflow's own host checks stay on. One worker is enough for one person, and its machinery for
    jobs of generative AI is left out: the server is there in a fraction of the time.

    Parameters
    ----------
    show : bool
        Open the address in a browser as soon as the server answers.

    Raises
    ------
    KaznewsError
        There is no store yet.
    """
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += tracking.server_arguments()
    found = tracking.registry().get_experiment_by_name(experiment_name)
    page = f"http://127.0.0.1:{port}{address(found.experiment_id) if found else ''}"
    print(f"MLflow (Ctrl-C stops it): {page}", flush=True)
    if show:
        # A process of its own, because the server takes the place of this one.
        subprocess.Popen([sys.executable, "-m", "kaznews.ui", page])
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])


def open_when_up(page: str, patience: float = _PATIENCE) -> bool:
    """Open an address in a browser as soon as its server answers; return whether one was opened."""
    health = page.partition("/#")[0] + "/health"
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with contextlib.suppress(URLError, OSError), urlopen(health, timeout=5):
            return webbrowser.open(page)
        time.sleep(0.5)
    return False


if __name__ == "__main__":
    if not open_when_up(sys.argv[1]):
        print(f"no browser could be opened: {sys.argv[1]}", file=sys.stderr)
