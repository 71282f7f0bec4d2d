"""`kaznews.features` against stock scikit-learn: every byte, every error, every warning."""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import random
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.feature_extraction import text as sk
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from tests.conftest import SHARED

from kaznews import _matrix, _ngrams, _tokens, _vocabulary, features

SPACES = "".join(chr(c) for c in range(0x3001) if chr(c).isspace())
ADVERSARIAL = [
    "",
    " ",
    SPACES,
    SPACES.join(["екі", "сөз", "және"]),
    "\x00",
    "а\x00б \x00\x00 \x01\x1f",
    "\ud800 а\udfffб \udc00\udc00",
    "😀😃 👩‍👩‍👧‍👦 а😀б",
    "e\u0301\u0301 \u0301 и\u0306 й",
    "ΣΑΣ ΟΔΥΣΣΕΥΣ ΑΣ'Α Σ ΣΣ ΑΣ. Σ\u0301",
    "İSTANBUL Iİı İ İİİİ ẞ ŉ ǰ ﬀ",
    "ҚАЗАҚСТАН Әлемі ғҰҮІҺ Ёлка",
    "2024 жылғы 1-қаңтар 3,14 ½ ² ٣ १२",
    "Latin кирилл ελληνικά 漢字 कखग עברית",
    "¨ ´a` \u00a0x\u2003y ﷺ ①",
    "_ __ a_b _а а_ а-б «тырнақша» а.б.в",
    "\ufeffбас \u200bнөл\u200dбен \u00adжұмсақ",
    "а б в г аа бб а а а",
    "ұзақ " + "ә" * 10_000,
    "".join(chr(0x430 + i * i % 32) for i in range(3000)),
    "жол\nүзілді\r\nтағы\u2028соңы\x85\x1c.",
]
KAZAKH = [
    "Қазақстан Республикасының Президенті Қасым-Жомарт Тоқаев бүгін Астанада мәжіліс өткізді.",
    "Мәжіліс депутаттары заң жобасын екінші оқылымда мақұлдады, деп хабарлады Parlam.kz.",
    "Алматы қаласында ауа температурасы 25 градусқа дейін көтеріледі.",
    "Ал күні кеше мұхит асқан тағы 1 жетімектің жұмбақ жағдайда көз жұмғаны белгілі болды.",
    "Теңге бағамы: 1 АҚШ доллары – 447,5 теңге; 1 еуро – 485 теңге.",
]


def outcome(make: Callable[[], Any]) -> tuple[Any, Any, list[tuple[type, str]]]:
    """Return the value, the error and the warnings of a call."""
    value = error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = make()
        except Exception as raised:
            error = (type(raised), str(raised))
    return value, error, [(w.category, str(w.message)) for w in caught]


def assert_same_matrix(stock: Any, fast: Any) -> None:
    assert type(stock) is type(fast)
    assert stock.shape == fast.shape
    for name in ("indptr", "indices", "data"):
        left, right = getattr(stock, name), getattr(fast, name)
        assert left.dtype == right.dtype, name
        assert left.tobytes() == right.tobytes(), name
    assert stock.has_sorted_indices == fast.has_sorted_indices
    assert stock.has_canonical_format == fast.has_canonical_format


def assert_same_fit(stock: Any, fast: Any) -> None:
    assert list(stock.vocabulary_.items()) == list(fast.vocabulary_.items())
    assert list(map(type, stock.vocabulary_.values())) == list(map(type, fast.vocabulary_.values()))
    assert type(fast.vocabulary_) is dict
    assert stock.fixed_vocabulary_ == fast.fixed_vocabulary_
    assert vars(stock).keys() == vars(fast).keys()
    if hasattr(stock, "idf_"):
        assert stock.idf_.dtype == fast.idf_.dtype
        assert stock.idf_.tobytes() == fast.idf_.tobytes()


