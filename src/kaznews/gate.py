"""A new bundle and the champion in, a decision with its reason out: which one is to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kaznews import tracking
from kaznews.data import Corpus
from kaznews.errors import KaznewsError
from kaznews.evaluate import Decision, decide
from kaznews.fit import TaskResult
from kaznews.predict import Bundle, load
from kaznews.split import Split

# Below this share of dev that the champion has not been trained on, the two are not compared.
MIN_UNSEEN = 0.5


def judge(bundle: Bundle, results: Sequence[TaskResult], corpus: Corpus, split: Split) -> Decision:
    """Decide whether a new bundle replaces the champion, both measured on this run's dev part.

    Dev sentences that the champion was trained on, or whose article it was trained on, do not
    count for either; if they are the greater part, there is no comparison and no promotion.
    """
    majority = {r.task.name: r.majority["dev"].metrics[r.task.main_metric] for r in results}
    dev = [
        {"text": text, "article": group, **dict(zip(majority, labels, strict=True))}
        for text, group, part, *labels in zip(
            corpus.dataset["text"],
            corpus.dataset["group"],
            split.part,
            *(corpus.labels(r.task) for r in results),
            strict=True,
        )
        if part == "dev"
    ]

    def main_metrics(judged: Bundle, rows: list[dict[str, Any]]) -> dict[str, float]:
        metric = {t.task.name: t.task.main_metric for t in bundle.tasks}
        scores = judged.score(rows, resamples=0)
        return {name: scores[name].metrics[metric[name]] for name in majority}

    if tracking.champion_version() is None:
        return decide(main_metrics(bundle, dev), None, majority)
    try:
        champion = load()
        seen = champion.has_seen([r["text"] for r in dev], [r["article"] for r in dev])
        unseen = [row for row, known in zip(dev, seen, strict=True) if not known]
        if len(unseen) < MIN_UNSEEN * len(dev):
            known = len(dev) - len(unseen)
            return Decision(
                False,
                f"the champion was trained on {known} of {len(dev)} dev sentences or on "
                "their articles, so the two cannot be compared; `make promote` decides by hand",
            )
        return decide(main_metrics(bundle, unseen), main_metrics(champion, unseen), majority)
    except (KaznewsError, KeyError) as error:
        return Decision(False, f"the champion cannot be scored on this data: {error}")
