"""Write one training text: the documents of a run, their pairs, in one style from the first line to the last.

Pure: the same run, seed and chain give the same text on every machine, and nothing that is passed in is changed. Only
`Random.random` is drawn from, whose sequence Python guarantees. Knows nothing of rows, columns, tokens or files.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from hashlib import blake2b
from random import Random
from typing import Self

from hfsynth.choices import COUNTERS, OptionLook, draw_options, list_options, pick
from hfsynth.errors import ConfigError
from hfsynth.patterns import STYLE_NAMES, Family, Wordings, catalogue
from hfsynth.records import Pair
from hfsynth.tasks import recognise

RENDERING_VERSION = 1
"""Raised whenever the same run and seed would give another text, other than by the data files of wordings."""

RAW = "raw"
"""The style of a text without pairs: the document alone."""

_PLAIN_OPENING = 0.5  # how often a text starts with the document itself
_PLAIN_BRIDGE = 0.25


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
        given = astuple(self)[: len(STYLE_NAMES)]
        if pairs > 1 or not self.classic:
            return given
        return (self.classic + self.dialogue + self.numbered + self.inline_few_shot, 0.0, 0.0, 0.0, self.next_turn)


DEFAULT_STYLES = Styles()


@dataclass(frozen=True, slots=True)
class Passage:
    """One document of a run, and its pairs."""

    text: str
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A training text, and the style it is in: `raw`, or a style's name, with "+inverted" where documents come last."""

    text: str
    style: str


@dataclass(frozen=True, slots=True)
class _Look:
    """What was drawn for a text, and holds for all of it."""

    wordings: Wordings
    family: Family
    inverted: bool
    noun: str
    opening: str
    bridge: str
    last: str
    separator: str
    number: Callable[[int], str]
    options: OptionLook
    asker: str
    answerer: str


def usable(pair: Pair) -> bool:
    """Tell whether a pair has both an instruction and a response."""
    return bool(pair.instruction.strip() and pair.response.strip())


def render_run(
    run: Sequence[Passage], *, seed: int, chain: str, index: int = 0, styles: Styles = DEFAULT_STYLES
) -> Rendered:
    """Write documents that follow one another, with their pairs, as one text.

    `index` tells the runs of a chain apart. Blank documents and pairs that miss a side are left out; without any pair
    the documents stand alone. The result depends on the arguments only.
    """
    kept = [Passage(p.text, tuple(filter(usable, p.pairs))) for p in run if p.text.strip()]
    total = sum(len(passage.pairs) for passage in kept)
    if not total:
        return Rendered(_join([passage.text for passage in kept], "\n\n"), RAW)
    stream = _stream(seed, chain, index)
    style = _weighted(styles.weights(total), stream)
    look = _draw(catalogue().styles[style], stream.random() < styles.inverted, stream)
    separator = pick(catalogue().document_separators, stream)
    text = _join([_passage(passage, look, stream) for passage in kept], separator)
    return Rendered(text, f"{style}+inverted" if look.inverted else style)


def _stream(seed: int, chain: str, index: int) -> Random:
    name = f"{seed}\0{chain}\0{index}".encode("utf-8", "surrogatepass")
    return Random(int.from_bytes(blake2b(name, digest_size=16).digest(), "big"))


def _weighted(weights: Sequence[float], stream: Random) -> str:
    point = stream.random() * sum(weights)
    drawn = ""
    for name, weight in zip(STYLE_NAMES, weights, strict=True):
        if weight:
            drawn = name
            point -= weight
            if point < 0:
                break
    return drawn


def _draw(wordings: Wordings, inverted: bool, stream: Random) -> _Look:
    chatty = wordings.style == "next_turn"
    openings, bridges = (
        (wordings.inverted_opening, wordings.inverted_bridge) if inverted else (wordings.opening, wordings.bridge)
    )
    number = pick(wordings.numbers, stream) if wordings.numbers else ""
    asker, answerer = pick(wordings.speakers, stream) if wordings.speakers else ("", "")
    return _Look(
        wordings=wordings,
        family=pick(wordings.families, stream),
        inverted=inverted,
        noun=pick(catalogue().nouns, stream),
        opening=_line(openings, 0 if chatty else _PLAIN_OPENING, stream),
        bridge=_line(bridges, 0 if chatty else _PLAIN_BRIDGE, stream),
        last=_line(wordings.last, _PLAIN_BRIDGE, stream),
        separator=pick(wordings.separators, stream),
        number=COUNTERS.get(number, str),
        options=draw_options(catalogue().option_labels, number, stream),
        asker=asker,
        answerer=answerer,
    )


