"""A logged bundle in, a registered version out, judged against the champion and perhaps it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kaznews import promotion, tracking
from kaznews.data import Corpus
from kaznews.errors import KaznewsError
from kaznews.fit import TaskResult
from kaznews.gate import Answers, Contest, Decision, Limits, decide, incomparable, refuse
from kaznews.notes import BUNDLE_ABOUT
from kaznews.predict import DEFAULT_MODEL, Bundle, load
from kaznews.split import Split

if TYPE_CHECKING:
    import pandas as pd


def origins(corpus: Corpus) -> list[frozenset[str]]:
    """Return for each sentence the names by which its like are recognised in other runs.

    Its article, and its group where that holds more than this sentence: the name of a sentence
    that stands alone is a line number, which says nothing in another file.
    """
    groups = list(corpus.dataset["group"])
    size = Counter(groups)
    has_article = "article" in corpus.dataset.column_names
    articles = list(corpus.dataset["article"]) if has_article else [None] * len(groups)
    return [
        frozenset(name for name in (a, g if size[g] > 1 else None) if name)
        for a, g in zip(articles, groups, strict=True)
    ]


def seen_rows(bundle: Bundle, texts: Sequence[str], names: Sequence[frozenset[str]]) -> list[bool]:
    """Return for each sentence whether a bundle was trained on it or on its like."""
    flat = [(i, name) for i, own in enumerate(names) for name in (own or {""})]
    found = bundle.has_seen([texts[i] for i, _ in flat], [name for _, name in flat])
    seen = {i for (i, _), known in zip(flat, found, strict=True) if known}
    return [i in seen for i in range(len(texts))]


def leaks(bundle: Bundle, corpus: Corpus, split: Split) -> dict[str, int]:
    """Return how many dev and test sentences of this run a bundle was trained on, or their like."""
    return {part: sum(_seen_of(bundle, corpus, split, part)[1]) for part in ("dev", "test")}


def _seen_of(
    bundle: Bundle, corpus: Corpus, split: Split, part: str
) -> tuple[list[int], list[bool]]:
    """Return the rows of a part, and for each whether the bundle was trained on it."""
    rows = np.flatnonzero(split.part == part).tolist()
    texts, names = list(corpus.dataset["text"]), origins(corpus)
    return rows, seen_rows(bundle, [texts[i] for i in rows], [names[i] for i in rows])


def compare(
    bundle: Bundle,
    champion: Bundle | None,
    results: Sequence[TaskResult],
    corpus: Corpus,
    split: Split,
    limits: Limits,
    seed: int,
) -> Decision:
    """Ask a bundle and the champion about this run's dev part, and decide between them.

    Dev sentences that the champion was trained on count for neither; if too few remain, there is
    no comparison and no promotion.
    """
    dev = np.flatnonzero(split.part == "dev").tolist()
    if champion is not None:
        dev, known = _seen_of(champion, corpus, split, "dev")
        verdict = incomparable(known, limits)
        if verdict is not None:
            return verdict
        dev = [i for i, was_seen in zip(dev, known, strict=True) if not was_seen]
    texts = list(corpus.dataset["text"])
    groups = list(corpus.dataset["group"])
    asked = [texts[i] for i in dev]
    new = _answers(bundle, asked)
    old = _answers(champion, asked) if champion else {}
    missing = [r.task.name for r in results if champion and r.task.name not in old]
    if missing:
        return Decision(False, f"the champion does not know {', '.join(missing)}")
    contests = []
    for r in results:
        labels = corpus.labels(r.task)
        contests.append(
            Contest(
                r.task,
                [labels[i] for i in dev],
                [groups[i] for i in dev],
                new[r.task.name],
                old.get(r.task.name),
                r.majority["dev"].metrics[r.task.main_metric],
            )
        )
    return decide(contests, limits, seed)


def _answers(bundle: Bundle, texts: Sequence[str]) -> dict[str, Answers]:
    return {
        name: Answers(probability, tuple(bundle.classes(name)))
        for name, probability in bundle.probabilities(texts).items()
    }


def _table(decision: Decision) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(decision.rows())


def submit(
    bundle: Bundle,
    model_id: str,
    results: Sequence[TaskResult],
    corpus: Corpus,
    split: Split,
    limits: Limits,
    *,
    seed: int,
    versions: Mapping[str, int],
    facts: Mapping[str, str] | None = None,
    card: Callable[[Decision], str] = str,
) -> tuple[int, Decision]:
    """Register a logged bundle, judge it, and make it champion if it has won.

    Alone from reading the champion to replacing it, so that two trainings at once cannot both
    judge themselves against the same champion.

    Parameters
    ----------
    model_id : str
        Of the logged bundle.
    versions : mapping of registered name to version
        The task models in the bundle.
    facts : mapping, optional
        Tags of the version beside those of the decision.
    card : callable
        Makes the description of the version from the decision.

    Returns
    -------
    version : int
    decision : Decision
        Logged as a table in the active run and as a tag of the version.
    """
    with promotion.alone():
        # First, and whatever may be wrong with the champion: by this the version is tagged.
        decision = refuse(leaks(bundle, corpus, split))
        if decision is None:
            try:
                has_champion = promotion.CHAMPION in promotion.aliases()
                champion = load(DEFAULT_MODEL) if has_champion else None
                decision = compare(bundle, champion, results, corpus, split, limits, seed)
            except KaznewsError as error:
                decision = Decision(False, f"the two cannot be compared: {error}")
        tracking.log_review(
            {"gate.md": decision.markdown().encode("utf-8")}, {"gate.json": _table(decision)}
        )
        tracking.tag("promoted", str(decision.promote).lower())
        members = {f"{promotion.VERSION_PREFIX}{name}": str(v) for name, v in versions.items()}
        tags = {**(facts or {}), **members}
        tags["decision"] = str(decision)
        if decision.saw:
            tags[promotion.SAW_TAG] = decision.saw
        version = tracking.register(
            model_id,
            tracking.BUNDLE_NAME,
            tags,
            card=card(decision),
            about=BUNDLE_ABOUT,
        )
        if decision.promote:
            promotion.promote(version)
        else:
            promotion.mark_runs()
    return version, decision
