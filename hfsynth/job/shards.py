"""Which shards of a job there are, which are finished, and which one a worker takes next.

That is the first, in the order of its share, that is neither finished nor held by another. Where the source's length is
not known beforehand, the worker that comes to its end writes it down. Knows nothing of engines, nor of what is in a
shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq

from hfsynth.core.errors import OutputError
from hfsynth.core.files import damaged, read_json, write_json
from hfsynth.core.records import Counts
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.splits import SplitLayout
from hfsynth.documents.watching import changed
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leases import Leases
from hfsynth.job.shares import Share
from hfsynth.job.spec import ShardRange


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of the source that cannot be read: its number, counted from 1, and where it stands and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What is known of a finished shard. `seconds` is the working time it took; `sha256` that of its file.

    `rows` are those of its part, `source_rows` those they were made of: fewer where long documents were split, more
    where some are `unreadable`. `source_digest` stands for what these rows held; old records have none.
    """

    rows: int
    source_rows: int
    size: int
    sha256: str
    seconds: float
    counts: Counts
    source_digest: str = ""
    unreadable: tuple[Unreadable, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` reads them back."""
        own = {"rows": self.rows, "source_rows": self.source_rows, "size": self.size, "sha256": self.sha256}
        source = {"source_digest": self.source_digest, "unreadable": [asdict(row) for row in self.unreadable]}
        return {**own, **source, "seconds": round(self.seconds, 3), "counts": self.counts.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        unreadable = tuple(Unreadable(**row) for row in values.get("unreadable", ()))
        return cls(**{**values, "counts": Counts.from_dict(values["counts"]), "unreadable": unreadable})


def part_path(folder: Path, shard: int) -> Path:
    """Return where a shard's finished file lies in the journal."""
    return folder / f"{shard:05d}.parquet"


def finished_shards(folder: Path) -> dict[int, ShardRecord]:
    """Return the records of the finished shards in `folder`.

    A record is written after its part, so its existence says that both are whole.
    """
    return {shard: read_record(path) for shard, path in record_paths(folder).items()}


def record_paths(folder: Path) -> dict[int, Path]:
    """Return where the records of the finished shards in `folder` lie."""
    return {int(path.stem): path for path in sorted(folder.glob("[0-9]*.json"))}


def name_their_recipe(parts: Iterable[Path]) -> bool:
    """Return whether the rows of a job's finished parts say which recipe made them; those of new ones do."""
    for path in parts:
        with suppress(OSError, pa.ArrowException, KeyError):  # a damaged one is found at the end
            return "recipe" in pq.read_schema(path).field("synthesis").type.names
    return True


def read_record(path: Path) -> ShardRecord:
    """Return a finished shard's record; raise OutputError where it is damaged."""
    try:
        values = read_json(path)
        if values.pop("crc32", None) not in (None, _checksum(values)):  # None: of versions before there was one
            raise ValueError("the checksum is another")
        return ShardRecord.from_dict(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OutputError(
            f"{path} is damaged: it is no record of a shard.", hint="Remove it: the shard is then done again."
        ) from error


def write_record(path: Path, record: ShardRecord) -> None:
    """Write a finished shard's record, after its part."""
    values = record.to_dict()
    write_json(path, {**values, "crc32": _checksum(values)})


def _checksum(values: Mapping[str, Any]) -> str:
    return f"{crc32(json.dumps(values, sort_keys=True).encode('ascii')):08x}"


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
    """Claim the shards of one range, in the order of a share, for the holder of `leases`."""

    def __init__(
        self,
        corpus: Corpus,
        leases: Leases,
        shard_rows: int,
        shards: ShardRange = (0, None),
        share: Share = Share(),  # noqa: B008 - frozen
    ) -> None:
        self._corpus = corpus
        self._leases = leases
        self._shard_rows = shard_rows
        self._first, self._last = shards
        self._share = share

    def next(self) -> int | None:
        """Claim a shard; return None where there is none to be had now."""
        finished = record_paths(self._corpus.parts)
        for shard in self._share.order(self._first, self._end()):
            if shard not in finished and self._claim(shard):
                return shard
        return None

    def all_finished(self) -> bool:
        """Return whether every shard of the range is finished, whoever did it."""
        end = self._end()
        return end is not None and self._finished_in_range() >= end - self._first

    def _finished_in_range(self) -> int:
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
