"""The values that travel between stages, their names and their counts.

Names depend on content alone, so that they are the same on every machine and in every run. Counts of parts merge by
addition into those of the whole. Knows nothing of models, files or `datasets`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Self

from hfsynth.core.verdicts import Scored


class Status(StrEnum):
    """What became of a document. Every input document has exactly one."""

    OK = "ok"
    NO_PAIRS = "no_pairs"
    TOO_LONG = "too_long"
    EMPTY = "empty"
    FAILED = "failed"
    SCREENED = (
        "screened"  # taken out, in the job or from the finished corpus; the row stays, its text is not trained on
    )


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
    CONTAMINATED = "contaminated"  # a whole pair, or a document: a benchmark holds it
    NO_PROMPT = "no_prompt"  # no prompt of the recipe is for a document like this one
    # a whole pair that does not meet a condition of `keep`: one reason for each measure
    FILTERED_GROUNDING = "filtered_grounding"
    FILTERED_ANSWER_LEAK = "filtered_answer_leak"
    FILTERED_FOREIGN_NUMBERS = "filtered_foreign_numbers"
    FILTERED_FOREIGN_NAMES = "filtered_foreign_names"
    FILTERED_INSTRUCTION_WORDS = "filtered_instruction_words"
    FILTERED_RESPONSE_WORDS = "filtered_response_words"
    FILTERED_PII = "filtered_pii"
    FILTERED_RELEVANCE = "filtered_relevance"
    FILTERED_ACCURACY = "filtered_accuracy"
    UNJUDGED = "unjudged"  # a whole pair on which a judge gave no verdict, where conditions ask for one
    NOT_CHOSEN = "not_chosen"  # a whole pair: others of the document's candidates are better
    # a whole pair, or a document and all its pairs, that was screened out of a finished corpus
    LANGUAGE = "language"
    IDENTIFIER = "identifier"
    DUPLICATE = "duplicate"


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
    """One raw document. `text` is None when the row holds none; `unread` says why a text was not read.

    `persona` is who a prompt recipe has ask, where a column of the row says it. `identifiers` are the kinds of the
    personal identifiers that its text had, one for each (`hfsynth.quality.marking`); None where nobody has looked.
    """

    id: str
    text: str | None
    unread: str | None = None
    persona: str | None = None
    identifiers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Synthesis:
    """How the pairs of one document came about.

    `chain` names the chain, `shot` counts from 0 within it, `follows` says that the previous shot was really in
    this one's prompt. `truncated` is the number of characters of the document that the model did not see.
    Token counts are those of this shot's prompt and completion; `reasoning_tokens` are those of the completion's that a
    model thought with, `reasoning` what it thought, where that is to be kept. `mined` says that rules made the pairs,
    where the model wrote none. `exemplars` are the ids of those that the prompt really showed, `exemplars_left_out` is
    how many more there would have been, had they fitted. `prompt` is the name of the
    recipe's prompt that was drawn, `rewritten` what it had the model write where it asks for a text and not for pairs.
    `identifiers` are the kinds of the personal identifiers that were found in the document before, one for each.
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
    reasoning_tokens: int = 0
    reasoning: str | None = None
    mined: bool = False
    exemplars: tuple[str, ...] = ()
    exemplars_left_out: int = 0
    prompt: str | None = None
    rewritten: str | None = None
    identifiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Synthesized:
    """A document's pairs, how they came about, and what a judge says of them where one was asked."""

    pairs: tuple[Pair, ...]
    synthesis: Synthesis
    scored: Scored | None = None


def content_id(text: str) -> str:
    """Return 16 hex digits that stand for a document's text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def chain_id(document_ids: Iterable[str]) -> str:
    """Return 16 hex digits that stand for a chain: its documents' ids in order."""
    digest = blake2b(digest_size=8)
    for name in document_ids:
        encoded = name.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


_NUMBERS = (
    *("pairs", "prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"),
    *("followed", "truncated", "fewer_exemplars", "rewritten"),
)
_LATER = frozenset({"reasoning_tokens", "fewer_exemplars", "rewritten"})
_BY_STATUS = ("documents", "prompt_tokens_by_status", "output_tokens_by_status")
_COUNTERS = (*_BY_STATUS, "rejected", "finish_reasons", "pairs_per_document")
_AT_TIMES = ("verdicts", "screened", "identifiers")  # what only some recipes and passes count


