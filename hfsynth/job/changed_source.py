"""Go on with a job whose source has changed: keep the finished shards whose rows are the same, do the others again.

What is to be done is written down first, and every step can be taken twice, so a kill in between loses nothing: the
next call takes the steps that are left. Knows nothing of engines or of who does the shards.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hfsynth.core.errors import OutputError
from hfsynth.core.files import read_json, sync_folder, write_json, writing
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.readers import BadRow, Row
from hfsynth.job.feeding import RowsDigest
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leases import Leases
from hfsynth.job.shards import ShardRecord, finished_shards, part_path, record_paths

Read = Callable[[int, int], Iterator[Row | BadRow]]


def read_changes(corpus: Corpus) -> list[dict[str, Any]]:
    """Return each change of the source that the job went on after: revisions and numbers of shards."""
    found: dict[str, Any] | None = read_json(_changes(corpus))
    return [] if found is None else list(found["changes"])


def begin(corpus: Corpus, identity: Mapping[str, Any], read: Read, schema: pa.Schema, leases: Leases) -> None:
    """Write down that the job goes on with the source as `identity` has it, and which shards are done again.

    `read` gives its rows. Raise OutputError where somebody is at work on the shards.
    """
    records, plan = finished_shards(corpus.parts), read_json(corpus.plan)
    length = identity["shard_rows"]
    again = [
        shard
        for shard, record in records.items()
        if not _is_same(record, _rows_path(corpus, shard), schema, read(shard * length, (shard + 1) * length))
    ]
    change = {
        "from": plan["source"]["revision"],
        "to": identity["source"]["revision"],
        "shards_kept": len(records) - len(again),
        "shards_done_again": len(again),
    }
    _require_nobody_at_work(corpus, leases)
    write_json(_marker(corpus), {"identity": identity, "again": again, "changes": [*read_changes(corpus), change]})


def complete(corpus: Corpus) -> None:
    """Take the steps that `begin` wrote down; do nothing where there are none."""
    marked = read_json(_marker(corpus))
    if marked is None:
        return
    paths = JournalPaths(corpus.journal)
    with writing(corpus.journal):
        for path in (corpus.manifest, corpus.former, corpus.stats, corpus.config):
            path.unlink(missing_ok=True)
        _take_pairs_back(corpus)
        for shard in marked["again"]:
            part = part_path(corpus.parts, shard)
            part.with_suffix(".json").unlink(missing_ok=True)
            part.unlink(missing_ok=True)
        for folder in (corpus.data, paths.segments, corpus.journal / "pairs"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (paths.extent, paths.expectation):
            path.unlink(missing_ok=True)
    write_json(_changes(corpus), {"changes": marked["changes"]})
    write_json(corpus.plan, marked["identity"])
    _marker(corpus).unlink()


def _is_same(record: ShardRecord, part: Path, schema: pa.Schema, found: Iterator[Row | BadRow]) -> bool:
    """Return whether a finished shard would come out the same from the source's rows as they are now."""
    digest, rows = RowsDigest(), 0
    for row in found:
        digest.add(row)
        rows += 1
    with suppress(OSError, pa.ArrowException):
        same_columns = pq.read_schema(part).equals(schema)
        return same_columns and rows == record.source_rows and digest.hexdigest() == record.source_digest
    return False


def _rows_path(corpus: Corpus, shard: int) -> Path:
    """Return where a shard's rows lie: among the pairs of a finished corpus, or in the journal."""
    published = next(corpus.pairs.glob(f"train-{shard:05d}-of-*.parquet"), None)
    return part_path(corpus.parts, shard) if published is None else published


def _take_pairs_back(corpus: Corpus) -> None:
    """Move a finished corpus' pairs to where the parts of an unfinished one lie."""
    if corpus.pairs.exists():
        for shard in record_paths(corpus.parts):
            if (path := _rows_path(corpus, shard)).exists():
                path.replace(part_path(corpus.parts, shard))
        sync_folder(corpus.parts)
        shutil.rmtree(corpus.pairs)


def _require_nobody_at_work(corpus: Corpus, leases: Leases) -> None:
    folder = JournalPaths(corpus.journal).leases
    names = {path.name.partition(".")[0] for path in folder.glob("[0-9]*.json")}
    busy = [name for name in sorted(names) if not leases.claim(name)]
    for name in names - {*busy}:
        leases.remove(name)
    if busy:
        raise OutputError(
            f"Another call is at work on shard {int(busy[0])} of {corpus.root}, with the source as it was.",
            hint="End it, or wait a minute if its machine is gone, and give the same command again.",
        )


def _marker(corpus: Corpus) -> Path:
    return corpus.journal / "reopening.json"


def _changes(corpus: Corpus) -> Path:
    return corpus.journal / "changes.json"