def check(
    train: Iterable[Any], test: Iterable[Any], kind: str = "TfidfVectorizer", **params: Any
) -> None:
    """Fit, transform and compare everything, and the one-by-one and the array path too."""
    train, test = list(train), list(test)
    stock, fast = getattr(sk, kind)(**params), getattr(features, kind)(**params)
    expected, got = (outcome(lambda v=v: v.fit_transform(train)) for v in (stock, fast))
    assert expected[1:] == got[1:]
    if expected[1] is None:
        assert_same_matrix(expected[0], got[0])
        assert_same_fit(stock, fast)

    def reload(vectorizer: Any) -> Any:
        return pickle.loads(pickle.dumps(vectorizer))

    swapped = getattr(features, kind).from_sklearn(reload(stock))
    pairs = [(stock, fast), (reload(stock), reload(fast)), (reload(stock), swapped)]
    limits = dict(features.FEW)
    for few in (0, 10**9):  # the path for many documents, and the one for few
        try:
            features.FEW.update(dict.fromkeys(features.FEW, few))
            for pair in pairs:
                expected, got = (outcome(lambda v=v: v.transform(test)) for v in pair)
                assert expected[1:] == got[1:]
                if expected[1] is None:
                    assert_same_matrix(expected[0], got[0])
        finally:
            features.FEW.update(limits)


CONFIGURATIONS: list[dict[str, Any]] = [
    {"analyzer": "char_wb", "ngram_range": (2, 5)},
    {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2, "sublinear_tf": True},
    {"analyzer": "char_wb", "ngram_range": (1, 3), "max_df": 0.5, "dtype": np.float32},
    {"analyzer": "char_wb", "ngram_range": (3, 6), "max_features": 500, "norm": "l1"},
    {"analyzer": "char_wb", "ngram_range": (2, 4), "lowercase": False, "strip_accents": "unicode"},
    {"ngram_range": (1, 2)},
    {"ngram_range": (1, 2), "min_df": 2, "max_df": 0.3, "binary": True, "norm": None},
    {"ngram_range": (2, 3), "token_pattern": r"(?u)\b\w+\b", "stop_words": ["және", "мен", "де"]},
    {"kind": "CountVectorizer", "analyzer": "word", "max_features": 300, "token_pattern": r"\S+"},
    {"ngram_range": (1, 2), "min_df": 2, "token_pattern": r"(?u)\b(\w{1,5})\w*\b"},
]
STEMS = [r"(?u)\b(\w{1,5})\w*\b", r"\b(\w{2,3})\w*\b", r"\b(\w{1,1})\w*\b", r"\b(\w{2,1})\w*\b"]
IDS = [str(i) for i in range(len(CONFIGURATIONS))]


