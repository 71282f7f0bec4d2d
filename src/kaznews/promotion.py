"""A bundle version in, the aliases champion and previous moved: promotion, rollback, their lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from kaznews.errors import KaznewsError
from kaznews.tracking import BUNDLE_NAME, CHALLENGER, registry, registry_database, registry_error
from kaznews.views import ALIAS_TAG

CHAMPION, PREVIOUS = "champion", "previous"
# Tags of a bundle version.
VERSION_PREFIX = "version."
SAW_TAG = "saw_held_out"
FORCED_TAG = "forced"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the store's promotion lock: who reads the champion and then moves it must be alone.

    A file lock beside a SQLite store; a thread that holds it may take it again. Other stores have
    no lock: there each alias still moves in one step, but of two decisions the later one stands.
    """
    from filelock import FileLock

    database = registry_database()
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.promotion.lock", is_singleton=True):
        yield


def aliases(name: str = BUNDLE_NAME) -> dict[str, int]:
    """Return the aliases of a registered model and their versions; none of an unknown model.

    Raises
    ------
    KaznewsError
        The registry cannot be read: that must not pass for a registry without a champion.
    """
    try:
        found = registry().get_registered_model(name)
    except registry_error() as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise KaznewsError(f"cannot read the registry: {str(error).splitlines()[0]}") from None
    return {alias: int(version) for alias, version in found.aliases.items()}


def _version(client: Any, name: str, version: int | str) -> Any:
    try:
        return client.get_model_version(name, str(version))
    except registry_error() as error:
        reason = str(error).splitlines()[0]
        raise KaznewsError(f"{name} has no version {version}: {reason}") from None


def _members(bundle: Any) -> list[tuple[str, str]]:
    """Return name and version of the task models of a bundle version, the bundle itself last."""
    tags: Mapping[str, str] = bundle.tags
    tasks = [
        (k.removeprefix(VERSION_PREFIX), v) for k, v in tags.items() if k.startswith(VERSION_PREFIX)
    ]
    return [*sorted(tasks), (BUNDLE_NAME, str(bundle.version))]


def promote(version: int | None = None, *, force: str | None = None) -> int:
    """Make a bundle version, and the task models in it, champion; return the version.

    The champion so far, and its task models, get the alias previous.

    Parameters
    ----------
    version : int, optional
        Default the challenger.
    force : str, optional
        Why a version is promoted although the gate found that it had seen dev or test sentences;
        recorded in its tag ``forced``.

    Raises
    ------
    KaznewsError
        There is no such version, a task model of it has been deleted, or it had seen dev or test
        sentences in training and `force` gives no reason.
    """
    client = registry()
    if force is not None and not force.strip():
        raise KaznewsError("--force needs a reason: it is recorded in a tag of the version")
    with alone():
        now = aliases()
        if version is None:
            if CHALLENGER not in now:
                raise KaznewsError(f"{BUNDLE_NAME} has no {CHALLENGER}; train one: make train")
            version = now[CHALLENGER]
        chosen = _version(client, BUNDLE_NAME, version)
        saw = chosen.tags.get(SAW_TAG)
        if saw and force is None:
            raise KaznewsError(
                f"version {version} is refused: it was trained on {saw} or on their articles, so "
                "its scores say nothing; --force REASON promotes it all the same"
            )
        if force is not None:
            client.set_model_version_tag(BUNDLE_NAME, str(version), FORCED_TAG, force.strip())
        _move(client, chosen, now.get(CHAMPION))
    return int(chosen.version)


def rollback() -> int:
    """Make the previous champion champion again and return its version.

    The two change places: a second rollback undoes the first.

    Raises
    ------
    KaznewsError
        There is no previous champion.
    """
    client = registry()
    with alone():
        now = aliases()
        if PREVIOUS not in now:
            raise KaznewsError(f"{BUNDLE_NAME} has no {PREVIOUS} champion to return to")
        # Without the check for held-out sentences: it has been champion before.
        chosen = _version(client, BUNDLE_NAME, now[PREVIOUS])
        _move(client, chosen, now.get(CHAMPION))
    return int(chosen.version)


def mark_runs() -> None:
    """Say in a tag of each run which aliases its bundle holds; the run table shows and filters it.

    A run that has been deleted is passed over.
    """
    client = registry()
    held: dict[str, list[str]] = {}
    for alias, version in sorted(aliases().items()):
        if run_id := _version(client, BUNDLE_NAME, version).run_id:
            held.setdefault(run_id, []).append(alias)
    experiments = set()
    for run_id, names in held.items():
        with contextlib.suppress(registry_error()):
            experiments.add(client.get_run(run_id).info.experiment_id)
            client.set_tag(run_id, ALIAS_TAG, ", ".join(names))
    if not experiments:
        return
    for run in client.search_runs(list(experiments), f"tags.{ALIAS_TAG} LIKE '%'"):
        if run.info.run_id not in held:
            client.delete_tag(run.info.run_id, ALIAS_TAG)


def _move(client: Any, chosen: Any, champion: int | None) -> None:
    """Give `chosen` the alias champion, and the champion so far the alias previous.

    An alias moves in one step, so that at any moment there is a champion. That of the bundle moves
    last: what is interrupted before has not promoted, and can be repeated.
    """
    for name, version in _members(chosen):
        _version(client, name, version)
    if champion is not None and champion != int(chosen.version):
        for name, version in _members(_version(client, BUNDLE_NAME, champion)):
            # A task model that someone has deleted is no reason to keep its bundle champion.
            with contextlib.suppress(registry_error()):
                client.set_registered_model_alias(name, PREVIOUS, version)
    for name, version in _members(chosen):
        client.set_registered_model_alias(name, CHAMPION, version)
    mark_runs()
