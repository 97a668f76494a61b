"""The rules of each language, which are data (`rules/`): how it shows what belongs together, and how it is asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Self

import yaml

LANGUAGES = ("en", "de")

_WORD = re.compile(r"[^\W\d_]+")
_LOOKED_AT = 1_000  # characters, from which the language is told
_LEAST_COMMON = 0.2  # the share of its words that are common ones in any text of a language


@dataclass(frozen=True, slots=True)
class Rules:
    """What is known of one language.

    `opener` finds the words at a sentence's beginning that say how it goes with the one before, under the name of that
    relation; `reason` a reason inside a sentence, `definition` a term and what follows it.
    """

    language: str
    common: frozenset[str]
    opener: re.Pattern[str]
    reason: re.Pattern[str]
    definition: re.Pattern[str]
    wordings: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, language: str, values: Mapping[str, Any]) -> Self:
        """Read the rules of a language from its data."""
        openers = "|".join(f"(?P<{name}>{_any(words)})" for name, words in values["openers"].items())
        articles, defining = _any(values["articles"]), _any(values["defining"])
        return cls(
            language=language,
            common=frozenset(values["common"].split()),
            opener=re.compile(rf"(?:{openers})\b,?\s+"),
            reason=re.compile(rf"(?P<head>[^\s,;]+(?: [^\s,;]+){{3,}}),? (?P<why>(?:{_any(values['inside'])}) \S.*)"),
            definition=re.compile(rf"(?:(?:{articles}) )?(?P<term>[\w-]+(?: [\w-]+){{0,3}}?) (?:{defining}) \S"),
            wordings={kind: tuple(words) for kind, words in values["wordings"].items()},
        )


@cache
def rules_of(language: str) -> Rules:
    """Return the rules of one of `LANGUAGES`."""
    return Rules.of(
        language, yaml.safe_load((files("hfsynth.mining") / "rules" / f"{language}.yaml").read_text("utf-8"))
    )


def rules_language(text: str) -> str | None:
    """Return the language of a text, None where it is none of `LANGUAGES`."""
    words = Counter(_WORD.findall(text[:_LOOKED_AT].lower()))
    shares = [(sum(words[word] for word in words.keys() & rules_of(name).common), name) for name in LANGUAGES]
    most, language = max(shares, key=lambda share: share[0])
    return language if words and most >= _LEAST_COMMON * words.total() else None


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
