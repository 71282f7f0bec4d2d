"""A vectorizer and a classifier in, out-of-fold probabilities and one stock pipeline out.

What is saved is made of scikit-learn's own classes alone and reads a DataFrame with the column
``text``. Linear classifiers are saved as a softmax over their calibrated decision values, or under
isotonic curves of them, so that a saved model is one sparse product, whatever it was trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.calibrate import AUTO, Calibration, calibrate, fit_threshold, softmax
from kaznews.errors import KaznewsError
from kaznews.folds import encoders, fold_matrices
from kaznews.lessons import Lessons, learn, with_lessons
from kaznews.stock import EPSILON, calibrated, linear

TEXT_COLUMN = "text"
# All that a saved model may hold beyond what skops trusts by itself: two parts of scikit-learn's
# own calibration, and the training matrix of neighbour classifiers; and our encoder, which is
# checked once it is loaded (`check_encoders`). None of them runs code.
TRUSTED_TYPES = [
    "kaznews.encoder.SentenceEncoder",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
]

# From this many sentences, analysing them once for all tasks pays.
_MANY = 64

Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.str_]


def with_vectorizers(pipeline: Any, convert: Callable[[Any], Any]) -> Any:
    """Return a copy of a saved or loaded pipeline with every vectorizer converted.

    Vectorizers that are no string vectorizers are left alone.
    """
    from copy import copy

    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import FeatureUnion, Pipeline

    def converted(vectorizer: Any) -> Any:
        if isinstance(vectorizer, FeatureUnion):
            parts = [(name, converted(part)) for name, part in vectorizer.transformer_list]
            return FeatureUnion(parts, transformer_weights=vectorizer.transformer_weights)
        return convert(vectorizer) if isinstance(vectorizer, CountVectorizer) else vectorizer

    columns = copy(pipeline.named_steps["text"])
    (name, frozen, column), *rest = columns.transformers_
    frozen = FrozenEstimator(converted(frozen.estimator))
    columns.transformers = [(name, frozen, column)]
    columns.transformers_ = [(name, frozen, column), *rest]
    return Pipeline([("text", columns), ("classifier", pipeline.named_steps["classifier"])])


def probabilities(pipelines: Sequence[Any], texts: Sequence[str]) -> list[Floats]:
    """Return the probabilities that each pipeline gives, the texts analysed once for all.

    Parameters
    ----------
    pipelines : sequence of Pipeline
        As `accelerated` returns them, or any that reads a DataFrame with the column ``text``.
    texts : sequence of str, length n_sentences
        Normalised sentences.

    Returns
    -------
    list of ndarray, each of shape (n_sentences, n_classes)
    """
    import pandas as pd

    from kaznews import features

    fast = [
        vectorizer
        for pipeline in pipelines
        for vectorizer in vectorizers(pipeline)
        if isinstance(vectorizer, features.CountVectorizer)
    ]
    if len(texts) >= _MANY and len(fast) == sum(len(vectorizers(p)) for p in pipelines):
        tokenized = features.TokenizedCorpus(texts, *fast)
        return [
            np.asarray(
                pipeline.named_steps["classifier"].predict_proba(
                    _vectorizer(pipeline).transform(tokenized)
                )
            )
            for pipeline in pipelines
        ]
    frame = pd.DataFrame({TEXT_COLUMN: list(texts)}, dtype=object)
    return [np.asarray(pipeline.predict_proba(frame)) for pipeline in pipelines]


def accelerated(pipeline: Any) -> Any:
    """Return an equal pipeline whose vectorizers are the fast ones of `kaznews.features`."""
    from kaznews import features

    def fast(vectorizer: Any) -> Any:
        if isinstance(vectorizer, features.CountVectorizer):
            return vectorizer
        if not hasattr(vectorizer, "vocabulary_"):
            # Stored as an array: let scikit-learn build the dict that the fast one reads.
            vectorizer = deepcopy(vectorizer)
            vectorizer.transform([""])
        return features.from_sklearn(vectorizer)

    from copy import deepcopy

    return with_vectorizers(pipeline, fast)


@dataclass(frozen=True)
class FoldFit:
    """One fitted fold: the rows it was asked about and what it said.

    Attributes
    ----------
    rows : ndarray of int, shape (n_held_out,)
    scores : ndarray, shape (n_held_out, n_classes)
        Uncalibrated, on the scale of log-odds; columns in the order of all classes.
    """

    rows: npt.NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True)
class FittedTask:
    """What training one task yields.

    Attributes
    ----------
    classes : ndarray of str, shape (n_classes,)
        Sorted, as scikit-learn has them; the columns of `oof_probability`.
    oof_probability : ndarray, shape (n_sentences, n_classes)
        Calibrated, from models and calibrations that saw neither the sentence nor its article.
    pipeline : sklearn.pipeline.Pipeline
        Fitted on all sentences; stock classes only; reads a DataFrame with the column ``text``.
    threshold : float
        Confidence below which the task abstains (see `calibrate.fit_threshold`).
    calibration : Calibration or None
        None where there is nothing to calibrate.
    losses : mapping of str to float
        Cross-fitted log-loss of each calibration that was tried.
    """

    classes: Strings
    oof_probability: Floats
    pipeline: Any
    threshold: float
    calibration: Calibration | None = None
    losses: Mapping[str, float] = field(default_factory=dict)

    def facts(self) -> dict[str, str | float]:
        """Return what was chosen on out-of-fold scores, as it is recorded with the model."""
        chosen: dict[str, str | float] = {"abstain_threshold": self.threshold}
        if self.calibration is not None:
            chosen["calibration_chosen"] = self.calibration.method
            chosen["calibration_beta"] = self.calibration.beta
        return chosen


def class_scores(classifier: Any, matrix: Any) -> Floats:
    """Return scores on the scale of log-odds, shape (n_samples, n_classes), two for binary.

    Those of a classifier that is saved as a linear one are the decision values of what is saved.
    """
    if hasattr(classifier, "decision_function"):
        scores = np.asarray(classifier.decision_function(matrix), dtype=np.float64)
    elif linear(classifier) is not None:
        scores = np.asarray(classifier.predict_joint_log_proba(matrix), dtype=np.float64)
        if scores.shape[1] == 2:
            scores = scores[:, 1] - scores[:, 0]
    else:
        return np.asarray(np.log(classifier.predict_proba(matrix) + EPSILON))
    if scores.ndim == 1:
        scores = np.column_stack([np.zeros_like(scores), scores])
    return scores


def _response(classifier: Any, scores: Floats) -> Floats:
    """Return what scikit-learn's calibrators are given, from the `class_scores` of a classifier."""
    if hasattr(classifier, "decision_function") or linear(classifier) is not None:
        return scores
    return np.asarray(np.exp(scores) - EPSILON)