@pytest.mark.parametrize("params", CONFIGURATIONS, ids=IDS)
def test_real_text(params: dict[str, Any]) -> None:
    paths = sorted((SHARED / "gold").glob("*.jsonl"))
    if not paths:
        pytest.skip("no real sentences beside the checkout (../shared/gold)")
    lines = (line for path in paths for line in path.read_text("utf-8").splitlines())
    texts = [json.loads(line)["text"] for line in lines]
    random.Random(0).shuffle(texts)
    params = dict(params)
    stock = getattr(sk, params.get("kind", "TfidfVectorizer"))
    fast = getattr(features, params.pop("kind", "TfidfVectorizer"))
    stock, fast = stock(**params), fast(**params)
    train, test = texts[: len(texts) * 2 // 3], texts[len(texts) * 2 // 3 :]
    assert_same_matrix(stock.fit_transform(train), fast.fit_transform(train))
    assert_same_fit(stock, fast)
    assert_same_matrix(stock.transform(test), fast.transform(test))


@pytest.mark.parametrize("params", CONFIGURATIONS, ids=IDS)
def test_adversarial_text(params: dict[str, Any]) -> None:
    texts = ADVERSARIAL + KAZAKH
    check(texts, texts[::-1], **params)
    check(KAZAKH, texts, **params)
    for text in texts:
        check([text], [text], **params)
    check([], [], **params)


LETTERS = st.sampled_from(
    "аәбғқңөұүһіАҒ eE1.-_'«»ΣσςİIı\u0301\u0306\x00\x1c\u2028\u00a0\u3000\n\t\ud800😀ﬁ½²漢"
)
TEXTS = st.lists(
    st.one_of(
        st.text(LETTERS, max_size=30),
        st.text(st.characters(exclude_categories=()), max_size=8),
        st.lists(st.sampled_from(["а", "аб", "аба", "бала", "Σ", "  "]), max_size=9).map(" ".join),
    ),
    max_size=8,
)
PARAMS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["CountVectorizer", "TfidfVectorizer"]),
        "analyzer": st.sampled_from(["char_wb", "word", "char"]),
        "ngram_range": st.tuples(st.integers(0, 4), st.integers(1, 12)),
    },
    optional={
        "min_df": st.sampled_from([1, 2, 3, 0.0, 0.3, 1.0]),
        "max_df": st.sampled_from([1, 2, 0.5, 0.9, 1.0]),
        "max_features": st.sampled_from([1, 3, 10, 1000]),
        "lowercase": st.booleans(),
        "strip_accents": st.sampled_from([None, "ascii", "unicode"]),
        "binary": st.booleans(),
        "dtype": st.sampled_from([np.float32, np.float64, np.int64, np.uint8, "float32", None]),
        "stop_words": st.sampled_from([None, "english", ["аб", "бала"], ["а б"]]),
        "token_pattern": st.sampled_from(
            [
                *_tokens.RUN_PATTERNS,
                *STEMS,
                r"\S+",
                r"[^а]+",
                r"(?u)(\w)\w*",
                r"а?",
                r".",
                r"(а)(б)",
            ]
        ),
        "vocabulary": st.sampled_from(
            [["аб", " а", "а"], {"б а": 1, "аб": 0}, {"а", "ба", "Б", ""}, ["а" * 40], ["а", "а"]]
        ),
    },
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, TEXTS, PARAMS)
@example(["а\nб", "аб\n\nаб"], ["аб\n"], {"analyzer": "word", "ngram_range": (1, 2)})
@example([" б", "а б"], ["а б"], {"token_pattern": r"[^а]+", "ngram_range": (1, 3)})
@example(["а" * 300, "аб " * 20], ["а" * 90], {"analyzer": "char_wb", "ngram_range": (1, 80)})
def test_any_text_any_parameters(train: list[str], test: list[str], params: dict[str, Any]) -> None:
    check(train, test, **params)


@pytest.mark.parametrize("kind", ["CountVectorizer", "TfidfVectorizer"])
@pytest.mark.parametrize(
    "params",
    [
        {"norm": None},
        {"norm": "l1", "use_idf": False, "sublinear_tf": True},
        {"norm": "l2", "smooth_idf": False, "dtype": np.float32},
        {"norm": "max"},
    ],
)
def test_weights(kind: str, params: dict[str, Any]) -> None:
    if kind == "TfidfVectorizer":
        check(KAZAKH, KAZAKH[::-1], kind, analyzer="char_wb", ngram_range=(2, 3), **params)


@pytest.mark.parametrize("kind", ["CountVectorizer", "TfidfVectorizer"])
@pytest.mark.parametrize("analyzer", ["char_wb", "word"])
@pytest.mark.parametrize(
    "params",
    [
        {"ngram_range": (3, 2)},
        {"ngram_range": (-1, 2)},
        {"ngram_range": [1, 2]},
        {"ngram_range": (np.int64(1), np.int64(2))},
        {"min_df": 4, "max_df": 2},
        {"min_df": 6},
        {"max_df": 0.0},
        {"min_df": "two"},
        {"max_features": 0},
        {"stop_words": "kazakh"},
        {"stop_words": ["Бірінші екінші"]},
        {"token_pattern": None},
        {"token_pattern": "("},
        {"vocabulary": []},
        {"vocabulary": {"а": 1}},
        {"vocabulary": {"Ә": 0, "ә": 1}},
        {"strip_accents": "nothing"},
        {"strip_accents": str.upper},
        {"dtype": np.int32},
        {"tokenizer": str.split},
        {"preprocessor": str.upper},
        {"analyzer": str.split},
        {"analyzer": "words"},
    ],
)
def test_parameters_errors_and_warnings(kind: str, analyzer: str, params: dict[str, Any]) -> None:
    check(KAZAKH, KAZAKH[:2], kind, **{"analyzer": analyzer, **params})


