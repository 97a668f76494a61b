"""Plan a mixture: its parts, their shares, and exactly what they give, before anything is written. Knows no widgets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hfsynth.core.errors import ConfigError
from hfsynth.documents.hf_datasets import open_splits
from hfsynth.page import markup
from hfsynth.page.commands import Ways, mixing
from hfsynth.texts.corpus_folder import tokenizer_place
from hfsynth.texts.layouts import Kind
from hfsynth.texts.mixing import MixReport, mix_splits, report_of
from hfsynth.texts.mixture_parts import Part

PARTS = 6
_TICK = 0.5


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A part of a mixture as the command names it: `augmented`, `raw-2`, and where its data are."""

    name: str
    kind: str
    location: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A mixture that is asked for. `weights` are by the part's name, in any unit; a part with 0 is left out.

    Without any weight every part is used whole, once.
    """

    parts: tuple[NamedPart, ...]
    tokenizer: str
    weights: Mapping[str, float] = field(default_factory=dict)
    budget_tokens: int | None = None
    repeat: tuple[str, ...] = ()
    seed: int = 0

    @property
    def used(self) -> tuple[NamedPart, ...]:
        """The parts that are in the mixture."""
        return tuple(part for part in self.parts if not self.weights or self.weights.get(part.name, 0) > 0)

    @property
    def ratios(self) -> dict[str, float] | None:
        """The share of each part that is used, None where every part is used whole."""
        total = sum(self.weights.get(part.name, 0) for part in self.used)
        if not self.weights or not total:
            return None
        shares = {part.name: round(self.weights[part.name] / total, 6) for part in self.used}
        last = self.used[-1].name
        return {**shares, last: round(1 - sum(share for name, share in shares.items() if name != last), 6)}

    def ways(self) -> Ways:
        """Return how the mixture is made from the command line and in Python."""
        parts = [(part.name, part.kind, part.location) for part in self.used]
        return mixing(
            parts,
            tokenizer=self.tokenizer,
            ratios=self.ratios,
            budget_tokens=self.budget_tokens,
            repeat=self.repeat,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """What a mixture has so far, and whether that is all of it."""

    report: MixReport
    seconds: float
    ended: bool


def named_parts(given: Mapping[str, Sequence[str]]) -> tuple[NamedPart, ...]:
    """Return the parts of some locations by kind, named as `hfsynth mix` names them; raise ConfigError for too many."""
    found = tuple(
        NamedPart(kind if number == 1 else f"{kind}-{number}", kind, location)
        for kind in (one.value for one in Kind)
        for number, location in enumerate(given.get(kind, ()), 1)
    )
    if len(found) > PARTS:
        raise ConfigError(f"There are {len(found)} parts; the page shows {PARTS}.", hint="Use hfsynth mix.")
    return found


def planned(
    parts: tuple[NamedPart, ...],
    tokenizer: str,
    weights: Sequence[float | None],
    budget: float | None,
    repeat: Sequence[str] | None,
    seed: float | None,
) -> Plan:
    """Return the plan that a page's widgets give: a weight for each part; a budget of 0 is none."""
    given = {part.name: float(weight or 0) for part, weight in zip(parts, weights, strict=True)}
    again = tuple(part.name for part in parts if part.name in (repeat or ()))
    named = given if any(given.values()) else {}
    return Plan(parts, tokenizer, named, int(budget) if budget else None, again, int(seed or 0))


def count(plan: Plan) -> Iterator[Counted]:
    """Yield what the mixture has so far, twice a second, and the whole of it last; nothing is written.

    Raise what `hfsynth.mix` raises: BudgetError where a part runs out, ConfigError for shares that cannot be.
    """
    if not plan.used:
        raise ConfigError("The mixture has no part.", hint="Give at least one part a share.")
    began = said = time.monotonic()
    parts = [
        Part(part.name, open_splits(part.location), Kind(part.kind), repeat=part.name in plan.repeat)
        for part in plan.used
    ]
    made = mix_splits(
        parts,
        tokenizer=tokenizer_place(plan.tokenizer),
        seed=plan.seed,
        budget_tokens=plan.budget_tokens,
        ratios=plan.ratios,
    )
    reports: dict[str, MixReport] = {}
    for split, rows in made.items():
        for _ in rows:
            if time.monotonic() - said >= _TICK:
                said = time.monotonic()
                yield Counted(report_of({**reports, split: rows.report}), said - began, ended=False)
        reports[split] = rows.report
    yield Counted(report_of(reports), time.monotonic() - began, ended=True)


def shown(counted: Counted) -> str:
    """Return a mixture's parts as a table, and what they are together."""
    report = counted.report
    title = "Exactly" if counted.ended else "So far"
    total = f"{title}: {report.tokens:,} tokens in {report.documents:,} documents, {counted.seconds:.1f} s."
    rows = [
        (
            part.name,
            part.documents,
            part.tokens,
            "whole" if part.share_asked is None else float(part.share_asked),
            float(part.share_got),
            part.repeats,
            ", ".join(f"{number:,} {reason}" for reason, number in part.skipped.items()) or "none",
        )
        for part in report.parts
    ]
    head = ("part", "documents", "tokens", "asked", "got", "repeated", "skipped")
    return markup.message(total) + markup.table(head, rows, "What each part gives")
