"""Labelled sentences in, what is probably wrong with them out.

Three kinds of findings: labels that out-of-fold predictions contradict, sentences that are nearly
the same, and among these the ones that stand on both sides of a split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaznews.data import Task
from kaznews.model import FittedTask
from kaznews.similar import near_pairs

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("finding", "task", "id", "given", "suggested", "score", "text", "other_id", "other_text")


def label_findings(
    task: Task,
    ids: Sequence[str],
    texts: Sequence[str],
    y: npt.NDArray[np.str_],
    fitted: FittedTask,
) -> Iterator[dict[str, Any]]:
    """Yield sentences whose label is probably wrong, the likeliest first.

    Parameters
    ----------
    y : ndarray of str, shape (n_sentences,)
        Given labels, in the order of ``fitted.oof_probability``.

    Notes
    -----
    Confident learning (Northcutt, Jiang, Chuang 2021) by cleanlab, ranked by the out-of-fold
    probability of the given label, which is the ``score``.
    """
    from cleanlab.filter import find_label_issues

    target = np.searchsorted(fitted.classes, y)
    found = find_label_issues(
        target, fitted.oof_probability, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    for i in found:
        probability = fitted.oof_probability[i]
        yield {
            "finding": "label",
            "task": task.name,
            "id": ids[i],
            "given": str(y[i]),
            "suggested": str(fitted.classes[probability.argmax()]),
            "score": float(probability[target[i]]),
            "text": texts[i],
        }


def duplicate_findings(
    ids: Sequence[str],
    texts: Sequence[str],
    parts: Sequence[str],
    contrasts: Sequence[str | None],
) -> Iterator[dict[str, Any]]:
    """Yield pairs of sentences that are nearly the same, ``leak`` where their parts differ.

    Pairs of one contrast group are near copies by design and left out. The ``score`` is the cosine
    of their character 4-gram counts (`similar.near_pairs`).
    """
    for i, j, score in near_pairs(texts):
        if contrasts[i] is not None and contrasts[i] == contrasts[j]:
            continue
        yield {
            "finding": "near-duplicate" if parts[i] == parts[j] else "leak",
            "id": ids[i],
            "score": score,
            "text": texts[i],
            "other_id": ids[j],
            "other_text": texts[j],
        }


def audit_table(findings: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return findings as a table with the columns COLUMNS; empty cells where they do not apply."""
    import pandas as pd

    return pd.DataFrame(findings, columns=list(COLUMNS)).fillna("")