@pytest.mark.parametrize("kind", ["CountVectorizer", "TfidfVectorizer"])
@pytest.mark.parametrize("analyzer", ["char_wb", "word"])
@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize(
    "documents",
    [
        "one string",
        7,
        None,
        [None],
        [1.5, "а"],
        [np.nan],
        ["а", ["б"]],
        ["әліпби".encode(), "ңғ"],
        [b"\xff"],
        [bytearray(b"abc")],
        np.array(KAZAKH),
        tuple(KAZAKH),
        dict.fromkeys(KAZAKH),
    ],
    ids=str,
)
def test_documents_of_any_type(kind: str, analyzer: str, lowercase: bool, documents: Any) -> None:
    for module_params in ({}, {"decode_error": "ignore"}):
        params = {"analyzer": analyzer, "lowercase": lowercase, **module_params}
        stock, fast = (getattr(module, kind)(**params) for module in (sk, features))
        expected, got = (outcome(lambda v=v: v.fit_transform(documents)) for v in (stock, fast))
        assert expected[1:] == got[1:]
        stock.fit(KAZAKH), fast.fit(KAZAKH)
        expected, got = (outcome(lambda v=v: v.transform(documents)) for v in (stock, fast))
        assert expected[1:] == got[1:]
        if expected[1] is None:
            assert_same_matrix(expected[0], got[0])


def test_not_fitted() -> None:
    for kind in ("CountVectorizer", "TfidfVectorizer"):
        stock, fast = getattr(sk, kind)(), getattr(features, kind)()
        for call in (
            lambda v: v.transform(["а"]),
            lambda v: v.idf_,
            lambda v: v.get_feature_names_out(),
            lambda v: v.inverse_transform(np.eye(1)),
        ):
            expected, got = (outcome(lambda v=v, call=call: call(v)) for v in (stock, fast))
            assert expected[1] is not None
            assert expected[1:] == got[1:]
        fixed = {"vocabulary": ["аб", "ба"], "analyzer": "char_wb", "ngram_range": (2, 2)}
        stock, fast = (getattr(module, kind)(**fixed) for module in (sk, features))
        expected, got = (outcome(lambda v=v: v.transform(["абаб"])) for v in (stock, fast))
        assert expected[1:] == got[1:]


def test_files_and_generators() -> None:
    for analyzer in ("char_wb", "word"):
        params = {"analyzer": analyzer, "input": "file"}
        stock, fast = sk.TfidfVectorizer(**params), features.TfidfVectorizer(**params)
        first, second = (v.fit_transform(map(io.StringIO, KAZAKH)) for v in (stock, fast))
        assert_same_matrix(first, second)
        fast = features.TfidfVectorizer(analyzer=analyzer)
        assert_same_matrix(first, fast.fit_transform(text for text in KAZAKH))


def test_subclasses_keep_their_overrides() -> None:
    def make(base: type) -> Any:
        class Reversed(base):  # type: ignore[misc, valid-type]
            def build_preprocessor(self) -> Any:
                return lambda text: text[::-1]

        return Reversed(analyzer="char_wb", ngram_range=(2, 3))

    stock, fast = make(sk.TfidfVectorizer), make(features.TfidfVectorizer)
    assert_same_matrix(stock.fit_transform(KAZAKH), fast.fit_transform(KAZAKH))
    fast = features.CountVectorizer(analyzer="char_wb")
    fast.build_analyzer = lambda: str.split
    stock = sk.CountVectorizer(analyzer=str.split)
    assert_same_matrix(stock.fit_transform(KAZAKH), fast.fit_transform(KAZAKH))


