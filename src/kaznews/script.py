"""Kazakh in one of two Latin alphabets in, the same words in Cyrillic out.

The alphabets have fewer letters than the 42 Cyrillic ones, so the way back needs rules of reading:
which of и, й, я, ю an ``i`` stands for, which of х and һ an ``h``. Sources: the version that the
National Commission presented on 28 January 2021 (``latn``), and the alphabet of Presidential Decree
No. 637 of 19 February 2018, with acute accents (``latn-2018``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

CYRILLIC, LATIN_2021, LATIN_2018, OTHER = "cyrl", "latn", "latn-2018", "other"

_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_WORD = re.compile(r"[^\W\d_]+")

# Letters that tell Kazakh from its neighbours: English has no ğ, Turkish no q, ñ or ū, German no ı;
# Spanish has q and ñ, but no sentence of some length without a c. Spelt out in both cases, because
# re.IGNORECASE takes i for ı.
_ONLY_2021 = re.compile(r"[qQñÑūŪ]|[äÄ].*[ğĞışŞ]|[ğĞışŞ].*[äÄ]")
_BEYOND_ENGLISH = re.compile(r"[äÄğĞıñÑöÖşŞūŪüÜ]")
_FOREIGN = re.compile(r"[cCçÇwWxX](?![hH])")
# No other language has ǵ beside ı or ý; Spanish has q and acutes but no ý, Czech and Icelandic
# have ý but no q, Polish has ń but neither, Azerbaijani has q and ı but with ə, ç or ş.
_ONLY_2018 = re.compile(
    r"[ǵǴ].*[ıýÝ]|[ıýÝ].*[ǵǴ]|[qQ].*[ýÝńŃǵǴı]|[ýÝńŃǵǴı].*[qQ]|[ńŃ].*[ýÝı]|[ýÝı].*[ńŃ]"
)
_NOT_2018 = re.compile(r"[äÄğĞñÑöÖşŞūŪüÜçÇəƏčČřŘšŠžŽěĚłŁąĄęĘśŚźŹżŻćĆ]")

_Reading = tuple[re.Pattern[str], str]


@dataclass(frozen=True)
class _Alphabet:
    """Readings, applied in order to the lower-cased word, then what is left letter by letter."""

    letters: dict[str, str]
    readings: Sequence[_Reading]


# Loanwords that Cyrillic begins with э; native words begin with е.
_E = (re.compile(r"^e(?=ks|ko|nerg|lek|lit|pid|stet|tik|mig|ra$|fir|mbl|mba)"), "э")
# The few stems with һ; everywhere else an h is х.
_H = (re.compile(r"(?<=^ja)h(?=an)|(?<=^qa)h(?=arman)|(?<=^j[iı])h|(?<=^gau)h"), "һ")
_TS = (re.compile(r"ts(?![ae])"), "ц")
_CH = (re.compile(r"ch"), "ч")


def _of_2021() -> _Alphabet:
    vowel = "aäeıoöuūüyi"
    return _Alphabet(
        _letters("aäbvgğdejziıkqlmnñoöprstuūüfhşy", "аәбвгғдежзиікқлмнңоөпрстуұүфхшы"),
        [
            _E,
            (re.compile(rf"(?<=[{vowel}])ia|^ia"), "я"),
            (re.compile(rf"(?<=[{vowel}])iu|^iu|(?<=[^{vowel}])iu"), "ю"),
            (re.compile(r"ia"), "ия"),
            (re.compile(rf"(?<=[{vowel}])i|^i(?=o)"), "й"),
            (re.compile(r"(?<=^şa)h(?=ar)"), "һ"),
            _H,
            _TS,
            _CH,
        ],
    )


def _of_2018() -> _Alphabet:
    vowel = "aáeioóuúyýı"
    return _Alphabet(
        _letters("aábvgǵdejzıikqlmnńoóprstýuúfhy", "аәбвгғдежзиікқлмнңоөпрстуұүфхы"),
        [
            _E,
            # Before an acute y or an a at the end of ıa, ı is half of ю or я.
            (re.compile(rf"(?<=[{vowel}])ıa|^ıa"), "я"),
            (re.compile(rf"(?<=[{vowel}])ıý|^ıý"), "ю"),
            (re.compile(r"ıa"), "ия"),
            (re.compile(rf"(?<=[{vowel}])ı"), "й"),
            (re.compile(r"(?<=^sha)h(?=ar)"), "һ"),
            (re.compile(r"sh"), "ш"),
            _H,
            _TS,
            _CH,
        ],
    )


def _letters(latin: str, cyrillic: str) -> dict[str, str]:
    return dict(zip(latin, cyrillic, strict=True))


_ALPHABETS = {LATIN_2021: _of_2021(), LATIN_2018: _of_2018()}


def script_of(text: str) -> str:
    """Return how a text is written, in one of the ways that `to_cyrillic` knows or otherwise.

    Parameters
    ----------
    text : str
        In Unicode's composed form (NFC).

    Returns
    -------
    str
        ``cyrl``: some letter is Cyrillic. ``latn``: Kazakh in the Latin alphabet of 2021.
        ``latn-2018``: Kazakh in that of 2018, with acute accents. ``other``: anything else.
    """
    if _CYRILLIC.search(text):
        return CYRILLIC
    if text.isascii():
        return OTHER
    if _ONLY_2018.search(text) and not _NOT_2018.search(text):
        return LATIN_2018
    # A foreign name or two may stand in a Kazakh sentence.
    few_foreign = len(_FOREIGN.findall(text)) * 50 <= len(text)
    if _ONLY_2021.search(text) and _BEYOND_ENGLISH.search(text) and few_foreign:
        return LATIN_2021
    return OTHER


def to_cyrillic(text: str, script: str = LATIN_2021) -> str:
    """Return a text of one of the Latin alphabets in Cyrillic letters; case is kept.

    Not exact where the alphabets have merged letters: щ reads as ш, ь and ъ are lost, and that of
    2021 has no ч of its own.
    """
    alphabet = _ALPHABETS[script]

    def read(match: re.Match[str]) -> str:
        word = match.group()
        # Python lowers İ to two characters and I to i; capital I is ı in the alphabet of 2021, but
        # in that of 2018 the capital of both letters.
        if script == LATIN_2021:
            word = word.replace("İ", "i").replace("I", "ı")
        lower = word.lower()
        for pattern, reading in alphabet.readings:
            lower = pattern.sub(reading, lower)
        cyrillic = "".join(alphabet.letters.get(letter, letter) for letter in lower)
        original = match.group()
        if original.isupper() and len(original) > 1:
            return cyrillic.upper()
        return cyrillic[:1].upper() + cyrillic[1:] if original[:1].isupper() else cyrillic

    return _WORD.sub(read, text)
