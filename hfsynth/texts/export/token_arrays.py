"""A shard of token ids, and what lies beside it: OLMo-core, Megatron, nanotron, litdata. Knows nothing of sources.

All map a file of bare ids, little-endian, documents back to back, each closed by EOS. They differ in the width
of an id and in how they are told where the documents are.

OLMo-core (`data/numpy_dataset.py`)
    `.npy`, without the header that `np.save` writes, and `.csv.gz`, a line a document: start, end, id, source file
    (left empty), row: the columns of the dolma toolkit, of which OLMo-core reads two.
Megatron-LM, Megatron-Bridge, NeMo (`megatron/core/datasets/indexed_dataset.py`)
    `.bin` and `.idx`: the magic word, version 1, the code of the width, how many sequences and documents there are, the
    length of each sequence in ids (int32), where it begins in bytes (int64), and which sequences begin a document
    (int64). Here every document is one sequence.
nanotron (datatrove's `pipeline/tokens/tokenizer.py`)
    `.ds`, `.ds.index` with the end of each document in ids (uint64), and `.ds.metadata` with the tokenizer and the
    bytes an id takes, the number of ids, and the same for people.
litdata, litgpt's `LitData` (`streaming/item_loader.py`, `TokensLoader`)
    `.bin`: three numbers of four bytes (items, where the one item begins and ends), then the ids; `index.json` with the
    chunks is written when all are there.

With a mask there is one byte a token beside the ids: 1 for those of a pair, and for an EOS right behind one.
"""

from __future__ import annotations

import csv
import gzip
import io
import struct
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from hfsynth.core.errors import ConfigError
from hfsynth.models.tokenizers import TextTokenizer
from hfsynth.texts.export.formats import Batch, ExportWriter
from hfsynth.texts.pair_spans import Span

if TYPE_CHECKING:
    from tokenizers import Encoding

_MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
_MEGATRON_CODES = {"uint16": 8, "int32": 4}
_MEGATRON_UINT16 = 65_500
"""The size of vocabulary from which on Megatron takes four bytes an id."""


class TokenIndex(Protocol):
    """What says where the documents of a shard are."""

    def add(self, ends: Sequence[int], batch: Batch) -> None:
        """Note the documents of a batch: each lies between two neighbours of `ends`, in ids from the shard's start."""

    def close(self) -> None:
        """Write what is left, and close the files."""


@dataclass(frozen=True, slots=True)
class TokenArrays(ABC):
    """Ids of a tokenizer, in the first of a shard's files, and an index of the documents in the others."""

    tokenizer: TextTokenizer
    masked: bool = False
    index_endings: ClassVar[tuple[str, ...]]
    mask_ending: ClassVar[str] = ""

    @property
    def endings(self) -> tuple[str, ...]:
        """Name the file of ids, those of the index, and the one of the mask."""
        return (*self.index_endings, *([self.mask_ending] if self.masked else []))

    @property
    def dtype(self) -> str:
        """Name numpy's dtype of the ids: two bytes each where the vocabulary allows, else four."""
        return "uint16" if self.tokenizer.vocab_size <= 1 << 16 else "uint32"

    @abstractmethod
    def index(self, paths: Sequence[Path]) -> TokenIndex:
        """Begin the files beside the ids."""

    def prepare(self, texts: list[str]) -> list[Encoding]:
        return self.tokenizer.encode_with_places(texts) if self.masked else self.tokenizer.encode(texts)

    def head(self, tokens: int) -> bytes:
        """Return what stands before so many ids; its length is always the same."""
        return b""

    def open(self, paths: Sequence[Path]) -> ExportWriter[list[Encoding]]:
        return _TokenWriter(self, paths)


class OlmoArrays(TokenArrays):
    """As OLMo-core maps them; the mask is for its `label_mask_paths`."""

    index_endings = (".npy", ".csv.gz")
    mask_ending = ".mask"

    def index(self, paths: Sequence[Path]) -> TokenIndex:
        return _Lines(paths[0])


class MegatronArrays(TokenArrays):
    """As Megatron's `IndexedDataset` maps them; it is given the path of a shard without its ending."""

    index_endings = (".bin", ".idx")

    @property
    def dtype(self) -> str:
        """Name the dtype that Megatron chooses for a vocabulary of this size."""
        return "uint16" if self.tokenizer.vocab_size < _MEGATRON_UINT16 else "int32"

    def index(self, paths: Sequence[Path]) -> TokenIndex:
        return _Sequences(paths[0], self.dtype)


class NanotronArrays(TokenArrays):
    """As nanotron's and datatrove's datasets map them; a folder is to hold ids of one tokenizer."""

    index_endings = (".ds", ".ds.index", ".ds.metadata")
    mask_ending = ".ds.loss"

    def index(self, paths: Sequence[Path]) -> TokenIndex:
        return _Ends(paths[0], paths[1], f"{self.tokenizer.name}|{np.dtype(self.dtype).itemsize}")


