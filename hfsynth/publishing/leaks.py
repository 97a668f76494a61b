"""Look for what must never be published: tokens and keys in every byte of every file, files that hold credentials.

The kinds of secrets are those of `hfsynth.core.secret_rules`. Files are read in blocks and Parquet a batch at a time,
so memory does not grow with them. A finding is named by its place and an id, and never shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.secret_rules import rules
from hfsynth.corpus.files import CorpusFiles

_NAMES = re.compile(
    r"(?:^|/)(?:id_(?:rsa|dsa|ed25519|ecdsa)|credentials(?:\.json)?|token|[^/]*\.(?:pem|key|p12|pfx|env))$"
)
_BLOCK, _OVERLAP = 4 * 2**20, 4096  # no secret is longer than the overlap
_ROWS = 4096
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret by its kind, its place, and an id that stands for this secret wherever it is found."""

    kind: str
    about: str
    place: str
    id: str


def refuse_leaks(
    corpus: CorpusFiles, paths: Iterable[str], *, token: str | None, allowed: Collection[str] = ()
) -> None:
    """Raise OutputError where files hold credentials; `token` is the caller's own, `allowed` are ids or kinds.

    Nothing lets the caller's own token pass.
    """
    _refuse_unknown(allowed)
    found: list[Finding] = []
    for path in paths:
        if _NAMES.search(path):
            found.append(Finding("file", "a file of credentials, by its name", path, f"file:{path}"))
        found += _first(_in_file(corpus, path, token), allowed)
        if len(found) >= _LISTED:
            break
    _refuse([finding for finding in found if not {finding.kind, finding.id} & set(allowed)])


def refuse_secrets(content: bytes, place: str, *, token: str | None, allowed: Collection[str] = ()) -> None:
    """Raise OutputError where a content that is not on disk holds credentials."""
    _refuse(_first(_in_content(content, place, token), allowed))


def secret_in(text: str, token: str | None = None) -> str | None:
    """Say which kind of secret a text holds, without showing it; None where there is none."""
    return next((finding.about for finding in _in_content(text.encode("utf-8", "replace"), "", token)), None)


def _refuse(found: list[Finding]) -> None:
    if not found:
        return
    listed = "; ".join(f"{finding.place} ({finding.about}, {finding.id})" for finding in found[:_LISTED])
    raise OutputError(
        f"What looks like a secret is in {listed}; nothing was published.",
        hint="Remove it from the folder. If it was ever published, revoke it. What is no secret may pass: "
        f"--allow-secrets {found[0].id}",
    )


def _refuse_unknown(allowed: Collection[str]) -> None:
    known = {"file", *(rule.name for rule in rules())}
    for name in allowed:
        if name.partition(":")[0] not in known:
            raise ConfigError(
                f"{name!r} is no kind of secret and no finding's id.",
                hint=f"Kinds are {', '.join(sorted(known))}; an id, such as aws:0123456789ab, stands in the refusal.",
            )


def _first(findings: Iterable[Finding], allowed: Collection[str]) -> list[Finding]:
    """Return the first findings that are not allowed, each secret once."""
    kept: dict[str, Finding] = {}
    for finding in findings:
        if not {finding.kind, finding.id} & set(allowed):
            kept.setdefault(finding.id, finding)
        if len(kept) == _LISTED:
            break
    return list(kept.values())


def _in_content(content: bytes, place: str, token: str | None) -> Iterator[Finding]:
    if token and token.encode() in content:
        yield Finding("own", "your own Hugging Face token", place, "own")
    for rule in rules():
        for secret in rule.secrets(content):
            number = blake2b(secret, digest_size=6).hexdigest()
            yield Finding(rule.name, rule.about, place, f"{rule.name}:{number}")


def _in_file(corpus: CorpusFiles, name: str, token: str | None) -> Iterator[Finding]:
    if name.endswith(".parquet"):
        yield from _in_parquet(corpus, name, token)
        return
    tail = b""
    with (corpus.root / name).open("rb") as file:
        while block := file.read(_BLOCK):
            content = tail + block
            if _suspect(pa.array([content], pa.large_binary()), token):
                yield from _in_content(content, name, token)
            tail = content[-_OVERLAP:]


def _in_parquet(corpus: CorpusFiles, name: str, token: str | None) -> Iterator[Finding]:
    """Search the texts and bytes of every column, and what the file says about itself."""
    with corpus.opened(name) as file:
        about = [*(file.schema_arrow.metadata or {}).items(), *(file.metadata.metadata or {}).items()]
        yield from _in_content(b"\n".join([*(b"%b %b" % item for item in about)]), f"{name}, its schema", token)
        yield from _in_content(str(file.schema_arrow).encode(), f"{name}, its columns", token)
        first = 0
        for batch in file.iter_batches(batch_size=_ROWS):
            for column, values in zip(batch.schema.names, batch.columns, strict=True):
                for row, finding in _in_column(values, token):
                    place = f"{name}, row {first + row:,} (from 0), column {column}"
                    yield Finding(finding.kind, finding.about, place, finding.id)
            first += batch.num_rows


def _in_column(values: pa.Array, token: str | None) -> Iterator[tuple[int, Finding]]:
    """Yield the rows of a column that hold secrets; rows are looked at one by one only where there is one."""
    if not any(_suspect(leaf, token) for leaf in _leaves(values)):
        return
    for row, value in enumerate(values.to_pylist()):
        for content in _contents(value):
            for finding in _in_content(content, "", token):
                yield row, finding


def _suspect(texts: pa.Array, token: str | None) -> bool:
    """Say whether one of many texts holds a secret; only those with a mark of one are searched."""
    marked = texts.filter(pc.match_substring_regex(texts, _marks(token)))
    return any(next(_in_content(text.as_buffer().to_pybytes(), "", token), None) for text in marked)


@lru_cache(maxsize=2)
def _marks(token: str | None) -> str:
    """Return a pattern that is found in everything that may hold a secret, for the fast engine of Arrow."""
    marks = [mark.decode() for rule in rules() for mark in rule.marks]
    return "|".join(map(re.escape, dict.fromkeys([*marks, *([token] if token else [])])))


def _leaves(values: pa.Array) -> Iterator[pa.Array]:
    """Yield every field of a column that holds texts or bytes, as an array of bytes."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(values.dictionary)
    elif isinstance(values, pa.ExtensionArray):
        yield from _leaves(values.storage)
    elif pa.types.is_struct(kind):
        for field in values.flatten():
            yield from _leaves(field)
    elif pa.types.is_map(kind):
        yield from _leaves(values.keys)
        yield from _leaves(values.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(values.flatten())
    elif _holds_bytes(kind):
        yield values.cast(pa.large_binary())


def _holds_bytes(kind: pa.DataType) -> bool:
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    contents = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return bool(texts or contents or pa.types.is_fixed_size_binary(kind))


def _contents(value: Any) -> Iterator[bytes]:  # noqa: ANN401 - whatever a column holds
    if isinstance(value, str):
        yield value.encode("utf-8", "replace")
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _contents(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _contents(inner)
