"""A text in, the terms into which scikit-learn's vectorizers would cut it out, by Python alone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

ANALYZERS = ("char_wb", "word")
STRIP_ACCENTS = (None, "ascii", "unicode")


@dataclass(frozen=True)
class Analysis:
    """How a text is cut into terms: the parameters of `CountVectorizer` of the same names.

    Attributes
    ----------
    analyzer : str
        ``char_wb`` or ``word``.
    ngram_range : tuple of int
    lowercase : bool
    strip_accents : str or None
    token_pattern : str
        Read by ``word`` alone.
    stop_words : tuple of str or None
        Read by ``word`` alone.
    """

    analyzer: str
    ngram_range: tuple[int, int]
    lowercase: bool
    strip_accents: str | None
    token_pattern: str
    stop_words: tuple[str, ...] | None

    def __post_init__(self) -> None:
        low, high = self.ngram_range
        if (
            self.analyzer not in ANALYZERS
            or not (type(low) is int and type(high) is int and 1 <= low <= high)
            or self.strip_accents not in STRIP_ACCENTS
        ):
            raise ValueError(f"an analysis that is not known: {self}")

    def preprocessor(self) -> Callable[[str], str]:
        """Return what is done to the whole text first.

        Lower case is a matter of the whole text: a final sigma is one only at the end of a word.
        """
        strip = {"ascii": _strip_ascii, "unicode": _strip_unicode}.get(self.strip_accents or "")
        if strip is None:
            return str.lower if self.lowercase else str
        return (lambda text: strip(text.lower())) if self.lowercase else strip

    def terms(self) -> Callable[[str], list[str]]:
        """Return the function from a text to its terms, as often as they occur."""
        low, high = self.ngram_range
        before = self.preprocessor()
        if self.analyzer == "char_wb":
            return lambda text: [
                term for word in before(text).split() for term in char_ngrams(word, low, high)
            ]
        tokens = re.compile(self.token_pattern).findall
        stop_words = frozenset(self.stop_words or ())

        def word_terms(text: str) -> list[str]:
            kept = [token for token in tokens(before(text)) if token not in stop_words]
            return [
                " ".join(kept[i : i + n])
                for n in range(low, min(high, len(kept)) + 1)
                for i in range(len(kept) - n + 1)
            ]

        return word_terms


def _strip_unicode(text: str) -> str:
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _strip_ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def char_ngrams(word: str, low: int, high: int) -> list[str]:
    """Return the n-grams of one word between two spaces, short ones first.

    A padded word that is no longer than n is a term itself, once, even if shorter than `low`.
    """
    padded = f" {word} "
    size = len(padded)
    found = []
    for n in range(low, high + 1):
        if size <= n:
            found.append(padded)
            break
        found += [padded[i : i + n] for i in range(size - n + 1)]
    return found
