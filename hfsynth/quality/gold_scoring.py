"""Score what a synthesizer writes against what people wrote, one gold document after the other.

Two tasks, after Instruction Pre-Training (the evaluation of its synthesizer): the answer to a gold instruction, by the
SQuAD definition, and the pairs about a context, by the best matching. Gold examples are shown as earlier shots. All
scores lie between 0 and 1. Knows nothing of engines, files or means.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from hfsynth.core.draws import Draws
from hfsynth.core.errors import ConfigError
from hfsynth.core.records import Document, Pair, Reason, Rejected, Turn
from hfsynth.documents.examples import Example
from hfsynth.engine.protocol import Chain, Completion, Request
from hfsynth.prompting.chat import Chat
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.prompting.recipe_chat import Asked, PromptDraw
from hfsynth.quality.measures import Evidence
from hfsynth.quality.task_categories import category_of
from hfsynth.quality.words import CHARACTER, UNKNOWN, differ, language_of

# The punctuation of scripts that put no spaces between words.
_UNSPACED_PUNCTUATION = (
    "\u0e4f\u0e5a\u0e5b\u0f04-\u0f14\u17d4-\u17da\u3001-\u3003\u3008-\u3011\u3014-\u301f\u30fb"
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CHARACTER = re.compile(f"({CHARACTER})")
_FOREIGN_PUNCTUATION = re.compile(f"[{_UNSPACED_PUNCTUATION}]")


def normalized(text: str) -> str:
    """Return an answer as SQuAD 1.1 compares it: lower case, no ASCII punctuation, no English article, single spaces.

    Beyond SQuAD: characters of scripts without spaces between words (Chinese, Japanese, Thai and others) become a
    token each, with the marks on them, and their own punctuation is dropped, as multilingual evaluations do. Text
    without such characters, and so every English one, gives exactly what SQuAD's definition gives.
    """
    bare = _PUNCTUATION.sub("", text.lower())
    plain = _ARTICLES.sub(" ", _FOREIGN_PUNCTUATION.sub(" ", bare))
    return " ".join(_CHARACTER.sub(r" \1 ", plain).split())


def exact_match(prediction: str, reference: str) -> float:
    """Return 1 where two answers are the same once normalised, else 0 (SQuAD 1.1)."""
    return float(normalized(prediction) == normalized(reference))


def token_f1(prediction: str, reference: str) -> float:
    """Return the F1 of two answers' tokens, each counted as often as it occurs (SQuAD 1.1).

    Two answers of which nothing is left once normalised agree: 1, as SQuAD 2.0 defines it; one such answer gives 0.
    """
    return _f1(_tokens(prediction), _tokens(reference))


def best(score: Callable[[str, str], float], prediction: str, references: Iterable[str]) -> float:
    """Return the score against the reference that fits best, as SQuAD takes it; 0 without a reference."""
    return max((score(prediction, reference) for reference in references), default=0.0)


@dataclass(frozen=True, slots=True)
class PairQuality:
    """How well generated pairs match gold ones: soft precision and recall, and their F1."""

    f1: float
    precision: float
    recall: float


def pair_quality(generated: Sequence[Pair], gold: Sequence[Pair]) -> PairQuality:
    """Match generated pairs with gold ones, one to one, so that the sum of similarities is largest.

    The similarity of two pairs is the token F1 of instruction and response read as one text. Precision is the sum
    over the number of generated pairs, recall over that of gold ones, F1 twice the sum over both numbers. No pair on
    both sides is perfect, on one side alone worth 0. The paper judges synthesizers by such an F1; the matching is ours.
    """
    if not generated or not gold:
        score = float(not generated and not gold)
        return PairQuality(score, score, score)
    matched = largest_matching(similarities(generated, gold))
    return PairQuality(2 * matched / (len(generated) + len(gold)), matched / len(generated), matched / len(gold))


def similarities(pairs: Sequence[Pair], others: Sequence[Pair]) -> list[list[float]]:
    """Return how similar each pair is to each other one: the token F1 of instruction and response read as one text."""
    ours, theirs = ([_tokens(f"{pair.instruction} {pair.response}") for pair in some] for some in (pairs, others))
    return [[_f1(one, other) for other in theirs] for one in ours]


def largest_matching(weights: Sequence[Sequence[float]]) -> float:
    """Return the largest sum of weights that takes at most one from each row and column; exact.

    `weights` is a full table. Raise ConfigError where scipy is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ConfigError(
            "Generated pairs are matched with gold ones by scipy, which is not installed.",
            hint="Run `pip install 'hfsynth[evaluate]'`.",
        ) from error
    rows, columns = linear_sum_assignment(weights, maximize=True)
    return float(sum(weights[row][column] for row, column in zip(rows, columns, strict=True)))


def _tokens(text: str) -> Counter[str]:
    return Counter(normalized(text).split())


def _f1(one: Counter[str], other: Counter[str]) -> float:
    if not one or not other:
        return float(not one and not other)
    return 2 * (one & other).total() / (one.total() + other.total())


T = TypeVar("T")

_AT_LEAST = 8  # so small a source shows all it has


