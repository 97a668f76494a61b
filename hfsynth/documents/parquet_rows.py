"""Read Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from hfsynth.core.errors import SourceError
from hfsynth.documents.column_types import features_of, storable
from hfsynth.documents.files import File
from hfsynth.documents.readers import TABLE_ROWS, BadRow, FileReader, Row, other_columns


class ParquetReader(FileReader):
    """Parquet files of one schema. Row groups before the start are not read."""

    def _inspect(self) -> Features:
        first: pa.Schema | None = None
        for file in self._files:
            with self._opened(file) as parquet:
                self._lengths[file.path] = parquet.metadata.num_rows
                schema = storable(parquet.schema_arrow)
            first = first or schema
            if set(_typed(schema)) != set(_typed(first)):
                raise other_columns(file.name, _typed(schema), _typed(first))
        self.num_rows = sum(self._lengths.values())
        return features_of(first)

    @contextmanager
    def _opened(self, file: File) -> Iterator[pq.ParquetFile]:
        with file.open() as stream:
            yield pq.ParquetFile(stream)

    def _rows(self, file: File, skip: int) -> Iterator[Row | BadRow]:
        with self._opened(file) as parquet:
            for group in range(parquet.num_row_groups):
                length = parquet.metadata.row_group(group).num_rows
                if skip < length:
                    yield from _rows_of_group(file, parquet, group, skip)
                skip = max(0, skip - length)

    def _count(self, file: File) -> int:
        with self._opened(file) as parquet:
            length: int = parquet.metadata.num_rows
            return length


def _rows_of_group(file: File, parquet: pq.ParquetFile, group: int, skip: int) -> Iterator[Row | BadRow]:
    """Give a row group's rows without the first `skip`; those that cannot be decoded as bad rows."""
    given, length = skip, parquet.metadata.row_group(group).num_rows
    try:
        for batch in parquet.iter_batches(batch_size=TABLE_ROWS, row_groups=[group]):
            rows = batch.slice(skip).to_pylist()
            skip = max(0, skip - len(batch))
            yield from rows
            given += len(rows)
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the disk or the network, and no fault of the file
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        for number in range(given, length):
            where = f"{file.name}, row {number + 1} of row group {group}"
            wrong = SourceError(f"{where} cannot be read: {reason}", hint="Check that the file is whole.")
            yield BadRow(wrong)


def _typed(schema: pa.Schema) -> list[str]:
    return [f"{field.name} ({field.type})" for field in schema]
