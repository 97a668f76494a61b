"""What the Hub does for a writer of a repo: uploads announced, commits, branches, tags, settings, pull requests.

Each function answers one route, found in `WRITING`, in the shapes that huggingface_hub 2.4 sends and parses.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Mapping
from typing import Any

from loopback_hub.api import UNKNOWN_PAGE, Api, Routes
from loopback_hub.store import Commit, Discussion, Repo
from loopback_hub.trees import Add, Change, Entry, Refusal, Remove, apply_changes, lfs_entry, regular_entry, wants_lfs
from loopback_hub.wire import Answer, Call, as_json, card_errors

PREUPLOAD_LIMIT = 256
WRITING = Routes()


@WRITING.on("PUT", "settings")
def settings(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    repo.private = call.json().get("visibility", "private" if repo.private else "public") == "private"
    return as_json({"private": repo.private})


@WRITING.on("GET", "xet-write-token")
def xet_write_token(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    if api.xet is None:
        raise Refusal(404, UNKNOWN_PAGE)
    api.contributor(call, repo, "refs/pr/" if call.flag("create_pr") else repo.writable(rest[0]))
    return api.xet.token(repo, write=True)


@WRITING.on("POST", "preupload")
def preupload(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.contributor(call, repo, "refs/pr/" if call.flag("create_pr") else repo.writable(rest[0]))
    body, tree = call.json(), repo.resolve(rest[0]).tree
    files = body.get("files", [])
    if len(files) > PREUPLOAD_LIMIT:
        raise Refusal(400, f"At most {PREUPLOAD_LIMIT} files at once, not {len(files)}")
    ignored = body.get("gitIgnore")
    if ignored is None and ".gitignore" in tree:
        ignored = api.store.blobs[tree[".gitignore"].sha256].decode()
    return as_json(
        {
            "files": [_upload_mode(item, tree, ignored or "") for item in files],
            "commitOid": repo.resolve(rest[0]).id,
        }
    )


@WRITING.on("POST", "commit")
def commit(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    header, changes = _changes(api, call, repo)
    text = (str(header.get("summary", "")), str(header.get("description", "")))
    parent, ref = header.get("parentCommit"), repo.writable(rest[0])
    if not call.flag("create_pr"):
        author = api.contributor(call, repo, ref)
        commit = repo.commit(ref, changes, text=text, author=author, parent=parent)
        return as_json(_committed(api, repo, commit))
    url, commit = _open_pull(api, call, repo, ref, repo.resolve(parent or rest[0]), changes, text)
    return as_json({**_committed(api, repo, commit), "pullRequestUrl": url})


def _open_pull(
    api: Api, call: Call, repo: Repo, base: str, start: Commit, changes: list[Change], text: tuple[str, str]
) -> tuple[str, Commit]:
    """Open a pull request that holds the changes; leave nothing behind when they cannot be applied."""
    author = api.contributor(call, repo)
    apply_changes(start.tree, changes)
    pull = repo.discuss(text[0], author, text=text[1], pull=True)
    repo.fork(pull, base, start)
    commit = repo.commit(pull.ref, changes, text=text, author=author)
    pull.status = "open"
    pull.record("commit", author, {"subject": text[0], "oid": commit.id})
    return f"{api.endpoint}{api.page(repo)}/discussions/{pull.num}", commit


def _committed(api: Api, repo: Repo, commit: Commit) -> dict[str, Any]:
    url = f"{api.endpoint}{api.page(repo)}/commit/{commit.id}"
    return {"success": True, "commitOid": commit.id, "commitUrl": url, "hookOutput": ""}


def _changes(api: Api, call: Call, repo: Repo) -> tuple[dict[str, Any], list[Change]]:
    try:
        lines = [json.loads(line) for line in call.body.splitlines() if line.strip()]
        (first, header), *operations = ((line["key"], line["value"]) for line in lines)
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(400, f"Invalid NDJSON: {error}") from error
    if first != "header" or not str(header.get("summary", "")).strip():
        raise Refusal(400, "The first line must be a header with a summary")
    return header, [_change(api, repo, key, value) for key, value in operations]


def _change(api: Api, repo: Repo, key: str, value: Mapping[str, Any]) -> Change:
    match key:
        case "file":
            return _regular(api, str(value["path"]), str(value["content"]))
        case "lfsFile":
            return Add(value["path"], _stored(api, repo, value))
        case "deletedFile":
            return Remove(value["path"])
        case "deletedFolder":
            return Remove(value["path"], folder=True)
    raise Refusal(400, f"Unknown operation: {key}")


def _regular(api: Api, path: str, encoded: str) -> Add:
    try:
        content = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise Refusal(400, f"Invalid base64 for {path}: {error}") from error
    if content and wants_lfs("", b"", len(content)):
        raise Refusal(400, f"{path} is over 10 MB and must go through LFS")
    if path == "README.md" and (errors := card_errors(content)):
        raise Refusal(400, f"Invalid metadata in README.md: {'; '.join(errors)}")
    api.store.keep(content)
    return Add(path, regular_entry(content))


def _stored(api: Api, repo: Repo, value: Mapping[str, Any]) -> Entry:
    sha256 = str(value["oid"])
    if sha256 not in repo.objects:
        raise Refusal(400, f"Your push was rejected: the LFS pointer of {value['path']} points to no uploaded file")
    size = len(api.store.blobs[sha256])
    if value.get("size", size) != size:
        raise Refusal(400, f"{value['path']} has {size} bytes, not {value['size']}")
    return lfs_entry(sha256, size)


@WRITING.on("POST", "branch")
def create_branch(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    if rest[0].startswith("refs/"):
        raise Refusal(400, f"Invalid reference for a branch: {rest[0]}")
    repo.create_ref(f"refs/heads/{rest[0]}", repo.resolve(call.json().get("startingPoint") or "main"))
    return as_json({})


@WRITING.on("DELETE", "branch")
def delete_branch(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    repo.delete_ref(f"refs/heads/{rest[0]}")
    return as_json({})


@WRITING.on("POST", "tag")
def create_tag(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    repo.create_ref(f"refs/tags/{call.json()['tag']}", repo.resolve(rest[0]))
    return as_json({})


@WRITING.on("DELETE", "tag")
def delete_tag(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    repo.delete_ref(f"refs/tags/{rest[0]}")
    return as_json({})


@WRITING.on("POST", "super-squash")
def super_squash(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    repo.squash(rest[0], str(call.json().get("message", "")), api.writer(call, repo.namespace))
    return as_json({})


@WRITING.on("POST", "discussions")
def change_discussions(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    author, body = api.contributor(call, repo), call.json()
    match rest:
        case []:
            text, pull = str(body.get("description", "")), bool(body.get("pullRequest"))
            found = repo.discuss(str(body["title"]), author, text=text, pull=pull)
            return as_json({"num": found.num, "pullRequest": pull})
        case [num, "merge"]:
            repo.merge(int(num), api.writer(call, repo.namespace))
            return as_json({})
        case [num, "status"]:
            return as_json({"newStatus": _set_status(api, repo, repo.discussion(int(num)), author, body["status"])})
        case [num, "comment"]:
            data = {"edited": False, "hidden": False, "latest": {"raw": body["comment"]}, "history": []}
            return as_json({"newMessage": repo.discussion(int(num)).record("comment", author, data)})
        case [num, "title"]:
            found = repo.discussion(int(num))
            event = found.record("title-change", author, {"from": found.title, "to": body["title"]})
            found.title = body["title"]
            return as_json({"newTitle": event})
    raise Refusal(404, UNKNOWN_PAGE)


def _set_status(api: Api, repo: Repo, found: Discussion, author: str, status: str) -> dict[str, Any]:
    if found.status == "merged" or status not in ("open", "closed"):
        raise Refusal(400, f"The status cannot change from {found.status} to {status}")
    found.status = status
    return found.record("status-change", author, {"status": status})


def _upload_mode(item: Mapping[str, Any], tree: Mapping[str, Entry], ignored: str) -> dict[str, Any]:
    path = str(item["path"])
    lfs = wants_lfs(path, base64.b64decode(item.get("sample", "")), int(item["size"]))
    answer = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": _ignores(ignored, path)}
    return {**answer, "oid": tree[path].etag} if path in tree else answer


def _ignores(gitignore: str, path: str) -> bool:
    patterns = [line.strip().rstrip("/") for line in gitignore.splitlines() if line.strip() and line[0] != "#"]
    parts = [path, *path.split("/")]
    return any(fnmatch.fnmatch(part, pattern.lstrip("/")) for part in parts for pattern in patterns)
