"""What all readers of files have in common, and the reader of plain texts. Streams in constant memory, from any row on.

A reader gives rows as they stand in the source, with every column in every row. Knows nothing of where files are found,
of which column is the text, or of ids; the columns in `free` are somebody else's to check.
"""

from __future__ import annotations

import gzip
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from datasets import Features, Value

from hfsynth.core.errors import ColumnError, SourceError, UsageError
from hfsynth.core.text import encodable
from hfsynth.documents.column_types import PlainType, described_type
from hfsynth.documents.files import File, reading
from hfsynth.documents.watching import RemoteWatch

Row = dict[str, Any]

SAMPLE_ROWS = 1000
"""How many rows decide the columns of a format that does not declare them."""

LONGEST = 2**25
"""How many bytes of a line or of a text file, or characters of a text, are read: one with more is `too_long`."""

UNREAD = "_unread"
"""The key under which a row says that its text was not read, and why. It is no column."""

IDENTIFIED = "_identified"
"""The key under which a row says which kinds of identifiers its text had, one for each. It is no column."""

TABLE_ROWS = 64
"""How many rows are held at once: a text may have a megabyte."""

BROKEN_OFF = (EOFError, zlib.error, gzip.BadGzipFile)
"""What the reading of a compressed file that is not whole raises."""


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
            yield {"id": encodable(file.name), UNREAD: too_long()}
        else:
            yield {"id": encodable(file.name), "text": content.decode("utf-8-sig", errors="replace")}

    def _count(self, file: File) -> int:
        return 1


def too_long() -> str:
    """Say why a text was not read."""
    return f"longer than {LONGEST:,} bytes, and not read beyond them"


def broken_off(file: File, number: int, error: Exception) -> BadRow:
    """Return the last row of a file that breaks off, which stands for all that follows."""
    return BadRow(
        SourceError(
            f"{file.name}, line {number} and what follows cannot be read: {error}.",
            hint="Check that the file is whole.",
        )
    )


def misfit(where: str, name: str, expected: PlainType, found: tuple[PlainType | None, object]) -> ColumnError:
    """Make the error for a value of another type than those before."""
    kind, shown = described_type(found[0]), json.dumps(found[1])
    return ColumnError(
        f"{where}: the column {name!r} holds {described_type(expected)} in the rows before, and here {kind}: "
        f"{shown if len(shown) <= 80 else shown[:80] + '…'}",
        hint=f"Give {name!r} one type of at most 64 bits in all rows, or leave the column out.",
    )


def other_columns(where: str, found: Sequence[str], expected: Sequence[str]) -> ColumnError:
    """Make the error for a part of a source that has other columns than the part before."""
    return ColumnError(
        f"{where} has the columns {', '.join(found)}; before it the columns are {', '.join(expected)}.",
        hint="Give files of the same columns and types, such as one folder or one split.",
    )
