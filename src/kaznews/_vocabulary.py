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

from kaznews._lookup import Lookup, numbered
from kaznews._ngrams import (
    Encoding,
    columns_of_documents,
    columns_of_units,
    encode,
    encode_words,
    known_rows,
    take_rows,
)
from kaznews._tokens import (
    Ints,
    as_ints,
    counted,
    has_run_tokens,
    index_pieces,
    new_index,
    texts_of,
    tokens,
)

# The cache of word -> columns: at most this many words of at most this many letters.
CACHED_WORDS, CACHED_LETTERS = 16_384, 64
# Of these, so many of the most frequent are known from fitting.
FITTED_WORDS = 32_768
# Words one call of `transform` remembers before it starts afresh.
TABLE_WORDS = 65_536


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
        flat, ends = numbered(tokens(texts, vectorizer), known.vocabulary, -1)
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


def count_words(vectorizer: Any, documents: Iterable[Any]) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Count known terms of 'char_wb' document by document; yields what `Encoding.counts` does."""
    column_of, known = vectorizer.vocabulary_.get, known_of(vectorizer)
    cache, (row_of, ptr, fitted) = known.word_columns, known.fitted_words
    # Emptying is one atomic step, so threads need no lock; a word looked up twice does no harm.
    if len(cache) >= CACHED_WORDS:
        cache.clear()
    for text in texts_of(documents, vectorizer):
        words = [np.zeros(0, np.int32)]
        for word in text.split():
            columns = cache.get(word)
            if columns is None:
                row = row_of.get(word)
                if row is None:
                    terms = map(column_of, vectorizer._char_wb_ngrams(word))
                    columns = np.array([j for j in terms if j is not None], np.int32)
                else:
                    columns = fitted[ptr[row] : ptr[row + 1]]
                if len(word) <= CACHED_LETTERS:
                    cache[word] = columns
            words.append(columns)
        found = np.concatenate(words)
        found.sort()
        is_edge = np.ones(len(found) + 1, bool)
        np.not_equal(found[1:], found[:-1], out=is_edge[1:-1])
        edges = is_edge.nonzero()[0]
        yield np.array([len(edges) - 1]), found[edges[:-1]], np.diff(edges).astype(np.int32)


def count_tokens(documents: Iterable[Any], analyze: Any, column_of: Any) -> tuple[Ints, Ints, Ints]:
    """Count the known terms of documents: lengths of rows, columns in ascending order, counts."""
    lengths, indices, data = array("i"), array("i"), array("i")

    def add(document: Any) -> None:  # a call a document: nothing of one outlives it
        counts: dict[int, int] = {}
        for column in map(column_of, analyze(document)):
            if column is not None:
                counts[column] = counts.get(column, 0) + 1
        lengths.append(len(counts))
        columns = sorted(counts)
        indices.extend(columns)
        data.extend(map(counts.__getitem__, columns))

    for document in documents:
        add(document)
    return as_ints(lengths), as_ints(indices), as_ints(data)
