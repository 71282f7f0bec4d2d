"""On real sentences: where nobody could tell what a sentence is about, the model abstains."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import LinearSVC
from tests.conftest import SHARED

from kaznews.calibrate import abstention
from kaznews.features import TfidfVectorizer
from kaznews.model import TEXT_COLUMN, train_task
from kaznews.text import normalize

GOLD = SHARED / "gold" / "train.jsonl"


def texts_of(rows: list[dict[str, Any]]) -> Any:
    return np.array([normalize(row["text"]) for row in rows], dtype=object)


def test_unclear_sentences_draw_clearly_more_abstention_than_clear_ones() -> None:
    """On articles of the train part that the model has not seen; dev and test are not read."""
    if not GOLD.is_file():
        pytest.skip("no real sentences (../shared/gold)")
    rows = [json.loads(line) for line in GOLD.open(encoding="utf-8")]
    turn = {article: i % 6 for i, article in enumerate(sorted({row["article"] for row in rows}))}
    clear = [r for r in rows if turn[r["article"]] == 0 and r["topic"] != "unclear"]
    y = np.array([row["topic"] for row in clear])
    number = {article: i % 3 for i, article in enumerate(sorted({r["article"] for r in clear}))}
    fitted = train_task(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True),
        LinearSVC(C=0.5, class_weight="balanced", random_state=0),
        texts_of(clear),
        y,
        np.array([number[row["article"]] for row in clear]),
        target_accuracy=0.85,
    )
    held_out = [row for row in rows if turn[row["article"]] in (1, 2)]
    frame = pd.DataFrame({TEXT_COLUMN: texts_of(held_out)}, dtype=object)
    probability = fitted.pipeline.predict_proba(frame)
    gold = np.array([row["topic"] for row in held_out])
    confidence = probability.max(axis=1)
    hit = fitted.classes[probability.argmax(axis=1)] == gold
    unclear = gold == "unclear"
    figures = abstention(confidence[~unclear], hit[~unclear], fitted.threshold, confidence[unclear])
    assert unclear.sum() > 300
    assert figures["abstain_rate_unclear"] > figures["abstain_rate_clear"] + 0.2
    assert figures["abstain_auroc"] > 0.65
    # And what is answered is about as right as was asked for.
    assert abs(figures["abstain_accuracy"] - 0.85) < 0.05
