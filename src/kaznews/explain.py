"""A linear pipeline and sentences in, the n-grams that carried a label out, with exact weights.

A saved model makes probabilities of decision values, by a softmax or by isotonic curves, and a
decision value is a sum over the n-grams of the sentence: coefficient times TF-IDF value, plus the
intercept of the label.
"""

from __future__ import annotations

import html
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaznews.errors import KaznewsError
from kaznews.model import TEXT_COLUMN, vectorizers
from kaznews.stock import linear_part

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
# Lower-cased text and n-gram in, (start, end) of every place out.
Finder = Callable[[str, str], list[tuple[int, int]]]
# Shades of a highlight, from the faintest up.
SHADES = 5
VISIBLE_SPACE = "␣"
# Words that are listed a label, and sentences that are shown of many.
WORDS = 8
SHOWN = 20


@dataclass(frozen=True)
class Terms:
    """The n-grams behind the columns of a pipeline's matrix.

    Attributes
    ----------
    names : ndarray of object, shape (n_features,)
    finders : tuple of callable
        For each vectorizer what finds its n-grams in a lower-cased text.
    ends : tuple of int
        For each vectorizer the first column after its own.
    """

    names: npt.NDArray[np.object_]
    finders: tuple[Finder, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Explanation:
    """Why a sentence got a label.

    Attributes
    ----------
    text, label : str
    confidence : float
        Probability of the label.
    decision : float
        What the calibration makes a probability of; ``intercept`` and all weights add up to it.
    intercept : float
    weights : tuple of (str, float)
        N-grams of the sentence with their signed weights, the greatest absolute weight first.
    finders : tuple of callable
        What finds each n-gram in the text.
    """

    text: str
    label: str
    confidence: float
    decision: float
    intercept: float
    weights: tuple[tuple[str, float], ...]
    finders: tuple[Finder, ...] = field(repr=False)

    @cached_property
    def characters(self) -> Floats:
        """Weights spread evenly over the visible characters of their n-grams, shape (len(text),).

        They add up to the decision value without the intercept. An n-gram that stands several
        times shares its weight among its places. What has no place is left out: an n-gram of
        spaces alone, or one that is not found (a vectorizer that strips accents).
        """
        lowered, origin = _lower_with_positions(self.text)
        spread = np.zeros(len(self.text))
        for (term, weight), find in zip(self.weights, self.finders, strict=True):
            places = [
                [i for i in range(max(start, 0), min(end, len(lowered))) if lowered[i] != " "]
                for start, end in find(lowered, term)
            ]
            places = [place for place in places if place]
            for place in places:
                for i in place:
                    spread[origin[i]] += weight / (len(places) * len(place))
        return spread

    def words(self) -> list[tuple[str, float]]:
        """Return the words of the text in order with the sums of their characters' weights."""
        return [
            (match.group(), float(self.characters[match.start() : match.end()].sum()))
            for match in re.finditer(r"\S+", self.text)
        ]

    def top(self, n: int = 5) -> list[tuple[str, float]]:
        """Return the n-grams that weigh most, leaving out those within or around a stronger one."""
        return distinct(self.weights, n)

    def pieces(self) -> Iterator[tuple[str, int]]:
        """Yield the text in pieces of one shade: -SHADES (against) over 0 to SHADES (for)."""
        most = float(np.abs(self.characters).max(initial=0.0)) or 1.0
        shades = np.rint(SHADES * self.characters / most).astype(int).tolist()
        start = 0
        for end in range(1, len(shades) + 1):
            if end == len(shades) or shades[end] != shades[start]:
                yield self.text[start:end], shades[start]
                start = end

    def to_html(self) -> str:
        """Return the text with what carried the label in blue, what spoke against it in red."""
        spans = []
        for piece, shade in self.pieces():
            colour = "37,99,235" if shade > 0 else "220,38,38"
            style = f"background:rgba({colour},{0.12 * abs(shade):.2f})"
            escaped = html.escape(piece)
            spans.append(f'<span style="{style}">{escaped}</span>' if shade else escaped)
        return "".join(spans)

    def _repr_html_(self) -> str:
        top = ", ".join(f"{html.escape(show(term))} {weight:+.2f}" for term, weight in self.top())
        head = f"<b>{html.escape(self.label)}</b> {self.confidence:.2f}"
        return f"<p>{head}<br>{self.to_html()}<br><small>{top}</small></p>"

    def to_terminal(self, colour: bool) -> str:
        """Return the text for a terminal: green for the label, red against it, or plain."""
        if not colour:
            return printable(self.text)
        out = []
        for piece, shade in self.pieces():
            strength = "1;" if abs(shade) > SHADES // 2 else ""
            code = f"\x1b[{strength}{32 if shade > 0 else 31}m"
            out.append(f"{code}{printable(piece)}\x1b[0m" if shade else printable(piece))
        return "".join(out)

    def to_table(self, top: int = WORDS) -> str:
        """Return the words that weigh most, all others, the intercept: they add up to the last."""
        words = sorted(self.words(), key=lambda pair: -abs(pair[1]))[:top]
        rest = self.decision - self.intercept - sum(weight for _, weight in words)
        lines = [*words, ("(all other words)", rest), ("(intercept)", self.intercept)]
        lines.append(("= decision value", self.decision))
        return "\n".join(f"  {weight:+8.3f}  {printable(word)}" for word, weight in lines)


@dataclass(frozen=True, repr=False)
class Explained:
    """Answers and what carried them: text for a terminal, HTML in a notebook.

    Attributes
    ----------
    answers : DataFrame
        As `predict.Bundle.predict` returns it without explanations.
    explanations : mapping of str to tuple of Explanation
        For each task one a row.
    """

    answers: pd.DataFrame
    explanations: Mapping[str, tuple[Explanation, ...]]

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, task: str) -> tuple[Explanation, ...]:
        return self.explanations[task]

    def __repr__(self) -> str:
        return self.to_terminal(colours_wanted(), rows=SHOWN) + self._rest()

    def _repr_html_(self) -> str:
        blocks = [
            f"<p><b>{html.escape(name)}</b>{', abstains' if abstains else ''}</p>{e._repr_html_()}"
            for i in range(min(len(self), SHOWN))
            for name, e, abstains in self._of(i)
        ]
        return "".join(blocks) + html.escape(self._rest())

    def _rest(self) -> str:
        hidden = len(self) - SHOWN
        return f"… and {hidden} more sentences" if hidden > 0 else ""

    def _of(self, row: int) -> Iterator[tuple[str, Explanation, bool]]:
        for name, own in self.explanations.items():
            yield name, own[row], bool(self.answers[f"{name}_abstain"].iloc[row])

    def to_terminal(self, colour: bool, top: int = WORDS, rows: int | None = None) -> str:
        """Return one block a sentence and task: label, coloured text, weights of words, n-grams."""
        blocks = []
        for i in range(min(len(self), len(self) if rows is None else rows)):
            for name, e, abstains in self._of(i):
                ngrams = (f"{printable(show(term))} {weight:+.2f}" for term, weight in e.top())
                blocks.append(
                    f"{name}: {e.label} {e.confidence:.2f}{', abstains' if abstains else ''}\n"
                    f"  {e.to_terminal(colour)}\n{e.to_table(top)}\n"
                    f"  n-grams that weigh most: {', '.join(ngrams)}\n\n"
                )
        return "".join(blocks)


