"""The one way Parquet is written here: as the Hub stores, shows and loads it best.

Pages end where the content says so, not after so many bytes, and row groups are large: where a few rows change, the
pages behind them stay as they were, and Xet sends those that changed. An index of the pages lets a reader skip. What
decides the bytes is the rows and how they are handed over, so the same rows in the same pieces are the same file.
"""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_BYTES = 64 * 2**20
"""The Arrow size at which a row group ends. So much of a file is in memory while it is written, and no more."""

_PAGES = {"min_chunk_size": 256 * 2**10, "max_chunk_size": 2**20, "norm_level": 0}  # as `datasets` has them


class RowGroupWriter:
    """Write tables one after the other; they are kept until they fill a row group."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        self._made = _Made()
        self._writer = pq.ParquetWriter(
            self._made, schema, compression="zstd", write_page_index=True, use_content_defined_chunking=_PAGES
        )
        self._waiting: list[pa.Table] = []
        self._size = 0

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Take in rows; write a row group where they fill it. Raise OSError where the disk does."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        self._waiting.append(table)
        self._size += table.nbytes
        if self._size >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is left and the footer."""
        try:
            self._flush()
            self._writer.close()
            self._made.move_to(self._file)
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Let go of the file without what is left; what there is of it is of no use."""
        self._waiting = []
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._waiting, self._size = [], 0
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
            self._made.move_to(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.abandon()


class _Made(io.RawIOBase):
    """The bytes of a row group until they are in the file: Arrow ends the process where a disk is full under it."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:  # noqa: ANN401
        piece = bytes(data)
        self._pieces.append(piece)
        self._at += len(piece)
        return len(piece)

    def move_to(self, file: io.BufferedWriter) -> None:
        pieces, self._pieces = self._pieces, []
        file.writelines(pieces)
        file.flush()
