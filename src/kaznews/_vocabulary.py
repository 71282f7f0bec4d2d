"""A vocabulary goes in; the columns of n-grams, of words or of an encoded corpus come out."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import count, islice, repeat
from math import inf
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from kaznews._ngrams import (
    Encoding,
    columns_of_documents,
    columns_of_units,
    encode,
    encode_words,
    known_rows,
    remaining_symbols,
    stands,
    take_rows,
)
from kaznews._tokens import (
    Ints,
    code_points,
    counted,
    has_run_tokens,
    index_array,
    index_pieces,
    new_index,
    padded,
    pointers,
    texts_of,
    tokens,
)

# The cache of word -> columns: at most this many words of at most this many letters.
CACHED_WORDS, CACHED_LETTERS = 16_384, 64
# Of these, so many of the most frequent are known from fitting.
FITTED_WORDS = 32_768
# Words one call of `transform` remembers before it starts afresh.
TABLE_WORDS = 65_536
# Numbers of n-grams entered into a table, and looked up in it, at a time.
ENTERED, LOOKED_UP = 4096, 65_536


class Words(NamedTuple):
    """Words, and the columns of their n-grams as rows of a CSR matrix."""

    row_of: dict[str, int]
    ptr: Ints
    columns: Ints


NO_WORDS = Words({}, np.zeros(1, np.int32), np.zeros(0, np.int32))


class Terms:
    """A vocabulary in the making: n-grams in order of first appearance, and their columns.

    Attributes
    ----------
    grams : ndarray of shape (n_terms,)
        Numbers of the n-grams in `encoding`, in the order of scikit-learn's dictionary.
    columns : ndarray of shape (n_terms,)
        Their columns.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.grams = encoding.grams_first_seen()
        self.columns: Ints = np.arange(len(self.grams))
        self.boxed = False
        self._words: list[str] = []
        if encoding.words:
            n_words = len(encoding.words)
            frequency = np.bincount(encoding.doc_unit, minlength=n_words)
            frequent = np.argsort(-frequency, kind="stable")[:FITTED_WORDS]
            self._words = [encoding.words[i] for i in frequent.tolist()]
            self._word_rows = take_rows(encoding.unit_ptr, encoding.unit_gram, frequent)

    def __len__(self) -> int:
        return len(self.grams)

    def numbering(self) -> Ints:
        """Return the column of each n-gram of `encoding`, -1 for those that are no terms."""
        column = np.full(len(self.encoding.start), -1, np.int32)
        column[self.grams] = self.columns
        return column

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the columns where `mask` is false and close up."""
        survives = mask[self.columns]
        self.grams = self.grams[survives]
        self.columns = (np.cumsum(mask) - 1)[self.columns[survives]]

    def sort(self) -> Ints:
        """Put the columns in string order, and return the new column of each old one."""
        is_term = np.zeros(len(self.encoding.start), bool)
        is_term[self.grams] = True
        rank = (np.cumsum(is_term) - 1)[self.grams]
        renumber = np.empty(len(self), np.int32)
        renumber[self.columns] = rank
        self.columns, self.boxed = rank, False
        return renumber

    def to_dict(self) -> dict[str, int]:
        """Return the vocabulary as scikit-learn would have built it."""
        # After pruning, scikit-learn leaves NumPy integers in the dictionary.
        columns = list(self.columns) if self.boxed else self.columns.tolist()
        return dict(zip(self.encoding.terms(self.grams), columns, strict=True))

    def words(self) -> Words:
        """Return the columns of the n-grams of the most frequent words."""
        if not self._words:
            return NO_WORDS
        index = dict(zip(self._words, count()))
        return Words(index, *known_rows(*self._word_rows, self.numbering()))

    def lookup(self) -> Lookup | None:
        """Return the means to look up terms by number, if that is possible."""
        encoding, grams = self.encoding, self.grams
        if not encoding.is_plain:
            return None
        start, size = encoding.start[grams], encoding.size[grams]
        return Lookup(encoding.symbols, encoding.codes, start, size, self.columns)


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
        codes, ends = _numbered(documents, self._code_of, self._unknown)
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


def _numbered(
    documents: Iterable[list[str]], number_of: dict[str, int], unknown: int
) -> tuple[Ints, Ints]:
    """Return the numbers of the tokens of documents, and where each document ends."""
    number, flat, ends = number_of.get, array("i"), [0]
    for document in documents:
        flat.extend(map(number, document, repeat(unknown)))
        ends.append(len(flat))
    return np.frombuffer(flat, np.int32) if flat else np.zeros(0, np.int32), index_array(ends)


class Known:
    """What has been looked up in one vocabulary, for one analyzer and range of n."""

    def __init__(self, vectorizer: Any, terms: Terms | None = None) -> None:
        self.vocabulary: dict[str, int] = vectorizer.vocabulary_
        self.validity = self.validity_of(vectorizer)
        self.word_columns: dict[str, Ints] = {}
        self.fitted_words = NO_WORDS if terms is None else terms.words()
        self._joiner = " " if vectorizer.analyzer == "word" else ""
        self._max_n = vectorizer.ngram_range[1]
        self._n_lookups = 0
        self._worth_a_lookup: float = len(self.vocabulary)
        needs_numbers = vectorizer.analyzer != "word" or self._max_n > 1
        lookup = terms.lookup() if terms is not None and needs_numbers else None
        self.lookup = lookup if lookup and lookup.is_usable else None

    @staticmethod
    def validity_of(vectorizer: Any) -> tuple[Any, ...]:
        """Return what must not have changed since."""
        return len(vectorizer.vocabulary_), vectorizer.analyzer, vectorizer.ngram_range

    def columns(self, encoding: Encoding) -> Ints:
        """Return the column of each n-gram of `encoding`, negative for unknown ones."""
        if encoding.is_plain:
            # The numeric table costs about as much to make as this many look-ups by string.
            self._n_lookups += len(encoding.start)
            if self.lookup is None and self._n_lookups >= self._worth_a_lookup:
                self._worth_a_lookup = inf
                if all(isinstance(term, str) for term in self.vocabulary):
                    lookup = Lookup.from_vocabulary(self.vocabulary, self._joiner, self._max_n)
                    self.lookup = lookup if lookup.is_usable else None
            if self.lookup is not None:
                return self.lookup.columns(encoding)
        column = np.full(len(encoding.start), -1, np.int32)
        seen = encoding.grams_first_seen()
        column[seen] = [self.vocabulary.get(term, -1) for term in encoding.terms(seen)]
        return column


# Beside the vectorizers rather than in them: a cache is no part of an estimator's state, and
# neither pickles, clones nor comparisons should see it.
_caches: WeakKeyDictionary[Any, Known] = WeakKeyDictionary()


def remember(vectorizer: Any, terms: Terms) -> None:
    """Keep what fitting has computed for `transform` to use."""
    _caches[vectorizer] = Known(vectorizer, terms)


def known_of(vectorizer: Any) -> Known:
    """Return what is known of the vectorizer's present vocabulary."""
    known = _caches.get(vectorizer)
    if (
        known is None
        or known.vocabulary is not vectorizer.vocabulary_
        or known.validity != Known.validity_of(vectorizer)
    ):
        known = _caches[vectorizer] = Known(vectorizer)
    return known


