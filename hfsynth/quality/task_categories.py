"""What kind of task a pair is, by rules: a summary, a definition, a yes-or-no question, a question of who or when.

Every pair has exactly one category. Read are the layout of the pair (options, a chain of thought, yes or no), then the
first rule whose words stand in the instruction, then the earliest question word; the words are in
`data/task_categories.toml`. The rules know English best, and the question words of some big languages; what they do not
know is `other`, so that shares of categories are shares of what the rules can see. Pure.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from importlib.resources import files

from hfsynth.core.records import Pair
from hfsynth.prompting.pair_layout import TaskKind, recognise
from hfsynth.quality.measures import is_option, is_yes_or_no
from hfsynth.quality.words import compatible, folded


class Category(StrEnum):
    """A kind of task. Those up to `yes_no` and from `how` on are told by layout and question, the others by words."""

    CHAIN_OF_THOUGHT = "chain_of_thought"  # the answer comes after its reasoning
    MULTIPLE_CHOICE = "multiple_choice"  # options are listed, or joined by "or", and the answer is one of them
    FILL_IN = "fill_in"
    TRANSLATION = "translation"
    QUESTION_WRITING = "question_writing"
    DECOMPOSITION = "decomposition"  # a question broken down into steps
    TITLE = "title"
    SUMMARIZATION = "summarization"
    REWRITING = "rewriting"
    KEY_TERMS = "key_terms"
    ENTAILMENT = "entailment"
    CLASSIFICATION = "classification"
    TOPIC = "topic"
    COMPARISON = "comparison"
    DEFINITION = "definition"
    EXTRACTION = "extraction"  # quotation included
    CONTINUATION = "continuation"
    LIST = "list"
    EXPLANATION = "explanation"
    YES_NO = "yes_no"  # true or false included
    QUANTITY = "quantity"
    WHY = "why"
    WHEN = "when"
    WHERE = "where"
    WHO = "who"
    HOW = "how"
    WHAT = "what"  # and which
    OPEN_ENDED = "open_ended"  # told to write, describe or discuss
    OTHER = "other"


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(words), re.DOTALL)


_DATA: Mapping[str, Mapping[str, list[str]]] = tomllib.loads(
    compatible((files("hfsynth.quality") / "task_categories.toml").read_text("utf-8"))
)
_RULES = [(Category(name), _any_of(words)) for name, words in _DATA["rules"].items()]
_QUESTION = _any_of(f"(?P<{Category(name)}>{'|'.join(words)})" for name, words in _DATA["questions"].items())
_FORMS = {name: _any_of(words) for name, words in _DATA["forms"].items()}


def category_of(pair: Pair) -> Category:
    """Return the one category of a pair."""
    task = recognise(pair)
    if task.reasoning is not None:
        return Category.CHAIN_OF_THOUGHT
    if task.kind is TaskKind.MULTIPLE_CHOICE:
        return Category.MULTIPLE_CHOICE
    asked = folded(compatible(pair.instruction))
    if is_yes_or_no(task.answer) or _FORMS["either"].search(asked):
        return Category.YES_NO
    if is_option(task.answer, pair.instruction):
        return Category.MULTIPLE_CHOICE
    return _by_rule(asked) or _by_question(asked) or _by_form(asked)


def _by_rule(asked: str) -> Category | None:
    return next((category for category, words in _RULES if words.search(asked)), None)


def _by_question(asked: str) -> Category | None:
    if not _FORMS["asked"].search(asked):
        return None
    if _FORMS["polar"].search(asked):
        return Category.YES_NO
    found = _QUESTION.search(asked)
    return Category(found.lastgroup) if found and found.lastgroup else None


def _by_form(asked: str) -> Category:
    return Category.OPEN_ENDED if _FORMS["told"].search(asked) else Category.OTHER
