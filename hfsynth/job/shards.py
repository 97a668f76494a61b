"""Which shards of a job there are, which are finished, and what is written down of each.

Knows nothing of engines, of who works on a shard, nor of what is in it.
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
    write_json(path, record_values(record))


def record_values(record: ShardRecord) -> dict[str, Any]:
    """Return what is written of a record: its values, and a checksum of them."""
    values = record.to_dict()
    return {**values, "crc32": _checksum(values)}


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