def _fit(
    vectorizer: Any,
    classifier: Any,
    texts: Any,
    y: Strings,
    lessons: Lessons | None,
    weight: Floats | None,
) -> tuple[Any, Any]:
    from sklearn.base import clone

    fitted_vectorizer = clone(vectorizer)
    rows, index = with_lessons(np.arange(len(y)), lessons, len(y))
    with _naming(vectorizer, classifier):
        matrix = fitted_vectorizer.fit_transform(texts[rows] if lessons else texts)
        return fitted_vectorizer, learn(classifier, matrix, y, lessons, index, weight)


@contextmanager
def _naming(vectorizer: Any, classifier: Any) -> Iterator[None]:
    """Turn what scikit-learn says of wrong parameters into an error that names the estimators."""
    try:
        yield
    except ValueError as error:
        raise KaznewsError(f"cannot fit {classifier} on {vectorizer}: {error}") from error


def _fit_fold(
    vectorizer: Any,
    classifier: Any,
    texts: Any,
    y: Strings,
    held_out: npt.NDArray[np.bool_],
    classes: Strings,
    matrices: Callable[..., tuple[Any, Any]],
    lessons: Lessons | None,
    weight: Floats | None,
) -> FoldFit:
    rows = np.flatnonzero(held_out)
    kept = np.flatnonzero(~held_out)
    with _naming(vectorizer, classifier):
        fitted_on, index = with_lessons(kept, lessons, len(y))
        matrix, asked = matrices(vectorizer, texts, fitted_on, rows)
        own = None if weight is None else weight[kept]
        fold_classifier = learn(classifier, matrix, y[kept], lessons, index, own)
    known = class_scores(fold_classifier, asked)
    # A class that this fold's training rows lack can only be worse than the worst it knows.
    scores = np.full((len(rows), len(classes)), known.min(initial=0.0) - 1.0)
    scores[:, np.searchsorted(classes, fold_classifier.classes_)] = known
    return FoldFit(rows, scores)


