"""Training one task: what is saved equals what was fitted, in stock classes alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import LinearSVC

from kaznews.errors import KaznewsError
from kaznews.estimators import check_targets, tuples_for_ranges
from kaznews.model import TRUSTED_TYPES, forget_dicts, train_task, vectorizers

CHAR = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=1500)
WORD = TfidfVectorizer(ngram_range=(1, 2))
VECTORIZERS = {
    "char": CHAR,
    "word": WORD,
    "union": FeatureUnion([["word", WORD], ["char", CHAR]]),
    "no idf": TfidfVectorizer(use_idf=False),
    "counts": CountVectorizer(),
    "hashing": HashingVectorizer(n_features=2**10, alternate_sign=False),
}
LINEAR = {
    "svc": LinearSVC(),
    "logistic": LogisticRegression(C=0.1, tol=0.1),
    "sgd": SGDClassifier(random_state=0),
    "complement": ComplementNB(),
    "multinomial": MultinomialNB(),
}
OTHERS = {"knn": KNeighborsClassifier(3), "bernoulli": BernoulliNB(), "dummy": DummyClassifier()}


@pytest.fixture(scope="module")
def texts(corpus_rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in corpus_rows[::13]]


@pytest.fixture(scope="module")
def targets(corpus_rows: list[dict[str, Any]]) -> dict[str, Any]:
    topics = np.array([row["topic"] for row in corpus_rows[::13]])
    return {
        "many": topics,
        "two": np.where(np.isin(topics, ["trade_balance", "economic_cooperation"]), "a", "b"),
    }


def folds(n: int) -> Any:
    return np.arange(n) % 3


@pytest.mark.parametrize("target", ["many", "two"])
@pytest.mark.parametrize("vectorizer", VECTORIZERS)
@pytest.mark.parametrize("classifier", LINEAR | OTHERS)
def test_the_saved_pipeline_says_what_the_fitted_parts_say(
    texts: list[str], targets: dict[str, Any], vectorizer: str, classifier: str, target: str
) -> None:
    y = targets[target]
    model = (LINEAR | OTHERS)[classifier]
    # Isotonic curves may change labels: test_calibrate.py says how.
    fitted = train_task(
        VECTORIZERS[vectorizer], model, texts, y, folds(len(y)), calibration="temperature"
    )
    reference = Pipeline([("v", VECTORIZERS[vectorizer]), ("c", model)]).fit(texts, y)
    frame = pd.DataFrame({"text": texts})
    assert (fitted.pipeline.predict(frame) == reference.predict(texts)).all()
    probability = fitted.pipeline.predict_proba(frame)
    assert probability.shape == (len(texts), len(np.unique(y)))
    assert np.allclose(probability.sum(axis=1), 1)
    assert np.allclose(fitted.oof_probability.sum(axis=1), 1)


@pytest.mark.parametrize("vectorizer", VECTORIZERS)
@pytest.mark.parametrize("classifier", LINEAR | OTHERS)
def test_a_saved_file_needs_no_trust_beyond_ours_and_loads_equal(
    texts: list[str], targets: dict[str, Any], vectorizer: str, classifier: str
) -> None:
    y = targets["many"]
    model = (LINEAR | OTHERS)[classifier]
    pipeline = train_task(
        VECTORIZERS[vectorizer], model, texts, y, folds(len(y)), calibration="temperature"
    ).pipeline
    frame = pd.DataFrame({"text": texts})
    expected = pipeline.predict_proba(frame)
    forget_dicts(pipeline)
    stored = skops.io.dumps(pipeline)
    trusted = [] if classifier in LINEAR else TRUSTED_TYPES
    assert (skops.io.loads(stored, trusted=trusted).predict_proba(frame) == expected).all()
    assert (pipeline.predict_proba(frame) == expected).all()


def test_the_vocabulary_is_stored_as_an_array(texts: list[str], targets: dict[str, Any]) -> None:
    y = targets["many"]
    pipeline = train_task(CHAR, LinearSVC(), texts, y, folds(len(y))).pipeline
    forget_dicts(pipeline)
    (vectorizer,) = vectorizers(pipeline)
    assert not hasattr(vectorizer, "vocabulary_")
    assert len(skops.io.dumps(pipeline)) < 400 * len(vectorizer.vocabulary)


def test_a_vocabulary_that_an_array_cannot_hold_stays_a_dict() -> None:
    texts = ["а\0 б", "б в", "а\0 в", "в г"]
    y = np.array(["x", "y", "x", "y"])
    vectorizer = TfidfVectorizer(token_pattern=r"\S+")
    pipeline = train_task(vectorizer, LinearSVC(), texts, y, np.array([0, 0, 1, 1])).pipeline
    assert isinstance(vectorizers(pipeline)[0].vocabulary, dict)
    assert pipeline.predict(pd.DataFrame({"text": texts})).tolist() == y.tolist()


def test_three_rows_in_are_three_predictions_out(texts: list[str], targets: dict[str, Any]) -> None:
    y = targets["many"]
    pipeline = train_task(CHAR, LinearSVC(), texts, y, folds(len(y))).pipeline
    frame = pd.DataFrame({"other": [1, 2, 3], "text": texts[:3]})
    assert pipeline.predict(frame).shape == (3,)


def test_out_of_fold_probabilities_come_from_models_that_saw_neither_row_nor_fold(
    texts: list[str], targets: dict[str, Any]
) -> None:
    y = targets["many"]
    fold = folds(len(y))
    fitted = train_task(CHAR, LinearSVC(), texts, y, fold)
    held_out = fold == 0
    kept = [t for t, out in zip(texts, held_out, strict=True) if not out]
    asked = [t for t, out in zip(texts, held_out, strict=True) if out]
    alone = Pipeline([("v", CHAR), ("c", LinearSVC())]).fit(kept, y[~held_out])
    said = fitted.classes[fitted.oof_probability[held_out].argmax(axis=1)]
    assert (said == alone.predict(asked)).all()
    # Labels of the held-out fold changed at will must not move its own probabilities.
    changed = y.copy()
    changed[held_out] = np.roll(changed[held_out], 1)
    again = train_task(CHAR, LinearSVC(), texts, changed, fold)
    assert (again.oof_probability[held_out] == fitted.oof_probability[held_out]).mean() < 1
    assert (
        again.oof_probability[held_out].argmax(axis=1)
        == fitted.oof_probability[held_out].argmax(axis=1)
    ).all()


def test_a_class_that_a_fold_has_never_seen_is_its_least_likely() -> None:
    texts = [f"сөз{i % 4} мәтін" for i in range(24)]
    y = np.array(["rare", "rare", *["a", "b"] * 11])
    fold = np.arange(24) // 8
    fitted = train_task(WORD, LinearSVC(), texts, y, fold)
    rare = fitted.classes.tolist().index("rare")
    assert (fitted.oof_probability[fold == 0].argmin(axis=1) == rare).all()


def test_two_fits_are_equal_to_the_last_bit(texts: list[str], targets: dict[str, Any]) -> None:
    y = targets["many"]
    first, second = (
        train_task(CHAR, LinearSVC(random_state=0), texts, y, folds(len(y)), n_jobs=jobs)
        for jobs in (1, 2)
    )
    assert (first.oof_probability == second.oof_probability).all()
    assert first.calibration == second.calibration


def test_a_wrong_parameter_names_the_estimator(texts: list[str], targets: dict[str, Any]) -> None:
    y = targets["many"]
    with pytest.raises(KaznewsError, match=r"cannot fit LinearSVC\(C=-1\)"):
        train_task(CHAR, LinearSVC(C=-1), texts, y, folds(len(y)))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "sklearn.utils.os.system",
        "sklearn.os",
        "sklearn.pipeline.make_pipeline",
        "sklearn.base.clone",
        "joblib.Memory",
        "sklearn.svm.NoSuchClass",
        "sklearn.nowhere.LinearSVC",
        "kaznews.predict.load",
        "",
        None,
    ],
)
def test_targets_that_are_no_estimators_are_refused(target: Any) -> None:
    with pytest.raises(KaznewsError, match="_target_"):
        check_targets({"transformer_list": [["x", {"_target_": target}]]}, "features")


def test_estimators_are_accepted_at_any_depth() -> None:
    inner = {"_target_": "sklearn.svm.LinearSVC", "C": 1.0}
    check_targets({"_target_": "sklearn.pipeline.FeatureUnion", "a": [["x", inner]]}, "features")


def test_lists_of_numbers_become_the_tuples_that_scikit_learn_wants() -> None:
    union = FeatureUnion([["w", TfidfVectorizer(ngram_range=[1, 2], stop_words=["a"])]])
    part = tuples_for_ranges(union).transformer_list[0][1]
    assert part.ngram_range == (1, 2)
    assert part.stop_words == ["a"]
