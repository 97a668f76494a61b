"""Names that depend on content alone, so that they are the same on every machine and in every batch."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def content_id(text: str) -> str:
    """Return 16 hex digits that stand for a document's text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def chain_id(document_ids: Iterable[str]) -> str:
    """Return 16 hex digits that stand for a chain: its documents' ids in order."""
    digest = blake2b(digest_size=8)
    for name in document_ids:
        encoded = name.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
