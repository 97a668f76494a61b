"""Write one training text: the documents of a run, their pairs, in one style from the first line to the last.

Pure: the same run, seed and chain give the same text on every machine, and nothing that is passed in is changed.
Knows nothing of rows, columns, tokens or files.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import accumulate
from typing import Self

from hfsynth.core.draws import Draws
from hfsynth.core.errors import ConfigError
from hfsynth.prompting.pair_layout import TaskKind, is_plain, recognise_stripped
from hfsynth.texts.languages import ENGLISH
from hfsynth.texts.options import COUNTERS, Grammar, OptionLook, draw_options, list_options
from hfsynth.texts.wordings import STYLE_NAMES, Catalogue, Family, Noun, Template, Wordings, catalogue

RENDERING_VERSION = 3
"""Raised whenever the same run and seed would give another row, other than by the data files of wordings."""

RAW = "raw"
"""The style of a text without pairs: the document alone."""

_PLAIN_OPENINGS = 1  # how many times as often as with a line a text starts with the document itself: half of all texts
_LINED_BRIDGES = 3  # how many times as often as not there is a line between document and pairs

Passage = tuple[str, Sequence[tuple[str, str]]]
"""A text, and the instructions and responses about it, without white space around them."""


@dataclass(frozen=True, slots=True)
class Styles:
    """How often each style is drawn, as weights; `inverted` is the share of texts whose documents come last.

    The defaults are the published ones. They are 80/5/5/5/5 for runs of two pairs or more. A run of one pair shows no
    series, so the weights of `dialogue`, `numbered` and `inline_few_shot` go to `classic` (95/5), unless that has none.
    """

    classic: float = 80.0
    dialogue: float = 5.0
    numbered: float = 5.0
    inline_few_shot: float = 5.0
    next_turn: float = 5.0
    inverted: float = 0.05

    def __post_init__(self) -> None:
        for name in (*STYLE_NAMES, "inverted"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ConfigError(f"The weight of {name} must be a number of at least 0, not {value!r}.")
        if not any(self.weights()):
            raise ConfigError("All styles have the weight 0.", hint=f"Give one of {', '.join(STYLE_NAMES)} a weight.")
        if self.inverted > 1:
            raise ConfigError(f"inverted must be a share from 0 to 1, not {self.inverted!r}.")

    @classmethod
    def of(cls, styles: Mapping[str, float] | Styles | None) -> Self | Styles:
        """Take weights by name: styles that are not named get 0, and `inverted` keeps its default.

        Raises ConfigError for an unknown name, a negative weight, or weights that are all 0.
        """
        if styles is None:
            return cls()
        if isinstance(styles, Styles):
            return styles
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(styles) - set(known))
        if unknown:
            raise ConfigError(f"Unknown style: {', '.join(unknown)}.", hint=f"Known are: {', '.join(known)}.")
        return cls(**{**dict.fromkeys(STYLE_NAMES, 0.0), **styles})

    def weights(self, pairs: int = 2) -> tuple[float, ...]:
        """Return the weights for a run of so many pairs, in the order of `STYLE_NAMES`."""
        if pairs > 1 or not self.classic:
            return (self.classic, self.dialogue, self.numbered, self.inline_few_shot, self.next_turn)
        return (self.classic + self.dialogue + self.numbered + self.inline_few_shot, 0.0, 0.0, 0.0, self.next_turn)


DEFAULT_STYLES = Styles()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A training text, and the style it is in: `raw`, or a style's name, with "+inverted" where documents come last.

    `pairs` says where each of its pairs begins and ends, in characters.
    """

    text: str
    style: str
    pairs: tuple[tuple[int, int], ...] = ()


class _Written(str):
    """Pairs as they are written, told from the other pieces of a text; `places` are where each begins and ends."""

    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, pairs: Sequence[str], gap: str) -> Self:
        """Write pairs one behind the other."""
        written, at, places = cls(gap.join(pairs)), 0, []
        for pair in pairs:
            places.append((at, at + len(pair)))
            at += len(pair) + len(gap)
        written.places = tuple(places)
        return written


