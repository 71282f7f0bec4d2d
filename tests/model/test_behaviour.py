"""What the default model, trained on the committed corpus, must be able to do.

The sentences are written for these tests and stand in no data set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.svm import LinearSVC
from tests.conftest import CORPUS_FILES, STANCES, TASKS

from kaznews.data import load
from kaznews.features import TfidfVectorizer
from kaznews.model import train_task
from kaznews.predict import Bundle, BundleTask, seen_keys
from kaznews.reading import Source
from kaznews.split import split_corpus

COOPERATION, TRADE = (task.name for task in STANCES)

TOPICS = {
    "economic_cooperation": [
        "Қазақстан мен Түркия бірлескен кәсіпорын құру туралы меморандумға қол қойды.",
        "Шетелдік инвесторлар өңірдегі зауыт құрылысына қаржы салмақ.",
    ],
    "trade_balance": [
        "Былтыр елдің экспорты 20 пайызға өсіп, импорт көлемі төмендеді.",
        "Екі ел арасындағы тауар айналымы 3 млрд долларға жетті.",
    ],
    "economy": [
        "Биыл республикалық бюджеттің кірісі жоспардан асып түсті.",
        "Ұлттық банк базалық мөлшерлемені өзгеріссіз қалдырды.",
    ],
    "diplomacy": [
        "Сыртқы істер министрі Жапония елшісін қабылдады.",
        "Президент Бішкекке ресми сапармен барып, мемлекет басшысымен келіссөз жүргізді.",
    ],
    "politics": [
        "Парламент сайлауына бес партия тіркелді.",
        "Мәжіліс депутаттары заң жобасын екінші оқылымда мақұлдады.",
    ],
    "society": [
        "Ауыл мектебінде мұғалім жетіспейді.",
        "Көпбалалы отбасыларға берілетін жәрдемақы мөлшері артты.",
    ],
    "incidents": [
        "Тас жолдағы апаттан екі адам қаза тапты.",
        "Полиция ұрлық жасады деген күдікпен екі азаматты ұстады.",
    ],
    "culture": [
        "Театрда жаңа спектакльдің тұсауы кесілді.",
        "Музейде суретшінің көрмесі ашылды.",
    ],
    "sport": [
        "Боксшыларымыз Азия чемпионатында бес алтын медаль жеңіп алды.",
        "Футбол құрамасы қарсыласын 2:1 есебімен ұтты.",
    ],
    "science_technology": [
        "Ғалымдар жаңа спутникті орбитаға шығаруға дайындап жатыр.",
        "Зерттеушілер жасанды интеллект негізінде бағдарлама жасады.",
    ],
}
STANCE_CASES = {
    (TRADE, "favor"): [
        "Екі ел арасындағы сауда айналымы былтырғыдан 30 пайызға өсті.",
        "Отандық ет өндірушілерге Қытай нарығы ашылды.",
    ],
    (TRADE, "against"): [
        "Вашингтон қытай тауарларына қосымша баж енгізді.",
        "Елдің экспорты 15 пайызға құлдырап, сауда тапшылығы ұлғайды.",
    ],
    (COOPERATION, "favor"): [
        "Тараптар бірлескен зауыт салуға келісті.",
        "Министр екі елдің экономикалық ынтымақтастығын кеңейтуге шақырды.",
    ],
    (COOPERATION, "against"): [
        "Компания бірлескен жобадан шығатынын мәлімдеп, келісімшартты бұзды.",
        "Оппозиция Еуразиялық экономикалық одақтан шығуды талап етті.",
    ],
}
# (sentence, its opposite, task): the first is the better news.
DIRECTIONS = [
    (
        "Астыққа салынған экспорттық баж алынып тасталды.",
        "Астыққа экспорттық баж енгізілді.",
        TRADE,
    ),
    ("Ет импортына салынған тыйым алынды.", "Ет импортына тыйым салынды.", TRADE),
    ("Екі елдің сауда айналымы өсті.", "Екі елдің сауда айналымы төмендеді.", TRADE),
    ("Мұнай экспорты артты.", "Мұнай экспорты күрт азайды.", TRADE),
    (
        "Тараптар бірлескен кәсіпорын ашуға келісті.",
        "Тараптар бірлескен кәсіпорын ашудан бас тартты.",
        COOPERATION,
    ),
    ("Инвестор жобаны бастады.", "Инвестор жобадан кетті.", COOPERATION),
]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    corpus = load(Source("corpus", tuple(map(str, CORPUS_FILES))), TASKS)
    split = split_corpus(corpus, dev_size=0.15, test_size=0.15, n_folds=3, seed=0)
    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True
    )
    classifier = LinearSVC(C=0.5, class_weight="balanced", random_state=0)
    texts = np.array(corpus.dataset["text"], dtype=object)
    parts = []
    for task in corpus.tasks:
        y = np.array(corpus.labels(task))
        rows = np.flatnonzero((split.part == "train") & (y != "unclear"))
        fitted = train_task(
            vectorizer, classifier, texts[rows].tolist(), y[rows], split.fold[rows], n_jobs=2
        )
        parts.append(BundleTask(task, fitted.pipeline))
    return Bundle(tuple(parts), seen_keys([], []))


def probability(bundle: Bundle, task: str, label: str, texts: list[str]) -> np.ndarray:
    return bundle.probabilities(texts)[task][:, bundle.classes(task).index(label)]


@pytest.mark.parametrize("label", TOPICS)
def test_minimum_functionality_of_topics(bundle: Bundle, label: str) -> None:
    assert bundle.predict(TOPICS[label])["topic"].tolist() == [label] * 2


@pytest.mark.parametrize(("task", "label"), STANCE_CASES)
def test_minimum_functionality_of_stances(bundle: Bundle, task: str, label: str) -> None:
    assert bundle.predict(STANCE_CASES[task, label])[task].tolist() == [label] * 2


@pytest.mark.parametrize(("better", "worse", "task"), DIRECTIONS)
def test_the_better_news_is_more_in_favor_and_less_against(
    bundle: Bundle, better: str, worse: str, task: str
) -> None:
    favor = probability(bundle, task, "favor", [better, worse])
    against = probability(bundle, task, "against", [better, worse])
    assert favor[0] > favor[1]
    assert against[0] < against[1]


SENTENCES = [text for texts in (*TOPICS.values(), *STANCE_CASES.values()) for text in texts]


@pytest.mark.parametrize(
    "change",
    [
        str.lower,
        str.upper,
        lambda text: text.replace(" ", "  "),
        lambda text: text.replace(" ", "\u00a0"),
        lambda text: text.replace("ау", "a\u00adу").replace("о", "o"),
    ],
    ids=["lower case", "upper case", "double spaces", "no-break spaces", "look-alikes"],
)
def test_case_spaces_and_look_alikes_change_nothing(
    bundle: Bundle, change: Callable[[str], str]
) -> None:
    plain = bundle.predict(SENTENCES)
    changed = bundle.predict([change(text) for text in SENTENCES])
    for task in TASKS:
        assert changed[task.name].tolist() == plain[task.name].tolist()
        close = np.isclose(changed[f"{task.name}_confidence"], plain[f"{task.name}_confidence"])
        assert close.all()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: f"«{text}»",
        lambda text: f'"{text}"',
        lambda text: text.rstrip(".") + "!",
        lambda text: text.rstrip("."),
    ],
    ids=["guillemets", "straight quotes", "exclamation mark", "no full stop"],
)
def test_quotes_and_final_punctuation_hardly_matter(
    bundle: Bundle, change: Callable[[str], str]
) -> None:
    plain = bundle.predict(SENTENCES)
    changed = bundle.predict([change(text) for text in SENTENCES])
    for task in TASKS:
        same = np.mean(np.array(changed[task.name]) == np.array(plain[task.name]))
        assert same >= 0.9


def test_latin_script_is_read(bundle: Bundle) -> None:
    latin = "Qūrama qarsylasyn ūtyp, çempionattyñ jartylai finalyna şyqty."
    assert bundle.predict([latin])["topic"].tolist() == ["sport"]


def test_confidence_means_what_it_says(bundle: Bundle) -> None:
    """On the corpus's own held-out sentences, mean confidence is close to accuracy."""
    corpus = load(Source("corpus", tuple(map(str, CORPUS_FILES))), TASKS)
    split = split_corpus(corpus, dev_size=0.15, test_size=0.15, n_folds=3, seed=0)
    for task in TASKS:
        y = np.array(corpus.labels(task))
        rows = np.flatnonzero((split.part == "dev") & (y != "unclear"))
        answers = bundle.predict(np.array(corpus.dataset["text"], dtype=object)[rows])
        accuracy = np.mean(np.array(answers[task.name]) == y[rows])
        assert abs(answers[f"{task.name}_confidence"].mean() - accuracy) < 0.06
