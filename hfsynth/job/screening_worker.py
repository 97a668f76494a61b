"""A worker at a screening: it claims a corpus's files, and writes each anew or notes what may be duplicates in it.

No engine and no journal: a file is done as a whole, in little time, and again where its worker was killed. Knows
nothing of who starts and watches it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hfsynth.core.errors import HfsynthError, OutputError
from hfsynth.core.files import file_digest
from hfsynth.core.processes import mark
from hfsynth.core.records import Counts
from hfsynth.corpus.folder import Corpus
from hfsynth.job.claims import Claims
from hfsynth.job.concurrency import Repeating, Stop
from hfsynth.job.duplicates import noted_path
from hfsynth.job.folder_site import FolderSite
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leases import Holder, Leases
from hfsynth.job.screened_parts import NewPart, Noted, RowScreen, batches, counted, pairs_files, read_repeated
from hfsynth.job.sessions import DONE, FAILED, STOPPED, OpenShard, Session, Sessions, now
from hfsynth.job.shards import ShardRecord, lease_name, part_path, read_extent, write_record
from hfsynth.job.spec import JobSpec, ScreeningSpec
from hfsynth.quality.decontamination import open_index
from hfsynth.quality.screening import Repeated
from hfsynth.quality.token_classifier import TokenClassifier

_LOOK_AGAIN = 0.2  # for what other workers do


@dataclass(frozen=True, slots=True)
class ScreeningFolders:
    """Where a screening keeps what it has done: of its two rounds, and of the decisions between them."""

    root: Path

    @property
    def looked(self) -> Corpus:
        """The first round, where duplicates are looked for."""
        return Corpus(self.root / "looked")

    @property
    def duplicates(self) -> Path:
        return self.root / "duplicates"

    @property
    def index(self) -> Path:
        """The index of the benchmarks that are looked for, for all workers."""
        return self.root / "benchmarks.npz"

    @property
    def made(self) -> Corpus:
        """The round that writes the rows anew."""
        return Corpus(self.root / "made")


class ScreeningWorker:
    """Work on a screening until nothing of it is left, it is told to stop, or something goes wrong."""

    def __init__(
        self,
        spec: JobSpec,
        screening: ScreeningSpec,
        stop: Stop,
        *,
        name: str | None = None,
        on_session: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self._spec, self._screening, self._stop = spec, screening, stop
        self._on_session = on_session
        self._out = Corpus(Path(spec.out))
        self._files = pairs_files(Corpus(Path(screening.corpus)))
        paths = JournalPaths(self._out.journal)
        self._holder = Holder.this_process(name)
        self.sessions = Sessions(paths.sessions)
        is_gone = self.sessions.has_died
        self._leases = Leases(paths.leases, self._holder, is_gone=is_gone, stale_after=spec.stale_after)
        self._claims = Claims(FolderSite(self._out.root), self._leases, spec.shard_rows, spec.shards)
        self._repeating = Repeating(signs_of_life=(self._leases.beat, self._show))
        self._counts = Counts()
        self._open: dict[int, OpenShard] = {}
        self._started, self._worked = now(), 0.0
        benchmarks, near = screening.settings.benchmarks, ScreeningFolders(self._out.root.parent).index
        self._index = None if benchmarks is None else open_index(benchmarks, near=near)
        model = screening.settings.pii_model
        self._classifier = None if model is None else TokenClassifier(model)

    def run(self) -> None:
        """Work until every file is done, by this worker or by others, or until a stop is asked for."""
        ended, failure = STOPPED, None
        try:
            self._show()
            with self._repeating:
                self._work()
            ended = STOPPED if self._stop.requested else DONE
        except HfsynthError as error:
            ended, failure = FAILED, error
            raise
        finally:
            with suppress(OutputError):  # of a full disk: what went wrong first is told
                self._leases.release_all()
                self.sessions.write(self.session(ended=ended, failure=failure))

    def leave_to_others(self, ended: str) -> None:
        """Say that this worker has ended: its process is about to be killed."""
        self.sessions.write(self.session(ended=ended))

    def session(self, *, ended: str | None = None, failure: HfsynthError | None = None) -> Session:
        """Return what this worker has done so far."""
        return Session(
            worker=self._holder.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            devices="",
            started=self._started,
            updated=now(),
            working_from=self._started,
            working_to=self._worked or self._started,
            counts=self._counts,
            open=dict(self._open),
            ended=ended,
            error=failure.to_dict() if failure else None,
            mark=mark(),
        )

    def _show(self) -> None:
        self.sessions.write(self.session())

    def _work(self) -> None:
        while not self._stop.requested and read_extent(self._out) is not None and not self._claims.all_finished():
            self._repeating.check()
            shard = self._claims.next()
            if shard is None:
                time.sleep(_LOOK_AGAIN)
            elif (record := self._look_at(shard) if self._screening.looks else self._make(shard)) is not None:
                self._finish(shard, record)

    def _finish(self, shard: int, record: ShardRecord) -> None:
        """Write a file's record, unless another worker has taken the file over in the meantime."""
        if self._leases.holds(lease_name(shard)):
            write_record(part_path(self._out.parts, shard).with_suffix(".json"), record)
            self._counts += record.counts
        self._open.pop(shard, None)
        self._leases.remove(lease_name(shard))

    def _look_at(self, shard: int) -> ShardRecord | None:
        noted, path = Noted(), self._files[shard]
        counts = self._screened(shard, {}, lambda batch, rows: noted.add(rows))
        if counts is None:
            return None
        noted.write(noted_path(self._out.parts, shard))
        return ShardRecord(counts.total_documents, counts.total_documents, *file_digest(path)[::-1], 0.0, counts)

    def _make(self, shard: int) -> ShardRecord | None:
        began = time.monotonic()
        path, settings = self._files[shard], self._screening.settings
        decided = noted_path(ScreeningFolders(Path(self._spec.out).parent).duplicates, shard)
        repeated = read_repeated(decided) if settings.duplicates else {}
        part = NewPart(part_path(self._out.parts, shard), path)
        try:
            counts = self._screened(shard, repeated, part.add)
            described = None if counts is None else part.finish() or file_digest(path)
        finally:
            part.abandon()
        if counts is None or described is None:
            return None
        rows = counts.total_documents
        return ShardRecord(rows, rows, described[1], described[0], time.monotonic() - began, counts)

    def _row_screen(self, repeated: Mapping[int, Repeated]) -> RowScreen:
        return RowScreen(self._screening.settings, repeated, self._index, self._classifier)

    def _screened(self, shard: int, repeated: Mapping[int, Repeated], take: Callable[..., None]) -> Counts | None:
        """Screen the rows of a file and hand them on; return their counts, None where a stop was asked for."""
        path, screen = self._files[shard], self._row_screen(repeated)
        counts = Counts()
        for batch in batches(path):
            self._repeating.check()
            if self._stop.requested:
                return None
            found = screen.screened(batch.rows, counts.total_documents)
            take(batch, [one.row for one in found])
            counts += counted(found, path)
            self._worked = now()
            self._open[shard] = OpenShard(counts.total_documents, counts)
            self._on_session(self.session())
        return counts
