"""Read the rows of files: one reader a kind. Streams in constant memory, from any row on.

A reader gives rows as they stand in the source, with every column in every row. Knows nothing of where files are found,
of which column is the text, or of ids; the columns in `free` are somebody else's to check.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO, Any, Protocol, cast

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Value

from hfsynth.copying import Copy
from hfsynth.errors import ColumnError, SourceError, UsageError
from hfsynth.schemas import (
    NOTHING,
    Kind,
    describe,
    feature_of,
    features_of,
    holds,
    kind_of,
    kind_of_cell,
    merge,
    settled,
    storable,
    truth,
)
from hfsynth.watching import FileWatch, RemoteWatch

Row = dict[str, Any]

SAMPLE_ROWS = 1000
"""How many rows decide the columns of a format that does not declare them."""

LONGEST = 2**25
"""How many bytes of a line or of a text file, or characters of a text, are read: one with more is `too_long`."""

UNREAD = "_unread"
"""The key under which a row says that its text was not read, and why. It is no column."""

TABLE_ROWS = 64
"""How many rows are held at once: a text may have a megabyte."""

_PIECE = 2**16
_BUFFER = 2**18
_BROKEN_OFF = (EOFError, zlib.error, gzip.BadGzipFile)
_SURROGATES = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: the error says where it stands and why. It has its place among the others."""

    error: UsageError


class Reader(Protocol):
    """A source's rows and columns. `num_rows` is None where only reading everything would tell; `count` does that.

    A row that cannot be read is given as a BadRow, and counted.
    """

    features: Features
    num_rows: int | None

    def read(self, start: int) -> Iterator[Row | BadRow]:
        """Give the rows from number `start` on, in order."""

    def count(self) -> int:
        """Return the number of rows."""

    def check(self) -> None:
        """Raise SourceError where what has been read since the last check may have changed in the meantime."""


class FileSystem(Protocol):
    """What is needed of an fsspec file system."""

    def open(self, path: str, mode: str) -> IO[bytes]: ...
    def info(self, path: str) -> dict[str, Any]: ...
    def isdir(self, path: str) -> bool: ...
    def isfile(self, path: str) -> bool: ...
    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, Any]]: ...
    def glob(self, path: str, *, detail: bool) -> dict[str, dict[str, Any]]: ...
    def cat_file(self, path: str) -> bytes: ...
    def ukey(self, path: str) -> str: ...


@dataclass(frozen=True, slots=True)
class File:
    """A file of a source; `name` is what people know it by, relative to the source."""

    fs: FileSystem
    path: str
    name: str
    size: int | None
    watch: FileWatch | RemoteWatch
    copy: Copy | None = None

    @contextmanager
    def open_as_it_is(self) -> Iterator[IO[bytes]]:
        """Open for reading; what goes wrong while it is open, a change included, is a SourceError that names it."""
        with reading(self.name):
            if isinstance(self.watch, FileWatch):
                with self.watch.open() as stream:
                    yield stream
                return
            self.watch.check()
            with self.copy.open() if self.copy else self._remote() as stream:
                yield stream
            self.watch.check()

    def _remote(self) -> IO[bytes]:
        """Open what is not on this machine; fsspec's own files cannot read a line up to a size."""
        return io.BufferedReader(cast("io.RawIOBase", self.fs.open(self.path, "rb")), _BUFFER)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading, decompressed."""
        with self.open_as_it_is() as stream:
            if not self.name.lower().endswith(".gz"):
                yield stream
                return
            with gzip.open(stream, "rb") as content:
                yield cast("IO[bytes]", content)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what files and networks raise into a SourceError."""
    try:
        yield
    except _unreadable() as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{name} cannot be read: {reason}", hint="Check that it is whole and reachable.") from error


def _unreadable() -> tuple[type[Exception], ...]:
    """Return what files and networks raise; fsspec reads the web with aiohttp, where that is installed."""
    known = (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeError, csv.Error, httpx2.HTTPError)
    web = sys.modules.get("aiohttp")
    return known if web is None else (*known, web.ClientError)


