"""Where a dataset came from, as far as it still says so. Reads no rows and asks no network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset, config

from hfsynth.core.errors import SourceError
from hfsynth.core.private_names import streamed_files
from hfsynth.documents.dataset_splits import Rows
from hfsynth.documents.files import File
from hfsynth.documents.locate import files_digest, find_files, locate
from hfsynth.documents.source import Source

_HUB_FILE = re.compile(
    r"(?:hf://|.*/)datasets/(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:@|/resolve/)(?P<commit>[0-9a-f]{40})/.*"
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

Origin = dict[str, Any]
"""The fields of a source as `synthesizer_config.json` has them; `location` and `revision` are None where unknown."""


def origin_of(splits: Iterable[Rows]) -> Origin:
    """Return the one origin of several datasets: a repo on the Hub with its commit, or the files of a builder.

    Nothing is known where they have different ones, or one of them has none.
    """
    known = list(splits)
    found = [_origin(rows) for rows in known]
    if found and all(one == found[0] for one in found):
        return found[0]
    return _origin_of_files([path for rows in known for path in _files(rows)])


def stated_origin(source: str | Source) -> Origin:
    """Return what the user has stated: `user/name[@revision]` on the Hub, files at hand (pinned here), or any words."""
    stated = source if isinstance(source, Source) else None
    name = stated.location if stated else str(source)
    known = {"config": stated.config, "limit": stated.limit} if stated else {}
    revision = stated.revision if stated else None
    try:
        place = locate(name)
    except SourceError:
        place = None
    if place is not None and not place.is_saved:
        return {**known, "location": name, "revision": revision or files_digest(find_files(place)[1])}
    repo = _HUB_ID.fullmatch(name)
    if repo and repo["revision"]:
        name, revision = name.partition("@")[0], revision or repo["revision"]
    return {**known, "location": name, "revision": revision}


def _origin(rows: Rows) -> Origin:
    files = _files(rows)
    return {**_origin_of_files(files), **_config(rows)} if files else _origin_in_cache(rows)


def _origin_of_files(paths: list[str]) -> Origin:
    hub = [_HUB_FILE.fullmatch(path) for path in paths]
    if paths and all(hub):
        repos = {(one["repo"], one["commit"]) for one in hub if one}
        repo, commit = next(iter(repos))
        return {"location": repo, "revision": commit} if len(repos) == 1 else _unknown()
    names = sorted({Path(path) for path in paths})
    if not names or not all(name.is_file() for name in names):
        return _unknown()
    base = names[0].parent if len(names) == 1 else Path(_common(names))
    try:
        files = [_file(name, base) for name in names]
    except SourceError:  # a kind of file that a job does not read
        return _unknown()
    return {"location": str(names[0] if len(names) == 1 else base), "revision": files_digest(files)}


def _file(path: Path, base: Path) -> File:
    place = locate(str(path))
    if place is None:
        raise SourceError(f"No such file: {path}")
    return replace(find_files(place)[1][0], name=path.relative_to(base).as_posix())


def _common(paths: list[Path]) -> str:
    shared = paths[0].parent
    while not all(path.is_relative_to(shared) for path in paths):
        shared = shared.parent
    return str(shared)


def _files(rows: Rows) -> list[str]:
    """Return the files that a builder has read: those it has checksums of, or those that a stream goes through."""
    if rows.info.download_checksums:
        return list(rows.info.download_checksums)
    return list(streamed_files(rows)) if isinstance(rows, IterableDataset) else []


def _origin_in_cache(rows: Rows) -> Origin:
    """Read the repo and its commit off the place that `datasets` keeps a dataset of the Hub at."""
    if not isinstance(rows, Dataset):
        return _unknown()
    cache = Path(config.HF_DATASETS_CACHE).expanduser().resolve()
    found = {_in_cache(Path(str(file["filename"])).resolve(), cache) for file in rows.cache_files}
    known = next(iter(found), None)
    if len(found) != 1 or known is None:
        return _unknown()
    repo, commit = known
    return {"location": repo, "revision": commit, **_config(rows)}


def _in_cache(path: Path, cache: Path) -> tuple[str, str] | None:
    if not path.is_relative_to(cache):
        return None
    parts = path.relative_to(cache).parts
    if len(parts) != 5 or "___" not in parts[0] or not _COMMIT.fullmatch(parts[3]):
        return None
    return parts[0].replace("___", "/"), parts[3]


def _config(rows: Rows) -> Origin:
    name = rows.info.config_name
    return {} if name in (None, "default") else {"config": name}


def _unknown() -> Origin:
    return {"location": None, "revision": None}
