"""The Hub's HTTP protocol as a function: a `Call` in, an `Answer` out, over a `hub_store.Store`.

This module finds out what is called and who calls, and answers for accounts and for LFS: uploads and downloads go
through a second origin with signed addresses. There too is Xet's storage, where the Hub has one (`hub_xet`).
`hub_routes` and `hub_edits` answer for what is in a repo. Knows nothing of sockets and of faults.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loopback_hub.buckets import Buckets
from loopback_hub.jobs import Jobs
from loopback_hub.store import Repo, Store, Token
from loopback_hub.trees import Refusal
from loopback_hub.wire import Answer, Call, as_error, as_json, card_errors, card_metadata, ranged
from loopback_hub.xet import PREFIX, Storage

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
REPO_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
UNKNOWN_PAGE = "Sorry, we can't find the page you are looking for."


@dataclass(slots=True)
class Upload:
    """A signed address for one object, with the parts that have arrived."""

    repo: Repo
    sha256: str
    size: int
    parts: dict[int, bytes] = field(default_factory=dict)


Handler = Callable[["Api", Call, Repo, list[str]], Answer]


class Routes(dict[tuple[str, str], Handler]):
    """Who answers `METHOD /api/<kind>s/<namespace>/<name>/<verb>/...`; a slash marks a page, not the API."""

    def on(self, method: str, verb: str) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self[method, verb] = handler
            return handler

        return register


class Api:
    """Answer calls on a store. `page_size` and `multipart_chunk` (None: one PUT a file) may be changed at any time.

    Without `xet` it is a Hub of before Xet: it has no tokens for it, and every file is LFS.
    """

    def __init__(
        self, store: Store, routes: Mapping[tuple[str, str], Handler], *, endpoint: str, storage: str, xet: bool = False
    ) -> None:
        self.store, self.routes, self.endpoint, self.storage = store, routes, endpoint, storage
        self.page_size = 1000
        self.multipart_chunk: int | None = None
        self.uploads: dict[str, Upload] = {}
        self.sent: Counter[str] = Counter()
        self.xet = Storage(store, f"{storage}/{PREFIX}") if xet else None
        self.buckets = Buckets()
        self.jobs = Jobs(endpoint, self.buckets)

    def answer(self, call: Call) -> Answer:
        """Carry a call out, whole: no other call is carried out meanwhile."""
        with self.store.lock:
            try:
                found = self._on_storage(call) if self._for_storage(call) else self._on_hub(call)
            except Refusal as refusal:
                found = as_error(refusal)
        return found

    def _for_storage(self, call: Call) -> bool:
        return f"//{call.headers.get('host', '')}" == self.storage.removeprefix("http:")

    def _on_hub(self, call: Call) -> Answer:
        segments = call.segments
        if segments[0] != "api":
            return self._on_pages(call, segments)
        if segments[1] in KINDS and len(segments) >= 4:
            repo = self.visible(call, KINDS[segments[1]], f"{segments[2]}/{segments[3]}")
            verb, rest = (segments[4], segments[5:]) if len(segments) > 4 else ("", [])
            handler = self.routes.get((call.method, verb))
            if handler is not None:
                return handler(self, call, repo, rest)
        elif segments[1] == "buckets" and len(segments) > 3:
            return self.buckets.answer(self, call, segments[2:])
        elif segments[1] == "jobs":
            return self._on_jobs(call, segments[2:])
        elif (call.method, call.raw_path) in FIXED:
            return FIXED[call.method, call.raw_path](self, call)
        raise Refusal(404, UNKNOWN_PAGE)

    def _on_jobs(self, call: Call, rest: list[str]) -> Answer:
        if rest != ["hardware"]:
            token = self._user(call)
            if rest[0] not in (token.user, *token.orgs) or token.role != "write":
                raise Refusal(403, f"Forbidden: you don't have the rights to run jobs under the namespace {rest[0]}")
        return self.jobs.answer(call, rest, self.page_size)

    def _on_pages(self, call: Call, segments: list[str]) -> Answer:
        kind = KINDS[segments.pop(0)] if segments[0] in KINDS else "model"
        if len(segments) >= 5 and segments[2] == "resolve" and call.method in ("GET", "HEAD"):
            repo = self.visible(call, kind, "/".join(segments[:2]))
            return self.routes["GET", "/resolve"](self, call, repo, segments[3:])
        if len(segments) > 3 and segments[1].endswith(".git") and call.method == "POST":
            repo = self.visible(call, kind, f"{segments[0]}/{segments[1].removesuffix('.git')}")
            self.contributor(call, repo)
            return self._lfs_batch(call, repo) if segments[-1] == "batch" else self._lfs_verify(call, repo)
        raise Refusal(404, UNKNOWN_PAGE)

    # Who is calling

    def _token(self, call: Call) -> Token | None:
        value = call.headers.get("authorization", "")
        if not value:
            return None
        token = self.store.tokens.get(value.removeprefix("Bearer "))
        if token is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return token

    def _user(self, call: Call) -> Token:
        token = self._token(call)
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        return token

    def visible(self, call: Call, kind: str, name: str) -> Repo:
        token, repo = self._token(call), self.store.repos.get((kind, name))
        if repo is not None and repo.private and (token is None or repo.namespace not in (token.user, *token.orgs)):
            repo = None
        if repo is None and token is None:
            raise Refusal(401, "Invalid username or password.", code="RepoNotFound")
        if repo is None:
            raise Refusal(404, "Repository not found", code="RepoNotFound")
        return repo

    def writer(self, call: Call, namespace: str) -> str:
        token = self._user(call)
        if token.role == "read":
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        if not token.may_write(namespace):
            raise Refusal(403, f"Forbidden: you don't have the rights to write under the namespace {namespace}")
        return token.user

    def contributor(self, call: Call, repo: Repo, ref: str = "refs/pr/") -> str:
        """Return who writes to a ref; whoever can see a repo and has a write token may write to pull requests."""
        token = self._user(call)
        if token.role == "write" and ref.startswith("refs/pr/"):
            return token.user
        return self.writer(call, repo.namespace)

    # Storage: a second origin, reached with signed addresses and never with a token

    def _on_storage(self, call: Call) -> Answer:
        if self.xet is not None and call.segments[0] == PREFIX:
            return self.xet.answer(call, call.segments[1:])
        if "authorization" in call.headers:
            raise Refusal(400, "Only one auth mechanism allowed; the address is signed and a token came as well")
        match call.method, call.segments:
            case "PUT", ["upload", ticket, part] if ticket in self.uploads:
                return self._receive(self.uploads[ticket], int(part), call.body)
            case (("GET" | "HEAD"), ["download", sha256]) if sha256 in self.store.blobs:
                return ranged(call, self.store.blobs[sha256], {"ETag": f'"{sha256}"'})
        raise Refusal(403, "Access denied: the address is not signed")

    def _receive(self, upload: Upload, part: int, content: bytes) -> Answer:
        if part == 0:
            self._finish(upload, content)
        upload.parts[part] = content
        return Answer(200, headers={"ETag": f'"{hashlib.md5(content).hexdigest()}"'})

    def _finish(self, upload: Upload, content: bytes) -> None:
        if len(content) != upload.size or hashlib.sha256(content).hexdigest() != upload.sha256:
            raise Refusal(400, f"The content is not the announced one: {upload.size} bytes of {upload.sha256}")
        self.store.keep(content)
        upload.repo.objects.add(upload.sha256)
        self.sent[upload.sha256] += 1

    def _lfs_batch(self, call: Call, repo: Repo) -> Answer:
        body = call.json()
        multipart = "multipart" in body.get("transfers", [])
        objects = [self._lfs_object(repo, item["oid"], item["size"], multipart) for item in body["objects"]]
        return as_json({"transfer": "basic", "objects": objects})

    def _lfs_object(self, repo: Repo, sha256: str, size: int, multipart: bool) -> dict[str, Any]:
        described = {"oid": sha256, "size": size, "authenticated": True}
        if sha256 in repo.objects:
            return described
        ticket = secrets.token_hex(16)
        self.uploads[ticket] = Upload(repo, sha256, size)
        upload: dict[str, Any] = {"href": f"{self.storage}/upload/{ticket}/0"}
        if multipart and self.multipart_chunk is not None and size > self.multipart_chunk:
            count = -(-size // self.multipart_chunk)
            parts = {str(n): f"{self.storage}/upload/{ticket}/{n}" for n in range(1, count + 1)}
            upload = {"href": f"{self.endpoint}/api/complete_multipart?ticket={ticket}"}
            upload["header"] = {"chunk_size": str(self.multipart_chunk), **parts}
        verify = {"href": f"{self.endpoint}{self.page(repo)}.git/info/lfs/objects/verify"}
        return {**described, "actions": {"upload": upload, "verify": verify}}

    def _lfs_verify(self, call: Call, repo: Repo) -> Answer:
        if call.json().get("oid") not in repo.objects:
            raise Refusal(404, "Object not found")
        return as_json({})

    def complete_multipart(self, call: Call) -> Answer:
        upload = self.uploads.get(call.query.get("ticket", [""])[0])
        if upload is None:
            raise Refusal(403, "Access denied: the address is not signed")
        wanted = [(part["partNumber"], part["etag"].strip('"')) for part in call.json()["parts"]]
        there = [(n, hashlib.md5(content).hexdigest()) for n, content in sorted(upload.parts.items())]
        if wanted != there:
            raise Refusal(400, "The parts that have arrived are not the announced ones")
        self._finish(upload, b"".join(upload.parts[n] for n, _ in there))
        return as_json({})

    # Account and repos

    def whoami(self, call: Call) -> Answer:
        token = self._user(call)
        orgs = [{"type": "org", "name": org, "roleInOrg": "write"} for org in token.orgs]
        access = {"displayName": "loopback", "role": token.role, "createdAt": "2024-01-01T00:00:00.000Z"}
        auth = {"type": "access_token", "accessToken": access}
        return as_json({"type": "user", "name": token.user, "fullname": token.user, "orgs": orgs, "auth": auth})

    def create_repo(self, call: Call) -> Answer:
        kind, name, body = self._named(call)
        author = self.writer(call, name.split("/")[0])
        url = self.endpoint + ("" if kind == "model" else f"/{kind}s") + f"/{name}"
        if (kind, name) in self.store.repos:
            raise Refusal(409, f"You already created this {kind} repo", extra={"url": url})
        if not all(REPO_NAME.fullmatch(part) for part in name.split("/")):
            raise Refusal(400, f"Invalid repo name: {name}")
        self.store.create(kind, name, private=body.get("visibility") == "private", author=author)
        return as_json({"url": url, "name": name, "private": body.get("visibility") == "private"})

    def delete_repo(self, call: Call) -> Answer:
        kind, name, _ = self._named(call)
        self.visible(call, kind, name)
        self.writer(call, name.split("/")[0])
        del self.store.repos[kind, name]
        return Answer(200, b"OK")

    def _named(self, call: Call) -> tuple[str, str, dict[str, Any]]:
        body = call.json()
        return (
            body.get("type") or "model",
            f"{body.get('organization') or self._user(call).user}/{body.get('name')}",
            body,
        )

    def validate_yaml(self, call: Call) -> Answer:
        content = str(call.json().get("content", "")).encode()
        errors = [{"message": message} for message in card_errors(content)]
        empty = not errors and not card_metadata(content)
        warnings = [{"message": "empty or missing yaml metadata in repo card"}] if empty else []
        return as_json({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    def page(self, repo: Repo) -> str:
        return ("" if repo.kind == "model" else f"/{repo.kind}s") + f"/{repo.name}"


FIXED: dict[tuple[str, str], Callable[[Api, Call], Answer]] = {
    ("GET", "/api/agent-harnesses"): lambda api, call: as_json({}),
    ("GET", "/api/whoami-v2"): Api.whoami,
    ("POST", "/api/repos/create"): Api.create_repo,
    ("DELETE", "/api/repos/delete"): Api.delete_repo,
    ("POST", "/api/validate-yaml"): Api.validate_yaml,
    ("POST", "/api/complete_multipart"): Api.complete_multipart,
}
