"""The jobs of one corpus: started, adopted, followed by one listing, replaced, and never beyond a bill.

What there is to know is read from the listing, by labels: whoever follows the jobs may be killed at any time, and the
next call finds them. Knows nothing of what a job does; `Outlook` tells whether the corpus is finished.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hfsynth.core.errors import ConfigError, EngineError, OutputError
from hfsynth.job.concurrency import Stop
from hfsynth.job.hf_jobs.api import CANCELLED, MOST, PLACE, PRICE, HfJobs, RemoteJob, Start
from hfsynth.job.hf_jobs.terms import Hardware, money

OUT, JOB = "hfsynth-out", "hfsynth"
"""Labels of every job: the address that it fills, and the job that is described there, each by a digest."""

EVERY = 15.0
"""Seconds between two listings."""

SEEN_OUT = 60.0
"""Seconds that jobs have to end by themselves once the corpus is finished."""

_APPEARS = 120.0  # seconds after which a job that was started must be in the listing
_TICK = 0.1
_STARTED = "STARTED"  # the stage of a job that no listing has told of

_log = logging.getLogger(__name__)


class Outlook(Protocol):
    """How far the corpus is."""

    def is_finished(self) -> bool:
        """Return whether it is published."""

    def rows(self) -> int:
        """Return how many rows of the source are done."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted: `number` jobs, each with its share; `restarts` is how many may end in a row with nothing done.

    `max_cost` is what all jobs of this corpus may come to, in micro-dollars, those of earlier calls included.
    """

    out: str
    plan: Mapping[str, Any]
    number: int
    hardware: Hardware
    seconds: int
    installs: str
    name: str = "hfsynth"
    image: str | None = None
    flags: Sequence[str] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_cost: int | None = None
    restarts: int = 3
    gpus_an_engine: int = 1

    @property
    def most(self) -> int:
        """What one job costs at most."""
        return self.hardware.most(self.seconds)

    @property
    def job(self) -> str:
        """The identity of the job: what is done, and where to."""
        return digest(json.dumps([address(self.out), self.plan], sort_keys=True, default=str))

    def command(self, place: int) -> list[str]:
        """Return what the job at a place runs."""
        return ["work", self.out, "--share", f"{place}/{self.number}", *self.flags]

    def start(self, place: int) -> Start:
        """Return the job at a place."""
        labels = {OUT: digest(address(self.out)), JOB: self.job, PLACE: str(place)}
        labels |= {MOST: str(self.most), PRICE: str(self.hardware.hourly)}
        return Start(
            f"{self.name}-{place}",
            self.command(place),
            self.installs,
            self.hardware.name,
            self.seconds,
            labels,
            self.image,
            self.secrets,
        )


def address(out: str) -> str:
    """Return an address as everybody writes it."""
    return out.rstrip("/")


def digest(text: str) -> str:
    """Return a label's value that stands for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def jobs_of(api: HfJobs, out: str) -> list[RemoteJob]:
    """Return all jobs that have worked at `out`, of this recipe or another, by place and age."""
    found = api.listing({OUT: digest(address(out))})
    return sorted(found, key=lambda job: (job.place, job.created, job.id))


def cancel_jobs(api: HfJobs, out: str) -> list[RemoteJob]:
    """End all jobs that work at `out`, and see that nobody replaces them; return those that were running."""
    alive = [job for job in jobs_of(api, out) if job.alive]
    for job in alive:
        api.mark_cancelled(job)
    for job in alive:
        api.cancel(job)
    return alive


