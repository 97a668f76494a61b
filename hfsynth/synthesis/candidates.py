"""Several completions about one document, and the best of their pairs: by measures of their text, or by a judge.

As many pairs are kept as a completion holds on average. The others are rejected as `not_chosen`, and as
`duplicate_question` where a better one asks the same. Knows nothing of prompts, files or engines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace

from hfsynth.core.records import Pair, Parsed, Reason, Rejected
from hfsynth.core.verdicts import Scores
from hfsynth.engine.protocol import Completion, Request
from hfsynth.prompting.parsing import folded_question
from hfsynth.quality.measures import answer_leak, foreign_names, foreign_numbers, grounding
from hfsynth.quality.rubric import RubricJudge

_SAID_NOTHING = 10.0  # more than any two pairs differ by


@dataclass(frozen=True, slots=True)
class Answered:
    """What was read out of the completions about one document, these as one, and the tokens of all that was asked."""

    parsed: Parsed
    completion: Completion
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """How many completions there are about a document, and who chooses among their pairs: a judge, or measures."""

    number: int = 1
    judge: RubricJudge | None = None

    def best(
        self, completions: Sequence[Completion], parsed: Sequence[Parsed], text: str, *, prompt_tokens: int, shot: int
    ) -> Generator[Request, Completion, Answered]:
        """Choose among the pairs about `text`; a judge is asked about each different one of them once.

        `prompt_tokens` are those of each completion. A single completion is taken as it is.
        """
        if self.number == 1:
            return Answered(parsed[0], completions[0], prompt_tokens)
        whole = joined(completions)
        pairs = tuple(dict.fromkeys(pair for one in parsed for pair in one.pairs))
        asked = len(completions) * prompt_tokens
        if self.judge is None or not pairs:
            worths: list[float] = [measured(text, pair) for pair in pairs]
            return Answered(chosen(parsed, pairs, worths), whole, asked)
        scored = yield from self.judge.chain(text, pairs, shot=shot)
        cost = replace(
            whole,
            cached_tokens=whole.cached_tokens + scored.cached_tokens,
            output_tokens=whole.output_tokens + scored.output_tokens,
        )
        worths = [_judged(one, text, pair) for one, pair in zip(scored.scores, pairs, strict=True)]
        return Answered(chosen(parsed, pairs, worths), cost, asked + scored.prompt_tokens)


def joined(completions: Sequence[Completion]) -> Completion:
    """Return several completions as one: their tokens together; an error only where each of them is one."""
    fine = [one for one in completions if one.error is None and one.finish_reason != "error"]
    told = next((one for one in fine if one.finish_reason == "length"), (fine or completions)[0])
    return replace(
        told,
        output_tokens=sum(one.output_tokens for one in completions),
        cached_tokens=sum(one.cached_tokens for one in completions),
    )


def chosen(parsed: Sequence[Parsed], pairs: Sequence[Pair], worths: Sequence[float]) -> Parsed:
    """Return the best of the different `pairs` of several completions, in their order, and all that was rejected.

    One pair is kept of those that ask the same; of equally good ones the earlier.
    """
    filled = [one for one in parsed if one.pairs]
    most = math.ceil(sum(len(one.pairs) for one in filled) / len(filled)) if filled else 0
    order = sorted(range(len(pairs)), key=lambda number: (-worths[number], number))
    asked: set[str] = set()
    kept: set[int] = set()
    rejected: dict[int, Rejected] = {}
    for number in order:
        pair, question = pairs[number], folded_question(pairs[number].instruction)
        if question in asked:
            rejected[number] = _duplicate(pair)
        elif len(kept) < most:
            kept.add(number)
        else:
            rejected[number] = Rejected(Reason.NOT_CHOSEN, json.dumps(asdict(pair), ensure_ascii=False))
        asked.add(question)
    left = [rejected[number] for number in sorted(rejected)]
    return Parsed(
        tuple(pairs[number] for number in sorted(kept)),
        (*(one for read in parsed for one in read.rejected), *_repeated(parsed), *left),
        sum(one.reasoning_tokens for one in parsed),
    )


def measured(text: str, pair: Pair) -> float:
    """Return what a pair about `text` is worth by measures: grounded, with nothing foreign, not in its own question."""
    foreign = bool(foreign_numbers(text, pair.response) or foreign_names(text, pair.response))
    return grounding(text, pair.response) - answer_leak(pair.instruction, pair.response) - foreign


def _judged(scores: Scores, text: str, pair: Pair) -> float:
    """Return what a judge holds of a pair; one of which it says nothing comes after all others."""
    if scores.relevance is None or scores.accuracy is None:
        return measured(text, pair) - _SAID_NOTHING
    return scores.relevance * scores.accuracy


def _repeated(parsed: Sequence[Parsed]) -> list[Rejected]:
    """Return the pairs that another completion holds too, to the letter."""
    seen: set[Pair] = set()
    found: list[Rejected] = []
    for pair in (pair for one in parsed for pair in one.pairs):
        if pair in seen:
            found.append(_duplicate(pair))
        seen.add(pair)
    return found


def _duplicate(pair: Pair) -> Rejected:
    return Rejected(Reason.DUPLICATE_QUESTION, f"{pair.instruction}\n{pair.response}")
