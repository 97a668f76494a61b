"""Open what is to be exported, and read it from any row on. Knows nothing of tokenizers or output formats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias
from uuid import uuid4

import pyarrow.parquet as pq
from datasets import Dataset, IterableDataset

from hfsynth.errors import ColumnError, ConfigError, SourceError
from hfsynth.holdings import require_whole
from hfsynth.layouts import Row

ROWS_AT_A_TIME = 1000
COLUMNS = ("text", "id", "source_ids")
_FOOTER = 1 << 16

Exportable: TypeAlias = str | Path | Dataset | IterableDataset | Iterable[Mapping[str, object]]


class ExportSource(Protocol):
    """Rows with a `text`, in an order that stays the same as long as `identity` does."""

    @property
    def identity(self) -> str:
        """Name the content: two sources of one identity hold the same rows."""

    @property
    def rows(self) -> int | None:
        """Count the rows, where that is known beforehand."""

    def read(self, start: int) -> Iterator[Row]:
        """Yield the rows from number `start` on."""


def open_source(data: Exportable, *, split: str = "train", identity: str | None = None) -> ExportSource:
    """Open a corpus folder (the parquet files of `split`), a Dataset, a stream, or any rows.

    Streams and plain rows have no identity of their own: give one to be able to resume. Raises SourceError where the
    folder holds no such split, and ColumnError where there is no column `text`.
    """
    if isinstance(data, str | Path):
        return _open_folder(Path(data), split)
    if isinstance(data, Dataset):
        _check_text(data.column_names, "The dataset")
        return _DatasetSource(data)
    if isinstance(data, Mapping):
        raise SourceError(
            f"Expected one dataset; got a {type(data).__name__} of {', '.join(map(str, data))}.",
            hint="Choose one split of it, for example ds['train'].",
        )
    return _RowsSource(data, identity or uuid4().hex)


def _open_folder(folder: Path, split: str) -> ExportSource:
    files = tuple(sorted((folder / "data").glob(f"{split}-*.parquet")))
    require_whole(folder, "data/")
    if not files:
        there = sorted({path.name.split("-")[0] for path in (folder / "data").glob("*-*.parquet")})
        raise SourceError(
            f"{folder} holds no data/{split}-*.parquet; splits there: {', '.join(there) or 'none'}.",
            hint="Give a corpus folder that `hfsynth render` or `hfsynth mix` wrote, or another split.",
        )
    require_whole(folder, "data/", digests=True)
    for file in files:
        _check_text(pq.read_schema(file).names, str(file))
    return _ParquetSource(folder, files)


def _check_text(columns: Iterable[str], where: str) -> None:
    names = list(columns)
    if "text" not in names:
        raise ColumnError(
            f"{where} has no column 'text'; it has {', '.join(names) or 'none'}.",
            hint="Export what `hfsynth render` or `hfsynth mix` made.",
        )


@dataclass(frozen=True, slots=True)
class _ParquetSource:
    folder: Path
    files: tuple[Path, ...]

    @property
    def identity(self) -> str:
        """Hash names, sizes and footers; a footer holds the statistics and places of all columns."""
        digest = hashlib.blake2b(digest_size=16)
        for path in self.files:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(self.folder)}\0{size}\0".encode())
            with path.open("rb") as file:
                file.seek(max(0, size - _FOOTER))
                digest.update(file.read())
        return digest.hexdigest()

    @property
    def rows(self) -> int:
        return sum(pq.read_metadata(path).num_rows for path in self.files)

    def read(self, start: int) -> Iterator[Row]:
        for path in self.files:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    if start < count:
                        yield from islice(_group_rows(file, group), start, None)
                    start = max(0, start - count)


def _group_rows(file: pq.ParquetFile, group: int) -> Iterator[Row]:
    columns = [name for name in COLUMNS if name in file.schema_arrow.names]
    for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, row_groups=[group], columns=columns):
        yield from batch.to_pylist()


@dataclass(frozen=True, slots=True)
class _DatasetSource:
    data: Dataset

    @property
    def identity(self) -> str:
        return str(self.data._fingerprint)

    @property
    def rows(self) -> int:
        return len(self.data)

    def read(self, start: int) -> Iterator[Row]:
        chosen = self.data.select_columns([name for name in COLUMNS if name in self.data.column_names])
        rest = chosen.with_format(None).select(range(start, len(self.data)))
        for batch in rest.iter(batch_size=ROWS_AT_A_TIME):
            yield from (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


@dataclass(frozen=True, slots=True)
class _RowsSource:
    data: Iterable[Mapping[str, object]]
    identity: str
    rows: None = None

    def read(self, start: int) -> Iterator[Row]:
        if isinstance(self.data, IterableDataset):
            return self._checked(self.data.skip(start) if start else self.data)
        if start and isinstance(self.data, Iterator):
            raise ConfigError(
                "An iterator that is used up cannot be resumed from.",
                hint="Give something that can be read again, or export to a new folder.",
            )
        return self._checked(islice(self.data, start, None))

    def _checked(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if "text" not in row:
                _check_text(row, "A row")
            yield row
