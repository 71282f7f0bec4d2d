"""Tasks in, the saved views of MLflow's run table out, as tags of the experiment.

Since MLflow 3.15 a named view is the tag ``mlflow.sharedViewState.<key>``: JSON with a name, two
times and the state, which is JSON again. It is listed under Views in the run table, and opened by
``viewStateShareKey=<key>`` in the address.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kaznews.data import Task

TAG_PREFIX = "mlflow.sharedViewState."
ALL_RUNS, CONTEST = "all-runs", "champion-challenger"
SEVERAL_TASKS = frozenset(TAG_PREFIX + key for key in (ALL_RUNS, CONTEST))
# In every run; of a run with several tasks the mean over them.
MAIN = {part: f"main_{part}" for part in ("cv", "dev", "test")}
# Tag of the runs whose bundle holds an alias: champion, challenger, previous.
ALIAS_TAG = "alias"
# The columns that MLflow always shows, and their pixels.
WIDTHS = {"attributes.`Run Name`": 250, "attributes.`Created`": 130, "attributes.`Duration`": 75}
_ALIASES = f"tags.`{ALIAS_TAG}`"
# Labels that get a chart: a tag holds 20,000 characters.
_CHARTS = 20
_NEWEST = "attributes.start_time"


def models_key(task: Task) -> str:
    """Return the key of the view that sets the models of one task side by side."""
    return f"models-{task.name.replace('_', '-')}"


def address(experiment_id: str, key: str = ALL_RUNS) -> str:
    """Return the part of an address that opens the run table of an experiment in a view.

    Without the workflow type MLflow shows charts of traces.
    """
    return (
        f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"
    )


def summary_metric(task: Task, part: str) -> str:
    """Return the name under which a task's main metric stands in the run above it."""
    return f"{task.name}_{part}_{task.main_metric}"


def saved_views(tasks: Sequence[Task]) -> dict[str, str]:
    """Return the views a reviewer needs, as tags of the experiment.

    All runs with the main metrics, children under their parents; the runs that hold the champion,
    its predecessor and the challenger; for each task its models, best on dev first.
    """
    above = [_metric(summary_metric(task, "test")) for task in tasks]
    chosen = [_tag("data"), _tag("features"), _tag("classifier")]
    main = [_metric(name) for name in MAIN.values()]
    views = [
        # MLflow nests children only under runs in the order of time and without a filter.
        _view(ALL_RUNS, "All runs", [_ALIASES, *main, *above, *chosen]),
        _view(
            CONTEST,
            "Champion against challenger",
            [_ALIASES, *main, *above, _tag("promoted"), *chosen],
            where=f"tags.{ALIAS_TAG} LIKE '%'",
            by=_metric(MAIN["dev"]),
            charts=[*(summary_metric(t, part) for t in tasks for part in ("dev", "test"))],
        ),
    ]
    for task in tasks:
        scores = [
            *(f"{part}_{task.main_metric}" for part in ("dev", "cv", "test")),
            *("test_accuracy", "test_log_loss", "test_ece", "test_coverage_at_95"),
            *(f"test_{other}_{task.main_metric}" for other in ("words", "majority")),
        ]
        views.append(
            _view(
                models_key(task),
                f"Models: {task.name}",
                [*chosen, *(_metric(name) for name in scores)],
                where=f"tags.kind = 'task' AND tags.task = '{task.name}'",
                by=_metric(scores[0]),
                charts=[*scores[:7], *(f"test_f1_{label}" for label in task.labels[:_CHARTS])],
            )
        )
    # The list of views is sorted by these times, the latest first.
    return {
        TAG_PREFIX + key: json.dumps(
            {"name": name, "createdAt": rank, "updatedAt": rank, "state": json.dumps(state)}
        )
        for rank, (key, name, state) in zip(range(len(views), 0, -1), views, strict=True)
    }


def _tag(name: str) -> str:
    return f"tags.`{name}`"


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _view(
    key: str,
    name: str,
    columns: Sequence[str],
    *,
    where: str = "",
    by: str = _NEWEST,
    charts: Sequence[str] = (),
) -> tuple[str, str, dict[str, Any]]:
    """Return key, name and state of a view: filter, order (descending), columns, bar charts."""
    state: dict[str, Any] = {
        "searchFilter": where,
        "orderByKey": by,
        "orderByAsc": False,
        "selectedColumns": list(columns),
        # Tags would stand behind all metrics, outside of the window.
        "columnOrder": [*WIDTHS, *columns],
        "columnWidths": {c: 155 if c == _ALIASES else 105 for c in columns} | WIDTHS,
    }
    if charts:
        section = f"{key}-section"
        # Without it MLflow sorts the sections by name, those of slices and curves first.
        state["isAccordionReordered"] = True
        state["compareRunSections"] = [
            {"uuid": section, "name": name, "display": True, "isReordered": False}
        ]
        state["compareRunCharts"] = [
            {
                "type": "BAR",
                "uuid": f"{key}-{metric}",
                "metricKey": metric,
                "displayName": metric,
                "metricSectionId": section,
                "runsCountToCompare": 10,
                "deleted": False,
                "isGenerated": False,
            }
            for metric in charts
        ]
    return key, name, state
