"""Read files of comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import partial
from itertools import islice

from datasets import Features

from hfsynth import readers
from hfsynth.errors import ColumnError, SourceError
from hfsynth.readers import (
    BROKEN_OFF,
    SAMPLE_ROWS,
    BadRow,
    FileReader,
    Row,
    broken_off,
    misfit,
    other_columns,
    too_long,
)
from hfsynth.schemas import NOTHING, Kind, feature_of, kind_of_cell, merge, settled, truth
from hfsynth.source_files import File


class CsvReader(FileReader):
    """Comma-separated values under a header. Numbers and truth values are recognised in the first rows.

    An empty cell is None in columns of numbers or truth values, and an empty string elsewhere.
    """

    def _inspect(self) -> Features:
        header = self._common_header()
        kinds: dict[str, Kind] = dict.fromkeys(header, NOTHING)
        for _, row in islice(self._sample(), SAMPLE_ROWS):
            if isinstance(row, BadRow):
                continue
            for name, cell in row.items():
                kinds[name] = merge(kinds[name], kind_of_cell(cell)) or "string"
        self._kinds = {name: "string" if name in self._free else settled(kind) for name, kind in kinds.items()}
        return Features({name: feature_of(kind, name) for name, kind in self._kinds.items()})

    def _common_header(self) -> list[str]:
        first: list[str] = []
        for file in self._files:
            header = self._header(self._records(file))
            if len(set(header)) < len(header):
                raise SourceError(f"{file.name} has two columns of one name: {', '.join(header)}.", hint="Rename one.")
            first = first or header
            if header and set(header) != set(first):
                raise other_columns(file.name, header, first)
        return first

    def _sample(self) -> Iterator[tuple[int, dict[str, str] | BadRow]]:
        for file in self._files:
            yield from self._cells(file)

    def _header(self, records: Iterator[tuple[int, list[str] | BadRow]]) -> list[str]:
        header = next(records, (0, list[str]()))[1]
        if isinstance(header, BadRow):
            raise header.error
        return header

    def _records(self, file: File) -> Iterator[tuple[int, list[str] | BadRow]]:
        """Give the lines' numbers and fields, the header's first; blank lines don't count.

        Where quotation marks are wrong nobody knows where the next row begins: the rest of the file is one bad row.
        """
        # The limit is the whole process's, and 128 KB by default: less than a document may have.
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
        with file.open() as stream, io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="") as text:
            reader = csv.reader(_text_lines(text), strict=True)
            try:
                yield from ((reader.line_num, record) for record in reader if record)
            except csv.Error as error:
                hint = "Check its quotation marks."
                wrong = SourceError(f"{file.name}, line {reader.line_num} is no CSV: {error}.", hint=hint)
                yield reader.line_num, BadRow(wrong)
            except BROKEN_OFF as error:
                yield reader.line_num + 1, broken_off(file, reader.line_num + 1, error)

    def _cells(self, file: File, skip: int = 0) -> Iterator[tuple[int, dict[str, str] | BadRow]]:
        records = self._records(file)
        header = self._header(records)
        for line, record in islice(records, skip, None):
            if isinstance(record, BadRow):
                yield line, record
            elif len(record) != len(header):
                wrong = SourceError(
                    f"{file.name}, line {line}: {len(record)} fields, and the header has {len(header)}.",
                    hint="Fields with commas, quotes or line breaks must stand in quotation marks.",
                )
                yield line, BadRow(wrong)
            else:
                yield line, dict(zip(header, record, strict=True))

    def _rows(self, file: File, skip: int) -> Iterator[Row | BadRow]:
        for line, row in self._cells(file, skip):
            yield row if isinstance(row, BadRow) else self._typed(f"{file.name}, line {line}", row)

    def _typed(self, where: str, row: dict[str, str]) -> Row | BadRow:
        try:
            return {name: _cell(where, name, kind, row[name]) for name, kind in self._kinds.items()}
        except ColumnError as error:
            return BadRow(error)

    def _count(self, file: File) -> int:
        return max(0, sum(1 for _ in self._records(file)) - 1)


def _text_lines(text: io.TextIOWrapper) -> Iterator[str]:
    for line in iter(partial(text.readline, readers.LONGEST + 1), ""):
        if len(line) > readers.LONGEST and not line.endswith(("\n", "\r")):
            raise csv.Error(f"the line is {too_long()}")
        yield line


def _cell(where: str, name: str, kind: Kind, cell: str) -> str | int | float | bool | None:
    if kind == "string":
        return cell
    found = kind_of_cell(cell)
    if merge(kind, found) != kind:
        raise misfit(where, name, kind, (found, cell))
    if found == NOTHING:
        return None
    if kind == "bool":
        return truth(cell)
    return int(cell) if kind == "int64" else float(cell)
