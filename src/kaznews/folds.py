"""Texts, a vectorizer and rows in, the matrices of a fold out: computed once, kept across runs.

Folds are the same for all tasks and for all points of a search; what depends on the fold alone is
shared by them through a cache on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def _parts(vectorizer: Any) -> list[Any]:
    from sklearn.pipeline import FeatureUnion

    union = isinstance(vectorizer, FeatureUnion)
    return [part for _, part in vectorizer.transformer_list] if union else [vectorizer]


def encoders(vectorizer: Any) -> list[Any]:
    """Return the sentence encoders among the parts of a vectorizer or union of them."""
    # By name first: importing the encoder's module for every vectorizer is not free.
    named = [part for part in _parts(vectorizer) if type(part).__name__ == "SentenceEncoder"]
    if not named:
        return []
    from kaznews.encoder import SentenceEncoder

    return [part for part in named if isinstance(part, SentenceEncoder)]


def encoder_version(vectorizer: Any) -> str:
    """Return backends and versions of the encoders of a vectorizer; nothing where it has none."""
    named = [f"{encoder.backend} {encoder.current_version()}" for encoder in encoders(vectorizer)]
    return ", ".join(dict.fromkeys(named))


def tokenize(texts: Sequence[str], *vectorizers: Any) -> Any:
    """Return texts that can be indexed by arrays of rows, analysed once where that is possible.

    What several vectorizers cut alike is analysed once for all of them.

    Sentence encoders embed all texts here, on all cores: folds then find them in the cache.

    Returns
    -------
    features.TokenizedCorpus or ndarray of object
        The former if all vectorizers but encoders are those of `kaznews.features` and accelerated;
        each fit on rows of it equals a fit on their texts alone.
    """
    from kaznews import features

    embedding = [encoder for vectorizer in vectorizers for encoder in encoders(vectorizer)]
    for encoder in {repr(encoder): encoder for encoder in embedding}.values():
        encoder.embed(texts)
    parts = [part for vectorizer in vectorizers for part in _parts(vectorizer)]
    parts = [part for part in parts if part not in embedding]
    if parts and all(isinstance(part, features.CountVectorizer) for part in parts):
        try:
            return features.TokenizedCorpus(texts, *parts)
        except ValueError:
            # A parameter that only scikit-learn's own code can follow.
            pass
    return np.array(texts, dtype=object)


def fold_matrices(
    vectorizer: Any, texts: Any, kept: Rows, held_out: Rows, key: str = ""
) -> tuple[Any, Any]:
    """Fit a vectorizer on some rows alone and return the matrices of these and of other rows.

    Parameters
    ----------
    vectorizer : estimator
        Unfitted; cloned.
    texts : indexable by arrays of rows
        As `tokenize` returns them.
    kept, held_out : ndarray of int
        Rows to fit on, rows to transform.
    key : str
        Names the texts in a cache; not used here.
    """
    from sklearn.base import clone

    fitted = clone(vectorizer)
    return fitted.fit_transform(texts[kept]), fitted.transform(texts[held_out])


def _beside(pairs: Sequence[Sequence[Any]], side: int) -> Any:
    """Return matrices side by side, as a FeatureUnion does."""
    from scipy import sparse

    blocks = [pair[side] for pair in pairs]
    if any(sparse.issparse(block) for block in blocks):
        return sparse.hstack(blocks).tocsr()
    return np.hstack(blocks)


@dataclass(frozen=True)
class FoldCache:
    """A bounded cache of `fold_matrices` on disk.

    Attributes
    ----------
    folder : Path
    key : str
        Digest of the texts: the cache tells texts apart by it alone.
    megabytes : int
        What `shrink` leaves at most.
    """

    folder: Path
    key: str
    megabytes: int

    def of(self, rows: Rows) -> FoldCache:
        """Return the cache of a selection of rows, whose folds are numbered within it."""
        digest = hashlib.sha256(np.ascontiguousarray(rows, dtype=np.int64).tobytes()).hexdigest()
        return replace(self, key=f"{self.key}-{digest[:16]}")

    def matrices(self, vectorizer: Any, texts: Any, kept: Rows, held_out: Rows) -> tuple[Any, Any]:
        """Return what `fold_matrices` returns, computed at most once a vectorizer and rows.

        The parts of a union are kept one by one, so that unions share them.
        """
        from sklearn.pipeline import FeatureUnion

        if type(vectorizer) is FeatureUnion and all(hasattr(p, "fit") for p in _parts(vectorizer)):
            weights = vectorizer.transformer_weights or {}
            found = [
                [matrix * weights[name] if name in weights else matrix for matrix in pair]
                for name, part in vectorizer.transformer_list
                for pair in [self.matrices(part, texts, kept, held_out)]
            ]
            return _beside(found, 0), _beside(found, 1)
        # The texts are not hashed: the key stands for them, and for what no parameter says.
        cached = self._memory().cache(fold_matrices, ignore=["texts"])
        key = "-".join([self.key, *(e.current_version() for e in encoders(vectorizer))])
        pair: tuple[Any, Any] = cached(vectorizer, texts, kept, held_out, key)
        return pair

    def shrink(self) -> None:
        """Drop the entries that were used longest ago until the cache is within its bound."""
        self._memory().reduce_size(bytes_limit=self.megabytes * 10**6)

    def _memory(self) -> Any:
        import joblib

        return joblib.Memory(self.folder, verbose=0)
