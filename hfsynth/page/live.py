"""The rows that a running job has made of shards that are not finished, from its journal. Reads, and writes nothing.

What a journal notes has no documents: those come from the source, where it is on this machine, read in a thread of its
own. However many workers there are, a look takes a moment: the shards that were looked at longest ago go first.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hfsynth.core.errors import HfsynthError
from hfsynth.core.files import read_json
from hfsynth.core.records import Row, Synthesized, chain_id
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.parquet import output_rows
from hfsynth.documents.locate import locate
from hfsynth.documents.source import Source
from hfsynth.documents.splits import SplitLayout, SplitSource, open_source_splits
from hfsynth.job.feeding import ShardReader
from hfsynth.job.journal import JournalPaths, read_journal
from hfsynth.job.settings import JobSettings
from hfsynth.job.shards import read_extent, record_paths
from hfsynth.page.rows import UNDER_WAY, CorpusRow, row_of

_SECONDS = 0.25  # a look at journals takes no longer, but for one shard
_NEWEST = 500  # chains of a shard that are kept
_SHARDS = 8  # whose documents are kept
_PATIENCE = 1.5  # seconds that a row waits for its document
_REMEMBERED = 1000
_EXTRA = ("reasoning", "mined", "prompt", "rewritten")
_LATER = "It comes with its shard: "
_ELSEWHERE = "the source is not on this machine."
_READING = "The source is being read. Choose the row again in a moment."


@dataclass(frozen=True, slots=True)
class _Shard:
    """What was read of a shard's journal, when, and from which files. The numbers of its rows end with the newest."""

    files: frozenset[tuple[str, int]]
    read: float
    rows: tuple[int, ...]
    results: Mapping[int, list[Synthesized]]


