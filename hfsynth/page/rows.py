"""The rows of a corpus by their number, read a row group at a time and of no more columns than are asked for.

However many rows there are, no more than one row group is in memory. Knows nothing of filters or pages.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, islice
from threading import RLock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hfsynth.core.errors import OutputError
from hfsynth.core.records import Pair

UNDER_WAY = 10**12
"""The number of the first row of shards that a running job has not finished: above those of all that are."""

_OPEN = 4  # files that are kept open
_PIECE, _KEPT = 512, 4  # rows that are read at once, and how many times as many are kept
_CHAIN = 64  # rows of a chain that are looked for at most
_SECONDS = 1.0  # how long one row is looked for


@dataclass(frozen=True, slots=True)
class RowFile:
    """A Parquet file of pairs: its rows and its split."""

    path: str
    rows: int
    split: str


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its file and place in it, the number of its first row, and its rows."""

    file: RowFile
    place: int
    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """One document with what was made of it. `others` are the columns of the source beside text and id.

    `verdicts` holds relevance and accuracy of each pair, where a judge was asked; `number` counts from 0. `absent` says
    why the document of a row under way is not there.
    """

    number: int
    id: str
    text: str
    pairs: tuple[Pair, ...]
    synthesis: Mapping[str, Any] = field(default_factory=dict)
    verdicts: tuple[Mapping[str, Any], ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)
    absent: str = ""

    @property
    def under_way(self) -> bool:
        """Whether the row is of a shard that is not finished; its number then is above all others."""
        return self.number >= UNDER_WAY

    @property
    def status(self) -> str:
        return str(self.synthesis.get("status") or "")

    @property
    def chain(self) -> str:
        return str(self.synthesis.get("chain") or "")

    @property
    def shot(self) -> int:
        return int(self.synthesis.get("shot") or 0)

    @property
    def rejected(self) -> list[tuple[str, str]]:
        """The reason and the text of everything that was not kept."""
        return [(str(one["reason"]), str(one["text"] or "")) for one in self.synthesis.get("rejected") or ()]


