"""Suggestions: uncertain, different from each other, and a round trip through Label Studio."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TASKS, TOPIC

from kaznews import load as load_bundle
from kaznews.cli import main
from kaznews.data import load
from kaznews.reading import Source
from kaznews.suggest import choose, uncertainty


@pytest.fixture
def texts(corpus_rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in corpus_rows[1::17] if row["script"] == "cyrl"]


def test_uncertainty_is_zero_for_the_certain_and_one_for_the_undecided() -> None:
    values = uncertainty([np.array([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1]])])
    assert values[0] == pytest.approx(0)
    assert values[1] == pytest.approx(1)
    assert 0 < values[2] < 1


def test_chosen_sentences_are_more_uncertain_and_none_is_asked_twice(
    tracking_store: Path, texts: list[str]
) -> None:
    bundle = load_bundle()
    repeated = [*texts, *[t.upper() for t in texts], "", "  "]
    chosen = choose(bundle, repeated, 20, seed=0)
    assert len(chosen) == len(set(chosen)) == 20
    assert max(chosen) < len(texts)
    score = uncertainty(list(bundle.probabilities(texts).values()))
    assert score[chosen].mean() > score.mean()
    assert choose(bundle, repeated, 20, seed=0) == chosen
    assert len(choose(bundle, texts[:5], 20, seed=0)) == 5


def test_identical_neighbours_do_not_fill_the_batch(tracking_store: Path) -> None:
    bundle = load_bundle()
    alike = [f"Министр кеңесте сөз сөйледі, {i} сұрақ қаралды." for i in range(60)]
    others = ["Бюджет бекітілді.", "Команда ұтты.", "Көрме ашылды.", "Жаңбыр жауады.", "Өрт шықты."]
    chosen = choose(bundle, alike + others, 6, seed=0)
    assert sum(i >= len(alike) for i in chosen) >= 2


def test_round_trip_through_label_studio(
    tracking_store: Path, tmp_path: Path, texts: list[str]
) -> None:
    source, target = tmp_path / "unlabelled.txt", tmp_path / "tasks.json"
    source.write_text("\n".join(texts), "utf-8")
    assert main(["suggest", "--input", str(source), "--output", str(target), "--n", "12"]) == 0
    tasks = json.loads(target.read_text("utf-8"))
    assert len(tasks) == 12

    # The interface offers every label of every task, under the names that predictions refer to.
    interface = ElementTree.parse(tmp_path / "tasks.xml").getroot()
    choices = {c.get("name"): [x.get("value") for x in c] for c in interface.iter("Choices")}
    assert choices == {t.name: [*t.labels, *t.excluded] for t in TASKS}
    for task in tasks:
        assert set(task) == {"data", "predictions"}
        for result in task["predictions"][0]["result"]:
            assert result["value"]["choices"][0] in choices[result["from_name"]]
            assert (result["to_name"], result["type"]) == ("text", "choices")

    # A person accepts the predictions: Label Studio exports them as annotations.
    export = [
        {
            "id": i,
            "data": task["data"],
            "annotations": [
                {"id": i, "was_cancelled": False, "result": task["predictions"][0]["result"]}
            ],
            "predictions": [],
        }
        for i, task in enumerate(tasks)
    ]
    (tmp_path / "export.json").write_text(json.dumps(export), "utf-8")
    corpus = load(Source("files", (str(tmp_path / "export.json"),)), TASKS)
    assert set(corpus.dataset["text"]) <= set(load_texts(texts))
    expected = load_bundle().predict([task["data"]["text"] for task in tasks])
    assert corpus.labels(TOPIC) == expected["topic"].tolist()


def load_texts(texts: list[str]) -> list[str]:
    from kaznews.text import normalize

    return [normalize(text) for text in texts]


def test_nothing_to_choose_from_is_one_clear_error(
    tracking_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("\n \n", "utf-8")
    assert main(["suggest", "--input", str(tmp_path / "in.txt")]) == 2
    assert "no sentence to choose from" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json"))
