"""What a job counted. Statistics of parts merge by addition into those of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from hfsynth.records import Status, Synthesized

_NUMBERS = ("pairs", "prompt_tokens", "cached_tokens", "output_tokens", "followed", "truncated")
_BY_STATUS = ("documents", "prompt_tokens_by_status", "output_tokens_by_status")
_COUNTERS = (*_BY_STATUS, "rejected", "finish_reasons", "pairs_per_document")


@dataclass(frozen=True)
class Counts:
    """Documents by status, pairs, rejections by reason, tokens; all plain sums.

    `followed` counts documents whose prompt held an earlier shot, `truncated` those that were shortened to fit;
    `pairs_per_document` counts documents by their number of pairs; the tokens by status say what went into documents
    without any.
    """

    documents: Counter[str] = field(default_factory=Counter)
    prompt_tokens_by_status: Counter[str] = field(default_factory=Counter)
    output_tokens_by_status: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    pairs_per_document: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    followed: int = 0
    truncated: int = 0

    @classmethod
    def of(cls, results: Iterable[Synthesized]) -> Self:
        """Count `results`."""
        kept = [(len(result.pairs), result.synthesis) for result in results]
        return cls(
            documents=Counter(s.status.value for _, s in kept),
            prompt_tokens_by_status=_summed((s.status.value, s.prompt_tokens) for _, s in kept),
            output_tokens_by_status=_summed((s.status.value, s.output_tokens) for _, s in kept),
            rejected=Counter(rejected.reason.value for _, s in kept for rejected in s.rejected),
            finish_reasons=Counter(s.finish_reason for _, s in kept if s.finish_reason),
            pairs_per_document=Counter(str(number) for number, _ in kept),
            pairs=sum(number for number, _ in kept),
            prompt_tokens=sum(s.prompt_tokens for _, s in kept),
            cached_tokens=sum(s.cached_tokens for _, s in kept),
            output_tokens=sum(s.output_tokens for _, s in kept),
            followed=sum(s.follows for _, s in kept),
            truncated=sum(s.truncated > 0 for _, s in kept),
        )

    def __add__(self, other: Self) -> Self:
        sums = {name: getattr(self, name) + getattr(other, name) for name in (*_NUMBERS, *_COUNTERS)}
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
        return {**counters, **{name: getattr(self, name) for name in _NUMBERS}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        counters: dict[str, Any] = {name: +Counter(values[name]) for name in _COUNTERS}
        return cls(**counters, **{name: values[name] for name in _NUMBERS})


def _summed(numbers: Iterable[tuple[str, int]]) -> Counter[str]:
    """Return the sum of the numbers of each name, without those that are nothing."""
    found: Counter[str] = Counter()
    for name, number in numbers:
        found[name] += number
    return +found
