"""A search scores what a fresh fit of each point would score; the cache changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction import text as sk
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, ParameterGrid, PredefinedSplit
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import LinearSVC

from kaznews.features import TfidfVectorizer
from kaznews.folds import FoldCache, fold_matrices, tokenize
from kaznews.search import search

GRID = {
    "vectorizer__min_df": [1, 2],
    "vectorizer__ngram_range": [(2, 3), (2, 4)],
    "classifier__C": [0.1, 1.0, 10.0],
}


@pytest.fixture(scope="module")
def data(corpus_rows: list[dict[str, Any]]) -> tuple[list[str], Any, Any]:
    rows = corpus_rows[::11]
    y = np.array([row["topic"] for row in rows])
    return [row["text"] for row in rows], y, np.arange(len(rows)) % 3


def test_scores_are_those_of_grid_search_over_the_stock_pipeline(data: Any) -> None:
    texts, y, fold = data
    stock = Pipeline(
        [("vectorizer", sk.TfidfVectorizer(analyzer="char_wb")), ("classifier", LinearSVC())]
    )
    reference = GridSearchCV(stock, GRID, cv=PredefinedSplit(fold), scoring="accuracy", refit=False)
    reference.fit(texts, y)
    points = search(
        TfidfVectorizer(analyzer="char_wb"), LinearSVC(), list(ParameterGrid(GRID)), texts, y, fold,
        accuracy_score,
    )  # fmt: skip
    assert [dict(p.params) for p in points] == reference.cv_results_["params"]
    for k in range(3):
        expected = reference.cv_results_[f"split{k}_test_score"]
        assert [p.scores[k] for p in points] == expected.tolist()


def test_any_estimators_can_be_searched(data: Any) -> None:
    texts, y, fold = data
    union = FeatureUnion([["w", TfidfVectorizer()], ["c", TfidfVectorizer(analyzer="char_wb")]])
    grid = list(ParameterGrid({"vectorizer__c__ngram_range": [(2, 2), (2, 3)]}))
    points = search(union, ComplementNB(), grid, texts, y, fold, accuracy_score, n_jobs=2)
    direct = [
        Pipeline([("v", union.set_params(c__ngram_range=g["vectorizer__c__ngram_range"])),
                  ("c", ComplementNB())])
        .fit([t for t, k in zip(texts, fold, strict=True) if k], y[fold != 0])
        .score([t for t, k in zip(texts, fold, strict=True) if not k], y[fold == 0])
        for g in grid
    ]  # fmt: skip
    assert [p.scores[0] for p in points] == direct


def equal(first: Any, second: Any) -> bool:
    return all((a != b).nnz == 0 and a.shape == b.shape for a, b in zip(first, second, strict=True))


def test_a_fold_is_fitted_on_its_own_rows_alone(data: Any) -> None:
    texts, _, fold = data
    vectorizer = TfidfVectorizer(analyzer="char_wb", min_df=2)
    kept, asked = np.flatnonzero(fold), np.flatnonzero(fold == 0)
    fresh = sk.TfidfVectorizer(analyzer="char_wb", min_df=2)
    expected = (
        fresh.fit_transform([texts[i] for i in kept]),
        fresh.transform([texts[i] for i in asked]),
    )
    found = fold_matrices(vectorizer, tokenize(texts, vectorizer), kept, asked)
    assert equal(found, expected)


def test_the_cache_returns_the_same_and_tells_data_rows_and_parameters_apart(
    data: Any, tmp_path: Path
) -> None:
    texts, _, fold = data
    kept, asked = np.flatnonzero(fold), np.flatnonzero(fold == 0)
    vectorizer = TfidfVectorizer(analyzer="char_wb")
    other = TfidfVectorizer(analyzer="char_wb", min_df=3)
    cache = FoldCache(tmp_path, "digest", 100)
    tokenized = tokenize(texts, vectorizer)
    direct = fold_matrices(vectorizer, tokenized, kept, asked)
    assert equal(cache.matrices(vectorizer, tokenized, kept, asked), direct)
    # The second time nothing is computed: texts that cannot be read do not matter.
    assert equal(cache.matrices(vectorizer, None, kept, asked), direct)
    for changed in (
        lambda: cache.matrices(other, None, kept, asked),
        lambda: cache.matrices(vectorizer, None, asked, kept),
        lambda: FoldCache(tmp_path, "other", 100).matrices(vectorizer, None, kept, asked),
        lambda: cache.of(kept).matrices(vectorizer, None, kept, asked),
    ):
        with pytest.raises(TypeError):
            changed()


def test_the_cache_is_bounded(data: Any, tmp_path: Path) -> None:
    texts, _, fold = data
    cache = FoldCache(tmp_path, "digest", 1)
    for n in (2, 3, 4):
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, n))
        kept, asked = np.flatnonzero(fold), np.flatnonzero(fold == 0)
        cache.matrices(vectorizer, tokenize(texts, vectorizer), kept, asked)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.pkl"))
    assert size > 1_000_000
    cache.shrink()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.pkl")) <= 1_000_000