@dataclass(slots=True)
class _Look:
    """What was drawn for a text, and holds for all of it. Nothing sets its fields after that."""

    style: str
    family: Family
    templates: Mapping[TaskKind, Template]
    plain: Template
    inverted: bool
    noun: Noun
    opening: str
    bridge: str
    last: str
    separator: str
    number: Callable[[int], str] | None
    options: OptionLook
    asker: str
    answerer: str
    grammar: Grammar


def compose(
    documents: Sequence[Passage], name: str, styles: Styles = DEFAULT_STYLES, languages: Sequence[str] = ()
) -> Rendered:
    """Write documents that follow one another, with their pairs, as one text; without any pair they stand alone.

    Nothing may be blank. The result depends on the arguments only: everything is drawn from `name`. `languages` says in
    which each document is worded, English without it; the style is one for all of them.
    """
    total = sum([len(pairs) for _, pairs in documents])
    if not total:
        return Rendered("".join(_apart([text for text, _ in documents], "\n\n")), RAW)
    stream = Draws(name)
    style = _weighted(styles.weights(total), stream)
    inverted = stream.share() < styles.inverted
    spoken = languages or (ENGLISH,) * len(documents)
    first = next(language for language, (_, pairs) in zip(spoken, documents, strict=True) if pairs)
    looks = {first: _draw(catalogue(first), style, inverted, stream)}
    separator = stream.pick(catalogue(first).document_separators)
    pieces: list[str] = []
    for language, (text, pairs) in zip(spoken, documents, strict=True):
        if pieces:
            pieces.append(_gap(pieces[-1], separator))
        if pairs and language not in looks:
            looks[language] = _draw(catalogue(language), style, inverted, stream)
        pieces += _document(text, pairs, looks[language], stream) if pairs else [text]
    return Rendered("".join(pieces), f"{style}+inverted" if inverted else style, _places(pieces))


