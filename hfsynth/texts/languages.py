"""Tell which language a document's pairs are worded in: what its row says, else its own commonest words.

`hfsynth evaluate` asks py3langid, which tells 130 languages apart and takes milliseconds a text. Here only the
languages of the wordings count, and a document must not cost more than its text: its function words are counted, beside
those of languages that share some of them. What is not told surely is worded in English. Pure; asks no library.

Of 82,110 English documents and instructions of the collections that hfsynth was measured on, two were told to be French
(one is); of 256 paragraphs of XQuAD in German, Spanish, Chinese and Hindi 248 were told right, and none of its 449 in
seven other languages was taken for one of the six.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

import yaml

from hfsynth.core.errors import ConfigError

ENGLISH = "en"
LANGUAGES = (ENGLISH, "de", "fr", "es", "zh", "hi")
"""The languages that there are wordings in, as codes of ISO 639."""

AUTO = "auto"
"""Each document in its own language, where there are wordings in it, else in English."""

_CODES = {
    **{code: code for code in LANGUAGES},
    **dict.fromkeys(("eng", "english"), "en"),
    **dict.fromkeys(("deu", "ger", "german", "deutsch"), "de"),
    **dict.fromkeys(("fra", "fre", "french", "français"), "fr"),
    **dict.fromkeys(("spa", "spanish", "castilian", "español"), "es"),
    **dict.fromkeys(("zho", "chi", "cmn", "chinese", "中文"), "zh"),
    **dict.fromkeys(("hin", "hindi", "हिन्दी", "हिंदी"), "hi"),
}
_CODE = re.compile(r"[a-z]{2,3}")
_READ = 600  # characters
_WORD = re.compile(r"[^\W\d_]+")
_HAN, _KANA, _NAGARI = "[\u3400-\u4dbf\u4e00-\u9fff]", "[\u3041-\u30ff]", "[\u0900-\u0963\u0966-\u097f]+"
_LEAST_WORDS = 5  # different function words
_LEAST_SHARE = {"zh": 0.04}  # of its letters, and of the words of others:
_USUAL_SHARE = 0.2
_AHEAD = 1.1  # how many times as many function words as the next language has


def require_wordings(asked: str) -> str:
    """Return `auto` or a language that there are wordings in; raise ConfigError for another."""
    if asked not in (AUTO, *LANGUAGES):
        raise ConfigError(
            f"There are no wordings {asked!r}.", hint=f"Ask for {AUTO}, or one of {', '.join(LANGUAGES)} (--wordings)."
        )
    return asked


def wordings_language(text: str, stated: str = "") -> str:
    """Return the one of `LANGUAGES` that pairs about a text are worded in: English where it is none of the others.

    `stated` is what a column says: a code such as `de`, `de-AT` or `deu`, or the language's name. What is no language
    (`python`) counts as nothing said. Only the first 600 characters are read.
    """
    return (_stated(stated) if stated else "") or _told(text[:_READ])


@cache
def _stated(language: str) -> str:
    word = language.strip().casefold()
    code = re.split(r"[-_ ]", word)[0]
    return _CODES.get(word) or _CODES.get(code) or (ENGLISH if _CODE.fullmatch(code) else "")


def _told(text: str) -> str:
    if text.isascii():
        if text.count(" the ") > 1:  # most texts that there are, told at a glance
            return ENGLISH
        return _by_words(_WORD.findall(text))
    if han := re.findall(_HAN, text):
        if len(han) > len(re.findall("[A-Za-z]", text)) and not re.search(_KANA, text):
            return _by_words(han)
    elif (words := re.findall(_NAGARI, text)) and len(words) * 2 > len(text.split()):
        return _by_words(words)
    return _by_words(_WORD.findall(text))


def _by_words(words: list[str]) -> str:
    """Return the language that most of the words are function words of, English where none is well ahead.

    Words with a capital letter do not count: they may be of names (Los Angeles, La Paz).
    """
    counts: dict[str, int] = {}
    table = _languages_of_words()
    found = [word for word in words if word in table]
    for word in found:
        for language in table[word]:
            counts[language] = counts.get(language, 0) + 1
    (most, likeliest), (next_most, _) = _first_two(counts)
    if likeliest not in LANGUAGES or most < _AHEAD * next_most:
        return ENGLISH
    different = {word for word in found if likeliest in table[word] and (len(word) > 1 or word > "z")}
    enough = len(different) >= _LEAST_WORDS and most >= _LEAST_SHARE.get(likeliest, _USUAL_SHARE) * len(words)
    return likeliest if enough else ENGLISH


def _first_two(counts: Mapping[str, int]) -> list[tuple[int, str]]:
    ranked = sorted(((count, language) for language, count in counts.items()), reverse=True)
    return [*ranked, (0, ""), (0, "")][:2]


@cache
def _languages_of_words() -> Mapping[str, tuple[str, ...]]:
    source = (files("hfsynth.texts") / "patterns" / "function_words.yaml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for language, words in yaml.safe_load(source).items():
        for word in _different(words.split()):
            found.setdefault(word, []).append(str(language))
    return {word: tuple(languages) for word, languages in found.items()}


def _different(words: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(words)
