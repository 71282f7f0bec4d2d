"""Terms go in as stretches of symbols; the columns of n-grams are looked up by number.

An n-gram's number has its symbols as digits: no string is made to look one up.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import count, repeat
from typing import Any

import numpy as np

from kaznews._ngrams import Encoding, remaining_symbols, stands
from kaznews._tokens import (
    Ints,
    as_ints,
    code_points,
    counted,
    index_array,
    index_pieces,
    new_index,
    padded,
    pointers,
)

# Numbers of n-grams entered into a table, and looked up in it, at a time.
ENTERED, LOOKED_UP = 4096, 65_536


class _Table:
    """A hash table from distinct non-negative integers to columns, asked about many at a time.

    Fibonacci hashing with linear probing, at most half full (Knuth, The Art of Computer
    Programming, volume 3, section 6.4). Keys are compared whole: no two are ever mistaken.
    """

    def __init__(self, keys: Ints, columns: Ints) -> None:
        bits = (2 * len(keys) - 1).bit_length()
        self._keys, self._columns = keys, columns.astype(np.int32)
        self._shift, self._last = np.uint64(64 - bits), (1 << bits) - 1
        self._slots = np.full(1 << bits, -1, np.int32)
        for first in range(0, len(keys), ENTERED):
            self._insert(np.arange(first, min(first + ENTERED, len(keys)), dtype=np.int32))

    def _insert(self, pending: Ints) -> None:
        slot = self._slot(self._keys[pending])
        while len(pending):
            is_free = self._slots[slot] < 0
            self._slots[slot[is_free]] = pending[is_free]
            lost = self._slots[slot] != pending
            pending, slot = pending[lost], (slot[lost] + 1) & self._last

    def _slot(self, keys: Ints) -> Ints:
        mixed = keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed >>= self._shift
        return mixed.view(np.int64)

    def columns(self, keys: Ints) -> Ints:
        """Return the column of each key, -1 for those that are not there."""
        slot = self._slot(keys)
        place = self._slots[slot]
        # An empty slot's -1 reads the last key, which cannot equal one that hashes to that slot.
        is_hit = self._keys[place] == keys
        columns = np.where(is_hit, self._columns[place], np.int32(-1))
        pending = np.flatnonzero((place >= 0) & ~is_hit)
        while len(pending):
            slot[pending] = (slot[pending] + 1) & self._last
            place = self._slots[slot[pending]]
            is_hit = self._keys[place] == keys[pending]
            columns[pending[is_hit]] = self._columns[place[is_hit]]
            pending = pending[(place >= 0) & ~is_hit]
        return columns


class Lookup:
    """Columns of a vocabulary, looked up by n-gram numbers instead of by strings.

    An n-gram's number has its symbols as digits, from the left, padded with zeros.

    Parameters
    ----------
    symbols : iterable of str
        Characters or tokens, distinct.
    codes, start, size : ndarray
        The terms as stretches of `codes`, as in `Encoding`.
    column : ndarray of shape (n_terms,)
        Columns of the terms.

    Attributes
    ----------
    is_usable : bool
        False if there are no terms, or if their numbers exceed 64 bits.
    """

    def __init__(
        self, symbols: Iterable[str], codes: Ints, start: Ints, size: Ints, column: Ints
    ) -> None:
        self._code_of = dict(zip(symbols, count(1)))
        self._longest = int(size.max(initial=1))
        self._unknown = len(self._code_of) + 1
        self._base = self._unknown + 1
        self.is_usable = len(start) > 0 and self._base**self._longest <= np.iinfo(np.int64).max
        if self.is_usable:
            is_single = size == 1
            self._single = np.full(self._base, -1, np.int32)
            if is_single.any():
                self._single[codes[start[is_single]]] = column[is_single]
                start, size, column = (values[~is_single] for values in (start, size, column))
            self._table = _Table(self._keys(codes, start, size), column)

    @classmethod
    def from_vocabulary(cls, vocabulary: dict[str, int], joiner: str, max_n: int) -> Lookup:
        """Take terms apart at `joiner`, into characters if that is empty."""
        terms = list(vocabulary)
        column = np.fromiter(vocabulary.values(), np.int64, len(terms))
        if joiner:
            size = np.fromiter((term.count(joiner) + 1 for term in terms), np.int64, len(terms))
            index = new_index()
            _, codes = index_pieces([joiner.join(terms).split(joiner)], index)
            symbols = list(index)
        else:
            size = np.fromiter(map(len, terms), np.int64, len(terms))
            alphabet, codes = np.unique(code_points("".join(terms)), return_inverse=True)
            symbols = list(map(chr, alphabet.tolist()))
        start, fits = pointers(size)[:-1], size <= max_n
        return cls(symbols, codes + 1, start[fits], size[fits], column[fits])

    def columns(self, encoding: Encoding) -> Ints:
        """Return the column of each n-gram of a plain `encoding`, or -1."""
        codes = self._known_codes(encoding.symbols)[encoding.codes - 1]
        columns = np.full(len(encoding.size), -1, np.int32)
        is_longer = (encoding.size > 1) & (encoding.size <= self._longest)
        start, size = encoding.start[is_longer], encoding.size[is_longer]
        if len(size):
            columns[is_longer] = self._table.columns(self._keys(codes, start, size))
        is_single = encoding.size == 1
        columns[is_single] = self._single[codes[encoding.start[is_single]]]
        return columns

    def of_words(self, words: list[str], vectorizer: Any) -> tuple[Ints, Ints]:
        """Return the columns of the known n-grams of words, for 'char_wb', as rows of a CSR."""
        symbols, codes, lengths = padded(words)
        codes = self._known_codes(symbols)[codes - 1]
        return self._rows(codes, lengths, vectorizer.ngram_range, short_whole=True)

    def of_documents(self, documents: Iterable[list[str]], vectorizer: Any) -> tuple[Ints, Ints]:
        """Return the columns of the known n-grams of tokens, for 'word', as rows of a CSR."""
        codes, ends = numbered(documents, self._code_of, self._unknown)
        lengths = np.diff(ends)
        return self._rows(codes, lengths, vectorizer.ngram_range, short_whole=False)

    def _known_codes(self, symbols: list[str]) -> Ints:
        codes = map(self._code_of.get, symbols, repeat(self._unknown))
        return np.fromiter(codes, np.int64, len(symbols))

    def _rows(
        self, codes: Ints, lengths: Ints, ngram_range: tuple[int, int], *, short_whole: bool
    ) -> tuple[Ints, Ints]:
        min_n, max_n = ngram_range
        remaining, n_symbols = remaining_symbols(lengths), len(codes)
        keys, found = np.zeros(n_symbols, np.int64), []
        is_known = codes != self._unknown
        all_known = is_known.copy()  # so far as the n-gram that begins here goes
        for n in range(1, min(max_n, self._longest, int(lengths.max(initial=0))) + 1):
            power = np.int64(self._base ** (self._longest - n))
            keys[: n_symbols - n + 1] += codes[n - 1 :] * power
            all_known[: n_symbols - n + 1] &= is_known[n - 1 :]
            here = stands(n, min_n, lengths, remaining, short_whole=short_whole)
            if here is None:
                continue
            if n == 1:
                found.append(np.where(here, self._single[codes], np.int32(-1)))
                continue
            here &= all_known
            found.append(np.full(n_symbols, -1, np.int32))
            for first in range(0, n_symbols, LOOKED_UP):
                part = slice(first, first + LOOKED_UP)
                found[-1][part][here[part]] = self._table.columns(keys[part][here[part]])
        by_position = np.column_stack(found) if found else np.zeros((n_symbols, 0), np.int32)
        is_known = by_position >= 0
        del found, keys, remaining, all_known
        rows = pointers(lengths) * by_position.shape[1]
        return counted(is_known.ravel())[rows], by_position[is_known]

    def _keys(self, codes: Ints, start: Ints, size: Ints) -> Ints:
        keys = np.zeros(len(start), np.int64)
        for n in range(self._longest):
            code = codes.take(start + n, mode="clip")
            keys *= self._base
            keys += np.where(n < size, code, 0)
        return keys


def numbered(
    documents: Iterable[list[str]], number_of: dict[str, int], unknown: int
) -> tuple[Ints, Ints]:
    """Return the numbers of the tokens of documents, and where each document ends."""
    number, flat, ends = number_of.get, array("i"), [0]
    for document in documents:
        flat.extend(map(number, document, repeat(unknown)))
        ends.append(len(flat))
    return as_ints(flat), index_array(ends)
