"""Files, the rest of the public sources or a Hub set in, unlabelled sentences to learn from out.

Nothing that is held out may come back this way: no dev or test sentence, none nearly the same, and
none of their articles.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from kaznews import gold
from kaznews.data import Corpus
from kaznews.errors import AbsentError, KaznewsError
from kaznews.reading import read_rows
from kaznews.similar import near_pairs
from kaznews.split import Split
from kaznews.text import normalize

# Sentences so close to a held-out one, in the order of publication, may be of its article.
NEIGHBOURS = 5
FEWEST_WORDS = 3
_CYRILLIC = re.compile(r"[а-яәғқңөұүһі]", re.IGNORECASE)
_NO_LETTER = re.compile(r"[\W_]+")
# Ends of sentences inside a document: after a stop and its closing marks, before a capital.
_SENTENCE_END = re.compile(r"(?<=[.!?…])([\"»”)]*)\s+(?=[\"«“(–—-]*\s?[А-ЯӘҒҚҢӨҰҮҺІA-Z0-9])")


@dataclass
class Pool:
    """Where unlabelled sentences come from (``data.unlabelled``); several are put together.

    Attributes
    ----------
    files : list of str
        Paths or patterns, of the types that `data.files` takes; a column ``article`` is respected.
    gold : str or None
        Folder of label tables: the sentences of their public files that no table labels.
    path, config_name, part : str or None
        A set of the Hugging Face Hub or a folder, its configuration and split; it is streamed.
    text_column : str
    documents : bool
        Whether texts are documents, to be cut into sentences.
    limit : int
        Sentences that are read of each at most.
    """

    files: list[str] = field(default_factory=list)
    gold: str | None = None
    path: str | None = None
    config_name: str | None = None
    part: str = "train"
    text_column: str = "text"
    documents: bool = False
    limit: int = 100_000


@dataclass(frozen=True)
class HeldOut:
    """What must not be learned from: sentences of dev and test, with their ids and articles.

    `labelled` holds all sentences of the corpus and `labelled_ids` their ids.
    """

    texts: tuple[str, ...]
    ids: frozenset[str]
    articles: frozenset[str]
    labelled: frozenset[str]
    labelled_ids: frozenset[str]


@dataclass(frozen=True)
class Unlabelled:
    """Sentences to learn from.

    Attributes
    ----------
    texts : tuple of str
        Normalised, distinct.
    dropped : mapping of str to int
        How many were left out for each reason.
    """

    texts: tuple[str, ...]
    dropped: Mapping[str, int]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any sentence."""
        return hashlib.sha256("\n".join(sorted(self.texts)).encode("utf-8", "replace")).hexdigest()[
            :16
        ]


@dataclass(frozen=True)
class _Candidate:
    text: str
    article: str | None


def held_out_of(corpus: Corpus, split: Split) -> HeldOut:
    """Return what is held out of a corpus by its split."""
    rows = np.flatnonzero(split.part != "train").tolist()
    columns = ["group", *(["article"] if "article" in corpus.dataset.column_names else [])]
    values = {name: list(corpus.dataset[name]) for name in ("id", "text", *columns)}
    return HeldOut(
        tuple(values["text"][i] for i in rows),
        frozenset(values["id"][i] for i in rows),
        frozenset(values[c][i] for c in columns for i in rows if values[c][i]),
        frozenset(values["text"]),
        frozenset(values["id"]),
    )


def _key(text: str) -> str:
    """Return what is left of a text without case, spaces and punctuation."""
    return _NO_LETTER.sub("", text.casefold())


def sentences_of(document: str) -> list[str]:
    """Cut a document into sentences: at line breaks, and after stops before a capital."""
    found = []
    for line in document.splitlines():
        found += _SENTENCE_END.sub(lambda m: m.group(1) + "\n", line).split("\n")
    return [sentence for sentence in found if sentence.strip()]


def _as_candidates(
    rows: Iterable[Mapping[str, Any]], pool: Pool, name: str
) -> Iterator[_Candidate]:
    for number, row in enumerate(rows):
        text = row.get(pool.text_column)
        if number == 0 and pool.text_column not in row:
            raise KaznewsError(
                f"data.unlabelled: {name} has no column {pool.text_column!r}; "
                f"its columns are {', '.join(map(str, row))}"
            )
        if not isinstance(text, str):
            continue
        article = str(row["article"]) if row.get("article") else None
        if not pool.documents:
            yield _Candidate(normalize(text), article)
            continue
        for sentence in sentences_of(text):
            yield _Candidate(normalize(sentence), article or f"{name}:{number}")


def _read_files(pool: Pool) -> Iterator[_Candidate]:
    for pattern in pool.files:
        paths = sorted(glob(pattern, recursive=True))
        if not paths:
            raise KaznewsError(f"data.unlabelled.files: no file matches {pattern}")
        for path in paths:
            yield from _as_candidates(read_rows(Path(path)), pool, Path(path).name)


