"""Words of the shell in, one command run: each command is a function, named after it."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaznews.errors import KaznewsError
from kaznews.payload import Limits

OUTPUT_TYPES = (".jsonl", ".csv", ".parquet")
INPUT_TYPES = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
PORTABLE_TYPE = ".npz"
DEFAULT_MODEL = "models:/kaznews@champion"


@contextmanager
def _atomic(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target that replaces it on success only."""
    import tempfile

    try:
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=target.suffix)
    except OSError as error:
        raise KaznewsError(f"cannot write {target}: {error.strerror}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _read_input(name: str, column: str) -> list[dict[str, Any]]:
    """Return rows with `text` (and `id` where there is one) of a file or of standard input."""
    from kaznews.reading import read_rows

    if name == "-":
        try:
            lines = sys.stdin.buffer.read().decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise KaznewsError(
                f"standard input is not UTF-8: {error.reason} at byte {error.start}"
            ) from None
        return [{"text": line} for line in lines]
    path = Path(name)
    if path.suffix not in INPUT_TYPES:
        raise KaznewsError(
            f"unknown file type {path.suffix or path.name!r}: "
            f"--input takes {', '.join(INPUT_TYPES)}"
        )
    rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        if column not in row:
            raise KaznewsError(
                f"{path.name}:{number} has no column {column!r}; its columns are {', '.join(row)}"
            )
        if not isinstance(row[column], str):
            raise KaznewsError(f"{path.name}:{number}: {column} is not a string: {row[column]!r}")
    return [{**({"id": row["id"]} if "id" in row else {}), "text": row[column]} for row in rows]


def _write_output(frame: Any, output: str | None) -> None:
    if output is None:
        sys.stdout.write(frame.to_json(orient="records", lines=True, force_ascii=False))
        return
    target = Path(output)
    with _atomic(target) as temporary:
        if target.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        elif target.suffix == ".csv":
            frame.to_csv(temporary, index=False)
        else:
            frame.to_json(temporary, orient="records", lines=True, force_ascii=False)


def _write_rows(rows: list[dict[str, Any]], columns: list[str], output: str | None) -> None:
    """Write what `_write_output` writes, from plain rows; pandas is imported for Parquet alone."""
    kind = Path(output).suffix if output else ""
    if kind == ".parquet":
        import pandas as pd

        try:
            _write_output(pd.DataFrame(rows, columns=columns), output)
        except UnicodeEncodeError as error:
            raise KaznewsError(f"cannot write {output}: {error}") from None
        return
    stream = io.StringIO(newline="")
    if kind == ".csv":
        import csv

        table = csv.DictWriter(stream, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    else:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # A lone surrogate has no UTF-8; written \\ud800 it is JSON still.
    content = stream.getvalue().encode("utf-8", "backslashreplace")
    if output is None:
        sys.stdout.write(content.decode("utf-8"))
        return
    with _atomic(Path(output)) as temporary:
        temporary.write_bytes(content)


def _print_answers(
    texts: Sequence[str], answers: Sequence[dict[str, Any]], names: Sequence[str]
) -> None:
    for text, answer in zip(texts, answers, strict=True):
        print(text.encode("utf-8", "backslashreplace").decode("utf-8"))
        for name in names:
            mark = "  abstains" if answer[f"{name}_abstain"] else ""
            print(f"  {name:30} {answer[name]:22} {answer[name + '_confidence']:.2f}{mark}")


def _predict(arguments: argparse.Namespace) -> None:
    if bool(arguments.text) == bool(arguments.input):
        raise KaznewsError("give sentences as arguments or --input, one of the two")
    if arguments.engine == "ray" or (arguments.output and _is_folder(arguments.output)):
        _predict_bulk(arguments)
        return
    if arguments.output and Path(arguments.output).suffix not in OUTPUT_TYPES:
        raise KaznewsError(
            f"unknown output type {arguments.output!r}: --output takes {', '.join(OUTPUT_TYPES)}"
        )
    if arguments.input:
        rows = _read_input(arguments.input, arguments.column)
    else:
        rows = [{"text": text} for text in arguments.text]
    if Path(arguments.model).suffix == PORTABLE_TYPE:
        _predict_portable(arguments, rows)
        return
    import pandas as pd

    from kaznews.predict import load

    bundle = load(arguments.model)
    given = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["text"], dtype=object)
    answers = _predict_in_batches(bundle, given)
    if arguments.text and not arguments.output and not arguments.json:
        names = [t.task.name for t in bundle.tasks]
        _print_answers(arguments.text, answers.to_dict("records"), names)
        return
    _write_output(pd.concat([given, answers], axis=1), arguments.output)


def _is_folder(output: str) -> bool:
    """Whether an output is a folder of parts: it ends in a slash, has no suffix or is one."""
    return output.endswith("/") or not Path(output).suffix or Path(output).is_dir()


def _predict_bulk(arguments: argparse.Namespace) -> None:
    from kaznews import bulk
    from kaznews.fit import progress_bar

    if not arguments.input or not arguments.output or not _is_folder(arguments.output):
        raise KaznewsError("labelling in bulk takes --input and --output FOLDER/")
    run = bulk.prepare(
        arguments.input,
        arguments.output,
        arguments.model,
        column=arguments.column,
        size=arguments.rows,
    )
    bar = progress_bar("label", "part")
    if arguments.engine == "ray":
        from kaznews import cluster

        done = cluster.label(run, progress=bar)
    else:
        done = bulk.label(run, n_jobs=arguments.jobs, progress=bar)
    print(
        f"{arguments.output}: {done.rows} rows in {done.parts} parts, {done.found} of them found; "
        f"{done.without_sentence} rows without a sentence have no labels"
    )


def _predict_in_batches(bundle: Any, frame: Any) -> Any:
    """Label a frame batch by batch, so that a person sees how far it is."""
    import pandas as pd

    from kaznews.fit import progress_bar
    from kaznews.predict import BATCH

    starts = range(0, len(frame), BATCH)
    bar = progress_bar("label", "batch")(starts, len(starts))
    found = [bundle.predict(frame.iloc[start : start + BATCH]) for start in bar]
    return pd.concat(found) if found else bundle.predict(frame)


def _predict_portable(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Answer with an exported model: nothing but NumPy is imported, unless a file type needs it."""
    from kaznews import runtime

    model = runtime.read(arguments.model)
    answers = model.predict([row["text"] for row in rows])
    if arguments.text and not arguments.output and not arguments.json:
        _print_answers(arguments.text, answers, [t.name for t in model.tasks])
        return
    columns = list(rows[0]) if rows else ["text"]
    _write_rows(
        [
            {**{column: row.get(column) for column in columns}, **answer}
            for row, answer in zip(rows, answers, strict=True)
        ],
        [*columns, *model.columns],
        arguments.output,
    )


def _export(arguments: argparse.Namespace) -> None:
    target = Path(arguments.file)
    if target.suffix != PORTABLE_TYPE:
        raise KaznewsError(f"an exported model is a {PORTABLE_TYPE} file, not {arguments.file!r}")
    from kaznews.export import export
    from kaznews.predict import load

    bundle = load(arguments.model)
    with _atomic(target) as temporary:
        model = export(bundle, temporary)
        size = temporary.stat().st_size
    print(f"{target}: {', '.join(t.name for t in model.tasks)}; {size / 1e6:.1f} MB")


def _explain(arguments: argparse.Namespace) -> None:
    from kaznews.explain import colours_wanted
    from kaznews.predict import load

    if arguments.top < 1:
        raise KaznewsError(f"--top must be at least 1, not {arguments.top}")
    explained = load(arguments.model).predict(arguments.text, explain=True)
    sys.stdout.write(explained.to_terminal(colours_wanted(), arguments.top))


def _evaluate(arguments: argparse.Namespace) -> None:
    from kaznews.evaluate import text_table
    from kaznews.fit import progress_bar
    from kaznews.predict import load
    from kaznews.reading import read_rows

    rows = read_rows(Path(arguments.data))
    if arguments.split:
        rows = [row for row in rows if row.get("split") == arguments.split]
        if not rows:
            raise KaznewsError(f"{arguments.data} has no row with split {arguments.split!r}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("text"), str):
            raise KaznewsError(
                f"{arguments.data}:{number}: text is not a string: {row.get('text')!r}"
            )
    bundle = load(arguments.model)
    reports = bundle.score(
        rows,
        resamples=arguments.resamples,
        seed=arguments.seed,
        progress=progress_bar("score", "task"),
    )
    table = [["task", "n", "metric", "value", "95 % interval"]]
    for name, report in reports.items():
        for metric, value in report.metrics.items():
            low, high = report.intervals.get(metric, (float("nan"),) * 2)
            interval = f"{low:.3f}–{high:.3f}" if metric in report.intervals else ""
            table.append([name, str(report.n), metric, f"{value:.3f}", interval])
    print(text_table(table))
    if arguments.json:
        target = Path(arguments.json)
        with _atomic(target) as temporary:
            content = {name: report.as_dict() for name, report in reports.items()}
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _suggest(arguments: argparse.Namespace) -> None:
    from kaznews.predict import load
    from kaznews.suggest import choose, label_studio_config, label_studio_tasks

    if arguments.n < 1:
        raise KaznewsError(f"--n must be at least 1, not {arguments.n}")
    rows = _read_input(arguments.input, arguments.column)
    bundle = load(arguments.model)
    chosen = choose(bundle, [row["text"] for row in rows], arguments.n, arguments.seed)
    tasks = label_studio_tasks(bundle, [rows[i] for i in chosen])
    target = Path(arguments.output)
    interface = target.with_suffix(".xml")
    for path, content in (
        (target, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"),
        (interface, label_studio_config(bundle)),
    ):
        with _atomic(path) as temporary:
            temporary.write_text(content, "utf-8")
    print(f"{len(tasks)} of {len(rows)} sentences in {target}; labelling interface in {interface}")


def _promote(arguments: argparse.Namespace) -> None:
    from kaznews import promotion

    version = promotion.promote(arguments.version, force=arguments.force)
    print(f"kaznews version {version} is champion")


def _rollback(arguments: argparse.Namespace) -> None:
    from kaznews import promotion

    print(f"kaznews version {promotion.rollback()} is champion again")


def _data(arguments: argparse.Namespace) -> None:
    from kaznews import gold
    from kaznews.root import ROOT

    mirror = Path(arguments.mirror) if arguments.mirror else None
    gold.prepare(ROOT / "data" / "gold", mirror)
    gold.prepare_whole(ROOT / "data" / "gold", mirror)


def _ui(arguments: argparse.Namespace) -> None:
    from kaznews import ui

    ui.serve(arguments.port, show=arguments.open)


def _serve(arguments: argparse.Namespace) -> None:
    from kaznews.serve import serve

    limits = Limits(arguments.max_rows, arguments.max_characters, arguments.max_body)
    serve(arguments.model, arguments.host, arguments.port, arguments.workers, limits)


def _train(arguments: argparse.Namespace) -> None:
    from kaznews import train

    sys.argv = ["kaznews train", *arguments.overrides]
    train.main()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="kaznews", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    predict = command("predict", _predict, "label sentences")
    predict.add_argument("text", nargs="*", help="sentences")
    predict.add_argument(
        "--input",
        help=f"file ({', '.join(INPUT_TYPES)}) or - for lines of stdin; in bulk also .gz, "
        "patterns, folders, hub:owner/set[:config[:split]], and s3:// or gs:// of Parquet",
    )
    predict.add_argument("--column", default="text", help="column of the input that is labelled")
    predict.add_argument(
        "--output",
        help=f"file ({', '.join(OUTPUT_TYPES)}), or a folder: in bulk, to be taken up after a "
        "break; default stdout",
    )
    predict.add_argument("--rows", type=int, default=50_000, help="in bulk: rows of a part")
    predict.add_argument("--jobs", type=int, default=-1, help="in bulk: processes, -1 for all")
    predict.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="in bulk: who labels"
    )
    predict.add_argument("--json", action="store_true", help="JSON Lines for arguments too")
    predict.add_argument(
        "--model", default=DEFAULT_MODEL, help="registry address, folder or exported .npz"
    )
    explain = command("explain", _explain, "show the n-grams that carried each label")
    explain.add_argument("text", nargs="+", help="sentences")
    explain.add_argument("--top", type=int, default=8, help="words that are listed a label")
    explain.add_argument("--model", default=DEFAULT_MODEL, help="registry address or folder")
    evaluate = command("evaluate", _evaluate, "score a model on a labelled file")
    evaluate.add_argument("--model", default=DEFAULT_MODEL, help="registry address or folder")
    evaluate.add_argument("--data", required=True, help="file with text and label columns")
    evaluate.add_argument("--split", help="only rows whose column split says so")
    evaluate.add_argument("--json", help="write the report here")
    evaluate.add_argument("--resamples", type=int, default=1000, help="for 95 %% intervals")
    evaluate.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    suggest = command("suggest", _suggest, "choose sentences worth labelling, for Label Studio")
    suggest.add_argument("--input", required=True, help="unlabelled sentences, as for predict")
    suggest.add_argument("--column", default="text", help="column of the input")
    suggest.add_argument("--output", default="suggest.json", help="tasks to import")
    suggest.add_argument("--n", type=int, default=100, help="how many")
    suggest.add_argument("--seed", type=int, default=0, help="of the clustering")
    suggest.add_argument("--model", default=DEFAULT_MODEL, help="registry address or folder")
    export = command("export", _export, "write a model as one file that needs NumPy alone")
    export.add_argument("file", nargs="?", default="kaznews.npz", help="file to write (.npz)")
    export.add_argument("--model", default=DEFAULT_MODEL, help="registry address or folder")
    promote = command("promote", _promote, "make the challenger, or a version, champion")
    promote.add_argument("--version", type=int)
    promote.add_argument(
        "--force", metavar="REASON", help="even if it saw dev or test in training; is recorded"
    )
    command("rollback", _rollback, "make the previous champion champion again")
    data = command("data", _data, "derive the real sentences of data=gold from public files")
    data.add_argument("--mirror", help="folder with <repo>/<path> instead of the network")
    ui = command("ui", _ui, "start the MLflow server on 127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    ui.add_argument("--open", action="store_true", help="open it in a browser")
    serve = command("serve", _serve, "answer requests over HTTP with MLflow's scoring server")
    serve.add_argument(
        "--model", default=DEFAULT_MODEL, help="registry address, folder or exported .npz"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument("--port", type=int, default=5001, help="0 for any free one")
    serve.add_argument("--workers", type=int, default=1, help="processes, each with the model")
    for name, what in (
        ("rows", "sentences a request may hold"),
        ("characters", "characters a sentence may have"),
        ("body", "bytes the body of a request may have"),
    ):
        default = getattr(Limits(), name)
        variable = f"KAZNEWS_MAX_{name.upper()}"
        serve.add_argument(
            f"--max-{name}",
            type=int,
            default=os.environ.get(variable, str(default)),
            metavar="N",
            help=f"{what} (default {default}; or {variable})",
        )
    train = command("train", _train, "train with Hydra overrides, as make train ARGS=…")
    train.add_argument("overrides", nargs=argparse.REMAINDER)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 with one clear line where the user has to mend something."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Hydra's own flags (-m, --cfg) belong to Hydra, not to argparse.
    if words[:1] == ["train"]:
        _train(argparse.Namespace(overrides=words[1:]))
        return 0
    arguments = build_parser().parse_args(words)
    try:
        arguments.run(arguments)
    except KaznewsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe has gone (head): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
