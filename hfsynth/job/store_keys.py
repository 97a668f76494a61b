"""The names of a job's objects in a store. Knows nothing of what they hold.

job.json, settings.json, total.json, expected.json, manifest.json    as in a folder
workers/claims/SHARD.GENERATION.json      who works on what; created, never changed but to give up
workers/beats/WORKER.json                 what a worker says of itself; its version is its heart-beat
workers/deaths/WORKER.json                what is known of one that died
segments/WORKER/NUMBER.SHARD+SHARD.jsonl.gz    what a worker has noted of its unfinished shards
parts/SHARD.DIGEST.parquet, records/SHARD.json    the record is created: the first one counts
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hfsynth.corpus.folder import JOURNAL, Corpus
from hfsynth.job.journal import JournalPaths

WORKERS = f"{JOURNAL}/workers/"
CLAIMS = f"{WORKERS}claims/"
BEATS = f"{WORKERS}beats/"
DEATHS = f"{WORKERS}deaths/"
SEGMENTS = f"{JOURNAL}/segments/"
PARTS = f"{JOURNAL}/parts/"
RECORDS = f"{JOURNAL}/records/"
PROBE = f"{WORKERS}probe/"


def claim(name: str, generation: int) -> str:
    return f"{CLAIMS}{name}.{generation:06d}.json"


def claimed(key: str) -> tuple[str, int]:
    """Return the name and the generation of a claim."""
    name, _, generation = key.removeprefix(CLAIMS).removesuffix(".json").rpartition(".")
    return name, int(generation)


def beat(worker: str) -> str:
    return f"{BEATS}{worker}.json"


def death(worker: str) -> str:
    return f"{DEATHS}{worker}.json"


def record(shard: int) -> str:
    return f"{RECORDS}{shard:05d}.json"


def part(shard: int, sha256: str) -> str:
    return f"{PARTS}{shard:05d}.{sha256[:16]}.parquet"


def stem(key: str) -> str:
    """Return the last name of a key, without what is after its first dot: a worker or a shard."""
    return key.rpartition("/")[2].partition(".")[0]


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What a segment's name says: whose it is, the how many-th, and of which shards it holds notes."""

    worker: str
    number: int
    shards: tuple[int, ...]

    @classmethod
    def of(cls, key: str) -> SegmentName:
        worker, _, name = key.removeprefix(SEGMENTS).rpartition("/")
        number, shards = name.split(".")[:2]
        return cls(worker, int(number), tuple(map(int, shards.split("+"))))

    @property
    def key(self) -> str:
        return f"{SEGMENTS}{self.worker}/{self.file_name}.gz"

    @property
    def file_name(self) -> str:
        return f"{self.number:06d}.{'+'.join(f'{shard:05d}' for shard in self.shards)}.jsonl"


def key_of(corpus: Corpus, path: Path) -> str:
    """Return the key of a file that lies elsewhere in a process's view; records have a place of their own."""
    if path.parent == corpus.parts:
        return record(int(path.stem))
    return path.relative_to(corpus.root).as_posix()


def state(corpus: Corpus) -> Iterable[Path]:
    """Return the files that say what a job is and how it ended."""
    paths = JournalPaths(corpus.journal)
    own = (corpus.plan, corpus.manifest, paths.settings, paths.extent, paths.expectation)
    return (*own, corpus.stats, corpus.config)
