"""Put a verified corpus in the place of the one it was made of, and say what was judged.

Knows nothing of engines or judges.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hfsynth.core.conditions import JUDGED
from hfsynth.core.errors import OutputError
from hfsynth.core.files import file_digest, read_json
from hfsynth.core.records import Counts
from hfsynth.core.verdicts import told_counts
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.splits import SplitLayout
from hfsynth.job.finish import file_record, published_names, reopened
from hfsynth.job.journal import JournalPaths
from hfsynth.job.republish import NewPairs, republish
from hfsynth.job.sessions import Sessions
from hfsynth.job.shards import ShardRecord, finished_shards, part_path, read_extent
from hfsynth.synthesis.judging import never_answers


def publish_verified(
    corpus: Corpus, inner: Corpus, identity: Mapping[str, Any], *, pairs_of: Callable[[Corpus], str]
) -> None:
    """Replace the folder by one with the judged rows; raise OutputError where a part is missing or damaged.

    `inner` is the job that judged, `identity` what it was asked, `pairs_of` names the pairs of a folder. Raise
    ModelError, and forget the job, where the judge answered nothing.
    """
    records = finished_shards(inner.parts)
    extent = read_extent(inner)
    if extent is None or len(records) != extent["shards"]:
        raise OutputError(f"{inner.root} has shards that are not finished.", hint="Give the same command again.")
    counts = sum((record.counts for record in records.values()), Counts())
    if counts.verdicts["pairs"] and not counts.verdicts["judged"]:
        shutil.rmtree(inner.root, ignore_errors=True)
        raise never_answers(counts.verdicts["pairs"])
    for shard, record in records.items():
        _require_part(part_path(inner.parts, shard), record)
    names = published_names(sorted(records), SplitLayout.of(extent, identity["shard_rows"]))
    told = _told(inner, identity, counts, read_json(corpus.stats) or {})
    changed = bool(told["rejected"])
    if changed and corpus.data.exists():
        told["texts_removed"] = True
    republish(
        corpus,
        NewPairs(
            {name: part_path(inner.parts, shard) for shard, name in names.items()},
            {name: file_record(records[shard]) for shard, name in names.items()},
            counts,
            changed,
        ),
        without=inner.root,
        stats=lambda new: {"verify": {**told, "result": pairs_of(new)}},
        recipe={"verify": {name: told[name] for name in ("judge", "rubric", "keep", "sample", "seed")}},
    )


def _told(inner: Corpus, identity: Mapping[str, Any], counts: Counts, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the statistics say of the verification."""
    sessions = Sessions(JournalPaths(inner.journal).sessions).all()
    rejected = Counter(counts.rejected) - Counter(before.get("rejected") or _rejected_before(counts, before))
    asked = {name: identity[name] for name in ("judge", "rubric", "keep", "sample", "seed", "calibration")}
    return {
        **asked,
        **told_counts(counts.verdicts, JUDGED),
        "kept": counts.pairs,
        "rejected": dict(sorted(rejected.items())),
        "engine_seconds": round(sum(session.engine_seconds for session in sessions), 3),
    }


def _rejected_before(counts: Counts, before: Mapping[str, Any]) -> dict[str, int]:
    """Return the rejections of a folder without statistics: all that no condition of this verification made."""
    return {} if before else {name: number for name, number in counts.rejected.items() if "filtered" not in name}


def _require_part(part: Path, record: ShardRecord) -> None:
    if not part.exists():
        raise reopened(part, part, "is missing")
    if file_digest(part) != (record.sha256, record.size):
        raise reopened(part, part, "is damaged: it is not what was written")
