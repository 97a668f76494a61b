"""Score what a synthesizer says against what people wrote: answers by the SQuAD definition, pairs by best matching.

Pure functions of text. All scores lie between 0 and 1. Knows nothing of models, documents or files.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hfsynth.lexical import CHARACTER
from hfsynth.records import Pair

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
    ours, theirs = ([_tokens(f"{pair.instruction} {pair.response}") for pair in pairs] for pairs in (generated, gold))
    matched = largest_matching([[_f1(one, other) for other in theirs] for one in ours])
    return PairQuality(2 * matched / (len(ours) + len(theirs)), matched / len(ours), matched / len(theirs))


def largest_matching(weights: Sequence[Sequence[float]]) -> float:
    """Return the largest sum of weights that takes at most one from each row and column; exact.

    Shortest augmenting paths (Jonker and Volgenant, 1987), cubic in the shorter side. `weights` is a full table
    without negative numbers.
    """
    if len(weights) > len(weights[0]):
        weights = list(zip(*weights, strict=True))
    matching = _Matching(weights)
    for row in range(len(weights)):
        matching.add(row)
    return sum(weights[row][column] for column, row in enumerate(matching.row_of) if row is not None)


class _Matching:
    """A best matching of the rows added so far. Costs are negative weights; no table has more rows than columns."""

    def __init__(self, weights: Sequence[Sequence[float]]) -> None:
        self._weights = weights
        self._of_rows = [0.0] * len(weights)  # what the dual problem charges for a row, and for a column
        self._of_columns = [0.0] * len(weights[0])
        self.row_of: list[int | None] = [None] * len(weights[0])

    def add(self, row: int) -> None:
        """Match one more row, at the least cost for all."""
        distance = [float("inf")] * len(self.row_of)
        via: list[int | None] = [None] * len(self.row_of)  # the column before a column on the cheapest path to it
        reached: list[int] = []
        here, column, so_far = row, None, 0.0
        while True:
            left = [number for number in range(len(self.row_of)) if number not in reached]
            for number in left:
                cost = so_far - self._weights[here][number] - self._of_rows[here] - self._of_columns[number]
                if cost < distance[number]:
                    distance[number], via[number] = cost, column
            column = min(left, key=lambda number: distance[number])
            so_far = distance[column]
            reached.append(column)
            owner = self.row_of[column]
            if owner is None:
                break
            here = owner
        self._charge(row, reached, distance, so_far)
        self._take(row, column, via)

    def _charge(self, row: int, reached: Sequence[int], distance: Sequence[float], total: float) -> None:
        self._of_rows[row] += total
        for column in reached:
            owner = self.row_of[column]
            if owner is not None:
                self._of_rows[owner] += total - distance[column]
            self._of_columns[column] -= total - distance[column]

    def _take(self, row: int, column: int, via: Sequence[int | None]) -> None:
        """Hand each column on the path to the row before it."""
        while (before := via[column]) is not None:
            self.row_of[column] = self.row_of[before]
            column = before
        self.row_of[column] = row


def _tokens(text: str) -> Counter[str]:
    return Counter(normalized(text).split())


def _f1(one: Counter[str], other: Counter[str]) -> float:
    if not one or not other:
        return float(not one and not other)
    return 2 * (one & other).total() / (one.total() + other.total())
