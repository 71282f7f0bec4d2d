"""Metrics against scikit-learn's, intervals against their meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from tests.conftest import STANCES, TOPIC

from kaznews.errors import KaznewsError
from kaznews.evaluate import evaluate, fold_spread, text_table

STANCE = STANCES[0]
PAIRS = st.lists(
    st.tuples(st.sampled_from(STANCE.labels), st.sampled_from(STANCE.labels)), min_size=1
)


@given(PAIRS)
def test_label_metrics_equal_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    true, said = map(list, zip(*pairs, strict=True))
    report = evaluate(STANCE, true, said)
    assert report.metrics["accuracy"] == pytest.approx(sk.accuracy_score(true, said))
    assert report.metrics["macro_f1"] == pytest.approx(
        sk.f1_score(true, said, average="macro", zero_division=0)
    )
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        true, said, labels=list(STANCE.labels), zero_division=0
    )
    for i, label in enumerate(STANCE.labels):
        assert report.metrics[f"precision_{label}"] == pytest.approx(precision[i])
        assert report.metrics[f"recall_{label}"] == pytest.approx(recall[i])
        assert report.metrics[f"f1_{label}"] == pytest.approx(f1[i])
        assert report.as_dict()["per_class"][label]["support"] == support[i]
    assert report.metrics["f_favor_against"] == pytest.approx((f1[0] + f1[1]) / 2)
    assert report.metrics["mcc"] == pytest.approx(sk.matthews_corrcoef(true, said))


def test_log_loss_equals_scikit_learns_and_an_unknown_class_costs_everything() -> None:
    true = ["favor", "none", "none", "against"]
    probability = np.array([[0.1, 0.7, 0.2], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]])
    classes = ["against", "favor", "none"]
    report = evaluate(STANCE, true, true, probability=probability, classes=classes)
    assert report.metrics["log_loss"] == pytest.approx(
        sk.log_loss(true, probability, labels=classes)
    )
    two = evaluate(
        STANCE, ["against"], ["none"], probability=np.array([[0.4, 0.6]]), classes=["favor", "none"]
    )
    assert two.metrics["log_loss"] == pytest.approx(-math.log(np.finfo(float).eps))


def test_unlabelled_and_excluded_sentences_are_not_scored() -> None:
    report = evaluate(TOPIC, ["sport", None, "unclear", "economy"], ["sport"] * 4)
    assert report.n == 2
    assert report.metrics["accuracy"] == 0.5
    assert "unclear" not in report.as_dict()["per_class"]
    with pytest.raises(KaznewsError, match="no sentence with a label of topic"):
        evaluate(TOPIC, ["unclear", None], ["sport", "sport"])
    with pytest.raises(KaznewsError, match="does not have: pro"):
        evaluate(STANCE, ["pro"], ["none"])


def test_intervals_hold_the_value_and_narrow_with_more_sentences() -> None:
    generator = np.random.default_rng(1)

    def width(n: int) -> float:
        true = generator.choice(STANCE.labels, size=n).tolist()
        said = [t if generator.random() < 0.8 else "none" for t in true]
        report = evaluate(STANCE, true, said, resamples=500)
        for name, (low, high) in report.intervals.items():
            assert low <= report.metrics[name] <= high
        low, high = report.intervals["accuracy"]
        return high - low

    assert width(4000) < width(100) / 3


def test_intervals_resample_articles_not_sentences() -> None:
    true = ["favor", "against"] * 100
    said = ["favor"] * 200
    alone = evaluate(STANCE, true, said, resamples=500).intervals["accuracy"]
    pairs = [str(i // 2) for i in range(200)]
    # Every article holds one hit and one miss: whichever are drawn, accuracy is one half.
    together = evaluate(STANCE, true, said, groups=pairs, resamples=500).intervals["accuracy"]
    assert together == (0.5, 0.5)
    assert alone[1] - alone[0] > 0.1


def test_the_seed_decides_the_interval() -> None:
    true, said = ["favor", "against", "none"] * 20, ["favor", "none", "none"] * 20
    first, again, other = (
        evaluate(STANCE, true, said, resamples=100, seed=seed).intervals for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_report_has_the_documented_json_form() -> None:
    report = evaluate(STANCE, ["favor", "none"], ["favor", "favor"], resamples=10).as_dict()
    assert set(report) == {
        "n", "accuracy", "macro_f1", "f_favor_against", "mcc", "per_class", "ci95",
    }  # fmt: skip
    assert set(report["per_class"]["favor"]) == {"precision", "recall", "f1", "support"}
    assert len(report["ci95"]["macro_f1"]) == 2
    assert "f_favor_against" not in evaluate(TOPIC, ["sport"], ["sport"]).as_dict()


def test_fold_spread_is_the_mean_and_deviation_over_folds() -> None:
    true = ["favor", "none", "favor", "none"]
    said = ["favor", "none", "none", "none"]
    mean, deviation = fold_spread(STANCE, true, said, np.array([0, 0, 1, 1]))["accuracy"]
    assert mean == pytest.approx(0.75)
    assert deviation == pytest.approx(np.std([1, 0.5], ddof=1))


def test_a_table_is_aligned() -> None:
    assert text_table([["a", "bb"], ["ccc", "d"]]).splitlines() == ["a    bb", "---  --", "ccc  d"]
