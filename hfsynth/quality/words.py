"""The words, the numbers and the language of a text, as measures compare them. Pure; knows nothing of pairs.

A word is a run of letters, marks and digits that begins with a letter: apostrophes and hyphens part words. Characters
of scripts without spaces (Han, kana, Thai, Lao, Tibetan, Myanmar, Khmer) are a word each, with the marks on them.
Numbers are read by value: `1,200`, `1200` and `1 200` (with a no-break space) are one number.

The language is told by py3langid (BSD-3-Clause): offline, the same answer every time, and unknown rather than guessed.
It tells some 130 languages apart by their bytes. Of 1,005 paragraphs and 4,106 questions with their answers in English
and eleven other languages, none was told wrong where it was as sure as is asked for here; 1.5% of the paragraphs and
13% of the questions stayed unknown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import groupby, pairwise
from typing import Any

from hfsynth.core.errors import ConfigError

MARKS = "".join(map(chr, (code for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M")))
UNSPACED = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf\u0f40-\u0f6c"
    "\u1000-\u102a\u103f\u1050-\u1055\u1780-\u17b3\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003134f"
)
"""The scripts without spaces, as the inside of a pattern's class; `MARKS` are all marks of letters."""
CHARACTER = f"[{UNSPACED}][{MARKS}]*"
"""The pattern of a character of a script without spaces, with the marks on it."""
_TOKEN = re.compile(
    rf"(?P<number>\d+(?:[.,'’٫٬]\d+)*)|(?P<character>{CHARACTER})"
    rf"|(?P<word>[^\W\d_{UNSPACED}](?:[^\W_{UNSPACED}]|[{MARKS}])*)"
)
_SEPARATOR = re.compile(r"[.,'’٫٬]")
_DECIMAL = ".,٫"
_GROUPING_SPACE = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBER_WORDS = {word: str(value) for value, word in enumerate(_ONES)}
"""English number words, which may stand for digits."""

_STOP_WORDS = """
    a about above after again against all also am an and any are as at be because been before being between both but by
    can could did do does doing down during each few for from had has have having he her here hers him his how i if in
    into is it its itself just may me might more most must my no nor not of off on once only or other our out over own
    same she should so some such than that the their them then there these they this those through to too under until
    up upon us very was we were what when where which while who whom whose why will with would you your one nd rd st th
    das die der den dem des ein eine einen einer eines einem und oder ist sind waren wird werden wurde wurden nicht auch
    auf aus bei durch für im mit nach über um unter vom von vor wie zu zum zur dass sich es er sie ich wir
    le la les un une du de et ou est sont été dans en au aux par sur avec ne pas que qui ce cette ces il elle se sa ses
    el los las una unos unas y del al lo es son fue ser era por para su sus como más
    gli uno di della delle dei degli nel nella che è sono per non ed
    os uma da do dos na nos nas foi não ao pelo pela com mais
    het een en van voor dat zijn niet ook naar bij werd
    și din cu pe care este sunt fost a-a mai sau
    и в во на не что с со как это он она они его её их по из за от для был была были было или к ко у о об но а же то
    και το τα ο η οι του της των τον την στο στη στην στον με από για είναι ήταν που σε ως ένα μια ένας δεν ή
    ve ile bir bu için olarak olan da de veya en daha gibi çok
    في من على إلى الى عن أن ان هو هي كان كانت التي الذي هذا هذه مع ما لا أو او و
    और का की के को में से है हैं था थी थे पर यह वह ने एक लिए कि भी या इस उस जो गया
    của và là các có được trong cho với một những này đã ở từ đến khi không người hoặc
"""
_STOP_CHARACTERS = "的了是在和这那也就而及与着或被为于之"
_YES_NO = """
    yes no true false ja nein oui non sí si não sim da nu nee да нет ναι όχι evet hayır có không نعم لا हाँ हां नहीं
    是 否 不是 对 错 はい いいえ ใช่ ไม่ ไม่ใช่ 네 예 아니요
"""
YES_NO = frozenset(_YES_NO.split())
STOP_WORDS = frozenset(_STOP_WORDS.split()) | frozenset(_STOP_CHARACTERS) | YES_NO
"""Function words of some big languages: articles, pronouns, prepositions, conjunctions, auxiliaries; yes and no."""


