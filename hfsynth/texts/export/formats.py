"""What a form of a shard is, and the forms of text: JSON lines and Parquet. Knows nothing of sources or resuming.

Token ids are in `hfsynth.texts.export.token_arrays`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import pyarrow as pa

from hfsynth.core.text import Escape
from hfsynth.corpus.parquet import RowGroupWriter
from hfsynth.texts.export.records import SequenceCounts
from hfsynth.texts.layouts import Row, Skip, read_text
from hfsynth.texts.pair_spans import Span, moved, read_spans

T = TypeVar("T")
Prepared_contra = TypeVar("Prepared_contra", contravariant=True)
_PARQUET_SCHEMA = pa.schema({"text": pa.string()})


class Reading(NamedTuple):
    """What is written of a row, whether a control string was broken up in it, and where its pairs lie, if needed."""

    text: str
    neutralized: bool
    spans: Sequence[Span] = ()


class ExportReader(Protocol):
    """How a row is read."""

    def __call__(self, row: Row, number: int) -> Reading | Skip:
        """Return what is written of the row of this number, or why nothing is."""


@dataclass(frozen=True, slots=True)
class ExportTextReader:
    """Read the column `text`, with control strings broken up, and `pair_spans` where they are needed."""

    escape: Escape
    spanned: bool = False

    def __call__(self, row: Row, number: int) -> Reading | Skip:
        text = read_text(row, number)
        if isinstance(text, Skip):
            return text
        clean = self.escape.escape(text)
        spans = moved(read_spans(row, text, number), text, clean) if self.spanned else ()
        return Reading(clean, clean != text, spans)


@dataclass(slots=True)
class Batch:
    """Documents in a row of the source: texts, ids, row numbers, and where their pairs lie if that is needed.

    `rows` counts those read for it, skipped ones too.
    """

    texts: list[str] = field(default_factory=list)
    spans: list[Sequence[Span]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    row_numbers: list[int] = field(default_factory=list)
    rows: int = 0
    neutralized: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    sequences: SequenceCounts = SequenceCounts()


class ExportWriter(Protocol[Prepared_contra]):
    """One shard while it is written: its bytes so far, and its tokens where they are known."""

    size: int
    tokens: int | None

    def append(self, batch: Batch, prepared: Prepared_contra) -> None:
        """Write the documents of a batch."""

    def close(self) -> None:
        """Finish the files."""


class Format(Protocol[T]):
    """A kind of file: its endings, what is computed for a batch beforehand, and its writer."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Name the endings of a shard's files."""

    def prepare(self, texts: list[str]) -> T:
        """Compute what the writer needs; runs beside the writer, in another thread."""

    def open(self, paths: Sequence[Path]) -> ExportWriter[T]:
        """Begin a shard in these files, one for each ending."""


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One `{"text": ...}` a line, with `before` and `after` written around each text."""

    before: str = ""
    after: str = ""
    endings: tuple[str, ...] = (".jsonl",)

    def prepare(self, texts: list[str]) -> bytes:
        lines = (json.dumps({"text": f"{self.before}{text}{self.after}"}, ensure_ascii=False) for text in texts)
        return "".join(f"{line}\n" for line in lines).encode("utf-8")

    def open(self, paths: Sequence[Path]) -> ExportWriter[bytes]:
        return _JsonLinesWriter(paths[0])


@dataclass(frozen=True, slots=True)
class Lines:
    """Texts that are lines of JSON already."""

    endings: tuple[str, ...] = (".jsonl",)

    def prepare(self, texts: list[str]) -> bytes:
        return "".join(f"{text}\n" for text in texts).encode("utf-8")

    def open(self, paths: Sequence[Path]) -> ExportWriter[bytes]:
        return _JsonLinesWriter(paths[0])


class _JsonLinesWriter:
    tokens: int | None = None

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.size = 0

    def append(self, batch: Batch, prepared: bytes) -> None:
        self.size += self._file.write(prepared)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Parquet:
    """One column `text`, with `before` and `after` written around each text."""

    before: str = ""
    after: str = ""
    endings: tuple[str, ...] = (".parquet",)

    def prepare(self, texts: list[str]) -> pa.RecordBatch:
        column = pa.array([f"{self.before}{text}{self.after}" for text in texts], pa.string())
        return pa.RecordBatch.from_arrays([column], schema=_PARQUET_SCHEMA)

    def open(self, paths: Sequence[Path]) -> ExportWriter[pa.RecordBatch]:
        return _ParquetWriter(paths[0])


class _ParquetWriter:
    tokens: int | None = None

    def __init__(self, path: Path) -> None:
        self._writer = RowGroupWriter(path, _PARQUET_SCHEMA)
        self.size = 0

    def append(self, batch: Batch, prepared: pa.RecordBatch) -> None:
        self._writer.write(prepared)
        self.size += prepared.nbytes

    def close(self) -> None:
        self._writer.close()