def _line(lines: Sequence[str], plain: float, stream: Random) -> str:
    return pick(lines, stream) if lines and stream.random() >= plain else ""


def _passage(passage: Passage, look: _Look, stream: Random) -> str:
    """Write one document with its pairs. A document without pairs stands alone."""
    if not passage.pairs:
        return passage.text
    written = [_pair(pair, place, look, stream) for place, pair in enumerate(passage.pairs, 1)]
    words = line_words(look.noun, len(passage.pairs))
    if look.wordings.style == "next_turn":
        return _conversation(passage.text, written, look, words)
    opening, bridge = (line.format_map(words) for line in (look.opening, look.bridge))
    if look.wordings.last:
        opening, bridge = (opening, bridge) if len(written) > 2 else ("", "")  # they speak of examples
        written[1:] = _with_last(written[1:], look)
    body = look.separator.join(written)
    blocks = (opening, body, bridge, passage.text) if look.inverted else (opening, passage.text, bridge, body)
    return _join(blocks, "\n\n")


def _with_last(written: list[str], look: _Look) -> list[str]:
    if not written or not look.last:
        return written
    return [*written[:-1], f"{look.last}\n{written[-1]}"]


def _conversation(text: str, written: list[str], look: _Look, words: Mapping[str, str]) -> str:
    """Write the document as a turn of the conversation: its first, or its last where the order is inverted."""
    says = look.family.says
    line = (look.bridge if look.inverted else look.opening).format_map(words)
    shared = says.format_map({"speaker": look.asker, "words": f"{line}\n\n{text}"})
    if look.inverted:
        return _join([*written, shared], look.separator)
    reply = says.format_map({"speaker": look.answerer, "words": look.bridge.format_map(words)})
    return _join([shared, reply, *written], look.separator)


def line_words(noun: str, pairs: int) -> dict[str, str]:
    """Return the words of opening and bridge lines, in the singular for one pair."""
    one = pairs == 1
    return {
        "noun": noun,
        "Noun": noun.capitalize(),
        "a_noun": f"an {noun}" if noun[0] in "aeiou" else f"a {noun}",
        "questions": "question" if one else "questions",
        "Questions": "Question" if one else "Questions",
        "q_phrase": "a question" if one else "some questions",
        "these": "this" if one else "these",
        "These": "This" if one else "These",
        "are": "is" if one else "are",
        "come": "comes" if one else "come",
        "this_was": "this was" if one else "these were",
        "s": "" if one else "s",
    }


def _join(blocks: Sequence[str], gap: str) -> str:
    """Join what is not empty, counting line ends that a block already has as part of the gap."""
    text = ""
    lead = len(gap) - len(gap.lstrip("\n"))
    for block in filter(None, blocks):
        ends = len(text) - len(text.rstrip("\n"))
        text += gap[min(ends, lead) :] + block if text else block
    return text


def _pair(pair: Pair, place: int, look: _Look, stream: Random) -> str:
    task = recognise(pair)
    options, answer = list_options(task, look.options, stream) if task.options else ("", task.answer)
    return look.family.patterns[task.kind].format_map(
        {
            "question": task.question,
            "options": options,
            "reasoning": task.reasoning,
            "answer": answer,
            "answer_sentence": _sentence(answer),
            "number": look.number(place),
            "asker": look.asker,
            "answerer": look.answerer,
        }
    )


def _sentence(answer: str) -> str:
    """Close an answer with a full stop where it ends without punctuation. Scripts of wide letters have their own."""
    last = answer[-1]
    bare = last.isalnum() or last in ")]}%°$€£"
    return f"{answer}." if bare and "\n" not in answer and unicodedata.east_asian_width(last) not in "WF" else answer
