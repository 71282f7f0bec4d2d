"""Promotion: who is refused, what stays behind, and that two at once leave one champion."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from tests.conftest import TASKS, store_environment

from kaznews import promotion
from kaznews.cli import main
from kaznews.data import Corpus, load
from kaznews.errors import KaznewsError
from kaznews.gate import Decision, Limits
from kaznews.judge import origins, seen_rows, submit
from kaznews.predict import Bundle, seen_keys
from kaznews.predict import load as load_bundle
from kaznews.reading import Source
from kaznews.split import Split
from kaznews.tracking import task_model_name

NAMES = ["kaznews", *(task_model_name(task.name) for task in TASKS)]
LIMITS = Limits(0.95, 100, 0.5, 10, 0.05, 0.5, {})


@pytest.fixture
def registry(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a client on a copy of the trained store, with versions 2 and 3 of every model."""
    shutil.copy(store / "mlflow.db", tmp_path / "mlflow.db")
    for name, value in store_environment(tmp_path).items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient()
    for version in ("2", "3"):
        for name in [*NAMES[1:], NAMES[0]]:
            tags = {f"version.{task}": version for task in NAMES[1:]} if name == "kaznews" else {}
            source = client.get_model_version(name, "1").source
            client.create_model_version(name, source, tags=tags)
            client.set_registered_model_alias(name, "challenger", version)
    yield client
    mlflow.set_tracking_uri(before)


def who(client: Any, name: str = "kaznews") -> dict[str, int]:
    found = client.get_registered_model(name).aliases
    return {alias: int(version) for alias, version in found.items() if alias != "challenger"}


def test_promotion_keeps_the_old_champion_as_previous_with_its_task_models(registry: Any) -> None:
    assert who(registry) == {"champion": 1}
    assert promotion.promote() == 3
    for name in NAMES:
        assert who(registry, name) == {"champion": 3, "previous": 1}
    assert promotion.promote(2) == 2
    for name in NAMES:
        assert who(registry, name) == {"champion": 2, "previous": 3}


def test_the_runs_of_bundles_say_which_aliases_they_hold(registry: Any) -> None:
    run_id = registry.get_model_version("kaznews", "1").run_id
    experiment = registry.get_run(run_id).info.experiment_id
    other = registry.create_run(experiment).info.run_id
    source = registry.get_model_version("kaznews", "1").source
    registry.create_model_version("kaznews", source, run_id=other)

    def held(run: str) -> str | None:
        return registry.get_run(run).data.tags.get("alias")

    promotion.mark_runs()
    # The challenger is version 3: the same model, of the same run.
    assert (held(run_id), held(other)) == ("challenger, champion", None)
    promotion.promote(4)
    assert (held(run_id), held(other)) == ("challenger, previous", "champion")
    registry.delete_run(run_id)
    promotion.promote(2)
    assert held(other) == "previous"
    promotion.promote(3)
    assert held(other) is None


def test_promoting_the_champion_again_forgets_nothing(registry: Any) -> None:
    promotion.promote(2)
    promotion.promote(2)
    assert who(registry) == {"champion": 2, "previous": 1}