def printable(text: str) -> str:
    """Replace lone surrogates, which no file can hold, by U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


class FileReader(ABC):
    """Rows of several files of one kind, one file after the other."""

    features: Features
    num_rows: int | None = None

    def __init__(self, files: Sequence[File], free: Collection[str] = ()) -> None:
        self._files = files
        self._free = frozenset(free)
        self._lengths: dict[str, int] = {}
        self._last: File | None = None
        self.features = self._inspect()

    @abstractmethod
    def _inspect(self) -> Features:
        """Return the columns."""

    @abstractmethod
    def _rows(self, file: File, skip: int) -> Iterator[Row | BadRow]:
        """Give a file's rows without the first `skip`."""

    @abstractmethod
    def _count(self, file: File) -> int:
        """Return a file's number of rows."""

    def read(self, start: int) -> Iterator[Row | BadRow]:
        for file in self._files:
            # The last file need not be counted to find out that the start is in it.
            length = self._length(file) if start and file is not self._files[-1] else None
            if length is not None and start >= length:
                start -= length
                continue
            self._last = file
            yield from self._rows(file, start)
            start = 0

    def count(self) -> int:
        return sum(self._length(file) for file in self._files)

    def check(self) -> None:
        """Look at the file that was read last, where it is not looked at with every block of it."""
        if self._last is not None and isinstance(self._last.watch, RemoteWatch):
            with reading(self._last.name):
                self._last.watch.check()

    def _length(self, file: File) -> int:
        if file.path not in self._lengths:
            self._lengths[file.path] = self._count(file)
        return self._lengths[file.path]


class TextReader(FileReader):
    """One document a file: its name is the id. Bytes that are no UTF-8 become U+FFFD, a byte order mark goes."""

    def _inspect(self) -> Features:
        self.num_rows = len(self._files)
        return Features({"id": Value("string"), "text": Value("string")})

    def _rows(self, file: File, skip: int) -> Iterator[Row]:
        if skip:
            return
        with file.open() as stream:
            content = stream.read(LONGEST + 1)
        if len(content) > LONGEST:
            yield {"id": printable(file.name), UNREAD: too_long()}
        else:
            yield {"id": printable(file.name), "text": content.decode("utf-8-sig", errors="replace")}

    def _count(self, file: File) -> int:
        return 1


class JsonLinesReader(FileReader):
    """One object a line; blank lines don't count. The columns are those of the first rows, and hold what those hold."""

    def _inspect(self) -> Features:
        kinds: dict[str, Kind] = {}
        for file, number, row in self._sample():
            for name, value in row.items():
                known = kinds.setdefault(name, NOTHING)
                kinds[name] = known if name in self._free else _joined(file, number, name, known, value)
        features = Features({name: feature_of(kind, name) for name, kind in kinds.items()})
        self._kinds = {name: settled(kind) for name, kind in kinds.items()}
        self._blank = dict.fromkeys(kinds)
        return features

    def _sample(self) -> Iterator[tuple[File, int, Row]]:
        """Give the first rows that can be read; where none can, raise what is wrong with the first."""
        everything = ((file, number, line) for file in self._files for number, line in _lines(file))
        bad: BadRow | None = None
        good = 0
        for file, number, line in islice(everything, SAMPLE_ROWS):
            row = _object(file, number, line)
            if isinstance(row, BadRow):
                bad = bad or row
            elif UNREAD not in row:
                good += 1
                yield file, number, row
        if bad is not None and not good:
            raise bad.error

    def _rows(self, file: File, skip: int) -> Iterator[Row | BadRow]:
        for number, line in islice(_lines(file), skip, None):
            row = _object(file, number, line)
            yield row if isinstance(row, BadRow) or UNREAD in row else self._fitted(file, number, row)

    def _fitted(self, file: File, number: int, row: Row) -> Row | BadRow:
        try:
            for name, value in row.items():
                if name not in self._free:
                    self._check(file, number, name, value)
        except ColumnError as error:
            return BadRow(error)
        return {**self._blank, **row}

    def _check(self, file: File, number: int, name: str, value: Any) -> None:  # noqa: ANN401
        if name not in self._kinds:
            raise ColumnError(
                f"{file.name}, line {number}: the column {name!r} is not among those of the first {SAMPLE_ROWS} rows: "
                f"{', '.join(self._kinds)}.",
                hint=f"Put a row with {name!r} among the first {SAMPLE_ROWS}, or take the key out.",
            )
        if not holds(self._kinds[name], value):
            raise _misfit(f"{file.name}, line {number}", name, self._kinds[name], (kind_of(value), value))

    def _count(self, file: File) -> int:
        return sum(1 for _ in _lines(file))


