"""The normal form of a sentence."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaznews.text import normalize, text_hash

KAZAKH = "аәбвгғдежзиійкқлмнңоөпрстуұүфхһшыэюя"
MESSY = st.text(
    st.one_of(
        st.sampled_from(
            KAZAKH + KAZAKH.upper() + " abceinopqxyəƏ\u00ad\ufeff\u200b\u00a0\t\u0306\u0308"
        ),
        st.characters(),
    )
)


@given(MESSY)
def test_normalizing_twice_is_normalizing_once(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(MESSY)
def test_the_normal_form_is_nfc_with_single_spaces(text: str) -> None:
    normal = normalize(text)
    assert unicodedata.is_normalized("NFC", normal)
    assert normal == " ".join(normal.split())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("cауда", "сауда"),  # Latin c
        ("экономикaлық Қaзақстaн", "экономикалық Қазақстан"),  # Latin a
        ("кəсіпорын Əлем", "кәсіпорын Әлем"),  # Latin schwa
        ("iшкi нарық", "ішкі нарық"),  # Latin i
        ("Қазақ\u00adстан\u200b", "Қазақстан"),
        ("бір\u00a0 екі\t\nүш ", "бір екі үш"),
        ("и\u0306", "й"),
    ],
)
def test_look_alikes_and_invisible_letters_are_mended(raw: str, expected: str) -> None:
    assert normalize(raw) == expected


@pytest.mark.parametrize("text", ["SpaceX-тің WhatsApp", "QazTech", "COVID-19", "wifi-ға", "G20"])
def test_words_that_are_really_latin_stay(text: str) -> None:
    assert normalize(text) == text


def test_case_is_kept() -> None:
    assert normalize("ҚР Үкіметі") == "ҚР Үкіметі"


def test_hash_of_a_lone_surrogate_does_not_fail() -> None:
    assert len(text_hash("\ud800")) == 16
