"""A Hub's memory: repos, immutable commits, refs, pull requests, blobs and tokens.

Everything lives in memory. A commit holds its whole tree, so whoever holds a commit sees one state and never a
mixture. Knows nothing of HTTP, of uploads on the way, or of faults: `hub_api` speaks the protocol on top of it.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

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


def no_entry(path: str, revision: str) -> Refusal:
    return Refusal(404, f'"{path}" does not exist on "{revision}"', code="EntryNotFound")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token: who it belongs to and its role (`write`, `read`, or `fineGrained` without any right)."""

    user: str
    role: str
    orgs: tuple[str, ...] = ()

    def may_write(self, namespace: str) -> bool:
        return self.role == "write" and namespace in (self.user, *self.orgs)


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
class Commit:
    """One state of a repo, with its whole tree."""

    id: str
    parent: str | None
    tree: Mapping[str, Entry]
    title: str
    message: str
    author: str
    date: str


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


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


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


@dataclass(slots=True)
class Discussion:
    """A discussion or a pull request; a pull request's commits are on `refs/pr/<num>`, grown out of `fork`."""

    num: int
    title: str
    author: str
    status: str
    pull: bool
    base: str = ""
    fork: str = ""
    merge_commit: str | None = None
    created: str = field(default_factory=now)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"

    def record(self, kind: str, author: str, data: Mapping[str, Any]) -> dict[str, Any]:
        identity = f"{self.num:08x}{len(self.events):08x}"
        event = {"id": identity, "type": kind, "createdAt": now(), "author": {"name": author}, "data": dict(data)}
        self.events.append(event)
        return event


class Repo:
    """A repo: commits by id, refs by full name. Created with the Hub's own first commit, `.gitattributes`."""

    def __init__(self, kind: str, name: str, *, private: bool, author: str) -> None:
        self.kind, self.name, self.private, self.created = kind, name, private, now()
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.discussions: dict[int, Discussion] = {}
        self.objects: set[str] = set()
        self.commit_counts: Counter[str] = Counter()
        self._serial = itertools.count()
        first = {".gitattributes": regular_entry(GIT_ATTRIBUTES)}
        self.refs["refs/heads/main"] = self._record(None, first, ("initial commit", ""), author).id

    @property
    def namespace(self) -> str:
        return self.name.split("/")[0]

    def resolve(self, revision: str) -> Commit:
        """Return the commit of a branch, a tag, a full ref, or a commit id of 7 characters or more."""
        for ref in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if ref in self.refs:
                return self.commits[self.refs[ref]]
        if len(revision) >= 7:
            for identity, commit in self.commits.items():
                if identity.startswith(revision):
                    return commit
        raise no_revision(revision)

    def writable(self, revision: str) -> str:
        """Return the full name of a branch or pull request; tags and commits cannot be written to."""
        for ref in (f"refs/heads/{revision}", revision):
            if ref in self.refs and not ref.startswith("refs/tags/"):
                return ref
        raise no_revision(revision)

    def history(self, commit: Commit) -> list[Commit]:
        commits = [commit]
        while (parent := commits[-1].parent) is not None:
            commits.append(self.commits[parent])
        return commits

    def commit(
        self, ref: str, changes: Iterable[Change], *, text: tuple[str, str], author: str, parent: str | None = None
    ) -> Commit:
        """Add a commit to a ref; refused with 412 when `parent` is given and is not the head."""
        head = self.commits[self.refs[ref]]
        if parent is not None and not head.id.startswith(parent):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        commit = self._record(head.id, apply_changes(head.tree, changes), text, author)
        self._move(ref, commit)
        return commit

    def squash(self, branch: str, title: str, author: str) -> Commit:
        """Replace a branch's history by one commit of the same tree."""
        ref = f"refs/heads/{branch}"
        if ref not in self.refs:
            raise Refusal(400, f"Invalid reference for a branch: {branch}")
        commit = self._record(None, self.commits[self.refs[ref]].tree, (title, ""), author)
        self._move(ref, commit)
        return commit

    def create_ref(self, ref: str, start: Commit) -> None:
        if ref in self.refs:
            raise Refusal(409, "Reference already exists")
        self.refs[ref] = start.id

    def delete_ref(self, ref: str) -> None:
        if ref == "refs/heads/main":
            raise Refusal(403, "The default branch cannot be deleted")
        if ref not in self.refs:
            raise Refusal(404, f"Reference does not exist: {ref}", code="RevisionNotFound")
        del self.refs[ref]

    def discuss(self, title: str, author: str, *, text: str = "", pull: bool = False) -> Discussion:
        """Open a discussion, or a draft pull request that starts at main."""
        found = Discussion(len(self.discussions) + 1, title, author, "draft" if pull else "open", pull)
        self.discussions[found.num] = found
        found.record("comment", author, {"edited": False, "hidden": False, "latest": {"raw": text}, "history": []})
        if pull:
            self.fork(found, "refs/heads/main", self.resolve("main"))
        return found

    def fork(self, pull: Discussion, base: str, start: Commit) -> None:
        pull.base, pull.fork = base, start.id
        self.refs[pull.ref] = start.id

    def conflicts(self, pull: Discussion) -> list[str]:
        return self._merged(pull)[1]

    def merge(self, num: int, author: str) -> Commit:
        """Squash a pull request onto its base: one commit, so that readers see all of it or nothing."""
        pull = self.discussion(num)
        if not pull.pull or pull.status != "open":
            raise Refusal(400, f"Only an open pull request can be merged: #{num} is {pull.status}")
        tree, conflicts = self._merged(pull)
        if conflicts:
            raise Refusal(409, f"Pull request #{num} has conflicts in {', '.join(conflicts)}")
        commit = self._record(self.refs[pull.base], tree, (f"{pull.title} (#{num})", ""), author)
        self._move(pull.base, commit)
        pull.status, pull.merge_commit = "merged", commit.id
        pull.record("status-change", author, {"status": "merged"})
        return commit

    def discussion(self, num: int) -> Discussion:
        if num not in self.discussions:
            raise Refusal(404, f"Discussion #{num} does not exist")
        return self.discussions[num]

    def last_change(self, head: Commit, path: str) -> Commit:
        """Return the newest commit that changed a file, or anything below a folder."""
        commits = self.history(head)
        for newer, older in itertools.pairwise(commits):
            if _below(newer.tree, path) != _below(older.tree, path):
                return newer
        return commits[-1]

    def _merged(self, pull: Discussion) -> tuple[dict[str, Entry], list[str]]:
        fork, head, base = (self.commits[c].tree for c in (pull.fork, self.refs[pull.ref], self.refs[pull.base]))
        return merge_trees(fork, base, head)

    def _record(self, parent: str | None, tree: Mapping[str, Entry], text: tuple[str, str], author: str) -> Commit:
        files = "\n".join(f"{path} {entry.oid}" for path, entry in sorted(tree.items()))
        body = f"{self.kind} {self.name} {next(self._serial)} {parent} {text} {files}"
        commit = Commit(git_oid("commit", body.encode()), parent, tree, *text, author, now())
        self.commits[commit.id] = commit
        return commit

    def _move(self, ref: str, commit: Commit) -> None:
        self.refs[ref] = commit.id
        self.commit_counts[ref] += 1


