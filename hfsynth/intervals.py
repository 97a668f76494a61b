"""Ratios of sums over documents with 95% intervals, in memory that does not grow with the documents.

The pairs of one document are not independent, so documents are what is drawn again: a Poisson bootstrap, in which each
document counts as often in each resample as a Poisson number of mean 1 says. For many documents it is the usual
bootstrap, and it needs to see each document only once (Chamandy et al., 2012). Knows nothing of what is summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = Mapping[str, float | None]
"""`mean`, and `low` and `high` of its 95% interval; None for what there is too little data for."""

_RESAMPLES = 1000
_BLOCK = 256  # documents whose numbers are drawn at once


class Ratios:
    """Named ratios of two sums over documents, such as a share of pairs or a mean over pairs."""

    def __init__(self, names: Sequence[str], *, seed: int = 0, resamples: int = _RESAMPLES) -> None:
        self._column = {name: number for number, name in enumerate(names)}
        self._generator = np.random.default_rng(seed)
        self._resamples = resamples
        self._block: list[Mapping[str, tuple[float, float]]] = []
        self._known = np.zeros(len(names), dtype=np.int64)  # documents that say something of a ratio
        self._sums = np.zeros((2, len(names)))
        self._drawn = np.zeros((2, resamples, len(names)))

    def add(self, document: Mapping[str, tuple[float, float]]) -> None:
        """Add what one document gives to the sum above and the sum below, for each ratio that it says something of."""
        self._block.append(document)
        if len(self._block) == _BLOCK:
            self._flush()

    def interval(self, name: str) -> dict[str, float | None]:
        """Return a ratio and its 95% interval: no mean where nothing was counted, no interval around one document."""
        self._flush()
        column = self._column[name]
        above, below = self._sums[:, column]
        mean = float(above / below) if below else None
        above_drawn, below_drawn = self._drawn[:, :, column]
        kept = below_drawn > 0
        if mean is None or self._known[column] < 2 or not kept.any():
            return {"mean": mean, "low": None, "high": None}
        low, high = np.quantile(above_drawn[kept] / below_drawn[kept], [0.025, 0.975])
        return {"mean": mean, "low": float(low), "high": float(high)}

    def share(self, name: str) -> dict[str, float | None]:
        """Return a ratio that lies between 0 and 1, and its 95% interval.

        Where it is 0 or 1 every resample says the same, which is no certainty: then the other end is the exact one
        (Clopper and Pearson) for as many documents as there are.
        """
        found = self.interval(name)
        if found["low"] is None or found["mean"] not in (0.0, 1.0):
            return found
        room = 1 - 0.025 ** (1 / int(self._known[self._column[name]]))
        return {**found, "high": room} if found["mean"] == 0.0 else {**found, "low": 1 - room}

    def _flush(self) -> None:
        if not self._block:
            return
        values = self._values()
        self._known += (values[1] > 0).sum(axis=0)
        self._sums += values.sum(axis=1)
        weights: NDArray[Any] = self._generator.poisson(1.0, (self._resamples, len(self._block))).astype(float)
        self._drawn += weights @ values
        self._block.clear()

    def _values(self) -> NDArray[Any]:
        values = np.zeros((2, len(self._block), len(self._column)))
        for row, document in enumerate(self._block):
            for name, (above, below) in document.items():
                values[:, row, self._column[name]] = above, below
        return values
