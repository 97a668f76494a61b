"""Make the finished shards of a job visible as a corpus, the manifest last, and say what they cost.

Knows nothing of engines, sources or who did the work.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hfsynth.core.addresses import public_location
from hfsynth.core.decontamination import counted_out, public_decontamination
from hfsynth.core.errors import OutputError
from hfsynth.core.exemplars import public_recipe
from hfsynth.core.files import file_digest, read_json, sync_folder, write_json, writing
from hfsynth.core.identifier_models import public_model
from hfsynth.core.records import Counts
from hfsynth.core.screening import told_of_documents
from hfsynth.corpus.folder import Corpus, part_name
from hfsynth.corpus.readme import describe_configs
from hfsynth.corpus.rewritten import write_rewritten
from hfsynth.documents.splits import SplitLayout
from hfsynth.job.changed_source import read_changes
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leftovers import sweep_finished
from hfsynth.job.reopen import reopen
from hfsynth.job.sessions import ORPHANED, Session, Sessions, working_seconds
from hfsynth.job.shards import ShardRecord, Unreadable, finished_shards, part_path, read_extent
from hfsynth.version import __version__

_LOG = logging.getLogger(__name__)
_LISTED = 100
"""How many rows that cannot be read the statistics list; they count all."""


def finish(corpus: Corpus, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Publish the pairs of a job whose shards are all finished; return the statistics.

    Raise OutputError where a shard is missing, or a part is not what its record says.
    """
    reopen(corpus)  # where a publication was killed
    records, extent = complete_records(corpus, str(corpus.root))
    layout = SplitLayout.of(extent, identity["shard_rows"])
    names = published_names(sorted(records), layout)
    _publish_pairs(corpus, records, names)
    Sessions(JournalPaths(corpus.journal).sessions).settle()
    stats, config = described(corpus, records, extent, identity)
    files = {f"pairs/{names[shard]}": file_record(record) for shard, record in records.items()}
    rewritten = write_rewritten(corpus)
    stats = describe_corpus(corpus, stats, config, {**rewritten, **files})
    _tidy(corpus)
    return stats


