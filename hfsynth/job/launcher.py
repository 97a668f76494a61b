"""Start workers, watch them, replace those that die, and see that none outlives the job.

`supervise` knows a worker as something that can be polled, asked to stop, and killed. `LocalLauncher` makes workers of
processes of this machine, each with GPUs, or else cores, of its own. Knows nothing of models, prompts or sources.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from hfsynth.core.config import EngineConfig
from hfsynth.core.devices import core_groups, device_groups, usable_cores, visible_devices
from hfsynth.core.errors import EngineError, HfsynthError
from hfsynth.core.records import ANSWERED, Status
from hfsynth.job.child_process import ChildProcess, way_of_ending
from hfsynth.job.concurrency import Stop
from hfsynth.job.journal import CERTAIN, POSSIBLE, Death, JournalPaths, chains_in_flight, has_ended_any
from hfsynth.job.leases import new_worker_name
from hfsynth.job.opening import open_site
from hfsynth.job.restarts import Restarts
from hfsynth.job.sessions import DONE, FAILED, STOPPED, Session
from hfsynth.job.site import Site
from hfsynth.job.spec import JobSpec

_LOOK_EVERY = 0.1
_TELL_EVERY = 1.0
PATIENCE = 10.0
"""Seconds beyond the grace after which a worker that was asked to stop is killed."""


@dataclass(frozen=True, slots=True)
class End:
    """How a worker's process ended, and whether its own work was to blame: None where that cannot be told."""

    how: str
    suspicious: bool | None = True


class WorkerHandle(Protocol):
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


class Launcher(Protocol):
    """Starts workers: at most one at a time in each of `size` places."""

    @property
    def size(self) -> int:
        """Return how many workers are wanted."""

    @property
    def on_gpu(self) -> bool | None:
        """Return whether its workers have GPUs, None where they have what this machine has."""

    def start(self, spec: JobSpec, place: int, worker: str) -> WorkerHandle:
        """Start a worker."""

    def close(self) -> None:
        """Let go of what the workers hold together."""


def supervise(
    spec: JobSpec, launcher: Launcher, stop: Stop, on_look: Callable[[], None], *, site: Site | None = None
) -> None:
    """Let workers finish the job's shards; return when they are, or when a stop was asked for and all have stopped.

    A worker that dies is replaced, and its shards are free at once. Raise what a worker raised, and EngineError when
    more than `max_engine_restarts` workers for each place have died in a row before any answered a document: of the
    document that kills one, another may die as well, which took it over before it was known.
    """
    supervisor = _Supervisor(spec, launcher, site or open_site(spec.out))
    told = 0.0
    try:
        while supervisor.handles and not stop.requested:
            supervisor.look_after()
            if time.monotonic() - told > _TELL_EVERY:
                on_look()
                told = time.monotonic()
            time.sleep(_LOOK_EVERY)
        if stop.requested:
            supervisor.stop(stop, spec.grace + PATIENCE)
    finally:
        supervisor.kill()
        launcher.close()


class _Supervisor:
    """The workers of a launcher, by their places."""

    def __init__(self, spec: JobSpec, launcher: Launcher, site: Site) -> None:
        self._spec, self._launcher, self._site = spec, launcher, site
        self._segments = JournalPaths(site.corpus.journal).segments
        self._sessions = site.sessions()
        self._deaths = Restarts(spec.max_engine_restarts * launcher.size)
        self._finished = len(site.finished())
        self.handles: dict[int, WorkerHandle] = {}
        for place in range(launcher.size):
            self._start(place)

    def look_after(self) -> None:
        """Take note of workers that have ended; replace those that died."""
        for place, handle in list(self.handles.items()):
            end = handle.ended()
            if end is not None:
                del self.handles[place]
                self._replace(place, handle, end)

    def stop(self, stop: Stop, patience: float) -> None:
        """Ask every worker to stop and wait for it."""
        for handle in self.handles.values():
            handle.stop(stop.signal or 0)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(handle.ended() is None for handle in self.handles.values()):
            time.sleep(_LOOK_EVERY)

    def kill(self) -> None:
        """End every worker that is left."""
        for handle in self.handles.values():
            handle.kill()

    def _start(self, place: int) -> None:
        self.handles[place] = self._launcher.start(self._spec, place, new_worker_name())

    def _replace(self, place: int, handle: WorkerHandle, end: End) -> None:
        handle.kill()  # what it has started must not outlive it
        self._site.look(now=True)
        session = self._sessions.read(handle.worker)
        if session is not None and session.ended == DONE:
            return
        if session is not None and session.ended == FAILED and session.error is not None:
            raise HfsynthError.from_dict(session.error)
        self._note_death(handle.worker, session, end)
        self._start(place)

    def _note_death(self, worker: str, session: Session | None, end: End) -> None:
        """Note a death: what it says about the chains in flight, and that the worker's shards are free."""
        self._site.fetch_notes(worker)
        if session is None or session.ended != STOPPED:
            certainty = {True: CERTAIN, None: POSSIBLE, False: 0}[end.suspicious]
            self._sessions.note_death(worker, Death(f"the engine's process {end.how}", certainty))
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
        before, self._finished = self._finished, len(self._site.finished())
        documents = sum(session.counts.documents[status] for status in ANSWERED) if session is not None else 0
        return bool(documents) or self._finished > before or has_ended_any(self._segments, worker, ANSWERED)


