"""Read the rows of `datasets`: of a saved dataset, and of a stream from the Hub.

Rows come as they are stored: images stay bytes. Knows nothing of where the datasets come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from datasets import Dataset, IterableDataset

from hfsynth.readers import SAMPLE_ROWS, TABLE_ROWS, Row, other_columns
from hfsynth.schemas import features_of
from hfsynth.source_files import File, reading
from hfsynth.watching import FileWatch


class DatasetReader:
    """Rows of a `Dataset` in memory-mapped files, as they are stored: images stay bytes.

    Its `files` on this machine are looked at before and after a table is copied out of them; of those elsewhere it
    reads a copy.
    """

    def __init__(self, ds: Dataset, name: str, files: Sequence[File] = ()) -> None:
        self._ds, self._name = ds, name
        self._watches = [file.watch for file in files if isinstance(file.watch, FileWatch)]
        self.features = features_of(ds.features.arrow_schema)
        self.num_rows: int | None = len(ds)

    def read(self, start: int) -> Iterator[Row]:
        if start >= len(self._ds):
            return
        with reading(self._name):
            self.check()
            rest = self._ds.select(range(start, len(self._ds)))
            for table in rest.with_format("arrow").iter(self._rows_at_once):
                rows = table.to_pylist()
                self.check()
                yield from rows

    @property
    def _rows_at_once(self) -> int:
        """How many rows are copied between two looks: the more files there are, the longer a look takes."""
        return TABLE_ROWS * (1 + len(self._watches) // TABLE_ROWS)

    def count(self) -> int:
        return len(self._ds)

    def check(self) -> None:
        for watch in self._watches:
            watch.check()


class StreamReader:
    """Rows of an `IterableDataset`, as they are stored. Its first rows decide the columns where it names none."""

    num_rows: int | None = None

    def __init__(self, ds: IterableDataset, name: str) -> None:
        self._ds, self._name = ds, name
        self.features = features_of(ds.features.arrow_schema if ds.features else self._first_schema())
        self._schema = self.features.arrow_schema

    def _first_schema(self) -> pa.Schema:
        with reading(self._name):
            first = next(iter(self._ds.with_format("arrow").iter(SAMPLE_ROWS)), None)
        return pa.schema([]) if first is None else first.schema

    def read(self, start: int) -> Iterator[Row]:
        with reading(self._name):
            for table in self._ds.skip(start).with_format("arrow").iter(TABLE_ROWS):
                yield from self._conform(table).to_pylist()

    def _conform(self, table: pa.Table) -> pa.Table:
        if not set(table.column_names) <= set(self._schema.names):
            raise other_columns(f"A later part of {self._name}", table.column_names, self._schema.names)
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
            for field in self._schema
        ]
        return pa.table(columns, schema=self._schema)

    def count(self) -> int:
        with reading(self._name):
            return sum(len(table) for table in self._ds.with_format("arrow").iter(SAMPLE_ROWS))

    def check(self) -> None:
        """Do nothing: a dataset's builder pins the commit that it reads from."""