def test_sparse_arrays_if_configured() -> None:
    with config_context(sparse_interface="sparray"):
        check(KAZAKH, KAZAKH[:3], analyzer="char_wb", ngram_range=(2, 3))
        check(KAZAKH, KAZAKH[:3], "CountVectorizer", min_df=2)


def test_changes_after_fitting_are_seen() -> None:
    params = {"analyzer": "char_wb", "ngram_range": (2, 3)}
    stock, fast = sk.CountVectorizer(**params), features.CountVectorizer(**params)
    for vectorizer in (stock, fast):
        vectorizer.fit(KAZAKH).transform(KAZAKH[:1])
    texts = KAZAKH * 20
    for change in (
        lambda v: v.set_params(ngram_range=(1, 2)),
        lambda v: v.set_params(lowercase=False),
        lambda v: v.set_params(analyzer="word"),
        lambda v: v.set_params(analyzer="char"),
        lambda v: v.set_params(analyzer="char_wb", binary=True),
        lambda v: setattr(v, "vocabulary_", {"аб": 0, "қа": 7, "а": 2}),
        lambda v: v.vocabulary_.pop("аб"),
        lambda v: v.fit(KAZAKH[:2]),
    ):
        change(stock), change(fast)
        for n in (1, len(texts)):
            assert_same_matrix(stock.transform(texts[:n]), fast.transform(texts[:n]))
    stock, fast = sk.TfidfVectorizer(**params), features.TfidfVectorizer(**params)
    for vectorizer in (stock.fit(KAZAKH), fast.fit(KAZAKH)):
        vectorizer.idf_ = np.arange(len(vectorizer.vocabulary_), dtype=float)
    assert_same_matrix(stock.transform(texts), fast.transform(texts))


@pytest.mark.parametrize("kind", ["CountVectorizer", "TfidfVectorizer"])
def test_estimator_contract(kind: str) -> None:
    params = {"analyzer": "char_wb", "ngram_range": (2, 3), "min_df": 2}
    stock, fast = getattr(sk, kind)(**params), getattr(features, kind)(**params)
    assert isinstance(fast, getattr(sk, kind))
    assert repr(stock) == repr(fast)
    assert stock.get_params() == fast.get_params() == clone(fast).get_params()
    assert stock.__sklearn_tags__() == fast.__sklearn_tags__()
    matrix = fast.fit_transform(KAZAKH)
    before = dict(vars(fast))
    fast.transform(KAZAKH[:1]), fast.transform(KAZAKH * 20)
    assert vars(fast) == before, "transforming leaves the estimator as it is"
    assert joblib.hash(fast) == joblib.hash(pickle.loads(pickle.dumps(fast)))
    assert joblib.hash(fast) == joblib.hash(clone(fast).fit(KAZAKH))
    stock.fit(KAZAKH)
    assert fast.get_feature_names_out().tolist() == stock.get_feature_names_out().tolist()
    for left, right in zip(
        fast.inverse_transform(matrix), stock.inverse_transform(matrix), strict=True
    ):
        assert left.tolist() == right.tolist()
    grid = GridSearchCV(
        make_pipeline(getattr(features, kind)(analyzer="char_wb"), LogisticRegression()),
        {f"{kind.lower()}__ngram_range": [(1, 2), (2, 3)]},
        cv=2,
    )
    grid.fit(KAZAKH * 2, [0, 1, 0, 1, 0] * 2)


