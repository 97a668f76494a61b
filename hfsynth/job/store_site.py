"""A job in an object store: what one worker writes, others see once it is sent. See docs/stores.md for what that costs.

The process has a view of the store in a folder of its own, laid out as a job's folder is, so that whoever reads a job
reads it as ever. What is written is sent from here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Self

from hfsynth.core.errors import HfsynthError, OutputError
from hfsynth.core.files import read_json
from hfsynth.core.stores import Store
from hfsynth.corpus.folder import JOURNAL, Corpus
from hfsynth.corpus.manifest import Damage, recorded
from hfsynth.job import store_keys as keys
from hfsynth.job.journal import POSSIBLE, Death, JournalPaths
from hfsynth.job.leases import Leases
from hfsynth.job.scratch import Scratch
from hfsynth.job.sessions import Session, Sessions
from hfsynth.job.shards import ShardRecord, record_values, write_record
from hfsynth.job.store_journal import StoreSegments, by_worker, fetch_segments, send_rest
from hfsynth.job.store_leases import StoreLeases
from hfsynth.job.store_view import StoreView

_LOG = logging.getLogger(__name__)
_WORKER = "worker"  # a file in the view that names the worker whose process it is
_AT_A_TIME = 2**20


class StoreSite:
    """A store, and a view of it on this machine."""

    fresh = 60.0

    def __init__(self, store: Store) -> None:
        self.url = store.url
        self._store = store
        self._scratch = Scratch(store.url)
        self.corpus = Corpus(self._scratch.root)
        self.corpus.journal.mkdir()
        self._view = StoreView(store, self.corpus)
        self._segments: dict[str, tuple[int, ...]] = {}
        self._one_wins: bool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.remove()
        if isinstance(error, HfsynthError):
            told = self.told(error)
            error.message, error.hint, error.args = told.message, told.hint, told.args

    # --- what others do ----------------------------------------------------------------------------------------

    def look(self, *, now: bool = False, calmly: bool = False) -> None:
        self._view.look(now=now, calmly=calmly)

    def finished(self) -> Collection[int]:
        return frozenset(self._view.finished)

    def is_finished(self, shard: int) -> bool:
        return shard in self._view.finished or self._store.version(keys.record(shard)) is not None

    def fetch(self, *paths: Path) -> None:
        self._view.fetch(*paths)

    def fetch_state(self) -> None:
        self._view.fetch(*keys.state(self.corpus))

    def fetch_records(self) -> None:
        self._view.fetch_records()

    def fetch_journal(self, shard: int) -> bool:
        found = by_worker([entry.key for entry in self._store.list(keys.SEGMENTS)])
        others = [names for names in found.values() if any(shard in name.shards for name in names)]
        for names in others:
            self._take_notes(names)
        return bool(others)

    def fetch_notes(self, worker: str) -> None:
        self._send_what_is_left(died=False)
        names = by_worker([entry.key for entry in self._store.list(f"{keys.SEGMENTS}{worker}/")]).get(worker)
        if names:
            self._take_notes(names)

    def _take_notes(self, names: Collection[keys.SegmentName]) -> None:
        self._segments.update({name.key: name.shards for name in names})
        fetch_segments(self._store, names, JournalPaths(self.corpus.journal).segments, self._view.finished)

    # --- what is done here -------------------------------------------------------------------------------------

    def share(self, *paths: Path) -> None:
        for path in paths:
            with suppress(FileNotFoundError):  # there is none, or no more
                self._store.put(keys.key_of(self.corpus, path), path.read_bytes())

    def forget(self, *paths: Path) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            if path.parent == self.corpus.parts:
                self._view.finished.discard(int(path.stem))
        self._store.delete([keys.key_of(self.corpus, path) for path in paths])

    def commit(self, part: Path, record: ShardRecord) -> None:
        shard = int(part.stem)
        self._store.put(keys.part(shard, record.sha256), part)
        if self._store.create(keys.record(shard), json.dumps(record_values(record)).encode()):
            write_record(self._view.record_path(shard), record)
        else:
            _LOG.info("shard %d was finished by another worker", shard)
        self._view.finished.add(shard)
        part.unlink()
        shutil.rmtree(JournalPaths(self.corpus.journal).segments / f"{shard:05d}", ignore_errors=True)
        done = [key for key, shards in self._segments.items() if self._view.finished.issuperset(shards)]
        for key in done:
            del self._segments[key]
        self._store.delete(done)
        self._view.look_soon()

    def lease_files(self, worker: str, stale_after: float) -> StoreLeases:
        return StoreLeases(self._view, worker, stale_after)

    def sessions(self) -> StoreSessions:
        return StoreSessions(self._view, self._scratch)

    def notes(self, worker: str) -> StoreSegments:
        self._view.own.add(worker)
        (self.corpus.root / _WORKER).write_text(worker, "utf-8")
        return StoreSegments(self._store, self.corpus.root, worker)

    # --- the beginning and the end -----------------------------------------------------------------------------

    def require_own(self) -> None:
        job = next(self._store.list(f"{JOURNAL}/"), None)
        if job is None and next(self._store.list(), None) is not None:
            raise OutputError(
                f"{self.url} is not empty and holds no job of hfsynth.", hint="Give another path in the bucket."
            )
        self._send_what_is_left(died=True)

    def require_several(self) -> None:
        if self._one_wins is None:
            key = f"{keys.PROBE}{token_hex(8)}"
            self._one_wins = self._store.create(key, b"one") and not self._store.create(key, b"two")
            self._store.delete([key])
        if not self._one_wins:
            raise OutputError(
                f"{self.url} lets two writers create the same object, so workers would do each other's work.",
                hint="Use one worker (--workers 1), or a store that honours If-None-Match.",
            )

    def is_whole(self) -> bool:
        lost = [found for found in self.damages(digests=False) if not found.path.startswith("data/")]
        for damage in lost:
            _LOG.warning("%s in %s: it is made again.", damage, self.url)
        return not lost and read_json(self.corpus.stats) is not None and read_json(self.corpus.config) is not None

    def mend(self, leases: Leases) -> None:
        from hfsynth.job.store_finish import lost_parts, reopen

        self._view.look(now=True)
        if self.corpus.manifest.exists() or lost_parts(self._view):
            with leases.waiting_for("publish"):
                self.fetch_state()
                if not self.corpus.manifest.exists() or not self.is_whole():
                    reopen(self)

    def publish(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        from hfsynth.job.store_finish import publish  # loads what writes corpora

        return publish(self, identity)

    def sweep(self, *, finished: bool = False) -> None:
        if finished:
            self._store.delete(self._view.keys_below(keys.SEGMENTS, keys.PARTS, keys.CLAIMS, keys.PROBE))
            self._store.delete([keys.key_of(self.corpus, self.corpus.former)])

    def _send_what_is_left(self, *, died: bool) -> None:
        """Send what killed processes of this machine had no time to; `died` notes that their workers are dead."""
        for left in self._scratch.adopted():
            done = {int(path.stem) for path in Corpus(left).parts.glob("[0-9]*.json")}
            workers = send_rest(self._store, left, done | self._view.finished)
            for worker in workers if died else ():
                death = Death("its process was killed", POSSIBLE)
                if not _has_ended(left, worker):
                    self._store.create(keys.death(worker), json.dumps(asdict(death)).encode())
            for log in JournalPaths(Corpus(left).journal).logs.glob("*.log"):
                self._store.put(keys.key_of(Corpus(left), log), log)

    # --- for those who look ------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """Where it is."""
        return self._store

    @property
    def view(self) -> StoreView:
        """What is known of it here."""
        return self._view

    def files(self, *folders: str) -> dict[str, int]:
        found = (entry for folder in sorted(folders) for entry in self._store.list(f"{folder}/"))
        return {entry.key: entry.size for entry in found if entry.key.endswith(".parquet")}

    def damages(self, *, digests: bool) -> Iterator[Damage]:
        there = self.files("pairs", "rewritten", "data")
        for path, record in recorded(self.corpus).items():
            if path not in there:
                yield Damage(path, "is missing")
            elif there[path] != record["size"]:
                yield Damage(path, f"has {there[path]:,} bytes instead of {record['size']:,}")
            elif digests and self._digest(path)[0] != record["sha256"]:
                yield Damage(path, "is damaged")

    def part_described(self, shard: int, record: ShardRecord) -> tuple[str, int] | None:
        with suppress(FileNotFoundError):
            return self._digest(keys.part(shard, record.sha256))
        return None

    def _digest(self, key: str) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with self._store.open(key) as file:
            while piece := file.read(_AT_A_TIME):
                digest.update(piece)
                size += len(piece)
        return digest.hexdigest(), size

    def told(self, error: HfsynthError) -> HfsynthError:
        here = str(self.corpus.root)
        return type(error)(error.message.replace(here, self.url), hint=error.hint.replace(here, self.url))


class StoreSessions(Sessions):
    """What workers say of themselves, in the view of this process; those of this machine are seen at once."""

    def __init__(self, view: StoreView, scratch: Scratch) -> None:
        super().__init__(JournalPaths(view.corpus.journal).sessions)
        self._view = view
        self._scratch = scratch

    def write(self, session: Session) -> None:
        super().write(session)
        if session.ended is not None:
            self._view.own.add(session.worker)
            self._view.beat(session.worker)

    def read(self, worker: str) -> Session | None:
        self._view.fetch_session(worker)
        return super().read(worker)

    def all(self) -> list[Session]:
        self._view.fetch_sessions()
        self._look_around()
        return super().all()

    def settle(self, patience: float = 15.0) -> None:
        super().settle(patience)

    def _wait(self) -> None:
        self._view.look(now=True)
        super()._wait()

    def note_death(self, worker: str, death: Death) -> None:
        super().note_death(worker, death)
        self._view.store.put(keys.death(worker), json.dumps(asdict(death)).encode())

    def _look_around(self) -> None:
        """Take over what workers of this machine say in their own views: it is newer than what they have sent."""
        for other in self._scratch.others():
            with suppress(OSError):
                worker = (other / _WORKER).read_text("utf-8")
                said = JournalPaths(Corpus(other).journal).sessions / f"{worker}.json"
                self._view.place(self._view.session_path(worker), said.read_bytes())


def _has_ended(folder: Path, worker: str) -> bool:
    """Return whether a worker said that it has ended, before its process was killed."""
    session = Sessions(JournalPaths(Corpus(folder).journal).sessions).read(worker)
    return session is not None and session.ended is not None
