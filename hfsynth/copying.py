"""Files behind web servers that give them only whole: fetched once, into a file without a name.

Knows nothing of what they hold.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
import weakref
from collections.abc import Mapping
from http import HTTPStatus
from typing import IO, Any

import httpx2

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
