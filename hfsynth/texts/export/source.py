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
from hfsynth.core.private_names import fingerprint_of
from hfsynth.core.store_paths import AnyPath, StorePath, sorted_glob
from hfsynth.core.stores import any_path
from hfsynth.corpus.folder import split_order
from hfsynth.corpus.manifest import require_whole
from hfsynth.corpus.parquet import footer, parquet_file
from hfsynth.documents.dataset_splits import AnyDataset, Rows, splits_of
from hfsynth.texts.layouts import Row

ROWS_AT_A_TIME = 1000
_FOOTER = 1 << 16

Exportable: TypeAlias = str | Path | StorePath | AnyDataset | Iterable[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class ExportContent:
    """What of a corpus is exported: the folder it is in, its columns, those it cannot do without, what makes it."""

    folder: str
    columns: tuple[str, ...]
    needs: tuple[str, ...]
    called: str
    remedy: str


TEXTS = ExportContent(
    "data", ("text", "id", "source_ids"), ("text",), "training texts", "`hfsynth render` or `hfsynth mix`"
)
SPANNED_TEXTS = ExportContent(
    "data",
    ("text", "id", "source_ids", "pair_spans"),
    ("text", "pair_spans"),
    "training texts",
    "`hfsynth render --pair-spans`, or `hfsynth mix` of that",
)
PAIRS = ExportContent("pairs", ("id", "text", "pairs", "synthesis"), ("text", "pairs"), "pairs", "`hfsynth synthesize`")


class ExportSource(Protocol):
    """Rows in an order that stays the same as long as `identity` does."""

    @property
    def identity(self) -> str:
        """Name the content: two sources of one identity hold the same rows."""

    @property
    def rows(self) -> int | None:
        """Count the rows, where that is known beforehand."""

    def read(self, start: int) -> Iterator[Row]:
        """Yield the rows from number `start` on."""


def open_sources(
    data: Exportable,
    *,
    split: str | Sequence[str] | None = None,
    identity: str | None = None,
    content: ExportContent = TEXTS,
) -> dict[str, ExportSource]:
    """Open every split of a corpus folder or of a dict of datasets, or those that `split` names, in their usual order.

    A Dataset, a stream or any rows are the split `train`. Streams and plain rows have no identity of their own: give
    one to be able to resume. Raises SourceError for a split that is not there, ColumnError where a column is missing.
    """
    asked = (split,) if isinstance(split, str) else split
    if isinstance(data, str | Path | StorePath):
        return _open_folder(any_path(data), asked, content)
    if isinstance(data, Mapping):
        splits = splits_of(data, what="what is exported")
        names = sorted(_chosen(asked, splits, "The dict", content), key=split_order)
        named = {name: identity and f"{identity} {name}" for name in names}
        return {name: _open_rows(splits[name], named[name], f"Split {name!r}", content) for name in names}
    if isinstance(data, Dataset):
        return {"train": _open_rows(data, identity, "The dataset", content)}
    return {"train": _RowsSource(data, identity or uuid4().hex, content)}


def _open_rows(rows: Rows, identity: str | None, where: str, content: ExportContent) -> ExportSource:
    if isinstance(rows, IterableDataset):
        return _RowsSource(rows, identity or uuid4().hex, content)
    _check_columns(rows.column_names, where, content)
    return _DatasetSource(rows, content)


def _chosen(asked: Sequence[str] | None, there: Iterable[str], where: str, content: ExportContent) -> list[str]:
    """Return the splits that are asked for, all where none is; raise SourceError for one that is not there."""
    found = sorted(there, key=split_order)
    missing = [name for name in asked or () if name not in found]
    if missing or not found:
        raise SourceError(
            f"{where} has no {_short(content)} in split {missing[0]!r}; splits there: {', '.join(found) or 'none'}."
            if missing
            else f"{where} has no {content.called}.",
            hint=f"Give a corpus folder that {content.remedy} wrote, and leave --split out for all.",
        )
    return list(dict.fromkeys(asked or found))


def _short(content: ExportContent) -> str:
    return content.called.rpartition(" ")[2]


def _open_folder(folder: AnyPath, asked: Sequence[str] | None, content: ExportContent) -> dict[str, ExportSource]:
    files = sorted_glob(folder / content.folder, "*-*.parquet")
    require_whole(folder, f"{content.folder}/")
    names = _chosen(asked, {path.name.partition("-")[0] for path in files}, str(folder), content)
    require_whole(folder, f"{content.folder}/", digests=True)
    for file in files:
        _check_columns(footer(file).schema.to_arrow_schema().names, str(file), content)
    return {
        name: _ParquetSource(folder, tuple(path for path in files if path.name.partition("-")[0] == name), content)
        for name in sorted(names, key=split_order)
    }


def _check_columns(columns: Iterable[str], where: str, content: ExportContent) -> None:
    names = list(columns)
    for needed in content.needs:
        if needed not in names:
            hint = f"Export what {content.remedy} made."
            raise ColumnError.missing(needed, names, where=where, hint=hint)


@dataclass(frozen=True, slots=True)
class _ParquetSource:
    folder: AnyPath
    files: tuple[AnyPath, ...]
    content: ExportContent

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
        return sum(footer(path).num_rows for path in self.files)

    def read(self, start: int) -> Iterator[Row]:
        for path in self.files:
            with parquet_file(path) as file:
                for group in range(file.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    if start < count:
                        yield from islice(_group_rows(file, group, self.content), start, None)
                    start = max(0, start - count)


def _group_rows(file: pq.ParquetFile, group: int, content: ExportContent) -> Iterator[Row]:
    columns = [name for name in content.columns if name in file.schema_arrow.names]
    for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, row_groups=[group], columns=columns):
        yield from batch.to_pylist()


@dataclass(frozen=True, slots=True)
class _DatasetSource:
    data: Dataset
    content: ExportContent

    @property
    def identity(self) -> str:
        return fingerprint_of(self.data)

    @property
    def rows(self) -> int:
        return len(self.data)

    def read(self, start: int) -> Iterator[Row]:
        chosen = self.data.select_columns([name for name in self.content.columns if name in self.data.column_names])
        rest = chosen.with_format(None).select(range(start, len(self.data)))
        for batch in rest.iter(batch_size=ROWS_AT_A_TIME):
            yield from (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


@dataclass(frozen=True, slots=True)
class _RowsSource:
    data: Iterable[Mapping[str, object]]
    identity: str
    content: ExportContent
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
            if any(needed not in row for needed in self.content.needs):
                _check_columns(row, "A row", self.content)
            yield row
