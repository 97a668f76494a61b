"""The wordings of training texts, by language, read from the data files.

A pattern is filled in one pass, so contents that hold braces or percent signs stay as they are. Knows nothing of
documents, of what is drawn, or of how a language is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Self

import yaml

from hfsynth.prompting.pair_layout import TaskKind
from hfsynth.texts.languages import ENGLISH, LANGUAGES
from hfsynth.texts.options import Grammar

STYLE_NAMES = ("classic", "dialogue", "numbered", "inline_few_shot", "next_turn")

_FILLED = re.compile(r"\{(?:question|options|reasoning|answer|answer_sentence)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A pattern made ready: `text` has a %s for each of the contents, in order; signs such as {number} are still there.

    `sentence` says that the answer is to be closed with a full stop where it ends without punctuation.
    """

    text: str
    sentence: bool

    @classmethod
    def of(cls, pattern: str) -> Self:
        """Make a pattern ready."""
        return cls(_FILLED.sub("%s", pattern.replace("%", "%%")), "{answer_sentence}" in pattern)

    def signed(self, **signs: str) -> Template:
        """Put in names or numbers, before any contents are there."""
        text = self.text
        for name, sign in signs.items():
            text = text.replace(f"{{{name}}}", sign.replace("%", "%%"))
        return Template(text, self.sentence)


@dataclass(frozen=True, slots=True)
class Family:
    """Patterns of every kind that belong together, so that one text reads as if from one hand.

    `separators` are what may stand between its pairs. `says` is how a turn of the `next_turn` conversation is written
    that holds no pair; empty in other styles.
    """

    name: str
    patterns: Mapping[TaskKind, str]
    templates: Mapping[TaskKind, Template]
    separators: tuple[str, ...]
    says: str = ""


@dataclass(frozen=True, slots=True)
class Wordings:
    """All wordings of one style. `opening` and `bridge` are the lines before the document and after it.

    `inverted_opening` and `inverted_bridge` stand before and after the pairs where the document comes last. `last`
    stands before the last pair of inline examples. `numbers` names ways to count, `speakers` who asks and who answers.
    """

    style: str
    families: tuple[Family, ...]
    opening: tuple[str, ...] = ()
    bridge: tuple[str, ...] = ()
    inverted_opening: tuple[str, ...] = ()
    inverted_bridge: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    speakers: tuple[tuple[str, str], ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield every line that stands around documents and pairs."""
        yield from (*self.opening, *self.bridge, *self.inverted_opening, *self.inverted_bridge, *self.last)


@dataclass(frozen=True, slots=True, eq=False)
class Noun:
    """What a document is called, with all that a line may say about it: `one` of a single pair, `many` of several."""

    one: Mapping[str, str]
    many: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that texts are worded with in one language."""

    language: str
    styles: Mapping[str, Wordings]
    nouns: tuple[Noun, ...]
    document_separators: tuple[str, ...]
    option_labels: tuple[str, ...]
    grammar: Grammar

    def patterns(self) -> Iterator[tuple[str, Family, TaskKind, str]]:
        """Yield every pattern with the style, family and kind that it belongs to."""
        for style, wordings in self.styles.items():
            for family in wordings.families:
                for kind, pattern in family.patterns.items():
                    yield style, family, kind, pattern


@cache
def catalogue(language: str = ENGLISH) -> Catalogue:
    """Return the wordings in one of `LANGUAGES` that come with the package; the tests hold every one to the rules."""
    read = {name: yaml.safe_load(_source(f"{language}/{name}.yaml")) for name in ("common", *STYLE_NAMES)}
    common = {**yaml.safe_load(_source("common.yaml")), **read.pop("common")}
    return build_catalogue(language, common, read)


@cache
def wordings_digest() -> str:
    """Return a digest that changes with any of the data files."""
    own = [f"{language}/{name}.yaml" for language in LANGUAGES for name in ("common", *STYLE_NAMES)]
    sources = map(_source, ("common.yaml", "function_words.yaml", *own))
    return blake2b("\0".join(sources).encode(), digest_size=8).hexdigest()


def build_catalogue(language: str, common: Mapping[str, Any], styles: Mapping[str, Mapping[str, Any]]) -> Catalogue:
    """Build a catalogue from plain values."""
    wordings = {style: _wordings(style, values) for style, values in styles.items()}
    words = [{name: forms[number] for name, forms in common["words"].items()} for number in (0, 1)]
    return Catalogue(
        language=language,
        styles=MappingProxyType(wordings),
        nouns=tuple(Noun({**noun, **words[0]}, {**noun, **words[1]}) for noun in common["nouns"]),
        document_separators=tuple(common["document_separators"]),
        option_labels=tuple(common["option_labels"]),
        grammar=Grammar.of(common),
    )


def _source(name: str) -> str:
    return (files("hfsynth.texts") / "patterns" / name).read_text(encoding="utf-8")


def _wordings(style: str, values: Mapping[str, Any]) -> Wordings:
    given = {name: tuple(values.get(name, ())) for name in (f.name for f in fields(Wordings)) if name in values}
    separators = tuple(values.get("separators", ("\n\n",)))
    given["families"] = tuple(_family(family, separators) for family in values["families"])
    given["speakers"] = tuple((asker, answerer) for asker, answerer in values.get("speakers", ()))
    return Wordings(style=style, **given)


def _family(values: Mapping[str, str], separators: tuple[str, ...]) -> Family:
    """Read a family. No less than a blank line stands between pairs where there is one within a pair."""
    patterns = {kind: values[kind.value] for kind in TaskKind}
    if any("\n\n" in pattern for pattern in patterns.values()):
        separators = tuple(separator for separator in separators if "\n\n" in separator)
    templates = {kind: Template.of(pattern) for kind, pattern in patterns.items()}
    says = values.get("says", "")
    return Family(values["name"], MappingProxyType(patterns), MappingProxyType(templates), separators, says)
