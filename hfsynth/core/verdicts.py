"""What a judge says of pairs: scores, what they cost, and their counts. Knows nothing of how anybody is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

BINS = 10
SURE = 0.5
"""The score from which a pair counts as relevant, or accurate."""

TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Scores:
    """How likely a judge holds a pair to be relevant and accurate, from 0 to 1; None where it did not say.

    `unjudged` says why there is no verdict.
    """

    relevance: float | None = None
    accuracy: float | None = None
    unjudged: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of pairs, in their order, and what they cost in tokens.

    `all_scores` are those of pairs that were taken out since, too.
    """

    scores: tuple[Scores, ...]
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    all_scores: tuple[Scores, ...] | None = None

    @property
    def computed_tokens(self) -> int:
        """What the engine computed: tokens that it wrote, and those of prompts that it did not find in its cache."""
        return self.prompt_tokens - self.cached_tokens + self.output_tokens

    def to_list(self) -> list[Any]:
        """Return JSON values; `from_list` reads them back."""
        every = None if self.all_scores is None else [_plain(one) for one in self.all_scores]
        return [[_plain(one) for one in self.scores], *(getattr(self, name) for name in TOKENS), every]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> Scored:
        """Read what `to_list` wrote."""
        scores, prompt, cached, output, every = values
        whole = None if every is None else tuple(Scores(*one) for one in every)
        return cls(tuple(Scores(*one) for one in scores), prompt, cached, output, whole)

    def counts(self) -> Counter[str]:
        """Return what there is to count: pairs, those relevant and accurate, scores by tenths, tokens."""
        found = Counter({name: getattr(self, name) for name in TOKENS})
        for one in self.scores if self.all_scores is None else self.all_scores:
            found += _counted(one)
        return found


def _plain(scores: Scores) -> list[Any]:
    return [scores.relevance, scores.accuracy, scores.unjudged]


def _counted(scores: Scores) -> Counter[str]:
    if scores.relevance is None or scores.accuracy is None:
        return Counter({"pairs": 1, f"unjudged_{scores.unjudged}": 1})
    said = {"relevance": scores.relevance, "accuracy": scores.accuracy}
    sure = Counter({name: 1 for name, score in said.items() if score >= SURE})
    return Counter({"pairs": 1, "judged": 1}) + sure + Counter(bin_name(name, score) for name, score in said.items())


def bin_name(name: str, score: float) -> str:
    """Return the counter of the tenth that a score lies in: `accuracy_3` from 0.3 to before 0.4."""
    return f"{name}_{min(int(score * BINS), BINS - 1)}"


def told_counts(counts: Counter[str], names: Iterable[str]) -> dict[str, Any]:
    """Return the counts of verdicts as a job's statistics say them: shares, scores by tenths, reasons, tokens."""
    judged = counts["judged"]
    tokens = {name: counts[name] for name in TOKENS}
    return {
        "pairs": counts["pairs"],
        "judged": judged,
        "unjudged": {
            name.removeprefix("unjudged_"): number
            for name, number in sorted(counts.items())
            if name.startswith("unjudged_")
        },
        **{name: round(counts[name] / judged, 4) if judged else None for name in names},
        "scores": {name: [counts[f"{name}_{number}"] for number in range(BINS)] for name in names},
        **tokens,
        "computed_tokens": tokens["prompt_tokens"] - tokens["cached_tokens"] + tokens["output_tokens"],
    }
