"""Trained tasks in, Markdown out: what MLflow shows beside runs, registered models and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kaznews.data import SPLITS, Corpus, Task
from kaznews.fit import TaskResult
from kaznews.gate import Decision
from kaznews.plots import words_of
from kaznews.report import number
from kaznews.slices import Slice, main_metric_of
from kaznews.split import Split

# MLflow breaks lines where a paragraph has them, so that a paragraph is one line.
EXPERIMENT = (
    "Topic and stance of Kazakh news sentences.\n\n"
    "One run a `make train`, one child a task. **Views** opens the run table at all runs, at the "
    "champion against the challenger, and at the models of one task. `main_cv`, `main_dev` and "
    "`main_test` are the main metric of a task, in a parent run the mean over its tasks."
)
BUNDLE_ABOUT = (
    "All tasks in one model: a list, a Series or a DataFrame of sentences in, label and confidence "
    "of each task out.\n\n"
    "**champion** answers by default, **challenger** is the newest version, **previous** is what "
    "`make rollback` returns to. Every version says in its description how good it is, and in its "
    "tag `decision` why it is champion or not."
)
USE = (
    "Labels single sentences of Kazakh news, so that many of them can be counted and compared. Not "
    "for decisions about people, and no source for what happened. Read a label with its "
    "confidence; where it matters, look at a sample."
)
LIMITS = (
    "Labels are made by language models and checked by no human, unless the data say otherwise. A "
    "score holds for sentences like the test sentences: news, one sentence alone, topics and "
    "stances in the mix of this data. Classes with few test sentences have wide intervals; a "
    "sentence that belongs to no class gets one all the same."
)
# What the registry of a database server takes.
LONGEST = 5000


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = []
    for line in (head, *rows):
        cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in line)
        # MLflow draws tables without any space between columns.
        lines.append(f"| {' &ensp;| '.join(cells)} |")
    lines.insert(1, f"| {' | '.join('---' for _ in head)} |")
    return "\n".join(lines)


def link(name: str, version: int) -> str:
    """Return a link to a registered version that works wherever the server runs."""
    return f"[{name} version {version}](#/models/{name}/versions/{version})"


def model_about(task: Task) -> str:
    """Return the description of a task's registered model."""
    labels = ", ".join(f"`{label}`" for label in task.labels)
    return (
        f"**{words_of(task.name)}** of a Kazakh news sentence, one of {labels}. A scikit-learn "
        f"pipeline from a DataFrame with the column `text`; main metric: "
        f"{words_of(task.main_metric)}."
    )


def task_note(
    title: str, result: TaskResult, corpus: Corpus, split: Split, versions: Mapping[str, int]
) -> str:
    """Return the description of a task's run.

    Parameters
    ----------
    title : str
        Name of the run above.
    versions : mapping of registered name to version
        What the run has registered; may be empty.
    """
    # MLflow folds a description after some lines: what is asked first stands first.
    return "\n\n".join(
        [
            _in_short(result),
            _registered(versions),
            f"{title}, {len(result.task.labels)} classes.",
            _scores(result),
            _data(corpus, split),
            "`test_sentences.json` has every test sentence with what carried its label, "
            "`confident_errors.json` the surest errors, `label_audit.json` the training labels "
            "that are probably wrong; the run above has `report.html`.",
        ]
    )


def run_note(
    title: str,
    results: Sequence[TaskResult],
    corpus: Corpus,
    split: Split,
    versions: Mapping[str, int],
    decision: Decision | None,
) -> str:
    """Return the description of the run above the tasks."""
    gate = [f"Gate: {decision}."] if decision is not None else []
    return "\n\n".join(
        [
            "\n".join(f"- {_in_short(result)}" for result in results),
            _registered(versions),
            *gate,
            f"{title}. `report.html` sets the tasks side by side: scores, pictures, sentences.",
            _headline(results),
            _data(corpus, split),
        ]
    )


def task_card(title: str, result: TaskResult, corpus: Corpus, split: Split) -> str:
    """Return the model card of a task's version, at most LONGEST characters."""
    opening = [
        _title(title, [result]),
        _section("Scores", _scores(result)),
    ]
    return _card(opening, [result], corpus, split)


def bundle_card(
    title: str,
    results: Sequence[TaskResult],
    corpus: Corpus,
    split: Split,
    versions: Mapping[str, int],
    decision: Decision,
) -> str:
    """Return the model card of a bundle's version, at most LONGEST characters."""
    opening = [
        _title(title, results),
        _section("Scores", _headline(results)),
        _section("Gate", f"{decision}."),
        _section("Models in it", ", ".join(link(name, v) for name, v in versions.items())),
    ]
    return _card(opening, results, corpus, split)


