"""Which shard a worker takes next: the first that is neither finished nor held by another.

Where the source's length is not known beforehand, the worker that comes to its end writes it down. Knows nothing of
engines and of what is in a shard.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from hfsynth.corpus import Corpus, damaged, read_json, write_json
from hfsynth.journal import JournalPaths
from hfsynth.leases import Leases
from hfsynth.shards import record_paths
from hfsynth.split_layout import SplitLayout
from hfsynth.watching import changed

ShardRange = tuple[int, int | None]


def lease_name(shard: int) -> str:
    """Return the name of a shard's lease."""
    return f"{shard:05d}"


def read_extent(corpus: Corpus) -> dict[str, Any] | None:
    """Return the source's number of `rows` and `shards` as far as it is known."""
    path = JournalPaths(corpus.journal).extent
    extent: dict[str, Any] | None = read_json(path)
    if extent is not None and not all(isinstance(extent.get(name), int) for name in ("rows", "shards")):
        raise damaged(path, "it says no number of rows and shards")
    return extent


def write_layout(corpus: Corpus, layout: SplitLayout) -> None:
    """Write down which shards belong to which split; raise SourceError where a split turns out to have other rows."""
    known = read_extent(corpus)
    if known is None:
        write_json(JournalPaths(corpus.journal).extent, layout.extent())
    elif known.get("splits") != dict(layout.sizes):
        raise changed("The source", f"its splits had {known.get('splits')} rows, and have {dict(layout.sizes)}")


def write_extent(corpus: Corpus, rows: int, shard_rows: int, *, exact: bool = False) -> None:
    """Write down how long the source is, unless it is known to be shorter.

    An `exact` length was counted: raise SourceError where it turns out to be another.
    """
    known = read_extent(corpus)
    if known is not None and known.get("exact"):
        if known["rows"] != rows:
            raise changed("The source", f"it had {known['rows']:,} rows, and has {rows:,}")
    elif known is None or exact or rows < known["rows"]:
        extent = {"shards": -(-rows // shard_rows), "rows": rows}
        write_json(JournalPaths(corpus.journal).extent, {**extent, "exact": True} if exact else extent)


class Claims:
    """Claim the shards of one range, in order, for the holder of `leases`."""

    def __init__(self, corpus: Corpus, leases: Leases, shard_rows: int, shards: ShardRange = (0, None)) -> None:
        self._corpus = corpus
        self._leases = leases
        self._shard_rows = shard_rows
        self._first, self._last = shards

    def next(self) -> int | None:
        """Claim a shard; return None where there is none to be had now."""
        finished = record_paths(self._corpus.parts)
        end = self._end()
        for shard in count(self._first):
            if end is not None and shard >= end:
                return None
            if shard not in finished and self._claim(shard):
                return shard
        return None

    def all_finished(self) -> bool:
        """Return whether every shard of the range is finished, whoever did it."""
        end = self._end()
        return end is not None and self.finished_in_range() >= end - self._first

    def finished_in_range(self) -> int:
        """Return how many shards of the range are finished."""
        end = self._end()
        finished = record_paths(self._corpus.parts)
        return sum(self._first <= shard and (end is None or shard < end) for shard in finished)

    def has_read(self, shard: int, rows: int) -> None:
        """Note that a claimed shard turned out to have so many rows: none, and it does not exist.

        Raise SourceError where the source has fewer rows than were counted, or than were read of it before.
        """
        layout = SplitLayout.of(read_extent(self._corpus), self._shard_rows)
        if layout is not None:
            if rows != layout.rows_of(shard):
                raise changed("The source", f"shard {shard} had {layout.rows_of(shard):,} rows, and has {rows:,}")
        elif rows < self._shard_rows:
            self._require_nothing_beyond(shard, rows)
            write_extent(self._corpus, shard * self._shard_rows + rows, self._shard_rows)
        if not rows:
            self._leases.remove(lease_name(shard))

    def _require_nothing_beyond(self, shard: int, rows: int) -> None:
        last = max(record_paths(self._corpus.parts), default=-1)
        if last > shard or (last == shard and not rows):
            raise changed("The source", f"shard {last} was read, and now it ends in shard {shard}")

    def _claim(self, shard: int) -> bool:
        name = lease_name(shard)
        if not self._leases.claim(name):
            return False
        if shard in record_paths(self._corpus.parts):  # finished between the two looks
            self._leases.remove(name)
            return False
        return True

    def _end(self) -> int | None:
        extent = read_extent(self._corpus)
        ends = [end for end in (self._last, None if extent is None else extent["shards"]) if end is not None]
        return min(ends, default=None)
