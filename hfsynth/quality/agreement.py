"""How far two recipes say the same about the same documents, and how well each keeps to them.

Pairs are known by digests alone, so that a whole sample's fit a trial's outcome. Knows nothing of engines or trials.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

from hfsynth.core.records import Document, Pair, Synthesized
from hfsynth.core.text import encodable
from hfsynth.quality.measures import grounding

Answer = tuple[Document, Synthesized]
"""A document and what was written about it."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of a sample's pairs: a digest of each together with its document's id, and their summed grounding.

    Grounding is that of `hfsynth.quality.measures`, in the document as the model saw it.
    """

    digests: tuple[str, ...] = ()
    grounded: float = 0.0

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> Self:
        """Take the fingerprint of the pairs about a sample's documents, in whatever order they were answered."""
        digests: list[str] = []
        grounded = 0.0
        for document, result in answers:
            shown = _shown(document, result)
            digests += [_digest(document.id, pair) for pair in result.pairs]
            grounded += sum(grounding(shown, pair.response) for pair in result.pairs)
        return cls(tuple(digests), grounded)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote."""
        return cls(tuple(values["digests"]), values["grounded"])

    @property
    def grounding(self) -> float | None:
        """The mean grounding of a pair; None where there is no pair."""
        return self.grounded / len(self.digests) if self.digests else None


def agreement(first: Fingerprint, other: Fingerprint) -> float | None:
    """Return the share of the first's pairs that the other has about the same document; None where there is none.

    A pair is the same where instruction and response are, to the letter; in which order a document's pairs come does
    not matter, and what the other has besides takes nothing away. In a chain of several shots one pair that differs
    changes the prompts after it. The same recipe need not agree with itself in full: in 16 bits, what else is in the
    batch can turn a tie.
    """
    if not first.digests:
        return None
    return (Counter(first.digests) & Counter(other.digests)).total() / len(first.digests)


def _digest(document_id: str, pair: Pair) -> str:
    told = json.dumps([document_id, pair.instruction, pair.response])  # ASCII, and no two triples alike
    return blake2b(told.encode(), digest_size=8).hexdigest()


def _shown(document: Document, result: Synthesized) -> str:
    """Return the document as the model saw it."""
    text = encodable(document.text or "")
    return text[: len(text) - result.synthesis.truncated]
