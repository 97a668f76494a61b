"""Start workers, watch them, replace those that die, and see that none outlives the job.

Knows nothing of models, prompts or sources: a worker is something that can be polled, asked to stop, and killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hfsynth.corpus import Corpus
from hfsynth.errors import EngineError
from hfsynth.job_spec import JobSpec
from hfsynth.journal import CERTAIN, POSSIBLE, Death, JournalPaths, chains_in_flight, has_ended_any
from hfsynth.leases import new_worker_name
from hfsynth.records import ANSWERED, Status
from hfsynth.restarts import Restarts
from hfsynth.sessions import DONE, FAILED, STOPPED, Session, Sessions, error_from
from hfsynth.shards import record_paths
from hfsynth.stopping import Stop

_LOOK_EVERY = 0.1
_TELL_EVERY = 1.0
PATIENCE = 10.0
"""Seconds beyond the grace after which a worker that was asked to stop is killed."""


@dataclass(frozen=True, slots=True)
class End:
    """How a worker's process ended, and whether its own work was to blame: None where that cannot be told."""

    how: str
    suspicious: bool | None = True


class Member(Protocol):
    """A worker that was started."""

    @property
    def worker(self) -> str:
        """Return its name."""

    def ended(self) -> End | None:
        """Return how it ended, None while it runs."""

    def stop(self, signal: int) -> None:
        """Ask it to stop in good order."""

    def kill(self) -> None:
        """End it at once, and everything that it has started; do nothing where it has ended."""


class Crew(Protocol):
    """Starts workers: at most one at a time in each of `size` places."""

    @property
    def size(self) -> int:
        """Return how many workers are wanted."""

    @property
    def on_gpu(self) -> bool | None:
        """Return whether its workers have GPUs, None where they have what this machine has."""

    def start(self, spec: JobSpec, place: int, worker: str) -> Member:
        """Start a worker."""

    def close(self) -> None:
        """Let go of what the crew as a whole holds."""


def supervise(spec: JobSpec, crew: Crew, stop: Stop, on_look: Callable[[], None]) -> None:
    """Let a crew finish the job's shards; return when they are, or when a stop was asked for and all have stopped.

    A worker that dies is replaced, and its shards are free at once. Raise what a worker raised, and EngineError when
    more than `max_engine_restarts` workers for each place have died in a row before any answered a document: of the
    document that kills one, another may die as well, which took it over before it was known.
    """
    foreman = _Foreman(spec, crew)
    told = 0.0
    try:
        while foreman.members and not stop.requested:
            foreman.look_after()
            if time.monotonic() - told > _TELL_EVERY:
                on_look()
                told = time.monotonic()
            time.sleep(_LOOK_EVERY)
        if stop.requested:
            foreman.stop(stop, spec.grace + PATIENCE)
    finally:
        foreman.kill()
        crew.close()


class _Foreman:
    """The members of a crew at work, by their places."""

    def __init__(self, spec: JobSpec, crew: Crew) -> None:
        corpus = Corpus(Path(spec.out))
        paths = JournalPaths(corpus.journal)
        self._spec, self._crew = spec, crew
        self._parts, self._segments = corpus.parts, paths.segments
        self._sessions = Sessions(paths.sessions)
        self._deaths = Restarts(spec.max_engine_restarts * crew.size)
        self._finished = len(record_paths(self._parts))
        self.members: dict[int, Member] = {}
        for place in range(crew.size):
            self._start(place)

    def look_after(self) -> None:
        """Take note of members that have ended; replace those that died."""
        for place, member in list(self.members.items()):
            end = member.ended()
            if end is not None:
                del self.members[place]
                self._see_off(place, member, end)

    def stop(self, stop: Stop, patience: float) -> None:
        """Ask every member to stop and wait for it."""
        for member in self.members.values():
            member.stop(stop.signal or 0)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(member.ended() is None for member in self.members.values()):
            time.sleep(_LOOK_EVERY)

    def kill(self) -> None:
        """End every member that is left."""
        for member in self.members.values():
            member.kill()

    def _start(self, place: int) -> None:
        self.members[place] = self._crew.start(self._spec, place, new_worker_name())

    def _see_off(self, place: int, member: Member, end: End) -> None:
        member.kill()  # what it has started must not outlive it
        session = self._sessions.read(member.worker)
        if session is not None and session.ended == DONE:
            return
        if session is not None and session.ended == FAILED and session.error is not None:
            raise error_from(session.error)
        self._bury(member.worker, session, end)
        self._start(place)

    def _bury(self, worker: str, session: Session | None, end: End) -> None:
        """Note a death: what it says about the chains in flight, and that the worker's shards are free."""
        if session is None or session.ended != STOPPED:
            certainty = {True: CERTAIN, None: POSSIBLE, False: 0}[end.suspicious]
            self._sessions.bury(worker, Death(f"the engine's process {end.how}", certainty))
        if self._has_answered(worker, session):
            self._deaths.answered()
        elif has_ended_any(self._segments, worker, [Status.FAILED]):
            self._deaths.gave_up()
        self._deaths.died(chains_in_flight(self._segments, worker))
        if self._deaths.are_exhausted:
            raise EngineError(
                f"A worker {end.how}; {self._deaths.in_a_row} died with no document answered in between.",
                hint="What is done is kept: the same command goes on. --max-engine-restarts allows more.",
            )

    def _has_answered(self, worker: str, session: Session | None) -> bool:
        """Return whether any document has been answered since the death before this one."""
        before, self._finished = self._finished, len(record_paths(self._parts))
        documents = sum(session.counts.documents[status] for status in ANSWERED) if session is not None else 0
        return bool(documents) or self._finished > before or has_ended_any(self._segments, worker, ANSWERED)
