"""Texts go in; integer arrays documents x units x n-grams come out, which sum to term counts.

A *unit* is the longest stretch of text whose n-grams depend on nothing around it: a padded word
for ``char_wb``, the whole document for ``word``. Words repeat, so each distinct one is expanded
once. All n-grams of all units are numbered by one sort of their start positions:
in sorted order, the n-grams that begin alike are neighbours, and an n-gram is new exactly where
a position stops agreeing with the one before it. Numbers therefore follow string order, which
spares the sort of the vocabulary later on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[Any]

# Rows multiplied at a time: small enough for the product to stay in cache and out of the peak.
PRODUCT_ROWS = 4096

# N-grams or texts handled at a time where each takes some objects.
SLICED = 4096
TEXTS_JOINED = 256

UTF_32 = ("utf-32-le", "surrogatepass")

# Patterns that match runs of word characters whole, and the length from which they do.
RUN_PATTERNS = {
    prefix + body: length
    for prefix in ("", "(?u)")
    for body, length in ((r"\b\w\w+\b", 2), (r"\w\w+", 2), (r"\b\w+\b", 1), (r"\w+", 1))
}


class TokenNumbers(Protocol):
    """What a known vocabulary offers here: numbers for tokens (`kaznews._vocabulary.Lookup`)."""

    symbols: list[str]

    def token_codes(self, documents: Iterable[list[str]]) -> tuple[Ints, Ints]:
        """Return pointers of the documents and the numbers of their tokens, one after another."""
        ...


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
        order, gap = self.codes - 1, len(self.joiner)
        if self.joiner:
            text = self.joiner.join(np.array(self.symbols, object)[order])
        else:
            text = code_points("".join(self.symbols))[order].tobytes().decode(*UTF_32)
        lengths = np.fromiter(map(len, self.symbols), np.int32, len(self.symbols))
        offsets = pointers(lengths[order] + gap)
        start, size = self.start[grams], self.size[grams]
        starts, stops = offsets[start], offsets[start + size] - gap
        terms: list[str] = []
        for i in range(0, len(start), SLICED):  # in parts, not to hold all places as objects
            part = slice(i, i + SLICED)
            places = zip(starts[part].tolist(), stops[part].tolist(), strict=True)
            terms += [text[i:j] for i, j in places]
        if self.joiner:  # a single token need not be held twice
            for i in np.flatnonzero(size == 1).tolist():
                terms[i] = self.symbols[order[start[i]]]
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
        n_docs = len(self.doc_ptr) - 1
        if n_docs <= PRODUCT_ROWS:
            yield self._product(column, n_columns)
            return
        for first in range(0, n_docs, PRODUCT_ROWS):
            part = self.rows(slice(first, first + PRODUCT_ROWS))
            yield part._product(column, n_columns)

    def _product(self, column: Ints | None, n_columns: int) -> tuple[Ints, Ints, Ints]:
        unit_ptr, grams = self.unit_ptr, self.unit_gram
        if column is not None:
            unit_ptr, grams = known_rows(unit_ptr, grams, column)
        # Multiplying the transposes makes the transposition back, a linear pass, do the sorting
        # within rows that the plain product would leave to be done by comparison.
        units = _ones(unit_ptr, grams, n_columns).tocsc().T
        del grams
        docs = _ones(self.doc_ptr, self.doc_unit, len(unit_ptr) - 1).tocsc().T
        product = (units @ docs).tocsc()
        return np.diff(product.indptr), product.indices, product.data


def encode(
    documents: Iterable[Any], vectorizer: Any, lookup: TokenNumbers | None = None
) -> Encoding:
    """Encode documents as `vectorizer` would analyse them.

    Parameters
    ----------
    documents : iterable of str or bytes
        The documents, read once.
    vectorizer : CountVectorizer
        Gives the parameters; analyzer 'char_wb' or 'word', no custom callables.
    lookup : TokenNumbers, optional
        The vocabulary, if n-grams need to be told apart only as far as it knows them.

    Returns
    -------
    Encoding
        Equal to what ``vectorizer.build_analyzer()`` yields for each document.

    Raises
    ------
    ValueError, TypeError, AttributeError
        As scikit-learn raises them, for a document that is no text.
    """
    texts = map(text_reader(vectorizer), documents)
    if vectorizer.analyzer == "word":
        return _encode_tokens(texts, vectorizer, lookup)
    index = new_index()
    doc_ptr, doc_unit = index_pieces((text.split() for text in texts), index)
    return replace(encode_words(list(index), vectorizer), doc_ptr=doc_ptr, doc_unit=doc_unit)


def encode_words(words: list[str], vectorizer: Any) -> Encoding:
    """Encode distinct words, a document each, for the analyzer 'char_wb'."""
    text = " " + "  ".join(words) + " " if words else ""
    lengths = np.fromiter(map(len, words), np.int32, len(words)) + np.int32(2)
    points = code_points(text)
    present = np.zeros(int(points.max(initial=0)) + 1, bool)
    present[points] = True
    codes = np.cumsum(present, dtype=np.int32)[points]
    symbols = list(map(chr, np.flatnonzero(present).tolist()))
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


def text_reader(vectorizer: Any) -> Callable[[Any], str]:
    """Return the function from a document to its preprocessed text."""
    decode, preprocess = vectorizer.decode, vectorizer.build_preprocessor()
    collapse = vectorizer._white_spaces.sub
    plain = vectorizer.input == "content" and not vectorizer.strip_accents
    lowercase = vectorizer.lowercase

    def read(document: Any) -> str:
        if plain and type(document) is str:
            return document.lower() if lowercase else document
        text = preprocess(decode(document))
        # What is no text fails in scikit-learn's regular expression: fail there too.
        return text if isinstance(text, str) else collapse(" ", text)

    return read


def _encode_tokens(texts: Iterator[str], vectorizer: Any, lookup: TokenNumbers | None) -> Encoding:
    stop_words = vectorizer.get_stop_words()
    run_length = RUN_PATTERNS.get(vectorizer.token_pattern)
    if run_length is None:
        documents: Iterator[list[str]] = map(vectorizer.build_tokenizer(), texts)
    else:
        documents = word_runs(texts, run_length)
    if stop_words is not None:
        documents = ([token for token in d if token not in stop_words] for d in documents)

    if lookup is not None and run_length is not None:
        # Tokens need no numbers of their own: take the vocabulary's, 1 for all that it lacks.
        ptr, codes = lookup.token_codes(documents)
        symbols, is_plain = lookup.symbols, True
    else:
        index = new_index()
        ptr, flat = index_pieces(documents, index)
        tokens, symbols = list(index), sorted(index)
        code = dict(zip(symbols, count(1)))
        codes = np.fromiter(map(code.__getitem__, tokens), np.int32, len(tokens))[flat]
        # With a token holding a space or less, the order of token sequences is not the order of
        # their joined strings, and two sequences may even join to one string.
        least = code_points("".join(tokens)).min(initial=ord("a"))
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


def word_runs(texts: Iterator[str], shortest: int) -> Iterator[list[str]]:
    """Yield the matches of ``\\w+`` in each text, but for those of less than 1 or 2 characters."""
    while block := list(islice(texts, TEXTS_JOINED)):
        points = code_points("\n".join(block))
        is_word_point = np.zeros(int(points.max(initial=0)) + 1, bool)
        is_word_point[points] = True
        found = np.flatnonzero(is_word_point).tolist()
        is_word_point[found] = [chr(point).isalnum() or chr(point) == "_" for point in found]
        is_word = is_word_point[points]
        if shortest > 1:
            beside = np.zeros(len(points), bool)
            beside[1:] = is_word[:-1]
            beside[:-1] |= is_word[1:]
            is_word &= beside
        runs = np.where(is_word, points, np.uint32(ord(" ")))
        runs[pointers([len(text) + 1 for text in block])[1:-1] - 1] = ord("\n")
        for line in runs.tobytes().decode(*UTF_32).split("\n"):
            yield line.split()


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
    unit_end = np.cumsum(lengths, dtype=np.int32)
    remaining = np.repeat(unit_end, lengths) - np.arange(n_symbols, dtype=np.int32)
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
        if n >= min_n:
            here = remaining >= n
        elif short_whole:
            here = np.zeros(n_symbols, bool)
            here[unit_end[lengths == n] - n] = True
        else:
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


def code_points(text: str) -> Ints:
    """Return the code points of a string, lone surrogates included."""
    return np.frombuffer(text.encode(*UTF_32), np.uint32)


def new_index() -> dict[str, int]:
    """Return a dictionary that numbers strings by first look-up."""
    return defaultdict(count().__next__)


def index_pieces(documents: Iterable[list[str]], index: dict[str, int]) -> tuple[Ints, Ints]:
    """Number the strings of each document by `index`; returns the rows of a CSR matrix."""
    number = index.__getitem__
    flat: list[int] = []
    ends = [0]
    for document in documents:
        flat += map(number, document)
        ends.append(len(flat))
    return index_array(ends), np.array(flat, np.int32)


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
    return pointers(is_known)[ptr], columns[is_known]


def first_seen(values: Ints, n_values: int) -> Ints:
    """Return the distinct values, each in ``range(n_values)``, by first appearance."""
    first = np.full(n_values, -1, np.int64)
    # Of repeated assignments the last one stays, so assign backwards.
    first[values[::-1]] = np.arange(len(values) - 1, -1, -1)
    is_first = np.zeros(len(values), bool)
    is_first[first[first >= 0]] = True
    return values[is_first]


def pointers(lengths: Ints | list[int]) -> Ints:
    """Return row pointers for rows of these lengths."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return index_array(ends)


def index_array(values: Any) -> Ints:
    """Use 32 bits where they suffice: SciPy works in the wider of a matrix's index types."""
    wide = len(values) and values[-1] > np.iinfo(np.int32).max
    return np.asarray(values, np.int64 if wide else np.int32)


def _ones(ptr: Ints, indices: Ints, n_columns: int) -> Any:
    data = np.ones(len(indices), np.int32)
    return sparse.csr_array((data, indices, ptr), shape=(len(ptr) - 1, n_columns))
