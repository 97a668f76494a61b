"""Who works on what: leases in a place that several processes, on several machines, share.

A lease is a file that is made whole and exclusively (in a folder by a hard link; where the file system has none, by
exclusive creation), named `NAME.GENERATION.json`. To take one over is to make the next generation, in which exactly one
process can succeed; the old holder sees the newer file and knows that it has lost. Clocks are not compared: a lease is
stale when its heart-beat has not moved for a while as seen from here, or at once where its process is known to be dead.
Knows nothing of what is leased.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from secrets import token_hex
from typing import Protocol

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


class LeaseFiles(Protocol):
    """Where leases lie: the few steps that a folder and an object store take differently."""

    def look(self) -> None:
        """See what others have done."""

    def pauses(self) -> Iterator[float]:
        """Yield how many seconds to wait between two looks, without end."""

    def newest(self, name: str, *, now: bool = False) -> int | None:
        """Return the newest generation of a lease, None where there is none; `now` asks for it anew."""

    def is_costly(self, name: str) -> bool:
        """Return whether it takes a request of its own to find out who holds a lease, and there were many of late."""

    def read(self, name: str, generation: int) -> tuple[bytes, object] | None:
        """Return what a lease says and a value that changes with each heart-beat; None where it is gone."""

    def make(self, name: str, generation: int, content: bytes) -> bool:
        """Make a lease, whole; return False where somebody else was quicker."""

    def replace(self, name: str, generation: int, content: bytes) -> None:
        """Let a lease say something else, unless it is gone."""

    def remove(self, name: str) -> None:
        """Remove all generations, the oldest first: an old one must never look like the newest."""

    def beat(self, held: Sequence[tuple[str, int]]) -> None:
        """Show that the holder of these leases is alive."""

    def rest(self) -> None:
        """Take note that nothing is held any more."""


class Leases:
    """The leases in one place, as `holder` takes, keeps and gives them up. `is_gone` knows workers that have died."""

    def __init__(
        self,
        files: LeaseFiles | Path,
        holder: Holder,
        *,
        is_gone: Callable[[str], bool] = lambda worker: False,
        stale_after: float = STALE_AFTER,
    ) -> None:
        self._files: LeaseFiles = LeaseFolder(files, holder.worker) if isinstance(files, Path) else files
        self._holder = holder
        self._is_gone = is_gone
        self._stale_after = stale_after
        self._held: dict[str, int] = {}
        self._seen: dict[tuple[str, int], tuple[object, float]] = {}
        self._lock = threading.Lock()

    @property
    def held(self) -> frozenset[str]:
        """The names of the leases held here."""
        with self._lock:
            return frozenset(self._held)

    def claim(self, name: str) -> bool:
        """Take the lease of `name` where nobody holds it, or whoever did is gone; return whether it is held now.

        Whoever has claimed something looks whether it has not been done in the meantime.
        """
        newest = self._files.newest(name)
        why = None if newest is None else self._why_free(name, newest)
        if newest is not None and why is None:
            return False
        generation = 0 if newest is None else newest + 1
        if not self._files.make(name, generation, json.dumps(asdict(self._holder)).encode()):
            return False
        with self._lock:
            self._held[name] = generation
        if why is not None:
            _log.info("lease of %s taken over: %s", f"shard {int(name)}" if name.isdecimal() else name, why)
        return True

    def generation(self, name: str) -> int:
        """Return which generation of a lease is held here: 0 where nobody had it before."""
        with self._lock:
            return self._held.get(name, 0)

    def is_costly(self, name: str) -> bool:
        """Return whether it should be tried last: to find out who holds it takes a request."""
        return self._files.is_costly(name)

    def holds(self, name: str) -> bool:
        """Return whether the lease is still held here: nobody has taken it over."""
        with self._lock:
            generation = self._held.get(name)
        return generation is not None and self._files.newest(name, now=True) == generation

    def release(self, name: str) -> None:
        """Give the lease up: whatever is left to do is anybody's."""
        with self._lock:
            generation = self._held.pop(name, None)
        if generation is not None:
            self._files.replace(name, generation, json.dumps({"released": True}).encode())

    def remove(self, name: str) -> None:
        """Drop the lease and those before it: there is nothing left to do."""
        with self._lock:
            self._held.pop(name, None)
        self._files.remove(name)

    def release_all(self) -> None:
        """Give up every lease."""
        for name in self.held:
            self.release(name)

    def beat(self) -> None:
        """Show that this process is alive: to be called several times in `stale_after` seconds."""
        with self._lock:
            held = list(self._held.items())
        self._files.beat(held)

    @contextmanager
    def waiting_for(self, name: str) -> Iterator[None]:
        """Wait for a lease and keep it for a short piece of work."""
        pauses = self._files.pauses()
        while not self.claim(name):
            time.sleep(next(pauses))
            self._files.look()
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
            self._files.rest()

    def _why_free(self, name: str, generation: int) -> str | None:
        """Say why a lease is free; None where it is held."""
        found = self._files.read(name, generation)
        if found is None:  # done this moment: somebody else's next look will tell
            return None
        content, beat = found
        if not content:  # being written, where there are no links; or its machine lost power
            return "it was never written" if self._is_stale(name, generation, beat) else None
        holder = _holder(content)
        if holder is None:
            return "it was given up, or is damaged"
        if holder.worker == self._holder.worker:  # what is seen of one's own heart-beat may be old
            return None
        if holder.is_dead or self._is_gone(holder.worker):
            return f"worker {holder.worker} has died"
        return f"worker {holder.worker} shows no sign of life" if self._is_stale(name, generation, beat) else None

    def _is_stale(self, name: str, generation: int, beat: object) -> bool:
        known, since = self._seen.get((name, generation), (None, 0.0))
        if known != beat:
            self._seen[name, generation] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > self._stale_after


