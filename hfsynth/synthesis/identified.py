"""Rows whose identifiers are found, and marked, before they are cut: no piece's edge hides one.

Knows nothing of engines and of no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.identifier_models import IdentifierModel
from hfsynth.core.records import Row
from hfsynth.documents.readers import IDENTIFIED
from hfsynth.quality.marking import Marking
from hfsynth.quality.token_classifier import TokenClassifier


class Cuts(Protocol):
    """What makes one or more rows of a source's row."""

    def pieces(self, row: Row) -> Iterator[Row]:
        """Yield the row, or its pieces."""


@dataclass(frozen=True, slots=True)
class Identifying:
    """Find the identifiers of a row's text as `marking` does, and cut what is left by `splitter`, where there is one.

    Rows are given a note of the kinds that begin in them. A document that is dropped stays whole. Of a marked text
    the pieces' `offset` counts characters with the marks in.
    """

    marking: Marking
    splitter: Cuts | None

    def pieces(self, row: Row) -> Iterator[Row]:
        """Yield the row, or its pieces."""
        if row["text"] is None:
            yield from (row,) if self.splitter is None else self.splitter.pieces(row)
            return
        found = self.marking.cleared(row["text"])
        clean = {**row, "text": found.text}
        if self.splitter is None:
            yield {**clean, IDENTIFIED: found.kinds}
        elif found.kinds and self.marking.mode == "drop":
            yield {**clean, IDENTIFIED: found.kinds, "source_id": row["id"], "offset": 0}
        else:
            for piece in self.splitter.pieces(clean):
                own = found.within(piece["offset"], piece["offset"] + len(piece["text"]))
                yield {**piece, IDENTIFIED: own}


def marking_of(config: SynthesizerConfig) -> Marking | None:
    """Return what a recipe does with identifiers, None where nothing; a model is loaded the first time."""
    if config.pii is None:
        return None
    return Marking(config.pii) if config.pii_model is None else Marking(config.pii, _classifier(config.pii_model))


@lru_cache(maxsize=1)
def _classifier(model: IdentifierModel) -> TokenClassifier:
    """Return a model of this process, on the processor: the GPU is the engine's."""
    return TokenClassifier(model, device="cpu")
