"""The files of a source: opened, decompressed and watched, on this machine or behind a URL. Knows nothing of rows."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

import httpx2
import pyarrow as pa

from hfsynth.copying import Copy
from hfsynth.errors import SourceError
from hfsynth.watching import FileWatch, RemoteWatch

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
