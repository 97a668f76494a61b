"""What the Hub answers about a repo: info, tree, files, refs, commits, discussions and pull requests.

Each function answers one route, found in `ROUTES`, in the shapes that huggingface_hub 2.4 sends and parses.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from hub_api import UNKNOWN_PAGE, Api, Handler
from hub_store import (
    Add,
    Change,
    Commit,
    Discussion,
    Entry,
    Refusal,
    Remove,
    Repo,
    folder_oid,
    lfs_entry,
    listing,
    no_entry,
    regular_entry,
    wants_lfs,
)
from hub_wire import Answer, Call, as_json, card_errors, card_metadata, ranged

PREUPLOAD_LIMIT = 256
EXPANDED_PAGE = 50
DISCUSSIONS_PAGE = 10


ROUTES: dict[tuple[str, str], Handler] = {}


def route(method: str, verb: str) -> Callable[[Handler], Handler]:
    """Register what answers `METHOD /api/<kind>s/<namespace>/<name>/<verb>/...`; a slash marks a page, not the API."""

    def register(handler: Handler) -> Handler:
        ROUTES[method, verb] = handler
        return handler

    return register


@route("GET", "")
def info(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    return as_json(_info(api, repo, rest[0] if rest else "main", blobs=call.flag("blobs")))


@route("GET", "revision")
def revision_info(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    return info(api, call, repo, rest)


def _info(api: Api, repo: Repo, revision: str, *, blobs: bool) -> dict[str, Any]:
    commit = repo.resolve(revision)
    card = commit.tree.get("README.md")
    found = card_metadata(api.store.blobs[card.sha256]) if card else {}
    data = found if isinstance(found, dict) else {}
    siblings = [_sibling(api, path, entry, blobs) for path, entry in sorted(commit.tree.items())]
    return {
        "_id": repo.refs["refs/heads/main"][:24],
        "id": repo.name,
        "author": repo.namespace,
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": repo.created,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": data.get("tags") or [],
        "cardData": data,
        "siblings": siblings,
    }


def _sibling(api: Api, path: str, entry: Entry, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    described = {"rfilename": path, "size": entry.size, "blobId": entry.oid}
    lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return {**described, "lfs": lfs} if entry.lfs else described


@route("PUT", "settings")
def settings(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    repo.private = call.json().get("visibility", "private" if repo.private else "public") == "private"
    return as_json({"private": repo.private})


@route("GET", "auth-check")
def auth_check(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    if rest == ["write"]:
        api.writer(call, repo.namespace)
    return as_json({})


@route("GET", "tree")
def tree(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    commit, expand = repo.resolve(rest[0]), call.flag("expand")
    items = listing(commit, "/".join(rest[1:]), recursive=call.flag("recursive"))
    size = min(api.page_size, EXPANDED_PAGE) if expand else api.page_size
    # The next page names the commit, so that a listing never mixes two states.
    path = f"/api/{repo.kind}s/{repo.name}/tree/{commit.id}" + "".join(f"/{quote(part)}" for part in rest[1:])
    page, headers = _page_of(api, call, items, size, path)
    return as_json([_item(api, repo, commit, path, entry, expand) for path, entry in page], headers=headers)


@route("POST", "paths-info")
def paths_info(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    form = parse_qs(call.body.decode())
    commit, expand = repo.resolve(rest[0]), form.get("expand", [""])[0].lower() == "true"
    everything = dict(listing(commit, "", recursive=True))
    paths = [path.rstrip("/") for path in form.get("paths", [])]
    return as_json([_item(api, repo, commit, p, everything[p], expand) for p in paths if p in everything])


def _item(api: Api, repo: Repo, commit: Commit, path: str, entry: Entry | None, expand: bool) -> dict[str, Any]:
    if entry is None:
        item: dict[str, Any] = {"type": "directory", "oid": folder_oid(commit, path), "size": 0, "path": path}
    else:
        item = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
        if entry.lfs:
            item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    if expand:
        last = repo.last_change(commit, path)
        item["lastCommit"] = {"id": last.id, "title": last.title, "date": last.date}
    return item


def _page_of(api: Api, call: Call, items: Sequence[Any], size: int, path: str) -> tuple[Sequence[Any], dict[str, str]]:
    start = int(call.query.get("cursor", ["0"])[0])
    if start + size >= len(items):
        return items[start:], {}
    query = {**{key: values[-1] for key, values in call.query.items()}, "cursor": str(start + size)}
    return items[start : start + size], {"Link": f'<{api.endpoint}{path}?{urlencode(query)}>; rel="next"'}


@route("GET", "/resolve")
def resolve(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    if rest[0] == "refs" and len(rest) > 3:
        rest = ["/".join(rest[:3]), *rest[3:]]
    commit, path = repo.resolve(rest[0]), "/".join(rest[1:])
    entry = commit.tree.get(path)
    headers = {"X-Repo-Commit": commit.id}
    if entry is None:
        refusal = no_entry(path, rest[0])
        refusal.headers = headers
        raise refusal
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(path.split('/')[-1])}"
    if not entry.lfs:
        return ranged(call, api.store.blobs[entry.sha256], {**headers, "ETag": f'"{entry.oid}"'})
    headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    return Answer(302, b"Found", {**headers, "Location": f"{api.storage}/download/{entry.sha256}"})


@route("GET", "commits")
def commits(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    head = repo.resolve(rest[0])
    path = f"/api/{repo.kind}s/{repo.name}/commits/{head.id}"
    page, headers = _page_of(api, call, repo.history(head), api.page_size, path)
    return as_json([_commit_info(commit) for commit in page], headers=headers)


@route("GET", "refs")
def refs(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    def named(prefix: str) -> list[dict[str, str]]:
        names = [ref for ref in sorted(repo.refs) if ref.startswith(prefix)]
        short = {ref: ref if prefix == "refs/pr/" else ref.removeprefix(prefix) for ref in names}
        return [{"name": short[ref], "ref": ref, "targetCommit": repo.refs[ref]} for ref in names]

    found = {"branches": named("refs/heads/"), "tags": named("refs/tags/"), "converts": named("refs/convert/")}
    if call.flag("include_prs"):
        found["pullRequests"] = named("refs/pr/")
    return as_json(found)


@route("POST", "preupload")
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


@route("POST", "commit")
def commit(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    header, changes = _changes(api, call, repo)
    text = (str(header.get("summary", "")), str(header.get("description", "")))
    parent, ref = header.get("parentCommit"), repo.writable(rest[0])
    if not call.flag("create_pr"):
        author = api.contributor(call, repo, ref)
        commit = repo.commit(ref, changes, text=text, author=author, parent=parent)
        return as_json(_committed(api, repo, commit))
    author = api.contributor(call, repo)
    start = repo.resolve(parent or rest[0])
    pull = repo.discuss(text[0], author, text=text[1], pull=True)
    repo.fork(pull, ref, start)
    try:
        commit = repo.commit(pull.ref, changes, text=text, author=author)
    except Refusal:
        del repo.discussions[pull.num], repo.refs[pull.ref]
        raise
    pull.status = "open"
    pull.record("commit", author, {"subject": text[0], "oid": commit.id})
    url = f"{api.endpoint}{api.page(repo)}/discussions/{pull.num}"
    return as_json({**_committed(api, repo, commit), "pullRequestUrl": url})


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


@route("POST", "branch")
def create_branch(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    if rest[0].startswith("refs/"):
        raise Refusal(400, f"Invalid reference for a branch: {rest[0]}")
    repo.create_ref(f"refs/heads/{rest[0]}", repo.resolve(call.json().get("startingPoint") or "main"))
    return as_json({})


@route("DELETE", "branch")
def delete_branch(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    repo.delete_ref(f"refs/heads/{rest[0]}")
    return as_json({})


@route("POST", "tag")
def create_tag(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    repo.create_ref(f"refs/tags/{call.json()['tag']}", repo.resolve(rest[0]))
    return as_json({})


@route("DELETE", "tag")
def delete_tag(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    api.writer(call, repo.namespace)
    repo.delete_ref(f"refs/tags/{rest[0]}")
    return as_json({})


@route("POST", "super-squash")
def super_squash(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    repo.squash(rest[0], str(call.json().get("message", "")), api.writer(call, repo.namespace))
    return as_json({})


@route("GET", "discussions")
def discussions(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    if rest:
        return as_json(_details(api, repo, repo.discussion(int(rest[0]))))
    wanted = [d for d in reversed(repo.discussions.values()) if _wanted(d, call.query)]
    start = int(call.query.get("p", ["0"])[0]) * DISCUSSIONS_PAGE
    page = [_summary(api, repo, found) for found in wanted[start : start + DISCUSSIONS_PAGE]]
    return as_json({"discussions": page, "count": len(wanted), "start": start})


@route("POST", "discussions")
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


def _summary(api: Api, repo: Repo, found: Discussion) -> dict[str, Any]:
    owner = {"name": repo.name, "type": repo.kind}
    named = {"num": found.num, "title": found.title, "author": {"name": found.author}, "repo": owner}
    return {**named, "createdAt": found.created, "status": found.status, "isPullRequest": found.pull}


def _details(api: Api, repo: Repo, found: Discussion) -> dict[str, Any]:
    details = {**_summary(api, repo, found), "events": found.events}
    if not found.pull:
        return details
    changes = {"base": found.base, "mergeCommitId": found.merge_commit}
    conflicts = repo.conflicts(found) if found.status != "merged" else []
    return {**details, "changes": changes, "filesWithConflicts": conflicts, "diff": _diff(api, repo, found)}


def _diff(api: Api, repo: Repo, pull: Discussion) -> str:
    old, new = repo.commits[pull.fork].tree, repo.commits[repo.refs[pull.ref]].tree
    lines = []
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            before, after = (_text(api, tree.get(path)) for tree in (old, new))
            lines.append(f"diff --git a/{path} b/{path}")
            lines += difflib.unified_diff(before, after, f"a/{path}", f"b/{path}", lineterm="")
    return "\n".join(lines)


def _text(api: Api, entry: Entry | None) -> list[str]:
    if entry is None:
        return []
    if entry.lfs:
        return [f"oid sha256:{entry.sha256}", f"size {entry.size}"]
    return api.store.blobs[entry.sha256].decode("utf-8", "replace").splitlines()


def _commit_info(commit: Commit) -> dict[str, Any]:
    authors = [{"user": commit.author}]
    formatted = {"title": commit.title, "message": commit.message}
    return {"id": commit.id, "date": commit.date, "authors": authors, "formatted": formatted, **formatted}


def _upload_mode(item: Mapping[str, Any], tree: Mapping[str, Entry], ignored: str) -> dict[str, Any]:
    path = str(item["path"])
    lfs = wants_lfs(path, base64.b64decode(item.get("sample", "")), int(item["size"]))
    answer = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": _ignores(ignored, path)}
    return {**answer, "oid": tree[path].etag} if path in tree else answer


def _ignores(gitignore: str, path: str) -> bool:
    patterns = [line.strip().rstrip("/") for line in gitignore.splitlines() if line.strip() and line[0] != "#"]
    parts = [path, *path.split("/")]
    return any(fnmatch.fnmatch(part, pattern.lstrip("/")) for part in parts for pattern in patterns)


def _wanted(found: Discussion, query: Mapping[str, list[str]]) -> bool:
    kind, status, author = (query.get(key, ["all"])[0] for key in ("type", "status", "author"))
    kinds = {"all": True, "pull_request": found.pull, "discussion": not found.pull}
    states = {"all": True, "open": found.status in ("open", "draft"), "closed": found.status in ("closed", "merged")}
    return kinds[kind] and states[status] and author in ("all", found.author)
