"""One repo on the Hub, as this project uses it. The one module that imports HfApi.

Every reading call is tried again by `retrying`; commits are not, for only their caller can tell whether one has
happened. Knows nothing of corpora and cards.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoCard,
    get_session,
    get_token,
    hf_hub_url,
)
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from hfsynth.core.errors import HubError
from hfsynth.core.private_names import (
    ask_upload_modes,
    note_stored,
    retried_statuses,
    storage_token_url,
    waits_for_storage,
)
from hfsynth.core.remote_calls import OnRetry, no_right, no_storage, retrying
from hfsynth.core.store_paths import StorePath
from hfsynth.publishing import xet
from hfsynth.publishing.plan import Entry, LocalFile, Snapshot

T = TypeVar("T")
OnBytes = Callable[[int], None]
_UNIT_FILES, _UNIT_BYTES = 64, 256 * 2**20
_FOOTER = 2**16
_ASKED_PATHS = 100
_SAMPLE = 512  # bytes by which the Hub tells texts from other contents


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request by its number and the ref that holds its commits."""

    number: int
    url: str
    status: str

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"


@dataclass(frozen=True, slots=True)
class Change:
    """A commit that changed a file: who made it, and when."""

    commit: str
    authors: tuple[str, ...]
    time: datetime


class HubRepo:
    """A repo and who talks to it. Every call raises what huggingface_hub raises, after the last attempt."""

    def __init__(self, repo: str, kind: str, *, timeout: float, on_retry: OnRetry = lambda reason: None) -> None:
        self.repo, self.kind = repo, kind
        self.token = get_token()
        self._api = HfApi(token=self.token)
        self._timeout, self._on_retry = timeout, on_retry
        self._where: dict[str, Any] = {"repo_id": repo, "repo_type": kind}
        self._operations: dict[tuple[str, str], CommitOperationAdd] = {}

    @property
    def url(self) -> str:
        return f"{self._api.endpoint}/{'' if self.kind == 'model' else self.kind + 's/'}{self.repo}"

    def call(self, function: Callable[[], T]) -> T:
        """Call a function until it works, as `retrying` says."""
        return retrying(self._timeout, self._on_retry)(partial(_at_once, function))

    # Who and what

    def role(self) -> str:
        """Return the role of the token: `read`, `write`, or another word of the Hub's."""
        return str(self.call(self._api.whoami).get("auth", {}).get("accessToken", {}).get("role", ""))

    def user(self) -> str:
        """Return the name of whose token it is."""
        return str(self.call(self._api.whoami).get("name", ""))

    def visibility(self, kind: str | None = None) -> str | None:
        """Return "public" or "private" for the repo of its kind or another; None where there is none."""
        try:
            found: Any = self.call(lambda: self._api.repo_info(self.repo, repo_type=kind or self.kind))
        except RepositoryNotFoundError:
            return None
        return "private" if found.private else "public"

    def check_write(self) -> None:
        """Raise where the token may not write."""
        self.call(lambda: self._api.auth_check(**self._where, write=True))

    def create(self, *, private: bool) -> None:
        """Create the repo; one that is there by now is as good."""
        sdk: dict[str, Any] = {"space_sdk": "gradio"} if self.kind == "space" else {}
        self.call(lambda: self._api.create_repo(**self._where, **sdk, private=private, exist_ok=True))

    def ensure_branch(self, branch: str) -> None:
        """Create a branch from main where it is missing."""
        try:
            self.head(branch)
        except RevisionNotFoundError:
            self.call(lambda: self._api.create_branch(**self._where, branch=branch, exist_ok=True))

    # Reading

    def head(self, revision: str) -> str:
        """Return the commit that a revision stands for now."""
        return str(self.call(lambda: self._api.repo_info(**self._where, revision=revision)).sha)

    def snapshot(self, revision: str) -> Snapshot:
        """Return one state of the repo, whatever happens meanwhile."""
        commit = self.head(revision)
        tree = self.tree(commit)
        return Snapshot(commit, tree, self.read("README.md", commit).decode() if "README.md" in tree else None)

    def tree(self, revision: str) -> dict[str, Entry]:
        """Return every file of a revision."""
        found = self.call(lambda: list(self._api.list_repo_tree(**self._where, revision=revision, recursive=True)))
        files = [item for item in found if isinstance(item, RepoFile)]
        return {file.path: Entry(file.size, file.blob_id, file.lfs.sha256 if file.lfs else None) for file in files}

    def read(self, path: str, revision: str) -> bytes:
        """Return a file's content."""
        return self.call(lambda: self._get(path, revision))

    def changes_of(self, paths: Sequence[str], revision: str) -> dict[str, Change]:
        """Return of each path the commit that changed it last, as of a revision."""
        last: dict[str, str] = {}
        for start in range(0, len(paths), _ASKED_PATHS):
            asked: dict[str, Any] = {"paths": list(paths[start : start + _ASKED_PATHS]), "expand": True}
            found = self.call(partial(self._api.get_paths_info, revision=revision, **asked, **self._where))
            last |= {item.path: item.last_commit.oid for item in found if item.last_commit is not None}
        commits = self.call(lambda: self._api.list_repo_commits(**self._where, revision=revision))
        known = {made.commit_id: Change(made.commit_id, tuple(made.authors), made.created_at) for made in commits}
        return {path: known[commit] for path, commit in last.items() if commit in known}

    def footer(self, path: str, size: int, revision: str) -> Any:  # noqa: ANN401
        """Return the footer of a Parquet file, without the rest of the file."""
        tail = self.call(lambda: self._get(path, revision, size - _FOOTER if size > _FOOTER else 0))
        needed = int.from_bytes(tail[-8:-4], "little") + 8
        if needed > len(tail):
            tail = self.call(lambda: self._get(path, revision, size - needed))
        return pq.read_metadata(pa.BufferReader(tail))

    def _get(self, path: str, revision: str, start: int = 0) -> bytes:
        url = hf_hub_url(self.repo, path, repo_type=self.kind, revision=revision, endpoint=self._api.endpoint)
        headers = {**build_hf_headers(token=self.token), **({"Range": f"bytes={start}-"} if start else {})}
        response = get_session().get(url, headers=headers, follow_redirects=True)
        hf_raise_for_status(response)
        return bytes(response.content)

    # Writing

    def validate(self, card: str) -> None:
        """Raise HubError where the Hub would not take a card."""
        parsed = RepoCard(card, ignore_metadata_errors=False)
        # Not by `call`: huggingface_hub repeats nothing here, and its handler takes for granted that the request
        # returned an answer; raised within the request, as `_at_once` does, a 429 would become an UnboundLocalError.
        try:
            retrying(self._timeout, self._on_retry)(partial(parsed.validate, repo_type=self.kind))
        except ValueError as error:
            raise HubError(
                f"The Hub does not accept the card: {error}", hint="Correct it: hfsynth card --help"
            ) from error

    def upload(self, files: Mapping[str, LocalFile], revision: str, *, pull: bool, on_bytes: OnBytes) -> None:
        """Send the contents that the repo does not have yet; nothing becomes visible. Each content goes once."""
        waiting: dict[str, CommitOperationAdd] = {}
        sizes: dict[str, int] = {}
        for path, file in files.items():
            if file.sha256 not in sizes:
                waiting[file.sha256] = self._operation(path, file)
            sizes[file.sha256] = sizes.get(file.sha256, 0) + file.size
        for unit in _units(list(waiting.values())):
            size = sum(sizes[operation.upload_info.sha256.hex()] for operation in unit)
            told = xet.BytesTold(size, on_bytes)
            self._send(unit, revision, pull, told)
            told.finish()

    def _send(self, unit: list[CommitOperationAdd], revision: str, pull: bool, told: xet.BytesTold) -> None:
        """Send a unit, by Xet where there is Xet: what fails is sent again, without what is stored by then."""
        where: dict[str, Any] = {**self._where, "revision": revision, "create_pr": pull}
        if not xet.is_available():
            given = {**where, "additions": unit, "free_memory": False}
            self.call(partial(_told, partial(self._api.preupload_lfs_files, **given), unit))
            return
        self.call(partial(self._announce, unit, revision, pull))
        sent = [one for one in unit if waits_for_storage(one)]
        if sent:
            contents = [xet.Upload(_source(one), one.upload_info.sha256.hex()) for one in sent]
            self.call(partial(self._send_by_xet, contents, None if pull else revision, told))
        for operation in sent:
            note_stored(operation)

    def _announce(self, unit: list[CommitOperationAdd], revision: str, pull: bool) -> None:
        """Ask which files belong into the storage; the operations remember it."""
        headers, where = build_hf_headers(token=self.token), (self.repo, self.kind, revision)
        ask_upload_modes(unit, where=where, headers=headers, endpoint=self._api.endpoint, pull=pull)

    def _send_by_xet(self, contents: Sequence[xet.Upload], revision: str | None, told: xet.BytesTold) -> None:
        told.begin()
        xet.send(contents, self._access(revision), patience=self._timeout, on_bytes=told.more)

    def _access(self, revision: str | None) -> xet.Access:
        """Ask for a token to write to the storage; `revision` is None for a pull request that is not there yet."""
        headers = build_hf_headers(token=self.token)
        url = storage_token_url(self.repo, self.kind, revision=revision, endpoint=self._api.endpoint)
        response = get_session().get(url, headers=headers)
        if response.status_code == 403:
            raise no_right(self.repo)
        if response.status_code == 404:
            raise no_storage(self.repo)
        hf_raise_for_status(response)
        found = response.json()
        return xet.Access(found["casUrl"], found["accessToken"], int(found["exp"]), url, headers)

    def commit(
        self, files: Mapping[str, LocalFile], deletes: Sequence[str], *, message: str, revision: str, parent: str
    ) -> str:
        """Commit on top of `parent` and return the new commit; refused with 412 where `parent` is not the head.

        Tried once. When the connection breaks nobody knows whether it happened: look at the head.
        """
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        operations += [self._operation(path, file) for path, file in files.items()]
        operations += [CommitOperationDelete(path, is_folder=False) for path in deletes]
        where: dict[str, Any] = {**self._where, "revision": revision, "parent_commit": parent}
        make = partial(self._api.create_commit, operations=operations, commit_message=message, **where)
        made: Any = _told(partial(_at_once, make), operations)
        for path, file in files.items():
            self._operations.pop((path, file.sha256))  # huggingface_hub takes an operation once
        return str(made.oid)

    def _operation(self, path: str, file: LocalFile) -> CommitOperationAdd:
        """Return the operation for a file; it remembers that its content was sent."""
        key = (path, file.sha256)
        if key not in self._operations:
            operation = _added(path, file)
            operation.upload_info.sha256 = bytes.fromhex(file.sha256)
            self._operations[key] = operation
        return self._operations[key]

    # Tags and pull requests

    def tags(self) -> dict[str, str]:
        """Return the tags and the commits they stand for."""
        found = self.call(lambda: self._api.list_repo_refs(**self._where))
        return {tag.name: tag.target_commit for tag in found.tags}

    def tag(self, name: str, commit: str) -> None:
        """Tag a commit."""
        self.call(lambda: self._api.create_tag(**self._where, tag=name, revision=commit, exist_ok=True))

    def pull_request(self, title: str, description: str) -> PullRequest:
        """Return the pull request of this title; open a draft where there is none."""
        return self.call(lambda: self._found_pull(title) or self._new_pull(title, description))

    def _found_pull(self, title: str) -> PullRequest | None:
        found = self._api.get_repo_discussions(**self._where, discussion_type="pull_request", discussion_status="open")
        return next((self._pull(item.num, item.status) for item in found if item.title == title), None)

    def _new_pull(self, title: str, description: str) -> PullRequest:
        made = self._api.create_pull_request(self.repo, title, description=description, repo_type=self.kind)
        return self._pull(made.num, made.status)

    def _pull(self, number: int, status: str) -> PullRequest:
        return PullRequest(number, f"{self.url}/discussions/{number}", status)

    def set_status(self, pull: PullRequest, status: str) -> None:
        """Open a draft for others to see, or close a pull request."""
        if status != pull.status:
            change: Any = self._api.change_discussion_status
            self.call(lambda: change(self.repo, pull.number, status, repo_type=self.kind))

    def merge(self, pull: PullRequest) -> None:
        """Merge a pull request. Tried once, as commits are."""
        self._api.merge_pull_request(self.repo, pull.number, repo_type=self.kind)


