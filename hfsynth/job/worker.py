"""One worker at a job: it claims shards, drives its engine through their chains and writes their parts.

Reading and tokenising happen ahead of the engine in one thread, writing behind it in another; a third syncs every
second what was noted, and a fourth, which waits for no disk, shows that the worker is alive. Any number of workers, in
any number of processes and machines that share the folder, finish a job together. Knows nothing of who starts and
watches it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hfsynth.core.errors import HfsynthError, OutputError, SourceError
from hfsynth.core.logs import logging_into
from hfsynth.core.phases import phases
from hfsynth.core.processes import mark
from hfsynth.core.records import Counts
from hfsynth.documents.source import OpenSource
from hfsynth.documents.splits import SplitLayout, SplitSource
from hfsynth.job.claims import Claims
from hfsynth.job.concurrency import Channel, Closed, Repeating, Stop
from hfsynth.job.driver import Driver
from hfsynth.job.feeding import ChainOutcome, ChainRun, Prepared, ShardReader, side_by_side
from hfsynth.job.journal import NO_STRIKES, JournalPaths, read_journal
from hfsynth.job.leases import Holder, Leases
from hfsynth.job.part_writer import ChainResult, PartWriter, ShardEnd
from hfsynth.job.passes import Driven, RowChainer, index_file, pass_of
from hfsynth.job.sessions import DONE, FAILED, STOPPED, Session, now
from hfsynth.job.shards import lease_name, read_extent
from hfsynth.job.site import Site
from hfsynth.job.spec import JobSpec

AHEAD = 64
"""How many chains are prepared ahead of the engine."""

CLAIM_BELOW = 16
"""How few of them are left when the next shard is claimed: what is claimed early, another worker cannot do."""

_log = logging.getLogger(__name__)
_LOOK_AGAIN = 1.0  # for what other workers do
_LOOK_AGAIN_SOON = 0.02  # for the part writer
_TELL_EVERY = 0.5
_PATIENCE = 5.0


class Worker:
    """Work on a job until nothing of it is left, it is told to stop, or something goes wrong."""

    def __init__(
        self,
        spec: JobSpec,
        stop: Stop,
        *,
        opened: OpenSource | None = None,
        site: Site,
        name: str | None = None,
        on_session: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self._spec = spec
        self._site = site
        self._stop = stop
        self._on_session = on_session
        self._told = 0.0
        corpus = site.corpus
        paths = JournalPaths(corpus.journal)
        self._pass = pass_of(spec, corpus)
        site.look()
        site.fetch(index_file(corpus))
        self._opened = opened or self._pass.open()
        _require_revision(self._opened, spec)
        if isinstance(self._opened, SplitSource):
            self._opened.layout = SplitLayout.of(read_extent(corpus), spec.shard_rows)
        self._holder = Holder.this_process(name)
        self.sessions = site.sessions()
        is_gone, stale_after = self.sessions.has_died, spec.stale_after
        files = site.lease_files(self._holder.worker, stale_after)
        self._leases = Leases(files, self._holder, is_gone=is_gone, stale_after=stale_after)
        self._claims = Claims(site, self._leases, spec.shard_rows, spec.shards, spec.share)
        self._segment_folder = paths.segments
        self._log_file = paths.logs / f"{self._holder.worker}.log"
        self._segments = site.notes(self._holder.worker)
        # Apart: a disk that is slow to sync must not look like a worker that is gone.
        self._repeating = Repeating(signs_of_life=(self._leases.beat,), sync=(self._segments.sync, self._show))
        self._writer = PartWriter(
            corpus.parts,
            self._pass.schema(self._opened.features, corpus),
            made=self._pass.rows,
            is_mine=lambda shard: self._leases.holds(lease_name(shard)),
            on_finished=self._shard_is_finished,
            commit=site.commit,
        )
        self._driver: Driver | None = None
        self._reader: ShardReader | None = None
        self._times = _Times()
        self._counts = Counts()

    def run(self) -> None:
        """Work until every shard of the range is finished, by this worker or by others, or until a stop is asked for.

        Shards of workers that have died are taken over. Raise what went wrong; what was done is in the journal.
        """
        ended, failure = STOPPED, None
        try:
            self._show()
            self._leases.beat()
            with logging_into(self._log_file), self._repeating:
                self._work()
                self._writer.close()
            ended = STOPPED if self._stop.requested else DONE
        except HfsynthError as error:
            ended, failure = FAILED, error
            with suppress(HfsynthError):  # that of the writer itself
                self._writer.close()
            raise
        finally:
            self._writer.abandon()
            with suppress(OutputError):  # of a full disk: what went wrong first is told
                self._segments.close()
                self._leases.release_all()
                self.sessions.write(self.session(ended=ended, failure=failure))
                self._site.share(self._log_file)

    def leave_to_others(self, ended: str) -> None:
        """Say that this worker has ended, and let others see what it has noted: its process is about to be killed."""
        self.sessions.write(self.session(ended=ended))
        self._segments.close()

    def session(self, *, ended: str | None = None, failure: HfsynthError | None = None) -> Session:
        """Return what this worker has done so far."""
        return Session(
            worker=self._holder.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            devices=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            restarts=self._driver.restarts if self._driver else 0,
            preemptions=self._driver.preemptions if self._driver else None,
            counts=self._counts,
            open=self._writer.open_shards(),
            ended=ended,
            error=self._site.told(failure).to_dict() if failure else None,
            mark=mark(),
            phases=phases(),
            written=self._driver.tokens_written if self._driver else 0,
            early_documents=self._driver.early.documents if self._driver else 0,
            early_pairs=self._driver.early.pairs if self._driver else 0,
            **self._times.told(now()),
        )

    # --- the threads beside the engine's -------------------------------------------------------------------

    def _show(self) -> None:
        self.sessions.write(self.session())

    def _prefetch(self, shard: int | None, reader: ShardReader, chainer: RowChainer, ahead: Channel[Prepared]) -> None:
        try:
            while shard is not None and not self._stop.requested:
                self._prepare(shard, reader, chainer, ahead)
                ahead.wait_below(CLAIM_BELOW)
                shard = self._claims.next()
            ahead.close()
        except Closed:
            pass
        except BaseException as error:  # whatever it is, it belongs to the thread that drives the engine
            ahead.close(error)

    def _prepare(self, shard: int, reader: ShardReader, chainer: RowChainer, ahead: Channel[Prepared]) -> None:
        """Read a shard; send chains that are in the journal to the part writer and all others to the engine."""
        if self._leases.generation(lease_name(shard)) and self._site.fetch_journal(shard):
            self._segments.hasten()
        journal = read_journal(self._segment_folder, shard, self.sessions.how_ended)
        chains = 0
        for number, rows in side_by_side(enumerate(reader.chains(shard)), chainer.beginnings):
            chains += 1
            results = journal.results.get(number, [])
            if len(results) == len(rows):
                self._writer.put(ChainResult(shard, number, rows, results))
            else:
                run = ChainRun(shard, number, rows, journal.strikes.get(number, NO_STRIKES))
                ahead.put(Prepared.of(run, chainer))
        self._claims.has_read(shard, reader.rows_read)
        if chains:
            self._writer.put(ShardEnd(shard, chains, reader.rows_read, reader.digest, reader.unreadable))

    def _shard_is_finished(self, shard: int) -> None:
        self._segments.drop(shard)
        self._leases.remove(lease_name(shard))

    # --- the engine's own thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stop.requested:
            held = self._leases.held  # before looking: the writer may finish them in the meantime
            if self._claims.all_finished():
                return
            shard = self._claims.next()
            if shard is None:
                if not held:
                    self._times.waits()
                self._wait(_LOOK_AGAIN_SOON if held else _LOOK_AGAIN)
            else:
                self._work_from(shard)

    def _wait(self, seconds: float) -> None:
        """Wait for the part writer, or for other workers: they finish their shards, or die and leave them."""
        self._check()
        time.sleep(seconds)

    def _work_from(self, shard: int) -> None:
        """Run the chains of `shard`, and of those that can be claimed after it."""
        driver, reader = self._ready()
        self._times.resumes()
        ahead: Channel[Prepared] = Channel(AHEAD)
        arguments = (shard, reader, driver.chainer, ahead)
        thread = threading.Thread(target=self._prefetch, args=arguments, name="hfsynth-prefetch", daemon=True)
        thread.start()
        try:
            for outcome in driver.outcomes(ahead):
                self._take(outcome)
        finally:
            ahead.abandon()
            thread.join(_PATIENCE)  # it may be waiting for a network that does not answer

    def _take(self, outcome: ChainOutcome) -> None:
        self._counts += Counts.of(outcome.results)
        self._times.worked()
        self._writer.put(ChainResult(outcome.shard, outcome.number, outcome.rows, outcome.results))
        self._check()
        if time.monotonic() - self._told > _TELL_EVERY:
            self._told = time.monotonic()
            self._on_session(self.session())

    def _check(self) -> None:
        self._writer.check()
        self._repeating.check()

    def _ready(self) -> tuple[Driver, ShardReader]:
        """Load the engine, the first time."""
        if self._driver is None or self._reader is None:
            self._times.engine_starts()
            most = self._spec.max_engine_restarts
            self._driver = Driver(self._load, self._segments, self._stop, max_restarts=most)
            self._reader = self._reader_for(self._driver.chainer)
            self._writer.start_lap()
            self._times.worked()
        return self._driver, self._reader

    def _reader_for(self, chainer: RowChainer) -> ShardReader:
        splitter, shots = self._pass.splitter(chainer), self._pass.shots
        return ShardReader(self._opened.read, shots=shots, shard_rows=self._spec.shard_rows, splitter=splitter)

    def _load(self) -> Driven:
        """Load the engine, or find it in this process."""
        with self._times.loading():
            loaded = self._pass.load()
        _log.info("engine loaded: %s, window of %d tokens", self._spec.engine.kind, loaded.engine.window)
        return loaded


class _Times:
    """When a worker's session began, when its engine was loaded, worked and waited.

    One thread writes. Others read it up to a moment `at`, so that what they read adds up.
    """

    def __init__(self) -> None:
        self.started = now()
        self._engine_from = self._working_from = self._working_to = 0.0
        self._pauses, self._loads = _Spans(), _Spans()

    def told(self, at: float) -> dict[str, Any]:
        """Return what a session says of its times."""
        loads = self._loads.until(at)
        return {
            "started": self.started,
            "updated": at,
            "engine_seconds": max(0.0, round(at - self._engine_from, 3)) if self._engine_from else 0.0,
            "loading_seconds": round(sum(until - since for since, until in loads), 3),
            "working_from": self._working_from,
            "working_to": min(self._working_to, at),
            "pauses": self._pauses.until(at),
            "loads": loads,
        }

    def waits(self) -> None:
        """Note that there is nothing to do but to wait for other workers, since it last worked."""
        self._pauses.begin(self._working_to)

    def resumes(self) -> None:
        self._pauses.end(now())

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Note a load, one that fails too."""
        self._loads.begin(now())
        try:
            yield
        finally:
            self._loads.end(now())

    def engine_starts(self) -> None:
        self._engine_from = self._engine_from or now()

    def worked(self) -> None:
        self._working_to = now()
        self._working_from = self._working_from or self._working_to


class _Spans:
    """Times from and to, the last of which may not have ended; changed by one assignment, for other threads read it."""

    def __init__(self) -> None:
        self._found: tuple[tuple[tuple[float, float], ...], float] = (), 0.0

    def begin(self, at: float) -> None:
        """Begin one, unless one has begun."""
        ended, since = self._found
        self._found = ended, since or at

    def end(self, at: float) -> None:
        """End the one that has begun, if any."""
        ended, since = self._found
        if since:
            self._found = (*ended, (since, at)), 0.0

    def until(self, at: float) -> list[tuple[float, float]]:
        """Return all of them as far as they lie before a moment."""
        ended, since = self._found
        return [(since, min(until, at)) for since, until in (*ended, (since or at, at)) if since < at]


def _require_revision(opened: OpenSource, spec: JobSpec) -> None:
    if opened.revision != spec.revision:
        raise SourceError(
            f"{spec.source.location} should be at revision {spec.revision}, and is at {opened.revision}.",
            hint="It has changed since the job began: bring it back, or give another output folder.",
        )