def compatible(text: str) -> str:
    """Return a text in NFKC, with no-break spaces taken out of grouped numbers. Offsets of tokens refer to it."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _GROUPING_SPACE.sub("", text))


def folded(text: str) -> str:
    """Return a text that `compatible` gave without differences of case."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text.casefold())


def tokens(text: str) -> Iterator[re.Match[str]]:
    """Yield the words, characters and numbers of a text as they stand in it; `lastgroup` says which of these it is."""
    return _TOKEN.finditer(text)


def words(text: str) -> list[str]:
    """Return a text's words for measuring: NFKC, without differences of case, numbers by value.

    Characters of scripts without spaces are a word each. A number that can be read in two ways (`1.200`) is read as an
    English one.
    """
    found: list[str] = []
    for token in tokens(folded(compatible(text))):
        if token.lastgroup == "number":
            found.extend(readings[0] for readings in numbers(token.group()))
        else:
            found.append(token.group())
    return found


def numbers(written: str) -> list[tuple[str, ...]]:
    """Return the values of what the pattern takes for a number, and for each what it may mean, likeliest first.

    Groups of three digits are thousands (`1,200`), anything else behind one separator is a fraction (`1,5`), `1.200`
    and `1,200` may be either. What fits neither (`12.05.2020`, `1,2,3`) is a number each.
    """
    parts = _SEPARATOR.split(_ascii_digits(written))
    separators = _SEPARATOR.findall(written)
    if len(parts) == 1:
        return [(_whole(parts[0]),)]
    if len(set(separators)) == 1 and _are_groups(parts):
        grouped, fraction = _whole("".join(parts)), _fraction(parts[0], parts[-1])
        if len(parts) > 2 or separators[0] not in _DECIMAL:
            return [(grouped,)]
        return [(grouped, fraction) if separators[0] == "," else (fraction, grouped)]
    if separators[-1] in _DECIMAL and separators[-1] not in separators[:-1]:
        if len(parts) == 2:
            return [(_fraction(*parts),)]
        if len(set(separators[:-1])) == 1 and _are_groups(parts[:-1]):
            return [(_fraction("".join(parts[:-1]), parts[-1]),)]
    return [(_whole(part),) for part in parts]


def content(text: str) -> list[tuple[str, ...]]:
    """Return what a text says, as the forms in which each item of it may stand elsewhere.

    Items are its words without stop words and single letters, its numbers (each reading is a form), and for scripts
    without spaces the pairs of neighbouring characters, or a character that stands alone: single ones are too common
    to say anything. Stop characters and hiragana (particles and endings) part neighbours and are left out.
    """
    found: list[tuple[str, ...]] = []
    run: list[str] = []  # neighbouring characters
    end = 0
    for token in tokens(folded(compatible(text))):
        kind, word = token.lastgroup, token.group()
        if kind != "character" or token.start() != end:
            found.extend(_of_run(run))
            run = []
        end = token.end()
        if kind == "character":
            run.append(word)
        elif kind == "number":
            found.extend(numbers(word))
        elif len(word) > 1 and word not in STOP_WORDS:
            found.append((word, NUMBER_WORDS[word]) if word in NUMBER_WORDS else (word,))
    return [*found, *_of_run(run)]


def forms(text: str) -> frozenset[str]:
    """Return every form of everything in a text: of its content, of function words and of single characters."""
    return frozenset(words(text)).union(*content(text))


