"""What a sample costs, and what a corpus will cost: shares of the engine's time, and an error bar on their mean.

Pure but for the clock that is handed in. Knows nothing of engines, models or texts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Cost:
    """Some neighbouring documents and the engine's seconds that they took."""

    documents: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Range:
    """A figure, and from where to where it may lie (the 95% interval of a bootstrap)."""

    value: float
    low: float
    high: float

    def over(self, amount: float) -> Range:
        """Return `amount` divided by the figure."""
        return Range(amount / self.value, amount / self.high, amount / self.low)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Documents an hour of one engine, and the hours that it needs for `documents`; None where their number is not
    known."""

    documents_per_hour: Range
    documents: int | None
    engine_hours: Range | None


class TimeShares:
    """Share out the time that passes, equally at every moment, among those who are under way.

    Shares add up to the time in which anybody was: a sum over a sample that can be drawn again and again, where the
    time from begin to end, with many at once, could not be added.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._of_each = 0.0  # what somebody who was there all along would have by now
        self._entered: dict[Hashable, float] = {}

    def enter(self, name: Hashable) -> None:
        """Begin to share."""
        self._pass()
        self._entered[name] = self._of_each

    def leave(self, name: Hashable) -> float:
        """Return the share of one who ends."""
        self._pass()
        return self._of_each - self._entered.pop(name)

    def _pass(self) -> None:
        now = self._clock()
        if self._entered:
            self._of_each += (now - self._last) / len(self._entered)
        self._last = now


def predict(costs: Sequence[Cost], documents: int | None, *, seed: int = 0) -> Prediction:
    """Predict from a sample's costs what one engine does in an hour, and how long it takes for so many documents.

    The error bar is that of the sample: costs are drawn again with replacement, 2,000 times. It knows nothing of other
    work on the machine. Needs at least one cost that took time.
    """
    draw = random.Random(seed)
    speeds = sorted(_per_hour(draw.choices(costs, k=len(costs))) for _ in range(DRAWS))
    cut = round(DRAWS * (1 - LEVEL) / 2)
    speed = Range(_per_hour(costs), speeds[cut], speeds[-1 - cut])
    return Prediction(speed, documents, None if documents is None else speed.over(documents))


def _per_hour(costs: Sequence[Cost]) -> float:
    seconds = sum(cost.seconds for cost in costs)
    return 3600 * sum(cost.documents for cost in costs) / max(seconds, 1e-9)
