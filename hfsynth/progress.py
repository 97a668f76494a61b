"""How far a job is, read from its journal: by its own supervisor, or by anybody in another terminal.

Knows nothing of engines or sources; starts nothing and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from operator import itemgetter

from hfsynth.claims import read_extent
from hfsynth.corpus import Corpus, read_json
from hfsynth.journal import JournalPaths
from hfsynth.sessions import OpenShard, Session, Sessions, working_seconds
from hfsynth.shards import read_record, record_paths
from hfsynth.stats import Counts

FRESH = 10.0
"""Seconds after which a worker that has shown no sign of life no longer counts as running."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `total` counts the source's rows where that is known; seconds are the working time.

    `workers` is how many are running, `speed` the documents a second that these have finished. Of chains that have not
    ended: `in_flight` are the tokens, `early_documents` and `early_pairs` what is done of them. `phase` is what workers
    do before they have anything to count, and for how long.
    """

    counts: Counts
    rows: int
    total: int | None
    seconds: float
    workers: int = 0
    speed: float = 0.0
    in_flight: int = 0
    early_documents: int = 0
    early_pairs: int = 0
    phase: str = ""
    phase_seconds: float = 0.0

    @property
    def documents(self) -> int:
        """Documents that are done."""
        return self.counts.total_documents

    @property
    def pairs(self) -> int:
        """Pairs written about them."""
        return self.counts.pairs

    @property
    def output_tokens(self) -> int:
        """Tokens the model has written for these."""
        return self.counts.output_tokens

    @property
    def documents_seen(self) -> int:
        """Documents that are done, in chains that have not ended too."""
        return self.documents + self.early_documents

    @property
    def pairs_seen(self) -> int:
        """Pairs written about these."""
        return self.pairs + self.early_pairs

    @property
    def tokens_written(self) -> int:
        """Tokens the model has written, for documents that are not done too."""
        return self.counts.output_tokens + self.in_flight

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest takes at this speed; None where that cannot be told."""
        if self.total is None or not (self.rows and self.speed):
            return None
        documents_left = max(0, self.total - self.rows) * self.documents / self.rows
        return documents_left / self.speed


class JournalView:
    """Look at a job again and again; finished shards are read once."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._sessions = Sessions(JournalPaths(corpus.journal).sessions)
        self._finished: set[int] = set()
        self._counts = Counts()
        self._rows = 0
        self._since = time.time()

    def progress(self, own: Session | None = None) -> Progress:
        """Add up finished shards and what is done of the others; `own` is newer than that session's file."""
        sessions = self._sessions.all()
        if own is not None:
            sessions = [*(session for session in sessions if session.worker != own.worker), own]
        self._add_finished()
        under_way = _furthest(sessions, self._finished).values()
        counts = sum((found.counts for found in under_way), self._counts)
        rows = sum((found.rows for found in under_way), self._rows)
        sessions = [_until_now(session) for session in sessions]
        running = [s for s in sessions if s.ended is None and time.time() - s.updated < FRESH]
        phase, seconds = _phase(running) if sessions else ("starting", time.time() - self._since)
        expectation = read_json(JournalPaths(self._corpus.journal).expectation)
        extent = read_extent(self._corpus) or expectation
        total = None if extent is None else extent["rows"]
        return Progress(
            counts,
            rows,
            total,
            working_seconds(sessions),
            workers=len(running),
            speed=_speed(running),
            in_flight=sum(session.in_flight for session in running),
            early_documents=sum(session.early_documents for session in running),
            early_pairs=sum(session.early_pairs for session in running),
            phase=phase,
            phase_seconds=seconds,
        )

    def _add_finished(self) -> None:
        for shard, path in record_paths(self._corpus.parts).items():
            if shard not in self._finished:
                record = read_record(path)
                self._finished.add(shard)
                self._counts += record.counts
                self._rows += record.source_rows


def _furthest(sessions: Iterable[Session], finished: Collection[int]) -> dict[int, OpenShard]:
    """Return the unfinished shards, each as the worker that is furthest with it has it."""
    found: dict[int, OpenShard] = {}
    for session in sessions:
        for shard, state in session.open.items():
            if shard not in finished and (shard not in found or found[shard].rows < state.rows):
                found[shard] = state
    return found


def _until_now(session: Session) -> Session:
    """Return a session whose engine is at work now, though no document has ended since."""
    return replace(session, working_to=session.updated) if session.ended is None and session.in_flight else session


def _phase(running: Iterable[Session]) -> tuple[str, float]:
    """Return what all who run are about before they have anything to count, as the one that began last has it."""
    found = [session.phase for session in running]
    return min(found, key=itemgetter(1)) if found and all(name for name, _ in found) else ("", 0.0)


def _speed(running: Iterable[Session]) -> float:
    return sum(s.counts.total_documents / max(s.working_to - s.working_from, 1e-3) for s in running if s.working_from)
