"""Open the index of the benchmarks that a recipe names: from this process, a folder, the user's cache, or built anew.

Knows nothing of jobs; what an index tells is the business of `hfsynth.quality.contamination`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from hfsynth.core.benchmarks import Benchmark, BenchmarkSource
from hfsynth.core.decontamination import Decontamination
from hfsynth.core.errors import ConfigError, OutputError, SourceError
from hfsynth.documents.benchmarks import benchmark_sources, pinned_benchmark, read_benchmark
from hfsynth.documents.hf_datasets import commit_of
from hfsynth.models.cache import cache_folder
from hfsynth.quality.contamination import INDEX_VERSION, ContaminationIndex

SUFFIX = ".npz"
"""What the name of an index's file ends with."""

_MOST_KEPT = 2
_kept: dict[str, ContaminationIndex] = {}
_log = logging.getLogger(__name__)


def open_index(benchmarks: str | Sequence[str] | Decontamination, *, near: Path | None = None) -> ContaminationIndex:
    """Return the index of benchmarks: `core`, lists of them (TOML), files, `user/dataset[:config[:split]][@revision]`.

    One that was saved is opened by its name, which ends with `.npz`. An index of benchmarks whose content is the same
    as before comes from the user's cache. `near` is a file that may hold the one that is wanted. Raise SourceError for
    benchmarks that cannot be read, ConfigError where they are not those that a recipe was made with.
    """
    wanted = Decontamination.read(benchmarks)
    if wanted is None:
        raise ConfigError("No benchmarks are named.", hint="Name some: core, a file, or user/dataset.")
    if wanted.sha256 in _kept:
        return _kept[wanted.sha256]
    index = _at(near, wanted.sha256) or _opened(wanted)
    if wanted.sha256 not in (None, index.sha256):
        raise ConfigError(
            f"The recipe's benchmarks cannot be had any more: their index is {index.sha256[:12]}… here, and was "
            f"{str(wanted.sha256)[:12]}….",
            hint="Name the benchmarks again: --decontaminate NAME (decontaminate=… in Python).",
        )
    while len(_kept) >= _MOST_KEPT:
        _kept.pop(next(iter(_kept)), None)
    _kept[index.sha256] = index
    return index


def settled_decontamination(wanted: Decontamination) -> Decontamination:
    """Return the benchmarks of a recipe with the identity of their index, and with their revisions."""
    if wanted.sha256 is not None:
        return wanted
    index = open_index(wanted)
    return replace(wanted, sha256=index.sha256, benchmarks=index.benchmarks, not_read=index.not_read)


def as_begun(wanted: Decontamination, begun: object) -> Decontamination:
    """Return benchmarks as a job was begun with them, where the same are named: at the commits of that time.

    Files are read again: a job is not gone on with where they have changed.
    """
    there = Decontamination.read(begun)
    if there is None or wanted.sha256 is not None or wanted.to_dict()["sources"] != list(there.sources):
        return wanted
    return there if there.is_pinned else replace(wanted, benchmarks=there.benchmarks)


def _at(path: Path | None, identity: str | None) -> ContaminationIndex | None:
    if path is None or identity is None or not path.exists():
        return None
    try:
        found = ContaminationIndex.load(path)
    except SourceError as error:
        _log.warning("%s", error.message)
        return None
    return found if found.sha256 == identity else None


def _opened(wanted: Decontamination) -> ContaminationIndex:
    saved = [name for name in wanted.sources if name.endswith(SUFFIX)]
    if saved and not (wanted.is_pinned and not Path(saved[0]).exists()):
        if len(wanted.sources) > 1:
            raise ConfigError(
                f"{saved[0]} is an index of its own, and is looked in alone.",
                hint="Name what it was built from, and the others beside it.",
            )
        return ContaminationIndex.load(saved[0])
    sources, not_read = _pinned(wanted)
    path = cache_folder() / "benchmarks" / f"{_key(sources, not_read)}{SUFFIX}"
    try:
        return ContaminationIndex.load(path)
    except SourceError:
        _log.info("building an index of %d benchmarks", len(sources))
    index = ContaminationIndex.build(map(_read, sources), not_read=not_read)
    try:
        index.save(path)
    except OutputError as error:
        _log.warning("the index of benchmarks is not kept: %s", error.message)
    return index


def _pinned(wanted: Decontamination) -> tuple[list[BenchmarkSource], list[str]]:
    """Return benchmarks with their revisions, and the names of those that are gated and may not be read.

    They are what a recipe recorded, where all of that is on the Hub, else what its sources name.
    """
    known = [record.source for record in wanted.benchmarks]
    if wanted.sha256 is not None and wanted.is_pinned:
        return known, list(wanted.not_read)
    named = [source for name in wanted.sources for source in benchmark_sources(name)]
    found: list[BenchmarkSource] = []
    not_read: list[str] = []
    for source in named:
        if source.gated and (why := _refused(source)):
            _log.warning("%s is gated and is not looked for: %s", source.name, why)
            not_read.append(source.name)
        else:
            found.append(pinned_benchmark(source.pinned_by(known)))
    return found, not_read


def _refused(source: BenchmarkSource) -> str | None:
    """Return why this login may not read a dataset on the Hub, None where it may."""
    try:
        commit_of(source.name, source.revision)
    except SourceError as error:
        return error.message
    return None


def _read(source: BenchmarkSource) -> Benchmark:
    return read_benchmark(
        source.name, config=source.config, split=source.split, revision=source.revision, columns=source.columns
    )


def _key(sources: Sequence[BenchmarkSource], not_read: Sequence[str]) -> str:
    return sha256(repr((INDEX_VERSION, sources, not_read)).encode("utf-8", "surrogatepass")).hexdigest()
