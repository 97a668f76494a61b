"""Who works on what: leases in a folder that several processes, on several machines, share.

A lease is a file that is made whole and exclusively (by a hard link; where the file system has none, by exclusive
creation), named `NAME.GENERATION.json`. To take one over is to make the next generation, in which exactly one process
can succeed; the old holder sees the newer file and knows that it has lost. Clocks are not compared: a lease is stale
when its heart-beat has not moved for a while as seen from here, or at once where its process is known to be dead. Knows
nothing of what is leased.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from hfsynth.core.files import link_once, writing
from hfsynth.core.processes import began, machine

_log = logging.getLogger(__name__)

STALE_AFTER = 60.0
"""Seconds without a heart-beat after which a lease of another machine may be taken over."""

_LOOK_AGAIN = 0.1


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that can hold leases: its name, its machine, its id there and when it began (ids are used again)."""

    worker: str
    machine: str
    pid: int
    began: str

    @classmethod
    def this_process(cls, worker: str | None = None) -> Holder:
        """Return this process, under a name that nobody has had."""
        return cls(worker or new_worker_name(), machine(), os.getpid(), began(os.getpid()))

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to have ended; False for one on another machine."""
        return self.machine == machine() and began(self.pid) != self.began


def new_worker_name() -> str:
    """Return a name for a worker that nobody has had."""
    return f"{socket.gethostname().split('.')[0]}-{token_hex(4)}"


def clear(folder: Path) -> None:
    """Drop every lease in a folder, and what killed processes left there: there is nothing left to lease."""
    for path in folder.iterdir() if folder.exists() else ():
        path.unlink(missing_ok=True)


class Leases:
    """The leases in one folder, as `holder` takes, keeps and gives them up. `is_gone` knows workers that have died."""

    def __init__(
        self,
        folder: Path,
        holder: Holder,
        *,
        is_gone: Callable[[str], bool] = lambda worker: False,
        stale_after: float = STALE_AFTER,
    ) -> None:
        self._folder = folder
        self._holder = holder
        self._is_gone = is_gone
        self._stale_after = stale_after
        self._held: dict[str, Path] = {}
        self._seen: dict[Path, tuple[int, float]] = {}
        self._lock = threading.Lock()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def held(self) -> frozenset[str]:
        """The names of the leases held here."""
        with self._lock:
            return frozenset(self._held)

    def claim(self, name: str) -> bool:
        """Take the lease of `name` where nobody holds it, or whoever did is gone; return whether it is held now.

        Whoever has claimed something looks whether it has not been done in the meantime.
        """
        newest = self._newest(name)
        why = None if newest is None else self._why_free(newest)
        if newest is not None and why is None:
            return False
        path = self._folder / f"{name}.{_generation(newest) + 1}.json"
        if not self._make(path):
            return False
        with self._lock:
            self._held[name] = path
        if why is not None:
            _log.info("lease of %s taken over: %s", f"shard {int(name)}" if name.isdecimal() else name, why)
        return True

    def holds(self, name: str) -> bool:
        """Return whether the lease is still held here: nobody has taken it over."""
        with self._lock:
            path = self._held.get(name)
        return path is not None and self._newest(name) == path

    def release(self, name: str) -> None:
        """Give the lease up: whatever is left to do is anybody's."""
        with self._lock:
            path = self._held.pop(name, None)
        if path is not None and path.exists():
            with suppress(FileNotFoundError):  # cleared away: there is nothing left to be given up
                os.replace(self._written({"released": True}), path)

    def remove(self, name: str) -> None:
        """Drop the lease and those before it: there is nothing left to do."""
        with self._lock:
            self._held.pop(name, None)
        for path in self._generations(name):  # the oldest first: an old one must never look like the newest
            path.unlink(missing_ok=True)

    def release_all(self) -> None:
        """Give up every lease."""
        for name in self.held:
            self.release(name)

    def beat(self) -> None:
        """Show that this process is alive: to be called several times in `stale_after` seconds."""
        with self._lock:
            paths = list(self._held.values())
        for path in paths:
            with suppress(FileNotFoundError):
                os.utime(path)

    @contextmanager
    def waiting_for(self, name: str) -> Iterator[None]:
        """Wait for a lease and keep it for a short piece of work."""
        while not self.claim(name):
            time.sleep(_LOOK_AGAIN)
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(self._stale_after / 6):
                self.beat()

        thread = threading.Thread(target=keep, name="hfsynth-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.remove(name)

    def _generations(self, name: str) -> list[Path]:
        found = [path for path in self._folder.glob(f"{name}.*.json") if path.suffixes[-2][1:].isdecimal()]
        return sorted(found, key=_generation)

    def _newest(self, name: str) -> Path | None:
        return max(self._generations(name), key=_generation, default=None)

    def _why_free(self, path: Path) -> str | None:
        """Say why a lease is free; None where it is held."""
        try:
            content = path.read_bytes()
            beat = path.stat().st_mtime_ns
        except FileNotFoundError:  # done this moment: somebody else's next look will tell
            return None
        if not content:  # being written, where there are no links; or its machine lost power
            return "it was never written" if self._is_stale(path, beat) else None
        holder = _holder(content)
        if holder is None:
            return "it was given up, or is damaged"
        if holder.is_dead or self._is_gone(holder.worker):
            return f"worker {holder.worker} has died"
        return f"worker {holder.worker} shows no sign of life" if self._is_stale(path, beat) else None

    def _is_stale(self, path: Path, beat: int) -> bool:
        known, since = self._seen.get(path, (None, 0.0))
        if known != beat:
            self._seen[path] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > self._stale_after

    def _make(self, path: Path) -> bool:
        """Make a lease, whole; return False where somebody else was quicker."""
        temporary = self._written(asdict(self._holder))
        try:
            with writing(path), suppress(FileNotFoundError):  # not found: cleared away, see `clear`
                return link_once(temporary, path)
            return False
        finally:
            temporary.unlink(missing_ok=True)

    def _written(self, values: dict[str, Any]) -> Path:
        temporary = self._folder / f".{self._holder.worker}.{token_hex(3)}.tmp"
        with writing(temporary):
            temporary.write_text(json.dumps(values), "utf-8")
        return temporary


def _holder(content: bytes) -> Holder | None:
    """Return who holds a lease; None where it was given up, and for a damaged one, which nobody can hold."""
    try:
        values = json.loads(content)
        holder = Holder(**values)
    except (ValueError, TypeError):
        return None
    whole = all(isinstance(name, str) for name in (holder.worker, holder.machine, holder.began))
    return holder if whole and isinstance(holder.pid, int) else None


def _generation(path: Path | None) -> int:
    return -1 if path is None else int(path.suffixes[-2][1:])
