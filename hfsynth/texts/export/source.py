"""Open what is to be exported, and read it from any row on. Knows nothing of tokenizers or output formats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias
from uuid import uuid4

import pyarrow.parquet as pq
from datasets import Dataset, IterableDataset

from hfsynth.core.errors import ColumnError, ConfigError, SourceError
from hfsynth.corpus.folder import split_order
from hfsynth.corpus.manifest import require_whole
from hfsynth.documents.dataset_splits import AnyDataset, Rows, splits_of
from hfsynth.texts.layouts import Row

ROWS_AT_A_TIME = 1000
COLUMNS = ("text", "id", "source_ids")
_FOOTER = 1 << 16

Exportable: TypeAlias = str | Path | AnyDataset | Iterable[Mapping[str, object]]


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


def open_sources(
    data: Exportable, *, split: str | Sequence[str] | None = None, identity: str | None = None
) -> dict[str, ExportSource]:
    """Open every split of a corpus folder or of a dict of datasets, or those that `split` names, in their usual order.

    A Dataset, a stream or any rows are the split `train`. Streams and plain rows have no identity of their own: give
    one to be able to resume. Raises SourceError for a split that is not there, ColumnError where no column is `text`.
    """
    asked = (split,) if isinstance(split, str) else split
    if isinstance(data, str | Path):
        return _open_folder(Path(data), asked)
    if isinstance(data, Mapping):
        splits = splits_of(data, what="what is exported")
        names = sorted(_chosen(asked, splits, "The dict"), key=split_order)
        return {name: _open_rows(splits[name], identity and f"{identity} {name}", f"Split {name!r}") for name in names}
    if isinstance(data, Dataset):
        return {"train": _open_rows(data, identity, "The dataset")}
    return {"train": _RowsSource(data, identity or uuid4().hex)}


def _open_rows(rows: Rows, identity: str | None, where: str) -> ExportSource:
    if isinstance(rows, IterableDataset):
        return _RowsSource(rows, identity or uuid4().hex)
    _check_text(rows.column_names, where)
    return _DatasetSource(rows)


def _chosen(asked: Sequence[str] | None, there: Iterable[str], where: str) -> list[str]:
    """Return the splits that are asked for, all where none is; raise SourceError for one that is not there."""
    found = sorted(there, key=split_order)
    missing = [name for name in asked or () if name not in found]
    if missing or not found:
        raise SourceError(
            f"{where} has no texts in split {missing[0]!r}; splits there: {', '.join(found) or 'none'}."
            if missing
            else f"{where} has no training texts.",
            hint="Give a corpus folder that `hfsynth render` or `hfsynth mix` wrote, and leave --split out for all.",
        )
    return list(dict.fromkeys(asked or found))


def _open_folder(folder: Path, asked: Sequence[str] | None) -> dict[str, ExportSource]:
    files = sorted((folder / "data").glob("*-*.parquet"))
    require_whole(folder, "data/")
    names = _chosen(asked, {path.name.partition("-")[0] for path in files}, str(folder))
    require_whole(folder, "data/", digests=True)
    for file in files:
        _check_text(pq.read_schema(file).names, str(file))
    return {
        name: _ParquetSource(folder, tuple(path for path in files if path.name.partition("-")[0] == name))
        for name in sorted(names, key=split_order)
    }


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
