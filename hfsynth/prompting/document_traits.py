"""What a document is like, by its look: cheap and pure measures that choose a prompt. Knows no recipe and no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

# In writing without spaces (Chinese, Japanese, Thai) a letter counts as a word, which errs on the long side.
_UNSPACED = re.compile(r"[\u0e01-\u0e3a\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_UNSPACED_LEADS = bytes((0xE0, *range(0xE3, 0xEA), 0xEF))  # a text without these bytes in UTF-8 has no such letter
_TABLE = re.compile(r"\s*\|.*\|\s*$|[^|\n]+\|[^|\n]+\||[^\t\n]+\t+[^\t\n]+\t+[^\t\n]")
_LIST = re.compile(r"\s*(?:[-*+\u2022\u2023\u25aa\u25cf\u00b7]|\(?\d{1,3}[.)]|\(?[A-Za-z][.)])\s+\S")
_SPOKEN = re.compile(
    r"\s*(?:[\"\u201c\u201e\u00ab\u00bb\u300c\u300e]|[\u2013\u2014]\s*\w"  # a quotation mark, or a dash before words
    r"|(?:\*\*)?[^\W\d_][\w.'\u2019-]*(?: [^\W\d_][\w.'\u2019-]*){0,2}(?:\*\*)?:(?:\*\*)? +\S)"  # a speaker's name
)
_CODE = re.compile(
    r"\s*(?:(?:async )?(?:def|class|function|func|fn|struct|public|private|import|from|return|const|let|var)\b.*[:;{(]"
    r"|#include\b|(?:if|for|while)\s*\(.*\)\s*\{?|[\w.\[\]]+\s*(?:=|\+=|:=)\s*[^=\s].*[;)\]]|@\w+|[})\]]+[;,]?$|</?\w+[^>]*>$"
    r"|.*[;{]\s*$|\$ \w|>>> )"
)
_FENCE = re.compile(r"\s*(?:```|~~~)")


def words(text: str) -> float:
    """Return the number of words."""
    if text.isascii():
        return len(text.split())
    written = text.encode("utf-8", "surrogatepass")
    if len(written.translate(None, _UNSPACED_LEADS)) == len(written):
        return len(text.split())
    spaced, letters = _UNSPACED.subn(" ", text)
    return letters + len(spaced.split())


def digits(text: str) -> float:
    """Return the share of digits among the characters that are no space."""
    seen = sum(map(len, text.split()))
    return sum(map(str.isdigit, text)) / seen if seen else 0.0


def code(text: str) -> float:
    """Return the share of lines that are code: between fences, or of its look."""
    lines, fenced, found = _lines(text), False, 0
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
            found += 1
        elif fenced or _CODE.match(line):
            found += 1
    return found / len(lines) if lines else 0.0


def tables(text: str) -> float:
    """Return the share of lines that are rows of a table: cells between bars or tabs."""
    return _share(text, _TABLE) if "|" in text or "\t" in text else 0.0


def dialogue(text: str) -> float:
    """Return the share of lines that somebody says: they begin with a name and a colon, a quotation mark or a dash."""
    return _share(text, _SPOKEN)


def lists(text: str) -> float:
    """Return the share of lines that are points of a list."""
    return _share(text, _LIST)


MEASURES: Mapping[str, Callable[[str], float]] = MappingProxyType(
    {"words": words, "digits": digits, "code": code, "tables": tables, "dialogue": dialogue, "lists": lists}
)
"""How each trait that `when` may name is measured."""


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _share(text: str, pattern: re.Pattern[str]) -> float:
    lines = _lines(text)
    return sum(1 for line in lines if pattern.match(line)) / len(lines) if lines else 0.0
