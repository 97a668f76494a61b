"""Read files of one JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import IO, Any

from datasets import Features

from hfsynth.core.errors import ColumnError, SourceError
from hfsynth.core.text import encodable
from hfsynth.documents import readers
from hfsynth.documents.column_types import NOTHING, PlainType, feature_of, holds, kind_of, merge, settled
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
    too_long,
)

_PIECE = 2**16
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonLinesReader(FileReader):
    """One object a line; blank lines don't count. The columns are those of the first rows, and hold what those hold."""

    def _inspect(self) -> Features:
        kinds: dict[str, PlainType] = {}
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
            raise misfit(f"{file.name}, line {number}", name, self._kinds[name], (kind_of(value), value))

    def _count(self, file: File) -> int:
        return sum(1 for _ in _lines(file))


def _lines(file: File) -> Iterator[tuple[int, bytes | Row | BadRow]]:
    """Give the lines that are not blank, with their numbers from 1.

    Of one that is too long a row without a text, at last a bad row where the file breaks off.
    """
    number = 0
    with file.open() as stream:
        try:
            for number, line in enumerate(iter(partial(stream.readline, readers.LONGEST + 1), b""), 1):
                content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if len(line) > readers.LONGEST and not line.endswith(b"\n"):
                    del line, content
                    _pass_line(stream)
                    yield number, {"id": f"{encodable(file.name)}:{number}", UNREAD: too_long()}
                elif not content.isspace() and content:
                    yield number, content
        except BROKEN_OFF as error:
            yield number + 1, broken_off(file, number + 1, error)


def _pass_line(stream: IO[bytes]) -> None:
    """Read on to the end of a line, and keep nothing of it."""
    while (piece := stream.readline(_PIECE)) and not piece.endswith(b"\n"):
        pass


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
        return encodable(value)
    if isinstance(value, list):
        return [_repaired(part) for part in value]
    if isinstance(value, dict):
        return {encodable(name): _repaired(part) for name, part in value.items()}
    return value


def _joined(file: File, number: int, name: str, known: PlainType, value: Any) -> PlainType:  # noqa: ANN401
    kind = kind_of(value)
    joined = None if kind is None else merge(known, kind)
    if joined is None:
        raise misfit(f"{file.name}, line {number}", name, known, (kind, value))
    return joined
