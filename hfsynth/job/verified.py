"""Put a verified corpus in the place of the one it was made of: every file new or linked, and one rename.

Whoever looks sees the old corpus or the new one, whatever is killed. Knows nothing of engines or judges.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hfsynth.core.conditions import JUDGED
from hfsynth.core.errors import OutputError
from hfsynth.core.files import file_digest, read_json, write_json, writing
from hfsynth.core.records import Counts
from hfsynth.core.verdicts import told_counts
from hfsynth.corpus.exchange import replaced_folder
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.readme import describe_configs
from hfsynth.documents.splits import SplitLayout
from hfsynth.job.finish import counted, file_record, published_names, reopened
from hfsynth.job.journal import JournalPaths
from hfsynth.job.sessions import Sessions
from hfsynth.job.shards import ShardRecord, finished_shards, part_path, read_extent
from hfsynth.synthesis.judging import never_answers
from hfsynth.version import __version__

_OF_PAIRS = ("render", "mix", "evaluation")
"""What a corpus's statistics say of things that were made of its pairs."""


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
    before: dict[str, Any] = read_json(corpus.stats) or {}
    told = _told(inner, identity, counts, before)
    with writing(corpus.root), replaced_folder(corpus.root) as staged:
        new = Corpus(staged)
        changed = bool(told["rejected"])
        _link_others(corpus.root, staged, without={corpus.pairs, inner.root, *([corpus.data] if changed else [])})
        new.pairs.mkdir()
        for shard, name in names.items():
            _link(part_path(inner.parts, shard), new.pairs / name)
        _describe(new, before, counts, told, {f"pairs/{names[one]}": file_record(records[one]) for one in names})
        if changed and corpus.data.exists():
            told["texts_removed"] = True
        told["result"] = pairs_of(new)
        write_json(new.stats, {**(read_json(new.stats) or {}), "verify": told})


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


def _describe(
    new: Corpus, before: Mapping[str, Any], counts: Counts, told: Mapping[str, Any], files: Mapping[str, Any]
) -> None:
    """Write what the new folder says of itself, its manifest too."""
    pairs_changed = bool(told["rejected"])
    kept = {name: value for name, value in before.items() if not (pairs_changed and name in _OF_PAIRS)}
    sums = counted(counts, before.get("source_rows"))
    sums.pop("verdicts", None)
    write_json(new.stats, {**kept, **sums})
    config: dict[str, Any] = read_json(new.config) or {}
    steps = {name: told[name] for name in ("judge", "rubric", "keep", "sample", "seed")}
    dropped = _OF_PAIRS if pairs_changed else ()
    write_json(new.config, {**{n: v for n, v in config.items() if n not in dropped}, "verify": steps})
    describe_configs(new)
    manifest: dict[str, Any] = read_json(new.manifest) or {"files": {}}
    others = {
        path: record
        for path, record in manifest["files"].items()
        if not path.startswith(("pairs/", "data/") if pairs_changed else "pairs/")
    }
    write_json(new.manifest, {"hfsynth": __version__, "files": {**others, **files}})


def _require_part(part: Path, record: ShardRecord) -> None:
    if not part.exists():
        raise reopened(part, part, "is missing")
    if file_digest(part) != (record.sha256, record.size):
        raise reopened(part, part, "is damaged: it is not what was written")


def _link_others(root: Path, staged: Path, *, without: set[Path]) -> None:
    for path in _files(root, without):
        target = staged / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(path, target)


def _files(folder: Path, without: set[Path]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path in without:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path, without)
        else:
            yield path


def _link(path: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, target, follow_symlinks=False)
