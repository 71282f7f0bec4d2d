"""Two lists of sentences in, the pairs that are nearly the same out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

# Character 4-gram cosine from which two sentences count as nearly the same.
NEAR = 0.80
# Rows compared at a time: keeps the memory bounded.
_BLOCK = 1000


def near_pairs(
    texts: Sequence[str], others: Sequence[str] | None = None
) -> Iterator[tuple[int, int, float]]:
    """Yield positions and cosine of sentences whose character 4-gram counts are nearly the same.

    Parameters
    ----------
    texts : sequence of str
    others : sequence of str, optional
        Compared with `texts`; default `texts` with itself, each pair once.

    Yields
    ------
    (int, int, float)
        Position in `texts`, in `others`, and their cosine of at least `NEAR`, in order.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    everything = [*texts, *(others or ())]
    if not everything:
        return
    try:
        matrix = TfidfVectorizer(
            analyzer="char", ngram_range=(4, 4), use_idf=False, dtype=np.float32
        ).fit_transform(everything)
    except ValueError:
        # No text is four characters long.
        return
    for start in range(0, len(texts), _BLOCK):
        end = min(start + _BLOCK, len(texts))
        right = start if others is None else len(texts)
        similar = (matrix[start:end] @ matrix[right:].T).tocoo()
        near = similar.data >= NEAR
        if others is None:
            near &= similar.row < similar.col
        offset = start if others is None else 0
        pairs = zip(similar.row[near], similar.col[near], similar.data[near], strict=True)
        yield from sorted((start + int(i), offset + int(j), float(s)) for i, j, s in pairs)
