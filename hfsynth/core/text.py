"""Keep out of ordinary text what a tokenizer must not find in it: control strings, reversibly, and lone surrogates.

A document may contain the very strings that steer a synthesizer (`<CON>`, `</s>`, `<|im_start|>`). Escaping puts one
space behind the first character of each (`< CON>`), which neither a tokenizer nor the parser takes for the delimiter;
what already looks escaped gets one space more, so that `unescape(escape(text)) == text` for every text. The control
strings themselves must not begin with a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

CONTEXT, END_CONTEXT = "<CON>", "</CON>"
QUESTION, ANSWER, END_PAIR = "<QUE>", "<ANS>", "</END>"
FORMAT_DELIMITERS = (CONTEXT, END_CONTEXT, QUESTION, ANSWER, END_PAIR)


@dataclass(frozen=True)
class Escape:
    """Escape and restore a fixed set of control strings of two characters or more."""

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, tokens: Iterable[str]) -> Escape:
        """Make an escape for `tokens`; strings of a single character are ordinary text and stay."""
        return cls(tuple(sorted({token for token in tokens if len(token) > 1}, key=lambda t: (-len(t), t))))

    @cached_property
    def _plain(self) -> re.Pattern[str]:
        return self._pattern("")

    @cached_property
    def _escaped(self) -> re.Pattern[str]:
        return self._pattern(" ")

    def _pattern(self, gap: str) -> re.Pattern[str]:
        """Match a control string's first character and `gap`, looking ahead to the rest.

        The rest is not consumed, so that control strings that overlap are each found; and it may hold gaps, which the
        ones that begin within it were given.
        """
        rests: dict[str, list[str]] = {}
        for token in self.tokens:
            rests.setdefault(token[0], []).append("".join(map(_after_gap, token[1:])))
        groups = (f"{re.escape(first)}{gap}(?={'|'.join(rest)})" for first, rest in rests.items())
        return re.compile("|".join(groups) or "(?!)")

    def escape(self, text: str) -> str:
        """Return `text` with none of the control strings left in it."""
        return self._plain.sub(_with_gap, text)

    def unescape(self, text: str) -> str:
        """Undo `escape`."""
        return self._escaped.sub(_without_gap, text)


def encodable(text: str) -> str:
    """Return `text` with lone surrogates, which no tokenizer takes, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _after_gap(character: str) -> str:
    return character if character == " " else f" *{re.escape(character)}"


def _with_gap(match: re.Match[str]) -> str:
    return match.group() + " "


def _without_gap(match: re.Match[str]) -> str:
    return match.group()[:-1]