def _of_run(run: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the pairs of neighbouring characters between stop characters, and characters that have no neighbour."""
    for stops, group in groupby(run, _is_stop_character):
        characters = [] if stops else list(group)
        if len(characters) == 1:
            yield (characters[0],)
        yield from ((one + other,) for one, other in pairwise(characters))


def _is_stop_character(character: str) -> bool:
    return "\u3041" <= character[0] <= "\u309f" or character in STOP_WORDS


def _are_groups(parts: list[str]) -> bool:
    return 0 < len(parts[0]) <= 3 and parts[0][0] != "0" and all(len(part) == 3 for part in parts[1:])


def _whole(digits: str) -> str:
    return digits.lstrip("0") or "0"


def _fraction(whole: str, digits: str) -> str:
    return f"{_whole(whole)}.{digits.rstrip('0')}".rstrip(".")


def _ascii_digits(text: str) -> str:
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(character, character)) for character in text)


UNKNOWN = "unknown"
"""What a text is whose language cannot be told."""

_LEAST_SURE = 0.9
_LEAST_LETTERS = 20  # shorter texts are names and numbers more often than sentences
_READ = 1000  # characters; more of a text changes nothing
# Languages that are written alike or mixed freely are one here: a difference between them is no mistake of a model.
_ONE_LANGUAGE = {
    **dict.fromkeys(("wuu", "yue"), "zh"),
    **dict.fromkeys(("nn", "da"), "no"),
    **dict.fromkeys(("bs", "sr"), "hr"),
    **dict.fromkeys(("ary", "arz"), "ar"),
    **dict.fromkeys(("sdh",), "ku"),
    **dict.fromkeys(("uzs",), "uz"),
    **dict.fromkeys(("hbo",), "he"),
    **dict.fromkeys(("ms",), "id"),
    **dict.fromkeys(("gl",), "pt"),
    **dict.fromkeys(("zxx",), UNKNOWN),
}


def language_of(text: str) -> str:
    """Return the language of a text as a code of ISO 639, or `unknown` for a short or an unclear one.

    Only the first 1,000 characters are read. Languages that are hard to tell apart in writing share a code: Norwegian
    and Danish `no`, Bosnian, Croatian and Serbian `hr`, Indonesian and Malay `id`, Portuguese and Galician `pt`, the
    forms of Chinese `zh` and of Arabic `ar`. Raise ConfigError where py3langid is not installed.
    """
    read = text[:_READ]
    if sum(map(str.isalpha, read)) < _LEAST_LETTERS and not _is_dense(read):
        return UNKNOWN
    sureness: dict[str, float] = {}
    for language, share in _ranking()(read):
        code = _ONE_LANGUAGE.get(language, language)
        sureness[code] = sureness.get(code, 0.0) + share
    likeliest = max(sureness, key=lambda code: sureness[code])
    return likeliest if sureness[likeliest] >= _LEAST_SURE else UNKNOWN


def language_codes(codes: Iterable[str]) -> tuple[str, ...]:
    """Return codes as `language_of` gives them, each once and sorted; raise ConfigError for one that it never gives."""
    told = {_ONE_LANGUAGE.get(code, code) for code in known_languages()} | {UNKNOWN}
    wanted = {_ONE_LANGUAGE.get(code, code) for code in codes}
    if strange := sorted(wanted - told):
        raise ConfigError(
            f"{strange[0]!r} is no language that can be told.",
            hint=f"Codes are those of ISO 639 with two letters, as in en,de. There are: {', '.join(sorted(told))}.",
        )
    return tuple(sorted(wanted))


def differ(one: str, other: str) -> bool:
    """Tell whether two languages are both known and not the same."""
    return UNKNOWN not in (one, other) and one != other


def _is_dense(text: str) -> bool:
    """Tell whether a text has eight letters of East Asian scripts, which say as much as twenty of others."""
    return sum("\u3041" <= character <= "\ud7a3" for character in text) >= 8


def _ranking() -> Callable[[str], list[tuple[str, float]]]:
    """Return the ranking of languages; what it gives sums up to 1."""
    rank: Callable[[str], list[tuple[str, float]]] = _identifier().rank
    return rank


def known_languages() -> frozenset[str]:
    """Return the codes of all languages that the model knows."""
    return frozenset(map(str, _identifier().nb_classes))


@cache
def _identifier() -> Any:  # noqa: ANN401 - py3langid has no types
    """Load the model, once a process, in a second."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ConfigError(
            "The languages of texts are told by py3langid, which is not installed.",
            hint="Run `pip install 'hfsynth[evaluate]'`.",
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