class CorpusRows:
    """The rows of some files, one after the other. Any thread may read."""

    def __init__(self, files: Sequence[RowFile], opened: Callable[[str], pq.ParquetFile]) -> None:
        self.files = tuple(files)
        self._ends = list(accumulate(file.rows for file in files))
        self._opened = opened
        self._open: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._pieces: OrderedDict[tuple[Group, int], pa.RecordBatch] = OrderedDict()
        self._lock = RLock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def splits(self) -> dict[str, int]:
        """The rows of each split."""
        found: dict[str, int] = {}
        for file in self.files:
            found[file.split] = found.get(file.split, 0) + file.rows
        return found

    def start_of(self, split: str) -> int:
        """Return the number of a split's first row."""
        found = (end - file.rows for file, end in zip(self.files, self._ends, strict=True) if file.split == split)
        return next(found, 0)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The top-level columns and their types; none where there is no row yet."""
        if not self.files:
            return {}
        with self._lock:
            return {own.name: own.type for own in self._file(self.files[0].path).schema_arrow}

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the top-level columns."""
        return tuple(self.types)

    def fields(self, column: str) -> tuple[str, ...]:
        """Return the fields of a struct column; none where there is no such column."""
        kind = self.types.get(column)
        return tuple(own.name for own in kind) if kind is not None and pa.types.is_struct(kind) else ()

    def groups(self, start: int = 0) -> Iterator[Group]:
        """Yield the row groups that hold row `start` or later ones."""
        for at in range(bisect_right(self._ends, start), len(self.files)):
            file, first = self.files[at], self._ends[at] - self.files[at].rows
            for place, rows in enumerate(self._group_rows(file)):
                if rows and first + rows > start:
                    yield Group(file, place, first, rows)
                first += rows

    def read_group(self, group: Group, columns: Sequence[str]) -> pa.Table:
        """Return some columns of a row group; they are paths such as `synthesis.status`."""
        with self._lock:
            return self._file(group.file.path).read_row_group(group.place, columns=list(columns), use_threads=True)

    def may_hold(self, group: Group, column: str, value: str) -> bool:
        """Say whether a row group can hold a value, as far as its statistics tell."""
        with self._lock:
            about = self._file(group.file.path).metadata.row_group(group.place)
            for place in range(about.num_columns):
                found = about.column(place)
                if found.path_in_schema == column and found.is_stats_set and found.statistics.has_min_max:
                    return bool(found.statistics.min <= value <= found.statistics.max)
        return True

    def split_of(self, number: int) -> str:
        """Return the split that a row is in."""
        return self.files[bisect_right(self._ends, number)].split

    def read(self, start: int, count: int) -> list[CorpusRow]:
        """Return up to `count` rows from number `start` on."""
        return [row_of(values, start + at) for at, values in enumerate(self.values(start, count))]

    def values(self, start: int, count: int) -> list[dict[str, Any]]:
        """Return the same with all columns as they stand in the files."""
        found: list[dict[str, Any]] = []
        for group in self.groups(start):
            if len(found) >= count:
                break
            place = max(start - group.first, 0)
            while place < group.rows and len(found) < count:
                piece = self._piece(group, place // _PIECE).slice(place % _PIECE, count - len(found))
                found += piece.to_pylist()
                place += piece.num_rows
        return found

    def _piece(self, group: Group, number: int) -> pa.RecordBatch:
        """Return some rows of a group; those that were read last are kept, for they are often asked for again."""
        with self._lock:
            if (group, number) not in self._pieces:
                batches = self._file(group.file.path).iter_batches(_PIECE, row_groups=[group.place])
                self._pieces[group, number] = next(islice(batches, number, None))
                while len(self._pieces) > _KEPT:
                    self._pieces.popitem(last=False)
            self._pieces.move_to_end((group, number))
            return self._pieces[group, number]

    def row(self, number: int) -> CorpusRow:
        """Return the row of a number; raise OutputError where there is none."""
        found = self.read(number, 1) if 0 <= number < len(self) else []
        if not found:
            raise OutputError(f"There is no row {number + 1:,}; there are {len(self):,}.", hint="Choose another row.")
        return found[0]

    def chain(self, number: int) -> list[CorpusRow]:
        """Return the rows of the chain that a row is in, in their order; the row alone where it names none."""
        own = self.row(number)
        if not own.chain:
            return [own]
        before = min(own.shot, number, _CHAIN)
        near = self.read(number - before, before + 1 + _CHAIN)
        start = end = before
        while start and near[start - 1].chain == own.chain:
            start -= 1
        while end + 1 < len(near) and near[end + 1].chain == own.chain and near[end + 1].shot > near[end].shot:
            end += 1
        return near[start : end + 1]

    def place_of(self, chain: str, shot: int, *, clock: Callable[[], float] = time.monotonic) -> int | None:
        """Return the number of a chain's shot; None where there is none, or it would take too long to find."""
        until = clock() + _SECONDS
        for group in self.groups():
            column = self.read_group(group, ["synthesis.chain", "synthesis.shot"]).column("synthesis")
            fits = (
                pc.equal(pc.struct_field(column, name), value) for name, value in (("chain", chain), ("shot", shot))
            )
            places = pc.indices_nonzero(pc.and_(*fits))
            if len(places):
                return group.first + int(places[0].as_py())
            if clock() >= until:
                break
        return None

    def _group_rows(self, file: RowFile) -> list[int]:
        with self._lock:
            about = self._file(file.path).metadata
            return [about.row_group(place).num_rows for place in range(about.num_row_groups)]

    def _file(self, path: str) -> pq.ParquetFile:
        if path not in self._open:
            self._open[path] = self._opened(path)
            while len(self._open) > _OPEN:
                _, old = self._open.popitem(last=False)
                with suppress(OSError):
                    old.close()
        self._open.move_to_end(path)
        return self._open[path]


def row_of(values: Mapping[str, Any], number: int, absent: str = "") -> CorpusRow:
    """Read a row; columns that are missing are empty."""
    pairs = values.get("pairs") or ()
    own = {"id", "text", "pairs", "synthesis", "verdicts"}
    return CorpusRow(
        number,
        str(values.get("id") or ""),
        str(values.get("text") or ""),
        tuple(Pair(str(pair["instruction"] or ""), str(pair["response"] or "")) for pair in pairs),
        values.get("synthesis") or {},
        tuple(values.get("verdicts") or ()),
        {name: value for name, value in values.items() if name not in own},
        absent,
    )
