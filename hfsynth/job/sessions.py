"""What each worker session has done and cost: one small file each, rewritten every second while it works.

A session is one process at work on a job, from loading its engine to its end, however it ended. Knows nothing of
leases, engines or sources.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from hfsynth.core.errors import HfsynthError, OutputError
from hfsynth.core.files import read_json, write_json, writing
from hfsynth.core.files import temporary as temporary_name
from hfsynth.core.processes import lives, mark
from hfsynth.core.records import Counts
from hfsynth.job.journal import POSSIBLE, Death

DONE, STOPPED, FAILED, ORPHANED = "done", "stopped", "error", "orphaned"


@dataclass(frozen=True, slots=True)
class OpenShard:
    """How far an unfinished shard is: source rows and counts of its finished chains."""

    rows: int
    counts: Counts

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` reads them back."""
        return {"rows": self.rows, "counts": self.counts.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(values["rows"], Counts.from_dict(values["counts"]))


@dataclass(frozen=True, slots=True)
class Session:
    """One worker's time on a job. Times are seconds since the epoch; `counts` are those of the chains it finished.

    `devices` are those it was given, nothing where it was given none. `engine_seconds` runs from the start of loading
    to the last sign of life. The engine worked between `working_from` and `working_to` (0: not yet), but for the
    `pauses` in which it waited for other workers and the `loads` of those that followed an engine that had died; the
    first load is before. All loads took `loading_seconds`. `mark` names its process.
    `phases` are those of `hfsynth.core.phases`; `written` counts the tokens of chains under way too, where the engine
    does; `early_documents` and `early_pairs` are what is done of those.
    `ended` is None while the session runs, and where it was killed. `preemptions` are the requests that its engine put
    back for want of cache, None where the engine does not count them.
    """

    worker: str
    host: str
    pid: int
    devices: str
    started: float
    updated: float
    engine_seconds: float = 0.0
    working_from: float = 0.0
    working_to: float = 0.0
    restarts: int = 0
    preemptions: int | None = None
    counts: Counts = field(default_factory=Counts)
    open: Mapping[int, OpenShard] = field(default_factory=dict)
    ended: str | None = None
    error: Mapping[str, str] | None = None
    loading_seconds: float = 0.0
    pauses: Sequence[Sequence[float]] = ()
    loads: Sequence[Sequence[float]] = ()
    mark: str = ""
    phases: Sequence[Sequence[Any]] = ()
    written: int = 0
    early_documents: int = 0
    early_pairs: int = 0

    @property
    def waiting_seconds(self) -> float:
        """How long it has waited for other workers."""
        return sum(stop - start for start, stop in self.pauses)

    @property
    def in_flight(self) -> int:
        """How many tokens were written of chains that have not ended."""
        return max(0, self.written - self.counts.output_tokens)

    @property
    def phase(self) -> tuple[str, float]:
        """What is done now, and for how many seconds; nothing where documents are worked on."""
        if self.phases and not self.phases[-1][2]:
            name, since, _ = self.phases[-1]
            return name, max(0.0, self.updated - since)
        if self.working_from and not (self.written or self.early_documents or self.counts.total_documents):
            return "reading the first documents", max(0.0, self.updated - self.working_from)
        return ("", 0.0) if self.working_from else ("starting", max(0.0, self.updated - self.started))

    @property
    def spans(self) -> Iterator[tuple[float, float]]:
        """Yield the times of work, from and to, without the pauses and loads in between."""
        start = self.working_from
        for pause, again in sorted(map(tuple, (*self.pauses, *self.loads))):
            if again > start:  # else it is the first load
                yield start, min(pause, self.working_to)
                start = again
        if start and start < self.working_to:
            yield start, self.working_to

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` reads them back."""
        values = {own.name: getattr(self, own.name) for own in fields(self)}
        shards = {str(shard): found.to_dict() for shard, found in self.open.items()}
        return {**values, "counts": self.counts.to_dict(), "open": shards}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        shards = {int(shard): OpenShard.from_dict(found) for shard, found in values["open"].items()}
        return cls(**{**values, "counts": Counts.from_dict(values["counts"]), "open": shards})


class Sessions:
    """The session files in one folder, and beside them what supervisors know of workers that died."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def write(self, session: Session) -> None:
        """Replace a session's file. It is not synced: what a power failure takes is one second's figures."""
        path = self._path(session.worker)
        temporary = temporary_name(path, writer=mark())
        with self._lock, writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(session.to_dict()), "utf-8")
            os.replace(temporary, path)

    def read(self, worker: str) -> Session | None:
        """Return a session; None where the worker never got as far as to write one."""
        try:
            return Session.from_dict(json.loads(self._path(worker).read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{self._path(worker)} is damaged: it is no record of a worker.",
                hint="Remove it and give the same command again: its time is then not counted.",
            ) from error

    def all(self) -> list[Session]:
        """Return every session, the earliest first."""
        workers = [path.stem for path in self._folder.glob("[!.]*.json") if not path.name.endswith(".death.json")]
        found = [session for worker in workers if (session := self.read(worker)) is not None]
        return sorted(found, key=lambda session: (session.started, session.worker))

    def settle(self, patience: float = 3.0) -> None:
        """Wait for workers that have nothing left to do and are about to say so: they were not killed.

        Of those of other machines it is not known whether they live; they get a few seconds.
        """
        deadline = time.monotonic() + patience
        while any(map(self._may_end, self.all())) and time.monotonic() < deadline:
            self._wait()

    def _wait(self) -> None:
        time.sleep(0.05)

    def _may_end(self, session: Session) -> bool:
        return session.ended is None and lives(session.mark) is not False and not self.has_died(session.worker)

    def note_death(self, worker: str, death: Death) -> None:
        """Note that a worker's process is dead, and how it died."""
        write_json(self._death(worker), {"why": death.why, "certainty": death.certainty})

    def has_died(self, worker: str) -> bool:
        """Return whether the worker is known to have died."""
        return self._death(worker).exists()

    def how_ended(self, worker: str) -> Death | None:
        """Return how a worker died, as far as is known; None where its end was no death.

        Nobody watched a worker that left no record at all: its whole job was killed.
        """
        if self.has_died(worker):
            return Death(**read_json(self._death(worker)))
        session = self.read(worker)
        ended = session is not None and session.ended is not None
        return None if ended else Death("its process was killed", POSSIBLE)

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.json"

    def _death(self, worker: str) -> Path:
        return self._folder / f"{worker}.death.json"


def failed_session(worker: str, error: HfsynthError) -> Session:
    """Return the session of a worker that could not even begin."""
    time_now = now()
    host, failure = socket.gethostname(), error.to_dict()
    return Session(worker, host, os.getpid(), "", time_now, time_now, ended=FAILED, error=failure)


def working_seconds(sessions: Iterable[Session]) -> float:
    """Return how long at least one engine was at work: the union of the sessions' working times."""
    total = end = 0.0
    for start, stop in sorted(span for session in sessions if session.working_from for span in session.spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def now() -> float:
    """Return the time, to the millisecond."""
    return round(time.time(), 3)
