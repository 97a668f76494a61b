"""Which shard a worker takes next: the first, in the order of its share, that is neither finished nor held by another.

Where the source's length is not known beforehand, the worker that comes to its end writes it down. Knows nothing of
engines, nor of what is in a shard.
"""

from __future__ import annotations

from collections.abc import Iterator

from hfsynth.documents.splits import SplitLayout
from hfsynth.documents.watching import changed
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leases import Leases
from hfsynth.job.shards import lease_name, read_extent, write_extent
from hfsynth.job.shares import Share
from hfsynth.job.site import Site
from hfsynth.job.spec import ShardRange


class Claims:
    """Claim the shards of one range, in the order of a share, for the holder of `leases`."""

    def __init__(
        self,
        site: Site,
        leases: Leases,
        shard_rows: int,
        shards: ShardRange = (0, None),
        share: Share = Share(),  # noqa: B008 - frozen
    ) -> None:
        self._site = site
        self._corpus = site.corpus
        self._leases = leases
        self._shard_rows = shard_rows
        self._first, self._last = shards
        self._share = share

    def next(self) -> int | None:
        """Claim a shard; return None where there is none to be had now."""
        self._site.look()
        return next((shard for shard in self._open() if self._claim(shard)), None)

    def _open(self) -> Iterator[int]:
        """Yield the shards that are not finished, in the order in which they are tried."""
        finished, later = self._site.finished(), []
        for shard in self._share.order(self._first, self._end()):
            if shard in finished:
                continue
            if self._leases.is_costly(lease_name(shard)):
                later.append(shard)
            else:
                yield shard
        yield from later

    def all_finished(self) -> bool:
        """Return whether every shard of the range is finished, whoever did it."""
        self._site.look()
        end = self._end()
        return end is not None and self._finished_in_range() >= end - self._first

    def _finished_in_range(self) -> int:
        end = self._end()
        finished = self._site.finished()
        return sum(self._first <= shard and (end is None or shard < end) for shard in finished)

    def has_read(self, shard: int, rows: int) -> None:
        """Note that a claimed shard turned out to have so many rows: none, and it does not exist.

        Raise SourceError where the source has fewer rows than were counted, or than were read of it before.
        """
        extent = JournalPaths(self._corpus.journal).extent
        layout = SplitLayout.of(read_extent(self._corpus), self._shard_rows)
        if layout is not None:
            if rows != layout.rows_of(shard):
                raise changed("The source", f"shard {shard} had {layout.rows_of(shard):,} rows, and has {rows:,}")
        elif rows < self._shard_rows:
            self._require_nothing_beyond(shard, rows)
            self._site.fetch(extent)
            write_extent(self._corpus, shard * self._shard_rows + rows, self._shard_rows)
            self._site.share(extent)
        if not rows:
            self._leases.remove(lease_name(shard))

    def _require_nothing_beyond(self, shard: int, rows: int) -> None:
        last = max(self._site.finished(), default=-1)
        if last > shard or (last == shard and not rows):
            raise changed("The source", f"shard {last} was read, and now it ends in shard {shard}")

    def _claim(self, shard: int) -> bool:
        name = lease_name(shard)
        if not self._leases.claim(name):
            return False
        if self._site.is_finished(shard):  # between the two looks
            self._leases.remove(name)
            return False
        return True

    def _end(self) -> int | None:
        extent = read_extent(self._corpus)
        ends = [end for end in (self._last, None if extent is None else extent["shards"]) if end is not None]
        return min(ends, default=None)
