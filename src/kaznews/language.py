"""A normalised sentence in, its language out: Kazakh, or something that no label should be put on.

Letters and little words decide, no model: hardly a real Kazakh sentence has none of the nine
letters that Kazakh Cyrillic adds to the Russian alphabet, so their absence says nearly as much as
their presence. What is asked here is "is this Kazakh?"; of other languages only Russian is named.
"""

from __future__ import annotations

import re

KAZAKH, RUSSIAN, OTHER, UNDETERMINED = "kk", "ru", "other", "und"
# Columns of a prediction that say how a sentence is written.
WRITING = ("script", "language")
# Words in Cyrillic letters from which on a sentence is expected to hold telling letters.
SHORT = 5

# Of the nine letters, those that the other Turkic languages in Cyrillic letters lack, and the rest.
_OWN = re.compile("[ғқұі]")
_SHARED = re.compile("[әөүңһ]")
# Ukrainian and Belarusian have і, but none of the others.
_ALL_BUT_I = re.compile("[әғқңөұүһ]")
# Long vowels: Kyrgyz, Mongolian and other neighbours write them doubled.
_LONG_VOWEL = re.compile("аа|өө|үү|ээ|уу")
# Letters of Uzbek, Tajik, Tatar, Bashkir, Chuvash, Ukrainian, Serbian, Macedonian and others.
_FOREIGN = re.compile("[ўҳҷӣӯҗҡҙҫєїґђѓќљњћџӑӗӱ]")
_WORD = re.compile(r"[^\W\d_]+")
_CYRILLIC = re.compile("[\u0400-\u04ff]+")

_RUSSIAN_WORDS = frozenset(
    "и в во на с со по из за от до для при об о к ко у что как это этот эта эти или но а же бы так "
    "его её ее их он она они мы вы был была было были будет будут есть нет также который которая "
    "которые которого которой которых после между через перед года году лет более всех все чтобы "
    "если уже еще ещё этом этой этого однако где когда только может можно свои своей".split()
)
# Inflections that no Kazakh word without one of the nine letters ends in, save for names.
_RUSSIAN_ENDING = re.compile(
    "(?:ого|ому|ему|ый|ая|яя|ое|ые|ых|ыми|ими|ую|юю|ть|ться|тся|лся|лась|лись|ает|яет|ует|ения"
    "|ение|ений|остью|ости|ость|ство|ства|ами|ями|али|или|яли|ели)$"
)
# Words of neighbours written with letters that Kazakh has too, and that are no Kazakh words:
# Ukrainian, Belarusian, Tajik, Kyrgyz, Tatar, Mongolian.
_NEIGHBOUR_WORDS = frozenset(
    "що як від під який яка які його вона вони але бути што гэта яго або пры ва бо жана "
    "менен үчүн болгон эле белән өчен иде буенча болон нь байна гэж улсын".split()
)
# Endings of Kazakh words, for the rare sentence without telling letters.
_KAZAKH_ENDING = re.compile(
    "..(?:ді|ті|сі|рі|гі|іп|тін|ген|кен|лар|дар|тар|лер|дер|тер|ды|ты|ып|ап|еп|сы|дан|тан|нан|да|де"
    "|та|те|мен|пен|бен|тыр|лы|сыз|мын|ма|ме|ба|бе|па|пе)$"
)


def language_of(text: str) -> str:
    """Return the language of a sentence.

    Parameters
    ----------
    text : str
        As `text.normalize` returns it: Kazakh in Latin letters is in Cyrillic ones already.

    Returns
    -------
    str
        ``kk``; ``ru``; ``other``; ``und`` where there is nothing to tell it by, as in a number.
        In a mixed sentence the language of most of the telling words decides.
    """
    lower = text.lower()
    words = _WORD.findall(lower)
    if not words:
        return UNDETERMINED
    cyrillic = [word for word in words if _CYRILLIC.match(word)]
    if sum(map(len, cyrillic)) * 2 < sum(map(len, words)):
        return OTHER
    own = shared = russian = foreign = kazakh = 0
    for word in cyrillic:
        if (
            _FOREIGN.search(word)
            or word in _NEIGHBOUR_WORDS
            or (_LONG_VOWEL.search(word) and not _OWN.search(word))
        ):
            foreign += 1
        elif _OWN.search(word):
            own += 1
            kazakh += bool(_KAZAKH_ENDING.search(word))
        elif _SHARED.search(word):
            shared += 1
        elif word in _RUSSIAN_WORDS or _RUSSIAN_ENDING.search(word):
            russian += 1
        elif _KAZAKH_ENDING.search(word):
            kazakh += 1
    if foreign and foreign * 2 >= own:
        return OTHER
    if russian > own + shared:
        return RUSSIAN
    # A short sentence may do without the telling letters, a longer one hardly.
    if own:
        is_kazakh = kazakh or len(cyrillic) < SHORT or _ALL_BUT_I.search(lower)
        return KAZAKH if is_kazakh else OTHER
    if shared:
        return KAZAKH if len(cyrillic) < SHORT else OTHER
    if russian or kazakh:
        return KAZAKH if kazakh > russian else RUSSIAN
    return UNDETERMINED