def train_task(
    vectorizer: Any,
    classifier: Any,
    texts: Any,
    y: Strings,
    fold: npt.NDArray[np.int64],
    *,
    calibration: str = AUTO,
    target_accuracy: float = 0.9,
    matrices: Callable[..., tuple[Any, Any]] = fold_matrices,
    n_jobs: int = 1,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda jobs, total: jobs,
    lessons: Mapping[int, Lessons] | None = None,
    weight: Floats | None = None,
) -> FittedTask:
    """Cross-validate, calibrate and fit one task.

    Vocabulary, IDF, classifier and calibration of a fold are fitted without its rows. The final
    model is fitted on all rows and calibrated by the out-of-fold scores of all folds; the threshold
    below which it abstains is that of the out-of-fold probabilities.

    Parameters
    ----------
    vectorizer, classifier : estimators
        Unfitted; cloned for every fit.
    texts : sequence of str, length n_sentences
        Normalised sentences; as `folds.tokenize` returns them they are analysed once for all fits.
    y : ndarray of str, shape (n_sentences,)
    fold : ndarray of int, shape (n_sentences,)
        Fold of each sentence; sentences of one group share it.
    calibration : str
        One of `calibrate.METHODS`, or ``auto``.
    target_accuracy : float
        Of the answers that are kept, for the threshold.
    matrices : callable
        As `folds.fold_matrices`; `folds.FoldCache.matrices` shares them between tasks and runs.
    n_jobs : int
        Processes, as in joblib.
    progress : callable
        Wraps the iterator over results, given it and how many will come.
    lessons : mapping of int to Lessons, optional
        For each fold those of a teacher that did not see it, for -1 those of one that saw all;
        `texts` then goes on behind the labelled sentences with the unlabelled ones.
    weight : ndarray, shape (n_sentences,), optional
        Of the labelled sentences, in every fit; 1 by default.

    Raises
    ------
    KaznewsError
        An estimator cannot be fitted with its parameters on these sentences.
    """
    from joblib import Parallel, delayed
    from joblib.parallel import get_active_backend

    texts = texts if hasattr(texts, "shape") else np.array(texts, dtype=object)
    classes = np.unique(y)
    target = np.searchsorted(classes, y)
    folds = np.unique(fold)
    taught = lessons or {}
    jobs = [delayed(_fit)(vectorizer, classifier, texts, y, taught.get(-1), weight)]
    jobs += [
        delayed(_fit_fold)(
            vectorizer,
            classifier,
            texts,
            y,
            fold == k,
            classes,
            matrices,
            taught.get(int(k)),
            weight,
        )
        for k in folds
    ]
    # Ray's backend hands all results over at once.
    one_by_one = get_active_backend()[0].supports_return_generator
    results = Parallel(n_jobs=n_jobs, return_as="generator" if one_by_one else "list")(jobs)
    (full_vectorizer, full_classifier), *fold_fits = progress(results, len(jobs))
    scores = np.empty((len(y), len(classes)))
    for fit in fold_fits:
        scores[fit.rows] = fit.scores
    if _is_constant(full_classifier):
        probability = softmax(scores)
        threshold = _threshold(probability, target, target_accuracy)
        pipeline = assemble(full_vectorizer, full_classifier)
        return FittedTask(classes, probability, pipeline, threshold)
    found = calibrate(
        scores, target, fold, method=calibration, response=_response(full_classifier, scores)
    )
    return FittedTask(
        classes,
        found.probability,
        assemble(full_vectorizer, calibrated(full_classifier, found.calibration)),
        _threshold(found.probability, target, target_accuracy),
        found.calibration,
        found.losses,
    )


