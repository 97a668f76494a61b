"""The parts under way: rows come in by chain, in any order, and leave as finished shards. Runs behind the engine.

Knows nothing of engines and sources, and of leases only whether a shard is still this worker's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hfsynth.core.errors import OutputError
from hfsynth.core.files import file_digest, publish, temporary, writing
from hfsynth.core.processes import mark
from hfsynth.core.records import Counts, Row, Synthesized
from hfsynth.corpus.parquet import RowGroupWriter
from hfsynth.job.concurrency import Channel, Closed
from hfsynth.job.sessions import OpenShard
from hfsynth.job.shards import ShardRecord, Unreadable, part_path, write_record

ROWS_AT_A_TIME = 1000


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
        commit: Callable[[Path, ShardRecord], None] | None = None,
    ) -> ShardRecord:
        """Write what is left, put the part and then its record in place, and return the record.

        `source_rows` is the part's own number of rows where it is not given. `commit` is given the part and the record
        where these do not lie side by side. Where this fails nothing is left behind, as after `abandon`.
        """
        try:
            digest, size = self._close()
        except BaseException:
            self.abandon()
            raise
        read = self._rows if source_rows is None else source_rows
        found = (self._rows, read, size, digest, seconds, self._counts)
        record = ShardRecord(*found, source_digest=source_digest, unreadable=tuple(unreadable))
        if commit is not None:
            commit(self._path, record)
        else:
            write_record(self._path.with_suffix(".json"), record)
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


@dataclass(frozen=True, slots=True)
class ChainResult:
    """A chain's rows and results."""

    shard: int
    number: int
    rows: Sequence[Row]
    results: Sequence[Synthesized]


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """What a shard turned out to consist of: so many chains, made of so many source rows."""

    shard: int
    chains: int
    source_rows: int
    source_digest: str = ""
    unreadable: Sequence[Unreadable] = ()


class PartWriter:
    """Write parts in a thread of its own. `is_mine` is asked, and `on_finished` told, about each shard that is whole.

    `commit` puts a part and its record where all see them.

    `made` makes a part's rows of the source's and the results. An error in the thread is raised by the next `put`, and
    by `close`.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        *,
        made: Callable[[Sequence[Row], Sequence[Synthesized]], list[Row]],
        is_mine: Callable[[int], bool],
        on_finished: Callable[[int], None],
        commit: Callable[[Path, ShardRecord], None],
        size: int = 256,
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._made = made
        self._is_mine = is_mine
        self._on_finished = on_finished
        self._commit = commit
        self._incoming: Channel[ChainResult | ShardEnd] = Channel(size)
        self._writers: dict[int, ShardWriter] = {}
        self._rows: dict[int, int] = {}
        self._whole: dict[int, ShardEnd] = {}
        self._lap = time.monotonic()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="hfsynth-parts", daemon=True)
        self._thread.start()

    def put(self, item: ChainResult | ShardEnd) -> None:
        """Hand something in; wait while the writing is behind."""
        self._incoming.put(item)

    def open_shards(self) -> Mapping[int, OpenShard]:
        """Return how far the unfinished shards are."""
        return {shard: OpenShard(self._rows.get(shard, 0), writer.counts) for shard, writer in [*self._writers.items()]}

    def start_lap(self) -> None:
        """Begin the time that the next finished shard is said to have taken."""
        self._lap = time.monotonic()

    def check(self) -> None:
        """Raise what went wrong in the thread, if anything has."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Write what has been handed in, give up unfinished parts, and raise what went wrong."""
        self._incoming.close()
        self._thread.join()
        self.check()

    def abandon(self) -> None:
        """Give up at once. Nothing is raised."""
        self._incoming.abandon()
        self._thread.join()

    def _work(self) -> None:
        try:
            while True:
                self._take(self._incoming.get())
        except Closed:
            pass
        except BaseException as error:  # whatever it is, it belongs to the thread that hands in
            self._error = error
            self._incoming.abandon(error)
        finally:
            for writer in self._writers.values():
                writer.abandon()

    def _take(self, item: ChainResult | ShardEnd) -> None:
        if isinstance(item, ShardEnd):
            self._whole[item.shard] = item
        else:
            self._add(item)
        whole, writer = self._whole.get(item.shard), self._writers.get(item.shard)
        if whole is not None and writer is not None and writer.chains == whole.chains:
            self._finish(whole)

    def _add(self, item: ChainResult) -> None:
        if item.shard not in self._writers:
            self._writers[item.shard] = ShardWriter(part_path(self._folder, item.shard), self._schema)
        rows = self._made(item.rows, item.results)
        self._writers[item.shard].add(item.number, rows, Counts.of(item.results))
        read = sum(row.get("offset", 0) == 0 for row in rows)
        self._rows[item.shard] = self._rows.get(item.shard, 0) + read

    def _finish(self, whole: ShardEnd) -> None:
        """Put a part in place, unless another worker has taken the shard over in the meantime."""
        is_mine = self._is_mine(
            whole.shard
        )  # asks a place that may not answer: till then the writer is given up at the end
        writer = self._writers.pop(whole.shard)
        del self._whole[whole.shard], self._rows[whole.shard]
        if not is_mine:
            writer.abandon()
            return
        now = time.monotonic()
        writer.finish(
            now - self._lap,
            source_rows=whole.source_rows,
            source_digest=whole.source_digest,
            unreadable=whole.unreadable,
            commit=self._commit,
        )
        self._lap = now
        self._on_finished(whole.shard)
