"""The two files of Xet as values: a xorb (chunks one behind the other) and a shard (what files and xorbs are made of).

Read from what `hf_xet` sends. Hashes are taken as they come: whether a file is right is told by its SHA-256, which a
shard carries, and by its size. Knows nothing of HTTP.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from loopback_hub.trees import Refusal

HASH = "<4Q"
STORED, LZ4, GROUPED_LZ4 = 0, 1, 2
ENTRY = 48
"""Every entry of a shard has a hash and four numbers."""

_HEADER = b"HFRepoMetaData\0" + bytes([85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169])
_FOOTER_OF_XORB = b"XETBLOB"
_LAST = "f" * 64
_VERIFIED, _DESCRIBED = 1 << 31, 1 << 30
_FOOTER_SIZE = 200


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk lies in its xorb's bytes, its header included, and how many bytes it stands for."""

    start: int
    stop: int
    size: int
    scheme: int


@dataclass(frozen=True, slots=True)
class Term:
    """A piece of a file: the chunks `start` to `stop` of a xorb, and how many bytes they stand for."""

    xorb: str
    size: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class XetFile:
    """A file as a shard tells it."""

    hash: str
    sha256: str
    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        return sum(term.size for term in self.terms)


@dataclass(frozen=True, slots=True)
class Shard:
    """The files of a shard, and the entries of its xorbs as they came: by hash, one behind the other."""

    files: tuple[XetFile, ...]
    xorbs: Mapping[str, bytes]


def chunks_of(xorb: bytes) -> list[Chunk]:
    """Find the chunks of a xorb, with or without the footer that may follow them."""
    chunks, at = [], 0
    while at < len(xorb) and not xorb.startswith(_FOOTER_OF_XORB, at):
        stored, scheme, size = _header(xorb, at)
        chunks.append(Chunk(at, at + 8 + stored, size, scheme))
        at += 8 + stored
    if not chunks or at > len(xorb):
        raise Refusal(400, "The xorb has no chunks, or ends within one")
    return chunks


def _header(xorb: bytes, at: int) -> tuple[int, int, int]:
    if len(xorb) < at + 8 or xorb[at] != 0:
        raise Refusal(400, "The xorb ends within a chunk's header, or is of another version")
    return (
        int.from_bytes(xorb[at + 1 : at + 4], "little"),
        xorb[at + 4],
        int.from_bytes(xorb[at + 5 : at + 8], "little"),
    )


def content_of(xorb: bytes, chunk: Chunk) -> bytes:
    """Return the bytes that a chunk stands for."""
    stored = xorb[chunk.start + 8 : chunk.stop]
    if chunk.scheme == STORED:
        return stored
    found: bytes = pa.decompress(stored, chunk.size, codec="lz4", asbytes=True)
    return found if chunk.scheme == LZ4 else _regrouped(found)


def _regrouped(grouped: bytes) -> bytes:
    """Put bytes back in order that were sorted into four groups: every first of four, every second, and so on."""
    result, at = bytearray(len(grouped)), 0
    for first in range(4):
        count = len(range(first, len(grouped), 4))
        result[first::4] = grouped[at : at + count]
        at += count
    return bytes(result)


def shard_of(body: bytes) -> Shard:
    """Read a shard up to where its tables begin, which a client may leave out."""
    if not body.startswith(_HEADER):
        raise Refusal(400, "This is no shard")
    entries = _entries(body)
    files = tuple(_files(entries))
    return Shard(files, dict(_xorbs(entries)))


def _entries(body: bytes) -> Iterator[bytes]:
    for at in range(len(_HEADER) + 16, len(body) - ENTRY + 1, ENTRY):
        yield body[at : at + ENTRY]
    raise Refusal(400, "The shard ends before its last entry")


def _files(entries: Iterator[bytes]) -> Iterator[XetFile]:
    for entry in entries:
        name, (flags, count, *_) = hash_of(entry), struct.unpack_from("<4I", entry, 32)
        if name == _LAST:
            return
        terms = tuple(_term(next(entries)) for _ in range(count))
        for _ in range(count if flags & _VERIFIED else 0):
            next(entries)
        yield XetFile(name, hash_of(next(entries)) if flags & _DESCRIBED else "", terms)


def _term(entry: bytes) -> Term:
    _, size, start, stop = struct.unpack_from("<4I", entry, 32)
    return Term(hash_of(entry), size, start, stop)


def _xorbs(entries: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    for entry in entries:
        if hash_of(entry) == _LAST:
            return
        count = struct.unpack_from("<4I", entry, 32)[1]
        yield hash_of(entry), entry + b"".join(next(entries) for _ in range(count))


def chunk_hashes(xorb: bytes) -> list[str]:
    """Return the hashes of the chunks in a xorb's entries."""
    return [hash_of(xorb[at : at + ENTRY]) for at in range(ENTRY, len(xorb), ENTRY)]


def hash_of(entry: bytes) -> str:
    """Write the hash that an entry starts with as Xet does: four numbers, each with its highest byte first."""
    return "".join(f"{part:016x}" for part in struct.unpack_from(HASH, entry))


def shard_about(xorbs: Iterable[bytes]) -> bytes:
    """Return the shard that answers the question what is stored already: xorbs, no files, with its tables."""
    known = sorted(xorbs, key=lambda xorb: struct.unpack_from(HASH, xorb))
    files_at, xorbs_at = len(_HEADER) + 16, len(_HEADER) + 16 + ENTRY
    last = b"\xff" * 32 + bytes(16)
    body = _HEADER + struct.pack("<2Q", 2, _FOOTER_SIZE) + last + b"".join(known) + last
    tables, counts = _tables(known)
    ends = [len(body) + sum(map(len, tables[:n])) for n in range(4)]
    located = [files_at, xorbs_at, ends[0], 0, ends[1], counts[0], ends[2], counts[1]]
    footer = struct.pack("<9Q", 1, *located) + bytes(32) + struct.pack("<2Q", 0, 2**64 - 1) + bytes(9 * 8)
    return body + b"".join(tables) + footer + struct.pack("<Q", ends[3])


def _tables(known: list[bytes]) -> tuple[list[bytes], tuple[int, int]]:
    """Return the look-up tables of files (empty), xorbs and chunks, and how many entries the last two have."""
    starts, index = [], 0
    for xorb in known:
        starts.append(index)
        index += len(xorb) // ENTRY
    of_xorbs = [struct.pack("<QI", _short(xorb), start) for xorb, start in zip(known, starts, strict=True)]
    of_chunks = sorted(
        (_short(xorb[at : at + ENTRY]), start, number)
        for xorb, start in zip(known, starts, strict=True)
        for number, at in enumerate(range(ENTRY, len(xorb), ENTRY))
    )
    return [b"", b"".join(of_xorbs), b"".join(struct.pack("<Q2I", *row) for row in of_chunks)], (
        len(of_xorbs),
        len(of_chunks),
    )


def _short(entry: bytes) -> int:
    short: int = struct.unpack_from("<Q", entry)[0]
    return short
