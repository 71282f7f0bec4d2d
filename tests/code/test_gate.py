"""The gate: what each check lets through and what it stops, with constructed answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import STANCES, TOPIC

from kaznews.errors import KaznewsError
from kaznews.evaluate import evaluate
from kaznews.gate import (
    Answers,
    Contest,
    Decision,
    Limits,
    decide,
    incomparable,
    paired_noise,
    refuse,
)

STANCE = STANCES[0]
LIMITS = Limits(
    confidence=0.95,
    resamples=500,
    collapse=0.5,
    min_support=10,
    log_loss_margin=0.05,
    min_unseen=0.5,
    floors={STANCE.name: 0.2},
)
# 240 sentences in 120 articles, every stance equally often.
TRUE = [("favor", "against", "none")[i % 3] for i in range(240)]
GROUPS = [f"article {i // 2}" for i in range(240)]


def answers(labels: list[str], sure: float = 0.4) -> Answers:
    """Return answers that give each label the probability `sure`, the others the rest."""
    rest = (1 - sure) / (len(STANCE.labels) - 1)
    rows = [[sure if c == label else rest for c in STANCE.labels] for label in labels]
    return Answers(np.array(rows), STANCE.labels)


def with_errors(positions: range) -> list[str]:
    """Return the gold labels, wrong at some positions."""
    turned = {"favor": "against", "against": "none", "none": "favor"}
    return [turned[t] if i in positions else t for i, t in enumerate(TRUE)]


def contest(new: Answers, old: Answers | None, majority: float = 0.0) -> Contest:
    return Contest(STANCE, TRUE, GROUPS, new, old, majority)


def failed(decision: Decision) -> set[str]:
    return {check.check for check in decision.checks if not check.passed}


GOOD, FAIR = answers(with_errors(range(30))), answers(with_errors(range(60)))


def test_a_better_challenger_is_promoted_and_the_reason_names_where_it_is_better() -> None:
    decision = decide([contest(GOOD, FAIR)], LIMITS)
    assert decision.promote
    assert STANCE.name in decision.reason
    assert failed(decision) == set()


def test_an_equal_challenger_is_not_promoted() -> None:
    decision = decide([contest(FAIR, FAIR)], LIMITS)
    assert not decision.promote
    assert failed(decision) == {"tasks better"}


def test_a_clearly_worse_task_stops_a_challenger_that_is_better_elsewhere() -> None:
    other = replace(contest(FAIR, GOOD), task=replace(STANCE, name="other"))
    decision = decide([contest(GOOD, FAIR), other], LIMITS)
    assert not decision.promote
    assert failed(decision) == {"f_favor_against within noise of champion"}
    assert "other f_favor_against within noise" in decision.reason


def test_a_task_worse_by_less_than_noise_does_not_stop_it() -> None:
    # One error more, and 20 others: less than the noise of two models that differ so.
    shifted = answers(with_errors(range(20, 51)))
    worse = contest(shifted, GOOD)
    assert paired_noise(worse, LIMITS, 0) > 0.02
    other = replace(worse, task=replace(STANCE, name="other"))
    decision = decide([contest(GOOD, FAIR), other], LIMITS)
    (row,) = [c for c in decision.checks if c.task == "other" and "noise" in c.check]
    assert row.challenger is not None
    assert row.champion is not None
    assert row.limit is not None
    assert row.limit < row.challenger < row.champion
    assert decision.promote


def test_noise_is_paired_models_that_err_alike_have_none() -> None:
    assert paired_noise(contest(FAIR, FAIR), LIMITS, 0) == 0
    elsewhere = answers(with_errors(range(100, 160)))
    assert paired_noise(contest(elsewhere, FAIR), LIMITS, 0) > 0.05


@given(
    st.lists(
        st.tuples(*[st.sampled_from(STANCE.labels)] * 3, st.integers(0, 5)),
        min_size=2,
        max_size=40,
    )
)
def test_noise_equals_a_loop_over_resampled_sentences(
    rows: list[tuple[str, str, str, int]],
) -> None:
    true, new, old, groups = map(list, zip(*rows, strict=True))
    names = [str(g) for g in groups]
    limits = replace(LIMITS, resamples=20)
    pair = Contest(STANCE, true, names, answers(new), answers(old), 0.0)
    units = sorted(set(names))
    draws = np.random.default_rng(3).multinomial(
        len(units), np.full(len(units), 1 / len(units)), size=20
    )

    def metric(said: list[str], times: list[int]) -> float:
        chosen = [i for i, n in enumerate(names) for _ in range(times[units.index(n)])]
        report = evaluate(STANCE, [true[i] for i in chosen], [said[i] for i in chosen])
        return report.metrics["f_favor_against"]

    once = [1] * len(units)
    lost = [metric(old, d) - metric(new, d) for d in draws.tolist()]
    expected = np.quantile(lost, 0.95) - (metric(old, once) - metric(new, once))
    assert paired_noise(pair, limits, 3) == pytest.approx(max(0.0, expected))


def test_noise_resamples_whole_articles() -> None:
    elsewhere = answers(with_errors(range(100, 160)))
    alone = replace(contest(elsewhere, FAIR), groups=[str(i) for i in range(240)])
    large = replace(contest(elsewhere, FAIR), groups=[str(i // 20) for i in range(240)])
    assert paired_noise(large, LIMITS, 0) > 1.5 * paired_noise(alone, LIMITS, 0)


def test_a_collapsed_class_stops_a_challenger_that_is_better_by_its_metric() -> None:
    # A champion weak on favor and against, a challenger that has given up `none`.
    old = answers(
        ["none" if t != "none" and i % 2 else t for i, t in enumerate(TRUE)],
    )
    new = answers([t if t != "none" or i % 8 == 0 else "favor" for i, t in enumerate(TRUE)])
    limits = replace(LIMITS, log_loss_margin=10.0)
    decision = decide([contest(new, old)], limits)
    assert failed(decision) == {"f1_none not collapsed"}
    assert decide([contest(new, old)], replace(limits, collapse=0.1)).promote
    # Too few sentences of a class say nothing about it.
    assert decide([contest(new, old)], replace(limits, min_support=81)).promote


def test_a_class_may_fall_to_half_of_the_champions_f1_and_no_lower() -> None:
    old = contest(GOOD, GOOD)
    f1 = evaluate(STANCE, TRUE, GOOD.labels).metrics["f1_favor"]
    (row,) = [c for c in decide([old], LIMITS).checks if c.check == "f1_favor not collapsed"]
    assert row.limit == pytest.approx(f1 / 2)
    assert row.champion == pytest.approx(f1)


def test_worse_calibration_stops_a_challenger_with_better_labels() -> None:
    reckless = answers(GOOD.labels, sure=1 - 1e-9)
    decision = decide([contest(reckless, FAIR)], LIMITS)
    assert failed(decision) == {"log_loss within margin"}
    assert "log_loss within margin" in decision.reason
    assert decide([contest(reckless, FAIR)], replace(LIMITS, log_loss_margin=100.0)).promote


def test_a_floor_holds_with_and_without_a_champion() -> None:
    value = evaluate(STANCE, TRUE, GOOD.labels).metrics["f_favor_against"]
    for old in (FAIR, None):
        pair = contest(GOOD, old)
        at_it = replace(LIMITS, floors={STANCE.name: value})
        above = replace(LIMITS, floors={STANCE.name: value + 1e-6})
        assert decide([pair], at_it).promote
        assert failed(decide([pair], above)) == {"f_favor_against at least floor"}
        assert decide([pair], replace(LIMITS, floors={"another": 1.0})).promote


def test_the_first_champion_must_beat_the_majority_on_every_task() -> None:
    other = replace(contest(FAIR, None, majority=0.99), task=replace(STANCE, name="other"))
    assert decide([contest(GOOD, None, majority=0.3)], LIMITS).promote
    decision = decide([contest(GOOD, None, majority=0.3), other], LIMITS)
    assert failed(decision) == {"f_favor_against above majority"}
    assert "other" in decision.reason
    # Equal is not better.
    value = evaluate(STANCE, TRUE, GOOD.labels).metrics["f_favor_against"]
    assert not decide([contest(GOOD, None, majority=value)], LIMITS).promote


def test_every_failed_check_is_a_reason() -> None:
    bad = answers(["none"] * 240, sure=1 - 1e-9)
    decision = decide([contest(bad, GOOD)], LIMITS)
    assert failed(decision) == {
        "f_favor_against at least floor", "f_favor_against within noise of champion",
        "f1_favor not collapsed", "f1_against not collapsed", "log_loss within margin",
        "tasks better",
    }  # fmt: skip
    assert all(name in decision.reason for name in failed(decision))


def test_sentences_without_a_label_do_not_count() -> None:
    true: list[str | None] = ["sport", "economy", "unclear", None] * 10
    said = Answers(np.tile([[0.9, 0.1], [0.1, 0.9]], (20, 1)), ("sport", "economy"))
    wrong = Answers(said.probability[:, ::-1], ("sport", "economy"))
    pair = Contest(TOPIC, true, [str(i) for i in range(40)], said, wrong, 0.0)
    decision = decide([pair], LIMITS)
    assert decision.promote
    (row,) = [c for c in decision.checks if "noise" in c.check]
    assert (row.challenger, row.champion) == (1.0, 0.0)


def test_a_champion_of_another_scheme_cannot_be_compared() -> None:
    stranger = Answers(np.ones((240, 1)), ("pro",))
    with pytest.raises(KaznewsError, match="does not have: pro"):
        decide([contest(GOOD, stranger)], LIMITS)


def test_the_seed_decides_the_decision() -> None:
    pair = contest(answers(with_errors(range(100, 160))), FAIR)
    assert decide([pair], LIMITS, 1) == decide([pair], LIMITS, 1)
    assert paired_noise(pair, LIMITS, 1) != paired_noise(pair, LIMITS, 2)


def test_a_challenger_that_saw_held_out_sentences_is_refused() -> None:
    assert refuse({"dev": 0, "test": 0}) is None
    for seen, saw in (
        ({"dev": 2, "test": 0}, "2 dev sentences"),
        ({"dev": 0, "test": 1}, "1 test sentences"),
        ({"dev": 2, "test": 1}, "2 dev sentences and 1 test sentences"),
    ):
        decision = refuse(seen)
        assert decision is not None
        assert not decision.promote
        assert decision.saw == saw
        assert len(failed(decision)) == sum(bool(count) for count in seen.values())


def test_a_champion_that_saw_most_of_dev_cannot_be_compared() -> None:
    assert incomparable([True] * 5 + [False] * 5, LIMITS) is None
    decision = incomparable([True] * 6 + [False] * 4, LIMITS)
    assert decision is not None
    assert not decision.promote
    assert "6 of 10 dev sentences" in decision.reason
    assert incomparable([True] * 4, replace(LIMITS, min_unseen=0.0)) is not None


def test_the_table_has_one_row_a_check_and_reads_as_markdown() -> None:
    decision = decide([contest(GOOD, FAIR)], LIMITS)
    rows = decision.rows()
    assert list(rows[0]) == ["task", "check", "challenger", "champion", "limit", "passed"]
    assert len(rows) == len(decision.checks) == 7
    lines = decision.markdown().splitlines()
    assert lines[0] == f"**{decision}**"
    assert [line.count("|") for line in lines[2:]] == [7] * 9
    said = Decision(False, "the champion | cannot be asked")
    assert said.rows()[0]["passed"] is False
    assert "champion \\| cannot" in said.markdown()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", 1.0), ("confidence", 0.2), ("resamples", 0), ("collapse", 1.5),
        ("min_support", 0), ("log_loss_margin", -0.1), ("min_unseen", 2.0),
    ],
)  # fmt: skip
def test_limits_that_mean_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(KaznewsError, match=f"gate.{name} must be between"):
        replace(LIMITS, **{name: value})
