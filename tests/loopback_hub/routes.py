"""What the Hub answers to a reader of a repo: info, tree, files, refs, commits, discussions.

Each function answers one route, found in `READING`, in the shapes that huggingface_hub 2.4 sends and parses.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from loopback_hub.api import UNKNOWN_PAGE, Api, Routes
from loopback_hub.store import Commit, Discussion, Repo
from loopback_hub.trees import Entry, Refusal, folder_oid, listing, no_entry
from loopback_hub.wire import Answer, Call, as_json, card_metadata, ranged

PREUPLOAD_LIMIT = 256
EXPANDED_PAGE = 50
DISCUSSIONS_PAGE = 10


READING = Routes()


@READING.on("GET", "")
def info(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    return as_json(_info(api, repo, rest[0] if rest else "main", blobs=call.flag("blobs")))


@READING.on("GET", "revision")
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


@READING.on("GET", "auth-check")
def auth_check(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    if rest == ["write"]:
        api.writer(call, repo.namespace)
    return as_json({})


@READING.on("GET", "tree")
def tree(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    commit, expand = repo.resolve(rest[0]), call.flag("expand")
    items = listing(commit.tree, "/".join(rest[1:]), recursive=call.flag("recursive"))
    size = min(api.page_size, EXPANDED_PAGE) if expand else api.page_size
    # The next page names the commit, so that a listing never mixes two states.
    path = f"/api/{repo.kind}s/{repo.name}/tree/{commit.id}" + "".join(f"/{quote(part)}" for part in rest[1:])
    page, headers = _page_of(api, call, items, size, path)
    return as_json([_item(api, repo, commit, path, entry, expand) for path, entry in page], headers=headers)


@READING.on("POST", "paths-info")
def paths_info(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    form = parse_qs(call.body.decode())
    commit, expand = repo.resolve(rest[0]), form.get("expand", [""])[0].lower() == "true"
    everything = dict(listing(commit.tree, "", recursive=True))
    paths = [path.rstrip("/") for path in form.get("paths", [])]
    return as_json([_item(api, repo, commit, p, everything[p], expand) for p in paths if p in everything])


def _item(api: Api, repo: Repo, commit: Commit, path: str, entry: Entry | None, expand: bool) -> dict[str, Any]:
    if entry is None:
        item: dict[str, Any] = {"type": "directory", "oid": folder_oid(commit.tree, path), "size": 0, "path": path}
    else:
        item = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
        if entry.lfs:
            item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
            if api.xet is not None and entry.sha256 in api.xet.by_sha256:
                item["xetHash"] = api.xet.by_sha256[entry.sha256]
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


@READING.on("GET", "/resolve")
def resolve(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    if rest[0] == "refs" and len(rest) > 3:
        rest = ["/".join(rest[:3]), *rest[3:]]
    commit, path = repo.resolve(rest[0]), "/".join(rest[1:])
    entry = commit.tree.get(path)
    headers = {"X-Repo-Commit": commit.id}
    if entry is None:
        refusal = no_entry(path)
        refusal.headers = headers
        raise refusal
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(path.split('/')[-1])}"
    if not entry.lfs:
        return ranged(call, api.store.blobs[entry.sha256], {**headers, "ETag": f'"{entry.oid}"'})
    headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    if api.xet is not None:
        headers |= api.xet.headers(api, repo, commit.id, entry.sha256)
    return Answer(302, b"Found", {**headers, "Location": f"{api.storage}/download/{entry.sha256}"})


@READING.on("GET", "xet-read-token")
def xet_read_token(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    if api.xet is None:
        raise Refusal(404, UNKNOWN_PAGE)
    return api.xet.token(repo, write=False)


@READING.on("GET", "commits")
def commits(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    head = repo.resolve(rest[0])
    path = f"/api/{repo.kind}s/{repo.name}/commits/{head.id}"
    page, headers = _page_of(api, call, repo.history(head), api.page_size, path)
    return as_json([_commit_info(commit) for commit in page], headers=headers)


@READING.on("GET", "refs")
def refs(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    def named(prefix: str) -> list[dict[str, str]]:
        names = [ref for ref in sorted(repo.refs) if ref.startswith(prefix)]
        short = {ref: ref if prefix == "refs/pr/" else ref.removeprefix(prefix) for ref in names}
        return [{"name": short[ref], "ref": ref, "targetCommit": repo.refs[ref]} for ref in names]

    found = {"branches": named("refs/heads/"), "tags": named("refs/tags/"), "converts": named("refs/convert/")}
    if call.flag("include_prs"):
        found["pullRequests"] = named("refs/pr/")
    return as_json(found)


def _commit_info(commit: Commit) -> dict[str, Any]:
    authors = [{"user": commit.author}]
    formatted = {"title": commit.title, "message": commit.message}
    return {"id": commit.id, "date": commit.date, "authors": authors, "formatted": formatted, **formatted}


@READING.on("GET", "discussions")
def discussions(api: Api, call: Call, repo: Repo, rest: list[str]) -> Answer:
    if rest:
        return as_json(_details(api, repo, repo.discussion(int(rest[0]))))
    wanted = [d for d in reversed(repo.discussions.values()) if _wanted(d, call.query)]
    start = int(call.query.get("p", ["0"])[0]) * DISCUSSIONS_PAGE
    page = [_summary(api, repo, found) for found in wanted[start : start + DISCUSSIONS_PAGE]]
    return as_json({"discussions": page, "count": len(wanted), "start": start})


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


def _wanted(found: Discussion, query: Mapping[str, list[str]]) -> bool:
    kind, status, author = (query.get(key, ["all"])[0] for key in ("type", "status", "author"))
    kinds = {"all": True, "pull_request": found.pull, "discussion": not found.pull}
    states = {"all": True, "open": found.status in ("open", "draft"), "closed": found.status in ("closed", "merged")}
    return kinds[kind] and states[status] and author in ("all", found.author)