def test_rollback_returns_to_the_previous_and_a_second_one_undoes_it(
    registry: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback"]) == 2
    assert "no previous champion" in capsys.readouterr().err
    promotion.promote(3)
    assert main(["rollback"]) == 0
    assert "version 1 is champion again" in capsys.readouterr().out
    for name in NAMES:
        assert who(registry, name) == {"champion": 1, "previous": 3}
    assert promotion.rollback() == 3
    for name in NAMES:
        assert who(registry, name) == {"champion": 3, "previous": 1}


def test_a_version_that_saw_held_out_sentences_is_refused_unless_forced_with_a_reason(
    registry: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.set_model_version_tag("kaznews", "3", promotion.SAW_TAG, "4 dev sentences")
    for words in (["promote"], ["promote", "--version", "3"]):
        assert main(words) == 2
        assert "version 3 is refused: it was trained on 4 dev sentences" in capsys.readouterr().err
    assert main(["promote", "--version", "3", "--force", " "]) == 2
    assert "needs a reason" in capsys.readouterr().err
    assert who(registry) == {"champion": 1}
    assert main(["promote", "--version", "3", "--force", "a demonstration"]) == 0
    assert who(registry) == {"champion": 3, "previous": 1}
    assert registry.get_model_version("kaznews", "3").tags["forced"] == "a demonstration"


def test_what_cannot_be_promoted_leaves_the_champion(registry: Any) -> None:
    with pytest.raises(KaznewsError, match="kaznews has no version 99"):
        promotion.promote(99)
    registry.delete_model_version(NAMES[2], "3")
    with pytest.raises(KaznewsError, match=f"{NAMES[2]} has no version 3"):
        promotion.promote(3)
    for name in NAMES:
        assert who(registry, name) == {"champion": 1}


def test_a_deleted_task_model_of_the_old_champion_does_not_hold_it_up(registry: Any) -> None:
    registry.delete_model_version(NAMES[2], "1")
    assert promotion.promote(2) == 2
    assert who(registry) == {"champion": 2, "previous": 1}
    assert who(registry, NAMES[2]) == {"champion": 2}


def test_a_registry_that_cannot_be_read_is_not_one_without_champion(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def broken(*_: Any) -> None:
        raise MlflowException("database is locked")

    assert promotion.aliases("nobody") == {}
    monkeypatch.setattr(mlflow.MlflowClient, "get_registered_model", broken)
    with pytest.raises(KaznewsError, match="database is locked"):
        promotion.aliases()


def promoter(folder: Path, version: int, times: int) -> subprocess.Popen[str]:
    """Return a process that has imported everything and promotes at a line on its input."""
    code = (
        "import mlflow, sys\nfrom kaznews.promotion import aliases, promote\naliases()\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"for _ in range({times}): promote({version})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=store_environment(folder), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_promotions_at_once_leave_one_champion_and_never_none(
    registry: Any, tmp_path: Path
) -> None:
    started = [promoter(tmp_path, version, times=8) for version in (2, 3)]
    for process in started:
        go(process)
    looks = 0
    while any(process.poll() is None for process in started):
        assert who(registry)["champion"] in (1, 2, 3)
        looks += 1
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert looks > 5
    # Interleaved, a bundle of one version would stand beside task models of the other.
    final = who(registry)
    assert sorted(final.values()) == [2, 3]
    for name in NAMES:
        assert who(registry, name) == final


def test_another_process_waits_for_who_holds_the_lock(registry: Any, tmp_path: Path) -> None:
    other = promoter(tmp_path, 2, times=1)
    with promotion.alone():
        go(other)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=2)
        # What is decided under the lock still holds when it is done; it may be taken again.
        assert who(registry) == {"champion": 1}
        promotion.promote(3)
        assert who(registry) == {"champion": 3, "previous": 1}
    _, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    assert who(registry) == {"champion": 2, "previous": 3}


@pytest.fixture(scope="module")
def corpus(small_file: Path) -> Corpus:
    return load(Source("files", (str(small_file),)), TASKS)


def test_sentences_are_recognised_by_text_article_and_group_not_by_line_number(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.csv"
    lines = [
        "text,topic,article,contrast",
        "Бір.,sport,a,",
        "Екі.,economy,b,pair",
        "Үш.,sport,c,pair",
        "Төрт.,economy,,",
        "Бес.,sport,,",
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    names = origins(load(Source("files", (str(path),)), TASKS))
    assert names == [{"a"}, {"b"}, {"b", "c"}, set(), set()]

    def seen(texts: list[str], groups: list[str], text: str, index: int) -> bool:
        bundle = Bundle((), seen_keys(texts, groups))
        (answer,) = seen_rows(bundle, [text], [names[index]])
        return answer

    assert seen(["Бір."], [], "Бір.", 0)
    assert seen([], ["a"], "Бір.", 0)
    # The article of a sentence counts as well as the group that it shares with another article.
    assert seen([], ["c"], "Үш.", 2)
    assert seen([], ["b"], "Үш.", 2)
    assert not seen(["Бір."], ["a"], "Екі.", 1)
    assert seen(["Төрт."], [], "Төрт.", 3)
    assert not seen(["Басқа."], ["rows.csv:4"], "Төрт.", 3)


@pytest.mark.parametrize(("part", "by"), [("dev", "text"), ("test", "article")])
def test_a_bundle_trained_on_held_out_sentences_is_registered_tagged_and_refused(
    registry: Any, tmp_path: Path, corpus: Corpus, part: str, by: str
) -> None:
    (row,) = np.flatnonzero([t == "sport" for t in corpus.labels(TASKS[0])])[:1].tolist()
    parts = np.full(len(corpus.dataset), "train", dtype="<U5")
    parts[row] = part
    split = Split(parts, np.zeros(len(parts), dtype=np.int64), "fixed")
    text, article = corpus.dataset["text"][row], corpus.dataset["article"][row]
    keys = seen_keys([text], []) if by == "text" else seen_keys([], [article])
    champion = load_bundle()
    model_id = registry.get_model_version("kaznews", "1").source.removeprefix("models:/")
    experiment = registry.create_experiment("other", (tmp_path / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        version, decision = submit(
            replace(champion, seen=keys), model_id, [], corpus, split, LIMITS,
            seed=0, versions=dict.fromkeys(NAMES[1:], 3),
        )  # fmt: skip
    assert not decision.promote
    tags = registry.get_model_version("kaznews", str(version)).tags
    assert tags["saw_held_out"] == f"1 {part} sentences"
    assert "trained on 1 " in tags["decision"]
    assert registry.get_run(run.info.run_id).data.tags["promoted"] == "false"
    assert who(registry) == {"champion": 1}
    with pytest.raises(KaznewsError, match=f"version {version} is refused"):
        promotion.promote()


def labelled(tasks: Any) -> Any:
    """Return as much of training results as the gate reads: the baseline's main metrics."""
    return [
        SimpleNamespace(
            task=task, majority={"dev": SimpleNamespace(metrics={task.main_metric: 0.0})}
        )
        for task in tasks
    ]


def test_nobody_promotes_between_a_judgement_and_its_promotion(
    registry: Any, tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaznews import judge

    other = promoter(tmp_path, 2, times=1)

    def slow(*_: Any) -> Decision:
        go(other)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=2)
        assert who(registry) == {"champion": 1}
        return Decision(True, "for the test")

    monkeypatch.setattr(judge, "compare", slow)
    split = Split(
        np.array(["train"] * len(corpus.dataset)), np.zeros(len(corpus.dataset), np.int64), ""
    )
    model_id = registry.get_model_version("kaznews", "1").source.removeprefix("models:/")
    experiment = registry.create_experiment("other", (tmp_path / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        version, _ = submit(
            load_bundle(), model_id, [], corpus, split, LIMITS,
            seed=0, versions=dict.fromkeys(NAMES[1:], 3),
        )  # fmt: skip
    _, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    assert who(registry) == {"champion": 2, "previous": version}


def test_the_champions_training_sentences_count_for_neither(
    registry: Any, tmp_path: Path, corpus: Corpus
) -> None:
    champion = load_bundle()
    model_id = registry.get_model_version("kaznews", "1").source.removeprefix("models:/")
    known = seen_rows(champion, list(corpus.dataset["text"]), origins(corpus))
    parts = np.array(["dev" if i % 2 else "train" for i in range(len(known))], dtype="<U5")
    split = Split(parts, np.zeros(len(parts), dtype=np.int64), "fixed")
    experiment = registry.create_experiment("other", (tmp_path / "artifacts").as_uri())
    clean = replace(champion, seen=seen_keys([], []))
    reasons = []
    for min_unseen in (1.0, 0.01):
        with mlflow.start_run(experiment_id=experiment):
            _, decision = submit(
                clean, model_id, labelled(TASKS), corpus, split,
                replace(LIMITS, min_unseen=min_unseen),
                seed=0, versions=dict.fromkeys(NAMES[1:], 3),
            )  # fmt: skip
        assert not decision.promote
        reasons.append(decision.reason)
    assert f"trained on {sum(known[1::2])} of {len(known[1::2])} dev sentences" in reasons[0]
    # The same model against itself on what remains: comparable, and no better.
    assert reasons[1].startswith("failed: tasks better")
