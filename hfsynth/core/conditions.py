"""Conditions on pairs, such as `grounding>=0.5`: their text read into values, and the reason that each rejects for.

Knows nothing of how anything is measured.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from hfsynth.core.errors import ConfigError
from hfsynth.core.records import Reason

_PREFIX = "filtered_"
FILTERED: Mapping[str, Reason] = MappingProxyType(
    {
        **{reason.removeprefix(_PREFIX): reason for reason in Reason if reason.startswith(_PREFIX)},
        "contamination": Reason.CONTAMINATED,
    }
)
"""The measures that conditions may name, and the reason for which a pair is rejected by each."""

JUDGED = ("relevance", "accuracy")
"""Those of them that a judge gives: conditions of `hfsynth verify`, and of no synthesizer."""

INDEXED = ("contamination",)
"""Those of them that an index of benchmarks gives, for documents too."""

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
)
_CONDITION = re.compile(r"([^<>=]*)([<>]=?)([^<>=]*)")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_EXAMPLE = 'Write it like "grounding>=0.5", in quotes: a shell takes < and > for itself.'


@dataclass(frozen=True, slots=True)
class Condition:
    """What a pair must meet to be kept: a measure's name, one of >=, <=, > and <, and a limit."""

    measure: str
    comparison: str
    limit: float

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a condition; raise ConfigError for another form, an unknown measure and a limit that is no number."""
        found = _CONDITION.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ConfigError(
                f"A condition is a measure, one of >=, <=, >, < and a number, not {text!r}.", hint=_EXAMPLE
            )
        measure, comparison, limit = map(str.strip, found.groups())
        if measure not in FILTERED:
            raise ConfigError(
                f"There is no measure {measure!r}, which the condition {text!r} names.",
                hint=f"Measures: {', '.join(FILTERED)}.",
            )
        return cls(measure, comparison, _number(limit, str(text)))

    def __str__(self) -> str:
        """Return the canonical text: no spaces, the shortest form of the number."""
        return f"{self.measure}{self.comparison}{repr(self.limit).removesuffix('.0')}"

    @property
    def reason(self) -> Reason:
        """The reason for which a pair that does not meet this condition is rejected."""
        return FILTERED[self.measure]

    def is_met_by(self, value: float) -> bool:
        """Return whether a measure's value meets the condition."""
        return _COMPARISONS[self.comparison](value, self.limit)


def canonical(conditions: object, *, judged: bool = False, indexed: bool = False) -> tuple[str, ...]:
    """Return a list of conditions in their canonical text, each once and sorted: order does not change what is kept.

    Those on a judge's verdicts are refused where no pair is `judged`, those on benchmarks where none are `indexed`.
    """
    if not isinstance(conditions, (tuple, list)):
        raise ConfigError(f"keep must be a list of conditions, not {conditions!r}.", hint=_EXAMPLE)
    found = {Condition.parse(text) for text in conditions}
    asked = sorted(str(one) for one in found if one.measure in JUDGED)
    if asked and not judged:
        raise ConfigError(
            f"{asked[0]} asks for a judge's verdict, and there is none while pairs are written.",
            hint=f'Judge them afterwards: hfsynth verify CORPUS --judge MODEL --keep "{asked[0]}"',
        )
    looked_for = sorted(str(one) for one in found if one.measure in INDEXED)
    if looked_for and not indexed:
        raise ConfigError(
            f"{looked_for[0]} asks for benchmarks, and none are named.",
            hint="Name them when pairs are written: hfsynth synthesize … --decontaminate core",
        )
    return tuple(sorted(map(str, found)))


def _number(text: str, condition: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ConfigError(
            f"The limit of a condition must be a number, not {text!r} as in {condition!r}.", hint=_EXAMPLE
        )
    return number + 0.0  # -0 and 0 are one limit
