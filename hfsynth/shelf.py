"""The parts under way: rows come in by chain, in any order, and leave as finished shards. Runs behind the engine.

Knows nothing of engines and sources, and of leases only whether a shard is still this worker's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hfsynth.channel import Channel, Closed
from hfsynth.columns import output_rows
from hfsynth.records import Synthesized
from hfsynth.sessions import OpenShard
from hfsynth.shards import Row, ShardWriter, Unreadable, part_path
from hfsynth.stats import Counts


@dataclass(frozen=True, slots=True)
class Finished:
    """A chain's rows and results."""

    shard: int
    number: int
    rows: Sequence[Row]
    results: Sequence[Synthesized]


@dataclass(frozen=True, slots=True)
class Whole:
    """What a shard turned out to consist of: so many chains, made of so many source rows."""

    shard: int
    chains: int
    source_rows: int
    source_digest: str = ""
    unreadable: Sequence[Unreadable] = ()


class Shelf:
    """Write parts in a thread of its own. `is_mine` is asked, and `on_finished` told, about each shard that is whole.

    `recipe` names in every row what made it. An error in the thread is raised by the next `put`, and by `close`.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        *,
        recipe: str,
        is_mine: Callable[[int], bool],
        on_finished: Callable[[int], None],
        size: int = 256,
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._recipe = recipe
        self._is_mine = is_mine
        self._on_finished = on_finished
        self._incoming: Channel[Finished | Whole] = Channel(size)
        self._writers: dict[int, ShardWriter] = {}
        self._rows: dict[int, int] = {}
        self._whole: dict[int, Whole] = {}
        self._lap = time.monotonic()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="hfsynth-shelf", daemon=True)
        self._thread.start()

    def put(self, item: Finished | Whole) -> None:
        """Hand something in; wait while the shelf is behind."""
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

    def _take(self, item: Finished | Whole) -> None:
        if isinstance(item, Whole):
            self._whole[item.shard] = item
        else:
            self._add(item)
        whole, writer = self._whole.get(item.shard), self._writers.get(item.shard)
        if whole is not None and writer is not None and writer.chains == whole.chains:
            self._finish(whole, self._writers.pop(item.shard))

    def _add(self, item: Finished) -> None:
        if item.shard not in self._writers:
            self._writers[item.shard] = ShardWriter(part_path(self._folder, item.shard), self._schema)
        made = output_rows(item.results, recipe=self._recipe)
        rows = [{**row, **values} for row, values in zip(item.rows, made, strict=True)]
        self._writers[item.shard].add(item.number, rows, Counts.of(item.results))
        read = sum(row.get("offset", 0) == 0 for row in rows)
        self._rows[item.shard] = self._rows.get(item.shard, 0) + read

    def _finish(self, whole: Whole, writer: ShardWriter) -> None:
        """Put a part in place, unless another worker has taken the shard over in the meantime."""
        del self._whole[whole.shard], self._rows[whole.shard]
        if not self._is_mine(whole.shard):
            writer.abandon()
            return
        now = time.monotonic()
        writer.finish(
            now - self._lap,
            source_rows=whole.source_rows,
            source_digest=whole.source_digest,
            unreadable=whole.unreadable,
        )
        self._lap = now
        self._on_finished(whole.shard)
