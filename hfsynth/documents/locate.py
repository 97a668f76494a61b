"""Find a source's files, on this machine or behind a URL, and pin what is in them. Knows nothing of rows."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from hfsynth.core.errors import SourceError
from hfsynth.documents.files import Copy, File, FileSystem, needs_copy, reading
from hfsynth.documents.watching import FileWatch, RemoteWatch, changed, stream_digest

KINDS = {
    ".txt": "txt",
    ".md": "md",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".jsonl.gz": "jsonl",
    ".json.gz": "jsonl",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
}
FILES = "Sources are Hub dataset ids, save_to_disk folders, and txt, md, jsonl(.gz), csv and parquet files."

_MAGIC = re.compile(r"[*?\[]")
_SMALL = 64 * 2**20  # bytes that are read to pin them; more are pinned by when they were changed


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source is: the name people gave, and the path on its file system."""

    location: str
    fs: FileSystem
    path: str

    @property
    def is_saved(self) -> bool:
        """Whether `save_to_disk` wrote this folder."""
        return not self.names_a_file and (
            self.has("dataset_dict.json") or (self.has("state.json") and self.has("dataset_info.json"))
        )

    @property
    def names_a_file(self) -> bool:
        """Whether the name of a URL says that it is one file, so that its server need not be asked for a listing."""
        return "://" in self.location and _kind(self.path) is not None and not _MAGIC.search(_name(self.path, ""))

    def __truediv__(self, name: str) -> Place:
        return replace(self, location=f"{self.location.rstrip('/')}/{name}", path=f"{self.path.rstrip('/')}/{name}")

    def has(self, name: str) -> bool:
        """Tell whether a folder has a file."""
        return self.fs.isfile((self / name).path)

    def read(self, name: str) -> bytes:
        """Return the content of a file in the folder."""
        return self.fs.cat_file((self / name).path)


def locate(location: str) -> Place | None:
    """Return where files are, or None for a name that can only be a dataset on the Hub.

    Raise SourceError for a path that does not exist, and for a URL that cannot be opened.
    """
    if "://" in location:
        return _remote(location)
    path = os.path.abspath(os.path.expanduser(location))
    place = Place(os.path.expanduser(location), LocalFileSystem(), path)
    if os.path.exists(path) or _MAGIC.search(location):
        return place
    if location.startswith((".", "/", "~")) or location.endswith("/") or _kind(location):
        raise SourceError(f"No such file or folder: {location}", hint=FILES)
    return None


def _remote(location: str) -> Place:
    try:
        with reading(location):
            fs, path = url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise SourceError(
            f"{location} cannot be opened: {error}", hint="Check the address, and install what it needs (such as s3fs)."
        ) from error
    return Place(location, fs, path)


def find_files(place: Place) -> tuple[str, list[File]]:
    """Return the kind of a place's files, and the files in the order of their names.

    In a folder, hidden files count as little as those of unknown kinds do; `.json` files and, beside other kinds, a
    README.md describe the data there. Raise SourceError where there is no file, and for files of several kinds.
    """
    with reading(place.location):
        base, found = _matches(place)
    if not found:
        raise SourceError(f"No file that can be read matches {place.location}.", hint=FILES)
    kinds: dict[str, str] = {}
    for path in found:
        kinds.setdefault(_kind(path) or "unknown", _name(path, base))
    if len(kinds) > 1 or "unknown" in kinds:
        listed = ", ".join(f"{kind} ({name})" for kind, name in sorted(kinds.items()))
        raise SourceError(
            f"{place.location} holds files of {'several kinds' if len(kinds) > 1 else 'a kind that cannot be read'}: "
            f"{listed}.",
            hint="Give files of one kind, such as 'folder/*.jsonl'. " + FILES,
        )
    with reading(place.location):
        files = [_file(place.fs, path, _name(path, base), info) for path, info in sorted(found.items())]
    return next(iter(kinds)), files


def watched_file(place: Place, name: str) -> File:
    """Return a file of a folder, pinned as it is now."""
    path = (place / name).path
    return _file(place.fs, path, name, place.fs.info(path))


