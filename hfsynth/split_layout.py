"""Which shards of a job belong to which split. Pure.

The splits come one after the other, each from a shard of its own on: no shard, and so no chain, crosses one. Rows are
numbered with the gaps that this leaves behind a split whose last shard is not full.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from hfsynth.errors import SourceError


@dataclass(frozen=True, slots=True)
class SplitLayout:
    """The number of rows of each split, in order, and of a shard."""

    sizes: Mapping[str, int]
    shard_rows: int

    @classmethod
    def of(cls, extent: Mapping[str, Any] | None, shard_rows: int) -> Self | None:
        """Return the layout that a job's extent states; None for the job of one split."""
        return cls(extent["splits"], shard_rows) if extent and "splits" in extent else None

    @property
    def shards(self) -> dict[str, range]:
        """The shards of each split."""
        found, first = {}, 0
        for name, rows in self.sizes.items():
            found[name] = range(first, first - (-rows // self.shard_rows))
            first = found[name].stop
        return found

    def extent(self) -> dict[str, Any]:
        """Return how long the job is, as its journal holds it."""
        shards = max(found.stop for found in self.shards.values())
        return {"shards": shards, "rows": sum(self.sizes.values()), "exact": True, "splits": dict(self.sizes)}

    def name_of(self, shard: int) -> str:
        """Return how the name of a shard's published file begins: its split, and its place in it."""
        split, own = next((split, own) for split, own in self.shards.items() if shard in own)
        return f"{split}-{shard - own.start:05d}"

    def rows_of(self, shard: int) -> int:
        """Return how many rows a shard has."""
        for name, shards in self.shards.items():
            if shard in shards:
                return min(self.shard_rows, self.sizes[name] - (shard - shards.start) * self.shard_rows)
        return 0

    def pieces(self, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
        """Yield the splits between two row numbers, each with its own row numbers in them."""
        for name, shards in self.shards.items():
            first = shards.start * self.shard_rows
            begin, end = max(start - first, 0), min(stop - first, self.sizes[name])
            if begin < end:
                yield name, begin, end


def other_length(split: str, expected: int, found: str) -> SourceError:
    """Return the error for a split that does not hold what it declares."""
    return SourceError(
        f"The split {split!r} should have {expected:,} rows, and has {found}.",
        hint="It has changed since the job began, or its dataset declares a wrong number: give its splits one by one.",
    )
