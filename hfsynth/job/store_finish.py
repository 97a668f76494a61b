"""Make the finished shards of a job in a store visible as a corpus: copied where they lie, the manifest last.

Knows nothing of engines, sources or who did the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from hfsynth.core.errors import OutputError
from hfsynth.core.files import read_json
from hfsynth.core.stores import Store
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.rewritten import write_rewritten
from hfsynth.documents.splits import SplitLayout
from hfsynth.job import store_keys as keys
from hfsynth.job.finish import complete_records, describe_corpus, described, file_record, published_names
from hfsynth.job.sessions import Sessions
from hfsynth.job.shards import ShardRecord, finished_shards, read_extent, read_record
from hfsynth.job.store_view import AT_ONCE, StoreView

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between looks for records that a listing does not show yet."""


class Place(Protocol):
    """What is needed of a job's site in a store."""

    url: str
    corpus: Corpus

    @property
    def store(self) -> Store: ...

    @property
    def view(self) -> StoreView: ...

    def sessions(self) -> Sessions: ...

    def fetch(self, *paths: Path) -> None: ...

    def fetch_records(self) -> None: ...

    def share(self, *paths: Path) -> None: ...

    def forget(self, *paths: Path) -> None: ...

    def sweep(self, *, finished: bool = False) -> None: ...


def publish(place: Place, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Publish the pairs of a job whose shards are all finished; return the statistics.

    Raise OutputError where a shard is missing, or a part is not what its record says: its record is dropped.
    """
    corpus, store = place.corpus, place.store
    _look_until_all_is_seen(place)
    place.fetch_records()
    records, extent = complete_records(corpus, place.url)
    lost = lost_parts(place.view)
    if lost:
        place.forget(*(place.view.record_path(shard) for shard in lost))
        raise OutputError(
            f"The parts of {len(lost)} shards of {place.url} are missing.",
            hint="Give the same command again: they are done again.",
        )
    names = published_names(sorted(records), SplitLayout.of(extent, identity["shard_rows"]))
    _at_once(lambda shard: store.copy(_part(shard, records), f"pairs/{names[shard]}"), names)
    place.sessions().settle()
    place.sessions().all()
    place.fetch(corpus.former, corpus.stats, corpus.config, corpus.readme)
    named = (entry.key for entry in store.list("data/"))
    for name in (*named, *(f"pairs/{name}" for name in names.values())):  # the README says which configs there are
        _touch(corpus.root / name)
    files = {f"pairs/{names[shard]}": file_record(record) for shard, record in records.items()}
    rewritten = _rewritten(store, corpus, texts=sum(record.counts.rewritten for record in records.values()))
    stats, config = described(corpus, records, extent, identity)
    stats = describe_corpus(corpus, stats, config, {**rewritten, **files})
    place.share(corpus.stats, corpus.config, corpus.readme)
    store.create(keys.key_of(corpus, corpus.manifest), corpus.manifest.read_bytes())
    place.sweep(finished=True)
    return stats


def _look_until_all_is_seen(place: Place) -> None:
    """Look at the records, again for a while where some are missing: a listing may be older than what it lists."""
    for pause in (*_PAUSES, 0.0):
        place.view.look(now=True)
        if len(place.view.finished) >= (read_extent(place.corpus) or {"shards": 0})["shards"]:
            return
        time.sleep(pause)


def lost_parts(view: StoreView) -> list[int]:
    """Return the finished shards of an unfinished job whose parts are not there, each of which is asked for by name."""
    listed = {int(keys.stem(entry.key)) for entry in view.store.list(keys.PARTS)}
    unlisted = sorted(view.finished - listed)
    view.fetch(*(view.record_path(shard) for shard in unlisted))
    return [shard for shard in unlisted if not _has_part(view, view.record_path(shard))]


def _has_part(view: StoreView, path: Path) -> bool:
    key = keys.part(int(path.stem), read_record(path).sha256) if path.exists() else None
    return key is not None and view.store.version(key) is not None


def reopen(place: Place) -> None:
    """Make a job unfinished that has lost something: only what was lost is done again."""
    place.fetch_records()
    store, records = place.store, finished_shards(place.corpus.parts)
    plan = read_json(place.corpus.plan) or {}
    layout = SplitLayout.of(read_extent(place.corpus), plan.get("shard_rows", 1))
    names = published_names(sorted(records), layout)
    published = {entry.key: entry.size for entry in store.list("pairs/")}
    lost = lost_parts(place.view)
    whole = [shard for shard in lost if published.get(f"pairs/{names.get(shard)}") == records[shard].size]
    if place.corpus.manifest.exists():
        store.copy(*(keys.key_of(place.corpus, path) for path in (place.corpus.manifest, place.corpus.former)))
        place.forget(place.corpus.manifest)
    _at_once(lambda shard: store.copy(f"pairs/{names[shard]}", _part(shard, records)), whole)
    place.forget(*(place.view.record_path(shard) for shard in lost if shard not in whole))


def _part(shard: int, records: Mapping[int, ShardRecord]) -> str:
    return keys.part(shard, records[shard].sha256)


def _rewritten(store: Store, corpus: Corpus, *, texts: int) -> dict[str, dict[str, Any]]:
    """Make the texts that the model wrote a config of their own, read from the pairs where they lie."""
    if not texts:
        return {}

    def pairs(path: Path) -> BinaryIO:
        return store.open(f"pairs/{path.name}")

    files = write_rewritten(corpus, opened=pairs)
    for name in files:
        store.put(name, corpus.root / name)
    return files


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _at_once(do: Callable[[int], None], shards: Iterable[int]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(do, shards))
