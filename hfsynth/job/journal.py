"""What workers have done, chain by chain, so that a kill loses no more than what was in flight.

Each worker appends to one file a shard, `segments/SHARD/WORKER.jsonl`: a line when a chain is handed to the engine and
one, with the results, when it has ended. A line is written at once and synced a little later: a killed process loses
nothing, a power failure about a second. Each line ends with its checksum; one that is damaged is passed over, and its
chain done again. What a chain was doing when its engine died is kept too, so that a document that kills engines is
found. Knows nothing of sources, engines or leases.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from hfsynth.core.files import writing
from hfsynth.core.records import Pair, Reason, Rejected, Status, Synthesis, Synthesized
from hfsynth.core.verdicts import Scored

ALONE_AFTER = 2
"""Deaths of an engine with a chain in flight after which the chain is a suspect, run apart from all that are none."""

ONE_BY_ONE = 8
"""So few suspects are run one by one. More are run in two halves, and the half with which the engine dies again in two:
that takes another load of the engine each time, and so many documents at once instead of one."""

CERTAIN, POSSIBLE = 3, 1
"""How sure it is that a death was the engine's own; a document is given up when its deaths alone add up to CERTAIN.

A process that is killed from outside, by a person or when its machine is taken away, looks like one that was killed for
its use of memory. So a possible death says nothing of chains that were in company.
"""

_LOG = logging.getLogger(__name__)
_LATER = (
    "exemplars",
    "exemplars_left_out",
    "prompt",
    "rewritten",
    "identifiers",
)  # journals of earlier versions do not have them
_FIELDS = tuple(own.name for own in fields(Synthesis) if own.name != "rejected")


@dataclass(frozen=True, slots=True)
class Death:
    """How an engine, or a worker with it, died: `certainty` is 0 where something else is known to have killed it."""

    why: str
    certainty: int = CERTAIN


@dataclass(frozen=True, slots=True)
class Strikes:
    """The deaths of engines that had a chain in flight: `company` counts those with others beside it.

    `among` is the fewest chains that were in flight at one of them, this one included (0: not known). `alone` holds,
    by shot, how sure it is that this shot kills engines, and what the death looked like.
    """

    company: int = 0
    alone: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    among: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether the chain must be run with no more than `group` suspects, this one included."""
        return self.company >= ALONE_AFTER

    @property
    def group(self) -> int:
        """How many suspects may be run together, this one included."""
        return 1 if self.among <= ONE_BY_ONE else -(-self.among // 2)

    @property
    def poison(self) -> dict[int, str]:
        """The shots that are not to be run any more, and why."""
        return {shot: why for shot, (score, why) in self.alone.items() if score >= CERTAIN}

    def struck(self, death: Death, shot: int | None, *, among: int) -> Strikes:
        """Return these strikes and one more, of a death with `among` chains in flight (0: not known).

        `shot` is the one under way where the chain ran alone.
        """
        if not death.certainty:
            return self
        if shot is None:
            company = self.company + (1 if death.certainty >= CERTAIN else ALONE_AFTER)
            return replace(self, company=company, among=min(self.among or among, among))
        score = self.alone.get(shot, (0, ""))[0] + death.certainty
        return replace(self, alone={**self.alone, shot: (score, death.why)})


NO_STRIKES = Strikes()


@dataclass(frozen=True, slots=True)
class JournalPaths:
    """Where a job's own files lie in its folder `.hfsynth`."""

    folder: Path

    @property
    def segments(self) -> Path:
        """What has been done of unfinished shards."""
        return self.folder / "segments"

    @property
    def leases(self) -> Path:
        """Who works on what."""
        return self.folder / "leases"

    @property
    def sessions(self) -> Path:
        """What each worker has done and cost."""
        return self.folder / "sessions"

    @property
    def logs(self) -> Path:
        """What happened to each worker, a line an event."""
        return self.folder / "log"

    @property
    def settings(self) -> Path:
        """How the job is worked at."""
        return self.folder / "settings.json"

    @property
    def extent(self) -> Path:
        """How long the source is, once that is known."""
        return self.folder / "total.json"

    @property
    def expectation(self) -> Path:
        """How long the source says it is, where that is all there is to go by."""
        return self.folder / "expected.json"


@dataclass(frozen=True, slots=True)
class ShardJournal:
    """What is known of an unfinished shard: results of chains by number, and strikes against others."""

    results: dict[int, list[Synthesized]] = field(default_factory=dict)
    strikes: dict[int, Strikes] = field(default_factory=dict)


class Notes(ABC):
    """Note what one worker does. One thread notes; any may `sync` and `drop`."""

    def started(self, shard: int, number: int, *, shot: int | None = None) -> None:
        """Note that a chain is handed to the engine: alone, where its shot is given, with others elsewhere."""
        self._append(shard, {"start": number} if shot is None else {"start": number, "shot": shot})

    def finished(self, shard: int, number: int, results: Sequence[Synthesized]) -> None:
        """Note that a chain has ended."""
        self._append(shard, {"end": number, "results": [_plain(result) for result in results]})

    def died(self, chains: Iterable[tuple[int, int]], why: str) -> None:
        """Note that the engine died with these chains (shard, number) in flight, and that this worker goes on."""
        victims = list(chains)
        for shard, number in victims:
            self._append(shard, {"died": number, "why": why, "of": len(victims)})

    def hasten(self) -> None:  # noqa: B027 - where notes last at once there is nothing to hasten
        """Have notes last sooner for a while: a shard is taken over from a worker that died."""

    @abstractmethod
    def sync(self) -> None:
        """Make what has been noted outlast this machine's death, as far as that is cheap: called every second."""

    @abstractmethod
    def drop(self, shard: int) -> None:
        """Remove everything about a shard that is finished."""

    @abstractmethod
    def close(self) -> None:
        """Make all of it last."""

    @abstractmethod
    def _append(self, shard: int, values: Mapping[str, Any]) -> None:
        """Write a line."""


class Segments(Notes):
    """Append what one worker does to files of a folder."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._name = f"{worker}.jsonl"
        self._files: dict[int, int] = {}
        self._unsynced: set[int] = set()
        self._dropped: list[int] = []
        self._lock = threading.Lock()
        self._syncing = threading.Lock()

    def sync(self) -> None:
        """Make what has been written outlast a power failure; close the files of shards that were dropped."""
        with self._syncing:
            with self._lock:
                unsynced, self._unsynced = self._unsynced, set()
                dropped, self._dropped = self._dropped, []
            for descriptor in unsynced - set(dropped):
                with writing(self._folder):
                    os.fsync(descriptor)
            for descriptor in dropped:
                os.close(descriptor)

    def drop(self, shard: int) -> None:
        """Remove everything about a shard that is finished."""
        self._let_go(shard)
        shutil.rmtree(self._folder / f"{shard:05d}", ignore_errors=True)

    def close(self) -> None:
        """Sync and close every file."""
        for shard in list(self._files):
            self._let_go(shard)
        self.sync()

    def _let_go(self, shard: int) -> None:
        with self._lock:
            if (descriptor := self._files.pop(shard, None)) is not None:
                self._dropped.append(descriptor)

    def _append(self, shard: int, values: Mapping[str, Any]) -> None:
        line = line_of(values)
        with writing(self._folder / f"{shard:05d}" / self._name):
            descriptor = self._file(shard)
            while line:
                line = line[os.write(descriptor, line) :]
        with self._lock:
            self._unsynced.add(descriptor)

    def _file(self, shard: int) -> int:
        if shard not in self._files:
            folder = self._folder / f"{shard:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            with self._lock:
                self._files[shard] = descriptor
        return self._files[shard]


def line_of(values: Mapping[str, Any]) -> bytes:
    """Return a note as a line, with its checksum at the end."""
    note = json.dumps(values, separators=(",", ":")).encode("ascii")
    return b"%s %08x\n" % (note, crc32(note))


def read_journal(folder: Path, shard: int, how_ended: Callable[[str], Death | None]) -> ShardJournal:
    """Read what all workers have noted of a shard; None from `how_ended` says that a worker did not die.

    A damaged line is passed over and logged; a last line that is not whole is what a kill leaves.
    """
    journal = ShardJournal()
    for path in sorted((folder / f"{shard:05d}").glob("*.jsonl")):
        in_flight = _replay(path, journal)
        death = how_ended(path.stem) if in_flight else None
        if death is None:
            continue
        among = chains_in_flight(folder, path.stem)
        if death.certainty >= CERTAIN or among == 1:
            _strike(journal, in_flight, death, among)
    return journal


def chains_in_flight(folder: Path, worker: str) -> int:
    """Return how many chains a worker that has ended had in flight, in all shards that are unfinished."""
    return sum(len(_replay(path, ShardJournal())) for path in folder.glob(f"*/{worker}.jsonl"))


def has_ended_any(folder: Path, worker: str, statuses: Iterable[Status]) -> bool:
    """Return whether a worker has noted a document with one of `statuses`, in a shard that is still unfinished."""
    lines = (line for path in folder.glob(f"*/{worker}.jsonl") for _, line in _lines(path))
    sought = [f'"status":"{status}"'.encode("ascii") for status in statuses]
    return any(one in line for line in lines for one in sought)


def _replay(path: Path, journal: ShardJournal) -> dict[int, int | None]:
    """Take one file's lines into `journal`; return the chains in flight at its end, and the shot of one run alone."""
    in_flight: dict[int, int | None] = {}
    for number, line in _lines(path):
        try:
            _take(_note(line), journal, in_flight)
        except (ValueError, KeyError, TypeError, AttributeError):
            _LOG.warning("%s is damaged in line %d: what it noted is done again.", path, number)
    return in_flight


def _take(values: Mapping[str, Any], journal: ShardJournal, in_flight: dict[int, int | None]) -> None:
    """Take one note into `journal` and `in_flight`, whole or not at all."""
    if "end" in values:
        results = [_synthesized(row) for row in values["results"]]
        in_flight.pop(int(values["end"]), None)
        journal.results.setdefault(int(values["end"]), results)
    elif "start" in values:
        in_flight[int(values["start"])] = values.get("shot")
    else:
        number, death = int(values["died"]), Death(values["why"])
        _strike(journal, {number: in_flight.pop(number, None)}, death, int(values.get("of", 0)))


def _strike(journal: ShardJournal, chains: Mapping[int, int | None], death: Death, among: int) -> None:
    for number, shot in chains.items():
        journal.strikes[number] = journal.strikes.get(number, NO_STRIKES).struck(death, shot, among=among)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines of a file with their numbers."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield number, line[:-1]


def _note(line: bytes) -> dict[str, Any]:
    """Return what a line notes; raise ValueError where it is not what was written.

    Lines without a checksum are those of versions before there was one.
    """
    if not line.endswith(b"}"):
        line, _, checksum = line.rpartition(b" ")
        if checksum != b"%08x" % crc32(line):
            raise ValueError("the checksum is another")
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("it is no note of a chain")
    return values


def _plain(result: Synthesized) -> dict[str, Any]:
    """Return a result as JSON values; `_synthesized` reads them back."""
    synthesis = result.synthesis
    return {
        **{name: getattr(synthesis, name) for name in _FIELDS},
        "rejected": [(rejected.reason, rejected.text) for rejected in synthesis.rejected],
        "pairs": [(pair.instruction, pair.response) for pair in result.pairs],
        **({} if result.scored is None else {"scored": result.scored.to_list()}),
    }


def _synthesized(values: Mapping[str, Any]) -> Synthesized:
    own = {name: values[name] for name in _FIELDS if name in values or name not in _LATER}
    own |= {name: tuple(own.get(name, ())) for name in ("exemplars", "identifiers")}
    rejected = tuple(Rejected(Reason(reason), text) for reason, text in values["rejected"])
    synthesis = Synthesis(**{**own, "status": Status(own["status"])}, rejected=rejected)
    scored = Scored.from_list(values["scored"]) if "scored" in values else None
    return Synthesized(tuple(Pair(*pair) for pair in values["pairs"]), synthesis, scored)
