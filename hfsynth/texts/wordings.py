"""The wordings of training texts, read from the data files, and how options are listed and answered for.

A pattern is filled in one pass, so contents that hold braces or percent signs stay as they are. What is drawn comes
from the draws that are handed in. Knows nothing of documents or seeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from itertools import product
from types import MappingProxyType
from typing import Any, Self

import yaml

from hfsynth.core.draws import Draws
from hfsynth.prompting.pair_layout import PairLayout, TaskKind, letters, roman, starts_with_label

_ONE_LINE = (True, False, False, False, False)  # one in five stands in one line, where it is short
_SHORT_OPTION = 40
_ANSWER_FORMS = ("label", "label and text", "text")

COUNTERS: Mapping[str, Callable[[int], str]] = {
    "number": str,
    "roman": roman,
    "ROMAN": lambda number: roman(number).upper(),
    "lower": lambda number: letters(number).lower(),
    "upper": letters,
}
"""The ways to count, by the names that the data files use."""

_ALIKE = {"lower": "upper", "ROMAN": "roman"}
_COUNTER = re.compile(r"\{(\w+)\}")
_REFERS = re.compile(
    r"\b(?:[Oo]ptions?|[Cc]hoices?|[Aa]nswers?|[Aa]lternatives?)\s+(?:is\s+|are\s+)?\(?(?:[A-HJ-Z]|[ivx]{2,4})\)?(?!\w)"
    r"|\b(?:[Oo]ption|[Cc]hoice|[Aa]lternative)s?\s+\(?\d{1,2}\)?(?!\w)|\([A-Ha-h]\)|\b[A-H] (?:and|or|nor) [A-H]\b"
)
_HINTS = ("ption", "hoice", "nswer", "lternative", "(", " and ", " or ", " nor ")  # without these, _REFERS cannot match
_STARTS_WITH_LETTER = re.compile(r"\(?[A-Za-z]\)?(?:[.,:;]|$)")
_KEEPS_PLACE = re.compile(
    r"^(?:all|none|any|each|both|either|neither)\b|\b(?:of|the|these) above\b", re.IGNORECASE | re.MULTILINE
)

_OPTION_PLACES = ("all", "none", "any", "each", "both", "either", "above")  # without these it cannot match


@dataclass(frozen=True, slots=True)
class OptionLook:
    """How all options of a text are labelled, how the answer names them, and whether short ones share a line."""

    label: str
    answer_form: str
    one_line: bool


def draw_options(labels: tuple[str, ...], taken: str, stream: Draws) -> OptionLook:
    """Draw the look of options, with labels that do not count as the questions of the text do (`taken`)."""
    return stream.pick(_looks(labels, taken))


def list_options(task: PairLayout, look: OptionLook, stream: Draws) -> tuple[str, str]:
    """Return the options as they are listed, and the answer to go with them.

    Options are left as written where labels are spoken of in the pair, or where the answer is none of the options:
    "not B" must not end up beside another B. Those that speak of the other options keep their places.
    """
    options = task.options
    block = "\n".join(options)
    if not task.correct or _speaks_of_labels(f"{block}\n{task.question}\n{task.reasoning or ''}"):
        return _as_written(task), task.answer
    if starts_with_label(block):
        return _as_written(task), task.answer
    order = range(len(options)) if _speaks_of_places(block) else stream.order(len(options))
    labels = _labels(look.label, len(options))
    listed = [f"{labels[place]} {options[index]}" for place, index in enumerate(order)]
    chosen = sorted([order.index(index) for index in task.correct])
    answers = [_answer(labels[place], options[order[place]], look) for place in chosen]
    answer = (" and " if len(answers) == 2 else ", ").join(answers)
    stop = "." if task.answer.endswith(".") and not answer.endswith(".") else ""
    return _layout(listed, look), answer + stop


@cache
def _looks(labels: tuple[str, ...], taken: str) -> tuple[OptionLook, ...]:
    """List all looks, each as often as it is to be drawn."""
    free = [label for label in labels if not taken or _way(_counter(label)) != _way(taken)]
    return tuple(OptionLook(*look) for look in product(free, _ANSWER_FORMS, _ONE_LINE))


def _way(counter: str) -> str:
    return _ALIKE.get(counter, counter)


@cache
def _counter(label: str) -> str:
    found = _COUNTER.search(label)
    return found.group(1) if found else ""


def _speaks_of_labels(text: str) -> bool:
    return any(map(text.__contains__, _HINTS)) and _REFERS.search(text) is not None


def _speaks_of_places(block: str) -> bool:
    return any(map(block.lower().__contains__, _OPTION_PLACES)) and _KEEPS_PLACE.search(block) is not None


def _as_written(task: PairLayout) -> str:
    """List the options as they came; bullets become letters where the pair speaks of letters."""
    markers: Sequence[str] = task.markers or ["- "] * len(task.options)
    bullets = not any(map(str.isalnum, "".join(markers)))
    spoken = f"{task.question}\n{task.reasoning or ''}\n{task.answer}"
    lettered = _STARTS_WITH_LETTER.match(task.answer) or _REFERS.search(spoken)
    if bullets and lettered and not starts_with_label("\n".join(task.options)):
        markers = [f"{letters(place)}. " for place in range(1, len(markers) + 1)]
    return "\n".join(marker + option for marker, option in zip(markers, task.options, strict=True))


@cache
def _labels(template: str, count: int) -> tuple[str, ...]:
    counter = _counter(template)
    if not counter:
        return (template,) * count
    return tuple(template.format_map({counter: COUNTERS[counter](place)}) for place in range(1, count + 1))


def _answer(label: str, text: str, look: OptionLook) -> str:
    if look.answer_form == "text" or not _counter(look.label):
        return text
    if look.answer_form == "label":
        return label if label[0] in "([" else label.rstrip(".)")
    return f"{label} {text}"


def _layout(listed: Sequence[str], look: OptionLook) -> str:
    """Put options on a line each, or on one line where they are short and have brackets around their labels."""
    fits = look.one_line and look.label[0] in "([" and max(map(len, listed)) <= _SHORT_OPTION
    return (" " if fits and "\n" not in "".join(listed) else "\n").join(listed)


STYLE_NAMES = ("classic", "dialogue", "numbered", "inline_few_shot", "next_turn")

_FILLED = re.compile(r"\{(?:question|options|reasoning|answer|answer_sentence)\}")
_PLACES = re.compile(r"\b(?:above|below|following|previous|earlier|next)\b", re.IGNORECASE)


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


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that texts are worded with. `digest` changes with any of the data files."""

    styles: Mapping[str, Wordings]
    nouns: tuple[str, ...]
    document_separators: tuple[str, ...]
    option_labels: tuple[str, ...]
    digest: str = field(default="")

    def patterns(self) -> Iterator[tuple[str, Family, TaskKind, str]]:
        """Yield every pattern with the style, family and kind that it belongs to."""
        for style, wordings in self.styles.items():
            for family in wordings.families:
                for kind, pattern in family.patterns.items():
                    yield style, family, kind, pattern


@cache
def catalogue() -> Catalogue:
    """Return the wordings that come with the package; the tests hold every one of them to the rules."""
    folder = files("hfsynth.texts") / "patterns"
    sources = {name: (folder / f"{name}.yaml").read_text(encoding="utf-8") for name in ("common", *STYLE_NAMES)}
    digest = blake2b("\0".join(sources.values()).encode(), digest_size=8).hexdigest()
    read = {name: yaml.safe_load(source) for name, source in sources.items()}
    return build_catalogue(read.pop("common"), read, digest)


def build_catalogue(common: Mapping[str, Any], styles: Mapping[str, Mapping[str, Any]], digest: str) -> Catalogue:
    """Build a catalogue from plain values."""
    wordings = {style: _wordings(style, values) for style, values in styles.items()}
    return Catalogue(
        styles=MappingProxyType(wordings),
        nouns=tuple(common["nouns"]),
        document_separators=tuple(common["document_separators"]),
        option_labels=tuple(common["option_labels"]),
        digest=digest,
    )


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
