"""List the options of a multiple-choice task in a new order, and word the answer to go with them.

Knows nothing of documents, styles or seeds: it draws from the stream it is given, by `Random.random` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeVar

from hfsynth.tasks import Task, letters, roman, starts_with_label

_ONE_LINE = 0.2  # how often short options stand in one line
_SHORT_OPTION = 40
_ANSWER_FORMS = ("label", "label and text", "text")

_T = TypeVar("_T")

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
_STARTS_WITH_LETTER = re.compile(r"\(?[A-Za-z]\)?(?:[.,:;]|$)")
_KEEPS_PLACE = re.compile(r"^(?:all|none|any|each|both|either|neither)\b|\b(?:of|the|these) above\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OptionLook:
    """How all options of a text are labelled, how the answer names them, and whether short ones share a line."""

    label: str
    answer_form: str
    one_line: bool


def pick(values: Sequence[_T], stream: Random) -> _T:
    """Draw one of the values, all equally likely."""
    return values[int(stream.random() * len(values))]


def draw_options(labels: tuple[str, ...], taken: str, stream: Random) -> OptionLook:
    """Draw the look of options, with labels that do not count as the questions of the text do (`taken`)."""
    label = pick(_free_labels(labels, taken), stream)
    return OptionLook(label, pick(_ANSWER_FORMS, stream), stream.random() < _ONE_LINE)


def list_options(task: Task, look: OptionLook, stream: Random) -> tuple[str, str]:
    """Return the options as they are listed, and the answer to go with them.

    Options are left as written where labels are spoken of in the pair, or where the answer is none of the options:
    "not B" must not end up beside another B. Those that speak of the other options keep their places.
    """
    if not task.correct or _speaks_of_labels(task):
        return _as_written(task), task.answer
    fixed = any(map(_KEEPS_PLACE.search, task.options))
    order = list(range(len(task.options))) if fixed else shuffled(len(task.options), stream)
    labels = [_label(look.label, place) for place in range(1, len(order) + 1)]
    listed = [f"{label} {task.options[index]}" for label, index in zip(labels, order, strict=True)]
    chosen = [place for place, index in enumerate(order) if index in task.correct]
    answers = [_answer(labels[place], task.options[order[place]], look) for place in chosen]
    answer = (" and " if len(answers) == 2 else ", ").join(answers)
    stop = "." if task.answer.endswith(".") and not answer.endswith(".") else ""
    return _layout(listed, look), answer + stop


def shuffled(count: int, stream: Random) -> list[int]:
    """Shuffle by Fisher and Yates: every order is equally likely."""
    order = list(range(count))
    for here in range(count - 1, 0, -1):
        there = int(stream.random() * (here + 1))
        order[here], order[there] = order[there], order[here]
    return order


@cache
def _free_labels(labels: tuple[str, ...], taken: str) -> tuple[str, ...]:
    return tuple(label for label in labels if not taken or _way(_counter(label)) != _way(taken))


def _way(counter: str) -> str:
    return _ALIKE.get(counter, counter)


@cache
def _counter(label: str) -> str:
    found = _COUNTER.search(label)
    return found.group(1) if found else ""


def _speaks_of_labels(task: Task) -> bool:
    spoken = "\n".join((task.question, task.reasoning or "", *task.options))
    return _REFERS.search(spoken) is not None or any(map(starts_with_label, task.options))


def _as_written(task: Task) -> str:
    """List the options as they came; bullets become letters where the pair speaks of letters."""
    markers: Sequence[str] = task.markers or ["- "] * len(task.options)
    bullets = not any(map(str.isalnum, "".join(markers)))
    spoken = f"{task.question}\n{task.reasoning or ''}\n{task.answer}"
    lettered = _STARTS_WITH_LETTER.match(task.answer) or _REFERS.search(spoken)
    if bullets and lettered and not any(map(starts_with_label, task.options)):
        markers = [f"{letters(place)}. " for place in range(1, len(markers) + 1)]
    return "\n".join(marker + option for marker, option in zip(markers, task.options, strict=True))


def _label(template: str, place: int) -> str:
    counter = _counter(template)
    return template.format_map({counter: COUNTERS[counter](place)}) if counter else template


def _answer(label: str, text: str, look: OptionLook) -> str:
    if look.answer_form == "text" or not _counter(look.label):
        return text
    if look.answer_form == "label":
        return label if label[0] in "([" else label.rstrip(".)")
    return f"{label} {text}"


def _layout(listed: Sequence[str], look: OptionLook) -> str:
    """Put options on a line each, or on one line where they are short and have brackets around their labels."""
    short = all(len(option) <= _SHORT_OPTION and "\n" not in option for option in listed)
    return (" " if short and look.one_line and look.label[0] in "([" else "\n").join(listed)
