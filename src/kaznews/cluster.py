"""A prepared bulk run in, its parts labelled by a Ray cluster out; also Ray under joblib.

Ray schedules, moves work off nodes that die and sends it out again; what a part holds and how it is
written is `kaznews.bulk`'s affair, so that the folder is the same whoever filled it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kaznews.batches import Input
from kaznews.bulk import Job, Part, Run, Summary, close, found_part, label_part
from kaznews.errors import KaznewsError
from kaznews.parts import sole_writer

BACKENDS = ("loky", "ray")
# Blocks that Ray Data keeps account of: one a part, up to this many.
_BLOCKS = 5_000


def start(carried: tuple[str, ...] = ()) -> None:
    """Connect to the cluster that RAY_ADDRESS names; without it start a local one.

    Parameters
    ----------
    carried : tuple of str
        Environment variables that the workers shall have as this process has them.

    Raises
    ------
    KaznewsError
        Ray is not installed, or there is no cluster at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise KaznewsError("this needs Ray: make .venv/.ray, or pip install 'kaznews[ray]'")
    # Ray reports its use to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    here: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    if carried:
        here["runtime_env"] = {"env_vars": {n: os.environ[n] for n in carried if n in os.environ}}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise KaznewsError(f"no Ray cluster at {address}: {reason}") from None


@contextlib.contextmanager
def parallel(backend: str) -> Iterator[None]:
    """Let joblib run its jobs with this backend: ``loky`` (processes here) or ``ray`` (a cluster).

    Raises
    ------
    KaznewsError
        The backend is unknown, or Ray is not there.
    """
    if backend not in BACKENDS:
        raise KaznewsError(f"parallel must be {' or '.join(BACKENDS)}, not {backend!r}")
    if backend == "loky":
        yield
        return
    start()
    from joblib import parallel_config
    from ray.util.joblib import register_ray

    register_ray()
    logging.getLogger("ray.util.multiprocessing.pool").setLevel(logging.ERROR)
    with parallel_config(backend=backend):
        yield


class _Labeller:
    """What lives in an actor: the model, unpacked once, and the input to cut parts from."""

    def __init__(self, model: Any, suffix: str, source: Input, job: Job) -> None:
        import ray

        self.source = source
        # Removed with the actor.
        self.folder = tempfile.TemporaryDirectory(prefix="kaznews-")
        place = Path(self.folder.name) / f"model{suffix}"
        for name, content in ray.get(model).items():
            path = place / name if name else place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.job = replace(job, model=str(place))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        index, start, stop = (int(batch[key][0]) for key in ("index", "start", "stop"))
        # An error that is raised here would reach the user without its words.
        error = ""
        try:
            part = found_part(self.job, index, stop - start)
            if part is None:
                table = self.source.slice(start, stop, self.job.column)
                part = label_part(self.job, index, start, table)
        except KaznewsError as problem:
            part, error = Part(index, 0, 0, found=False), str(problem)
        return {key: [value] for key, value in {**asdict(part), "error": error}.items()}


def _packed(model: Path) -> dict[str, bytes]:
    """Return the files of a model by relative name; an exported file has none."""
    if model.is_file():
        return {"": model.read_bytes()}
    files = (path for path in model.rglob("*") if path.is_file())
    return {str(path.relative_to(model)): path.read_bytes() for path in files}


def label(
    run: Run, *, progress: Callable[[Any, int | None], Any] = lambda done, total: done
) -> Summary:
    """Label what is missing with one model an actor on all CPUs of a cluster; close the folder.

    The input and the folder must be where every node reaches them: a shared disk, s3 or gs. The
    model travels through Ray's object store.

    Parameters
    ----------
    run : Run
        Of Parquet: other formats cannot be read from the middle.
    progress : callable
        Wraps the iterator over parts, given it and how many will come.

    Raises
    ------
    KaznewsError
        The input is not Parquet, there is no cluster, or a part cannot be labelled; finished
        parts stay.
    """
    rows = run.source.rows()
    if rows is None:
        raise KaznewsError(f"--engine ray reads Parquet, not {run.source.name}")
    start()
    from ray.exceptions import RayError

    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    starts = range(0, max(rows, 1), run.size)
    items = [
        {"index": i, "start": first, "stop": min(first + run.size, rows)}
        for i, first in enumerate(starts)
    ]
    model = Path(run.job.model)
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    # Held here, so that an actor that moves to another node finds it again.
    packed = ray.put(_packed(model))
    labelled = ray.data.from_items(items, override_num_blocks=min(len(items), _BLOCKS)).map_batches(
        _Labeller,
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=cpus),
        fn_constructor_kwargs={
            "model": packed,
            "suffix": model.suffix,
            "source": run.source,
            "job": run.job,
        },
    )
    with sole_writer(run.job.folder):
        done = []
        try:
            for row in progress(labelled.iter_rows(), len(items)):
                if error := row.pop("error"):
                    raise KaznewsError(error)
                done.append(Part(**row))
        except RayError as error:
            raise KaznewsError(f"Ray gave up: {str(error).strip().splitlines()[0]}") from error
        return close(run, done)
