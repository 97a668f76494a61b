"""How far a job is, read from its journal: by its own supervisor, or by anybody in another terminal.

Knows nothing of engines or sources; starts nothing and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hfsynth.claims import read_extent
from hfsynth.corpus import Corpus, read_json
from hfsynth.journal import JournalPaths
from hfsynth.sessions import OpenShard, Session, Sessions, working_seconds
from hfsynth.shards import ShardRecord, read_record, record_paths
from hfsynth.stats import Counts

FRESH = 10.0
"""Seconds after which a worker that has shown no sign of life no longer counts as running."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `total` counts the source's rows where that is known; seconds are the working time.

    `workers` is how many are running, `speed` the documents a second that these have finished.
    """

    counts: Counts
    rows: int
    total: int | None
    seconds: float
    workers: int = 0
    speed: float = 0.0

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
        """Tokens the model has written."""
        return self.counts.output_tokens

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
        self._records: dict[int, ShardRecord] = {}

    def records(self) -> dict[int, ShardRecord]:
        """Return the finished shards."""
        for shard, path in record_paths(self._corpus.parts).items():
            if shard not in self._records:
                self._records[shard] = read_record(path)
        return self._records

    def sessions(self) -> list[Session]:
        """Return every worker's session, the earliest first."""
        return self._sessions.all()

    def progress(self, own: Session | None = None) -> Progress:
        """Add up finished shards and what is done of the others; `own` is newer than that session's file."""
        sessions = self.sessions()
        if own is not None:
            sessions = [*(session for session in sessions if session.worker != own.worker), own]
        records = self.records()
        under_way = _furthest(sessions, records)
        counted = [*(found.counts for found in records.values()), *(found.counts for found in under_way.values())]
        counts = sum(counted, Counts())
        rows = sum(found.source_rows for found in records.values()) + sum(found.rows for found in under_way.values())
        running = [s for s in sessions if s.ended is None and time.time() - s.updated < FRESH]
        expectation = read_json(JournalPaths(self._corpus.journal).expectation)
        extent = read_extent(self._corpus) or expectation
        total = None if extent is None else extent["rows"]
        return Progress(counts, rows, total, working_seconds(sessions), len(running), _speed(running))


def _furthest(sessions: Iterable[Session], records: Mapping[int, ShardRecord]) -> dict[int, OpenShard]:
    """Return the unfinished shards, each as the worker that is furthest with it has it."""
    found: dict[int, OpenShard] = {}
    for session in sessions:
        for shard, state in session.open.items():
            if shard not in records and (shard not in found or found[shard].rows < state.rows):
                found[shard] = state
    return found


def _speed(running: Iterable[Session]) -> float:
    return sum(s.counts.total_documents / max(s.working_to - s.working_from, 1e-3) for s in running if s.working_from)
