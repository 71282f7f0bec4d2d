"""Texts go in, split into words or tokens and numbered; code points and row pointers come out."""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[Any]

# Texts joined at a time: a quarter of those done, at least and at most.
TEXTS_JOINED = (32, 128)

UTF_32 = ("utf-32-le", "surrogatepass")

# Patterns that match runs of word characters whole, and the length from which they do.
RUN_PATTERNS = {
    prefix + body: length
    for prefix in ("", "(?u)")
    for body, length in ((r"\b\w\w+\b", 2), (r"\w\w+", 2), (r"\b\w+\b", 1), (r"\w+", 1))
}
# The same, of which only the first letters are kept: a stem cut to length.
STEM_PATTERN = re.compile(r"(?:\(\?u\))?\\b\(\\w\{([12]),(\d{1,3})\}\)\\w\*\\b")


def texts_of(documents: Iterable[Any], vectorizer: Any) -> Iterable[str]:
    """Return the preprocessed text of each document."""
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

    if plain and type(documents) is list and set(map(type, documents)) == {str}:
        return map(str.lower, documents) if lowercase else documents
    return map(read, documents)


def tokens(texts: Iterable[str], vectorizer: Any) -> Iterator[list[str]]:
    """Yield the tokens of each text as the analyzer 'word' has them before it makes n-grams."""
    stop_words = vectorizer.get_stop_words()
    if runs := run_lengths(vectorizer.token_pattern):
        shortest, longest = runs
        documents = word_runs(texts, shortest)
        if longest is not None:
            documents = ([token[:longest] for token in d] for d in documents)
    else:
        documents = map(vectorizer.build_tokenizer(), texts)
    if stop_words is not None:
        documents = ([token for token in d if token not in stop_words] for d in documents)
    return documents


def has_run_tokens(vectorizer: Any) -> bool:
    """Whether all tokens of the analyzer 'word' are runs of word characters, free of spaces."""
    return run_lengths(vectorizer.token_pattern) is not None


def run_lengths(pattern: Any) -> tuple[int, int | None] | None:
    """Return from which length on a pattern matches runs of word characters, and what it keeps.

    The second number is None where a run is kept whole; None is for all other patterns.
    """
    if pattern in RUN_PATTERNS:
        return RUN_PATTERNS[pattern], None
    found = STEM_PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    if found is None or int(found[1]) > int(found[2]):
        return None
    return int(found[1]), int(found[2])


def word_runs(texts: Iterable[str], shortest: int) -> Iterator[list[str]]:
    """Yield the matches of ``\\w+`` in each text, but for those of less than 1 or 2 characters."""
    stream, n_done = iter(texts), 0
    while block := list(islice(stream, min(max(n_done // 4, TEXTS_JOINED[0]), TEXTS_JOINED[1]))):
        n_done += len(block)
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


def padded(words: list[str]) -> tuple[list[str], Ints, Ints]:
    """Write words end to end, a space before and after each, in symbols counted from 1.

    Returns
    -------
    symbols : list of str
        The characters that occur, sorted.
    codes : ndarray of shape (n_symbols,)
    lengths : ndarray of shape (n_words,)
    """
    points = code_points(" " + "  ".join(words) + " " if words else "")
    lengths = np.fromiter(map(len, words), np.int32, len(words)) + np.int32(2)
    present = np.zeros(int(points.max(initial=0)) + 1, bool)
    present[points] = True
    codes = np.cumsum(present, dtype=np.int32)[points]
    return list(map(chr, np.flatnonzero(present).tolist())), codes, lengths


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


def pointers(lengths: Ints | list[int]) -> Ints:
    """Return row pointers for rows of these lengths."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return index_array(ends)


def counted(mask: NDArray[np.bool_]) -> Ints:
    """Return how many values of a mask are true before each place, and at the end."""
    dtype = np.int32 if len(mask) <= np.iinfo(np.int32).max else np.int64
    counts = np.zeros(len(mask) + 1, dtype)
    np.cumsum(mask, dtype=dtype, out=counts[1:])
    return counts


def as_ints(values: array[int]) -> Ints:
    """Return an array of C integers as one of NumPy, without a copy."""
    return np.frombuffer(values, np.int32) if values else np.zeros(0, np.int32)


def index_array(values: Any) -> Ints:
    """Use 32 bits where they suffice: SciPy works in the wider of a matrix's index types."""
    wide = len(values) and values[-1] > np.iinfo(np.int32).max
    return np.asarray(values, np.int64 if wide else np.int32)