def _below(tree: Mapping[str, Entry], path: str) -> dict[str, Entry]:
    return {name: entry for name, entry in tree.items() if name == path or name.startswith(f"{path}/")}


def listing(commit: Commit, folder: str, *, recursive: bool) -> list[tuple[str, Entry | None]]:
    """List a folder by path: files with their entry, folders with None; refused when the folder is not there."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, Entry | None] = {}
    for path, entry in commit.tree.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            found[prefix + "/".join(parts[:depth])] = None
        if recursive or len(parts) == 1:
            found[path] = entry
    if folder and not found:
        raise no_entry(folder, commit.id)
    return sorted(found.items())


def folder_oid(commit: Commit, folder: str) -> str:
    files = _below(commit.tree, folder)
    return git_oid("tree", "\n".join(f"{path} {entry.oid}" for path, entry in sorted(files.items())).encode())


class Store:
    """All repos, all blobs, all tokens, and the one lock that makes each call on them whole."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens: dict[str, Token] = {}
        self.keep(GIT_ATTRIBUTES)

    def keep(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.blobs[sha256] = content
        return sha256

    def create(self, kind: str, name: str, *, private: bool = False, author: str = "user") -> Repo:
        with self.lock:
            repo = self.repos[kind, name] = Repo(kind, name, private=private, author=author)
            return repo

    def repo(self, name: str, kind: str = "dataset") -> Repo:
        if (kind, name) not in self.repos:
            _not_found()
        return self.repos[kind, name]

    def add(self, repo: Repo, path: str, content: bytes) -> Add:
        """Keep a content and return the change that puts it at a path, as LFS or regular by the upload rule."""
        sha256 = self.keep(content)
        if not wants_lfs(path, content[:512], len(content)):
            return Add(path, regular_entry(content))
        repo.objects.add(sha256)
        return Add(path, lfs_entry(sha256, len(content)))

    def files(self, repo: Repo, revision: str = "main") -> dict[str, bytes]:
        """Return every file of a revision with its content."""
        with self.lock:
            return {path: self.blobs[entry.sha256] for path, entry in repo.resolve(revision).tree.items()}


def _not_found() -> NoReturn:
    raise Refusal(404, "Repository not found", code="RepoNotFound")