def encode_tokens(vectorizer: Any, documents: Iterable[Any]) -> Encoding:
    """Return the encoding of documents for 'word', with columns in the place of numbers."""
    known = known_of(vectorizer)
    if vectorizer.ngram_range[1] == 1 and has_run_tokens(vectorizer):
        # Tokens are the terms: nothing to number.
        texts = texts_of(documents, vectorizer)
        flat, ends = _numbered(tokens(texts, vectorizer), known.vocabulary, -1)
        is_known = flat >= 0
        rows = counted(is_known)[ends], flat[is_known]
    elif known.lookup is not None and has_run_tokens(vectorizer):
        texts = texts_of(documents, vectorizer)
        rows = known.lookup.of_documents(tokens(texts, vectorizer), vectorizer)
    else:
        encoding = encode(documents, vectorizer)
        rows = known_rows(encoding.unit_ptr, encoding.unit_gram, known.columns(encoding))
    return columns_of_documents(*rows)


class WordTable:
    """The words of one call of `transform`, each expanded once."""

    def __init__(self, vectorizer: Any) -> None:
        self._vectorizer = vectorizer
        self._known = known_of(vectorizer)
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._index = new_index()
        self._row = self._columns = np.zeros(0, np.int32)
        self._ptr = np.zeros(1, np.int32)

    def encode(self, documents: Iterable[Any]) -> Encoding:
        """Return the encoding of documents, with columns in the place of numbers of n-grams."""
        if len(self._index) > TABLE_WORDS:
            self._start_afresh()
        n_before = len(self._index)
        texts = texts_of(documents, self._vectorizer)
        doc_ptr, doc_word = index_pieces((text.split() for text in texts), self._index)
        self._add(list(islice(self._index, n_before, None)))
        return columns_of_units(doc_ptr, self._row[doc_word], self._ptr, self._columns)

    def _add(self, words: list[str]) -> None:
        """Append the rows of words: those known from fitting first, then those looked up."""
        row_of, fitted_ptr, fitted_columns = self._known.fitted_words
        fitted = np.fromiter(map(row_of.get, words, repeat(-1)), np.int32, len(words))
        is_fitted = fitted >= 0
        unseen = [words[i] for i in np.flatnonzero(~is_fitted).tolist()]
        if self._known.lookup is not None:
            rows = self._known.lookup.of_words(unseen, self._vectorizer)
        else:
            new = encode_words(unseen, self._vectorizer)
            rows = known_rows(new.unit_ptr, new.unit_gram, self._known.columns(new))
        row = np.empty(len(words), np.int32)
        order = np.append(np.flatnonzero(is_fitted), np.flatnonzero(~is_fitted))
        row[order] = np.arange(len(self._row), len(self._row) + len(words))
        self._row = np.append(self._row, row)
        for ptr, columns in (take_rows(fitted_ptr, fitted_columns, fitted[is_fitted]), rows):
            self._ptr = np.append(self._ptr, ptr[1:] + self._ptr[-1])
            self._columns = np.append(self._columns, columns)


