"""Probabilities mean what they say, are saved as they were fitted, and tell when to abstain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, LinearSVC

from kaznews.calibrate import (
    METHODS,
    MIN_KEPT,
    UNREACHABLE,
    Abstain,
    Calibration,
    abstention,
    calibrate,
    choose,
    fit_beta,
    fit_threshold,
    softmax,
)
from kaznews.errors import KaznewsError
from kaznews.model import TRUSTED_TYPES, class_scores, forget_dicts, train_task
from kaznews.stock import calibrated

VECTORIZER = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), max_features=800)
LINEAR = {
    "svc": LinearSVC(random_state=0),
    "logistic": LogisticRegression(C=5, max_iter=500),
    "complement": ComplementNB(),
    "multinomial": MultinomialNB(),
}
OTHERS = {"knn": KNeighborsClassifier(9), "bernoulli": BernoulliNB(), "kernel": SVC(kernel="rbf")}
NEW = ["Екі ел сауда айналымын арттырды.", "Құрама жеңді", "", "Театрда көрме ашылды, көрме!"]


@pytest.fixture(scope="module")
def texts(corpus_rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in corpus_rows[::11]]


@pytest.fixture(scope="module")
def targets(corpus_rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("sport", "culture")
    topics = [row["topic"] if row["topic"] in names else "other" for row in corpus_rows[::11]]
    many = np.array(topics)
    return {"many": many, "two": np.where(many == "other", "a", "b")}


def drawn(n: int, spread: float = 2.0) -> tuple[Any, Any, Any]:
    """Return log-odds, classes drawn by their softmax, and folds."""
    generator = np.random.default_rng(0)
    scores = spread * generator.normal(size=(n, 4))
    target = np.array([generator.choice(4, p=row) for row in softmax(scores)])
    return scores, target, np.arange(n) % 5


# Which calibration


def test_calibration_lowers_the_log_loss_of_a_margin() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2000, 4))
    target = np.array([generator.choice(4, p=row) for row in softmax(logits)])
    beta = fit_beta(logits / 5, target)
    assert beta == pytest.approx(5, rel=0.15)
    assert log_loss(target, softmax(logits / 5, beta)) < log_loss(target, softmax(logits / 5))


@pytest.mark.parametrize(
    ("distort", "best"),
    [
        (lambda scores: scores, "none"),
        (lambda scores: scores / 5, "temperature"),
        (lambda scores: scores + np.array([0, 9, -9, 3]), "isotonic"),
    ],
    ids=["none", "temperature", "isotonic"],
)
def test_the_choice_is_what_the_scores_need(distort: Any, best: str) -> None:
    scores, target, fold = drawn(4000)
    found = calibrate(distort(scores), target, fold)
    assert found.calibration.method == best
    assert set(found.losses) == set(METHODS)
    assert found.losses[best] == pytest.approx(log_loss(target, found.probability))
    alone = calibrate(distort(scores), target, fold, method=best)
    assert (alone.probability == found.probability).all()
    assert list(alone.losses) == [best]


def test_a_better_log_loss_is_not_bought_with_the_labels_of_a_rare_class() -> None:
    """A margin that favours the rare class on purpose: isotonic curves would take that back."""
    generator = np.random.default_rng(0)
    target = (generator.random(4000) < 0.2).astype(np.int64)
    margin = 2 * target - 1 + generator.normal(scale=2.0, size=4000)
    scores = np.column_stack([np.zeros(4000), 0.1 * margin])
    fold = np.arange(4000) % 5
    found = calibrate(scores, target, fold)
    assert found.losses["isotonic"] < found.losses["temperature"] - 0.05
    assert found.calibration.method == "temperature"
    assert calibrate(scores, target, fold, method="isotonic").calibration.method == "isotonic"


def test_a_freer_calibration_must_be_better_by_more_than_chance() -> None:
    losses = {"none": np.array([1.0, 1, 1, 1]), "temperature": np.array([0.7, 0.8, 0.7, 0.8])}
    assert choose(losses) == "temperature"
    # A better mean that hangs on one sentence.
    assert choose(losses | {"temperature": np.array([0.1, 1.2, 1.0, 1.0])}) == "none"


def test_probabilities_of_a_fold_come_from_the_other_folds_alone() -> None:
    scores, target, fold = drawn(500)
    changed = np.where(fold == 2, (target + 1) % 4, target)
    for method in METHODS:
        one, other = (calibrate(scores, t, fold, method=method) for t in (target, changed))
        assert (one.probability[fold == 2] == other.probability[fold == 2]).all()
        if method != "none":
            assert (one.probability[fold == 1] != other.probability[fold == 1]).any()


def test_no_probability_is_0_or_1() -> None:
    scores, target, fold = drawn(60, spread=20)
    probability = calibrate(scores, target, fold, method="isotonic").probability
    assert (probability > 0).all()
    assert (probability < 1).all()


# What is saved


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["many", "two"])
@pytest.mark.parametrize("classifier", LINEAR | OTHERS)
def test_the_saved_pipeline_has_the_calibration_that_was_fitted(
    texts: list[str], targets: dict[str, Any], classifier: str, target: str, method: str
) -> None:
    """Out-of-fold probabilities are those that the saved calibration gives to a fold's scores."""
    y = targets[target]
    model = (LINEAR | OTHERS)[classifier]
    fold = np.arange(len(y)) % 3
    fitted = train_task(VECTORIZER, model, texts, y, fold, calibration=method)
    assert fitted.calibration is not None
    assert fitted.calibration.method == method
    stock = Pipeline([("v", VECTORIZER), ("c", model)]).fit(texts, y)
    if hasattr(stock, "decision_function"):
        response = stock.decision_function(NEW)
    elif classifier in LINEAR:
        response = stock[-1].predict_joint_log_proba(stock[0].transform(NEW))
        response = response[:, 1] - response[:, 0] if target == "two" else response
    else:
        response = stock.predict_proba(NEW)
    if response.ndim == 1:
        response = np.column_stack([np.zeros(len(NEW)), response])
    scores = response
    if classifier in ("knn", "bernoulli"):
        scores = np.log(response + 1e-12)
    expected = fitted.calibration.probabilities(scores, response)
    said = fitted.pipeline.predict_proba(pd.DataFrame({"text": NEW}))
    np.testing.assert_allclose(said, expected, rtol=0, atol=1e-9)
    assert fitted.pipeline.predict(pd.DataFrame({"text": NEW})).tolist() == [
        fitted.classes[i] for i in said.argmax(axis=1)
    ]
    forget_dicts(fitted.pipeline)
    stored = skops.io.dumps(fitted.pipeline)
    assert len(TRUSTED_TYPES) == 4
    loaded = skops.io.loads(stored, trusted=TRUSTED_TYPES)
    assert (loaded.predict_proba(pd.DataFrame({"text": NEW})) == said).all()


