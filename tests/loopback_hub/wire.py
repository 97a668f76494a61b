"""Values of the protocol: a request read to its end, an answer, an error, a byte range, a card's metadata.

Knows nothing of repos and of sockets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import yaml

from loopback_hub.trees import Refusal

SIZE_CATEGORIES = set(
    ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "n>1T"]
)


@dataclass(slots=True)
class Call:
    """A request, read to its end: the raw path is split before it is unquoted, so `refs%2Fpr%2F1` is one segment."""

    method: str
    raw_path: str
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def segments(self) -> list[str]:
        return [unquote(part) for part in self.raw_path.split("/")[1:]]

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string)

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[-1].lower() in ("1", "true")

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refusal(400, f"Invalid JSON: {error}") from error
        return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class Answer:
    """A response, whole."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(
        status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    )


def as_error(refusal: Refusal) -> Answer:
    one_line = " ".join(refusal.message.split()).encode("ascii", "replace").decode()
    headers = {"X-Error-Message": one_line, **refusal.headers}
    if refusal.code:
        headers["X-Error-Code"] = refusal.code
    return as_json({"error": refusal.message, **refusal.extra}, refusal.status, headers)


def ranged(call: Call, content: bytes, headers: dict[str, str]) -> Answer:
    """Answer with a content, or with the one byte range that was asked for."""
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
    if call.method != "GET" or match is None or match.group(0) == "bytes=-":
        return Answer(200, content, headers)
    first, last = match.groups()
    start = int(first) if first else max(len(content) - int(last), 0)
    stop = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= stop:
        return Answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Answer(206, content[start:stop], headers)


def card_metadata(content: bytes) -> object:
    """Return the YAML front matter of a card, {} when there is none."""
    match = re.match(r"---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", content.decode("utf-8", "replace"), re.DOTALL)
    return (yaml.safe_load(match.group(1)) or {}) if match else {}


def card_errors(content: bytes) -> list[str]:
    """Return what is wrong with a card's metadata."""
    try:
        data = card_metadata(content)
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"]
    if not isinstance(data, dict):
        return ["YAML Metadata Error: metadata must be an object"]
    errors = [f'"{key}" must be a string or an array' for key in _not_texts(data)]
    if data.get("license") == "other" and not data.get("license_name"):
        errors.append('"license_name" is required when license is "other"')
    sizes = data.get("size_categories") or []
    sizes = [sizes] if isinstance(sizes, str) else sizes
    errors += [f'"size_categories" must not be "{size}"' for size in sizes if size not in SIZE_CATEGORIES]
    configs = data.get("configs") or []
    if not isinstance(configs, list) or not all(
        isinstance(c, dict) and isinstance(c.get("config_name"), str) for c in configs
    ):
        errors.append('"configs" must be an array of objects with a "config_name"')
    return errors


def _not_texts(data: Mapping[str, Any]) -> list[str]:
    keys = ("license", "language", "tags", "task_categories", "size_categories", "source_datasets", "pretty_name")
    values = {key: data[key] if isinstance(data.get(key), list) else [data.get(key)] for key in keys}
    return [key for key, texts in values.items() if not all(isinstance(text, str | None) for text in texts)]
