"""Several completions about one document, and the best of their pairs: by agreement, by measures, or by a judge.

By measures of their text and by a judge, as many pairs are kept as a completion holds on average; by agreement, those
that together agree best with all completions. The others are rejected as `not_chosen`, and as `duplicate_question`
where a kept or an earlier one asks the same. Knows nothing of prompts, files or engines.
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
from hfsynth.quality.gold_scoring import similarities
from hfsynth.quality.measures import answer_leak, foreign_names, foreign_numbers, grounding
from hfsynth.quality.rubric import RubricJudge

_SAID_NOTHING = 10.0  # more than any two pairs differ by
_NOTHING_MORE = 1e-9  # sums of the same numbers in another order differ by less


@dataclass(frozen=True, slots=True)
class Answered:
    """What was read out of the completions about one document, these as one, and the tokens of all that was asked."""

    parsed: Parsed
    completion: Completion
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """How many completions there are about a document, and who chooses: a judge, agreement, or else measures."""

    number: int = 1
    judge: RubricJudge | None = None
    agreement: bool = False

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
        if self.agreement:
            return Answered(chosen(parsed, pairs, agreed(parsed, pairs)), whole, asked)
        if self.judge is None or not pairs:
            measures = [measured(text, pair) for pair in pairs]
            return Answered(chosen(parsed, pairs, worthiest(parsed, pairs, measures)), whole, asked)
        scored = yield from self.judge.chain(text, pairs, shot=shot)
        cost = replace(
            whole,
            cached_tokens=whole.cached_tokens + scored.cached_tokens,
            output_tokens=whole.output_tokens + scored.output_tokens,
        )
        worths = [_judged(one, text, pair) for one, pair in zip(scored.scores, pairs, strict=True)]
        return Answered(chosen(parsed, pairs, worthiest(parsed, pairs, worths)), cost, asked + scored.prompt_tokens)


def joined(completions: Sequence[Completion]) -> Completion:
    """Return several completions as one: their tokens together; an error only where each of them is one."""
    fine = [one for one in completions if one.error is None and one.finish_reason != "error"]
    told = next((one for one in fine if one.finish_reason == "length"), (fine or completions)[0])
    return replace(
        told,
        output_tokens=sum(one.output_tokens for one in completions),
        cached_tokens=sum(one.cached_tokens for one in completions),
    )


def chosen(parsed: Sequence[Parsed], pairs: Sequence[Pair], kept: Sequence[int]) -> Parsed:
    """Return those of the different `pairs` of several completions whose numbers are kept, and all that was rejected.

    Both are in the order in which they were written. `kept` are numbers of pairs that ask different questions.
    """
    asked = {folded_question(pairs[number].instruction) for number in kept}
    left: list[Rejected] = []
    for number, pair in enumerate(pairs):
        if number in kept:
            continue
        question = folded_question(pair.instruction)
        again = question in asked
        left.append(
            _duplicate(pair) if again else Rejected(Reason.NOT_CHOSEN, json.dumps(asdict(pair), ensure_ascii=False))
        )
        asked.add(question)
    return Parsed(
        tuple(pairs[number] for number in sorted(kept)),
        (*(one for read in parsed for one in read.rejected), *_repeated(parsed), *left),
        sum(one.reasoning_tokens for one in parsed),
    )


def worthiest(parsed: Sequence[Parsed], pairs: Sequence[Pair], worths: Sequence[float]) -> list[int]:
    """Return the numbers of the pairs worth most, as many as a completion holds on average.

    Of those that ask the same only one; of equally good ones the earlier.
    """
    filled = [one for one in parsed if one.pairs]
    most = math.ceil(sum(len(one.pairs) for one in filled) / len(filled)) if filled else 0
    best: dict[str, int] = {}
    for number in sorted(range(len(pairs)), key=lambda number: (-worths[number], number)):
        best.setdefault(folded_question(pairs[number].instruction), number)
    return list(best.values())[:most]


def agreed(parsed: Sequence[Parsed], pairs: Sequence[Pair]) -> list[int]:
    """Return the numbers of the pairs that together agree best with all completions.

    What they are worth is their mean F1 with a completion, as people's pairs judge a synthesizer
    (`quality.gold_scoring.pair_quality`), matched the most similar first. The pair that adds most is kept, the earlier
    of equals, until none adds anything. That is decoding for the least Bayes risk (Kumar and Byrne, NAACL 2004), pair
    by pair.
    """
    numbers = {pair: number for number, pair in enumerate(pairs)}
    completions = [[numbers[pair] for pair in one.pairs] for one in parsed if one.pairs]
    alike = similarities(pairs, pairs)
    left = {number: folded_question(pair.instruction) for number, pair in enumerate(pairs)}
    kept: list[int] = []
    worth = 0.0
    while left:
        worths = {number: _agreement(alike, [*kept, number], completions) for number in left}
        most = max(left, key=worths.__getitem__)
        if worths[most] <= worth + _NOTHING_MORE:
            break
        worth = worths[most]
        kept.append(most)
        left = {number: question for number, question in left.items() if question != left[most]}
    return kept


def _agreement(alike: Sequence[Sequence[float]], kept: Sequence[int], completions: Sequence[Sequence[int]]) -> float:
    """Return the sum over completions, each the numbers of its pairs, of the F1 of the kept ones with it."""
    return sum(2 * _matched(alike, kept, written) / (len(kept) + len(written)) for written in completions)


def _matched(alike: Sequence[Sequence[float]], some: Sequence[int], others: Sequence[int]) -> float:
    """Return the similarities of pairs matched one to one, the most similar first."""
    matched, ours, theirs = 0.0, set(some), set(others)
    for similarity, one, other in sorted(
        ((alike[one][other], one, other) for one in some for other in others), reverse=True
    ):
        if one in ours and other in theirs:
            matched += similarity
            ours.remove(one)
            theirs.remove(other)
    return matched


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