def describe_corpus(
    corpus: Corpus, stats: Mapping[str, Any], config: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Write what a corpus says of itself, the manifest of its `files` last; return the statistics.

    What an earlier publication said of texts and figures stays where the pairs are those of before.
    """
    others = _others(corpus, {path: record for path, record in files.items() if path.startswith("pairs/")})
    told = {**_kept(corpus.stats, ("render", "mix", *(() if others is None else ("evaluation",)))), **stats}
    write_json(corpus.config, {**_kept(corpus.config, ("render", "mix")), **config})
    write_json(corpus.stats, told)
    describe_configs(corpus)
    write_json(corpus.manifest, {"hfsynth": __version__, "files": {**(others or {}), **files}})
    return told


def screened_out(recipe: Mapping[str, Any], stats: Mapping[str, Any], counts: Counts) -> dict[str, Any]:
    """Return what statistics say of what was looked for in documents and pairs while these were written."""
    return {**counted_out(recipe, stats), **told_of_documents(recipe, counts)}


def complete_records(corpus: Corpus, where: str) -> tuple[dict[int, ShardRecord], dict[str, Any]]:
    """Return all shards' records and the source's extent; raise OutputError where a shard is missing."""
    records, extent = finished_shards(corpus.parts), read_extent(corpus)
    if extent is None or len(records) != extent["shards"]:
        raise OutputError(
            f"{where} has {len(records)} finished shards where the source makes "
            f"{'an unknown number' if extent is None else extent['shards']}.",
            hint="Give the same command again: what is missing is made.",
        )
    return records, extent


def described(
    corpus: Corpus, records: Mapping[int, ShardRecord], extent: Mapping[str, Any], identity: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `stats.json` and `synthesizer_config.json` say of a job whose shards are all finished."""
    stats = statistics(corpus, records, extent["rows"])
    stats |= screened_out(identity["synthesizer"], stats, sum((record.counts for record in records.values()), Counts()))
    return stats, published_config(identity, read_changes(corpus))


def _others(corpus: Corpus, files: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the manifest before said of other files; None where the pairs are not those of before.

    There is one where a folder was found damaged. What was made anew is the same, but for an engine that does not
    answer twice alike: then texts and figures are of other pairs.
    """
    former = _kept(corpus.former, ("files",)).get("files")
    if not isinstance(former, dict):
        return {}
    if any(former.get(path, record) != record for path, record in files.items()):
        _LOG.warning("%s: the parts made anew have other pairs. Render and evaluate it again.", corpus.root)
        return None
    return {path: record for path, record in former.items() if not path.startswith(("pairs/", "rewritten/"))}


def _kept(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return what else a file of an earlier publication said, as far as it can be read."""
    try:
        found = read_json(path) or {}
    except OutputError:
        return {}
    return {name: found[name] for name in names if name in found}


def published_names(shards: Sequence[int], layout: SplitLayout | None) -> dict[int, str]:
    """Return the names of the files that the finished shards become: in the order of their split, `train` alone."""
    if layout is None:
        return {shard: part_name(position, len(shards)) for position, shard in enumerate(shards)}
    return {
        shard: part_name(position, len(own), split)
        for split, own in layout.shards.items()
        for position, shard in enumerate(own)
    }


def _publish_pairs(corpus: Corpus, records: Mapping[int, ShardRecord], names: Mapping[int, str]) -> None:
    """Check every part and give it its name; the folder they are gathered in becomes `pairs` at the end."""
    staging = corpus.journal / "pairs"
    for shard, record in records.items():
        _check(part_path(corpus.parts, shard), staging / names[shard], record)
    with writing(corpus.pairs):
        staging.mkdir(exist_ok=True)
        for shard, name in names.items():
            part = part_path(corpus.parts, shard)
            if part.exists():
                os.replace(part, staging / name)
        sync_folder(staging)
        os.replace(staging, corpus.pairs)
        sync_folder(corpus.root)


def _tidy(corpus: Corpus) -> None:
    """Remove what workers that were killed have left."""
    for path in corpus.parts.glob(".*.tmp"):  # whoever writes one has lost its shard
        path.unlink(missing_ok=True)
    sweep_finished(corpus)


def _check(part: Path, staged: Path, record: ShardRecord) -> None:
    found = part if part.exists() else staged
    if not found.exists():
        raise reopened(part, part, "is missing")
    if file_digest(found) != (record.sha256, record.size):
        raise reopened(part, found, "is damaged: it is not what was written")


def reopened(part: Path, found: Path, what: str) -> OutputError:
    """Drop the record of a part that was lost, so that its shard is done again; return the error that says so."""
    with writing(part):
        part.with_suffix(".json").unlink(missing_ok=True)
    return OutputError(f"{found} {what}.", hint="Give the same command again: its shard is done again.")


def file_record(record: ShardRecord) -> dict[str, Any]:
    """Return what the manifest says of a shard's part."""
    return {"rows": record.rows, "size": record.size, "sha256": record.sha256}


def published_config(identity: Mapping[str, Any], changes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the content of `synthesizer_config.json`: the recipe's own fields, and what they were applied to.

    Where the source changed on the way, its earlier revisions are named. The folders of this machine and the
    credentials of addresses stay out of it: it will be published.
    """
    source, recipe = identity["source"], public_model(identity["synthesizer"])
    synthesizer = public_decontamination(public_recipe(recipe))
    earlier = {"earlier_revisions": [change["from"] for change in changes]} if changes else {}
    named = {**source, **earlier, "location": source["location"] and public_location(source["location"])}
    model = {"model": public_location(synthesizer["model"])}
    return {**synthesizer, **model, "source": named, "hfsynth_version": __version__}


def statistics(corpus: Corpus, records: Mapping[int, ShardRecord], rows: int | None) -> dict[str, Any]:
    """Return what a job has made and cost so far.

    `seconds` is the time in which at least one engine was at work, the rates are over it. `engine_seconds` adds up all
    engines, with their loading, idle and lost time: what the job cost. `loading_seconds` and `waiting_seconds`, for
    other workers, are parts of it.
    """
    counts = sum((record.counts for record in records.values()), Counts())
    sessions = Sessions(JournalPaths(corpus.journal).sessions)
    found = sessions.all()
    loading = sum(session.loading_seconds for session in found)
    waiting = sum(session.waiting_seconds for session in found)
    seconds = working_seconds(found)
    engine_seconds = sum(session.engine_seconds for session in found)
    died = sum(session.ended in (None, ORPHANED) for session in found)
    rate, overall = _rate_over(seconds), _rate_over(engine_seconds)
    return {
        **counted(counts, rows),
        **_unreadable(records),
        **({"source_changes": changes} if (changes := read_changes(corpus)) else {}),
        "seconds": round(seconds, 3),
        "documents_per_second": rate(counts.total_documents),
        "output_tokens_per_second": rate(counts.output_tokens),
        "computed_tokens_per_second": rate(counts.computed_tokens),
        "engine_seconds": round(engine_seconds, 3),
        "loading_seconds": round(loading, 3),
        "waiting_seconds": round(waiting, 3),
        "engine_restarts": died + sum(session.restarts for session in found),
        "preemptions": _sum(session.preemptions for session in found),
        "output_tokens_per_engine_second": overall(counts.output_tokens),
        "workers": _workers(found),
    }


def counted(counts: Counts, rows: int | None) -> dict[str, Any]:
    """Return the statistics that are known of any synthesized rows, whoever made them."""
    return {
        "hfsynth": __version__,
        "source_rows": rows,
        "total_documents": counts.total_documents,
        **{name: value for name, value in counts.to_dict().items() if name != "identifiers"},
        "computed_tokens": counts.computed_tokens,
        "cached_share": counts.cached_share,
    }


def unreadable_rows(records: Mapping[int, ShardRecord]) -> list[Unreadable]:
    """Return the rows of the source that could not be read, in order."""
    return [row for shard in sorted(records) for row in records[shard].unreadable]


def _unreadable(records: Mapping[int, ShardRecord]) -> dict[str, Any]:
    """Return how many rows of the source could not be read, and the first of them."""
    found = unreadable_rows(records)
    return {"unreadable": len(found), "unreadable_rows": [asdict(row) for row in found[:_LISTED]]}


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum of what is known, None where nothing is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _rate_over(seconds: float) -> Callable[[int], float | None]:
    return lambda number: round(number / seconds, 2) if seconds else None


def _workers(sessions: Sequence[Session]) -> list[dict[str, Any]]:
    """Return each session's share; what it had in hand when it was killed is in nobody's."""
    return [
        {
            "worker": session.worker,
            "host": session.host,
            "devices": session.devices,
            "documents": session.counts.total_documents,
            "pairs": session.counts.pairs,
            "output_tokens": session.counts.output_tokens,
            "engine_seconds": round(session.engine_seconds, 3),
            "engine_restarts": session.restarts,
            "ended": session.ended or "killed",
        }
        for session in sessions
    ]


def stats_so_far(corpus: Corpus) -> dict[str, Any]:
    """Return the statistics of a finished job, or of an unfinished one's finished shards."""
    found: dict[str, Any] | None = read_json(corpus.stats)
    extent = read_extent(corpus)
    rows = None if extent is None else extent["rows"]
    return statistics(corpus, finished_shards(corpus.parts), rows) if found is None else found
