"""One shard's rows into one Parquet file, in input order however the chains end, whole or not at all.

Knows nothing of engines or sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq

from hfsynth.corpus import read_json, write_json
from hfsynth.durable import publish, temporary, writing
from hfsynth.errors import OutputError
from hfsynth.parquet_files import RowGroupWriter
from hfsynth.processes import mark
from hfsynth.stats import Counts

Row = dict[str, Any]
ROWS_AT_A_TIME = 1000


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


class ShardWriter:
    """Write the rows of one shard. Chains may come in any order; row groups always hold the same rows."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._temporary = temporary(path, writer=mark())
        self._waiting: dict[int, list[Row]] = {}
        self._ready: list[Row] = []
        self._next = 0
        self._rows = 0
        self._counts = Counts()
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = RowGroupWriter(self._temporary, schema)

    @property
    def chains(self) -> int:
        """How many chains, from the first on without a gap, have been taken in."""
        return self._next

    def add(self, number: int, rows: Sequence[Row], counts: Counts) -> None:
        """Take in the finished rows of the shard's chain `number`, counted from 0."""
        self._waiting[number] = list(rows)
        self._counts += counts
        while self._next in self._waiting:
            self._ready.extend(self._waiting.pop(self._next))
            self._next += 1
        while len(self._ready) >= ROWS_AT_A_TIME:
            self._write(self._ready[:ROWS_AT_A_TIME])
            del self._ready[:ROWS_AT_A_TIME]

    @property
    def counts(self) -> Counts:
        """What has been counted of the chains that were taken in, those that wait for an earlier one included."""
        return self._counts

    def finish(
        self,
        seconds: float,
        *,
        source_rows: int | None = None,
        source_digest: str = "",
        unreadable: Sequence[Unreadable] = (),
    ) -> ShardRecord:
        """Write what is left, put the part and then its record in place, and return the record.

        `source_rows` is the part's own number of rows where it is not given. Where this fails nothing is left behind,
        as after `abandon`.
        """
        try:
            digest, size = self._close()
        except BaseException:
            self.abandon()
            raise
        read = self._rows if source_rows is None else source_rows
        found = (self._rows, read, size, digest, seconds, self._counts)
        record = ShardRecord(*found, source_digest=source_digest, unreadable=tuple(unreadable))
        values = record.to_dict()
        write_json(self._path.with_suffix(".json"), {**values, "crc32": _checksum(values)})
        return record

    def abandon(self) -> None:
        """Leave nothing behind. The shard is done again another time."""
        # Closing writes a footer, for which a full disk has no room; the file goes anyway.
        with suppress(OSError):
            self._file.abandon()
        self._temporary.unlink(missing_ok=True)

    def _close(self) -> tuple[str, int]:
        """Write what is left and put the part in place; return its digest and size."""
        if self._ready:
            self._write(self._ready)
            self._ready = []
        with writing(self._path):
            self._file.close()
            described = file_digest(self._temporary)
            publish(self._temporary, as_=self._path)
        return described

    def _write(self, rows: Sequence[Row]) -> None:
        try:
            table = pa.Table.from_pylist(list(rows), schema=self._schema)
        except (ValueError, TypeError, OverflowError, NotImplementedError) as error:  # Arrow's own are among them
            raise OutputError(f"A row does not fit the columns of the source: {error}.") from error
        with writing(self._path):
            self._file.write(table)
        self._rows += len(rows)


def _checksum(values: Mapping[str, Any]) -> str:
    return f"{crc32(json.dumps(values, sort_keys=True).encode('ascii')):08x}"


def file_digest(path: Path) -> tuple[str, int]:
    """Return a file's sha256 and its size."""
    digest, size = sha256(), 0
    for block in _blocks(path):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(2**20):
            yield block