@pytest.mark.parametrize("kind", ["CountVectorizer", "TfidfVectorizer"])
def test_to_and_from_sklearn(kind: str) -> None:
    fast_class, stock_class = getattr(features, kind), getattr(sk, kind)
    fast = fast_class(analyzer="char_wb", ngram_range=(2, 4), min_df=2).fit(KAZAKH)
    stock = fast.to_sklearn()
    assert type(stock) is stock_class
    assert b"kaznews" not in pickle.dumps(stock)
    assert_same_fit(stock, fast)
    assert_same_matrix(stock.transform(KAZAKH), fast.transform(KAZAKH))
    for back in (features.from_sklearn(stock), fast_class.from_sklearn(stock)):
        assert type(back) is fast_class
        assert_same_fit(stock, back)
        assert_same_matrix(stock.transform(KAZAKH), back.transform(KAZAKH))
    stock.vocabulary_.clear()
    assert fast.vocabulary_, "the two share no state"
    assert type(fast_class().to_sklearn()) is stock_class
    with pytest.raises(TypeError):
        features.from_sklearn(fast)
    with pytest.raises(TypeError):
        fast_class.from_sklearn(LogisticRegression())


@pytest.mark.parametrize("params", CONFIGURATIONS, ids=IDS)
def test_folds_share_one_tokenisation(params: dict[str, Any]) -> None:
    params = dict(params)
    kind = params.pop("kind", "TfidfVectorizer")
    texts = (KAZAKH + ADVERSARIAL) * 2
    fast, stock = getattr(features, kind)(**params), getattr(sk, kind)(**params)
    corpus = features.TokenizedCorpus(texts, fast)
    corpus = pickle.loads(pickle.dumps(corpus))
    assert corpus.is_prepared_for(fast)
    shuffled = np.random.default_rng(0).permutation(len(texts))
    for rows in (shuffled[:30], shuffled[30:], np.arange(12), np.array([3, 3, 1, 0, 3, 2])):
        chosen = [texts[i] for i in rows]
        assert list(corpus[rows]) == chosen
        expected = outcome(lambda chosen=chosen: stock.fit_transform(chosen))
        got = outcome(lambda rows=rows: fast.fit_transform(corpus[rows]))
        assert expected[1:] == got[1:]
        if expected[1] is not None:
            continue
        assert_same_matrix(expected[0], got[0])
        assert_same_fit(stock, fast)
        for other in (rows[::-1], shuffled, np.array([7])):
            expected = stock.transform([texts[i] for i in other])
            assert_same_matrix(expected, fast.transform(corpus[other]))
            batches = list(fast.transform_batches(corpus[other], 4))
            assert np.concatenate([b.data for b in batches]).tobytes() == expected.data.tobytes()
    assert_same_matrix(stock.fit_transform(texts), fast.fit_transform(corpus))


def test_corpus_in_cross_validation(tmp_path: Path) -> None:
    texts, labels = KAZAKH * 6, np.arange(30) % 5 % 2
    parts = [
        {"analyzer": "char_wb", "ngram_range": (2, 4), "min_df": 2},
        {"ngram_range": (1, 2), "stop_words": ["және", "бір"]},
        {"analyzer": "char"},
    ]

    def pipeline(module: Any) -> Any:
        union = make_union(*(module.TfidfVectorizer(**params) for params in parts))
        return make_pipeline(union, LogisticRegression())

    vectorizers = [features.TfidfVectorizer(**params) for params in parts]
    with pytest.raises(ValueError, match="cannot tokenise ahead"):
        features.TokenizedCorpus(texts, *vectorizers)
    memory = joblib.Memory(tmp_path, verbose=0)
    corpus = memory.cache(features.TokenizedCorpus)(texts, *vectorizers[:2])
    again = memory.cache(features.TokenizedCorpus)(texts, *vectorizers[:2])
    assert joblib.hash(corpus) == joblib.hash(again)
    expected = cross_val_score(pipeline(sk), texts, labels, cv=3)
    assert cross_val_score(pipeline(features), corpus, labels, cv=3).tolist() == expected.tolist()
    assert cross_val_score(pipeline(sk), corpus, labels, cv=3).tolist() == expected.tolist()
    parallel = cross_val_score(pipeline(features), corpus, labels, cv=3, n_jobs=2)
    assert parallel.tolist() == expected.tolist()


