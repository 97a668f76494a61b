"""Trees of files as pure functions: entries, changes, merges, listings; and the refusal that all of the Hub raises.

A tree is a mapping from path to `Entry`. Knows nothing of commits and of contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LFS_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("7z", "bz2", "gz", "tar", "tgz", "xz", "zip", "zst"),
        *("arrow", "bin", "ckpt", "h5", "msgpack", "npy", "npz", "onnx", "parquet", "pickle", "pkl", "pt", "pth"),
        *("jpg", "mp3", "mp4", "png", "safetensors", "wav", "webp"),
    )
)
REGULAR_LIMIT = 10 * 1024 * 1024
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


class Refusal(Exception):
    """An answer that is an error: status, sentence, and the code that the client turns into an exception class."""

    def __init__(self, status: int, message: str, *, code: str = "", extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, message, code, dict(extra or {})
        self.headers: dict[str, str] = {}


def no_revision(revision: str) -> Refusal:
    return Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def no_entry(path: str) -> Refusal:
    return Refusal(404, f'"{path}" does not exist in this revision', code="EntryNotFound")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree: its content by SHA-256, and the git object id (of the LFS pointer where it is LFS)."""

    sha256: str
    size: int
    oid: str
    lfs: bool
    pointer_size: int = 0

    @property
    def etag(self) -> str:
        """What the Hub calls the content by: SHA-256 for LFS, the git blob id else."""
        return self.sha256 if self.lfs else self.oid


def git_oid(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


def regular_entry(content: bytes) -> Entry:
    return Entry(hashlib.sha256(content).hexdigest(), len(content), git_oid("blob", content), lfs=False)


def lfs_entry(sha256: str, size: int) -> Entry:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    return Entry(sha256, size, git_oid("blob", pointer), lfs=True, pointer_size=len(pointer))


def wants_lfs(path: str, sample: bytes, size: int) -> bool:
    """Say whether a new file belongs in LFS: by extension, by a NUL byte, or by being over 10 MB; never when empty."""
    return size > 0 and (path.lower().endswith(LFS_SUFFIXES) or b"\0" in sample or size > REGULAR_LIMIT)


@dataclass(frozen=True, slots=True)
class Add:
    """Put a file at a path."""

    path: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a file away, or everything under a folder."""

    path: str
    folder: bool = False


Change = Add | Remove


def apply_changes(tree: Mapping[str, Entry], changes: Iterable[Change]) -> dict[str, Entry]:
    """Return the tree after the changes, in their order."""
    result = dict(tree)
    for change in changes:
        if isinstance(change, Add):
            _check_path(result, change.path)
            result[change.path] = change.entry
        else:
            for path in _removed(result, change):
                del result[path]
    return result


def _check_path(tree: Mapping[str, Entry], path: str) -> None:
    parts = path.split("/")
    if not all(parts) or {".", "..", ".git"} & set(parts):
        raise Refusal(400, f"Invalid path: {path}")
    parents = ("/".join(parts[:i]) for i in range(1, len(parts)))
    if any(parent in tree for parent in parents) or any(other.startswith(f"{path}/") for other in tree):
        raise Refusal(400, f"{path} cannot be both a file and a folder")


def _removed(tree: Mapping[str, Entry], change: Remove) -> list[str]:
    folder = change.path.rstrip("/") + "/"
    paths = [path for path in tree if path.startswith(folder)] if change.folder else [change.path]
    if not paths or not all(path in tree for path in paths):
        raise Refusal(
            404, f"A {'folder' if change.folder else 'file'} with this name doesn't exist", code="EntryNotFound"
        )
    return paths


def merge_trees(
    fork: Mapping[str, Entry], ours: Mapping[str, Entry], theirs: Mapping[str, Entry]
) -> tuple[dict[str, Entry], list[str]]:
    """Merge `theirs` into `ours`, both grown out of `fork`; return the tree and the paths both sides changed."""
    merged, conflicts = dict(ours), []
    for path in sorted({*fork, *theirs}):
        old, mine, new = fork.get(path), ours.get(path), theirs.get(path)
        if new in (old, mine):
            continue
        if mine != old:
            conflicts.append(path)
        elif new is None:
            del merged[path]
        else:
            merged[path] = new
    return merged, conflicts


def below(tree: Mapping[str, Entry], path: str) -> dict[str, Entry]:
    return {name: entry for name, entry in tree.items() if name == path or name.startswith(f"{path}/")}


def listing(tree: Mapping[str, Entry], folder: str, *, recursive: bool) -> list[tuple[str, Entry | None]]:
    """List a folder by path: files with their entry, folders with None; refused when the folder is not there."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, Entry | None] = {}
    for path, entry in tree.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            found[prefix + "/".join(parts[:depth])] = None
        if recursive or len(parts) == 1:
            found[path] = entry
    if folder and not found:
        raise no_entry(folder)
    return sorted(found.items())


def folder_oid(tree: Mapping[str, Entry], folder: str) -> str:
    files = below(tree, folder)
    return git_oid("tree", "\n".join(f"{path} {entry.oid}" for path, entry in sorted(files.items())).encode())
