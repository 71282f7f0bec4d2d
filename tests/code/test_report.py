"""The page of a run: it escapes what data bring and needs no network; pictures are pictures."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from tests.conftest import STANCES

from kaznews.data import Task, load
from kaznews.features import TfidfVectorizer
from kaznews.fit import run_task
from kaznews.folds import tokenize
from kaznews.reading import Source
from kaznews.report import render
from kaznews.review import review
from kaznews.split import split_corpus

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %} &amp; "
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div", "table",
    "tr", "th", "td", "figure", "img", "span",
}  # fmt: skip


class Page(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def trained(tmp_path: Path, classifier: Any, prefix: str = "") -> Any:
    """Return a corpus of 240 short sentences, its split, one trained task and its review."""
    words = {"favor": "қолдайды", "against": "қарсы", "none": "жиын"}
    task = Task("stance", STANCES[0].labels, (), "f_favor_against")
    generator = np.random.default_rng(0)
    rows = []
    for i in range(240):
        label = list(words)[i % 3]
        filler = " ".join(f"сөз{k}" for k in generator.integers(0, 30, size=6))
        # One in eight is labelled by a coin, so that there are errors to show.
        word = words[label] if i % 8 else "белгісіз"
        rows.append(
            {
                "text": f"{prefix}{word} {filler} {i}", "stance": label, "article": f"a{i // 2}",
                "genre": prefix + ("agency" if i % 2 else "quote"), "contrast": f"c{i // 4}",
            }
        )  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    corpus = load(Source(f"{prefix}mine", (str(path),), description=f"{prefix}d"), (task,))
    split = split_corpus(corpus, dev_size=0.2, test_size=0.25, n_folds=3, seed=0)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    result = run_task(
        task, corpus, split, tokenize(list(corpus.dataset["text"]), vectorizer), vectorizer,
        classifier, n_jobs=1, resamples=50, seed=0, curve_shares=[0.5],
    )  # fmt: skip
    return corpus, split, result, review(result, corpus)


def test_whatever_data_bring_is_shown_as_text(tmp_path: Path) -> None:
    corpus, split, result, seen = trained(tmp_path, LinearSVC(), EVIL)
    source = render(
        f"{EVIL}title", corpus, split, [result], [seen],
        verdict=f"{EVIL}verdict", comparison=[[EVIL, "old"], ["a", EVIL]],
    )  # fmt: skip
    page = Page(source)
    assert {tag for tag, _ in page.tags} <= ALLOWED
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "img":
            assert attributes["src"].startswith("data:image/png;base64,")
    assert "<script" not in source
    assert "{{ 7 * 7 }}" in page.text
    for name in ("title", "verdict", "mine", "d"):
        assert f"{EVIL}{name}" in page.text
    assert page.text.count("<script>alert(1)</script>") > 5


def test_the_page_shows_scores_examples_and_pictures(tmp_path: Path) -> None:
    corpus, split, result, seen = trained(tmp_path, LinearSVC())
    page = Page(render("run", corpus, split, [result], [seen], verdict="better than the champion"))
    value = result.reports["test"].metrics["f_favor_against"]
    low, high = result.reports["test"].intervals["f_favor_against"]
    assert f"{value:.3f} ({low:.3f}–{high:.3f})" in page.text
    assert "better than the champion" in page.text
    assert {e.kind for e in seen.examples} == {"sure and right", "sure and wrong", "least sure"}
    assert seen.examples[0].explanation.text in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 8
    assert sum("background:rgba" in str(a.get("style")) for tag, a in page.tags) > 10
    assert not [a for _, a in page.tags if "href" in a]


def test_pictures_are_png_and_a_model_without_n_grams_has_all_but_one(tmp_path: Path) -> None:
    corpus, split, result, seen = trained(tmp_path, KNeighborsClassifier())
    assert all(content.startswith(b"\x89PNG") for content in seen.pictures.values())
    assert "ngrams.png" not in seen.pictures
    assert {"reliability.png", "slices.png", "learning_curve.png"} <= set(seen.pictures)
    assert seen.examples == ()
    assert "n_grams" not in seen.tables["test_sentences.json"]
    assert "cannot be explained" in Page(render("run", corpus, split, [result], [seen])).text


@pytest.mark.parametrize("kind", ["test_sentences.json", "confident_errors.json", "slices.json"])
def test_tables_can_be_written_as_json(tmp_path: Path, kind: str) -> None:
    *_, seen = trained(tmp_path, LinearSVC())
    again = json.loads(seen.tables[kind].to_json(orient="split", force_ascii=False))
    assert len(again["data"]) == len(seen.tables[kind])
