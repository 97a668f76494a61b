"""How far a judge's scores may be trusted: pairs of which it is known what they are worth, and what it said of them.

Gold pairs are right; a response that belongs to another instruction about the same document is wrong; and a pair about
another document is not about this one. Pure; knows nothing of engines or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hfsynth.core.draws import Draws
from hfsynth.core.records import Pair
from hfsynth.core.verdicts import BINS
from hfsynth.documents.examples import Example
from hfsynth.quality.gold_scoring import normalized


@dataclass(frozen=True, slots=True)
class Known:
    """A pair about a document of which it is known whether it is relevant and whether its response is right.

    `accurate` is None where nobody can say: of a pair about another document.
    """

    document: str
    pair: Pair
    relevant: bool
    accurate: bool | None


@dataclass(frozen=True, slots=True)
class Told:
    """What a judge said, as a probability, and what is true."""

    probability: float
    true: bool


def known_pairs(examples: Sequence[Example], *, limit: int | None = None, seed: int = 0) -> Iterator[list[Known]]:
    """Yield for each gold document, or for `limit` drawn ones, a gold pair, a wrong one and one about another document.

    The wrong one has the gold instruction and the response of another pair about the document, where one says something
    else; where there is none, that of another document.
    """
    order = Draws(f"calibrate/{seed}").order(len(examples))
    for place, number in enumerate(order[:limit]):
        example, other = examples[number], examples[order[(place + 1) % len(order)]]
        draws = Draws(f"calibrate/{seed}/{number}")
        gold = example.pairs[draws.below(len(example.pairs))]
        found = [Known(example.context, gold, True, True)]
        responses = [pair.response for pair in (*example.pairs, *other.pairs) if _differ(pair.response, gold.response)]
        if responses:
            own = [one for one in responses if one in {pair.response for pair in example.pairs}] or responses
            found.append(Known(example.context, Pair(gold.instruction, own[draws.below(len(own))]), True, False))
        if other.context != example.context:
            found.append(Known(example.context, other.pairs[draws.below(len(other.pairs))], False, None))
        yield found


def _differ(one: str, other: str) -> bool:
    return normalized(one) != normalized(other)


def calibration(told: Sequence[Told]) -> dict[str, Any]:
    """Return AUROC, the reliability table and the expected calibration error as JSON values."""
    table = reliability(told)
    apart = sum(row["pairs"] * abs(row["said"] - row["true"]) for row in table)
    return {
        "pairs": len(told),
        "true": sum(one.true for one in told),
        "auroc": _rounded(auroc(told)),
        "calibration_error": _rounded(apart / len(told) if told else None),
        "reliability": table,
    }


def auroc(told: Sequence[Told]) -> float | None:
    """Return how often a true pair has a higher probability than one that is not, ties as a half.

    None where there are only true ones, or none. 0.5 is what guessing gives.
    """
    ranked = sorted(told, key=lambda one: one.probability)
    true = sum(one.true for one in told)
    if true in (0, len(told)):
        return None
    ranks, at = 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end].probability == ranked[at].probability:
            end += 1
        ranks += sum(one.true for one in ranked[at:end]) * (at + end + 1) / 2
        at = end
    return (ranks - true * (true + 1) / 2) / (true * (len(told) - true))


def reliability(told: Sequence[Told], bins: int = BINS) -> list[dict[str, Any]]:
    """Return for each part of the scale that holds pairs: from, to, pairs, the mean said, the share that is true."""
    found: list[dict[str, Any]] = []
    for number in range(bins):
        inside = [one for one in told if min(int(one.probability * bins), bins - 1) == number]
        if inside:
            said, true = sum(one.probability for one in inside), sum(one.true for one in inside)
            shares = {"said": _rounded(said / len(inside)), "true": _rounded(true / len(inside))}
            found.append({"from": number / bins, "to": (number + 1) / bins, "pairs": len(inside), **shares})
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
