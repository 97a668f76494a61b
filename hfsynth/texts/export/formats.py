"""The files of a shard: JSON lines, Parquet, or token arrays for OLMo-core. Knows nothing of sources or resuming.

Token arrays. OLMo-core maps a `.npy` file with `np.memmap` and a dtype it is told: the file is the bare ids, without
the header that `np.save` writes. Each document ends with EOS. Beside it lies a `.csv.gz` with one line a document:
start, end, id, source file (left empty), row: the columns of the dolma toolkit, of which OLMo-core reads two.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from hfsynth.core.errors import ConfigError
from hfsynth.corpus.parquet import RowGroupWriter
from hfsynth.models.tokenizers import TextTokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding


T = TypeVar("T")
Prepared_contra = TypeVar("Prepared_contra", contravariant=True)
_PARQUET_SCHEMA = pa.schema({"text": pa.string()})


@dataclass(slots=True)
class Batch:
    """Documents in a row of the source: texts, ids, row numbers. `rows` counts those read for it, skipped ones too."""

    texts: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    row_numbers: list[int] = field(default_factory=list)
    rows: int = 0
    neutralized: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class ShardWriter(Protocol[Prepared_contra]):
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

    def open(self, paths: Sequence[Path]) -> ShardWriter[T]:
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

    def open(self, paths: Sequence[Path]) -> ShardWriter[bytes]:
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

    def open(self, paths: Sequence[Path]) -> ShardWriter[pa.RecordBatch]:
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


@dataclass(frozen=True, slots=True)
class TokenArrays:
    """Ids as OLMo-core maps them, two bytes each where the vocabulary allows, else four."""

    tokenizer: TextTokenizer
    endings: tuple[str, ...] = (".npy", ".csv.gz")

    @property
    def dtype(self) -> str:
        """Name the dtype, as OLMo-core's dataset config takes it."""
        return "uint16" if self.tokenizer.vocab_size <= 1 << 16 else "uint32"

    def prepare(self, texts: list[str]) -> list[Encoding]:
        return self.tokenizer.encode(texts)

    def open(self, paths: Sequence[Path]) -> ShardWriter[list[Encoding]]:
        return _TokenArrayWriter(self, paths[0], paths[1])


class _TokenArrayWriter:
    def __init__(self, layout: TokenArrays, array: Path, index: Path) -> None:
        bos, self._eos = layout.tokenizer.leading_bos(), layout.tokenizer.require_eos().id
        self._before = [bos.id] if bos else []
        self._specials = [*self._before, self._eos]
        self._dtype = np.dtype(layout.dtype)
        self._array = array.open("wb")
        self._index_file = index.open("wb")
        self._gzip = gzip.GzipFile(filename="", fileobj=self._index_file, mode="wb", mtime=0)
        self._index = io.TextIOWrapper(self._gzip, encoding="utf-8", newline="")
        self._lines = csv.writer(self._index, lineterminator="\n")
        self._end = 0
        self.tokens: int | None = 0
        self.size = 0

    def append(self, batch: Batch, prepared: list[Encoding]) -> None:
        ids: list[int] = []
        ends = [self._end]
        for encoding in prepared:
            ids += self._before
            ids += encoding.ids
            ids.append(self._eos)
            ends.append(self._end + len(ids))
        self._check(np.asarray(ids, dtype=self._dtype), len(prepared)).tofile(self._array)
        rows = zip(pairwise(ends), batch.ids, batch.row_numbers, strict=True)
        self._lines.writerows((start, end, name, "", row) for (start, end), name, row in rows)
        self.tokens = self._end = ends[-1]
        self.size = self._end * self._dtype.itemsize

    def _check(self, ids: np.ndarray, documents: int) -> np.ndarray:
        """Return the ids if BOS and EOS are there once a document."""
        for special in self._specials:
            if int(np.count_nonzero(ids == special)) != documents:
                raise ConfigError(
                    f"The tokenizer encodes ordinary text as its BOS or EOS token, id {special}.",
                    hint="They must be tokens that no text can hold: set another bos_token or eos_token.",
                )
        return ids

    def close(self) -> None:
        self._index.close()
        self._gzip.close()
        self._index_file.close()
        self._array.close()
