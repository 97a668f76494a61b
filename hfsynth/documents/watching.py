"""Whether a source's file still is what it was when it was found. Knows nothing of rows.

A file on this machine is looked at after every block that is read of it and before anybody sees the block, so that no
row of a changed file ever gets any further. One behind a URL is looked at when it is opened and closed, and whenever
its reader asks.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from hfsynth.core.errors import SourceError

_BLOCK = 2**18
_CHUNK = 2**20
_FACTS = ("size", "ETag", "etag", "Last-Modified", "LastModified", "mtime", "updated", "generation", "created")
"""What file systems say of a file that another content would change."""


class FileWatch:
    """A file on this machine, as it is now.

    Where its `content` is known, a file that was only touched, copied or moved over with the same content has not
    changed; else its size and the time of its last change decide.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name
        self._stamp = os.stat(path)
        self.content: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._stamp.st_size

    def check(self) -> None:
        """Raise SourceError where the file has changed."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError as error:
            raise changed(self._name, "it is gone") from error
        if _marks(found) != _marks(self._stamp):
            self._settle(found)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file for reading; every read may raise SourceError."""
        self.check()
        with io.BufferedReader(_WatchedFile(self._path, self), _BLOCK) as stream:
            yield stream

    def _settle(self, found: os.stat_result) -> None:
        """Take the file's new marks for its own if nothing else is new."""
        if found.st_size != self._stamp.st_size:
            raise changed(self._name, f"it had {self._stamp.st_size:,} bytes, and has {found.st_size:,}")
        if self.content is None and found.st_mtime_ns != self._stamp.st_mtime_ns:
            raise changed(self._name, "it was written to")
        if self.content is not None:
            with Path(self._path).open("rb") as stream:
                same = stream_digest(stream) == self.content
            if not same:
                raise changed(self._name, "its content is another")
        self._stamp = found


class _WatchedFile(io.FileIO):
    """A file that is looked at after every read."""

    def __init__(self, path: str, watch: FileWatch) -> None:
        super().__init__(path, "rb")
        self._watch = watch

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401
        found = super().readinto(buffer)
        self._watch.check()
        return found

    def readall(self) -> bytes:
        found = super().readall()
        self._watch.check()
        return found


class RemoteWatch:
    """A file behind a URL, as its file system describes it now."""

    def __init__(self, fs: Any, path: str, name: str, info: dict[str, Any]) -> None:  # noqa: ANN401
        self._fs, self._path, self._name = fs, path, name
        self._facts = _facts(info)

    def check(self) -> None:
        """Raise SourceError where the file has changed, OSError where nobody says."""
        self._fs.invalidate_cache()
        found = _facts(self._fs.info(self._path))
        for fact, value in found.items():
            if self._facts.get(fact, value) != value:
                raise changed(self._name, f"its {fact} was {self._facts[fact]}, and is {value}")


def changed(name: str, how: str) -> SourceError:
    """Return the error for a source that is not what it was when the job began."""
    return SourceError(
        f"{name} has changed since the job opened it: {how}.",
        hint="Nothing is published. Bring the source back as it was and give the same command again, or go on with it "
        "as it is now: --continue-with-changed-source keeps the finished shards whose rows are the same.",
    )


def stream_digest(stream: IO[bytes]) -> bytes:
    """Return a digest of all that a stream holds."""
    content = blake2b(digest_size=32)
    while chunk := stream.read(_CHUNK):
        content.update(chunk)
    return content.digest()


def _marks(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _facts(info: dict[str, Any]) -> dict[str, str]:
    return {name: str(info[name]) for name in _FACTS if info.get(name) is not None}
