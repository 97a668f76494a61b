"""Rows whose identifiers are found, and marked, before they are cut: no piece's edge hides one.

Knows nothing of engines and of no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from hfsynth.core.records import Row
from hfsynth.documents.readers import IDENTIFIED
from hfsynth.quality.marking import cleared


class Cuts(Protocol):
    """What makes one or more rows of a source's row."""

    def pieces(self, row: Row) -> Iterator[Row]:
        """Yield the row, or its pieces."""


@dataclass(frozen=True, slots=True)
class Identifying:
    """Find the identifiers of a row's text as `mode` says, and cut what is left by `splitter`, where there is one.

    Rows are given a note of the kinds that begin in them. A document that is dropped stays whole. Of a marked text
    the pieces' `offset` counts characters with the marks in.
    """

    mode: str
    splitter: Cuts | None

    def pieces(self, row: Row) -> Iterator[Row]:
        """Yield the row, or its pieces."""
        if row["text"] is None:
            yield from (row,) if self.splitter is None else self.splitter.pieces(row)
            return
        found = cleared(row["text"], self.mode)
        clean = {**row, "text": found.text}
        if self.splitter is None:
            yield {**clean, IDENTIFIED: found.kinds}
        elif found.kinds and self.mode == "drop":
            yield {**clean, IDENTIFIED: found.kinds, "source_id": row["id"], "offset": 0}
        else:
            for piece in self.splitter.pieces(clean):
                own = found.within(piece["offset"], piece["offset"] + len(piece["text"]))
                yield {**piece, IDENTIFIED: own}
