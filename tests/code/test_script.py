"""Kazakh in the Latin alphabet of 2021 is read; other languages are left alone."""

from __future__ import annotations

import pytest

from kaznews.script import is_latin_kazakh, to_cyrillic
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
        "",
    ],
)
def test_other_languages_and_cyrillic_are_left_alone(text: str) -> None:
    assert not is_latin_kazakh(text)
    assert normalize(text) == text


def test_normalizing_reads_latin_sentences() -> None:
    assert normalize("Qazaqstan  eksportty ūlğaitty") == "Қазақстан экспортты ұлғайтты"