_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}


class LocalLauncher:
    """`workers` processes of this machine with `tensor_parallel` GPUs each; without a number, one a group of GPUs.

    `devices` are the GPUs to deal out, those that are visible where it is not given. Raise ConfigError where there are
    too few. Without GPUs the cores are dealt out: engines whose threads wait for each other on the same ones crawl.
    """

    def __init__(
        self, workers: int | None = None, *, tensor_parallel: int = 1, devices: Sequence[str] | None = None
    ) -> None:
        self._tensor_parallel = tensor_parallel
        self._groups = device_groups(visible_devices() if devices is None else devices, workers, tensor_parallel)
        self._cores = [()] * self.size if self._groups[0] else core_groups(usable_cores(), self.size)

    @property
    def size(self) -> int:
        """Return how many workers are wanted."""
        return len(self._groups)

    @property
    def on_gpu(self) -> None:
        """Return None: its workers have what this machine has."""

    def start(self, spec: JobSpec, place: int, worker: str) -> LocalWorkerHandle:
        """Start a worker's process on the GPUs or the cores of its place."""
        engine = with_tensor_parallel(spec.engine, self._tensor_parallel)
        return LocalWorkerHandle(replace(spec, engine=engine), worker, self._groups[place], self._cores[place])

    def close(self) -> None:
        """Do nothing: the launcher holds nothing beside its workers."""


def with_tensor_parallel(engine: EngineConfig, gpus: int) -> EngineConfig:
    """Return `engine` told to spread its model over so many GPUs."""
    if gpus == 1:
        return engine
    arguments = {**engine.arguments, "tensor_parallel_size": gpus}
    return EngineConfig(engine.kind, arguments, engine.trust_remote_code)


def spread_over(engine: EngineConfig) -> int:
    """Return how many GPUs `engine` is told to spread its model over."""
    return int(engine.arguments.get("tensor_parallel_size", 1))


class LocalWorkerHandle:
    """A worker's process. Where no `cores` are given it may run on all."""

    def __init__(self, spec: JobSpec, worker: str, devices: Sequence[str], cores: Sequence[int] = ()) -> None:
        self.worker = worker
        self._oom_kills = _oom_kills()
        self._child = ChildProcess(
            "hfsynth.job.worker_process",
            {"worker": worker, "spec": spec.to_dict()},
            environment={"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {},
            cores=cores,
        )

    @property
    def pid(self) -> int:
        """Return the number of its process."""
        return self._child.pid

    def ended(self) -> End | None:
        """Return how the process ended, None while it runs."""
        code = self._child.ended()
        if code is None:
            return None
        if code == -signal.SIGKILL:
            out_of_memory = _oom_kills() > self._oom_kills
            return End("was killed for want of memory" if out_of_memory else "was killed", out_of_memory or None)
        return End(way_of_ending(code), code >= 0 or -code in _CRASHES)

    def stop(self, signal: int) -> None:
        """Pass a signal on to the process."""
        self._child.stop(signal)

    def kill(self) -> None:
        """End the process and everything it has started; wait until it is gone."""
        self._child.kill()


def _oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory so far, here and in this container."""
    counters = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))
    lines = [line for path in counters if path.exists() for line in path.read_text("ascii").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