def _file(fs: FileSystem, path: str, name: str, info: dict[str, Any]) -> File:
    if isinstance(fs, LocalFileSystem):
        watch = FileWatch(path, name)
        return File(fs, path, name, watch.size, watch)
    copy = Copy(path, name) if path.startswith(("http://", "https://")) and needs_copy(path, info) else None
    return File(fs, path, name, info.get("size"), RemoteWatch(fs, path, name, info), copy)


def _matches(place: Place) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the folder that names are relative to, and the paths of files with what is known of them."""
    fs, path = place.fs, place.path
    if place.names_a_file or fs.isfile(path):
        return _parent(_name(path, "")), {path: fs.info(path)}
    if fs.isdir(path):
        base = path.rstrip("/") + "/"
        return base, _data_files(base, fs.find(path, detail=True))
    magic = _MAGIC.search(path)
    found = fs.glob(path, detail=True) if magic else {}
    files = {name: info for name, info in found.items() if info.get("type") != "directory"}
    return _parent(path[: magic.start()] if magic else path), files


def _parent(path: str) -> str:
    return path[: path.rfind("/") + 1]


def _data_files(base: str, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Keep what is data in a folder that may be a dataset's repository."""
    known = {
        path: info
        for path, info in found.items()
        if _kind(path)
        and not path.endswith(".json")
        and not any(part[:1] == "." for part in path[len(base) :].split("/"))
    }
    described = {path: info for path, info in known.items() if path[len(base) :].lower() != "readme.md"}
    return described if any(_kind(path) != "md" for path in described) else known


def _kind(path: str) -> str | None:
    name = _name(path, "").lower()
    return next((kind for suffix, kind in KINDS.items() if name.endswith(suffix)), None)


def _name(path: str, base: str) -> str:
    """Return a path relative to a folder, without the query of a web address."""
    return (path.partition("?")[0] if path.startswith(("http://", "https://")) else path).removeprefix(base)


def files_digest(files: Sequence[File]) -> str:
    """Return 32 hex digits for the names and the content of files.

    Large ones are taken at their size and the time of their last change, which a copy does not keep; up to 64 MB in
    all are read, so that touching or copying them changes nothing.
    """
    small = sum(_SMALL if file.size is None else file.size for file in files) < _SMALL
    pinned = blake2b(digest_size=16)
    for file in files:
        pinned.update(f"{len(file.name.encode('utf-8', 'surrogateescape'))}:".encode())
        pinned.update(file.name.encode("utf-8", "surrogateescape"))
        pinned.update(_content(file) if small else _stamp(file))
    return pinned.hexdigest()


def _content(file: File) -> bytes:
    """Return the digest of a file's content, which its watch knows from then on."""
    with file.open_as_it_is() as stream:
        content = stream_digest(stream)
    if isinstance(file.watch, FileWatch):
        file.watch.content = content
    return content


def _stamp(file: File) -> bytes:
    with reading(file.name):
        when = os.stat(file.path).st_mtime_ns if isinstance(file.fs, LocalFileSystem) else file.fs.ukey(file.path)
    return f"{file.size} {when};".encode()


def require_same(place: Place, files: Sequence[File], revision: str) -> None:
    """Raise SourceError where a place holds other files than when it had `revision`, or one of them has changed."""
    _require_as_found(place.location, files)
    _, found = find_files(place)
    names, before = {file.name for file in found}, {file.name for file in files}
    for what, others in (("is new", names - before), ("is gone", before - names)):
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise changed(place.location, f"{min(others)}{more} {what}")
    require_same_content(place.location, files, revision)


def require_same_content(location: str, files: Sequence[File], content: str) -> None:
    """Raise SourceError where one of the files has changed since their `files_digest` was `content`."""
    _require_as_found(location, files)
    if files_digest(files) != content:
        raise changed(location, "its content is another")


def _require_as_found(location: str, files: Sequence[File]) -> None:
    with reading(location):
        for file in files:
            file.watch.check()