def test_corpus_as_a_sequence() -> None:
    corpus = features.TokenizedCorpus(KAZAKH)
    assert len(corpus) == len(KAZAKH)
    assert corpus.shape == (5,)
    assert list(corpus) == KAZAKH
    assert corpus[1] == KAZAKH[1]
    assert corpus[-1] == KAZAKH[-1]
    assert corpus[np.int64(2)] == KAZAKH[2]
    assert list(corpus[1:3]) == KAZAKH[1:3]
    assert list(corpus[[]]) == []
    assert list(corpus[np.array([True, False, False, True, False])]) == [KAZAKH[0], KAZAKH[3]]
    assert list(corpus[[4, 0]][[1]]) == [KAZAKH[0]]
    with pytest.raises(IndexError):
        corpus[5]
    with pytest.raises(TypeError):
        features.TokenizedCorpus([b"bytes"])


def test_pickles_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import joblib; from kaznews.features import *;"
        "v = [TfidfVectorizer(analyzer='char_wb', ngram_range=(2, 3)),"
        "CountVectorizer(stop_words=['және', 'мен', 'бір', 'екі'])];"
        "t = ['бір екі үш және төрт', 'екі бес'] * 3;"
        "print(joblib.hash(TokenizedCorpus(t, *v)), joblib.hash(v[0].fit(t)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


def test_batches_and_products_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ngrams, "SUMMED", (700, 700))
    monkeypatch.setattr(_ngrams, "SLICED", 5)
    monkeypatch.setattr(_vocabulary, "TABLE_WORDS", 60)
    monkeypatch.setattr(_tokens, "TEXTS_JOINED", (2, 3))
    monkeypatch.setattr(features, "SMALLEST_BATCH", {"char_wb": 2, "word": 2})
    monkeypatch.setattr(_matrix, "WEIGHED", (1, 11))
    monkeypatch.setattr(_matrix, "RENUMBERED", 13)
    monkeypatch.setattr(_matrix, "COUNTED", 17)
    monkeypatch.setattr(features, "LARGEST_BATCH", {"char_wb": 9, "word": 9})
    texts = (KAZAKH + ADVERSARIAL) * 2
    for params in CONFIGURATIONS:
        check(texts, texts[::-1], **params)


@pytest.mark.parametrize("step", [1, 3, 7, 1 << 14])
def test_columns_are_selected_in_place_as_scipy_selects_them(
    monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(_matrix, "RENUMBERED", step)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X = sparse.random(rng.integers(1, 9), 11, rng.random(), "csr", random_state=rng)
        mask = rng.random(11) < rng.random()
        expected = X[:, np.flatnonzero(mask)]
        found = _matrix.with_columns(X.copy(), mask)
        assert found.shape == expected.shape
        for name in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_transform_batches() -> None:
    fast = features.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3)).fit(KAZAKH)
    read: list[int] = []
    stream = (read.append(i) or KAZAKH[i % 5] for i in range(23))
    batches = fast.transform_batches(stream, batch_size=5)
    assert next(batches).shape[0] == 5
    assert len(read) == 5, "texts are read as they are needed"
    assert [batch.shape[0] for batch in batches] == [5, 5, 5, 3]
    assert list(fast.transform_batches([])) == []
    with pytest.raises(ValueError, match="string object received"):
        fast.transform_batches("text")
    with pytest.raises(ValueError, match="batch_size"):
        fast.transform_batches([], 0)


def test_word_cache_is_bounded_and_thread_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vocabulary, "CACHED_WORDS", 20)
    monkeypatch.setattr(_vocabulary, "FITTED_WORDS", 5)
    fast = features.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit(KAZAKH)
    stock = fast.to_sklearn()
    words = " ".join(KAZAKH).split()
    texts = [" ".join(random.Random(i).sample(words, 8)) for i in range(150)]
    expected = [stock.transform([text]) for text in texts]
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in random.Random(seed).sample(range(len(texts)), len(texts)):
                assert_same_matrix(expected[i], fast.transform([texts[i]]))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(_vocabulary.known_of(fast).word_columns) <= 20 + 8 * 4


