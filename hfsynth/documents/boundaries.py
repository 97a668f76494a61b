"""Where a text may be cut: paragraph ends, sentence ends, white space, whole characters. Knows nothing of tokens.

A cut is a character offset: what is before it goes to one piece, what is after it to the next. Most boundaries are two
cuts, one before and one after the white space that belongs to them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Stops that end a sentence only before white space ("3.5", "example.org"), and those that end one anywhere.
_SPACED_STOPS = ".!?…"
_DENSE_STOPS = "。！？｡．؟۔।॥։።။"
_STOPS = _SPACED_STOPS + _DENSE_STOPS
_DENSE = frozenset(_DENSE_STOPS)
_CLOSERS = "\"'”’»›)\\]}」』】）》〉〕］"

# Possessive, and anchored to the first stop of a run, so that a megabyte of dots takes one pass.
_SENTENCE_END = re.compile(rf"(?<![{_STOPS}])([{_STOPS}]++)[{_CLOSERS}]*+(\s*\n|\s*+)")
_LINE_BREAK = r"(?>\r\n|\r|\n)"
_BLANK_LINE = re.compile(rf"{_LINE_BREAK}(?:[^\S\r\n]*+{_LINE_BREAK})++")
_WHITE_SPACE = re.compile(r"\s++")
_LAST_WORD = re.compile(r"[\w.]+\Z")
_INITIALS = re.compile(r"(?:\w\.)*\w")  # "J", "e.g", "U.S"
_LONGEST_ABBREVIATION = 16

_SHORT = """
    al approx apr assn aug ave bros capt cf chap co col conf corp dec dept dr ed eds edn eqs esp est etc feb figs gen
    gov hon inc incl jan jr jul lt ltd maj mr mrs ms mt nos nov oct para pp prof refs rep rev sen sep sept sgt sr st
    suppl univ usu viz vol vols vs abb bzgl bzw ggf nr sog str usw vgl mme mlle sra srta
"""
_SHORT_BEFORE_NUMBERS = "art ca eq fig max min no op pt ref sec sect tab"
_ABBREVIATIONS = frozenset(_SHORT.split())
_NUMBERED = frozenset(_SHORT_BEFORE_NUMBERS.split())  # words of their own anywhere else


def paragraph_cuts(text: str) -> list[int]:
    """Return the cuts around blank lines, in order. Indentation stays with the paragraph it belongs to."""
    return [cut for match in _BLANK_LINE.finditer(text) for cut in match.span()]


def sentence_cuts(text: str) -> list[int]:
    """Return the cuts before and after the white space behind sentence ends, in order."""
    return [cut for before, after in _sentence_ends(text) for cut in (before, after)]


def sentence_ends(text: str) -> list[int]:
    """Return where sentences end, their closing quotes and brackets included and white space not."""
    return [before for before, _ in _sentence_ends(text)]


def space_cuts(text: str, start: int, stop: int) -> list[int]:
    """Return the cuts around the runs of white space between two offsets, in order."""
    return [cut for match in _WHITE_SPACE.finditer(text, start, stop) for cut in match.span()]


def splits_character(text: str, cut: int) -> bool:
    """Tell whether a cut would part what is one character to the reader, such as a letter and its accent."""
    before, after = text[cut - 1], text[cut]
    if before == "\r" and after == "\n" or before == "\u200d" or after == "\u200d":
        return True
    if "\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff":
        return True
    # Accents and variation selectors; skin tones of emoji; Hangul vowels and finals written as parts of a syllable.
    return (
        unicodedata.category(after) in ("Mn", "Mc", "Me")
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or "\u1160" <= after <= "\u11ff"
    )


def _sentence_ends(text: str) -> Iterator[tuple[int, int]]:
    for match in _SENTENCE_END.finditer(text):
        stops, end = match[1], match.end()
        if not match[2] and end < len(text) and _DENSE.isdisjoint(stops):
            continue
        if stops == "." and _is_abbreviation(text, match.start(), text[end : end + 1]):
            continue
        yield match.start(2), end


def _is_abbreviation(text: str, dot: int, following: str) -> bool:
    """Tell whether the word before a dot is short for something, an initial, or the number of a list's item."""
    found = _LAST_WORD.search(text, max(0, dot - _LONGEST_ABBREVIATION), dot)
    if found is None:
        return False
    word = found.group()
    if word.isdigit():
        indent = text[max(0, found.start() - _LONGEST_ABBREVIATION) : found.start()].rstrip(" \t")
        return indent.endswith("\n") or (not indent and found.start() <= _LONGEST_ABBREVIATION)
    if word.lower() in _NUMBERED:
        return following.isdigit()
    return word.lower() in _ABBREVIATIONS or (word[0].isalpha() and _INITIALS.fullmatch(word) is not None)
