"""Check a whole folder, byte by byte, against what its job wrote down. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hfsynth.core.errors import OutputError
from hfsynth.core.files import read_json
from hfsynth.core.records import Counts
from hfsynth.core.screening import screening_sentences
from hfsynth.core.stores import is_store, store_url
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.manifest import Damage, recorded, repair
from hfsynth.job.opening import open_site
from hfsynth.job.shards import finished_shards, part_path
from hfsynth.job.site import Site


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found: how many files were compared, whether the corpus is finished, what is damaged and its repair.

    `screening` says what a finished corpus was screened for, and what not.
    """

    root: Path
    finished: bool
    files: int
    damaged: tuple[str, ...]
    repair: str = ""
    screening: tuple[str, ...] = ()

    @property
    def out(self) -> str:
        """Where it lies, as one writes it: a path has one slash of an address's two."""
        return store_url(self.root) if is_store(self.root) else str(self.root)


def check(folder: str | Path) -> CheckReport:
    """Compare every file of a corpus folder with its manifest: presence, size and digest; and `stats.json` with sums.

    Of an unfinished job the finished shards are compared with their records. Nothing is changed: `hfsynth synthesize`
    makes what was lost anew. Raise OutputError where there is no corpus of hfsynth.
    """
    with open_site(folder) as site:
        site.fetch_state()
        return _checked(site)


def _checked(site: Site) -> CheckReport:
    corpus = site.corpus
    if not corpus.manifest.exists() and not corpus.plan.exists():
        raise OutputError(
            f"{site.url} holds no corpus of hfsynth.", hint=f"Make one with: hfsynth synthesize SOURCE {site.url}"
        )
    finished = corpus.manifest.exists()
    site.look()
    site.fetch_records()
    found: list[Damage] = []
    files = 0
    try:
        found += site.damages(digests=True) if finished else _parts(site)
        files = len(recorded(corpus) if finished else finished_shards(corpus.parts))
    except OutputError as error:
        found.append(Damage("", error.message))
    found += _descriptions(corpus, finished=finished)
    told = tuple(str(damage).strip() for damage in found)
    screening = tuple(_screening(corpus)) if finished else ()
    return CheckReport(Path(site.url), finished, files, told, _repair(site, found) if found else "", screening)


def _screening(corpus: Corpus) -> list[str]:
    """Return what a corpus that was screened says of it; nothing of one that was not, or whose words are lost."""
    try:
        stats = read_json(corpus.stats) or {}
        return screening_sentences(stats) if stats.get("screen") else []
    except (OutputError, KeyError, TypeError, AttributeError):
        return []


def _repair(site: Site, found: list[Damage]) -> str:
    return repair(site.corpus.root, found).replace(str(site.corpus.root), site.url)


def _parts(site: Site) -> Iterator[Damage]:
    for shard, record in finished_shards(site.corpus.parts).items():
        name = part_path(site.corpus.parts, shard).relative_to(site.corpus.root).as_posix()
        described = site.part_described(shard, record)
        if described is None:
            yield Damage(name, "is missing")
        elif described != (record.sha256, record.size):
            yield Damage(name, "is damaged")


def _descriptions(corpus: Corpus, *, finished: bool) -> Iterator[Damage]:
    """Yield what is wrong with the JSON files; the counts of a job must be the sums of its shards'."""
    for path in (corpus.plan, corpus.stats, corpus.config):
        try:
            values = read_json(path)
        except OutputError as error:
            yield Damage("", error.message)
            continue
        if finished and values is None and path != corpus.plan:
            yield Damage(path.name, "is missing")
        elif finished and path == corpus.stats and not _agrees(corpus, values):
            yield Damage(path.name, "does not say what the shards' records say")


def _agrees(corpus: Corpus, stats: Mapping[str, Any]) -> bool:
    """Return whether the statistics are the sums of the records that a job has kept, where it has."""
    try:
        records = finished_shards(corpus.parts)
        total = sum((record.counts for record in records.values()), Counts())
        # The statistics tell identifiers with the way they were dealt with, not as a count of documents.
        return not records or replace(total, identifiers=Counter()) == Counts.from_dict(stats)
    except (OutputError, KeyError, TypeError, ValueError, AttributeError):
        return False