@dataclass(frozen=True, slots=True)
class Case:
    """A gold document, and the gold examples that may be shown before it. `shots` is how many were asked for.

    `exemplars` are those of the recipe; they are shown before everything else.
    """

    gold: str
    shots: int
    number: int
    example: Example
    history: tuple[Turn, ...] = ()
    exemplars: tuple[Turn, ...] = ()

    @property
    def before(self) -> tuple[Turn, ...]:
        """What is shown before the document, as far as it fits."""
        return (*self.exemplars, *self.history)

    @property
    def asked(self) -> int:
        """How many shots were to be shown."""
        return self.shots + len(self.exemplars)


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """What one request cost and how it ended. `shown` is how many earlier shots were in its prompt."""

    shown: int
    prompt_tokens: int
    output_tokens: int
    cut_off: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """The answer to one gold instruction; `said` is None where the question did not fit the window."""

    case: Case
    f1: float = 0.0
    exact_match: float = 0.0
    said: RequestOutcome | None = None


@dataclass(frozen=True, slots=True)
class PairsScore:
    """The pairs about a document; `said` is None where it did not fit the window, or no prompt of a recipe was for it.

    `tasks` are the pairs' kinds; `foreign` says of those whose language is known whether it is not the document's;
    `grounding` is the share of each response's content words that are in the document (see `quality.measures`).
    """

    case: Case
    quality: PairQuality | None = None
    pairs: int = 0
    rejected: tuple[Rejected, ...] = ()
    said: RequestOutcome | None = None
    tasks: tuple[str, ...] = ()
    foreign: tuple[bool, ...] = ()
    grounding: tuple[float, ...] = ()
    fits_no_prompt: bool = False

    @property
    def duplicates(self) -> int:
        """How many pairs asked a question again; they are not among `pairs`."""
        return sum(item.reason is Reason.DUPLICATE_QUESTION for item in self.rejected)


@dataclass(frozen=True, slots=True)
class GoldJudge:
    """Everything that a judged request needs to know besides its case. `window` and `max_tokens` are in tokens.

    `draw` gives each document a prompt of a recipe that its pairs are asked for with.
    """

    prompts: InstructionPretrain | Chat
    window: int
    max_tokens: int
    seed: int = 0
    draw: PromptDraw | None = None

    def answers(self, case: Case) -> Iterator[Chain[AnswerScore]]:
        """Yield a chain of one request for each gold pair of a document."""
        for number, pair in enumerate(case.example.pairs):
            yield self._answer(case, number, pair)

    def pairs(self, case: Case) -> Chain[PairsScore]:
        """Ask for the pairs about a document and compare them with the gold ones."""
        document = case.example.context
        prompts, schema = self._prompts(case)
        if prompts is None:
            return PairsScore(case, fits_no_prompt=True)
        fitted = self._fit(case, lambda history: prompts.prompt(history, document))
        if fitted is None:
            return PairsScore(case)
        completion = yield replace(self._request(case, "pairs", *fitted), json_schema=schema)
        said = _said(completion, *fitted)
        if said.failed:
            return PairsScore(case, said=said)
        parsed = prompts.parse(completion.text, cut_off=said.cut_off)
        quality = pair_quality(parsed.pairs, case.example.pairs)
        tasks = tuple(category_of(pair).value for pair in parsed.pairs)
        foreign = tuple(_foreign(document, parsed.pairs))
        evidence = Evidence.of(document)
        grounding = tuple(evidence.grounding(pair.response) for pair in parsed.pairs)
        return PairsScore(case, quality, len(parsed.pairs), parsed.rejected, said, tasks, foreign, grounding)

    def _prompts(self, case: Case) -> tuple[InstructionPretrain | Chat | Asked | None, str | None]:
        """Return what pairs are asked for with, and its schema; None where the recipe has no prompt for a document."""
        if self.draw is None:
            return self.prompts, None
        document = case.example.context
        drawn = self.draw.about(Document(f"{case.gold}/{case.number}", document), document)
        return (drawn.prompts, drawn.prompts.json_schema) if drawn else (None, None)

    def _answer(self, case: Case, number: int, pair: Pair) -> Chain[AnswerScore]:
        document = case.example.context
        fitted = self._fit(case, lambda history: self.prompts.ask(history, document, pair.instruction))
        if fitted is None:
            return AnswerScore(case)
        completion = yield self._request(case, f"answer {number}", *fitted)
        answer = self.prompts.parse_answer(completion.text)
        scores = token_f1(answer, pair.response), exact_match(answer, pair.response)
        return AnswerScore(case, *scores, _said(completion, *fitted))

    def _fit(self, case: Case, prompt: Callable[[Sequence[Turn]], list[int]]) -> tuple[list[int], int] | None:
        """Return the prompt with as many of the first shots as fit, and their number; None when nothing fits."""
        for shown in range(len(case.before), -1, -1):
            token_ids = prompt(case.before[:shown])
            if len(token_ids) <= self.window - self.max_tokens:
                return token_ids, shown
        return None

    def _request(self, case: Case, what: str, token_ids: list[int], shown: int) -> Request:
        name = f"{what}/{self.seed}/{case.gold}/{case.number}/{case.shots}"
        return Request(token_ids, shown, Draws(name).below(2**31))


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
    return [items[position] for position in Draws(name).order(len(items))]


def _foreign(document: str, pairs: Sequence[Pair]) -> Iterator[bool]:
    """Yield of each pair whose language is known, as the document's must be, whether it is another one."""
    own = language_of(document)
    for pair in pairs:
        language = language_of(f"{pair.instruction}\n{pair.response}")
        if UNKNOWN not in (own, language):
            yield differ(own, language)


def _said(completion: Completion, token_ids: Sequence[int], shown: int) -> RequestOutcome:
    return RequestOutcome(
        shown=shown,
        prompt_tokens=len(token_ids),
        output_tokens=completion.output_tokens,
        cut_off=completion.finish_reason == "length",
        failed=completion.error is not None or completion.finish_reason == "error",
    )