@dataclass(frozen=True)
class Counts:
    """Documents by status, pairs, rejections by reason, tokens; all plain sums.

    `followed` counts documents whose prompt held an earlier shot, `truncated` those that were shortened to fit,
    `fewer_exemplars` those beside which not all exemplars did;
    `verdicts` and `screened` are what second passes over a corpus count (`core.verdicts`, `core.screening`),
    `identifiers` what was found in documents before pairs were written, by kind, and under `documents` in how many;
    `pairs_per_document` counts documents by their number of pairs; the tokens by status say what went into documents
    without any.
    """

    documents: Counter[str] = field(default_factory=Counter)
    prompt_tokens_by_status: Counter[str] = field(default_factory=Counter)
    output_tokens_by_status: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    pairs_per_document: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    screened: Counter[str] = field(default_factory=Counter)
    identifiers: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    followed: int = 0
    truncated: int = 0
    fewer_exemplars: int = 0
    rewritten: int = 0

    @classmethod
    def of(cls, results: Iterable[Synthesized]) -> Self:
        """Count `results`."""
        results = list(results)
        kept = [(len(result.pairs), result.synthesis) for result in results]
        return cls(
            documents=Counter(s.status.value for _, s in kept),
            prompt_tokens_by_status=_summed((s.status.value, s.prompt_tokens) for _, s in kept),
            output_tokens_by_status=_summed((s.status.value, s.output_tokens) for _, s in kept),
            rejected=Counter(rejected.reason.value for _, s in kept for rejected in s.rejected),
            finish_reasons=Counter(s.finish_reason for _, s in kept if s.finish_reason),
            pairs_per_document=Counter(str(number) for number, _ in kept),
            verdicts=_summed(item for one in results if one.scored for item in one.scored.counts().items()),
            identifiers=Counter(name for _, s in kept if s.identifiers for name in ("documents", *s.identifiers)),
            pairs=sum(number for number, _ in kept),
            prompt_tokens=sum(s.prompt_tokens for _, s in kept),
            cached_tokens=sum(s.cached_tokens for _, s in kept),
            output_tokens=sum(s.output_tokens for _, s in kept),
            reasoning_tokens=sum(s.reasoning_tokens for _, s in kept),
            followed=sum(s.follows for _, s in kept),
            truncated=sum(s.truncated > 0 for _, s in kept),
            fewer_exemplars=sum(s.exemplars_left_out > 0 for _, s in kept),
            rewritten=sum(s.rewritten is not None for _, s in kept),
        )

    def __add__(self, other: Self) -> Self:
        sums = {name: getattr(self, name) + getattr(other, name) for name in (*_NUMBERS, *_COUNTERS, *_AT_TIMES)}
        return type(self)(**sums)

    @property
    def total_documents(self) -> int:
        """All documents, whatever their status."""
        return sum(self.documents.values())

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens the engine really computed: those not found in its prefix cache."""
        return self.prompt_tokens - self.cached_tokens

    @property
    def cached_share(self) -> float | None:
        """The share of prompt tokens that the engine found in its prefix cache; None where there was no prompt."""
        return round(self.cached_tokens / self.prompt_tokens, 4) if self.prompt_tokens else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, every status present, counters sorted; `from_dict` reads them back."""
        counters = {name: dict(sorted(getattr(self, name).items())) for name in _COUNTERS}
        counters["pairs_per_document"] = dict(sorted(self.pairs_per_document.items(), key=lambda item: int(item[0])))
        for name in _BY_STATUS:
            counters[name] = {status.value: getattr(self, name)[status.value] for status in Status}
        at_times = {name: dict(sorted(found.items())) for name in _AT_TIMES if (found := getattr(self, name))}
        return {**counters, **{name: getattr(self, name) for name in _NUMBERS}, **at_times}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, also that of a version that counted fewer things."""
        counters: dict[str, Any] = {name: +Counter(values[name]) for name in _COUNTERS}
        counters |= {name: Counter(values.get(name, {})) for name in _AT_TIMES}
        return cls(**counters, **{name: values.get(name, 0) if name in _LATER else values[name] for name in _NUMBERS})


def _summed(numbers: Iterable[tuple[str, int]]) -> Counter[str]:
    """Return the sum of the numbers of each name, without those that are nothing."""
    found: Counter[str] = Counter()
    for name, number in numbers:
        found[name] += number
    return +found


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a completion held: the pairs in order, what was thrown away, and what was thought before.

    `rewritten` is the text that was asked for instead of pairs.
    """

    pairs: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]
    reasoning_tokens: int = 0
    reasoning: str | None = None
    rewritten: str | None = None


Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """A document and the pairs written about it, as an earlier shot shows them.

    `asked` is what was asked about it in words, document included, where a prompt recipe did so.
    """

    document: str
    pairs: tuple[Pair, ...]
    asked: str | None = None
