"""Texts go in; integer arrays documents x units x n-grams come out, which sum to term counts.

A *unit* is the longest stretch of text whose n-grams depend on nothing around it: a padded word
for ``char_wb``, the whole document for ``word``. Words repeat, so each distinct one is expanded
once. All n-grams of all units are numbered by one sort of their start positions:
in sorted order, the n-grams that begin alike are neighbours, and an n-gram is new exactly where
a position stops agreeing with the one before it. Numbers therefore follow string order, which
spares the sort of the vocabulary later on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaznews._tokens import (
    UTF_32,
    Ints,
    code_points,
    counted,
    index_pieces,
    new_index,
    padded,
    pointers,
    texts_of,
    tokens,
)

# Matrix entries summed at a time, at least and at most: an eighth of a call's, to stay out of its
# peak.
SUMMED = (1 << 12, 1 << 17)
# N-grams handled at a time where each takes some objects.
SLICED = 512


@dataclass(frozen=True)
class Encoding:
    """Documents as units, units as n-grams, n-grams as stretches of one sequence of symbols.

    Attributes
    ----------
    doc_ptr, doc_unit : ndarray
        Units of document ``d`` in reading order: ``doc_unit[doc_ptr[d]:doc_ptr[d + 1]]``.
    unit_ptr, unit_gram : ndarray
        N-grams of each unit in scikit-learn's order, repeats included. Units are numbered by
        first appearance, n-grams by string order.
    symbols : list of str
        Characters or tokens, sorted.
    codes : ndarray
        The sequence: places in `symbols`, counted from 1.
    start, size : ndarray of shape (n_grams,)
        Where in `codes` each n-gram stands, and its number of symbols.
    joiner : str
        What stands between symbols: a space between tokens, nothing between characters.
    is_plain : bool
        Whether an n-gram's string tells its symbols, no token holding a space.
    words : list of str
        The units, if they are words and not a selection.
    """

    doc_ptr: Ints
    doc_unit: Ints
    unit_ptr: Ints
    unit_gram: Ints
    symbols: list[str]
    codes: Ints
    start: Ints
    size: Ints
    joiner: str = ""
    is_plain: bool = True
    words: list[str] = field(default_factory=list)

    def terms(self, grams: Ints | slice = slice(None)) -> list[str]:
        """Return the strings of ``grams``, by default of all of them."""
        if self.joiner and self.size.max(initial=1) == 1:
            return list(map(self.symbols.__getitem__, self.codes[self.start[grams]] - 1))
        order, gap = self.codes - 1, len(self.joiner)
        if self.joiner:
            text = self.joiner.join(np.array(self.symbols, object)[order])
        else:
            text = code_points("".join(self.symbols))[order].tobytes().decode(*UTF_32)
        lengths = np.fromiter(map(len, self.symbols), np.int32, len(self.symbols))
        offsets = pointers(lengths[order] + gap)
        start, size = self.start[grams], self.size[grams]
        terms: list[str] = []
        for i in range(0, len(start), SLICED):  # in parts, not to hold all places as objects
            part = slice(i, i + SLICED)
            starts, stops = offsets[start[part]], offsets[start[part] + size[part]] - gap
            terms += map(text.__getitem__, map(slice, starts.tolist(), stops.tolist()))
            if self.joiner:  # a single token need not be held twice
                for k in np.flatnonzero(size[part] == 1).tolist():
                    terms[i + k] = self.symbols[order[start[i + k]]]
        return terms

    def without_documents(self) -> Encoding:
        """Return what `terms` needs and no more."""
        none = self.doc_ptr[:0]
        return replace(self, doc_ptr=none, doc_unit=none, unit_ptr=none, unit_gram=none, words=[])

    def rows(self, rows: Ints | slice) -> Encoding:
        """Return the encoding of some documents; n-grams keep their numbers."""
        doc_ptr, doc_unit = take_rows(self.doc_ptr, self.doc_unit, rows)
        units = first_seen(doc_unit, len(self.unit_ptr) - 1)
        renumber = np.empty(len(self.unit_ptr) - 1, np.int32)
        renumber[units] = np.arange(len(units), dtype=np.int32)
        unit_ptr, unit_gram = take_rows(self.unit_ptr, self.unit_gram, units)
        return replace(
            self,
            doc_ptr=doc_ptr,
            doc_unit=renumber[doc_unit],
            unit_ptr=unit_ptr,
            unit_gram=unit_gram,
            words=[],
        )

    @property
    def n_entries(self) -> int:
        """Number of n-grams in all documents, repeats included."""
        return int(np.diff(self.unit_ptr)[self.doc_unit].sum(dtype=np.int64))

    def grams_first_seen(self) -> Ints:
        """Return the n-grams that occur, in the order in which scikit-learn meets them."""
        return first_seen(self.unit_gram, len(self.start))

    def counts(self, column: Ints | None, n_columns: int) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Count n-grams per document, some thousand documents at a time.

        Parameters
        ----------
        column : ndarray of shape (n_grams,) or None
            Column of each n-gram, negative for those to leave out; None if numbers are columns.
        n_columns : int
            Number of columns, above every entry of `column`.

        Yields
        ------
        lengths, indices, data : ndarray
            Entries per document, and the entries, in ascending order of column.
        """
        unit_ptr, columns = self.unit_ptr, self.unit_gram
        if column is not None:
            unit_ptr, columns = known_rows(unit_ptr, columns, column)
        ends = pointers(np.diff(unit_ptr)[self.doc_unit])[self.doc_ptr]
        summed = np.clip(ends[-1] // 8, *SUMMED)
        first, n_docs = 0, len(self.doc_ptr) - 1
        while first < n_docs:
            stop = int(np.searchsorted(ends, ends[first] + summed, side="right")) - 1
            stop = max(stop, first + 1)
            units = self.doc_unit[self.doc_ptr[first] : self.doc_ptr[stop]]
            entries = take_rows(unit_ptr, columns, units)[1]
            yield _sum_entries(ends[first : stop + 1] - ends[first], entries, n_columns)
            first = stop


def columns_of_documents(ptr: Ints, columns: Ints) -> Encoding:
    """Return the encoding of documents whose n-grams are given as columns, rows of a CSR."""
    unit = np.arange(len(ptr), dtype=np.int32)
    return columns_of_units(unit, unit[:-1], ptr, columns)


def columns_of_units(doc_ptr: Ints, doc_unit: Ints, unit_ptr: Ints, columns: Ints) -> Encoding:
    """Return the encoding of documents with columns in the place of numbers of n-grams."""
    none = doc_ptr[:0]
    return Encoding(doc_ptr, doc_unit, unit_ptr, columns, [], none, none, none)


def encode(documents: Iterable[Any], vectorizer: Any) -> Encoding:
    """Encode documents as `vectorizer` would analyse them.

    Parameters
    ----------
    documents : iterable of str or bytes
        The documents, read once.
    vectorizer : CountVectorizer
        Gives the parameters; analyzer 'char_wb' or 'word', no custom callables.

    Returns
    -------
    Encoding
        Equal to what ``vectorizer.build_analyzer()`` yields for each document.

    Raises
    ------
    ValueError, TypeError, AttributeError
        As scikit-learn raises them, for a document that is no text.
    """
    texts = texts_of(documents, vectorizer)
    if vectorizer.analyzer == "word":
        return _encode_tokens(texts, vectorizer)
    index = new_index()
    doc_ptr, doc_unit = index_pieces((text.split() for text in texts), index)
    return replace(encode_words(list(index), vectorizer), doc_ptr=doc_ptr, doc_unit=doc_unit)


def encode_words(words: list[str], vectorizer: Any) -> Encoding:
    """Encode distinct words, a document each, for the analyzer 'char_wb'."""
    symbols, codes, lengths = padded(words)
    grams = number_ngrams(codes, lengths, *vectorizer.ngram_range, short_whole=True)
    unit_ptr, unit_gram, start, size = grams
    doc_ptr = np.arange(len(words) + 1, dtype=np.int32)
    return Encoding(
        doc_ptr,
        doc_ptr[:-1],
        unit_ptr,
        unit_gram,
        symbols,
        codes,
        start,
        size,
        words=words,
    )


def _encode_tokens(texts: Iterable[str], vectorizer: Any) -> Encoding:
    index = new_index()
    ptr, flat = index_pieces(tokens(texts, vectorizer), index)
    distinct, symbols = list(index), sorted(index)
    code = dict(zip(symbols, count(1)))
    codes = np.fromiter(map(code.__getitem__, distinct), np.int32, len(distinct))[flat]
    # With a token holding a space or less, the order of token sequences is not the order of
    # their joined strings, and two sequences may even join to one string.
    least = code_points("".join(distinct)).min(initial=ord("a"))
    is_plain = bool(least > ord(" "))
    grams = number_ngrams(codes, np.diff(ptr), *vectorizer.ngram_range, short_whole=False)
    doc_ptr = np.arange(len(ptr), dtype=np.int32)
    unit_ptr, unit_gram, start, size = grams
    encoding = Encoding(
        doc_ptr,
        doc_ptr[:-1],
        unit_ptr,
        unit_gram,
        symbols,
        codes,
        start,
        size,
        joiner=" ",
        is_plain=is_plain,
    )
    return encoding if is_plain else _merge_by_string(encoding)


def _merge_by_string(encoding: Encoding) -> Encoding:
    terms = encoding.terms()
    last_gram = dict(zip(terms, count()))
    ordered = sorted(last_gram)
    number = dict(zip(ordered, count()))
    renumber = np.fromiter(map(number.__getitem__, terms), np.int32, len(terms))
    kept = np.fromiter(map(last_gram.__getitem__, ordered), np.intp, len(ordered))
    return replace(
        encoding,
        unit_gram=renumber[encoding.unit_gram],
        start=encoding.start[kept],
        size=encoding.size[kept],
    )


def number_ngrams(
    codes: Ints, lengths: Ints, min_n: int, max_n: int, *, short_whole: bool
) -> tuple[Ints, Ints, Ints, Ints]:
    """Number the n-grams of sequences of symbols in lexicographic order.

    Parameters
    ----------
    codes : ndarray of shape (n_symbols,)
        The sequences end to end, symbols as integers from 1 in sort order.
    lengths : ndarray of shape (n_units,)
        Length of each sequence.
    min_n, max_n : int
        Smallest and largest n, at least 1.
    short_whole : bool
        Whether a sequence shorter than `min_n` counts as one n-gram itself. The sequences must
        then be distinct, and none be found inside another.

    Returns
    -------
    unit_ptr, unit_gram : ndarray
        N-grams of each sequence, by n and then by position, as rows of a CSR matrix.
    start, size : ndarray of shape (n_grams,)
        One place in `codes` at which each n-gram stands, and its n.
    """
    n_symbols = len(codes)
    longest = min(max_n, int(lengths.max(initial=0)))
    if longest == 1 == min_n:  # symbols are numbered in their order already
        start = np.empty(int(codes.max(initial=0)), np.int32)
        start[codes - 1] = np.arange(n_symbols, dtype=np.int32)
        return pointers(lengths), codes - 1, start, np.ones_like(start)
    unit_end = np.cumsum(lengths, dtype=np.int32)
    remaining = remaining_symbols(lengths)
    order = np.argsort(_prefix_keys(codes, remaining, longest))
    remaining_sorted = remaining[order]

    # First pass, down the sorted positions: where does an n-gram occur for the first time?
    same = np.ones(n_symbols, bool)
    same[:1] = False
    sizes, emitted, fresh = [], [], []
    new_before = np.zeros(n_symbols, np.int32)
    for n in range(1, longest + 1):
        symbol = codes.take(order + (n - 1), mode="clip")
        symbol[remaining_sorted < n] = 0
        same[1:] &= symbol[1:] == symbol[:-1]
        here = stands(n, min_n, lengths, remaining, short_whole=short_whole)
        if here is None:
            continue
        sizes.append(n)
        emitted.append(here)
        fresh.append(here[order] & ~same)
        new_before += fresh[-1]
    n_grams = int(new_before.sum(dtype=np.int64))
    new_before = np.cumsum(new_before, dtype=np.int32) - new_before

    # Second pass: number them (by sorted position, then n) and write them out unit by unit.
    widths = [np.maximum(lengths - n + 1, 0) if n >= min_n else lengths == n for n in sizes]
    unit_ptr = pointers(np.sum(widths, axis=0) if widths else np.zeros(len(lengths), np.int32))
    unit_gram = np.empty(int(unit_ptr[-1]), np.int32)
    del remaining, remaining_sorted, same
    start, size = np.empty(n_grams, np.int32), np.empty(n_grams, np.int32)
    shift = unit_ptr[:-1] - (unit_end - lengths)
    by_position = np.empty(n_symbols, np.int32)
    for n, here, new, width in zip(sizes, emitted, fresh, widths, strict=True):
        number = np.where(new, new_before, 0)
        numbers = number[new]
        start[numbers], size[numbers] = order[new], n
        by_position[order] = np.maximum.accumulate(number)
        new_before += new
        target = np.repeat(shift, width)
        target += np.flatnonzero(here)
        unit_gram[target] = by_position[here]
        shift = shift + width
    return unit_ptr, unit_gram, start, size


def stands(
    n: int, min_n: int, lengths: Ints, remaining: Ints, *, short_whole: bool
) -> NDArray[np.bool_] | None:
    """Return where n-grams of size `n` begin, None if none do; see `number_ngrams`."""
    if n >= min_n:
        return np.asarray(remaining >= n)
    if not short_whole:
        return None
    here = np.zeros(len(remaining), bool)
    here[np.cumsum(lengths)[lengths == n] - n] = True
    return here


def _prefix_keys(codes: Ints, remaining: Ints, length: int) -> Ints:
    """Return integers ordered like the next `length` symbols of each position's sequence."""
    base = int(codes.max(initial=0)) + 1
    final = remaining == 1
    key = np.zeros(len(codes), np.int64)
    span = 1
    for _ in range(length):
        tail = np.append(key[1:], 0)
        tail[final] = 0
        if span > np.iinfo(np.int64).max // base:
            tail = np.unique(tail, return_inverse=True)[1]
            span = int(tail.max()) + 1
        key = codes * np.int64(span) + tail
        span *= base
    return key


def take_rows(ptr: Ints, values: Ints, rows: Ints | slice) -> tuple[Ints, Ints]:
    """Select rows of a CSR structure."""
    first, lengths = ptr[:-1][rows], np.diff(ptr)[rows]
    taken = pointers(lengths)
    source = np.repeat(first - taken[:-1], lengths)
    source += np.arange(len(source), dtype=source.dtype)
    return taken, values[source]


def known_rows(ptr: Ints, grams: Ints, column: Ints) -> tuple[Ints, Ints]:
    """Replace n-grams by their columns in rows of a CSR structure, leaving out negative ones."""
    columns = column[grams]
    is_known = columns >= 0
    if is_known.all():
        return ptr, columns
    return counted(is_known)[ptr], columns[is_known]


def remaining_symbols(lengths: Ints) -> Ints:
    """Return how many symbols its sequence has left at each position, that one included."""
    ends = np.cumsum(lengths, dtype=np.int32)
    return np.repeat(ends, lengths) - np.arange(int(lengths.sum()), dtype=np.int32)


def first_seen(values: Ints, n_values: int) -> Ints:
    """Return the distinct values, each in ``range(n_values)``, by first appearance."""
    first = np.full(n_values, -1, np.int64)
    # Of repeated assignments the last one stays, so assign backwards.
    first[values[::-1]] = np.arange(len(values) - 1, -1, -1)
    is_first = np.zeros(len(values), bool)
    is_first[first[first >= 0]] = True
    return values[is_first]


def _sum_entries(ptr: Ints, columns: Ints, n_columns: int) -> tuple[Ints, Ints, Ints]:
    """Return lengths, columns in ascending order and counts of the rows of a CSR structure."""
    # One sort of row * n_columns + column: NumPy sorts plain integers with vector instructions,
    # and no pass over all columns is needed, as transposing would.
    n_rows = len(ptr) - 1
    wide = n_rows * n_columns > np.iinfo(np.uint32).max
    rows: Ints = np.arange(n_rows, dtype=np.uint64) * np.uint64(n_columns)
    shift = np.repeat(rows if wide else rows.astype(np.uint32), np.diff(ptr))
    keys: Ints = columns.astype(shift.dtype)
    keys += shift
    keys.sort()
    is_edge = np.ones(len(keys) + 1, bool)
    np.not_equal(keys[1:], keys[:-1], out=is_edge[1:-1])
    edges = np.flatnonzero(is_edge)
    first = edges[:-1]
    indices = (keys[first] - shift[first]).astype(np.int32)
    return np.diff(np.searchsorted(first, ptr)), indices, np.diff(edges).astype(np.int32)