def _places(pieces: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return where the pairs among the pieces of a text begin and end."""
    places, at = [], 0
    for piece in pieces:
        if isinstance(piece, _Written):
            places += [(at + start, at + end) for start, end in piece.places]
        at += len(piece)
    return tuple(places)


def _weighted(weights: tuple[float, ...], stream: Draws) -> str:
    bounds, names = _bounds(weights)
    return names[min(bisect(bounds, stream.share()), len(names) - 1)]


@cache
def _bounds(weights: tuple[float, ...]) -> tuple[list[float], list[str]]:
    """Return where the share of each style ends, of those that have one."""
    given = [(name, weight) for name, weight in zip(STYLE_NAMES, weights, strict=True) if weight]
    total = sum(weight for _, weight in given)
    return list(accumulate(weight / total for _, weight in given)), [name for name, _ in given]


def _draw(own: Catalogue, style: str, inverted: bool, stream: Draws) -> _Look:
    wordings = own.styles[style]
    family = stream.pick(wordings.families)
    openings, bridges = _lines(wordings, inverted)
    counted = stream.pick(wordings.numbers) if wordings.numbers else ""
    asker, answerer = stream.pick(wordings.speakers) if wordings.speakers else ("", "")
    templates = _signed(family, asker, answerer) if asker else family.templates
    return _Look(
        style=wordings.style,
        family=family,
        templates=templates,
        plain=templates[TaskKind.FREE_FORM],
        inverted=inverted,
        noun=stream.pick(own.nouns),
        opening=stream.pick(openings),
        bridge=stream.pick(bridges),
        last=stream.pick(wordings.last) if wordings.last else "",
        separator=stream.pick(family.separators),
        number=COUNTERS[counted] if counted else None,
        options=draw_options(own.option_labels, counted, stream),
        asker=asker,
        answerer=answerer,
        grammar=own.grammar,
    )


def _lines(wordings: Wordings, inverted: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return openings and bridges, each as often as it is to be drawn, the empty line for none among them."""
    if inverted:
        return _often(wordings.style, wordings.inverted_opening, wordings.inverted_bridge)
    return _often(wordings.style, wordings.opening, wordings.bridge)


@cache
def _often(style: str, openings: tuple[str, ...], bridges: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if style == "next_turn":  # these lines are turns of the conversation, which would have holes without them
        return openings or ("",), bridges
    return openings + ("",) * len(openings) * _PLAIN_OPENINGS, bridges * _LINED_BRIDGES + ("",) * len(bridges)


def _signed(family: Family, asker: str, answerer: str) -> dict[TaskKind, Template]:
    return {kind: template.signed(asker=asker, answerer=answerer) for kind, template in family.templates.items()}


def _document(text: str, pairs: Sequence[tuple[str, str]], look: _Look, stream: Draws) -> list[str]:
    """Write one document with its pairs, in pieces."""
    plain = look.plain.text if look.number is None else ""
    written = [
        plain % pair if plain and is_plain(*pair) else _pair(pair, place, look, stream)
        for place, pair in enumerate(pairs, 1)
    ]
    if look.style == "next_turn":
        return _conversation(text, written, look)
    opening, bridge = look.opening, look.bridge
    if look.style == "inline_few_shot":
        opening, bridge = (opening, bridge) if len(written) > 2 else ("", "")  # they speak of examples
        written[1:] = _with_last(written[1:], look)
    body = _Written.of(written, look.separator)
    before, between = _worded(opening, look.noun, len(pairs) == 1), _worded(bridge, look.noun, len(pairs) == 1)
    return _apart((before, body, between, text) if look.inverted else (before, text, between, body), "\n\n")


def _with_last(written: list[str], look: _Look) -> list[str]:
    return [*written[:-1], f"{look.last}\n{written[-1]}"] if written else []


def _conversation(text: str, written: list[str], look: _Look) -> list[str]:
    """Write the document as a turn of the conversation: its first, or its last where the order is inverted."""
    opening, bridge = (_worded(line, look.noun, len(written) == 1) for line in (look.opening, look.bridge))
    says = look.family.says
    shared = f"{bridge if look.inverted else opening}\n\n{text}"
    turn = says.format_map({"speaker": look.asker, "words": shared})
    turns = [_Written.of([pair], "") for pair in written]
    if look.inverted:
        return _apart([*turns, turn], look.separator)
    reply = says.format_map({"speaker": look.answerer, "words": bridge})
    return _apart([turn, reply, *turns], look.separator)


@cache
def _worded(line: str, noun: Noun, single: bool) -> str:
    return line.format_map(noun.one if single else noun.many)


def _apart(blocks: Iterable[str], gap: str) -> list[str]:
    """Return what is not empty, with the gap between each two."""
    pieces: list[str] = []
    for block in blocks:
        if block:
            if pieces:
                pieces.append(gap if pieces[-1][-1] != "\n" else _gap(pieces[-1], gap))
            pieces.append(block)
    return pieces


def _gap(before: str, gap: str) -> str:
    """Return the gap less the line ends that what stands before it already has."""
    if before[-1] != "\n":
        return gap
    ends = len(before) - len(before.rstrip("\n"))
    return gap[min(ends, len(gap) - len(gap.lstrip("\n"))) :]


def _pair(pair: tuple[str, str], place: int, look: _Look, stream: Draws) -> str:
    task = recognise_stripped(*pair)
    options, answer = list_options(task, look.options, stream, look.grammar) if task.options else (None, task.answer)
    contents = [content for content in (task.question, options, task.reasoning) if content is not None]
    template = _numbered(look.templates[task.kind], place, look)
    return template.text % (*contents, _sentence(answer, look.grammar.stop) if template.sentence else answer)


def _numbered(template: Template, place: int, look: _Look) -> Template:
    return template if look.number is None else template.signed(number=look.number(place))


def _sentence(answer: str, stop: str) -> str:
    """Close an answer with a full stop where it ends without punctuation.

    `stop` is the wordings' own. The point of other scripts does not stand behind wide letters.
    """
    last = answer[-1]
    bare = last.isalnum() or last in ")]}%°$€£"
    if stop != ".":
        bare = bare or last in "）】》" or unicodedata.category(last) in ("Mc", "Mn")
    elif unicodedata.east_asian_width(last) in "WF":
        bare = False
    return f"{answer}{stop}" if bare and "\n" not in answer else answer
