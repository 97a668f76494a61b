"""The journal where nothing can be appended to: notes are kept in a file here and sent in pieces that never change.

A piece holds what one worker noted of all its unfinished shards, and goes out after half a minute or 8 MB; in the first
minute sooner, and at once before a document is tried alone, so that one that kills is found. A kill loses what came
after the last piece, unless somebody on the same machine sends the rest.
"""

from __future__ import annotations

import gzip
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hfsynth.core.files import writing
from hfsynth.core.stores import Store
from hfsynth.job.journal import Notes, line_of
from hfsynth.job.store_keys import SEGMENTS, SegmentName

SEND_EVERY, SEND_BYTES = 30.0, 8 * 2**20
_FIRST = 2.0  # seconds to the first piece; twice as long to each that follows
_OUTBOX, _PENDING = "outbox", ".pending.jsonl"


class StoreSegments(Notes):
    """Note what one worker does, in `folder`, and send it to `store` piece by piece."""

    def __init__(self, store: Store, folder: Path, worker: str) -> None:
        self._store = store
        self._worker = worker
        self._folder = folder / _OUTBOX / worker
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._number = 0
        self._file = -1
        self._waiting = 0
        self._shards: set[int] = set()
        self._dropped: set[int] = set()
        self._sent: dict[str, tuple[int, ...]] = {}
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._next, self._pause = 0.0, _FIRST

    def started(self, shard: int, number: int, *, shot: int | None = None) -> None:
        """Note that a chain is handed to the engine; that it is tried alone is sent before it is."""
        super().started(shard, number, shot=shot)
        if shot is not None:
            self.send()

    def hasten(self) -> None:
        """Send sooner for a while: something of this kind has died before."""
        self._pause = _FIRST
        self._next = min(self._next, time.monotonic() + _FIRST)

    def sync(self) -> None:
        """Send what has been noted, where it has waited long enough."""
        if self._waiting and (time.monotonic() >= self._next or self._waiting >= SEND_BYTES):
            self.send()

    def send(self) -> None:
        """Send what has been noted."""
        with self._sending:
            with self._lock:
                self._close_piece()
            for name in send_pieces(self._store, self._folder, self._dropped):
                self._sent[name.key] = name.shards
            self._pause = min(2 * self._pause, SEND_EVERY)
            self._next = time.monotonic() + self._pause

    def drop(self, shard: int) -> None:
        """Forget a finished shard, and what was sent of none but finished ones."""
        with self._lock:
            self._dropped.add(shard)
            self._shards.discard(shard)
            done = [key for key, shards in self._sent.items() if self._dropped.issuperset(shards)]
            for key in done:
                del self._sent[key]
        self._store.delete(done)

    def close(self) -> None:
        """Send the rest."""
        self.send()

    def _append(self, shard: int, values: Mapping[str, Any]) -> None:
        line = b"%05d %s" % (shard, line_of(values))
        with self._lock, writing(self._folder):
            if self._file < 0:
                self._file = os.open(self._folder / _pending(self._number), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                self._next = self._next or time.monotonic() + self._pause
            self._shards.add(shard)
            self._waiting += len(line)
            while line:
                line = line[os.write(self._file, line) :]

    def _close_piece(self) -> None:
        """Give what is being written the name under which it is sent; drop it where all of it is done."""
        if self._file < 0:
            return
        os.close(self._file)
        pending, shards = self._folder / _pending(self._number), tuple(sorted(self._shards))
        with writing(pending):
            if shards:
                pending.rename(self._folder / SegmentName(self._worker, self._number, shards).file_name)
            else:
                pending.unlink()
        self._file, self._waiting, self._shards = -1, 0, set()
        self._number += 1


def _pending(number: int) -> str:
    return f"{number:06d}{_PENDING}"


def send_pieces(store: Store, folder: Path, done: Collection[int]) -> Iterator[SegmentName]:
    """Send the pieces in a folder, in order, without notes of shards that are `done`; yield what they are called."""
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_PENDING):
            continue
        name = SegmentName.of(f"{SEGMENTS}{folder.name}/{path.name}")
        wanted = [line for shard, line in _noted(path.read_bytes()) if shard in name.shards and shard not in done]
        if wanted:
            store.put(name.key, gzip.compress(b"".join(wanted), 1, mtime=0))
            yield name
        path.unlink()


def send_rest(store: Store, folder: Path, done: Collection[int]) -> list[str]:
    """Send what a worker that is dead has left in the folder of its process; return the workers that did."""
    found = []
    with suppress(FileNotFoundError):
        for outbox in sorted((folder / _OUTBOX).iterdir()):
            for pending in outbox.glob(f"*{_PENDING}"):
                shards = tuple(sorted({shard for shard, _ in _noted(pending.read_bytes())} - {*done}))
                number = int(pending.name.partition(".")[0])
                if shards:
                    pending.rename(outbox / SegmentName(outbox.name, number, shards).file_name)
            list(send_pieces(store, outbox, done))
            found.append(outbox.name)
    return found


def fetch_segments(store: Store, names: Collection[SegmentName], kept: Path, done: Collection[int]) -> None:
    """Bring the pieces of one worker here, and make of them the files of a journal in the folder `kept`."""
    notes: dict[int, list[bytes]] = {}
    for name in sorted(names, key=lambda name: name.number):
        with suppress(FileNotFoundError):  # its shards are finished
            for shard, line in _noted(gzip.decompress(store.get(name.key))):
                if shard not in done:
                    notes.setdefault(shard, []).append(line.partition(b" ")[2])
    worker = next(iter(names)).worker
    for shard, lines in notes.items():
        path = kept / f"{shard:05d}" / f"{worker}.jsonl"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(lines))


def by_worker(keys: Collection[str]) -> dict[str, list[SegmentName]]:
    """Return the segments among some keys, by their workers."""
    found: dict[str, list[SegmentName]] = {}
    for key in keys:
        name = SegmentName.of(key)
        found.setdefault(name.worker, []).append(name)
    return found


def _noted(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines of a piece with the shards that they are about."""
    for line in content.splitlines(keepends=True):
        shard = line.partition(b" ")[0]
        if line.endswith(b"\n") and shard.isdigit():
            yield int(shard), line