def _threshold(probability: Floats, target: npt.NDArray[np.int64], accuracy: float) -> float:
    hit = probability.argmax(axis=1) == target
    return fit_threshold(probability.max(axis=1), hit, accuracy)


def fit_majority(y: Strings) -> Any:
    """Return a fitted baseline that always says the most frequent class, whatever it is given."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior").fit(np.zeros((len(y), 1)), y)


def _is_constant(classifier: Any) -> bool:
    from sklearn.dummy import DummyClassifier

    return isinstance(classifier, DummyClassifier)


def assemble(vectorizer: Any, classifier: Any) -> Any:
    """Return one pipeline of fitted parts that reads a DataFrame with the column ``text``.

    The column is selected inside: a TfidfVectorizer that is handed a DataFrame iterates its
    column names and answers once for three rows.
    """
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import Pipeline

    columns = ColumnTransformer(
        [("vectorizer", FrozenEstimator(compact(vectorizer)), TEXT_COLUMN)], sparse_threshold=1
    )
    columns.fit(pd.DataFrame({TEXT_COLUMN: [""]}))
    return Pipeline([("text", columns), ("classifier", classifier)])


def compact(vectorizer: Any) -> Any:
    """Return an equal fitted vectorizer that holds its vocabulary as one array.

    A dict of n-grams is written by skops as one node an entry: 64 MB and 3 seconds for 33,000.
    scikit-learn builds ``vocabulary_`` from the parameter ``vocabulary`` when it is first needed;
    `forget_dicts` drops it again before a model is saved.
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    if isinstance(vectorizer, FeatureUnion):
        parts = [(name, compact(part)) for name, part in vectorizer.transformer_list]
        return FeatureUnion(parts, transformer_weights=vectorizer.transformer_weights)
    if encoders(vectorizer):
        return vectorizer.without_cache()
    if not isinstance(vectorizer, CountVectorizer):
        return vectorizer
    terms = vectorizer.get_feature_names_out().tolist()
    vocabulary: Any = np.array(terms, dtype=np.str_)
    # NumPy strips trailing NULs from its strings: such a vocabulary stays a dict.
    if vocabulary.tolist() != terms:
        vocabulary = {term: index for index, term in enumerate(terms)}
    is_tfidf = isinstance(vectorizer, TfidfVectorizer)
    stock_class = TfidfVectorizer if is_tfidf else CountVectorizer
    # No term is in the empty text: an IDF without smoothing is infinite until the real one is set.
    with np.errstate(divide="ignore"):
        stock = stock_class(**{**vectorizer.get_params(), "vocabulary": vocabulary}).fit([""])
    if is_tfidf and vectorizer.use_idf:
        stock.idf_ = vectorizer.idf_
    return stock


def _vectorizer(pipeline: Any) -> Any:
    """Return the fitted vectorizer, or union of them, of a pipeline that `train_task` made."""
    vectorizer = pipeline.named_steps["text"].named_transformers_["vectorizer"]
    return getattr(vectorizer, "estimator", vectorizer)


def vectorizers(pipeline: Any) -> list[Any]:
    """Return the fitted vectorizers of a pipeline that `train_task` made, in column order."""
    from sklearn.pipeline import FeatureUnion

    vectorizer = _vectorizer(pipeline)
    if isinstance(vectorizer, FeatureUnion):
        return [part for _, part in vectorizer.transformer_list]
    return [vectorizer]


def encoders_of(pipeline: Any) -> list[Any]:
    """Return the sentence encoders of a pipeline that `train_task` made."""
    return encoders(_vectorizer(pipeline))


def check_encoders(pipeline: Any) -> None:
    """Refuse a loaded pipeline whose encoders are not ours or cannot run here; KaznewsError."""
    for found in encoders_of(pipeline):
        from kaznews.encoder import check_loaded

        check_loaded(found)


def forget_dicts(pipeline: Any) -> None:
    """Drop the vocabulary dicts that scikit-learn can build again from arrays (see `compact`)."""
    for vectorizer in vectorizers(pipeline):
        if isinstance(getattr(vectorizer, "vocabulary", None), np.ndarray):
            vars(vectorizer).pop("vocabulary_", None)
