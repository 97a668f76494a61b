"""The values that travel between stages. Knows nothing of models, files or `datasets`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What became of a document. Every input document has exactly one."""

    OK = "ok"
    NO_PAIRS = "no_pairs"
    TOO_LONG = "too_long"
    EMPTY = "empty"
    FAILED = "failed"


ANSWERED = frozenset({Status.OK, Status.NO_PAIRS})
"""What becomes of a document that the engine has answered."""


class Reason(StrEnum):
    """Why something the model said, or a whole document, was not kept."""

    NO_QUESTION = "no_question"  # text that belongs to no question
    NO_ANSWER = "no_answer"  # a question without an answer
    EMPTY_QUESTION = "empty_question"
    EMPTY_ANSWER = "empty_answer"
    DUPLICATE_QUESTION = "duplicate_question"  # the same question twice about one document
    UNFINISHED = "unfinished"  # cut off by the token limit
    STRAY_DELIMITER = "stray_delimiter"  # a delimiter where none belongs; the pair before it is kept
    INVALID_JSON = "invalid_json"  # chat format: not the object that was asked for
    TOO_LONG = "too_long"  # the document does not fit the model's window
    ENGINE = "engine"  # the engine refused or failed this document
    # a whole pair that does not meet a condition of `keep`: one reason for each measure
    FILTERED_GROUNDING = "filtered_grounding"
    FILTERED_ANSWER_LEAK = "filtered_answer_leak"
    FILTERED_FOREIGN_NUMBERS = "filtered_foreign_numbers"
    FILTERED_FOREIGN_NAMES = "filtered_foreign_names"
    FILTERED_INSTRUCTION_WORDS = "filtered_instruction_words"
    FILTERED_RESPONSE_WORDS = "filtered_response_words"


@dataclass(frozen=True, slots=True)
class Pair:
    """One instruction and its response."""

    instruction: str
    response: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that was not kept: why, and its text. A pair that was filtered is there whole, as JSON."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """One raw document. `text` is None when the row holds none; `unread` says why a text was not read."""

    id: str
    text: str | None
    unread: str | None = None


@dataclass(frozen=True, slots=True)
class Synthesis:
    """How the pairs of one document came about.

    `chain` names the chain, `shot` counts from 0 within it, `follows` says that the previous shot was really in
    this one's prompt. `truncated` is the number of characters of the document that the model did not see.
    Token counts are those of this shot's prompt and completion.
    """

    status: Status
    chain: str
    shot: int
    follows: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    truncated: int = 0
    finish_reason: str | None = None
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class Synthesized:
    """A document's pairs, and how they came about."""

    pairs: tuple[Pair, ...]
    synthesis: Synthesis
