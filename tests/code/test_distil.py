"""A student learns from a teacher that has not seen what the student is judged on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer as Stock
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from tests.conftest import run_train

from kaznews.distil import Recipe, lessons_by_fold, lessons_of, study, teach
from kaznews.errors import KaznewsError
from kaznews.features import TfidfVectorizer
from kaznews.folds import tokenize
from kaznews.lessons import Lessons
from kaznews.model import train_task
from kaznews.unlabelled import Unlabelled

CLASSES = np.array(["favor", "none"])
Y = np.array(["none"] * 8 + ["favor"] * 2)
PROBABILITY = np.array([[0.9, 0.1], [0.4, 0.6], [0.02, 0.98], [0.1, 0.9]])
WORDS = {"favor": "экспорт артты сауда", "none": "мектеп ашылды бала"}


def recipe(
    labels: str = "hard", weight: float = 1.0, least: float = 0.0, prior: str = "teacher"
) -> Recipe:
    return Recipe(labels, weight, least, prior)


def rows_of(lessons: Lessons) -> list[tuple[int, str, float]]:
    parts = zip(lessons.rows, lessons.y, lessons.weight, strict=True)
    return [(int(i), str(name), round(float(w), 6)) for i, name, w in parts]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (recipe(), [(0, "favor", 1), (1, "none", 1), (2, "none", 1), (3, "none", 1)]),
        (
            recipe("confidence", 0.5),
            [(0, "favor", 0.45), (1, "none", 0.3), (2, "none", 0.49), (3, "none", 0.45)],
        ),
        (recipe(least=0.95), [(2, "none", 1)]),
        (
            recipe("soft"),
            [
                (0, "favor", 0.9), (0, "none", 0.1), (1, "favor", 0.4), (1, "none", 0.6),
                (2, "none", 0.98), (3, "favor", 0.1), (3, "none", 0.9),
            ],
        ),
        # 4 sentences in the proportions of the labels, 1 to 4: 0.8 and 3.2.
        (
            recipe(prior="labelled"),
            [(0, "favor", 0.8), *((i, "none", round(3.2 / 3, 6)) for i in (1, 2, 3))],
        ),
    ],
)  # fmt: skip
def test_lessons_are_what_the_recipe_says(how: Recipe, expected: list[Any]) -> None:
    assert rows_of(lessons_of(PROBABILITY, CLASSES, Y, how)) == expected


def test_the_prior_pushes_a_class_so_far_and_no_farther() -> None:
    probability = np.array([[0.9, 0.1]] + [[0.1, 0.9]] * 99)
    y = np.array(["favor", "none"])
    lessons = lessons_of(probability, CLASSES, y, recipe(prior="labelled"))
    assert lessons.weight[lessons.y == "favor"].sum() == 5.0


def test_a_teacher_that_is_sure_of_nothing_gives_no_lesson() -> None:
    assert not len(lessons_of(PROBABILITY, CLASSES, Y, recipe(least=0.99)).rows)


@pytest.fixture
def taught() -> dict[str, Any]:
    """Return labelled and unlabelled texts of two subjects, and folds."""
    rng = np.random.default_rng(0)
    y = np.array(["favor", "none"] * 15)
    texts = [f"{' '.join(rng.permutation(WORDS[name].split()))} {i}" for i, name in enumerate(y)]
    more = [f"{WORDS[name]} жаңа{i}" for i, name in enumerate(["favor", "none", "none"] * 4)]
    return {"texts": [*texts, *more], "y": y, "fold": np.arange(30) % 3, "more": more}


def test_a_teacher_of_a_fold_has_not_seen_its_labels(taught: dict[str, Any]) -> None:
    texts = np.array(taught["texts"], dtype=object)
    first = teach(Stock(), LinearSVC(), texts, taught["y"], taught["fold"])
    swapped = taught["y"].copy()
    own = taught["fold"] == 0
    swapped[own] = np.where(swapped[own] == "favor", "none", "favor")
    second = teach(Stock(), LinearSVC(), texts, swapped, taught["fold"])

    def scores(teacher: Any, k: int) -> Any:
        # The temperature comes from the other teachers, which have seen the fold.
        odds = np.log(teacher.probability[k])
        return (odds[:, 0] - odds[:, 1]) / teacher.betas[k]

    np.testing.assert_allclose(scores(first, 0), scores(second, 0), rtol=1e-6)
    for k in (1, 2, -1):
        assert not np.allclose(scores(first, k), scores(second, k), rtol=1e-2)


def test_a_student_of_a_fold_learns_from_the_teacher_of_that_fold(taught: dict[str, Any]) -> None:
    vectorizer = TfidfVectorizer()
    tokenized = tokenize([*taught["texts"][:30], *WORDS.values()], vectorizer)
    y, fold = taught["y"], taught["fold"]
    teacher = teach(vectorizer, LinearSVC(), tokenized, y, fold)
    lessons = lessons_by_fold(teacher, y, recipe())
    assert set(lessons) == {0, 1, 2, -1}
    fitted = train_task(vectorizer, LinearSVC(), tokenized, y, fold, lessons=lessons)
    # Turning over what the teacher of fold 0 says changes the answers on fold 0 alone.
    wrong = Lessons(lessons[0].rows, lessons[0].y[::-1].copy(), lessons[0].weight * 50)
    other = train_task(vectorizer, LinearSVC(), tokenized, y, fold, lessons=lessons | {0: wrong})
    answers = [f.classes[f.oof_probability.argmax(axis=1)] for f in (fitted, other)]
    differs = answers[0] != answers[1]
    assert differs[fold == 0].any()
    assert not differs[fold != 0].any()


def test_the_student_knows_words_that_stand_in_unlabelled_sentences_alone(
    taught: dict[str, Any],
) -> None:
    vectorizer = TfidfVectorizer()
    tokenized = tokenize(taught["texts"], vectorizer)
    y, fold = taught["y"], taught["fold"]
    # Soft labels: each sentence stands twice.
    twice = Lessons(np.repeat(np.arange(12), 2), np.tile(CLASSES, 12), np.full(24, 0.5))
    lessons = dict.fromkeys((0, 1, 2, -1), twice)
    classifier = LogisticRegression()
    fitted = train_task(vectorizer, classifier, tokenized, y, fold, lessons=lessons)
    found = fitted.pipeline.named_steps["text"].named_transformers_["vectorizer"].estimator
    assert type(found) is Stock
    assert {"жаңа0", "жаңа1"} <= set(found.get_feature_names_out())
    # ... and is counted once.
    alone = Stock().fit(taught["texts"])
    np.testing.assert_allclose(np.sort(found.idf_), np.sort(alone.idf_))


def test_without_lessons_nothing_is_different(taught: dict[str, Any]) -> None:
    texts = np.array(taught["texts"][:30], dtype=object)
    arguments = (TfidfVectorizer(), LinearSVC(random_state=0), texts, taught["y"], taught["fold"])
    plain, empty = train_task(*arguments), train_task(*arguments, lessons={})
    np.testing.assert_array_equal(plain.oof_probability, empty.oof_probability)


def test_a_classifier_that_cannot_weigh_is_refused(taught: dict[str, Any]) -> None:
    texts = np.array(taught["texts"], dtype=object)
    lessons = {k: Lessons(np.array([0]), np.array(["favor"]), np.ones(1)) for k in (0, 1, 2, -1)}
    with pytest.raises(KaznewsError, match="KNeighborsClassifier cannot weigh"):
        train_task(
            Stock(), KNeighborsClassifier(), texts, taught["y"], taught["fold"], lessons=lessons
        )


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ({"topic": recipe("firm")}, "distil.tasks.topic.labels=firm: expected one of hard"),
        ({"topic": recipe(prior="mine")}, "prior=mine: expected one of teacher, labelled"),
        ({"topic": recipe(weight=0)}, "weight must be above 0"),
        ({"topic": recipe(least=1)}, r"min_confidence must be in \[0, 1\)"),
        ({"sib200": recipe()}, "recipe for sib200, this run trains topic: nothing would learn"),
        ({}, "recipe for no task, this run trains topic"),
    ],
)
def test_a_recipe_that_is_none_is_named(recipes: dict[str, Recipe], message: str) -> None:
    with pytest.raises(KaznewsError, match=message):
        study(Stock(), LinearSVC(), Unlabelled(("а",), {}), ["б"], recipes, ["topic"])


def test_recipes_of_tasks_that_are_not_trained_are_passed_over() -> None:
    recipes = {"topic": recipe(), "stance": recipe("soft")}
    made = study(Stock(), LinearSVC(), Unlabelled(("а б",), {}), ["б"], recipes, ["topic"])
    assert set(made.recipes) == {"topic"}
    assert made.behind().tolist() == [1]


def test_a_distilled_run_records_its_teacher_and_saves_stock_models(
    corpus_rows: list[dict[str, Any]], small_file: Path, tmp_path: Path
) -> None:
    import mlflow

    small = {json.loads(line)["text"] for line in small_file.open(encoding="utf-8")}
    free = [row for row in corpus_rows if row["text"] not in small][:300]
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": r["text"]}) + "\n" for r in free), "utf-8")
    done = run_train(
        tmp_path, "data=files", f"data.files=[{small_file}]", "distil=default", "resamples=0",
        "features=word", "features@distil.teacher.features=char_wb", "split=quick", "n_jobs=1",
        "register=false", "curve_shares=[]",
        f"data.unlabelled.files=[{more}]", "distil.tasks.topic.min_confidence=0.3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "kaznews"]
    found = client.search_runs([experiment.experiment_id])
    by_task = {run.data.tags.get("task", "parent"): run for run in found}
    assert {run.data.tags["unlabelled_digest"] for run in found} == {
        by_task["parent"].data.tags["unlabelled_digest"]
    }
    topic = by_task["topic"]
    assert topic.data.tags["teacher_version"] == "no encoder"
    assert len(topic.data.params["distillation.teacher_digest"]) == 16
    assert topic.data.params["distil.tasks.topic.weight"]
    assert topic.data.metrics["teacher_cv_accuracy"] > 0.3
    path = client.download_artifacts(topic.info.run_id, "distil.json")
    facts = json.loads(Path(path).read_text("utf-8"))
    assert 0 < facts["sentences"] <= facts["unlabelled_sentences"] <= 300
    assert set(facts["lessons"]) <= set(facts["mass"])
    # A task that is not named learned from its labels alone.
    plain = by_task["stance_trade_balance"].data
    assert not any(name.startswith("distillation.") for name in plain.params)
    # The exported file is made where all models are n-grams of stock classes.
    names = [a.path for a in client.list_artifacts(by_task["parent"].info.run_id)]
    assert "kaznews.npz" in names
