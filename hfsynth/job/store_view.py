"""What a process knows of a job in a store: who holds what, which shards are finished, who is alive.

One listing of the workers' objects and one of the records that are new is a look. What changes rarely is fetched when
it is asked for. Knows nothing of how a job is begun or ended.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from hfsynth.core.files import read_json, writing
from hfsynth.core.stores import Store
from hfsynth.corpus.folder import Corpus
from hfsynth.job import store_keys as keys
from hfsynth.job.journal import JournalPaths

AT_ONCE = 8
_LONGEST, _CALM = 15.0, 30.0
_DIGITS = 99_999  # shards beyond have longer names, which a listing puts elsewhere


class StoreView:
    """The view of one process, kept in the folder `corpus` as far as it is made of files."""

    def __init__(self, store: Store, corpus: Corpus) -> None:
        self.store = store
        self.corpus = corpus
        self.claims: dict[str, dict[int, str]] = {}
        self.beats: dict[str, str] = {}
        self.finished: set[int] = set()
        self.looked_into = 0
        self.own: set[str] = set()
        self._fetched: dict[str, str] = {}
        self._beat = 0
        self._before = 0  # all shards below are finished
        self._next, self._pause = 0.0, 1.0
        self._looked = -_CALM
        self._lock = threading.RLock()

    # --- looking -----------------------------------------------------------------------------------------------

    def look(self, *, now: bool = False, calmly: bool = False) -> None:
        """Look at all that others may have changed; where nothing happens here, less and less often."""
        with self._lock:
            early = time.monotonic() < (self._looked + _CALM if calmly else self._next)
            if early and not now:
                return
            self._looked = time.monotonic()
            self.look_at_workers()
            self._look_at_records()
            extent = JournalPaths(self.corpus.journal).extent
            if not (read_json(extent) or {}).get("exact"):
                self.fetch(extent)
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST)

    def look_soon(self) -> None:
        """Look more often again: something has happened here."""
        self._pause = 1.0

    def look_at_workers(self) -> None:
        """See who holds what, who is alive and who is known to have died."""
        claims: dict[str, dict[int, str]] = {}
        beats: dict[str, str] = {}
        with self._lock:
            for found in self.store.list(keys.WORKERS):
                if found.key.startswith(keys.CLAIMS):
                    name, generation = keys.claimed(found.key)
                    claims.setdefault(name, {})[generation] = found.version
                elif found.key.startswith(keys.BEATS):
                    beats[keys.stem(found.key)] = found.version
                elif found.key.startswith(keys.DEATHS):
                    self._fetch_changed(found.key, found.version, self._death_path(keys.stem(found.key)))
            self.claims, self.beats, self.looked_into = claims, beats, 0

    def _look_at_records(self) -> None:
        after = keys.record(self._before - 1) if 0 < self._before < _DIGITS else None
        for found in self.store.list(keys.RECORDS, after=after):
            self.finished.add(int(keys.stem(found.key)))
        while self._before in self.finished:
            self._before += 1

    # --- fetching ----------------------------------------------------------------------------------------------

    def fetch(self, *paths: Path) -> None:
        """Bring files here as they are in the store now."""
        for path in paths:
            try:
                self.place(path, self.store.get(keys.key_of(self.corpus, path)))
            except FileNotFoundError:
                path.unlink(missing_ok=True)

    def fetch_records(self) -> None:
        """Bring the records that are not here."""
        missing = [shard for shard in self.finished if not self.record_path(shard).exists()]
        if missing:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda shard: self.fetch(self.record_path(shard)), missing))

    def fetch_session(self, worker: str) -> None:
        """Bring what a worker last said of itself, where that is not what is known here."""
        version = self.beats.get(worker)
        if version is not None and worker not in self.own:  # of its own a process knows more
            self._fetch_changed(keys.beat(worker), version, self.session_path(worker))

    def fetch_sessions(self) -> None:
        """Bring what all workers last said of themselves."""
        for worker in list(self.beats):
            self.fetch_session(worker)

    def record_path(self, shard: int) -> Path:
        return self.corpus.parts / f"{shard:05d}.json"

    def session_path(self, worker: str) -> Path:
        return JournalPaths(self.corpus.journal).sessions / f"{worker}.json"

    def _death_path(self, worker: str) -> Path:
        return JournalPaths(self.corpus.journal).sessions / f"{worker}.death.json"

    def _fetch_changed(self, key: str, version: str, path: Path) -> None:
        if self._fetched.get(key) == version:
            return
        with suppress(FileNotFoundError):
            content = self.store.get(key)
            if key.startswith(keys.BEATS):
                content = json.dumps((json.loads(content) or {}).get("session")).encode()
            if content != b"null":  # of a holder that is no worker
                self.place(path, content)
            self._fetched[key] = version

    def place(self, path: Path, content: bytes) -> None:
        """Put a file in place, for other threads to see it whole."""
        temporary = path.with_name(f".{path.name}.{threading.get_ident()}.tmp")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, path)

    # --- telling -----------------------------------------------------------------------------------------------

    def beat(self, worker: str, session: dict[str, Any] | None = None) -> None:
        """Show that a holder is alive, and what it says of itself if it is a worker."""
        self._beat += 1
        told = session or read_json(self.session_path(worker))
        self.store.put(keys.beat(worker), json.dumps({"beat": self._beat, "session": told}).encode())

    def end_beat(self, worker: str) -> None:
        """Take the heart-beat of a holder away that is no worker, and leaves nothing to be read."""
        if self._beat and not self.session_path(worker).exists():
            self.store.delete([keys.beat(worker)])

    def keys_below(self, *folders: str) -> Iterator[str]:
        """Yield all keys in some folders."""
        for folder in folders:
            yield from (found.key for found in self.store.list(folder))
