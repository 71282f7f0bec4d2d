"""Kazakh in the Latin alphabet of 2021 in, the same words in Cyrillic out.

The alphabet has 31 letters for 42 Cyrillic ones, so the way back needs rules of reading: which of
и, й, я, ю an ``i`` stands for, which of х and һ an ``h``. Source of the alphabet: the version that
the National Commission presented on 28 January 2021.
"""

from __future__ import annotations

import re

_LETTERS = dict(
    zip(
        "aäbvgğdejziıkqlmnñoöprstuūüfhşy",
        "аәбвгғдежзиікқлмнңоөпрстуұүфхшы",
        strict=True,
    )
)
# Letters that tell Kazakh from its neighbours: English has no ğ, Turkish no q, ñ or ū, German no ı;
# Spanish has q and ñ, but no sentence of some length without a c. Spelt out in both cases, because
# re.IGNORECASE takes i for ı.
_KAZAKH_ONLY = re.compile(r"[qQñÑūŪ]|[äÄ].*[ğĞışŞ]|[ğĞışŞ].*[äÄ]")
_BEYOND_ENGLISH = re.compile(r"[äÄğĞıñÑöÖşŞūŪüÜ]")
_FOREIGN = re.compile(r"[cCçÇwWxX](?![hH])")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_WORD = re.compile(r"[^\W\d_]+")

_VOWEL = "aäeıoöuūüyi"
# In order; each is applied to the lower-cased Latin word. What is left goes letter by letter.
_READINGS = [
    # Loanwords that Cyrillic begins with э; native words begin with е.
    (re.compile(r"^e(?=ks|ko|nerg|lek|lit|pid|stet|tik|mig|ra$|fir|mbl|mba)"), "э"),
    (re.compile(rf"(?<=[{_VOWEL}])ia|^ia"), "я"),
    (re.compile(rf"(?<=[{_VOWEL}])iu|^iu|(?<=[^{_VOWEL}])iu"), "ю"),
    (re.compile(r"ia"), "ия"),
    (re.compile(rf"(?<=[{_VOWEL}])i|^i(?=o)"), "й"),
    # The few stems with һ; everywhere else an h is х.
    (re.compile(r"(?<=^ja)h(?=an)|(?<=^şa)h(?=ar)|(?<=^qa)h(?=arman)|(?<=^ji)h|(?<=^gau)h"), "һ"),
    (re.compile(r"ts(?![ae])"), "ц"),
    (re.compile(r"ch"), "ч"),
]


def is_latin_kazakh(text: str) -> bool:
    """Return whether a text is Kazakh in the 2021 Latin alphabet: no Cyrillic letter in it."""
    return bool(
        _KAZAKH_ONLY.search(text)
        and _BEYOND_ENGLISH.search(text)
        and not _CYRILLIC.search(text)
        # A foreign name or two may stand in a Kazakh sentence.
        and len(_FOREIGN.findall(text)) * 50 <= len(text)
    )


def _word_to_cyrillic(match: re.Match[str]) -> str:
    word = match.group()
    # Python lowers İ to two characters and I to i; in this alphabet they are i and ı.
    lower = word.replace("İ", "i").replace("I", "ı").lower()
    for pattern, reading in _READINGS:
        lower = pattern.sub(reading, lower)
    cyrillic = "".join(_LETTERS.get(letter, letter) for letter in lower)
    if word.isupper() and len(word) > 1:
        return cyrillic.upper()
    return cyrillic[:1].upper() + cyrillic[1:] if word[:1].isupper() else cyrillic


def to_cyrillic(text: str) -> str:
    """Return a text of the 2021 Latin alphabet in Cyrillic letters; case is kept.

    Not exact where the alphabet has merged letters: ч and щ read as ш, ь and ъ are lost.
    """
    return _WORD.sub(_word_to_cyrillic, text)
