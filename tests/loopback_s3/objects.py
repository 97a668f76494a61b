"""Buckets in memory: what S3 promises about objects, their versions and conditions. Knows nothing of HTTP."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property


@dataclass(frozen=True)
class Object:
    content: bytes
    changed: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'


class Refused(Exception):
    """An answer that is an error: the status and the code of S3's documentation."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


NO_KEY = Refused(404, "NoSuchKey")
NO_UPLOAD = Refused(404, "NoSuchUpload")
FAILED = Refused(412, "PreconditionFailed")


class Bucket:
    """Keys and objects. Every operation is atomic; conditions are `If-None-Match` and `If-Match`, by those names."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self._uploads: dict[str, dict[int, Object]] = {}
        self._before: list[tuple[str, Object | None]] = []  # what each write has replaced
        self._lock = threading.Lock()

    def put(self, key: str, content: bytes, conditions: Mapping[str, str]) -> Object:
        with self._lock:
            return self._put(key, content, conditions)

    def get(self, key: str, conditions: Mapping[str, str]) -> Object:
        with self._lock:
            if (found := self.objects.get(key)) is None:
                raise NO_KEY
            if conditions.get("If-Match", found.etag) not in ("*", found.etag):
                raise FAILED
            if conditions.get("If-None-Match") in ("*", found.etag):
                raise Refused(304, "NotModified")
            return found

    def delete(self, keys: list[str]) -> None:
        with self._lock:
            for key in keys:
                if key in self.objects:
                    self._before.append((key, self.objects.pop(key)))

    def copy(self, source: Bucket, origin: str, key: str, conditions: Mapping[str, str]) -> Object:
        content = source.get(origin, {}).content
        return self.put(key, content, conditions)

    def listing(self, stale: int = 0) -> list[tuple[str, Object]]:
        """Return what is there, by key; with `stale`, what was there that many writes ago."""
        with self._lock:
            seen = dict(self.objects)
            for key, former in reversed(self._before[len(self._before) - stale :] if stale else []):
                if former is None:
                    seen.pop(key, None)
                else:
                    seen[key] = former
        return sorted(seen.items())

    def begin(self) -> str:
        with self._lock:
            upload = uuid.uuid4().hex
            self._uploads[upload] = {}
            return upload

    def add_part(self, upload: str, number: int, content: bytes) -> Object:
        with self._lock:
            part = Object(content)
            self._parts(upload)[number] = part
            return part

    def complete(self, upload: str, key: str, numbers: list[int], conditions: Mapping[str, str]) -> Object:
        with self._lock:
            parts = self._parts(upload)
            whole = b"".join(parts[number].content for number in numbers)
            made = self._put(key, whole, conditions)
            del self._uploads[upload]
            return made

    def abort(self, upload: str) -> None:
        with self._lock:
            self._uploads.pop(upload, None)

    def _parts(self, upload: str) -> dict[int, Object]:
        if upload not in self._uploads:
            raise NO_UPLOAD
        return self._uploads[upload]

    def _put(self, key: str, content: bytes, conditions: Mapping[str, str]) -> Object:
        there = self.objects.get(key)
        if "If-None-Match" in conditions and there is not None:
            raise FAILED
        if (wanted := conditions.get("If-Match")) is not None:
            if there is None:
                raise NO_KEY
            if wanted != there.etag:
                raise FAILED
        self._before.append((key, there))
        self.objects[key] = made = Object(content)
        return made
