"""Say what kind of task a pair is, and take it apart: options, reasoning, answer.

The published layout is understood (a question that ends "Options:" and a bulleted list, or "Let's think step by
step.", and a response that ends "Therefore, the answer is …"), and what models make of it. Knows nothing of wordings,
documents or random numbers, and never raises: a pair it cannot take apart is a free-form task, word for word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from hfsynth.core.records import Pair

OPTIONS_HEADING = "\nOptions:"
STEP_BY_STEP = "\nLet's think step by step."
CONCLUSION = "\nTherefore, the answer is "
_OPTIONS = f"{OPTIONS_HEADING}\n- "


class TaskKind(StrEnum):
    """How a pair is laid out."""

    FREE_FORM = "free_form"
    MULTIPLE_CHOICE = "multiple_choice"
    CHAIN_OF_THOUGHT = "chain_of_thought"
    MULTIPLE_CHOICE_CHAIN_OF_THOUGHT = "multiple_choice_chain_of_thought"


class PairLayout(NamedTuple):
    """A pair, taken apart. What is not there is empty, or None for `reasoning`.

    `question` has neither the options nor the call for steps. `answer` is as it was written. `correct` holds the
    indices of the options that are the answer, in ascending order: empty where there are no options, or where the
    answer is none of them. `markers` are the labels of the options as written ("- ", "(b) "), empty for plain lines.
    """

    kind: TaskKind
    question: str
    answer: str
    options: tuple[str, ...] = ()
    reasoning: str | None = None
    correct: tuple[int, ...] = ()
    markers: tuple[str, ...] = ()


def recognise(pair: Pair) -> PairLayout:
    """Take a pair apart. Nothing is dropped: an answer that is none of the options is kept, with `correct` empty."""
    return recognise_stripped(pair.instruction.strip(), pair.response.strip())


def laid_out(question: str, answer: str, *, options: Iterable[str] = (), reasoning: str = "") -> Pair:
    """Write a pair in the published layout; what is empty is left out."""
    listed = "".join(f"\n- {option}" for option in options)
    if question and listed:
        question += OPTIONS_HEADING + listed
    if question and reasoning and answer:
        question, answer = question + STEP_BY_STEP, f"{reasoning}{CONCLUSION}{answer}"
    return Pair(question, answer)


def published_parts(pair: Pair) -> tuple[str, list[str], str, str]:
    """Take apart a pair in the published layout to the letter: question, options, reasoning, answer.

    `laid_out` puts them together again, but where the pair was in another layout that looks like it.
    """
    question, stepwise, after = pair.instruction.rpartition(STEP_BY_STEP)
    reasoning, concluded, answer = pair.response.rpartition(CONCLUSION)
    if not (stepwise and concluded and not after and reasoning.strip()):
        question, reasoning, answer = pair.instruction, "", pair.response
    stem, listed, options = question.partition(_OPTIONS)
    return (stem, options.split("\n- "), reasoning, answer) if listed else (question, [], reasoning, answer)


def is_plain(instruction: str, response: str) -> bool:
    """Tell at a glance that a stripped pair is free-form; where this is False, `recognise` may still find it to be."""
    return "\n" not in instruction and "answer" not in response and "ANSWER" not in response


def recognise_stripped(instruction: str, response: str) -> PairLayout:
    """Take apart a pair without white space around its sides; see `recognise`."""
    if is_plain(instruction, response):
        return PairLayout(TaskKind.FREE_FORM, instruction, response)
    question = _without_cue(instruction)
    reasoning, answer = _conclusion(response)
    listed = _listed(question, answer)
    if listed is None:
        if reasoning is None:
            return PairLayout(TaskKind.FREE_FORM, instruction, answer)
        return PairLayout(TaskKind.CHAIN_OF_THOUGHT, question, answer, reasoning=reasoning)
    asked, markers, options = listed
    kind = TaskKind.MULTIPLE_CHOICE if reasoning is None else TaskKind.MULTIPLE_CHOICE_CHAIN_OF_THOUGHT
    chosen = _chosen(answer, options, markers)
    return PairLayout(kind, _without_cue(asked), answer, options, reasoning, chosen, markers)


def starts_with_label(lines: str) -> bool:
    """Tell whether any line starts as labelled options do: "A. ", "(b) ", "3) "."""
    return _SHORT_LABEL.search(lines) is not None


def letters(number: int) -> str:
    """Count in capital letters from 1: A, B, … Z, AA, AB and so on without end."""
    digits = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        digits = chr(65 + rest) + digits
    return digits


def roman(number: int) -> str:
    """Count in small Roman numerals from 1; above 3999 the m is repeated."""
    digits = ""
    for value, sign in _ROMAN:
        count, number = divmod(number, value)
        digits += sign * count
    return digits


_ROMAN = (
    (1000, "m"),
    (900, "cm"),
    (500, "d"),
    (400, "cd"),
    (100, "c"),
    (90, "xc"),
    (50, "l"),
    (40, "xl"),
    (10, "x"),
    (9, "ix"),
    (5, "v"),
    (4, "iv"),
    (1, "i"),
)

_COUNTS: dict[str, Callable[[int], str]] = {
    "letters": lambda number: letters(number).lower(),
    "roman": roman,
    "numbers": str,
}

_CUE = re.compile(r"\s*\blet(?:['’]s| us) think (?:\w+ ){0,3}step[ -]by[ -]step\s*[.:!…]*\s*$", re.IGNORECASE)
_CONCLUSION = re.compile(
    r"(?:^|(?<=\s))(?:therefore|thus|hence|so),?\s+the\s+(?:final\s+|correct\s+)?answer\s+is\s*:?\s*", re.IGNORECASE
)
_HEADER = re.compile(r"^[ \t]*(?:answer )?(?:options|choices)[ \t]*:[ \t]*", re.IGNORECASE | re.MULTILINE)
_BULLET = re.compile(r"\s*[-*•–]\s+")
_LABEL = re.compile(r"\s*(?:\(([A-Za-z]{1,7}|\d{1,3})\)|\[([A-Za-z]|\d{1,3})\]|([A-Za-z]{1,7}|\d{1,3})[.):])\s+")
_SHORT_LABEL = re.compile(r"^[ \t]*[(\[]?[A-Za-z0-9][.)\]:]\s", re.MULTILINE)
_INLINE = re.compile(r"(?:^|(?<=\s))\((?:[A-Za-z]{1,4}|\d{1,2})\)\s")
_BARE_LABEL = re.compile(r"[(\[]?([A-Za-z]{1,7}|\d{1,3})[)\].:]{0,2}")
_PREFIX = re.compile(
    r"\A(?:the\s+)?(?:correct\s+)?(?:answers?|options?|choices?)(?:\s+(?:is|are))?\s*:?\s+", re.IGNORECASE
)
_BETWEEN = re.compile(r"\s*(?:[,;\n]|\b(?:and|or)\b|&|/)\s*(?:and\s+)?")

_Listed = tuple[str, tuple[str, ...], tuple[str, ...]]  # question, markers, options


def _without_cue(instruction: str) -> str:
    """Cut off the call for steps at the end, unless nothing would be left."""
    if instruction.endswith(STEP_BY_STEP):
        return instruction[: -len(STEP_BY_STEP)].rstrip() or instruction
    if "step" not in instruction[-24:].lower():
        return instruction
    found = _CUE.search(instruction[-80:])
    kept = instruction[: len(instruction) - len(found.group())].rstrip() if found else ""
    return kept or instruction


def _conclusion(response: str) -> tuple[str | None, str]:
    """Cut a response at its last "Therefore, the answer is", where something stands on both sides of it."""
    if "answer" not in response and "ANSWER" not in response:
        return None, response
    reasoning, published, answer = response.rpartition(CONCLUSION)
    if not published or "answer" in answer.lower():
        found = list(_CONCLUSION.finditer(response))
        if not found:
            return None, response
        reasoning, answer = response[: found[-1].start()], response[found[-1].end() :]
    reasoning, answer = reasoning.rstrip(), answer.strip()
    return (reasoning, answer) if reasoning and answer else (None, response)


def _listed(question: str, answer: str) -> _Listed | None:
    """Find the options at the end of a question; without a heading, only lettered ones that hold the answer."""
    if "\n" not in question:
        return None
    published = _published(question)
    if published is not None:
        return published
    headers = list(_HEADER.finditer(question)) if ":" in question else []
    if not headers:
        return _unheaded(question, answer)
    block = question[headers[-1].end() :].rstrip()
    asked, items = question[: headers[-1].start()].rstrip(), _items(block) or _row_of_items(block, answer)
    return (asked, *items) if asked and items else None


def _published(question: str) -> _Listed | None:
    """Read options just as the published layout has them: the common case, without a search."""
    asked, heading, block = question.rpartition(_OPTIONS)
    lines = block.split("\n- ")
    if not heading or "\n" in "".join(lines) or _LABEL.match(lines[0]) or not asked.strip():
        return None
    options = tuple(map(str.strip, lines))
    return (asked.rstrip(), ("- ",) * len(options), options) if all(options) else None


def _items(block: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Read markers and options; None where lines with a marker and lines without one are mixed."""
    lines = [line for line in block.split("\n") if line.strip()]
    if len(lines) == 1:
        lines = _one_line(lines[0])
    bullets = [_BULLET.match(line) for line in lines]
    if lines and all(bullets):
        marked = [(found.group().lstrip(), line[found.end() :]) for found, line in _zip(bullets, lines)]
        inner = _sequence([text for _, text in marked])
        return inner or _split(marked)
    if any(bullets):
        return None
    return _sequence(lines) or _plain(lines)


