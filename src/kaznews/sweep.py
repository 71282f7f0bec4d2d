"""The jobs of a ``--multirun`` in, one run above them out, with its jobs ranked."""

from __future__ import annotations

import os
from collections.abc import Sequence

from kaznews import tracking
from kaznews.evaluate import text_table
from kaznews.notes import table
from kaznews.provenance import git_commit, this_process
from kaznews.views import MAIN

SWEEP_VARIABLE = "KAZNEWS_SWEEP_PROCESS"
METRIC = MAIN["cv"]


def start_sweep(experiment_name: str, overrides: Sequence[str]) -> None:
    """Create the store and the run that the jobs of a sweep hang under; export its id."""
    experiment_id = tracking.open_experiment(experiment_name)
    tags = {"mlflow.runName": f"sweep: {' '.join(overrides)}", "kind": "sweep"}
    tags[tracking.PROCESS_TAG] = this_process()
    if commit := git_commit():
        tags["git_commit"] = commit
    created = tracking.registry().create_run(experiment_id, tags=tags)
    os.environ[tracking.PARENT_VARIABLE] = created.info.run_id
    os.environ[SWEEP_VARIABLE] = str(os.getpid())


def end_sweep(status: str) -> str:
    """Close the sweep that this process opened, if any; return its jobs as a table, best first.

    The same table becomes the description of the run.
    """
    if os.environ.get(SWEEP_VARIABLE) != str(os.getpid()):
        return ""
    run_id = os.environ.pop(tracking.PARENT_VARIABLE)
    del os.environ[SWEEP_VARIABLE]
    client = tracking.registry()
    client.set_terminated(run_id, status)
    experiment_id = client.get_run(run_id).info.experiment_id
    jobs = client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    jobs = sorted(jobs, key=lambda job: -job.data.metrics.get(METRIC, -1.0))
    head = ["job", "status", "mean main metric, cv"]
    rows = [
        [job.info.run_name, job.info.status, f"{job.data.metrics.get(METRIC, float('nan')):.4f}"]
        for job in jobs
    ]
    tracking.describe(f"Jobs of a sweep, best first.\n\n{table(head, rows)}", run_id)
    return text_table([head, *rows])
