"""Read files of comma-separated values.

Where quotation marks are wrong, an unclosed one included, the rest of the file is one row that cannot be read. To go on
at the next line would be to guess: where a cell of several lines lacks a mark, its other lines may pass for rows, and
documents would be invented. A row that is only too long is passed over by the marks in it, to its own end.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from typing import Self

from datasets import Features

from hfsynth.core.errors import ColumnError, SourceError
from hfsynth.core.text import encodable
from hfsynth.documents import readers
from hfsynth.documents.column_types import NOTHING, PlainType, feature_of, kind_of_cell, merge, settled, truth
from hfsynth.documents.files import File
from hfsynth.documents.readers import (
    BROKEN_OFF,
    SAMPLE_ROWS,
    UNREAD,
    BadRow,
    FileReader,
    Row,
    broken_off,
    misfit,
    other_columns,
    too_long,
)

_PIECE = 2**16
_TOKENS = re.compile(r'"|,|\r\n|\r|\n|[^",\r\n]+')
_NEXT = {
    ("start", '"'): "within",
    ("start", "text"): "plain",
    ("within", '"'): "closed",
    ("closed", '"'): "within",
    **{(state, ","): "start" for state in ("plain", "closed")},
    **{(state, "end"): "end" for state in ("start", "plain", "closed")},
}


class CsvReader(FileReader):
    """Comma-separated values under a header. Numbers and truth values are recognised in the first rows.

    An empty cell is None in columns of numbers or truth values, and an empty string elsewhere.
    """

    def _inspect(self) -> Features:
        header = self._common_header()
        kinds: dict[str, PlainType] = dict.fromkeys(header, NOTHING)
        for _, row in islice(self._sample(), SAMPLE_ROWS):
            if isinstance(row, BadRow) or UNREAD in row:
                continue
            for name, cell in row.items():
                kinds[name] = merge(kinds[name], kind_of_cell(cell)) or "string"
        self._kinds = {name: "string" if name in self._free else settled(kind) for name, kind in kinds.items()}
        return Features({name: feature_of(kind, name) for name, kind in self._kinds.items()})

    def _common_header(self) -> list[str]:
        first: list[str] = []
        for file in self._files:
            header = self._header(file, self._records(file))
            if len(set(header)) < len(header):
                raise SourceError(f"{file.name} has two columns of one name: {', '.join(header)}.", hint="Rename one.")
            first = first or header
            if header and set(header) != set(first):
                raise other_columns(file.name, header, first)
        return first

    def _sample(self) -> Iterator[tuple[int, Row | BadRow]]:
        for file in self._files:
            yield from self._cells(file)

    def _header(self, file: File, records: Iterator[tuple[int, list[str] | BadRow | Row]]) -> list[str]:
        _, header = next(records, (1, list[str]()))
        if isinstance(header, BadRow):
            raise header.error
        if isinstance(header, dict):
            raise SourceError(f"{file.name}: the header is {too_long()}.", hint="Begin it with the columns' names.")
        return header

    def _records(self, file: File) -> Iterator[tuple[int, list[str] | BadRow | Row]]:
        """Give the lines' numbers and fields, the header's first; blank lines don't count.

        Of a row that is too long one without a text; a bad row for the rest of a file that breaks off, or whose
        quotation marks are wrong.
        """
        # The limit is the whole process's, and 128 KB by default: less than a document may have.
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
        with file.open() as stream, io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="") as text:
            lines = _Lines(text)
            try:
                yield from _until_the_end(file, lines)
            except csv.Error as error:
                wrong = SourceError(
                    f"{file.name}, line {lines.first} and what follows are no CSV: {error}.",
                    hint="Check its quotation marks.",
                )
                yield lines.number, BadRow(wrong)
            except BROKEN_OFF as error:
                yield lines.number + 1, broken_off(file, lines.number + 1, error)

    def _cells(self, file: File, skip: int = 0) -> Iterator[tuple[int, Row | BadRow]]:
        records = self._records(file)
        header = self._header(file, records)
        for line, record in islice(records, skip, None):
            if not isinstance(record, list):
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
            yield row if isinstance(row, BadRow) or UNREAD in row else self._typed(f"{file.name}, line {line}", row)

    def _typed(self, where: str, row: dict[str, str]) -> Row | BadRow:
        try:
            return {name: _cell(where, name, kind, row[name]) for name, kind in self._kinds.items()}
        except ColumnError as error:
            return BadRow(error)

    def _count(self, file: File) -> int:
        return max(0, sum(1 for _ in self._records(file)) - 1)


class _TooLongError(Exception):
    """A row is longer than is read; its lines were passed over."""


class _Lines:
    """A file's lines for `csv.reader`, by rows: `begin_row` says that a row was given and the next line begins one."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._row: list[str] = []
        self._size = 0
        self.number = 0
        self.first = 1

    def begin_row(self) -> None:
        self._row, self._size, self.first = [], 0, self.number + 1

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        """Give the next line; raise _TooLongError where a row gets too long, with its end passed."""
        line = self._text.readline(readers.LONGEST + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._row.append(line)
        self._size += len(line)
        if self._size > readers.LONGEST:
            self._pass_row()
            raise _TooLongError
        return line

    def _pass_row(self) -> None:
        """Read on to where the row ends by its quotation marks, and keep nothing of it."""
        marks = _Marks()
        whole = [marks.take(line) for line in self._row][-1]
        self._row = []
        while not whole:
            line = self._text.readline(_PIECE)
            if not line:
                if marks.within:
                    raise csv.Error("unexpected end of data")
                return
            whole = marks.take(line)
            self.number += line.endswith(("\n", "\r"))


class _Marks:
    """Where the reading of a row stands: as far as `csv.reader` would be, which keeps what it reads."""

    def __init__(self) -> None:
        self._state = "start"

    @property
    def within(self) -> bool:
        """Whether a quotation mark is open."""
        return self._state == "within"

    def take(self, text: str) -> bool:
        """Read on; return whether the row ends with it. Raise csv.Error where a closing mark is followed by text."""
        for token in _TOKENS.findall(text):
            kind = token if token in '",' else "end" if token[0] in "\r\n" else "text"
            if self._state == "closed" and kind == "text":
                raise csv.Error("',' expected after '\"'")
            self._state = _NEXT.get((self._state, kind), self._state)
        return self._state == "end"


def _until_the_end(file: File, lines: _Lines) -> Iterator[tuple[int, list[str] | Row]]:
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            record: list[str] | Row = next(reader)
        except StopIteration:
            return
        except _TooLongError:
            reader = csv.reader(lines, strict=True)
            record = {"id": f"{encodable(file.name)}:{lines.first}", UNREAD: too_long()}
        if record:
            yield lines.number, record
        lines.begin_row()


def _cell(where: str, name: str, kind: PlainType, cell: str) -> str | int | float | bool | None:
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
