"""How the options of a text are labelled, listed and answered for, and how a language joins and closes answers.

What is drawn comes from the draws that are handed in. Pure; knows nothing of wordings, documents or seeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Self

from hfsynth.core.draws import Draws
from hfsynth.prompting.pair_layout import PairLayout, letters, roman, starts_with_label

_ONE_LINE = (True, False, False, False, False)  # one in five stands in one line, where it is short
_SHORT_OPTION = 40
_ANSWER_FORMS = ("label", "label and text", "text")

COUNTERS: Mapping[str, Callable[[int], str]] = {
    "number": str,
    "roman": roman,
    "ROMAN": lambda number: roman(number).upper(),
    "lower": lambda number: letters(number).lower(),
    "upper": letters,
    "chinese": lambda number: _chinese(number),
    "devanagari": lambda number: str(number).translate(_DEVANAGARI),
    "hindi": lambda number: _hindi(number),
}
"""The ways to count, by the names that the data files use."""

_DEVANAGARI: Mapping[int, str] = dict(zip(map(ord, "0123456789"), "०१२३४५६७८९", strict=True))
_CHINESE = "〇一二三四五六七八九"
_HINDI = "कखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसह"
_ALIKE = {"lower": "upper", "ROMAN": "roman", "devanagari": "number"}
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
class Grammar:
    """How a language puts answers together. The defaults are those of English.

    `conjunctions` join two answers, each where the second begins as its pattern says; `comma` joins more; `stop`
    closes a sentence. `speaks_of_labels` and `keeps_place` find, besides the English ways, a pair that speaks of its
    options by their labels and an option that speaks of the others.
    """

    conjunctions: tuple[tuple[str, re.Pattern[str]], ...] = ((" and ", re.compile("")),)
    comma: str = ", "
    stop: str = "."
    speaks_of_labels: re.Pattern[str] | None = None
    keeps_place: re.Pattern[str] | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Read a grammar; what is not there is as in English."""
        found: dict[str, Any] = {name: values[name] for name in ("comma", "stop") if name in values}
        for name in ("speaks_of_labels", "keeps_place"):
            if name in values:
                found[name] = re.compile(values[name], re.MULTILINE | re.IGNORECASE * (name == "keeps_place"))
        if "conjunctions" in values:
            found["conjunctions"] = tuple((word, re.compile(before)) for word, before in values["conjunctions"])
        return cls(**found)

    def joined(self, answers: Sequence[str]) -> str:
        """Return answers as one."""
        if len(answers) != 2:
            return self.comma.join(answers)
        return next(word for word, before in self.conjunctions if before.match(answers[1])).join(answers)


ENGLISH_GRAMMAR = Grammar()


@dataclass(frozen=True, slots=True)
class OptionLook:
    """How all options of a text are labelled, how the answer names them, and whether short ones share a line."""

    label: str
    answer_form: str
    one_line: bool


def draw_options(labels: tuple[str, ...], taken: str, stream: Draws) -> OptionLook:
    """Draw the look of options, with labels that do not count as the questions of the text do (`taken`)."""
    return stream.pick(_looks(labels, taken))


def list_options(
    task: PairLayout, look: OptionLook, stream: Draws, grammar: Grammar = ENGLISH_GRAMMAR
) -> tuple[str, str]:
    """Return the options as they are listed, and the answer to go with them.

    Options are left as written where labels are spoken of in the pair, or where the answer is none of the options:
    "not B" must not end up beside another B. Those that speak of the other options keep their places.
    """
    options = task.options
    block = "\n".join(options)
    if not task.correct or _speaks_of_labels(f"{block}\n{task.question}\n{task.reasoning or ''}", grammar):
        return _as_written(task), task.answer
    if starts_with_label(block):
        return _as_written(task), task.answer
    order = range(len(options)) if _speaks_of_places(block, grammar) else stream.order(len(options))
    labels = _labels(look.label, len(options))
    listed = [f"{labels[place]} {options[index]}" for place, index in enumerate(order)]
    chosen = sorted([order.index(index) for index in task.correct])
    answers = [_answer(labels[place], options[order[place]], look) for place in chosen]
    answer, stop = grammar.joined(answers), grammar.stop
    closed = task.answer.endswith(stop) and not answer.endswith(stop)
    return _layout(listed, look), answer + stop * closed


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


def _speaks_of_labels(text: str, grammar: Grammar) -> bool:
    if any(map(text.__contains__, _HINTS)) and _REFERS.search(text):
        return True
    return grammar.speaks_of_labels is not None and grammar.speaks_of_labels.search(text) is not None


def _speaks_of_places(block: str, grammar: Grammar) -> bool:
    if any(map(block.lower().__contains__, _OPTION_PLACES)) and _KEEPS_PLACE.search(block):
        return True
    return grammar.keeps_place is not None and grammar.keeps_place.search(block) is not None


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


def _chinese(number: int) -> str:
    """Count in Chinese numerals: 一 … 十, 十一 … 九十九; beyond that digit by digit."""
    if number > 99:
        return "".join(_CHINESE[int(digit)] for digit in str(number))
    tens, ones = divmod(number, 10)
    said = {0: "", 1: "十"}.get(tens, f"{_CHINESE[tens]}十")
    return said + (_CHINESE[ones] if ones else "")


def _hindi(number: int) -> str:
    """Count in the consonants of Hindi from 1, as lists do; behind the last they begin again, doubled."""
    rounds, place = divmod(number - 1, len(_HINDI))
    return _HINDI[place] * (rounds + 1)