class LeaseFolder:
    """Leases as files of one folder: a heart-beat is a time of change."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._worker = worker
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def look(self) -> None:
        pass

    def pauses(self) -> Iterator[float]:
        return repeat(_LOOK_AGAIN)

    def newest(self, name: str, *, now: bool = False) -> int | None:
        return max(map(_generation, self._generations(name)), default=None)

    def is_costly(self, name: str) -> bool:
        return False

    def read(self, name: str, generation: int) -> tuple[bytes, object] | None:
        path = self._path(name, generation)
        try:
            return path.read_bytes(), path.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def make(self, name: str, generation: int, content: bytes) -> bool:
        path = self._path(name, generation)
        temporary = self._written(content)
        try:
            with writing(path), suppress(FileNotFoundError):  # not found: cleared away, see `clear`
                return link_once(temporary, path)
            return False
        finally:
            temporary.unlink(missing_ok=True)

    def replace(self, name: str, generation: int, content: bytes) -> None:
        path = self._path(name, generation)
        if path.exists():
            with suppress(FileNotFoundError):  # cleared away: there is nothing left to be given up
                os.replace(self._written(content), path)

    def remove(self, name: str) -> None:
        for path in sorted(self._generations(name), key=_generation):
            path.unlink(missing_ok=True)

    def beat(self, held: Sequence[tuple[str, int]]) -> None:
        for name, generation in held:
            with suppress(FileNotFoundError):
                os.utime(self._path(name, generation))

    def rest(self) -> None:
        pass

    def _path(self, name: str, generation: int) -> Path:
        return self._folder / f"{name}.{generation}.json"

    def _generations(self, name: str) -> list[Path]:
        return [path for path in self._folder.glob(f"{name}.*.json") if path.suffixes[-2][1:].isdecimal()]

    def _written(self, content: bytes) -> Path:
        temporary = self._folder / f".{self._worker}.{token_hex(3)}.tmp"
        with writing(temporary):
            temporary.write_bytes(content)
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


def _generation(path: Path) -> int:
    return int(path.suffixes[-2][1:])
