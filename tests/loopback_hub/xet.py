"""Xet's storage over HTTP: tokens, xorbs, shards, reconstructions and what is stored already, as `hf_xet` asks.

A repo's writer gets an access token for the storage. Xorbs come first and are nobody's; a shard says which files they
make up, and with it the files become objects of the repo, to be committed as LFS objects are. A file that came
another way has no Xet hash and is read as LFS. Knows nothing of commits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loopback_hub.store import Repo, Store
from loopback_hub.trees import Refusal
from loopback_hub.wire import Answer, Call, as_json, ranged
from loopback_hub.xet_formats import Chunk, Term, XetFile, chunk_hashes, chunks_of, content_of, shard_about, shard_of

if TYPE_CHECKING:
    from loopback_hub.api import Api

SECONDS = 3600
PREFIX = "xet"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Pass:
    """What an access token opens: one repo, for reading or for writing too."""

    repo: Repo
    write: bool


@dataclass(slots=True)
class Storage:
    """Everything that Xet stores. `sent` counts how often each xorb arrived whole, `shards` the shards."""

    store: Store
    address: str
    passes: dict[str, Pass] = field(default_factory=dict)
    xorbs: dict[str, bytes] = field(default_factory=dict)
    chunks: dict[str, list[Chunk]] = field(default_factory=dict)
    described: dict[str, bytes] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    files: dict[str, XetFile] = field(default_factory=dict)
    by_sha256: dict[str, str] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    shards: int = 0

    def token(self, repo: Repo, *, write: bool) -> Answer:
        """Let somebody in: where the storage is and what to say there, in the body and in the headers."""
        value, expires = secrets.token_hex(16), int(time.time()) + SECONDS
        self.passes[value] = Pass(repo, write)
        headers = {"X-Xet-Cas-Url": self.address, "X-Xet-Access-Token": value, "X-Xet-Token-Expiration": str(expires)}
        return as_json({"casUrl": self.address, "accessToken": value, "exp": expires}, headers=headers)

    def answer(self, call: Call, rest: list[str]) -> Answer:
        match call.method, rest:
            case "GET", ["xorb", name] if name in self.xorbs:
                return ranged(call, self.xorbs[name], {})
            case "POST", ["v1", "telemetry"]:
                return as_json({})
        opened = self._opened(call)
        match call.method, rest:
            case "POST", ["v1", "xorbs", "default", name] if opened.write:
                return self._keep_xorb(name, call.body)
            case "POST", ["v1", "shards"] if opened.write:
                return self._register(opened.repo, call.body)
            case "GET", ["v1", "reconstructions", name] if name in self.files:
                return self._reconstruction(call, self.files[name])
            case "GET", ["v1", "chunks", _, name] if name in self.holders:
                return Answer(200, shard_about([self.described[self.holders[name]]]))
            case "POST", ["v1", "xorbs" | "shards", *_]:
                raise Refusal(403, "The token is one for reading")
        raise Refusal(404, "Not found")

    def _opened(self, call: Call) -> Pass:
        value = call.headers.get("authorization", "").removeprefix("Bearer ")
        if value not in self.passes:
            raise Refusal(401, "The token is unknown")
        return self.passes[value]

    def _keep_xorb(self, name: str, body: bytes) -> Answer:
        fresh = name not in self.xorbs
        self.chunks[name], self.xorbs[name] = chunks_of(body), body
        self.sent[name] += 1
        return as_json({"was_inserted": fresh})

    def _register(self, repo: Repo, body: bytes) -> Answer:
        """Take a shard: every file must be there, whole, and have the SHA-256 that it is said to have."""
        shard = shard_of(body)
        contents = {file.hash: self._content(file) for file in shard.files}
        for file in shard.files:
            if file.sha256 and hashlib.sha256(contents[file.hash]).hexdigest() != file.sha256:
                raise Refusal(400, f"The content of {file.hash} has not the SHA-256 {file.sha256}")
        for name, described in shard.xorbs.items():
            self.described[name] = described
            self.holders |= dict.fromkeys(chunk_hashes(described), name)
        for file in shard.files:
            self.files[file.hash] = file
            self.by_sha256[self.store.keep(contents[file.hash])] = file.hash
            repo.objects.add(file.sha256)
        self.shards += 1
        return as_json({"result": 1})

    def content(self, name: str) -> bytes:
        """Return a file by its Xet hash."""
        return self._content(self.files[name])

    def _content(self, file: XetFile) -> bytes:
        return b"".join(self._piece(term) for term in file.terms)

    def _piece(self, term: Term) -> bytes:
        if term.xorb not in self.xorbs:
            raise Refusal(400, f"There is no xorb {term.xorb}")
        found = b"".join(content_of(self.xorbs[term.xorb], chunk) for chunk in self._within(term))
        if len(found) != term.size:
            raise Refusal(400, f"The chunks of {term.xorb} make {len(found)} bytes, not {term.size}")
        return found

    def _within(self, term: Term) -> list[Chunk]:
        return self.chunks[term.xorb][term.start : term.stop]

    def _reconstruction(self, call: Call, file: XetFile) -> Answer:
        """Say which chunks make up a file, or the part of it that a Range asks for, and where their bytes are."""
        start, stop = 0, file.size
        if found := _RANGE.fullmatch(call.headers.get("range", "")):
            start, stop = int(found[1]), min(int(found[2]) + 1, file.size)
        if start >= file.size:
            raise Refusal(416, "The file ends before")
        terms, skipped = self._cut(file, start, stop)
        described = [
            {"hash": t.xorb, "unpacked_length": t.size, "range": {"start": t.start, "end": t.stop}} for t in terms
        ]
        places: dict[str, list[dict[str, Any]]] = {}
        for term in terms:
            place = self._place(term)
            if place not in places.setdefault(term.xorb, []):
                places[term.xorb].append(place)
        return as_json({"offset_into_first_range": skipped, "terms": described, "fetch_info": places})

    def _cut(self, file: XetFile, start: int, stop: int) -> tuple[list[Term], int]:
        """Return the terms that hold the bytes from `start` to `stop`, and how many bytes of the first to skip."""
        terms, at, skipped = [], 0, None
        for term in file.terms:
            kept = []
            for number, chunk in enumerate(self._within(term), term.start):
                if at < stop and at + chunk.size > start:
                    kept.append((number, chunk.size))
                    skipped = start - at if skipped is None else skipped
                at += chunk.size
            if kept:
                terms.append(Term(term.xorb, sum(size for _, size in kept), kept[0][0], kept[-1][0] + 1))
        return terms, skipped or 0

    def _place(self, term: Term) -> dict[str, Any]:
        chunks = self._within(term)
        return {
            "range": {"start": term.start, "end": term.stop},
            "url": f"{self.address}/xorb/{term.xorb}",
            "url_range": {"start": chunks[0].start, "end": chunks[-1].stop - 1},
        }

    def headers(self, api: Api, repo: Repo, commit: str, sha256: str) -> Mapping[str, str]:
        """Return what tells a reader that a file is in Xet; nothing where it came another way."""
        if sha256 not in self.by_sha256:
            return {}
        route = f"{api.endpoint}/api/{repo.kind}s/{repo.name}/xet-read-token/{commit}"
        return {"X-Xet-Hash": self.by_sha256[sha256], "Link": f'<{route}>; rel="xet-auth"'}
