"""List the options of a multiple-choice task in a new order, and word the answer to go with them.

Knows nothing of documents, styles or seeds: it draws from the stream it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from hfsynth.streams import Stream
from hfsynth.tasks import Task, letters, roman, starts_with_label

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

_PLACES = ("all", "none", "any", "each", "both", "either", "above")  # without these it cannot match


@dataclass(frozen=True, slots=True)
class OptionLook:
    """How all options of a text are labelled, how the answer names them, and whether short ones share a line."""

    label: str
    answer_form: str
    one_line: bool


def draw_options(labels: tuple[str, ...], taken: str, stream: Stream) -> OptionLook:
    """Draw the look of options, with labels that do not count as the questions of the text do (`taken`)."""
    return stream.pick(_looks(labels, taken))


def list_options(task: Task, look: OptionLook, stream: Stream) -> tuple[str, str]:
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
    return any(map(block.lower().__contains__, _PLACES)) and _KEEPS_PLACE.search(block) is not None


def _as_written(task: Task) -> str:
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
