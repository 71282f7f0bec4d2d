"""Scores of probabilities against scikit-learn's and against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from tests.conftest import STANCES

from kaznews.evaluate import evaluate
from kaznews.scores import (
    Scored,
    draw_articles,
    precision_recall,
    probability_metrics,
    reliability,
    risk_coverage,
    selective,
)

CLASSES = ("against", "favor", "none")


def drawn(n: int, seed: int = 0) -> Scored:
    """Return made-up probabilities for made-up labels, two sentences an article."""
    generator = np.random.default_rng(seed)
    probability = generator.dirichlet(np.ones(3), size=n)
    true = np.array([generator.choice(CLASSES, p=p) for p in probability])
    groups = np.array([str(i // 2) for i in range(n)], dtype=object)
    return Scored(true, probability, np.array(CLASSES), groups)


def scores(scored: Scored) -> dict[str, float]:
    values = probability_metrics(CLASSES, scored.true, scored.probability, scored.hit)
    return {name: float(value[0]) for name, value in values.items()}


def test_log_loss_and_brier_equal_scikit_learns() -> None:
    scored = drawn(200)
    values = scores(scored)
    assert values["log_loss"] == pytest.approx(sk.log_loss(scored.true, scored.probability))
    one_hot = scored.true[:, None] == np.array(CLASSES)
    by_hand = ((scored.probability - one_hot) ** 2).sum(axis=1).mean()
    assert values["brier"] == pytest.approx(by_hand)
    assert values["brier"] == pytest.approx(
        sk.brier_score_loss(scored.true, scored.probability, labels=list(CLASSES))
    )


def test_a_true_label_the_model_does_not_know_costs_as_probability_zero() -> None:
    values = probability_metrics(
        ["favor", "none"], ["against"], np.array([[0.4, 0.6]]), np.array([False])
    )
    assert values["brier"][0] == pytest.approx(0.4**2 + 0.6**2 + 1)
    assert values["log_loss"][0] == pytest.approx(-np.log(np.finfo(float).eps))


def test_calibration_error_by_hand() -> None:
    # Two bins: 0.9 said twice and right once, 0.6 said twice and right twice.
    probability = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    hit = np.array([True, False, True, True])
    values = probability_metrics(["a", "b"], ["a", "b", "a", "a"], probability, hit)
    assert values["ece"][0] == pytest.approx(0.5 * (0.9 - 0.5) + 0.5 * (1 - 0.6))
    scored = Scored(
        np.array(["a", "b", "a", "a"]),
        probability,
        np.array(["a", "b"]),
        np.arange(4).astype(object),
    )
    confidence, accuracy, count = reliability(scored)
    assert confidence == pytest.approx([0.6, 0.9])
    assert accuracy == pytest.approx([1, 0.5])
    assert count.tolist() == [2, 2]


def test_sure_of_all_and_right_is_calibrated_and_sure_and_wrong_is_not() -> None:
    sure = np.array([[1.0, 0.0]] * 5)
    right = probability_metrics(["a", "b"], ["a"] * 5, sure, np.ones(5, dtype=bool))
    wrong = probability_metrics(["a", "b"], ["b"] * 5, sure, np.zeros(5, dtype=bool))
    assert (right["ece"][0], right["aurc"][0], right["coverage_at_95"][0]) == (0, 0, 1)
    assert (wrong["ece"][0], wrong["aurc"][0], wrong["coverage_at_95"][0]) == (1, 1, 0)


def test_area_under_the_risk_coverage_curve_by_hand() -> None:
    confidence = np.array([0.5, 0.9, 0.8, 0.8])
    hit = np.array([False, True, True, False])
    one = np.ones((1, 1)), np.zeros(4, dtype=np.int64)
    area, coverage = selective(confidence, hit, *one)
    # 0.9 alone: 0 wrong; the two of 0.8 stand or fall together: 1 of 3; all: 2 of 4.
    assert area[0] == pytest.approx((0 + 1 / 3 + 1 / 3 + 2 / 4) / 4)
    assert coverage[0] == pytest.approx(1 / 4)


def test_nineteen_of_twenty_are_95_percent_right() -> None:
    hit = np.array([True] * 19 + [False] * 2)
    _, coverage = selective(
        np.linspace(1, 0.5, 21), hit, np.ones((1, 1)), np.zeros(21, dtype=np.int64)
    )
    assert coverage[0] == pytest.approx(20 / 21)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.4, 0.6, 0.8]), st.booleans()), min_size=1))
def test_the_area_does_not_depend_on_the_order_of_the_sentences(
    pairs: list[tuple[float, bool]],
) -> None:
    confidence, hit = (np.array(column) for column in zip(*pairs, strict=True))
    one = np.ones((1, 1)), np.zeros(len(pairs), dtype=np.int64)
    forward = selective(confidence, hit, *one)
    backward = selective(confidence[::-1], hit[::-1], *one)
    assert forward[0] == pytest.approx(backward[0])
    assert forward[1] == pytest.approx(backward[1])


def test_a_drawn_article_counts_as_often_as_it_was_drawn() -> None:
    scored = drawn(40)
    draws, article = draw_articles(scored.groups, 6, seed=3)
    got = probability_metrics(CLASSES, scored.true, scored.probability, scored.hit, draws, article)
    for i, counts in enumerate(draws.astype(int)):
        rows = np.repeat(np.arange(40), counts[article])
        again = scores(scored.take(rows))
        for name, values in got.items():
            assert values[i] == pytest.approx(again[name]), name


def test_every_score_of_probabilities_has_an_interval_over_articles() -> None:
    scored = drawn(300)
    report = evaluate(
        STANCES[0],
        scored.true.tolist(),
        scored.predicted.tolist(),
        probability=scored.probability,
        classes=list(CLASSES),
        groups=scored.groups.tolist(),
        resamples=300,
    )
    for name in ("log_loss", "brier", "aurc", "coverage_at_95", "mcc"):
        low, high = report.intervals[name]
        assert low < report.metrics[name] < high
    low, high = report.intervals["ece"]
    assert 0 < low < high < 1


def test_the_curve_ends_at_the_error_rate_of_all_sentences() -> None:
    scored = drawn(50)
    coverage, risk = risk_coverage(scored)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - scored.hit.mean())
    assert np.all(np.diff(coverage) > 0)


@pytest.mark.parametrize("label", CLASSES)
def test_precision_and_recall_equal_scikit_learns(label: str) -> None:
    scored = drawn(80)
    positive, score = scored.true == label, scored.probability[:, CLASSES.index(label)]
    recall, precision, average = precision_recall(scored, label)
    expected_precision, expected_recall, _ = sk.precision_recall_curve(positive, score)
    # scikit-learn goes the other way and adds a last point without a threshold.
    assert precision == pytest.approx(expected_precision[:-1][::-1])
    assert recall == pytest.approx(expected_recall[:-1][::-1])
    assert average == pytest.approx(sk.average_precision_score(positive, score))
    assert precision_recall(scored, "unheard of")[2] == 0