class Crew:
    """The jobs at work on one corpus. `say` is told what happens, a sentence each."""

    def __init__(self, api: HfJobs, order: Order, outlook: Outlook, say: Callable[[str], None] = _log.info) -> None:
        self._api, self._order, self._outlook, self._say = api, order, outlook, say
        self._jobs: dict[str, RemoteJob] = {}
        self._unlisted: dict[str, float] = {}
        self._in_a_row = 0
        self._rows = 0
        self._is_short = False

    @property
    def alive(self) -> list[RemoteJob]:
        """The jobs that run or will."""
        return [job for job in self._jobs.values() if job.alive]

    @property
    def bill(self) -> int:
        """What all jobs may come to, in micro-dollars."""
        return sum(job.cost for job in self._jobs.values())

    def begin(self, stop: Stop) -> None:
        """Adopt the jobs that an earlier call left, and start what is missing.

        Raise OutputError where jobs of another recipe work at the same address, ConfigError where the bill would become
        larger than it may.
        """
        self._look()
        others = [job for job in self.alive if job.labels.get(JOB) != self._order.job]
        if others:
            raise OutputError(
                f"{len(others)} jobs of another recipe work at {self._order.out}.",
                hint=f"End them first: hfsynth jobs {self._order.out} --cancel",
            )
        if self._outlook.is_finished():
            return
        if self.alive:
            self._say(f"Going on with {len(self.alive)} jobs that run.")
        self._rows = self._outlook.rows()
        self._refuse_bill()
        self._fill(stop)

    def follow(self, stop: Stop, on_look: Callable[[], None] = lambda: None, *, every: float = EVERY) -> None:
        """Replace jobs that end until the corpus is finished; return then, or when a stop was asked for.

        Raise EngineError when jobs keep ending with nothing done in between, and when there is no money for another.
        """
        while not stop.requested:
            self._look()
            if self._outlook.is_finished():  # asked last: a job that the listing shows completed has published it
                return self._see_out(stop, every)
            self._note_ended()
            self._fill(stop)
            on_look()
            if not self.alive and not stop.requested:
                raise EngineError(
                    f"All jobs have ended, and another would cost more than --max-cost allows: {money(self.bill)} so "
                    f"far, {money(self._order.most)} a job at most.",
                    hint="What is done is kept: the same command goes on. Raise --max-cost.",
                )
            _wait(stop, every)
        return None

    def cancel(self) -> int:
        """End every job that runs; return how many did."""
        self._look()
        alive = self.alive
        for job in alive:
            self._end(job)
        return len(alive)

    def _look(self) -> None:
        """Read the listing. A job that was started a moment ago need not be in it yet."""
        listed = {job.id: job for job in self._api.listing({OUT: digest(address(self._order.out))})}
        now = time.monotonic()
        for job in [job for job in self._jobs.values() if job.id not in listed]:
            if now - self._unlisted.get(job.id, float("-inf")) < _APPEARS:
                listed[job.id] = job
        self._ended = [job for job in self.alive if job.id not in listed or not listed[job.id].alive]
        gone = {job.id: _gone(job) for job in self._ended if job.id not in listed}
        self._jobs = {**self._jobs, **listed, **gone}

    def _note_ended(self) -> None:
        """Count the jobs that have ended with nothing done since; raise EngineError when there are too many."""
        for before in self._ended:
            job, rows = self._jobs[before.id], self._outlook.rows()
            if job.labels.get(CANCELLED):
                raise EngineError(
                    "The jobs were cancelled by hfsynth jobs --cancel.",
                    hint="What is done is kept: the same command goes on.",
                )
            self._in_a_row = 0 if rows > self._rows else self._in_a_row + 1
            self._rows = max(rows, self._rows)
            self._say(f"Job {job.place} has ended ({_how(job)}).")
            if self._in_a_row > max(self._order.number, self._order.restarts):
                self._give_up(job)

    def _give_up(self, job: RemoteJob) -> None:
        lines = self._api.last_lines(job)
        self.cancel()
        first = f"{self._in_a_row} jobs in a row have ended with nothing done; the last ({_how(job)}):"
        raise EngineError(
            "\n".join([first, *lines]),
            hint=f"Look at {job.url}. A job needs time to install and to load the model: a longer --timeout may help.",
        )

    def _fill(self, stop: Stop) -> None:
        """Start a job in every place that has none, as far as the money goes; end doubles."""
        held: dict[int, RemoteJob] = {}
        for job in sorted(self.alive, key=lambda job: (job.created, job.id)):
            if job.place in held:  # two calls at the same time: both keep the older one
                self._say(f"Job {job.place} runs twice; the younger one is cancelled.")
                self._end(job)
            else:
                held[job.place] = job
        for place in range(self._order.number):
            if place in held or stop.requested:
                continue
            if not self._can_pay():
                self._tell_short(place)
                return
            answer = self._api.start(self._order.start(place))
            started = replace(answer, stage=_STARTED)  # where it has ended by now, the next look counts it
            self._jobs[started.id] = started
            self._unlisted[started.id] = time.monotonic()
            self._say(f"Job {place} started: {started.url}")

    def _can_pay(self) -> bool:
        return self._order.max_cost is None or self.bill + self._order.most <= self._order.max_cost

    def _tell_short(self, place: int) -> None:
        if not self._is_short:
            self._is_short = True
            self._say(f"Job {place} is not started: the bill could come to more than --max-cost.")

    def _refuse_bill(self) -> None:
        """Raise ConfigError where not all jobs can be paid that are wanted, unless some work already."""
        order, limit = self._order, self._order.max_cost
        wanted = order.number - len({job.place for job in self.alive} & set(range(order.number)))
        bill = self.bill + wanted * order.most
        if limit is None or bill <= limit or (self._jobs and self.bill + order.most <= limit) or self.alive:
            return
        before = f"after {money(self.bill)} of earlier jobs, " if self._jobs else ""
        raise ConfigError(
            f"{wanted} jobs of {order.hardware.name} for {order.seconds / 3600:g} h cost {money(bill - self.bill)} at "
            f"most; {before}that is more than --max-cost {limit / 1e6:g}.",
            hint="Use fewer --jobs, a shorter --timeout, or raise --max-cost.",
        )

    def _see_out(self, stop: Stop, every: float) -> None:
        """Let jobs end that find nothing left to do, and cancel those that do not."""
        until = time.monotonic() + SEEN_OUT
        while self.alive and time.monotonic() < until and not stop.requested:
            _wait(stop, every)
            self._look()
        for job in self.alive:
            self._end(job)

    def _end(self, job: RemoteJob) -> None:
        self._api.cancel(job)
        self._jobs[job.id] = replace(job, stage="CANCELED")


def _gone(job: RemoteJob) -> RemoteJob:
    """Return a job that the Hub does not list any more: it has cost what it could."""
    return RemoteJob(job.id, job.url, "DELETED", "no longer listed", job.flavor, job.labels, None, job.created)


def _how(job: RemoteJob) -> str:
    return " ".join([job.stage.lower(), *([f"– {job.message}"] if job.message else [])])


def _wait(stop: Stop, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop.requested:
        time.sleep(min(_TICK, seconds))
