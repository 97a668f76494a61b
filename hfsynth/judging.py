"""Judge a synthesizer on one gold document: prompts with gold examples as earlier shots, completions into figures.

Two tasks, after Instruction Pre-Training (the evaluation of its synthesizer): the answer to a gold instruction, and
the pairs about a context. Knows nothing of engines, files or means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hfsynth.chains import Chain, Completion, Request, Turn
from hfsynth.prompts import Chat, InstructionPretrain
from hfsynth.records import Pair, Reason, Rejected
from hfsynth.scoring import PairQuality, exact_match, pair_quality, token_f1
from hfsynth.streams import Stream
from hfsynth.training_data import Example

T = TypeVar("T")

_AT_LEAST = 8  # so small a source shows all it has


@dataclass(frozen=True, slots=True)
class Case:
    """A gold document, and the gold examples that may be shown before it. `shots` is how many were asked for."""

    gold: str
    shots: int
    number: int
    example: Example
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What one request cost and how it ended. `shown` is how many earlier shots were in its prompt."""

    shown: int
    prompt_tokens: int
    output_tokens: int
    cut_off: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one gold instruction; `said` is None where the question did not fit the window."""

    case: Case
    f1: float = 0.0
    exact_match: float = 0.0
    said: Said | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The pairs about a document; `said` is None where it did not fit the window."""

    case: Case
    quality: PairQuality | None = None
    pairs: int = 0
    rejected: tuple[Rejected, ...] = ()
    said: Said | None = None

    @property
    def duplicates(self) -> int:
        """How many pairs asked a question again; they are not among `pairs`."""
        return sum(item.reason is Reason.DUPLICATE_QUESTION for item in self.rejected)


@dataclass(frozen=True, slots=True)
class Judge:
    """Everything that a judged request needs to know besides its case. `window` and `max_tokens` are in tokens."""

    prompts: InstructionPretrain | Chat
    window: int
    max_tokens: int
    seed: int = 0

    def answers(self, case: Case) -> Iterator[Chain[Answered]]:
        """Yield a chain of one request for each gold pair of a document."""
        for number, pair in enumerate(case.example.pairs):
            yield self._answer(case, number, pair)

    def pairs(self, case: Case) -> Chain[Written]:
        """Ask for the pairs about a document and compare them with the gold ones."""
        document = case.example.context
        fitted = self._fit(case, lambda history: self.prompts.prompt(history, document))
        if fitted is None:
            return Written(case)
        completion = yield self._request(case, "pairs", *fitted)
        said = _said(completion, *fitted)
        if said.failed:
            return Written(case, said=said)
        parsed = self.prompts.parse(completion.text, cut_off=said.cut_off)
        quality = pair_quality(parsed.pairs, case.example.pairs)
        return Written(case, quality, len(parsed.pairs), parsed.rejected, said)

    def _answer(self, case: Case, number: int, pair: Pair) -> Chain[Answered]:
        document = case.example.context
        fitted = self._fit(case, lambda history: self.prompts.ask(history, document, pair.instruction))
        if fitted is None:
            return Answered(case)
        completion = yield self._request(case, f"answer {number}", *fitted)
        answer = self.prompts.parse_answer(completion.text)
        scores = token_f1(answer, pair.response), exact_match(answer, pair.response)
        return Answered(case, *scores, _said(completion, *fitted))

    def _fit(self, case: Case, prompt: Callable[[Sequence[Turn]], list[int]]) -> tuple[list[int], int] | None:
        """Return the prompt with as many of the first shots as fit, and their number; None when nothing fits."""
        for shown in range(len(case.history), -1, -1):
            token_ids = prompt(case.history[:shown])
            if len(token_ids) <= self.window - self.max_tokens:
                return token_ids, shown
        return None

    def _request(self, case: Case, what: str, token_ids: list[int], shown: int) -> Request:
        name = f"{what}/{self.seed}/{case.gold}/{case.number}/{case.shots}"
        return Request(token_ids, shown, Stream(name).below(2**31))


def cases(
    gold: str, examples: Sequence[Example], *, shots: Sequence[int], limit: int | None, seed: int
) -> Iterator[Case]:
    """Yield a case for each document and number of shots; of each source at most `limit` documents.

    Which ones, and which examples are shown before them, is drawn from the seed, for each source by itself. Shown are
    the first so many drawn from the quarter of the source with the shortest contexts, without the document itself and
    with the longest of them last, where a short window drops it first. So most prompts of a source begin alike, and
    that beginning is computed once.
    """
    by_source: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        by_source.setdefault(example.source, []).append(number)
    for source, numbers in sorted(by_source.items()):
        shown = _drawn(_short([examples[number] for number in numbers]), f"shots/{seed}/{gold}/{source}")
        kept = sorted(_drawn(numbers, f"documents/{seed}/{gold}/{source}")[:limit])
        for count in sorted(set(shots)):
            for number in kept:
                example = examples[number]
                others = [other for other in shown if other.context != example.context][:count]
                history = tuple(Turn(other.context, other.pairs) for other in sorted(others, key=_length))
                yield Case(gold, count, number, example, history)


def _short(examples: Sequence[Example]) -> list[Example]:
    return sorted(examples, key=_length)[: max(_AT_LEAST, (len(examples) + 3) // 4)]


def _length(example: Example) -> int:
    return len(example.context)


def _drawn(items: Sequence[T], name: str) -> list[T]:
    return [items[position] for position in Stream(name).order(len(items))]


def _said(completion: Completion, token_ids: Sequence[int], shown: int) -> Said:
    return Said(
        shown=shown,
        prompt_tokens=len(token_ids),
        output_tokens=completion.output_tokens,
        cut_off=completion.finish_reason == "length",
        failed=completion.error is not None or completion.finish_reason == "error",
    )