def too_long() -> str:
    """Say why a text was not read."""
    return f"longer than {LONGEST:,} bytes, and not read beyond them"


def _lines(file: File) -> Iterator[tuple[int, bytes | Row | BadRow]]:
    """Give the lines that are not blank, with their numbers from 1.

    Of one that is too long a row without a text, at last a bad row where the file breaks off.
    """
    number = 0
    with file.open() as stream:
        try:
            for number, line in enumerate(iter(partial(stream.readline, LONGEST + 1), b""), 1):
                content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if len(line) > LONGEST and not line.endswith(b"\n"):
                    del line, content
                    _pass_line(stream)
                    yield number, {"id": f"{printable(file.name)}:{number}", UNREAD: too_long()}
                elif not content.isspace() and content:
                    yield number, content
        except _BROKEN_OFF as error:
            yield number + 1, _broken_off(file, number + 1, error)


def _pass_line(stream: IO[bytes]) -> None:
    """Read on to the end of a line, and keep nothing of it."""
    while (piece := stream.readline(_PIECE)) and not piece.endswith(b"\n"):
        pass


def _broken_off(file: File, number: int, error: Exception) -> BadRow:
    return BadRow(
        SourceError(
            f"{file.name}, line {number} and what follows cannot be read: {error}.",
            hint="Check that the file is whole.",
        )
    )


def _object(file: File, number: int, line: bytes | Row | BadRow) -> Row | BadRow:
    if not isinstance(line, bytes):
        return line
    try:
        row = json.loads(line.decode("utf-8", errors="replace"), strict=False)
    except (ValueError, RecursionError) as error:
        return BadRow(_no_object(file, number, f"is no JSON: {error}"))
    if not isinstance(row, dict):
        return BadRow(_no_object(file, number, f"holds a {type(row).__name__}, not an object"))
    return _repaired(row) if _ESCAPED_SURROGATE.search(line) else row


def _no_object(file: File, number: int, what: str) -> SourceError:
    return SourceError(
        f"{file.name}, line {number} {what}.",
        hint="Each line must be one JSON object. An array of objects is made into lines by: jq -c '.[]' FILE",
    )


def _repaired(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_repaired(part) for part in value]
    if isinstance(value, dict):
        return {printable(name): _repaired(part) for name, part in value.items()}
    return value


def _joined(file: File, number: int, name: str, known: Kind, value: Any) -> Kind:  # noqa: ANN401
    kind = kind_of(value)
    joined = None if kind is None else merge(known, kind)
    if joined is None:
        raise _misfit(f"{file.name}, line {number}", name, known, (kind, value))
    return joined


def _misfit(where: str, name: str, expected: Kind, found: tuple[Kind | None, object]) -> ColumnError:
    kind, shown = describe(found[0]), json.dumps(found[1])
    return ColumnError(
        f"{where}: the column {name!r} holds {describe(expected)} in the rows before, and here {kind}: "
        f"{shown if len(shown) <= 80 else shown[:80] + '…'}",
        hint=f"Give {name!r} one type of at most 64 bits in all rows, or leave the column out.",
    )


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
            except _BROKEN_OFF as error:
                yield reader.line_num + 1, _broken_off(file, reader.line_num + 1, error)

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
    for line in iter(partial(text.readline, LONGEST + 1), ""):
        if len(line) > LONGEST and not line.endswith(("\n", "\r")):
            raise csv.Error(f"the line is {too_long()}")
        yield line


def _cell(where: str, name: str, kind: Kind, cell: str) -> str | int | float | bool | None:
    if kind == "string":
        return cell
    found = kind_of_cell(cell)
    if merge(kind, found) != kind:
        raise _misfit(where, name, kind, (found, cell))
    if found == NOTHING:
        return None
    if kind == "bool":
        return truth(cell)
    return int(cell) if kind == "int64" else float(cell)


def other_columns(where: str, found: Sequence[str], expected: Sequence[str]) -> ColumnError:
    """Make the error for a part of a source that has other columns than the part before."""
    return ColumnError(
        f"{where} has the columns {', '.join(found)}; before it the columns are {', '.join(expected)}.",
        hint="Give files of the same columns and types, such as one folder or one split.",
    )


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