def _stream(pool: Pool) -> Iterator[_Candidate]:
    import datasets

    try:
        rows = datasets.load_dataset(pool.path, pool.config_name, split=pool.part, streaming=True)
        yield from _as_candidates(rows, pool, str(pool.path))
    except KaznewsError:
        raise
    except Exception as error:
        # Network, authentication, missing set, broken files: `datasets` has an error for each.
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise KaznewsError(f"data.unlabelled: cannot read {pool.path}: {reason}") from error


def near_held_out(
    rows: Sequence[Mapping[str, Any]], labelled: Collection[str], held_out: Collection[str]
) -> set[str]:
    """Return ids of sentences that may be of the article of a held-out one.

    The files do not say where an article ends. A sentence is taken to be of a held-out article if
    it stands at most NEIGHBOURS from a held-out sentence, or if the next labelled sentence before
    or behind it is held out: what lies between them belongs to one of the two.

    Parameters
    ----------
    rows : sequence of mapping
        As `gold.prepare_whole` writes them.
    labelled, held_out : collection of str
        Ids of the labelled sentences, and of those in dev and test.
    """
    found: set[str] = set()
    places: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        places.setdefault(row["place"], []).append(row)
    for own in places.values():
        own.sort(key=lambda row: int(row["position"]))
        position = np.array([int(row["position"]) for row in own])
        known = np.flatnonzero([row["id"] in labelled for row in own])
        out = np.array([own[i]["id"] in held_out for i in known], dtype=bool)
        if not out.any():
            continue
        index = np.arange(len(own))
        after = np.searchsorted(known, index, side="left")
        before = np.searchsorted(known, index, side="right") - 1
        beside = (after < len(known)) & out[np.minimum(after, len(known) - 1)]
        beside |= (before >= 0) & out[np.maximum(before, 0)]
        for i in known[out]:
            beside |= np.abs(position - position[i]) <= NEIGHBOURS
        found |= {own[i]["id"] for i in np.flatnonzero(beside)}
    return found


def _rest_of_gold(pool: Pool, held_out: HeldOut, dropped: Counter[str]) -> Iterator[_Candidate]:
    path = gold.prepare_whole(Path(str(pool.gold)), report=lambda line: None)
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    near = near_held_out(rows, held_out.labelled_ids, held_out.ids)
    for row in rows:
        if row["id"] in held_out.labelled_ids:
            continue
        if row["id"] in near:
            dropped["may be of a held-out article"] += 1
            continue
        yield _Candidate(row["text"], None)


def gather(pool: Pool, held_out: HeldOut) -> Unlabelled:
    """Read all unlabelled sentences that may be learned from.

    Left out are held-out sentences (compared without case, spaces and punctuation), sentences that
    are nearly the same as one of them (`similar.near_pairs`), every sentence of an article or
    document that holds one, sentences that are labelled anyway, repeated ones, those of fewer than
    FEWEST_WORDS words, and those without a Cyrillic letter.

    Raises
    ------
    KaznewsError
        Nothing is named, something cannot be read, or no sentence is left.
    """
    dropped: Counter[str] = Counter()
    readers = []
    if pool.files:
        readers.append(_read_files(pool))
    if pool.gold is not None:
        readers.append(_rest_of_gold(pool, held_out, dropped))
    if pool.path is not None:
        readers.append(_stream(pool))
    if not readers:
        raise AbsentError(
            "there are no unlabelled sentences: name some with data.unlabelled.files=[path], "
            "or take data=gold, whose public files hold more than is labelled"
        )
    candidates: list[_Candidate] = []
    for reader in readers:
        for number, candidate in enumerate(reader):
            if number >= pool.limit:
                break
            candidates.append(candidate)
    kept = _without_held_out(candidates, held_out, dropped)
    labelled = {_key(text) for text in held_out.labelled}
    texts: dict[str, str] = {}
    for candidate in kept:
        key = _key(candidate.text)
        if key in labelled:
            dropped["labelled"] += 1
        elif key in texts:
            dropped["repeated"] += 1
        elif len(candidate.text.split()) < FEWEST_WORDS or not _CYRILLIC.search(candidate.text):
            dropped["short or not Kazakh"] += 1
        else:
            texts[key] = candidate.text
    if not texts:
        raise KaznewsError("data.unlabelled holds no sentence that may be learned from")
    return Unlabelled(tuple(texts.values()), dict(dropped))


def _without_held_out(
    candidates: Sequence[_Candidate], held_out: HeldOut, dropped: Counter[str]
) -> list[_Candidate]:
    forbidden = {_key(text) for text in held_out.texts}
    same = {i for i, c in enumerate(candidates) if _key(c.text) in forbidden}
    near = {i for i, _, _ in near_pairs([c.text for c in candidates], held_out.texts)} - same
    articles = held_out.articles | {
        article for i in same | near if (article := candidates[i].article) is not None
    }
    kept = []
    for i, candidate in enumerate(candidates):
        if i in same:
            dropped["held out"] += 1
        elif i in near:
            dropped["nearly a held-out one"] += 1
        elif candidate.article in articles:
            dropped["of a held-out article"] += 1
        else:
            kept.append(candidate)
    return kept
