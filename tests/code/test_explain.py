"""Explanations add up to what the model computed, and what they show does no harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer as Stock
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC

from kaznews import Bundle
from kaznews import load as load_bundle
from kaznews.cli import main
from kaznews.data import Task
from kaznews.errors import KaznewsError
from kaznews.explain import distinct, explain, heaviest
from kaznews.features import TfidfVectorizer
from kaznews.model import TEXT_COLUMN, accelerated, train_task
from kaznews.predict import BundleTask, seen_keys
from kaznews.text import normalize

ASKED = [
    "Екі ел сауда айналымын арттырды, сауда өсті.",
    "İзмирде көрме ашылды ма? ІЗМИР!",
    "Футболшылар   ұтты",
    "a",
    "",
    "<script>alert('сауда')</script> & \x1b[31m",
]


@pytest.fixture(scope="module")
def labelled(corpus_rows: list[dict[str, Any]]) -> tuple[list[str], Any, Any]:
    rows = [row for row in corpus_rows if row["topic"] in ("sport", "culture", "trade_balance")]
    rows = rows[::8]
    y = np.array([row["topic"] for row in rows])
    return [row["text"] for row in rows], y, np.arange(len(rows)) % 3


def char() -> Any:
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)


def word() -> Any:
    return TfidfVectorizer(analyzer="word", ngram_range=(1, 2))


PIPELINES = {
    "char_wb and linear_svc": (char, LinearSVC),
    "word and logistic_regression": (word, LogisticRegression),
    "union and complement_nb": (
        lambda: FeatureUnion([("word", word()), ("char", char())], transformer_weights={"word": 2}),
        ComplementNB,
    ),
    "char, scikit-learn's": (lambda: Stock(analyzer="char", ngram_range=(2, 3)), LinearSVC),
}


@pytest.fixture(scope="module", params=PIPELINES)
def pipeline(request: pytest.FixtureRequest, labelled: tuple[list[str], Any, Any]) -> Any:
    vectorizer, classifier = PIPELINES[request.param]
    texts, y, fold = labelled
    return train_task(
        vectorizer(), classifier(), texts, y, fold, calibration="temperature"
    ).pipeline


def decision(pipeline: Any, texts: list[str]) -> Any:
    return pipeline.decision_function(pd.DataFrame({TEXT_COLUMN: texts}, dtype=object))


def test_weights_and_intercept_add_up_to_the_decision_value(pipeline: Any) -> None:
    texts = [normalize(text) for text in ASKED]
    expected = decision(pipeline, texts)
    for k, label in enumerate(pipeline.classes_):
        for i, e in enumerate(explain(pipeline, texts, [str(label)] * len(texts))):
            total = e.intercept + sum(weight for _, weight in e.weights)
            assert total == pytest.approx(expected[i, k], rel=1e-12, abs=1e-12)
            assert e.decision == pytest.approx(expected[i, k], rel=1e-12, abs=1e-12)


def test_the_decision_value_under_isotonic_curves_is_explained_exactly(
    labelled: tuple[list[str], Any, Any],
) -> None:
    texts, y, fold = labelled
    normal = [normalize(text) for text in ASKED]
    for target in (y, np.where(y == "sport", "a", "b")):
        fitted = train_task(char(), ComplementNB(), texts, target, fold, calibration="isotonic")
        (inner,) = fitted.pipeline.named_steps["classifier"].calibrated_classifiers_
        frame = pd.DataFrame({TEXT_COLUMN: normal}, dtype=object)
        values = inner.estimator.decision_function(fitted.pipeline[:-1].transform(frame))
        probability = fitted.pipeline.predict_proba(frame)
        for k, label in enumerate(fitted.classes):
            of_label = values[:, k] if values.ndim == 2 else values * (-1, 1)[k]
            for i, e in enumerate(explain(fitted.pipeline, normal, [label] * len(normal))):
                total = e.intercept + sum(weight for _, weight in e.weights)
                assert total == pytest.approx(of_label[i], rel=1e-12, abs=1e-12)
                assert e.confidence == pytest.approx(probability[i, k])
        assert heaviest(fitted.pipeline, 3).keys() == set(fitted.classes)


def test_explained_answers_show_themselves_in_notebooks_and_terminals(
    labelled: tuple[list[str], Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, y, fold = labelled
    pipeline = train_task(char(), LinearSVC(random_state=0), texts, y, fold).pipeline
    task = Task("topic", tuple(sorted(set(y))))
    bundle = Bundle((BundleTask(task, pipeline, threshold=2.0),), seen_keys([], []))
    explained = bundle.predict(ASKED, explain=True)
    page = explained._repr_html_()
    assert page.count("<b>topic</b>, abstains") == len(ASKED)
    assert "<script" not in page
    assert "background:rgba" in page
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert "\x1b" not in repr(explained)
    assert repr(explained).count(", abstains\n") == len(ASKED)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\x1b[" in str(explained)
    many = bundle.predict(ASKED * 5, explain=True)
    assert "and 10 more sentences" in repr(many)
    assert "and 10 more sentences" in many._repr_html_()
    neighbours = train_task(word(), KNeighborsClassifier(), texts, y, fold).pipeline
    with pytest.raises(KaznewsError, match="not linear"):
        Bundle((BundleTask(task, neighbours),), bundle.seen).predict(ASKED, explain=True)


def test_the_default_label_is_the_predicted_one_with_its_confidence(pipeline: Any) -> None:
    frame = pd.DataFrame({TEXT_COLUMN: ASKED}, dtype=object)
    explained = explain(pipeline, ASKED)
    assert [e.label for e in explained] == pipeline.predict(frame).tolist()
    assert [e.confidence for e in explained] == pytest.approx(
        pipeline.predict_proba(frame).max(axis=1)
    )


def test_highlights_and_words_add_up_too(pipeline: Any) -> None:
    for text, e in zip(
        ASKED[:3], explain(pipeline, [normalize(t) for t in ASKED[:3]]), strict=True
    ):
        assert e.characters.sum() == pytest.approx(e.decision - e.intercept)
        assert sum(weight for _, weight in e.words()) == pytest.approx(e.decision - e.intercept)
        assert [word for word, _ in e.words()] == text.split()
        assert "".join(piece for piece, _ in e.pieces()) == e.text


def test_a_loaded_bundles_pipeline_explains_alike(labelled: tuple[list[str], Any, Any]) -> None:
    texts, y, fold = labelled
    stock = train_task(char(), LinearSVC(), texts, y, fold).pipeline
    for one, other in zip(explain(stock, ASKED), explain(accelerated(stock), ASKED), strict=True):
        assert dict(one.weights) == pytest.approx(dict(other.weights))


def test_with_two_classes_the_first_one_has_the_weights_of_the_second_turned_round(
    labelled: tuple[list[str], Any, Any],
) -> None:
    texts, y, fold = labelled
    two = np.where(y == "sport", "a", "b")
    pipeline = train_task(char(), LinearSVC(), texts, two, fold, calibration="none").pipeline
    (first,), (second,) = explain(pipeline, ASKED[:1], ["a"]), explain(pipeline, ASKED[:1], ["b"])
    assert second.decision == pytest.approx(decision(pipeline, ASKED[:1])[0])
    assert first.decision == -second.decision
    assert first.confidence + second.confidence == pytest.approx(1)


def test_what_is_not_linear_or_no_label_is_refused(labelled: tuple[list[str], Any, Any]) -> None:
    texts, y, fold = labelled
    neighbours = train_task(word(), KNeighborsClassifier(), texts, y, fold).pipeline
    with pytest.raises(KaznewsError, match="not linear"):
        explain(neighbours, ASKED)
    linear = train_task(word(), LinearSVC(), texts, y, fold).pipeline
    with pytest.raises(KaznewsError, match="'weather' is none of the labels"):
        explain(linear, ASKED[:1], ["weather"])
    assert explain(linear, []) == []


def test_highlighted_html_is_escaped(labelled: tuple[list[str], Any, Any]) -> None:
    texts, y, fold = labelled
    (e,) = explain(train_task(char(), LinearSVC(), texts, y, fold).pipeline, ASKED[-1:])
    for shown in (e.to_html(), e._repr_html_()):
        assert "<script" not in shown
        assert "&lt;" in shown
        assert "background:rgba" in shown


def test_nested_n_grams_take_one_place() -> None:
    weights = [("сауда", 2.0), (" сауд", 1.5), ("ауд", -1.0), ("порт", 0.9), (" ", 0.8)]
    assert distinct(weights, 3) == [("сауда", 2.0), ("ауд", -1.0), ("порт", 0.9)]


def test_the_heaviest_n_grams_are_the_greatest_and_least_coefficients(pipeline: Any) -> None:
    coef = pipeline.named_steps["classifier"].coef_
    found = heaviest(pipeline, 5)
    for k, label in enumerate(pipeline.classes_):
        best, worst = found[str(label)]
        assert best[0][1] == coef[k].max()
        assert worst[0][1] == coef[k].min()
        assert len(best) == len(worst) == 5


def test_kaznews_explain_prints_plain_text_into_a_pipe_and_colours_in_a_terminal(
    tracking_store: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Екі ел сауда айналымын арттырды."
    assert main(["explain", text, "--top", "2"]) == 0
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    for t in load_bundle().tasks:
        (e,) = explain(t.pipeline, [text])
        assert f"{t.task.name}: {e.label} {e.confidence:.2f}" in plain
        assert f"{e.decision:+8.3f}  = decision value" in plain
    # The numbers of a label add up as printed, to the last digit shown.
    block = plain.split("\n\n")[0]
    values = [float(line.split()[0]) for line in block.splitlines()[2:-1]]
    assert sum(values[:-1]) == pytest.approx(values[-1], abs=0.003)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    main(["explain", text])
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(["explain", text])
    assert "\x1b[" not in capsys.readouterr().out


def test_control_characters_of_a_sentence_do_not_reach_the_terminal(
    tracking_store: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["explain", "Сауда \x1b]0;hacked\x07 өсті"])
    said = capsys.readouterr().out
    assert "\x1b]" not in said
    assert "\x07" not in said


def test_kaznews_explain_refuses_what_it_cannot_do(
    tracking_store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "Сауда өсті", "--top", "0"]) == 2
    assert "--top must be at least 1" in capsys.readouterr().err
