"""Counts of terms go in; CSR matrices come out, stacked, pruned, renumbered and weighed.

Large arrays are made once and changed in their place, to touch few new pages of memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.feature_extraction import text as sk
from sklearn.utils.sparsefuncs_fast import (
    inplace_csr_row_normalize_l1,
    inplace_csr_row_normalize_l2,
)

from kaznews._tokens import Ints, counted, pointers

# Matrix entries weighed at a time: an eighth of a call's, at least and at most.
WEIGHED = (64, 4096)
# Entries renumbered, and counted by column, at a time: their places are copied as 64-bit integers.
RENUMBERED, COUNTED = 1 << 14, 1 << 20

Rows = tuple[Ints, Ints, Ints]


def stacked(parts: list[Rows], n_columns: int, dtype: Any) -> Any:
    """Stack rows, given as lengths, columns and counts, emptying `parts`: little is held twice."""
    empty = np.zeros(0, np.int32)
    if len(parts) == 1:
        lengths, indices, data = parts.pop()
    else:
        columns = [list(column) for column in zip(*parts, strict=True)] or [[], [], []]
        parts.clear()
        lengths, indices, data = (_drain([empty, *columns.pop(0)]) for _ in range(3))
    indptr = pointers(lengths)
    modern = get_config().get("sparse_interface", "spmatrix") == "sparray"
    matrix = sparse.csr_array if modern else sparse.csr_matrix
    return matrix(
        (data, indices.astype(indptr.dtype, copy=False), indptr),
        shape=(len(lengths), n_columns),
        dtype=dtype,
    )


def filled(parts: Iterable[Rows], most: int, n_columns: int, dtype: Any) -> Any:
    """Stack rows of at most `most` entries in all, as they come.

    What is not written to is never touched, and is given back at the end.
    """
    lengths: list[Ints] = []
    indices, n_done = np.empty(most, np.int32), 0
    data = np.empty(most, np.intc if dtype is None else dtype)
    for own, columns, counts in parts:
        part = slice(n_done, n_done + len(columns))
        lengths.append(own)
        indices[part], data[part] = columns, counts
        n_done = part.stop
    rows = np.concatenate(lengths), _shortened(indices, n_done), _shortened(data, n_done)
    return stacked([rows], n_columns, dtype)


def frequencies(X: Any) -> Ints:
    """Return in how many rows each column of a CSR matrix has an entry."""
    found = np.zeros(X.shape[1], np.intp)
    for part in _slices(X.nnz, COUNTED):
        found += np.bincount(X.indices[part], minlength=X.shape[1])
    return found


def renumbered(X: Any, column: Ints) -> Any:
    """Return a CSR matrix with `column` of each column in its place, changed where it stands."""
    for part in _slices(X.nnz, RENUMBERED):
        X.indices[part] = column.take(X.indices[part])
    return X


def with_columns(X: Any, mask: Any) -> Any:
    """Return ``X[:, mask]`` of a CSR matrix, made in the place of `X`, which is emptied."""
    column = np.where(mask, np.cumsum(mask, dtype=np.int32) - 1, -1)
    indptr, indices, data, n_kept = X.indptr.copy(), X.indices, X.data, 0
    for part in _slices(X.nnz, RENUMBERED):
        columns = column.take(indices[part])
        is_kept = columns >= 0
        ends = slice(*np.searchsorted(X.indptr, (part.start, part.stop)))
        before = counted(is_kept)
        indptr[ends] = n_kept + before[X.indptr[ends] - part.start]
        place = slice(n_kept, n_kept + int(before[-1]))
        indices[place], data[place] = columns[is_kept], data[part][is_kept]
        n_kept = place.stop
    indptr[X.indptr == X.nnz] = n_kept
    X.indices, X.data = indices[:0].copy(), data[:0].copy()
    rows = (_shortened(data, n_kept), _shortened(indices, n_kept), indptr)
    return type(X)(rows, shape=(X.shape[0], int(mask.sum())))


def _shortened(values: Any, length: int) -> Any:
    """Return the first of `values`, the rest of whose memory is given back; no view may be left."""
    owner = values if values.base is None else values.base
    if not (isinstance(owner, np.ndarray) and owner.shape == values.shape):
        return values[:length].copy()
    owner.resize(length, refcheck=False)
    return owner


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(i, i + step) for i in range(0, length, step))


def _drain(arrays: list[Ints]) -> Ints:
    joined = np.concatenate(arrays)
    arrays.clear()
    return joined


def weigh(tfidf: Any, X: Any) -> Any:
    """Apply a fitted `TfidfTransformer` to counts known to be valid, without checking them."""
    if (
        type(tfidf) is not sk.TfidfTransformer
        or X.dtype not in (np.float64, np.float32)
        or 0 in X.shape
        or getattr(tfidf, "n_features_in_", None) != X.shape[1]
        or tfidf.norm not in ("l1", "l2", None)
    ):
        return tfidf.transform(X, copy=False)
    if tfidf.sublinear_tf:
        np.log(X.data, X.data)
        X.data += 1.0
    if hasattr(tfidf, "idf_"):
        for part in _slices(X.nnz, min(max(X.nnz // 8, WEIGHED[0]), WEIGHED[1])):
            X.data[part] *= tfidf.idf_.take(X.indices[part])
    if tfidf.norm == "l2":
        inplace_csr_row_normalize_l2(X)
    elif tfidf.norm == "l1":
        inplace_csr_row_normalize_l1(X)
    return X
