"""Trained tasks in, Markdown out: what MLflow shows beside runs, registered models and versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kaznews.data import SPLITS, Corpus, Task
from kaznews.fit import TaskResult
from kaznews.gate import Decision
from kaznews.plots import words_of
from kaznews.report import number
from kaznews.slices import slice_rows
from kaznews.split import Split

EXPERIMENT = """Topic and stance of Kazakh news sentences.

One run a `make train`, one child a task. **Views** opens the run table at all runs, at the champion
against the challenger, and at the models of one task. `main_cv`, `main_dev` and `main_test` are the
main metric of a task, in a parent run the mean over its tasks.
"""
BUNDLE_ABOUT = """All tasks in one model: a list, a Series or a DataFrame of sentences in, label and
confidence of each task out.

**champion** answers by default, **challenger** is the newest version, **previous** is what `make
rollback` returns to. Every version says in its description how good it is, and in its tag
`decision` why it is champion or not.
"""
USE = """Labels single sentences of Kazakh news, so that many of them can be counted and compared.
Not for decisions about people, and no source for what happened. Read a label with its confidence;
where it matters, look at a sample."""
LIMITS = """Labels are made by language models and checked by no human. A score holds for sentences
like the test sentences: one sentence alone, of news, in the mix of topics and stances of this data.
Classes with few test sentences have wide intervals; what is in no class gets one all the same."""
# What the registry of a database server takes.
LONGEST = 5000


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


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
    task = result.task
    return "\n\n".join(
        [
            f"**{words_of(task.name)}**, {len(task.labels)} classes: {title}.",
            _data(corpus, split),
            _scores(result),
            "`test_sentences.json` has every test sentence with what carried its label, "
            "`confident_errors.json` the surest errors, `label_audit.json` the training labels "
            "that are probably wrong; the run above has `report.html`.",
            _registered(versions),
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
    paragraphs = [f"**{title}**", _data(corpus, split), _headline(results)]
    paragraphs.append("`report.html` sets the tasks side by side: scores, pictures, sentences.")
    if decision is not None:
        paragraphs.append(f"Gate: {decision}.")
    return "\n\n".join([*paragraphs, _registered(versions)])


def task_card(title: str, result: TaskResult, corpus: Corpus, split: Split) -> str:
    """Return the model card of a task's version, at most LONGEST characters."""
    rows = _slices(result)

    def card(kept: int) -> str:
        return "\n\n".join(
            [
                f"**{words_of(result.task.name)}**: {title}",
                _section("Scores", _scores(result)),
                _section("By kind of sentence, on test", _slice_table(rows, kept)),
                *_closing(corpus, split),
            ]
        )

    return _fitted(card, len(rows))


def bundle_card(
    title: str,
    results: Sequence[TaskResult],
    corpus: Corpus,
    split: Split,
    versions: Mapping[str, int],
    decision: Decision,
) -> str:
    """Return the model card of a bundle's version, at most LONGEST characters."""
    # The main ways to tell sentences apart stand in turn, so that none is cut before the others.
    of_task = [[[words_of(r.task.name), *row] for row in _slices(r)] for r in results]
    deepest = max(map(len, of_task), default=0)
    rows = [own[i] for i in range(deepest) for own in of_task if i < len(own)]

    def card(kept: int) -> str:
        shown = sorted(rows[:kept], key=lambda row: row[0])
        return "\n\n".join(
            [
                title,
                _section("Scores", _headline(results)),
                _section("Gate", f"{decision}."),
                _section("Models in it", _registered(versions)),
                _section("By kind of sentence, on test", _slice_table(shown, kept, len(rows))),
                *_closing(corpus, split),
            ]
        )

    return _fitted(card, len(rows))


def _fitted(card: Callable[[int], str], rows: int) -> str:
    """Return the card with as many rows of its longest table as LONGEST allows."""
    kept = next((n for n in range(rows, 0, -1) if len(card(n)) <= LONGEST), 0)
    return card(kept)[:LONGEST]


def _section(title: str, text: str) -> str:
    return f"#### {title}\n\n{text}"


def _closing(corpus: Corpus, split: Split) -> list[str]:
    return [
        _section("Intended use", USE),
        _section("Data", _data(corpus, split)),
        _section("Limits", LIMITS),
        _section("Licence of the training text", corpus.licence or "Not stated."),
    ]


def _data(corpus: Corpus, split: Split) -> str:
    counts = ", ".join(f"{(split.part == part).sum()} {part}" for part in SPLITS)
    return (
        f"Data **{corpus.name}** (`{corpus.digest}`): {counts} sentences, split {split.origin}, by "
        f"article. {corpus.description}"
    )


def _registered(versions: Mapping[str, int]) -> str:
    if not versions:
        return "No version was registered."
    return "Registered: " + ", ".join(link(name, version) for name, version in versions.items())


def _scores(result: TaskResult) -> str:
    """Return a table of what matters first: one row a metric, one column a part."""
    metric = result.task.main_metric
    parts = ("cv", "dev", "test")
    names = [name for name in (metric, "accuracy", "log_loss", "ece") if name]
    rows = [
        [words_of(name), *(number(result.reports[part], name) for part in parts)] for name in names
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


def _slices(result: TaskResult) -> list[list[str]]:
    rows = []
    for row in slice_rows(result.task, result.slices):
        value = f"{row['value']:.3f}"
        if row["low"] is not None:
            value += f" ({row['low']:.3f}–{row['high']:.3f})"
        rows.append(
            [row["kind"], row["slice"], str(row["sentences"]), words_of(row["metric"]), value]
        )
    return rows


def _slice_table(rows: Sequence[Sequence[str]], kept: int, of: int | None = None) -> str:
    """Return the first rows as a table, and how many more there are."""
    total = len(rows) if of is None else of
    if not total:
        return "Too few test sentences to tell them apart."
    head = ["kind", "", "sentences", "metric", "value"]
    if rows and len(rows[0]) > len(head):
        head.insert(0, "task")
    rest = f"\n\n{total - kept} more in `slices.json` of the run." if kept < total else ""
    return (table(head, rows[:kept]) if kept else "") + rest
