"""The configuration: every option composes, deltas only, wrong values refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from kaznews.errors import KaznewsError
from kaznews.estimators import check_targets
from kaznews.root import ROOT
from kaznews.settings import Settings
from kaznews.train import register_resolvers, resolve, run_from_config

CONF = ROOT / "conf"
GROUPS = ["task", "data", "split", "features", "classifier", "confidence"]
GROUPS += ["distil", "search", "gate", "experiment"]
OPTIONS = [
    (path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml")) if path.stem[0] != "_"
]


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def composed(*overrides: str) -> Any:
    return compose("config", overrides=["data.files=[x.jsonl]", "data.path=x", *overrides])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_into_the_schema(group: str, option: str) -> None:
    config = OmegaConf.merge(OmegaConf.structured(Settings), composed(f"{group}={option}"))
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, Settings)
    assert settings.task_list()
    check_targets(settings.features, "features")
    check_targets(settings.classifier, "classifier")


def test_the_groups_are_those_of_the_house() -> None:
    assert sorted(GROUPS) == sorted(path.name for path in CONF.iterdir() if path.is_dir())
    assert len((CONF / "config.yaml").read_text("utf-8").splitlines()) < 31


@pytest.mark.parametrize("preset", [o for g, o in OPTIONS if g == "experiment"])
def test_a_preset_holds_deltas_only(preset: str) -> None:
    base = OmegaConf.to_container(composed(), resolve=False)
    own = yaml.safe_load((CONF / "experiment" / f"{preset}.yaml").read_text("utf-8"))
    for entry in own.pop("defaults", []):
        # Other presets by name, options of one task, or other options of a group.
        if isinstance(entry, str):
            assert entry == "_self_" or ("experiment", entry) in OPTIONS
            continue
        ((key, value),) = entry.items()
        assert key.startswith(("override /", "/features@per_task.", "/classifier@per_task."))
        if key.startswith("override /") and key != "override /task":
            assert value != compose_choice(key.removeprefix("override /"))
    chosen = OmegaConf.to_container(composed(f"experiment={preset}"), resolve=False)

    def check(own: Any, base: Any, chosen: Any) -> None:
        for key, value in own.items():
            if isinstance(value, dict):
                check(value, base.get(key) or {}, chosen[key])
            else:
                assert key not in base or base[key] != value
                assert chosen[key] == value

    check(own, base, chosen)


def test_the_best_preset_says_nothing_that_a_preset_of_a_task_says() -> None:
    own = yaml.safe_load((CONF / "experiment" / "best.yaml").read_text("utf-8"))
    assert set(own) == {"defaults"}
    tasks = list(composed().tasks)
    assert [entry for entry in own["defaults"] if isinstance(entry, str)] == tasks
    best = composed("experiment=best")
    assert list(best.tasks) == list(best.per_task) == tasks
    for task in tasks:
        alone = composed(f"experiment={task}")
        assert list(alone.tasks) == [task]
        assert alone.per_task[task] == best.per_task[task]
        assert alone.data == best.data


def test_a_task_learns_with_its_own_estimators_and_weights_or_with_those_of_all() -> None:
    overrides = [
        "features@per_task.topic.features=word",
        "per_task.topic.features.ngram_range=[1,1]",
        "+per_task.topic.weights={written:0.5}",
        "+per_task.stance_trade_balance.weights={}",
        "weights={real:2}",
    ]
    config = composed(*(f"+{o}" if o.startswith("features@") else o for o in overrides))
    choices = {"features": "char_wb", "classifier": "linear_svc"}
    choices["features@per_task.topic.features"] = "word"
    learners = resolve(config).learners(choices)
    topic, cooperation, trade = (learners[name] for name in config.tasks)
    assert topic.names == {"features": "word", "classifier": "linear_svc"}
    assert topic.vectorizer.analyzer == "word"
    assert topic.vectorizer.ngram_range == (1, 1)
    assert topic.values["features.ngram_range"] == [1, 1]
    assert topic.values["classifier.C"] == 0.5
    assert topic.values["weights.written"] == 0.5
    assert [learner.weights for learner in (topic, cooperation, trade)] == [
        {"written": 0.5}, {"real": 2.0}, {},
    ]  # fmt: skip
    assert cooperation.names == {"features": "char_wb", "classifier": "linear_svc"}
    assert cooperation.vectorizer.analyzer == "char_wb"


def compose_choice(group: str) -> str:
    defaults = yaml.safe_load((CONF / "config.yaml").read_text("utf-8"))["defaults"]
    return next(str(d[group]) for d in defaults if isinstance(d, dict) and group in d)


def test_the_first_line_of_every_option_says_what_it_is() -> None:
    for group, option in OPTIONS:
        lines = (CONF / group / f"{option}.yaml").read_text("utf-8").splitlines()
        assert any(line.startswith("# ") and "@package" not in line for line in lines[:2])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+colour=red", "configuration: Key 'colour' not in 'Settings'"),
        ("seed=often", "configuration: Value 'often' .* could not be converted to Integer"),
        ("split.n_folds=[1]", "configuration: .*"),
        ("gate.collapse=2", "gate.collapse must be between 0 and 1, not 2.0"),
        (
            "gate.floors.topic=high",
            "configuration: Value .high. .* could not be converted to Float",
        ),
        ("calibration=platt", "calibration must be auto, none, temperature, isotonic, not 'platt'"),
        ("abstain.target_accuracy=90", "abstain.target_accuracy must be between 0 and 1, not 90.0"),
        ("+abstain.per_task.topics=0.9", "abstain.per_task names topics; the tasks of this run"),
        ("parallel=threads", "parallel must be loky or ray, not 'threads'"),
        ("command=search", "command=search needs search=default"),
        ("+per_task.topic.colour=red", "configuration: Key 'colour' not in 'OwnSettings'"),
        ("+per_task.topic.features._target_=os.system", "per_task.topic.features._target_=os.sys"),
        ("command=stream", r"command=stream needs features without a vocabulary"),
        ("classifier._target_=os.system", "classifier._target_=os.system: expected an estimator"),
        ("+classifier.colour=red", "classifier: Error in call to target .*LinearSVC"),
    ],
)
def test_wrong_values_are_one_clear_error(override: str, message: str) -> None:
    with pytest.raises(KaznewsError, match=message) as caught:
        run_from_config(composed("data.files=[nowhere.jsonl]", override), {})
    assert len(str(caught.value).splitlines()) == 1


def test_the_order_of_classes_is_that_of_the_guidelines() -> None:
    settings: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Settings), composed()))
    topic, *stances = settings.task_list()
    assert topic.labels[:3] == ("economic_cooperation", "trade_balance", "economy")
    assert topic.excluded == ("unclear",)
    assert [s.labels for s in stances] == [("favor", "against", "none")] * 2
