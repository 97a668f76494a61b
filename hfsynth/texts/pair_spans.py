"""Where the pairs lie in a training text: the column `pair_spans`, which texts have on request.

Each span is a whole pair as it is worded, question to answer, in characters of the text. Knows nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from datasets import Features, List, Value

from hfsynth.core.errors import ColumnError

PAIR_SPANS = "pair_spans"
"""The column."""

Span: TypeAlias = tuple[int, int]
"""The first character of a pair, and the one behind its last."""


def with_spans(features: Features) -> Features:
    """Return the columns of texts with the one of their spans."""
    return Features({**features, PAIR_SPANS: List({"start": Value("int64"), "end": Value("int64")})})


def spans_column(spans: Iterable[Span]) -> list[dict[str, int]]:
    """Return spans as the column has them."""
    return [{"start": start, "end": end} for start, end in spans]


def read_spans(row: Mapping[str, Any], text: str, number: int) -> list[Span]:
    """Return the spans of a row, in order; raise ColumnError where they are none of its text."""
    spans = [(span["start"], span["end"]) for span in row.get(PAIR_SPANS) or ()]
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    if edges != sorted(edges):
        raise ColumnError(
            f"Column {PAIR_SPANS!r} must hold spans in order within the text; row {number} (from 0) holds {spans}.",
            hint="`hfsynth render --pair-spans` writes it; a text that was changed after that must be rendered again.",
        )
    return spans


def moved(spans: Sequence[Span], text: str, clean: str) -> list[Span]:
    """Return the spans of a text in what it became when spaces were put into it, as `Escape` does."""
    if text == clean or not spans:
        return list(spans)
    places, at = [], 0
    for character in text:
        while clean[at] != character:
            at += 1
        places.append(at)
        at += 1
    places.append(len(clean))
    return [(places[start], places[end - 1] + 1 if end else 0) for start, end in spans]