class LiveRows:
    """The rows under way of the job in a folder. One thread at a time may `look`; any may ask for what was seen."""

    def __init__(self, folder: Path) -> None:
        self._corpus = Corpus(folder)
        self._segments = JournalPaths(self._corpus.journal).segments
        self._shards: dict[int, _Shard] = {}
        self._names: OrderedDict[int, tuple[str, int]] = OrderedDict()
        self._documents = _Documents(self._corpus)

    def look(self) -> None:
        """Read what has been noted since the last look."""
        there = {shard: self._files(shard) for shard in self._unfinished()}
        seen = {shard: known for shard, known in self._shards.items() if there.get(shard)}
        changed = [
            shard for shard, files in there.items() if files and (shard not in seen or files != seen[shard].files)
        ]
        until = time.monotonic() + _SECONDS
        for shard in sorted(changed, key=lambda one: seen[one].read if one in seen else 0.0):
            seen[shard] = self._read(shard, there[shard])
            if time.monotonic() >= until:
                break
        self._shards = seen
        self._documents.want(sorted(seen, key=lambda one: seen[one].read))

    def close(self) -> None:
        """Read nothing more."""
        self._documents.close()

    def __len__(self) -> int:
        return sum(len(shard.rows) for shard in self._shards.values())

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the rows, shard by shard, the chain that was noted last first."""
        for _, shard in sorted(self._shards.items(), key=lambda item: -item[1].read):
            yield from reversed(shard.rows)

    def row(self, number: int, *, wait: bool = False) -> CorpusRow | None:
        """Return the row of a number, None for one that is not under way; `wait` a moment for its document."""
        shard, chain, shot = _named(number)
        found = self._shards.get(shard)
        if found is None or number not in found.rows:
            return None
        documents, why = self._documents.of(shard, chain, found.results[chain], _PATIENCE if wait else 0.0)
        values = {**documents[shot], **output_rows(found.results[chain][shot : shot + 1], _EXTRA, recipe="")[0]}
        row = row_of(values, number, why)
        self._names[number] = (row.chain, row.shot)
        while len(self._names) > _REMEMBERED:
            self._names.popitem(last=False)
        return row

    def chain(self, number: int) -> list[CorpusRow]:
        """Return the rows of the chain that a row is in."""
        shard, chain, _ = _named(number)
        found = self._shards.get(shard)
        shots = range(len(found.results.get(chain, ()))) if found else range(0)
        rows = (self.row(_number(shard, chain, shot)) for shot in shots)
        return [row for row in rows if row is not None]

    def name_of(self, number: int) -> tuple[str, int] | None:
        """Return the chain and the shot of a row that was once asked for, though it is no longer under way."""
        return self._names.get(number)

    def _unfinished(self) -> list[int]:
        finished = record_paths(self._corpus.parts)
        names = [path.name for path in self._segments.iterdir()] if self._segments.is_dir() else []
        return [int(name) for name in names if name.isdigit() and int(name) not in finished]

    def _files(self, shard: int) -> frozenset[tuple[str, int]]:
        found = set()
        for path in (self._segments / f"{shard:05d}").glob("*.jsonl"):
            try:
                found.add((path.name, path.stat().st_size))
            except FileNotFoundError:  # the shard was finished a moment ago
                continue
        return frozenset(found)

    def _read(self, shard: int, files: frozenset[tuple[str, int]]) -> _Shard:
        results = read_journal(self._segments, shard, lambda worker: None).results
        kept = dict(list(results.items())[-_NEWEST:])
        rows = (_number(shard, chain, shot) for chain, made in kept.items() for shot in reversed(range(len(made))))
        return _Shard(files, time.monotonic(), tuple(rows), kept)


class _Documents:
    """The documents of shards by chain, as the job reads them. A thread reads; others ask."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._read: OrderedDict[int, dict[int, list[Row]]] = OrderedDict()
        self._wanted: list[int] = []
        self._why = ""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def want(self, shards: Sequence[int]) -> None:
        """Have the documents of shards read, those of the last first, unless they are or cannot be."""
        with self._changed:
            self._wanted = [shard for shard in shards if shard not in self._read][-_SHARDS:]
            if self._wanted and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="hfsynth-page-source", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Read nothing more."""
        with self._changed:
            self._why = self._why or "The job has ended."
            self._changed.notify_all()

    def of(self, shard: int, chain: int, results: Sequence[Synthesized], patience: float) -> tuple[list[Row], str]:
        """Return a chain's documents, or empty ones and why they are not there."""
        with self._changed:
            self._changed.wait_for(lambda: self._why or shard in self._read, patience)
            rows = self._read.get(shard, {}).get(chain, [])
            why = self._why
        if len(rows) == len(results) and chain_id(row["id"] for row in rows) == results[0].synthesis.chain:
            return rows, ""
        if not why and shard not in self._read:
            why = _READING
        return [{"id": "", "text": ""}] * len(results), why or f"{_LATER}the source is cut otherwise than it stands."

    def _work(self) -> None:
        try:
            reader = _reader(self._corpus)
            while (shard := self._next()) is not None:
                found = dict(enumerate(reader.chains(shard)))
                with self._changed:
                    self._read[shard] = found
                    while len(self._read) > _SHARDS:
                        self._read.popitem(last=False)
                    self._changed.notify_all()
        except HfsynthError as error:
            with self._changed:
                self._why = f"{_LATER}{error.message}"
                self._changed.notify_all()

    def _next(self) -> int | None:
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._why)
            return None if self._why else self._wanted.pop()


def _reader(corpus: Corpus) -> ShardReader:
    """Open a job's source; raise SourceError where it is not on this machine, or no longer what it was."""
    plan, settings = read_json(corpus.plan) or {}, JobSettings.find(corpus)
    told = plan["source"]
    location = (settings.location if settings else "") or str(told["location"])
    if "://" in location or locate(location) is None:
        raise HfsynthError(_ELSEWHERE)
    split = told["split"]
    named = Source(**{**told, "location": location, "split": tuple(split) if isinstance(split, list) else split})
    _, opened = open_source_splits(named)
    if isinstance(opened, SplitSource):
        opened.layout = SplitLayout.of(read_extent(corpus), plan["shard_rows"])
    shots = int((plan.get("synthesizer") or {}).get("shots") or 1)
    return ShardReader(opened.read, shots=shots, shard_rows=plan["shard_rows"], splitter=None)


def _number(shard: int, chain: int, shot: int) -> int:
    return UNDER_WAY + (shard * 2**20 + chain) * 2**10 + shot


def _named(number: int) -> tuple[int, int, int]:
    place, shot = divmod(number - UNDER_WAY, 2**10)
    return *divmod(place, 2**20), shot
