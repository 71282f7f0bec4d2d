"""Labelled and unlabelled sentences and a teacher in, lessons for a faster student out.

A teacher that may be slow (an encoder beside n-grams) says what it thinks of unlabelled sentences;
a student with fast features learns that beside the labels. Teachers are cross-fitted: a student
that is judged on a fold learns from one that has not seen it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.calibrate import fit_beta, softmax
from kaznews.data import Corpus
from kaznews.errors import AbsentError, KaznewsError
from kaznews.folds import encoder_version, encoders, fold_matrices, tokenize
from kaznews.lessons import Lessons, learn
from kaznews.model import class_scores
from kaznews.split import Split
from kaznews.unlabelled import Pool, Unlabelled, gather, held_out_of

Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.str_]

log = logging.getLogger("kaznews.train")

LABELS = ("hard", "confidence", "soft")
PRIORS = ("teacher", "labelled")
# Classes below this probability are no lesson of a soft label: they would multiply the rows.
SMALLEST_SHARE = 0.05
# How far the prior may push a class: a class with a handful of guesses must not rest on them.
GREATEST_PUSH = 5.0


@dataclass
class Recipe:
    """How the student of one task learns from the teacher (an entry of ``distil.tasks``).

    Attributes
    ----------
    labels : {"hard", "confidence", "soft"}
        The likeliest class with weight 1; the same with its probability as weight; every likely
        class with its probability as weight.
    weight : float
        Of an unlabelled sentence, where a labelled one weighs 1.
    min_confidence : float
        Sentences whose likeliest class is less probable are left out.
    prior : {"teacher", "labelled"}
        Whether classes weigh as the teacher finds them, or in the proportions of the labels, so
        that a rare class does not drown in the others' guesses.
    """

    labels: str
    weight: float
    min_confidence: float
    prior: str


@dataclass(frozen=True)
class Teacher:
    """What cross-fitted teachers of one task think.

    Attributes
    ----------
    classes : ndarray of str, shape (n_classes,)
    probability : mapping of int to ndarray of shape (n_unlabelled, n_classes)
        Calibrated; by the fold that the teacher has not seen, -1 for the one that saw all.
    oof_probability : ndarray, shape (n_labelled, n_classes)
        What the labelled sentences got from the teacher that did not see them.
    betas : mapping of int to float
        Inverse temperature of each.
    """

    classes: Strings
    probability: Mapping[int, Floats]
    oof_probability: Floats
    betas: Mapping[int, float]


@dataclass(frozen=True)
class Study:
    """A distillation of all tasks of a run: a teacher, unlabelled sentences, a recipe a task.

    Attributes
    ----------
    vectorizer, classifier : estimators
        Of the teacher; unfitted.
    found : Unlabelled
    texts : indexable by arrays of rows
        All sentences of the corpus, then the unlabelled ones, as `folds.tokenize` returns them for
        the teacher.
    recipes : mapping of str to Recipe
        By task; a task without one is trained on its labels alone.
    """

    vectorizer: Any
    classifier: Any
    found: Unlabelled
    texts: Any
    recipes: Mapping[str, Recipe]

    def behind(self) -> npt.NDArray[np.int64]:
        """Return the rows of the unlabelled sentences among all texts."""
        return np.arange(len(self.texts) - len(self.found.texts), len(self.texts))

    def tags(self) -> dict[str, str]:
        """Return what a run is tagged with."""
        return {
            "teacher_version": encoder_version(self.vectorizer) or "no encoder",
            "unlabelled_digest": self.found.digest,
        }

    def lessons(
        self,
        task: str,
        rows: npt.NDArray[np.int64],
        y: Strings,
        fold: npt.NDArray[np.int64],
        *,
        matrices: Callable[..., tuple[Any, Any]] = fold_matrices,
        n_jobs: int = 1,
        weight: Floats | None = None,
    ) -> tuple[dict[int, Lessons], dict[str, Any]]:
        """Return the lessons of a task by fold, and all about them that a run records.

        Parameters
        ----------
        rows : ndarray of int
            Rows of the corpus that are trained on; `y`, `fold` and `weight` are theirs.
        """
        recipe = self.recipes[task]
        teacher = teach(
            self.vectorizer,
            self.classifier,
            self.texts[np.concatenate([rows, self.behind()])],
            y,
            fold,
            matrices=matrices,
            n_jobs=n_jobs,
            weight=weight,
        )
        by_fold = lessons_by_fold(teacher, y, recipe)
        said = teacher.classes[teacher.oof_probability.argmax(axis=1)]
        facts = {
            **describe(by_fold[-1], teacher, recipe),
            **self.tags(),
            "teacher": f"{self.classifier} on {self.vectorizer}",
            "teacher_cv_accuracy": float((said == y).mean()),
            "unlabelled_sentences": len(self.found.texts),
            "unlabelled_dropped": dict(self.found.dropped),
        }
        return by_fold, facts


def study(
    vectorizer: Any,
    classifier: Any,
    found: Unlabelled,
    texts: Sequence[str],
    recipes: Mapping[str, Recipe],
    tasks: Sequence[str],
) -> Study:
    """Prepare a distillation: check the recipes, let the teacher read all sentences once.

    Recipes of tasks that this run does not train are passed over.

    Raises
    ------
    KaznewsError
        A recipe has an impossible value.
    AbsentError
        No task of this run has one, or an encoder of the teacher is not installed.
    """
    for name, recipe in recipes.items():
        check_recipe(name, recipe)
    own = {name: recipe for name, recipe in recipes.items() if name in tasks}
    if not own:
        raise AbsentError(
            f"distil.tasks has a recipe for {', '.join(recipes) or 'no task'}, this run trains "
            f"{', '.join(tasks)}: nothing would learn from the teacher"
        )
    return Study(vectorizer, classifier, found, tokenize([*texts, *found.texts], vectorizer), own)


def study_of(
    vectorizer: Any,
    classifier: Any,
    pool: Pool,
    corpus: Corpus,
    split: Split,
    recipes: Mapping[str, Recipe],
    optional: bool,
) -> Study | None:
    """Read the unlabelled sentences of a pool and return the study of a corpus, as `study` does.

    With `optional`, None where the teacher or the sentences are absent, which is logged.
    """
    try:
        # At once: reading the unlabelled sentences takes a while.
        for encoder in encoders(vectorizer):
            encoder.current_version()
        found = gather(pool, held_out_of(corpus, split))
        log.info("unlabelled (%s): %d sentences", found.digest, len(found.texts))
        texts, tasks = list(corpus.dataset["text"]), [task.name for task in corpus.tasks]
        return study(vectorizer, classifier, found, texts, recipes, tasks)
    except AbsentError as error:
        if not optional:
            raise
        log.warning("trained without a teacher: %s", error)
        return None


def check_recipe(task: str, recipe: Recipe) -> None:
    """Refuse values that are no recipe; KaznewsError."""
    where = f"distil.tasks.{task}"
    if recipe.labels not in LABELS:
        raise KaznewsError(f"{where}.labels={recipe.labels}: expected one of {', '.join(LABELS)}")
    if recipe.prior not in PRIORS:
        raise KaznewsError(f"{where}.prior={recipe.prior}: expected one of {', '.join(PRIORS)}")
    if not recipe.weight > 0:
        raise KaznewsError(f"{where}.weight must be above 0, not {recipe.weight}")
    if not 0 <= recipe.min_confidence < 1:
        raise KaznewsError(f"{where}.min_confidence must be in [0, 1), not {recipe.min_confidence}")


def _teach_fold(
    vectorizer: Any,
    classifier: Any,
    texts: Any,
    y: Strings,
    held_out: npt.NDArray[np.bool_],
    n_unlabelled: int,
    classes: Strings,
    matrices: Callable[..., tuple[Any, Any]],
    weight: Floats | None,
) -> tuple[Floats, Floats]:
    """Return scores of held-out and of unlabelled sentences, columns in the order of classes."""
    kept, rows = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    asked = np.concatenate([rows, len(y) + np.arange(n_unlabelled)])
    try:
        matrix, question = matrices(vectorizer, texts, kept, asked)
        own = None if weight is None else weight[kept]
        fitted = learn(classifier, matrix, y[kept], None, kept, own)
    except KaznewsError:
        raise
    except ValueError as error:
        raise KaznewsError(f"cannot fit the teacher {classifier}: {error}") from error
    known = class_scores(fitted, question)
    scores = np.full((len(asked), len(classes)), known.min(initial=0.0) - 1.0)
    scores[:, np.searchsorted(classes, fitted.classes_)] = known
    return scores[: len(rows)], scores[len(rows) :]


def teach(
    vectorizer: Any,
    classifier: Any,
    texts: Any,
    y: Strings,
    fold: npt.NDArray[np.int64],
    *,
    matrices: Callable[..., tuple[Any, Any]] = fold_matrices,
    n_jobs: int = 1,
    weight: Floats | None = None,
) -> Teacher:
    """Fit one teacher a fold without it, and one on all; ask each about the unlabelled sentences.

    Parameters
    ----------
    vectorizer, classifier : estimators
        Of the teacher; unfitted, cloned.
    texts : indexable by arrays of rows
        Labelled sentences, then unlabelled ones.
    y, fold : ndarray, shape (n_labelled,)
    weight : ndarray, shape (n_labelled,), optional
        Of the labelled sentences; 1 by default.

    Notes
    -----
    A teacher's scores owe nothing to the labels of its fold. Its temperature is fitted on the
    out-of-fold scores of the other folds, whose teachers have seen that fold: through this one
    number alone, and not through a label of a sentence, a student could know of it.
    """
    from joblib import Parallel, delayed

    classes = np.unique(y)
    target = np.searchsorted(classes, y)
    folds = [int(k) for k in np.unique(fold)]
    n_unlabelled = len(texts) - len(y)
    found = Parallel(n_jobs=n_jobs)(
        delayed(_teach_fold)(
            vectorizer, classifier, texts, y, fold == k, n_unlabelled, classes, matrices, weight
        )
        for k in [*folds, -1]
    )
    scores = np.empty((len(y), len(classes)))
    for k, (own, _) in zip(folds, found, strict=False):
        scores[fold == k] = own
    probability, betas = {}, {}
    oof = np.empty_like(scores)
    for k, (_, unlabelled) in zip([*folds, -1], found, strict=True):
        others = fold != k
        betas[k] = fit_beta(scores[others], target[others])
        probability[k] = softmax(unlabelled, betas[k])
        oof[~others] = softmax(scores[~others], betas[k])
    return Teacher(classes, probability, oof, betas)


def lessons_of(probability: Floats, classes: Strings, y: Strings, recipe: Recipe) -> Lessons:
    """Turn what a teacher thinks into lessons.

    Parameters
    ----------
    probability : ndarray, shape (n_unlabelled, n_classes)
    classes : ndarray of str, shape (n_classes,)
    y : ndarray of str
        Labels of the labelled sentences, for the prior.
    """
    sure = np.flatnonzero(probability.max(axis=1, initial=0.0) >= recipe.min_confidence)
    kept = probability[sure]
    if recipe.labels == "soft":
        at, column = np.nonzero(kept >= SMALLEST_SHARE)
    else:
        at, column = np.arange(len(kept)), kept.argmax(axis=1)
    weight = kept[at, column] if recipe.labels != "hard" else np.ones(len(at))
    weight = recipe.weight * weight
    if recipe.prior == "labelled" and len(at):
        mass = np.bincount(column, weight, minlength=len(classes))
        wanted = np.array([(y == name).sum() for name in classes]) / len(y) * mass.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            push = np.where(mass > 0, wanted / mass, 0.0)
        weight = weight * np.minimum(push, GREATEST_PUSH)[column]
    real = weight > 0
    return Lessons(sure[at][real], classes[column][real], weight[real])


def lessons_by_fold(teacher: Teacher, y: Strings, recipe: Recipe) -> dict[int, Lessons]:
    """Return the lessons of every cross-fitted teacher, as `model.train_task` takes them."""
    return {
        k: lessons_of(probability, teacher.classes, y, recipe)
        for k, probability in teacher.probability.items()
    }


def describe(lessons: Lessons, teacher: Teacher, recipe: Recipe) -> dict[str, Any]:
    """Return what lessons consist of, as plain data.

    `teacher_digest` changes with whatever the teacher of the final model thinks.
    """
    names = [str(name) for name in teacher.classes]
    thoughts = np.round(teacher.probability[-1], 6).astype("<f8")
    return {
        "recipe": asdict(recipe),
        "teacher_digest": hashlib.sha256(thoughts.tobytes()).hexdigest()[:16],
        "teacher_beta": teacher.betas[-1],
        "sentences": len(np.unique(lessons.rows)),
        "lessons": {name: int((lessons.y == name).sum()) for name in names},
        "mass": {name: round(float(lessons.weight[lessons.y == name].sum()), 1) for name in names},
    }
