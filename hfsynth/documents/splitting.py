"""Cut documents that are too long: into pieces that fit, or down to a beginning that fits.

Knows nothing of models, prompts or files: a token is whatever the given function counts. Cutting text is pure, and
looks at a document through few and short samples, so that a megabyte costs a handful of passes of the tokenizer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hfsynth.core.errors import ConfigError
from hfsynth.documents.boundaries import paragraph_cuts, sentence_cuts, sentence_ends, space_cuts, splits_character

_CHARACTERS_A_TOKEN = 4.0  # a first guess, corrected by the first count
_CONTEXT = 64  # characters after an end that decide whether it is one


_SAMPLE = 100  # rows that tell the columns of a stream that does not say


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document, and the character at which it begins."""

    offset: int
    text: str


def split_text(text: str, max_tokens: int, count: Callable[[str], int]) -> list[Piece]:
    """Cut a text into pieces of at most `max_tokens` tokens; put together they are the text again.

    Each piece is as long as fits and ends after a paragraph, unless that would leave less than half of what fits; else
    after a sentence; else at white space; else between characters. White space stays with a neighbour wherever it
    fits, so a piece of nothing else is rare. An empty text has no pieces. Raise ConfigError if one character is too
    long.
    """
    _require_room(max_tokens)
    pieces: list[Piece] = []
    start, ratio = 0, _CHARACTERS_A_TOKEN
    breaks: _Breaks | None = None
    while start < len(text):
        search = _Search(text, start, max_tokens, count)
        search.bracket(ratio)
        if search.fits_to < len(text):
            breaks = breaks or _Breaks.of(text)
            end = _end_of_piece(search, breaks)
        else:
            end = len(text)
        pieces.append(Piece(start, text[start:end]))
        start, ratio = end, search.ratio
    return pieces


def truncate_text(text: str, max_tokens: int, count: Callable[[str], int]) -> str:
    """Return the longest beginning of a text that ends with a sentence and has at most `max_tokens` tokens.

    Where no sentence fits it ends at white space, else between characters; it is empty only if no character fits.
    """
    search = _Search(text, 0, max_tokens, count)
    search.bracket(_CHARACTERS_A_TOKEN)
    if search.fits_to == len(text):
        return text
    after = search.first_black()
    seen = text[: search.fails_at + _CONTEXT]
    end = search.largest(sentence_ends(seen), after)
    if end is None:
        end = search.largest(space_cuts(text, after, search.fails_at)[::2], after)
    if end is None:
        end = _between_characters(search, after, len(text))
    return text[:end]


def piece_id(source_id: str, piece: Piece, text: str) -> str:
    """Return the id of a piece of `text`: the document's own where it was not cut, else with the offset behind it."""
    return source_id if piece.text == text else f"{source_id}#{piece.offset}"


class _Search:
    """What is known of the longest piece from `start`: it fits up to `fits_to` and not up to `fails_at`.

    Both are narrowed by counting; that a longer text has more tokens is a guide, and never taken for granted.
    """

    def __init__(self, text: str, start: int, limit: int, count: Callable[[str], int]) -> None:
        self.text, self.start = text, start
        self._limit, self._count = limit, count
        self.fits_to, self._fits_tokens = start, 0
        self.fails_at, self._fails_tokens = len(text) + 1, limit + 1

    @property
    def ratio(self) -> float:
        """Characters a token, as far as counted."""
        return max(1, self.fits_to - self.start) / max(1, self._fits_tokens)

    def fits(self, end: int) -> bool:
        """Count one candidate, and remember what it says about the others."""
        if end == self.fits_to:
            return True
        tokens = self._count(self.text[self.start : end])
        if tokens <= self._limit and end > self.fits_to:
            self.fits_to, self._fits_tokens = end, tokens
        elif tokens > self._limit and end < self.fails_at:
            self.fails_at, self._fails_tokens = end, tokens
        return tokens <= self._limit

    def bracket(self, ratio: float) -> None:
        """Find an end that is too far, or that the whole rest fits, without counting much beyond what fits."""
        end, reach = len(self.text), self._limit * ratio
        while self.fits_to < end < self.fails_at:
            self.fits(min(end, self.start + int(reach * 1.05) + 1))
            reach = max(self._limit * self.ratio, (self.fits_to - self.start) * 1.1)

    def first_black(self) -> int:
        """Return where the first character that is no white space stands, or where it no longer matters."""
        rest = self.text[self.start : self.fails_at]
        return self.start + len(rest) - len(rest.lstrip())

    def largest(self, cuts: Sequence[int], after: int) -> int | None:
        """Return the last of the ordered `cuts` behind `after` that fits: first those not known, then those known."""
        fits_to = self.fits_to
        unknown = self._largest(cuts, bisect_right(cuts, max(after, fits_to)), bisect_left(cuts, self.fails_at))
        return unknown or self._largest(cuts, bisect_right(cuts, after), bisect_right(cuts, fits_to))

    def _largest(self, cuts: Sequence[int], first: int, last: int) -> int | None:
        found, turn = None, 0
        while first < last:
            index = (first + last) // 2 if turn % 3 == 2 else bisect_right(cuts, self._estimate(), first, last) - 1
            index = max(first, index)
            if self.fits(cuts[index]):
                found, first = cuts[index], index + 1
            else:
                last = index
            turn += 1
        return found

    def _estimate(self) -> float:
        share = (self._limit + 0.5 - self._fits_tokens) / (self._fails_tokens - self._fits_tokens)
        return self.fits_to + (self.fails_at - self.fits_to) * share


@dataclass(frozen=True, slots=True)
class _Breaks:
    """A text's paragraph ends, its sentence ends (paragraphs are among them), and where its last word ends.

    Cuts in the white space at the very end are left out: they would make a piece of it.
    """

    paragraphs: list[int]
    sentences: list[int]
    end: int

    @classmethod
    def of(cls, text: str) -> _Breaks:
        end = len(text.rstrip())
        paragraphs = [cut for cut in paragraph_cuts(text) if cut < end]
        sentences = {cut for cut in sentence_cuts(text) if cut < end}
        return cls(paragraphs, sorted(sentences.union(paragraphs)), end)


def _end_of_piece(search: _Search, breaks: _Breaks) -> int:
    start, after = search.start, search.first_black()
    end = search.largest(breaks.sentences, after)
    if end is not None:
        index = bisect_right(breaks.paragraphs, end) - 1
        paragraph = breaks.paragraphs[index] if index >= 0 else 0
        far_enough = paragraph > after and (paragraph - start) * 2 >= end - start
        return paragraph if far_enough and search.fits(paragraph) else end
    spaces = space_cuts(search.text, after, min(search.fails_at, breaks.end))
    end = search.largest([cut for cut in spaces if cut < breaks.end], after)
    end = end or _between_characters(search, after, breaks.end)
    if not end:
        raise ConfigError(
            f"A piece cannot hold the character {search.text[start]!r} at offset {start}: it has too many tokens.",
            hint="Allow more tokens for a piece.",
        )
    return end


def _between_characters(search: _Search, after: int, end: int) -> int:
    """Return the last cut that fits, between whole characters where possible, or 0 if not even one fits."""
    cut = search.largest(range(end), after)
    if cut is None:
        after = search.start
        cut = search.largest(range(len(search.text) + 1), after)
    if cut is None:
        return 0
    whole = cut
    while whole > after + 1 and whole < len(search.text) and splits_character(search.text, whole):
        whole -= 1
    apart = whole < cut and not splits_character(search.text, whole)
    return whole if apart and search.fits(whole) else cut


def _require_room(max_tokens: int) -> None:
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise ConfigError(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}.")