def colours_wanted() -> bool:
    """Return whether standard output is a terminal whose user has not refused colours.

    References
    ----------
    https://no-color.org
    """
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def show(term: str) -> str:
    """Return an n-gram with its spaces visible."""
    return term.replace(" ", VISIBLE_SPACE)


def printable(text: str) -> str:
    """Return a text without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else "�" for c in text)


def distinct(weights: Sequence[tuple[str, float]], n: int) -> list[tuple[str, float]]:
    """Return the first `n` pairs, skipping n-grams within or around a chosen one of like sign."""
    chosen: list[tuple[str, float]] = []
    for term, weight in weights:
        if len(chosen) == n:
            break
        bare = term.strip()
        if bare and not any(
            weight * other > 0 and (bare in known.strip() or known.strip() in bare)
            for known, other in chosen
        ):
            chosen.append((term, weight))
    return chosen


def _lower_with_positions(text: str) -> tuple[str, list[int]]:
    """Return the lower-cased text and, for each of its characters, where it comes from.

    One character may become two: İ.
    """
    lowered = [(c, i) for i, character in enumerate(text) for c in character.lower()]
    return "".join(c for c, _ in lowered), [i for _, i in lowered]


def _find_characters(padded: bool) -> Finder:
    pad = " " if padded else ""

    def find(text: str, term: str) -> list[tuple[int, int]]:
        found, at = [], -1
        around = f"{pad}{text}{pad}"
        while (at := around.find(term, at + 1)) >= 0:
            found.append((at - len(pad), at - len(pad) + len(term)))
        return found

    return find


def _find_words(pattern: str) -> Finder:
    token = re.compile(pattern)

    def find(text: str, term: str) -> list[tuple[int, int]]:
        # Where the pattern has a group, scikit-learn takes what it matches for the token.
        spans = [match.span(token.groups) for match in token.finditer(text)]
        words = [text[start:end] for start, end in spans]
        wanted = term.split(" ")
        return [
            (spans[i][0], spans[i + len(wanted) - 1][1])
            for i in range(len(words) - len(wanted) + 1)
            if words[i : i + len(wanted)] == wanted
        ]

    return find


def terms_of(pipeline: Any) -> Terms:
    """Return the n-grams of a pipeline that `model.train_task` made.

    Raises
    ------
    KaznewsError
        The classifier is not linear, or a vectorizer has no n-grams.
    """
    if linear_part(pipeline) is None:
        raise KaznewsError("only linear models can be explained: this classifier is not linear")
    names: list[Any] = []
    finders: list[Finder] = []
    for vectorizer in vectorizers(pipeline):
        if not hasattr(vectorizer, "get_feature_names_out") or not hasattr(vectorizer, "analyzer"):
            raise KaznewsError(f"{type(vectorizer).__name__} has no n-grams to explain by")
        names.append(vectorizer.get_feature_names_out())
        by_word = vectorizer.analyzer == "word"
        find = (
            _find_words(vectorizer.token_pattern)
            if by_word
            else _find_characters(vectorizer.analyzer == "char_wb")
        )
        finders.append(find)
    ends = np.cumsum([len(own) for own in names]).tolist()
    return Terms(np.concatenate(names), tuple(finders), tuple(ends))


def _matrix(pipeline: Any, texts: Sequence[str]) -> Any:
    import pandas as pd
    from scipy.sparse import csr_matrix

    frame = pd.DataFrame({TEXT_COLUMN: list(texts)}, dtype=object)
    return csr_matrix(pipeline.named_steps["text"].transform(frame))


def coefficients(pipeline: Any) -> tuple[Floats, Floats]:
    """Return weights, shape (n_classes, n_features), and intercepts, shape (n_classes,).

    With two classes scikit-learn keeps the second class's row alone: the first one's weights and
    decision value are those with the other sign.
    """
    part = linear_part(pipeline)
    assert part is not None, "terms_of has refused it"
    coef, intercept = part[0].coef_, part[0].intercept_
    if len(coef) == 1:
        return np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
    return coef, intercept


def explain(
    pipeline: Any, texts: Sequence[str], labels: Sequence[str] | None = None
) -> list[Explanation]:
    """Explain the label of each sentence.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        As `model.train_task` makes it.
    texts : sequence of str
        Normalised sentences (`text.normalize`).
    labels : sequence of str, optional
        Labels to explain, one a sentence; default the most likely one.

    Raises
    ------
    KaznewsError
        The model is not linear in n-grams, or a label is none of its classes.
    """
    terms = terms_of(pipeline)
    coef, intercept = coefficients(pipeline)
    classes = [str(c) for c in pipeline.classes_]
    if not len(texts):
        return []
    matrix = _matrix(pipeline, texts)
    probability = pipeline.named_steps["classifier"].predict_proba(matrix)
    explanations = []
    for row, text in enumerate(texts):
        label = classes[int(probability[row].argmax())] if labels is None else labels[row]
        if label not in classes:
            raise KaznewsError(f"{label!r} is none of the labels {', '.join(classes)}")
        k = classes.index(label)
        span = slice(matrix.indptr[row], matrix.indptr[row + 1])
        columns = matrix.indices[span]
        weights = matrix.data[span] * coef[k, columns]
        order = np.argsort(-np.abs(weights), kind="stable")
        explanations.append(
            Explanation(
                text,
                label,
                float(probability[row, k]),
                float(weights.sum() + intercept[k]),
                float(intercept[k]),
                tuple(
                    zip(terms.names[columns[order]].tolist(), weights[order].tolist(), strict=True)
                ),
                tuple(
                    terms.finders[i]
                    for i in np.searchsorted(terms.ends, columns[order], side="right").tolist()
                ),
            )
        )
    return explanations


def heaviest(pipeline: Any, n: int) -> dict[str, tuple[list[tuple[str, float]], ...]]:
    """Return for each class the n-grams that weigh most for it and most against it.

    N-grams within or around a stronger one are left out, so that one word fills one place.
    """
    terms = terms_of(pipeline)
    coef, _ = coefficients(pipeline)
    found = {}
    for k, label in enumerate(pipeline.classes_):
        # Ten times as many as are shown: what is left when the nested ones are gone.
        best = np.argsort(-coef[k], kind="stable")[: 10 * n]
        worst = np.argsort(coef[k], kind="stable")[: 10 * n]
        found[str(label)] = tuple(
            distinct([(str(terms.names[i]), float(coef[k, i])) for i in rows], n)
            for rows in (best, worst)
        )
    return found