@pytest.mark.parametrize("target", ["many", "two"])
@pytest.mark.parametrize("classifier", LINEAR)
def test_scores_of_a_fold_are_decision_values_of_what_is_saved(
    texts: list[str], targets: dict[str, Any], classifier: str, target: str
) -> None:
    """Curves that are fitted on the first are asked about the second."""
    matrix = VECTORIZER.fit_transform(texts)
    model = clone(LINEAR[classifier]).fit(matrix, targets[target])
    values = calibrated(model, Calibration("none")).decision_function(matrix)
    if values.ndim == 1:
        values = np.column_stack([np.zeros(len(values)), values])
    np.testing.assert_allclose(class_scores(model, matrix), values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("target", ["many", "two"])
@pytest.mark.parametrize("classifier", ["svc", "logistic", "kernel", "bernoulli"])
def test_isotonic_is_what_scikit_learn_makes_of_it(
    texts: list[str], targets: dict[str, Any], classifier: str, target: str
) -> None:
    """But for 0 and 1, which the rule of succession replaces."""
    y = targets[target]
    fold = np.arange(len(y)) % 3
    pipeline = Pipeline([("v", VECTORIZER), ("c", (LINEAR | OTHERS)[classifier])])
    cv = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]
    stock = CalibratedClassifierCV(pipeline, method="isotonic", cv=cv, ensemble=False)
    stock.fit(texts, y)
    for curve in stock.calibrated_classifiers_[0].calibrators:
        low = 1 / (len(y) + 2)
        clipped = np.clip(curve.y_thresholds_, low, 1 - low)
        curve._build_f(curve.X_thresholds_, clipped)
    fitted = train_task(VECTORIZER, pipeline["c"], texts, y, fold, calibration="isotonic")
    said = fitted.pipeline.predict_proba(pd.DataFrame({"text": NEW}))
    np.testing.assert_allclose(said, stock.predict_proba(NEW), rtol=0, atol=1e-9)