class LitdataArrays(TokenArrays):
    """Chunks as litdata's `TokensLoader` maps them: one item each, of four-byte ids as litgpt writes them."""

    index_endings = (".bin",)

    @property
    def dtype(self) -> str:
        """Name the dtype of litdata's code 16."""
        return "int32"

    def index(self, paths: Sequence[Path]) -> TokenIndex:
        return _NoIndex()

    def head(self, tokens: int) -> bytes:
        """Return how many items there are, where the item begins, and where it ends."""
        return struct.pack("<III", 1, 12, 12 + 4 * tokens)


class _NoIndex:
    """The documents of a chunk are told apart by EOS alone."""

    def add(self, ends: Sequence[int], batch: Batch) -> None:
        pass

    def close(self) -> None:
        pass


class _TokenWriter:
    def __init__(self, layout: TokenArrays, paths: Sequence[Path]) -> None:
        bos, self._eos = layout.tokenizer.leading_bos(), layout.tokenizer.require_eos().id
        self._before = [bos.id] if bos else []
        self._specials = [*self._before, self._eos]
        self._dtype = np.dtype(layout.dtype).newbyteorder("<")
        self._array = paths[0].open("wb")
        self._index = layout.index(paths[1:])
        self._mask = paths[-1].open("wb") if layout.masked else None
        self._head = layout.head
        self._array.write(self._head(0))
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
        if self._mask:
            self._mask.write(self._marks(batch, prepared))
        self._index.add(ends, batch)
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

    def _marks(self, batch: Batch, prepared: list[Encoding]) -> bytes:
        """Return a byte a token: whether it is of a pair. EOS is where the last token is."""
        marks: list[bool] = []
        for encoding, spans in zip(prepared, batch.spans, strict=True):
            own = _in_spans(encoding.offsets, spans)
            marks += [*[False] * len(self._before), *own, bool(own and own[-1])]
        return np.asarray(marks, dtype=np.bool_).tobytes()

    def close(self) -> None:
        self._array.seek(0)
        self._array.write(self._head(self._end))
        self._index.close()
        self._array.close()
        if self._mask:
            self._mask.close()


def _in_spans(places: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Tell of each token whether one of its characters is within a span."""
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    return [from_ < to and bisect_right(ends, from_) < bisect_left(starts, to) for from_, to in places]


class _Lines:
    """A compressed line a document, without the time in its head: the same documents are the same bytes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._gzip = gzip.GzipFile(filename="", fileobj=self._file, mode="wb", mtime=0)
        self._text = io.TextIOWrapper(self._gzip, encoding="utf-8", newline="")
        self._lines = csv.writer(self._text, lineterminator="\n")

    def add(self, ends: Sequence[int], batch: Batch) -> None:
        rows = zip(pairwise(ends), batch.ids, batch.row_numbers, strict=True)
        self._lines.writerows((start, end, name, "", row) for (start, end), name, row in rows)

    def close(self) -> None:
        self._text.close()
        self._gzip.close()
        self._file.close()


class _Sequences:
    """Megatron's index, which begins with how many there are: written at the end, from eight bytes a document."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._file = path.open("wb")
        self._dtype = dtype
        self._ends = array("q", [0])

    def add(self, ends: Sequence[int], batch: Batch) -> None:
        self._ends.extend(ends[1:])

    def close(self) -> None:
        ends = np.asarray(self._ends, dtype="<i8")
        count = len(ends) - 1
        head = struct.pack("<QBQQ", 1, _MEGATRON_CODES[self._dtype], count, count + 1)
        starts = ends[:-1] * np.dtype(self._dtype).itemsize
        parts = (np.diff(ends).astype("<i4"), starts, np.arange(count + 1, dtype="<i8"))
        self._file.write(b"".join((_MEGATRON_MAGIC, head, *(part.tobytes() for part in parts))))
        self._file.close()


class _Ends:
    """nanotron's two files beside the ids."""

    def __init__(self, index: Path, metadata: Path, tokenizer: str) -> None:
        self._index, self._metadata = index.open("wb"), metadata.open("wb")
        self._tokenizer = tokenizer
        self._tokens = 0

    def add(self, ends: Sequence[int], batch: Batch) -> None:
        self._index.write(np.asarray(ends[1:], dtype="<u8").tobytes())
        self._tokens = ends[-1]

    def close(self) -> None:
        self._metadata.write("\n".join((self._tokenizer, str(self._tokens), _for_people(self._tokens))).encode())
        self._metadata.close()
        self._index.close()


def _for_people(tokens: int) -> str:
    """Return a number of tokens in three digits with its letter: 1,234,567 is `1.23 MT`."""
    power = len(str(tokens)) - 1
    letter = "kMGTP"[power // 3 - 1] if power >= 3 else ""
    return f"{tokens / 10 ** (power // 3 * 3):.{2 - power % 3}f} {letter}T"
