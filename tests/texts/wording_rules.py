"""What every wording that comes with the package must keep to, so that no text loses contents or reads badly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType

from hfsynth.prompting.pair_layout import TaskKind

# What a pattern of each kind must hold exactly once, in this order. An answer may be written as `answer_sentence`: with
# a full stop where it ends without punctuation.
CONTENTS: Mapping[TaskKind, tuple[str, ...]] = MappingProxyType(
    {
        TaskKind.FREE_FORM: ("question", "answer"),
        TaskKind.MULTIPLE_CHOICE: ("question", "options", "answer"),
        TaskKind.CHAIN_OF_THOUGHT: ("question", "reasoning", "answer"),
        TaskKind.MULTIPLE_CHOICE_CHAIN_OF_THOUGHT: ("question", "options", "reasoning", "answer"),
    }
)
_SIGNS = {
    "classic": frozenset[str](),
    "dialogue": frozenset({"asker", "answerer"}),
    "numbered": frozenset({"number"}),
    "inline_few_shot": frozenset[str](),
    "next_turn": frozenset({"asker", "answerer"}),
}
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_CONTENT = re.compile(r"\{(?:question|options|reasoning|answer)\}(?=[.?!,;:…])|\{answer_sentence\}(?=\S)")
_PLACES = re.compile(r"\b(?:above|below|following|previous|earlier|next)\b", re.IGNORECASE)


def pattern_problems(style: str, kind: TaskKind, pattern: str) -> list[str]:
    """Say what is wrong with a pattern: contents lost or doubled, unknown placeholders, doubled punctuation."""
    found = Counter(_PLACEHOLDER.findall(pattern.replace("{answer_sentence}", "{answer}")))
    needed = set(CONTENTS[kind])
    problems = [f"{{{name}}} stands {found[name]} times, not once" for name in sorted(needed) if found[name] != 1]
    unknown = set(found) - needed - _SIGNS[style]
    problems += [f"{{{name}}} is unknown here" for name in sorted(unknown)]
    problems += [f"{{{name}}} is missing" for name in sorted(_SIGNS[style] - set(found))]
    order = [name for name in _PLACEHOLDER.findall(pattern.replace("answer_sentence", "answer")) if name in needed]
    if kind is TaskKind.FREE_FORM and "{answer_sentence}" in pattern:
        problems.append("a free-form answer stands as it is, without a full stop of ours")
    if not problems and order != list(CONTENTS[kind]):
        problems.append(f"the contents do not stand in the order {', '.join(CONTENTS[kind])}")
    if _CONTENT.search(pattern):
        problems.append("punctuation stands right after contents that may end with their own")
    if _PLACES.search(pattern):
        problems.append("it says where the document is, which is wrong when the order is inverted")
    return problems


def line_problems(line: str, words: Collection[str]) -> list[str]:
    """Say what is wrong with a line around documents and pairs; `words` are those that rendering supplies."""
    unknown = set(_PLACEHOLDER.findall(line)) - set(words)
    return [f"{{{name}}} is unknown here" for name in sorted(unknown)] + ([] if line.strip() else ["it is empty"])


def speaker_problems(pair: tuple[str, str]) -> list[str]:
    """Say what is wrong with two speakers: there must be two names, and they must differ."""
    names = {name.strip().casefold() for name in pair}
    return [] if len(pair) == 2 and len(names) == 2 and "" not in names else ["two different names are needed"]


def normalised(pattern: str) -> str:
    """Return a pattern without differences of case and white space."""
    return " ".join(pattern.split()).casefold()
