"""A raw sentence in, the one normal form that models are fitted on and asked about out.

Corpus loading and inference both call `normalize`; nothing else changes a text. The rules are
those by which the gold texts were derived (data/README.md), so that a sentence hashes alike
wherever it comes from.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from kaznews.script import LATIN_2018, LATIN_2021, script_of, to_cyrillic

# Raised whenever `normalize` changes: an exported model says which normal form it was fitted on.
NORMALIZATION = 2

# Soft hyphen, byte order mark, zero-width space: invisible, and they split words.
_INVISIBLE = dict.fromkeys((0x00AD, 0xFEFF, 0x200B))
_LETTERS = re.compile(r"[^\W\d_]+")
_CYRILLIC = re.compile(r"[а-яәғқңөұүһі]", re.IGNORECASE)
_LATIN_OR_SCHWA = re.compile(r"[a-zə]", re.IGNORECASE)
_LATIN = re.compile(r"[a-z]", re.IGNORECASE)
# Latin letters that look like Cyrillic ones, typed for them on a Latin keyboard layout. U+0259 and
# U+018F are the Latin schwas, which look like the Kazakh ә.
_LOOKALIKES = str.maketrans("ihaeocpxyəIHAEOCPXTKMBƏ", "іһаеосрхуәІНАЕОСРХТКМВӘ")


def _undo_lookalikes(match: re.Match[str]) -> str:
    word = match.group()
    if not (_CYRILLIC.search(word) and _LATIN_OR_SCHWA.search(word)):
        return word
    mapped = word.translate(_LOOKALIKES)
    # A word that still holds a Latin letter is a real mixture (brand names, units): leave it.
    return word if _LATIN.search(mapped) else mapped


def read(text: str) -> tuple[str, str]:
    """Return the normal form of a sentence and the script it was written in.

    Unicode NFC; invisible characters deleted; no-break space to space; Latin look-alikes inside
    Cyrillic words to their Cyrillic twins; a sentence in a Latin alphabet of Kazakh to Cyrillic;
    white space collapsed and stripped. Case is kept: the vectorizers lower it.

    Parameters
    ----------
    text : str
        One sentence.

    Returns
    -------
    normal : str
        ``read(normal)[0] == normal``.
    script : str
        As `script.script_of` has it.

    Notes
    -----
    NFC: Unicode Standard Annex #15. Confusable letters: the Cyrillic-Latin rows of Unicode
    Technical Standard #39 that occur in Kazakh text, restricted to words that are otherwise
    Cyrillic.
    """
    text = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
    if not text.isascii():
        text = _LETTERS.sub(_undo_lookalikes, text)
    script = script_of(text)
    if script in (LATIN_2021, LATIN_2018):
        text = to_cyrillic(text, script)
    if not text.isascii():
        # Mended letters may compose with a combining mark that followed the wrong one.
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split()), script


def normalize(text: str) -> str:
    """Return the normal form of a sentence alone (see `read`)."""
    return read(text)[0]


def text_hash(text: str) -> str:
    """Return the first 16 hexadecimal digits of SHA-256 of the UTF-8 text.

    A lone surrogate, which UTF-8 cannot hold, is hashed by its code point ("surrogatepass").
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
