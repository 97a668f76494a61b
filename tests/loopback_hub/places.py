"""Addresses and homes that come again, for libraries read them when they are imported.

A Python that has read the client's libraries under one of them serves many tests: see `started`. Hubs that run at the
same time have different ones.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path

_LOCK = threading.Lock()
_PLACES: list[Place] = []


class Place:
    """A port, and homes that are links to the folders of whichever test is there."""

    def __init__(self, number: int) -> None:
        self.taken = False
        self._number = number
        self._port = 0
        self._homes = 0

    def listen(self, port: int) -> socket.socket:
        """Return a socket at this port, at the place's own where it is 0, and at another where that is not free."""
        for asked in (port,) if port else (self._port, 0):
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind(("127.0.0.1", asked))
            except OSError:
                listening.close()
                if asked == 0 or port:
                    raise
            else:
                self._port = self._port if port else listening.getsockname()[1]
                return listening
        raise AssertionError("port 0 is always free")

    def home(self, folder: Path) -> str:
        """Return the place's next home, which is a new folder in `folder`."""
        link = _links() / f"{self._number}-{self._homes}"
        self._homes += 1
        link.with_suffix(".new").symlink_to(tempfile.mkdtemp(prefix="hf-home-", dir=folder))
        link.with_suffix(".new").replace(link)
        return str(link)

    def leave(self) -> None:
        """Let another Hub have it."""
        self.taken, self._homes = False, 0


def take_place() -> Place:
    """Return the first place that no Hub has."""
    with _LOCK:
        found = next((place for place in _PLACES if not place.taken), None)
        if found is None:
            found = Place(len(_PLACES))
            _PLACES.append(found)
        found.taken = True
        return found


@cache
def _links() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hfsynth-homes-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked from this one
        shutil.rmtree(folder, ignore_errors=True)