def test_cache_goes_with_its_vectorizer() -> None:
    fast = features.TfidfVectorizer().fit(KAZAKH)
    n_caches = len(_vocabulary._caches)
    del fast
    gc.collect()
    assert len(_vocabulary._caches) < n_caches


def synthetic_corpus(n_texts: int) -> list[str]:
    """Return sentences of made-up words with the word statistics of Kazakh news."""
    rng = np.random.default_rng(0)
    letters = np.array(list("аәбвгғдеёжзийкқлмнңоөпрстуұүфхһцчшщъыіьэюя"))
    lengths = rng.poisson(6, 40_000) + 2
    words = np.array(["".join(rng.choice(letters[:30], n)) for n in lengths])
    weights = 1 / np.arange(8, len(words) + 8)
    sizes = rng.poisson(12, n_texts) + 1
    drawn = iter(rng.choice(words, int(sizes.sum()), p=weights / weights.sum()))
    return [" ".join(next(drawn) for _ in range(size)).capitalize() + "." for size in sizes]


def median_ratio(stock: Callable[[], Any], fast: Callable[[], Any], rounds: int) -> float:
    """Return how many times faster `fast` is, from interleaved calls."""
    ratios = []
    for _ in range(rounds):
        times = []
        for call in (stock, fast):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)


@pytest.mark.parametrize(
    ("params", "targets"),
    [
        ({"analyzer": "char_wb", "ngram_range": (2, 5)}, (5, 7, 4)),
        ({"ngram_range": (1, 2)}, (2, 2, 2)),
    ],
    ids=["char_wb", "word"],
)
def test_speed(params: dict[str, Any], targets: tuple[float, float, float]) -> None:
    texts = synthetic_corpus(4500)
    train, test = texts[:3000], texts[3000:]
    stock, fast = sk.TfidfVectorizer(**params), features.TfidfVectorizer(**params)
    measured = (
        median_ratio(lambda: stock.fit_transform(train), lambda: fast.fit_transform(train), 3),
        median_ratio(lambda: stock.transform(test), lambda: fast.transform(test), 3),
        median_ratio(
            lambda: [stock.transform([text]) for text in test[:200]],
            lambda: [fast.transform([text]) for text in test[:200]],
            3,
        ),
    )
    for ratio, target in zip(measured, targets, strict=True):
        assert ratio >= 0.6 * target, measured


@pytest.mark.parametrize(
    "params",
    [
        {"analyzer": "char_wb", "ngram_range": (2, 5)},
        {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2, "sublinear_tf": True},
        {"ngram_range": (1, 2)},
        {},
    ],
    ids=["char_wb", "char_wb pruned", "word", "tokens"],
)
def test_memory_stays_below_scikit_learn(params: dict[str, Any]) -> None:
    texts = synthetic_corpus(4000)
    train, test = texts[:1500], texts[1500:]
    stock, fast = sk.TfidfVectorizer(**params), features.TfidfVectorizer(**params)

    def peak(call: Callable[[], Any]) -> int:
        gc.collect()
        tracemalloc.start()
        call()
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(lambda: fast.fit_transform(train)) <= peak(lambda: stock.fit_transform(train))
    assert peak(lambda: fast.transform(test)) <= peak(lambda: stock.transform(test))
    for some in (train[:1], train[:8], train[:40], train[:200]):
        fast.transform(some)  # words that are kept for later calls are not this one's
        assert peak(partial(fast.transform, some)) <= peak(partial(stock.transform, some))
    whole = peak(lambda: fast.transform(test * 3))
    assert peak(lambda: [None for _ in fast.transform_batches(iter(test * 3), 700)]) < whole / 3
