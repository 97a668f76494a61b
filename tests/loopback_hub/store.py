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

from loopback_hub.trees import (
    GIT_ATTRIBUTES,
    Add,
    Change,
    Entry,
    Refusal,
    apply_changes,
    below,
    git_oid,
    lfs_entry,
    merge_trees,
    no_revision,
    regular_entry,
    wants_lfs,
)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token: who it belongs to and its role (`write`, `read`, or `fineGrained` without any right)."""

    user: str
    role: str
    orgs: tuple[str, ...] = ()

    def may_write(self, namespace: str) -> bool:
        return self.role == "write" and namespace in (self.user, *self.orgs)


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


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


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
            if below(newer.tree, path) != below(older.tree, path):
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
