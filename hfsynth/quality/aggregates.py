"""Figures over many documents in bounded memory: ratios with 95% intervals, repeats, samples.

The pairs of one document are not independent, so documents are what is drawn again: a Poisson bootstrap, in which each
document counts as often in each resample as a Poisson number of mean 1 says. For many documents it is the usual
bootstrap, and it needs to see each document only once (Chamandy et al., 2012). Repeats are texts that are the same as
an earlier one, or nearly so. Knows nothing of what is summed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hfsynth.core.errors import ConfigError

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


T = TypeVar("T")

ALIKE = 0.8
"""How much of what two texts say together both must say for one to be nearly the other (Jaccard similarity)."""

_WATCHED = 1_000_000  # texts that are remembered
_PERMUTATIONS = 192
_BANDS = 32  # of six values: of texts just so alike 99.99% are found, of those half so alike 12% are compared, too


class Repeats:
    """Tell which texts occurred before, case and punctuation aside.

    Of up to a million `expected` texts all are watched; of more, those of one class of their digests, and of these
    every one, so that their share of repetitions is that of all.
    """

    def __init__(self, expected: int, *, watched: int = _WATCHED) -> None:
        self._classes = max(1, -(-expected // watched))
        self._seen: set[int] = set()

    def is_repeat(self, text: list[str]) -> bool | None:
        """Tell whether a text, given as its words, occurred before; None for one that is not watched."""
        digest = _digest(" ".join(text))
        if digest % self._classes:
            return None
        known = digest in self._seen
        self._seen.add(digest)
        return known


class Sample(Generic[T]):
    """Draw at most `size` of any number of items without replacement, from a seed and the numbers of the items."""

    def __init__(self, size: int, *, seed: int, name: str) -> None:
        self._size = size
        self._name = f"{name}/{seed}"
        self._offered = 0
        self._kept: list[tuple[int, int, T]] = []  # a heap with the next one to go first

    def offer(self, item: T) -> None:
        """Take one more item into account."""
        entry = (-_digest(f"{self._name}/{self._offered}"), self._offered, item)
        self._offered += 1
        if len(self._kept) < self._size:
            heapq.heappush(self._kept, entry)
        elif self._kept and entry > self._kept[0]:
            heapq.heapreplace(self._kept, entry)

    def items(self) -> list[T]:
        """Return the items that were drawn, in the order in which they were offered."""
        return [item for _, _, item in sorted(self._kept, key=lambda entry: entry[1])]


def nearly_repeated(texts: Sequence[list[str]]) -> list[bool]:
    """Tell of each text, given as its words, whether one before it is the same or nearly so.

    Candidates are found by MinHash and locality-sensitive hashing and then compared exactly: by the Jaccard similarity
    of their words and pairs of neighbouring words. Raise ConfigError where rensa is not installed.
    """
    try:
        from rensa import RMinHash, RMinHashLSH
    except ImportError as error:
        raise ConfigError(
            "Near-duplicates are found by rensa, which is not installed.",
            hint="Run `pip install 'hfsynth[evaluate]'`.",
        ) from error
    index = RMinHashLSH(ALIKE, _PERMUTATIONS, _BANDS)
    shingles: dict[int, frozenset[str]] = {}
    found: list[bool] = []
    for number, text in enumerate(texts):
        own = _shingles(text)
        sketch = RMinHash(_PERMUTATIONS, 1)
        sketch.update([shingle.encode("utf-8", "replace").decode("utf-8") for shingle in sorted(own)])
        found.append(any(_similarity(own, shingles[other]) >= ALIKE for other in index.query(sketch)))
        shingles[number] = own
        index.insert(number, sketch)
    return found


def distinct(texts: Sequence[list[str]], length: int) -> float | None:
    """Return the share of n-grams of `length` words that are different ones (distinct-n); None without any n-gram.

    The share falls with the number of texts: compare it between equal numbers (Li et al., 2016).
    """
    total = 0
    seen: set[int] = set()
    for text in texts:
        for gram in _grams(text, length):
            total += 1
            seen.add(hash(gram))
    return len(seen) / total if total else None


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _shingles(text: list[str]) -> frozenset[str]:
    return frozenset(text) | frozenset(" ".join(gram) for gram in _grams(text, 2))


def _grams(text: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(text[start:] for start in range(length)), strict=False)


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def quantiles(counted: Mapping[int, int]) -> dict[str, int]:
    """Return the least, the largest and some quantiles of whole numbers (value -> how often); nothing of nothing.

    A quantile is the smallest value that at least so great a share does not exceed.
    """
    total = sum(counted.values())
    if not total:
        return {}
    values = sorted(counted)
    found = {"min": values[0]}
    for share in _QUANTILES:
        so_far = 0
        for value in values:
            so_far += counted[value]
            if so_far >= share * total:
                found[f"{share:.0%}"] = value
                break
    return {**found, "max": values[-1]}