def _title(title: str, results: Sequence[TaskResult]) -> str:
    """Return the first line of a card, the only one that the list of versions shows."""
    scores = (
        f"{words_of(r.task.name)} {r.reports['test'].metrics[r.task.main_metric]:.3f}"
        for r in results
    )
    return f"{title}. On test: {', '.join(scores)}."


def _card(
    opening: Sequence[str], results: Sequence[TaskResult], corpus: Corpus, split: Split
) -> str:
    """Return a model card with as many slices as LONGEST allows."""
    head = ["", *(words_of(r.task.name) for r in results)]
    of_task = [{(s.kind, s.value): s for s in r.slices} for r in results]
    # In order of appearance.
    kinds = list(dict.fromkeys(key for slices in of_task for key in slices))
    rows = [
        [
            f"{kind}: {value}",
            *(
                _slice_cell(r.task, slices.get((kind, value)))
                for r, slices in zip(results, of_task, strict=True)
            ),
        ]
        for kind, value in kinds
    ]

    def card(kept: int) -> str:
        slices = [table(head, rows[:kept])] if kept else []
        if kept < len(rows):
            slices.append(f"{len(rows) - kept} more in `slices.json` of the task runs.")
        elif not rows:
            slices.append("Too few test sentences to tell them apart.")
        sections = [
            *opening,
            _section("Intended use", USE),
            _section("Data", _data(corpus, split)),
            _section("Limits", LIMITS),
            _section("Licence of the training text", corpus.licence or "Not stated."),
            _section("By kind of sentence, main metric on test", "\n\n".join(slices)),
        ]
        return "\n\n".join(sections)

    kept = next((n for n in range(len(rows), 0, -1) if len(card(n)) <= LONGEST), 0)
    return card(kept)[:LONGEST]


def _slice_cell(task: Task, found: Slice | None) -> str:
    """Return a slice's score, interval and size; the metric only where it is not the main one."""
    if found is None:
        return ""
    metric = main_metric_of(task, found.report)
    other = "" if metric == task.main_metric else f"{words_of(metric)} "
    return f"{other}{number(found.report, metric)}, n={found.report.n}"


def _section(title: str, text: str) -> str:
    return f"**{title}**\n\n{text}"


def _data(corpus: Corpus, split: Split) -> str:
    counts = ", ".join(f"{(split.part == part).sum()} {part}" for part in SPLITS)
    return (
        f"Data **{corpus.name}** (`{corpus.digest}`): {counts} sentences, split {split.origin}, by "
        f"article. {corpus.description}"
    )


def _in_short(result: TaskResult) -> str:
    """Return the headline numbers of a task in one line."""
    metric = result.task.main_metric
    test = number(result.reports["test"], metric)
    words = number(result.words.get("test"), metric)
    beside = f" (words alone {words.split()[0]})" if words else ""
    dev = f"{result.reports['dev'].metrics[metric]:.3f}"
    return (
        f"**{words_of(result.task.name)}**: {words_of(metric)} **{test}** on test{beside}, "
        f"{dev} on dev"
    )


def _registered(versions: Mapping[str, int]) -> str:
    if not versions:
        return "No version was registered."
    return "Registered: " + ", ".join(link(name, version) for name, version in versions.items())


def _scores(result: TaskResult) -> str:
    """Return a table of what matters first: one row a metric, one column a part."""
    metric = result.task.main_metric
    parts = ("cv", "dev", "test")
    rows = [
        [words_of(name), *(number(result.reports[part], name) for part in parts)]
        for name in (metric, "accuracy", "log_loss", "ece")
    ]
    for title, reports in (("words alone", result.words), ("majority", result.majority)):
        cells = [number(reports.get(part), metric) for part in parts]
        rows.append([f"{words_of(metric)}, {title}", *cells])
    rows.append(["sentences", *(str(result.reports[part].n) for part in parts)])
    return table(["", "cross-validation", "dev", "test"], rows)


def _headline(results: Sequence[TaskResult]) -> str:
    """Return a table of the main metrics: one row a task."""
    head = ["", "metric", "cross-validation", "dev", "test", "test, words alone", "majority"]
    rows = []
    for r in results:
        metric = r.task.main_metric
        cells = [number(r.reports[part], metric) for part in ("cv", "dev", "test")]
        cells += [number(r.words.get("test"), metric), number(r.majority["test"], metric)]
        rows.append([words_of(r.task.name), words_of(metric), *cells])
    return table(head, rows)