def count_few(
    vectorizer: Any, documents: list[Any], analyze: Any
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Count known terms document by document; yields what `Encoding.counts` does."""
    column_of = vectorizer.vocabulary_.get

    def columns_of(terms: Iterable[str]) -> Ints:
        return np.array([j for j in map(column_of, terms) if j is not None], np.int32)

    items: Iterable[Any] = documents
    if vectorizer.analyzer == "char_wb":
        items, known = texts_of(documents, vectorizer), known_of(vectorizer)
        cache, (row_of, ptr, fitted) = known.word_columns, known.fitted_words
        # Emptying is one atomic step, so threads need no lock; a word looked up twice does no harm.
        if len(cache) >= CACHED_WORDS:
            cache.clear()
    for item in items:
        if vectorizer.analyzer == "char_wb":
            words = [np.zeros(0, np.int32)]
            for word in item.split():
                columns = cache.get(word)
                if columns is None:
                    row = row_of.get(word)
                    if row is None:
                        columns = columns_of(vectorizer._char_wb_ngrams(word))
                    else:
                        columns = fitted[ptr[row] : ptr[row + 1]]
                    if len(word) <= CACHED_LETTERS:
                        cache[word] = columns
                words.append(columns)
            found = np.concatenate(words)
        else:
            found = columns_of(analyze(item))
        found.sort()
        is_edge = np.ones(len(found) + 1, bool)
        np.not_equal(found[1:], found[:-1], out=is_edge[1:-1])
        edges = is_edge.nonzero()[0]
        yield np.array([len(edges) - 1]), found[edges[:-1]], np.diff(edges).astype(np.int32)
