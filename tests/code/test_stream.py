"""Training past memory: stock features, one side an article, the same weights after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.svm import LinearSVC
from tests.conftest import CORPUS_FILES, TASKS, TOPIC, run_train, store_environment

from kaznews import load, stream
from kaznews.errors import KaznewsError
from kaznews.parts import open_folder
from kaznews.reader import Reader, open_reader
from kaznews.reading import Source
from kaznews.settings import StreamSettings
from kaznews.text import normalize

VECTORIZER = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=2**12)
CLASSIFIER = SGDClassifier(loss="log_loss", alpha=1e-5, average=True, random_state=0)
SETTINGS = StreamSettings(batch=50, epochs=4, shuffle=300, held_out=200, checkpoint_every=3)


def reader(*files: Path, **options: float) -> Reader:
    sizes = {"dev_size": 0.1, "test_size": 0.1} | options
    return open_reader(Source("files", tuple(map(str, files))), TASKS, **sizes)


def learned(folder: Path, **options: Any) -> stream.State:
    read = reader(*CORPUS_FILES[:3])
    dev = stream.collect(read, VECTORIZER, 200)["dev"]
    return stream.learn(
        read, VECTORIZER, CLASSIFIER, SETTINGS, open_folder(str(folder)), dev, **options
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("ab Әіİς\u0301\u00a0\n1.-"), max_size=12), min_size=1, max_size=5
    ),
    st.sampled_from([(1, 1), (2, 5), (3, 3)]),
    st.sampled_from(["l2", "l1", None]),
    st.booleans(),
    st.sampled_from([None, "unicode", "ascii"]),
)
def test_hashing_word_by_word_equals_hashing_whole_sentences(
    texts: list[str], ngrams: tuple[int, int], norm: str | None, sign: bool, strip: str | None
) -> None:
    vectorizer = HashingVectorizer(
        analyzer="char_wb", ngram_range=ngrams, norm=norm, alternate_sign=sign,
        strip_accents=strip, n_features=64,
    )  # fmt: skip
    expected, found = vectorizer.transform(texts), stream.hashed(vectorizer, texts)
    np.testing.assert_array_equal(found.toarray(), expected.toarray())


def test_an_article_stands_on_one_side_whatever_is_read_with_it(
    corpus_rows: list[dict[str, Any]],
) -> None:
    article = {normalize(row["text"]): row["article"] for row in corpus_rows}
    sides: dict[str, set[str]] = {}
    for read in (reader(*CORPUS_FILES[:2]), reader(*CORPUS_FILES)):
        for row in read.rows():
            sides.setdefault(article[row["text"]], set()).add(row["part"])
    assert all(len(parts) == 1 for parts in sides.values())
    shares = [next(iter(parts)) for parts in sides.values()]
    assert 0.05 < shares.count("dev") / len(shares) < 0.15
    assert 0.05 < shares.count("test") / len(shares) < 0.15


def test_a_split_of_the_data_is_kept(tmp_path: Path) -> None:
    rows = [{"text": f"сөйлем {i}", "topic": "sport", "split": "test"} for i in range(9)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {row["part"] for row in reader(tmp_path / "a.jsonl").rows()} == {"test"}


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = learned(tmp_path / "whole")
    assert whole.epoch == 4
    code = (
        "import sys; from pathlib import Path; from tests.code.test_stream import learned; "
        "learned(Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:{os.environ.get('PYTHONPATH', '')}"},
    )
    checkpoint = tmp_path / "killed" / stream.CHECKPOINT
    seen, deadline = set(), time.monotonic() + 120
    while len(seen) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        if checkpoint.exists():
            seen.add(checkpoint.stat().st_mtime_ns)
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    broken = stream.read(open_folder(str(tmp_path / "killed")))
    assert broken is not None
    assert 0 < broken.learned < whole.learned
    scores: list[Any] = []
    again = learned(tmp_path / "killed", scored=lambda n, metrics: scores.append([n, metrics]))
    assert again.learned == whole.learned
    assert scores == whole.history
    for task in TASKS:
        a, b = again.classifiers[task.name], whole.classifiers[task.name]
        np.testing.assert_array_equal(a.coef_, b.coef_)
        np.testing.assert_array_equal(a.intercept_, b.intercept_)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / stream.CHECKPOINT).write_bytes(b"PK\x03\x04")
    with pytest.raises(KaznewsError, match=r"cannot read .*checkpoint\.skops"):
        stream.read(open_folder(str(tmp_path)))


def test_another_epoch_draws_in_another_order() -> None:
    read = reader(CORPUS_FILES[0])
    orders = [
        [row["text"] for batch in stream._batches(read, SETTINGS, 0, epoch, 0) for row in batch]
        for epoch in (0, 0, 1)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    train = [row["text"] for row in read.rows() if row["part"] == "train"]
    assert sorted(orders[0]) == sorted(train)


@pytest.mark.parametrize(
    ("vectorizer", "classifier", "message"),
    [
        (TfidfVectorizer(), CLASSIFIER, "features=hashing"),
        (VECTORIZER, LinearSVC(), "classifier=sgd_stream"),
    ],
)
def test_what_cannot_learn_from_a_stream_is_refused(
    vectorizer: Any, classifier: Any, message: str
) -> None:
    with pytest.raises(KaznewsError, match=message):
        stream.check_estimators(vectorizer, classifier)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "а", "topic": "weather"}, r"row 2: unknown topic 'weather': expected one of"),
        ({"text": "а", "split": "train2"}, r"row 2: unknown split 'train2'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: dict[str, str], message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "ә", "topic": "sport"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(KaznewsError, match=message):
        list(reader(path).rows())


def test_a_part_without_labels_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "ә", "topic": "sport", "split": "train"}) + "\n")
    with pytest.raises(KaznewsError, match=r"no dev sentence has a topic; raise split\.dev_size"):
        stream.collect(reader(path), VECTORIZER, 9)


def test_the_preset_streams_logs_and_leaves_models_of_stock_classes(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_train(
        tmp_path, "experiment=streaming", "data=files", f"data.files=[{small_file}]",
        "split.dev_size=0.2", "split.test_size=0.2", "stream.batch=100", "stream.epochs=3",
        "stream.checkpoint_every=2", "resamples=50",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    bundle = Path(result.stdout.split("--model ")[1].split(" labels")[0])
    answers = load(str(bundle)).predict(["Құрама төрт медаль жеңіп алды."] * 70)
    assert set(answers["topic"]) <= set(TOPIC.labels)
    assert not (bundle.parent / stream.CHECKPOINT).exists()
    shutil.rmtree(bundle.parent)
    for name, value in store_environment(tmp_path).items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        client = mlflow.MlflowClient()
        runs = {run.data.tags["kind"]: run for run in mlflow.search_runs(output_format="list",
                search_all_experiments=True)}  # fmt: skip
        history = client.get_metric_history(runs["parent"].info.run_id, "topic_stream_macro_f1")
        assert len({point.step for point in history}) == len(history) >= 6
        model = client.search_logged_models([runs["task"].info.experiment_id])[0]
        pipeline = mlflow.sklearn.load_model(model.model_uri)
        assert type(pipeline.named_steps["classifier"]).__module__.startswith("sklearn.")
        assert len(pipeline.predict(pd.DataFrame({"text": ["Баға өсті.", "Ойын бітті."]}))) == 2
    finally:
        mlflow.set_tracking_uri(before)