# When to abstain


@given(
    answers=st.lists(
        st.tuples(st.sampled_from([0.2, 0.5, 0.51, 0.9, 1.0]) | st.floats(0.1, 1), st.booleans()),
        min_size=1,
        max_size=80,
    ),
    target=st.sampled_from([0.0, 0.5, 0.75, 0.9, 1.0]),
)
def test_the_threshold_keeps_as_much_as_the_target_allows(answers: Any, target: float) -> None:
    confidence, hit = np.array([c for c, _ in answers]), np.array([h for _, h in answers])
    threshold = fit_threshold(confidence, hit, target)
    kept = confidence >= threshold
    least = min(MIN_KEPT, len(hit))
    possible = [
        (confidence >= c).sum()
        for c in confidence
        if (confidence >= c).sum() >= least and hit[confidence >= c].mean() >= target - 1e-9
    ]
    assert kept.sum() == max(possible, default=0)
    assert (threshold == UNREACHABLE) == (not possible)
    if kept.any():
        assert hit[kept].mean() >= target - 1e-9


def test_the_threshold_lies_between_what_is_kept_and_what_is_not() -> None:
    confidence = np.array([0.9] * 30 + [0.4] * 10)
    hit = np.array([True] * 30 + [False] * 10)
    assert fit_threshold(confidence, hit, 0.9) == pytest.approx(0.65)
    assert fit_threshold(confidence, hit, 0.75) == 0.0
    # A few sure answers that happen to be right are no evidence.
    assert fit_threshold(confidence, np.arange(40) < MIN_KEPT - 1, 1.0) == UNREACHABLE
    close = np.array([np.nextafter(0.5, 1)] * 30 + [0.5] * 10)
    assert (close >= fit_threshold(close, hit, 0.9)).sum() == 30


def test_the_figures_of_abstaining() -> None:
    confidence, hit = np.array([0.9, 0.8, 0.6, 0.3]), np.array([True, False, True, False])
    unclear = np.array([0.2, 0.6, 0.85])
    figures = abstention(confidence, hit, 0.6, unclear)
    assert figures["abstain_coverage"] == 0.75
    assert figures["abstain_accuracy"] == pytest.approx(2 / 3)
    assert figures["abstain_rate_clear"] == 0.25
    assert figures["abstain_rate_unclear"] == pytest.approx(1 / 3)
    pairs = [(u < c) + 0.5 * (u == c) for u in unclear for c in confidence]
    assert figures["abstain_auroc"] == pytest.approx(np.mean(pairs))
    assert figures["abstain_auroc"] == pytest.approx(
        roc_auc_score([1] * 3 + [0] * 4, -np.concatenate([unclear, confidence]))
    )
    assert abstention(confidence, hit, UNREACHABLE) == {"abstain_coverage": 0.0}


def test_a_target_may_be_that_of_one_task() -> None:
    abstain = Abstain(0.9, {"topic": 0.8})
    assert abstain.target_of("topic") == 0.8
    assert abstain.target_of("stance_trade_balance") == 0.9
    with pytest.raises(KaznewsError, match=r"abstain.per_task.topic must be between 0 and 1"):
        Abstain(0.9, {"topic": 80})
