"""The files of a source: opened, decompressed and watched, on this machine or behind a URL. Knows nothing of rows.

Behind a web server that gives files only whole, each is fetched once, into a file without a name.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import os
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any, Protocol, cast

import httpx2
import pyarrow as pa

from hfsynth.core.errors import SourceError
from hfsynth.documents.watching import FileWatch, RemoteWatch

_log = logging.getLogger(__name__)
_PATIENCE = 30.0
_CHUNK = 2**20
_PLAIN = {"Accept-Encoding": "identity"}


def needs_copy(url: str, info: Mapping[str, Any]) -> bool:
    """Return whether a server gives no parts of a file, or does not say how long it is."""
    if info.get("size") is None or info.get("partial") is False:
        return True
    first = {**_PLAIN, "Range": "bytes=0-0"}
    with httpx2.stream("GET", url, headers=first, follow_redirects=True, timeout=_PATIENCE) as answer:
        return answer.status_code == HTTPStatus.OK


class Copy:
    """A file's content as its server gave it, fetched when it is first opened; it is gone with this process."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._file: IO[bytes] | None = None

    def open(self) -> IO[bytes]:
        """Open the copy for reading, from its beginning."""
        self._file = self._file or self._fetched()
        return io.BufferedReader(_CopyReader(self._file.fileno()), _CHUNK)

    def _fetched(self) -> IO[bytes]:
        """Fetch the file; httpx2 raises where it breaks off before its length."""
        _log.warning("%s: its server gives it only whole, so it is fetched into %s", self._name, tempfile.gettempdir())
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it stays open for as long as this object
        weakref.finalize(self, file.close)
        with httpx2.stream("GET", self._url, headers=_PLAIN, follow_redirects=True, timeout=_PATIENCE) as answer:
            answer.raise_for_status()
            for block in answer.iter_bytes(_CHUNK):
                file.write(block)
        file.flush()
        return file


class _CopyReader(io.RawIOBase):
    """Reads a file that others read too, each at a place of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: os.fstat(self._descriptor).st_size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        found = os.preadv(self._descriptor, [buffer], self._place)
        self._place += found
        return found


_BUFFER = 2**18


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