@contextmanager
def no_bars() -> Iterator[None]:
    """Keep huggingface_hub's own progress bars away."""
    shown = not are_progress_bars_disabled()
    if shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def card_metadata(repo: str, kind: str, revision: str | None) -> dict[str, Any]:
    """Return the metadata of a repo's card; raise what huggingface_hub raises."""
    info = HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=10)
    data = getattr(info, "card_data", None)
    return dict(data.to_dict()) if data else {}


def _told(send: Callable[[], T], operations: Iterable[CommitOperationAdd | CommitOperationDelete]) -> T:
    """Send, and raise what the Hub or its storage answered: huggingface_hub hides some of it in errors of its own.

    It leaves an open file where a failure came upon it, so that is wound back first.
    """
    for operation in operations:
        if isinstance(operation, CommitOperationAdd) and isinstance(operation.path_or_fileobj, io.BufferedReader):
            operation.path_or_fileobj.seek(0)
    try:
        return send()
    except HfHubHTTPError:
        raise
    except (RuntimeError, ValueError) as error:
        if isinstance(error.__cause__, (HfHubHTTPError, httpx2.TransportError)):
            raise error.__cause__ from error
        raise HubError(f"The Hub refused what was sent: {error}", hint="Nothing visible has changed.") from error


def _at_once(function: Callable[[], T]) -> T:
    """Call a function with huggingface_hub's own repetitions off: when and how long to wait is decided here, and told.

    Other threads keep theirs, but for those that put files for this one.
    """
    client, thread, statuses = get_session(), get_ident(), retried_statuses()

    def refuse(response: httpx2.Response) -> None:
        ours = get_ident() == thread or response.request.method == "PUT"
        if ours and response.status_code in statuses:
            response.read()
            hf_raise_for_status(response)

    hooks = client.event_hooks["response"]
    hooks.append(refuse)
    try:
        return function()
    finally:
        hooks.remove(refuse)


def _added(path: str, file: LocalFile) -> CommitOperationAdd:
    if not isinstance(file.source, StorePath):
        return CommitOperationAdd(path, file.source)
    opened = file.source.open("rb")
    operation = CommitOperationAdd(path, opened.read(_SAMPLE))  # for the whole it would read the file once more
    operation.upload_info.size = file.size
    operation.path_or_fileobj = opened
    opened.seek(0)
    return operation


def _source(operation: CommitOperationAdd) -> Path | bytes | io.BufferedReader:
    source = operation.path_or_fileobj
    return source if isinstance(source, bytes | io.BufferedReader) else Path(str(source))


def _units(operations: Sequence[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    """Cut into groups that are announced and registered at once; a kill costs at most the registering of one."""
    unit: list[CommitOperationAdd] = []
    size = 0
    for operation in operations:
        unit.append(operation)
        size += operation.upload_info.size
        if len(unit) == _UNIT_FILES or size >= _UNIT_BYTES:
            yield unit
            unit, size = [], 0
    if unit:
        yield unit