def _one_line(line: str) -> list[str]:
    """Cut "(A) this (B) that" into its options."""
    starts = [found.start() for found in _INLINE.finditer(line)]
    if len(starts) < 2 or line[: starts[0]].strip():
        return [line]
    return [line[a:b].strip() for a, b in zip(starts, [*starts[1:], len(line)], strict=True)]


def _row_of_items(block: str, answer: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Cut "this; that" or "this, that" into options, where the answer is among them."""
    for separator in (";", ","):
        options = tuple(part.strip() for part in block.split(separator))
        if len(options) > 1 and "\n" not in block and all(options) and _chosen(answer, options, ()):
            return (), options
    return None


def _zip(found: list[re.Match[str] | None], lines: list[str]) -> Iterator[tuple[re.Match[str], str]]:
    return ((match, line) for match, line in zip(found, lines, strict=True) if match is not None)


def _sequence(lines: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Read labels that count up from the first (a, b, c; 1, 2, 3; i, ii, iii), or None where they do not."""
    if not lines or not _LABEL.match(lines[0]):
        return None
    found = [_LABEL.match(line) for line in lines]
    if not all(found):
        return None
    marked = [(match.group().lstrip(), line[match.end() :]) for match, line in _zip(found, lines)]
    return _split(marked) if _count_of([marker for marker, _ in marked]) else None


def _count_of(markers: Iterable[str]) -> Callable[[int], str] | None:
    """Tell how labels count: by letters, Roman numerals or numbers; None for bullets and for anything else."""
    labels = [re.sub(r"\W", "", marker).lower() for marker in markers]
    for count in _COUNTS.values():
        if labels == [count(position) for position in range(1, len(labels) + 1)]:
            return count
    return None


def _split(marked: list[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    options = tuple(text.strip() for _, text in marked)
    return (tuple(marker for marker, _ in marked), options) if all(options) else None


def _plain(lines: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Take lines without markers as options where there are two at least and none of them is labelled."""
    if len(lines) < 2 or starts_with_label("\n".join(lines)):
        return None
    return (), tuple(line.strip() for line in lines)


def _unheaded(question: str, answer: str) -> _Listed | None:
    lines = question.split("\n")
    first = len(lines)
    while first > 1 and _LABEL.match(lines[first - 1]):
        first -= 1
    asked, block = "\n".join(lines[:first]).rstrip(), lines[first:]
    items = _sequence(block) if len(block) > 1 and asked else None
    if items is None or _count_of(items[0]) is str:
        return None
    return (asked, *items) if _chosen(answer, items[1], items[0]) else None


def _chosen(answer: str, options: tuple[str, ...], markers: tuple[str, ...]) -> tuple[int, ...]:
    """Find the options that an answer names: one by its text or label, else all of its parts, else none."""
    if answer in options:
        return (options.index(answer),)
    texts: dict[str, int] = {}
    for index, option in enumerate(options):
        texts.setdefault(_normal(option), index)
    count = _count_of(markers) or _COUNTS["letters"]
    labels = {count(index + 1): index for index in range(len(options))}
    for form in (answer, _PREFIX.sub("", answer, count=1)):
        single = _one(form, texts, labels)
        if single is not None:
            return (single,)
        parts = [part for part in (_BULLET.sub("", p, count=1) for p in _BETWEEN.split(form)) if part]
        several = [_one(part, texts, labels) for part in parts]
        known = {index for index in several if index is not None}
        if parts and None not in several:
            return tuple(sorted(known))
    return ()


def _one(answer: str, texts: dict[str, int], labels: dict[str, int]) -> int | None:
    """Find one option by its text, its label, or its label and its text."""
    normal = _normal(answer)
    if normal in texts:
        return texts[normal]
    bare = _BARE_LABEL.fullmatch(answer.strip())
    if bare:
        return labels.get(bare.group(1).lower())
    labelled = _LABEL.match(answer)
    if labelled:
        index = labels.get(next(filter(None, labelled.groups())).lower())
        if index is not None and texts.get(_normal(answer[labelled.end() :])) == index:
            return index
    return None


def _normal(text: str) -> str:
    """Fold case, width and space, and drop punctuation at both ends, unless nothing else is there."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_EDGES) or folded


_EDGES = " .,;:!?'\"`“”‘’«»()[]。、！？：；「」،؟*_-–—"
