"""Texts go in; the TF-IDF or count matrix of scikit-learn comes out, equal to the byte and faster.

`CountVectorizer` and `TfidfVectorizer` are scikit-learn's estimators with the slow step, turning
documents into term counts, done by sparse algebra (see `kaznews._ngrams`). Parameter checks,
warnings, the rules for pruning and the TF-IDF arithmetic stay scikit-learn's own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Self, overload

import numpy as np
from sklearn.feature_extraction import text as sk

from kaznews._matrix import filled, frequencies, renumbered, stacked, weigh, with_columns
from kaznews._ngrams import Encoding, encode
from kaznews._tokens import Ints
from kaznews._vocabulary import (
    Terms,
    WordTable,
    count_tokens,
    count_words,
    encode_tokens,
    known_of,
    remember,
)

__all__ = ["CountVectorizer", "TfidfVectorizer", "TokenizedCorpus", "from_sklearn"]

# Documents encoded at a time by `transform`: of those done already this share, within limits, so
# that what a batch takes for the time being stays in proportion to the rows it adds to.
GROWTH = {"char_wb": 1.0, "word": 1 / 3}
SMALLEST_BATCH = {"char_wb": 128, "word": 32}
LARGEST_BATCH = {"char_wb": 8192, "word": 1024}
# Up to this many documents, looking terms up one by one is as fast as setting up the arrays.
FEW = {"char_wb": 48, "word": 64}
# Where the number of documents is known, the first batch is such a part of them, within the limits.
FIRST_BATCH = 8

# Overriding any of these changes the analysis in ways only scikit-learn's code can follow.
_ANALYSIS = (
    "decode",
    "build_analyzer",
    "build_preprocessor",
    "build_tokenizer",
    "get_stop_words",
    "_white_spaces",
    "_word_ngrams",
    "_char_wb_ngrams",
)


class CountVectorizer(sk.CountVectorizer):  # type: ignore[misc]
    """scikit-learn's `CountVectorizer`, faster for string analyzers without custom callables.

    Parameters, attributes, results, errors and warnings are those of
    `sklearn.feature_extraction.text.CountVectorizer`. Whatever is not accelerated (analyzer
    'char', callables, overridden methods) runs scikit-learn's code. A `TokenizedCorpus` may stand
    for the texts.

    Notes
    -----
    ``vocabulary_`` is read as scikit-learn reads it. To change it after a call of `transform`,
    assign a new dictionary: columns altered in place would go unnoticed.
    """

    vocabulary_: Any

    def fit_transform(self, raw_documents: Iterable[Any], y: Any = None) -> Any:
        """Learn the vocabulary and return the term counts.

        Parameters
        ----------
        raw_documents : iterable of str
            The texts.
        y : None
            Ignored.

        Returns
        -------
        sparse matrix of shape (n_samples, n_features)
            Term counts.

        Raises
        ------
        ValueError
            For a string instead of an iterable, or if no term is left.
        """
        X = super().fit_transform(raw_documents, y)
        if isinstance(self.vocabulary_, Terms):
            terms, self.vocabulary_ = self.vocabulary_, self.vocabulary_.to_dict()
            remember(self, terms)
        return X

    def transform_batches(
        self, raw_documents: Iterable[Any], batch_size: int = 16_384
    ) -> Iterator[Any]:
        """Transform a stream of texts in bounded memory.

        Parameters
        ----------
        raw_documents : iterable of str
            The texts, read as the batches are asked for.
        batch_size : int, default=16384
            Texts per batch.

        Returns
        -------
        iterator of sparse matrix of shape (at most batch_size, n_features)
            The consecutive rows of ``transform(raw_documents)``.

        Raises
        ------
        ValueError
            For a string instead of an iterable, or a batch size below 1.
        """
        if isinstance(raw_documents, str):
            raise ValueError("Iterable over raw text documents expected, string object received.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        return map(self.transform, _batches(raw_documents, batch_size, batch_size))

    def to_sklearn(self) -> Any:
        """Return the equal stock scikit-learn vectorizer, fitted if this one is."""
        is_tfidf = isinstance(self, sk.TfidfVectorizer)
        return _rebuild(self, sk.TfidfVectorizer if is_tfidf else sk.CountVectorizer)

    @classmethod
    def from_sklearn(cls, stock: Any) -> Self:
        """Return the fast equal of a stock vectorizer, fitted if `stock` is.

        Parameters
        ----------
        stock : sklearn.feature_extraction.text.CountVectorizer or TfidfVectorizer
            The vectorizer, left untouched.

        Returns
        -------
        CountVectorizer or TfidfVectorizer
            An instance of the class it is called on.

        Raises
        ------
        TypeError
            If `stock` is not the stock class of the same name.
        """
        expected = sk.TfidfVectorizer if issubclass(cls, sk.TfidfVectorizer) else sk.CountVectorizer
        if type(stock) is not expected:
            raise TypeError(f"expected a stock {expected.__name__}, got {type(stock)!r}")
        fast: Self = _rebuild(stock, cls)
        return fast

    # The three methods below override private steps of scikit-learn's `fit_transform` and
    # `transform`; between them, a `Terms` takes the place of the vocabulary dictionary.

    def _count_vocab(self, raw_documents: Iterable[Any], fixed_vocab: bool) -> tuple[Any, Any]:
        if not _is_accelerated(self) or (fixed_vocab and type(self.vocabulary_) is not dict):
            return super()._count_vocab(raw_documents, fixed_vocab)  # type: ignore[no-any-return]
        analyze = self.build_analyzer()  # called for scikit-learn's parameter errors and warnings
        if fixed_vocab:
            return self.vocabulary_, self._count_known(raw_documents, analyze)
        encoding = _encoding_of(raw_documents, self)
        terms = Terms(encoding)
        if not terms:
            raise ValueError("empty vocabulary; perhaps the documents only contain stop words")
        parts = encoding.counts(terms.numbering(), len(terms))
        X = filled(parts, encoding.n_entries, len(terms), self.dtype)
        del parts
        terms.encoding = encoding.without_documents()
        return terms, X

    def _limit_features(
        self, X: Any, vocabulary: Any, high: Any = None, low: Any = None, limit: Any = None
    ) -> Any:
        if not isinstance(vocabulary, Terms):
            return super()._limit_features(X, vocabulary, high, low, limit)
        vocabulary.boxed = True
        n_docs, n_terms = X.shape
        if low <= 1 and high >= n_docs and (limit is None or n_terms <= limit):
            return X  # every term is in at least one document: nothing to prune
        frequency = frequencies(X)
        mask = (frequency <= high) & (frequency >= low)
        if limit is not None and mask.sum() > limit:
            # Ties fall as scikit-learn's unstable sort has them: the same call on the same values.
            totals = np.asarray(X.sum(axis=0)).ravel()
            most_frequent = (-totals[mask]).argsort()[:limit]
            kept = np.flatnonzero(mask)[most_frequent]
            mask = np.zeros(n_terms, bool)
            mask[kept] = True
        if not mask.any():
            raise ValueError(
                "After pruning, no terms remain. Try a lower min_df or a higher max_df."
            )
        vocabulary.keep(mask)
        return with_columns(X, mask)

    def _sort_features(self, X: Any, vocabulary: Any) -> Any:
        if not isinstance(vocabulary, Terms):
            return super()._sort_features(X, vocabulary)
        return renumbered(X, vocabulary.sort())

    def _count_known(self, raw_documents: Iterable[Any], analyze: Any) -> Any:
        parts: list[tuple[Ints, Ints, Ints]] = []
        if isinstance(raw_documents, TokenizedCorpus) and raw_documents.is_prepared_for(self):
            parts += self._count_encoded(raw_documents.encoding_for(self))
            return stacked(parts, len(self.vocabulary_), self.dtype)
        table, few = None, FEW[self.analyzer]
        n_known = len(raw_documents) if isinstance(raw_documents, Sized) else 0
        largest = LARGEST_BATCH[self.analyzer]
        first = min(max(SMALLEST_BATCH[self.analyzer], n_known // FIRST_BATCH), largest)
        batches: Iterator[Any] = _batches(raw_documents, first, largest, GROWTH[self.analyzer])
        if 0 < n_known <= few:
            batches = iter((raw_documents,))
        for batch in batches:
            if len(batch) <= few:
                if self.analyzer == "word":
                    parts.append(count_tokens(batch, analyze, self.vocabulary_.get))
                else:
                    parts += count_words(self, batch)
                continue
            if self.analyzer == "word":
                encoding = encode_tokens(self, batch)
            else:
                table = table or WordTable(self)
                encoding = table.encode(batch)
            parts += encoding.counts(None, self._width(encoding.unit_gram))
            del encoding
        del table
        return stacked(parts, len(self.vocabulary_), self.dtype)

    def _count_encoded(self, encoding: Encoding) -> Iterator[tuple[Ints, Ints, Ints]]:
        column = known_of(self).columns(encoding)
        return encoding.counts(column, self._width(column))

    def _width(self, columns: Ints) -> int:
        # A vocabulary edited by hand may have columns beyond its length.
        return max(len(self.vocabulary_), int(columns.max(initial=-1)) + 1)


class TfidfVectorizer(sk.TfidfVectorizer, CountVectorizer):  # type: ignore[misc]
    """scikit-learn's `TfidfVectorizer`, faster for string analyzers without custom callables.

    Parameters, attributes, results, errors and warnings are those of
    `sklearn.feature_extraction.text.TfidfVectorizer`, whose ``super()`` calls reach the
    `CountVectorizer` of this module.
    """

    def fit_transform(self, raw_documents: Iterable[Any], y: Any = None) -> Any:
        """Learn vocabulary and IDF and return the TF-IDF weights.

        Parameters
        ----------
        raw_documents : iterable of str
            The texts.
        y : None
            Ignored.

        Returns
        -------
        sparse matrix of shape (n_samples, n_features)
            TF-IDF weights.

        Raises
        ------
        ValueError
            As `CountVectorizer.fit_transform`.
        """
        self._check_params()
        names = ("norm", "use_idf", "smooth_idf", "sublinear_tf")
        self._tfidf = sk.TfidfTransformer(**{name: getattr(self, name) for name in names})
        X = CountVectorizer.fit_transform(self, raw_documents)
        return weigh(self._tfidf.fit(X), X)

    def transform(self, raw_documents: Iterable[Any]) -> Any:
        """Return the TF-IDF weights of texts.

        Parameters
        ----------
        raw_documents : iterable of str
            The texts.

        Returns
        -------
        sparse matrix of shape (n_samples, n_features)
            TF-IDF weights.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For a string instead of an iterable, or no text at all.
        """
        state = vars(self)
        if "vocabulary_" not in state or "_tfidf" not in state:
            return super().transform(raw_documents)
        return weigh(self._tfidf, CountVectorizer.transform(self, raw_documents))


class TokenizedCorpus(Sequence[str]):
    """Texts that are tokenised once and then fitted and transformed by any selection of rows.

    Index it with an array, a slice or a mask and hand the result to the vectorizers, or hand the
    whole to `sklearn.model_selection.cross_val_score`: each fit sees its own rows only and equals
    a fit on these texts alone. A vectorizer it was not prepared for gets the plain texts.

    Parameters
    ----------
    texts : iterable of str
        The texts.
    *vectorizers : CountVectorizer or TfidfVectorizer
        Vectorizers of this module to prepare for; only their analysis parameters matter.

    Raises
    ------
    TypeError
        If a text is not a string.
    ValueError
        If a vectorizer is not accelerated.

    Examples
    --------
    >>> vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3))
    >>> corpus = TokenizedCorpus(["бір", "екі", "үш"], vectorizer)
    >>> vectorizer.fit_transform(corpus[[0, 2]]).shape[0]
    2
    """

    def __init__(self, texts: Iterable[str], *vectorizers: CountVectorizer) -> None:
        self._texts = list(texts)
        self._rows: Ints | None = None
        self._encodings: dict[tuple[Any, ...], Encoding] = {}
        if not all(isinstance(text, str) for text in self._texts):
            raise TypeError("a TokenizedCorpus takes strings only")
        for vectorizer in vectorizers:
            if not _is_accelerated(vectorizer) or vectorizer.input != "content":
                raise ValueError(f"cannot tokenise ahead for {vectorizer!r}")
            key = _analysis_key(vectorizer)
            if key not in self._encodings:
                self._encodings[key] = encode(self._texts, vectorizer)

    def __len__(self) -> int:
        return len(self._texts if self._rows is None else self._rows)

    @property
    def shape(self) -> tuple[int]:
        """Number of texts, for scikit-learn to index by array."""
        return (len(self),)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: Any) -> TokenizedCorpus: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):  # scikit-learn asks for X[rows, ...]
            index = index[0]
        rows = np.arange(len(self._texts)) if self._rows is None else self._rows
        if isinstance(index, list) and not index:
            index = slice(0)
        chosen = rows[index]
        if np.ndim(chosen) == 0:
            return self._texts[chosen]
        view = copy.copy(self)
        view._rows = chosen
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts) if self._rows is None else map(self._texts.__getitem__, self._rows)

    def is_prepared_for(self, vectorizer: CountVectorizer) -> bool:
        """Whether these texts are tokenised already as `vectorizer` would do it."""
        return _analysis_key(vectorizer) in self._encodings

    def encoding_for(self, vectorizer: CountVectorizer) -> Encoding:
        """Return the prepared encoding of these rows; KeyError if there is none."""
        encoding = self._encodings[_analysis_key(vectorizer)]
        return encoding if self._rows is None else encoding.rows(self._rows)


def from_sklearn(stock: Any) -> Any:
    """Return the fast equal of a stock scikit-learn vectorizer, fitted if `stock` is.

    Parameters
    ----------
    stock : sklearn.feature_extraction.text.CountVectorizer or TfidfVectorizer
        The vectorizer, left untouched.

    Returns
    -------
    CountVectorizer or TfidfVectorizer
        Of this module.

    Raises
    ------
    TypeError
        If `stock` is of any other class, subclasses included.
    """
    fast = TfidfVectorizer if type(stock) is sk.TfidfVectorizer else CountVectorizer
    return fast.from_sklearn(stock)


def _rebuild(source: Any, target: type) -> Any:
    params = source.get_params(deep=False)
    rebuilt = target(**params)
    state = {name: copy.copy(v) for name, v in vars(source).items() if name not in params}
    vars(rebuilt).update(state)
    return rebuilt


def _is_accelerated(vectorizer: Any) -> bool:
    cls, ngram_range = type(vectorizer), vectorizer.ngram_range
    return (
        isinstance(vectorizer.analyzer, str)
        and vectorizer.analyzer in FEW
        and vectorizer.preprocessor is None
        and vectorizer.tokenizer is None
        and vectorizer.strip_accents in (None, "ascii", "unicode")
        and isinstance(ngram_range, tuple)
        and len(ngram_range) == 2
        and all(isinstance(n, int) for n in ngram_range)
        and 1 <= ngram_range[0] <= ngram_range[1]
        and all(getattr(cls, name) is getattr(sk.CountVectorizer, name) for name in _ANALYSIS)
        and vars(vectorizer).keys().isdisjoint(_ANALYSIS)
    )


def _analysis_key(vectorizer: Any) -> tuple[Any, ...]:
    """Return what decides how a string is analysed, in a form that pickles the same always."""
    key = tuple(
        getattr(vectorizer, name)
        for name in ("input", "analyzer", "ngram_range", "lowercase", "strip_accents")
    )
    if vectorizer.analyzer != "word":
        return key
    stop_words = vectorizer.get_stop_words()
    return (*key, vectorizer.token_pattern, stop_words and tuple(sorted(stop_words)))


def _encoding_of(documents: Iterable[Any], vectorizer: Any) -> Encoding:
    if isinstance(documents, TokenizedCorpus) and documents.is_prepared_for(vectorizer):
        return documents.encoding_for(vectorizer)
    return encode(documents, vectorizer)


def _batches(
    documents: Iterable[Any], smallest: int, largest: int, growth: float = 1.0
) -> Iterator[Any]:
    """Cut documents into batches, each a share of all before it together, within limits."""
    if isinstance(documents, TokenizedCorpus):
        yield from (documents[i : i + largest] for i in range(0, len(documents), largest))
        return
    stream, n_done = iter(documents), 0
    while batch := list(islice(stream, min(max(int(n_done * growth), smallest), largest))):
        n_done += len(batch)
        yield batch
