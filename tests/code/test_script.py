"""Kazakh in the Latin alphabet of 2021 is read; other languages are left alone."""

from __future__ import annotations

import pytest

from kaznews.script import script_of, to_cyrillic
from kaznews.text import normalize


@pytest.mark.parametrize(
    ("latin", "cyrillic"),
    [
        ("Qazaqstan men Qytai saudany ūlğaitady.", "Қазақстан мен Қытай сауданы ұлғайтады."),
        ("İnvestor öñırge qarjy saldy.", "Инвестор өңірге қаржы салды."),
        ("Iskerlık ortada şağyn käsıpkerler köp.", "Іскерлік ортада шағын кәсіпкерлер көп."),
        ("Ekonomikany ärtaraptandyru", "Экономиканы әртараптандыру"),
        ("jahandyq kompania, halyqaralyq ūiym", "жаһандық компания, халықаралық ұйым"),
        ("QR Ükımetı 2,5 mlrd teñge böldı", "ҚР Үкіметі 2,5 млрд теңге бөлді"),
        ("qoian, aiaq, iun, biudjet", "қоян, аяқ, юн, бюджет"),
    ],
)  # fmt: skip
def test_words_are_read_back(latin: str, cyrillic: str) -> None:
    assert to_cyrillic(latin) == cyrillic


@pytest.mark.parametrize(
    "text",
    [
        "The two countries agreed on a new quota.",
        "Türkiye ile ticaret hacmi arttı, görüşmeler sürüyor.",
        "El año que viene España exportará más vino y quizá más acero.",
        "Die Größe des Überschusses fällt.",
        "Қазақстан Qazaq Air әуекомпаниясын сатты",
        "iPhone 15 Pro",
        "Příští rok bude vývoz české oceli výrazně nižší než dnes.",
        "W tym roku słońce nie służy dobrze tańszym państwom.",
        "Azərbaycan ilə Qazaxıstan arasında ticarət artıb.",
        "Él también dijo que la economía está en riesgo según aquí.",
        "",
    ],
)
def test_other_languages_and_cyrillic_are_left_alone(text: str) -> None:
    assert script_of(text) in ("cyrl", "other")
    assert normalize(text) == text


@pytest.mark.parametrize(
    ("latin", "cyrillic"),
    [
        ("Qazaqstan Respýblıkasynyń Prezıdenti", "Қазақстан Республикасының Президенті"),
        ("Eńbek naryǵyndaǵy jaǵdaı ózgerdi", "Еңбек нарығындағы жағдай өзгерді"),
        ("Saýda úsh ese artty, ıaǵnı rekord.", "Сауда үш есе артты, яғни рекорд."),
        ("Ekonomıka mınıstri eksportty qoldaıtynyn aıtty, dep habarlaıdy agenttigi «Ý»",
         "Экономика министрі экспортты қолдайтынын айтты, деп хабарлайды агенттігі «У»"),
        ("Álem chempıony ıapon sportshysy boldy ǵoı", "Әлем чемпионы япон спортшысы болды ғой"),
        ("Jahandyq kompanıalar, shahar ákimi, jıhaz ben qaharman týraly Qytaıdyń pikiri",
         "Жаһандық компаниялар, шаһар әкімі, жиһаз бен қаһарман туралы Қытайдың пікірі"),
    ],
)  # fmt: skip
def test_words_with_acutes_are_read_back(latin: str, cyrillic: str) -> None:
    assert script_of(latin) == "latn-2018"
    assert normalize(latin) == cyrillic


def test_normalizing_reads_latin_sentences() -> None:
    assert normalize("Qazaqstan  eksportty ūlğaitty") == "Қазақстан экспортты ұлғайтты"
