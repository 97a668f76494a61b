"""Count the texts that are longer than a trainer's sequences, and cut them where no pair is torn apart.

A cut lies behind a pair where one fits, else before the first pair, else within a document: at the end of a paragraph,
a line, a sentence or a word. A pair is never cut, however long. The pieces put together are the text. Knows nothing of
files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hfsynth.documents.boundaries import paragraph_cuts, sentence_cuts, space_cuts
from hfsynth.models.tokenizers import TextTokenizer
from hfsynth.texts.export.formats import Batch
from hfsynth.texts.export.records import SequenceCounts
from hfsynth.texts.pair_spans import Span


@dataclass(frozen=True, slots=True)
class Lengths:
    """Fit texts to sequences of `limit` tokens, of which `frame` are BOS and EOS.

    `split` cuts what is longer. The trainer keeps `keeps` tokens of a text, or all where that is None.
    """

    tokenizer: TextTokenizer
    limit: int
    frame: int
    split: bool
    keeps: int | None

    def fit(self, batch: Batch) -> Batch:
        """Return the batch with its counts, and with long texts cut where that is asked."""
        sizes = [size + self.frame for size in self.tokenizer.count(batch.texts)]
        if not self.split or max(sizes, default=0) <= self.limit:
            return replace(batch, sequences=self._counts(sizes, 0))
        fitted, cut = replace(batch, texts=[], ids=[], row_numbers=[], spans=[]), 0
        for text, name, number, spans, size in zip(
            batch.texts, batch.ids, batch.row_numbers, batch.spans, sizes, strict=True
        ):
            pieces = [(0, len(text))] if size <= self.limit else list(self.pieces(text, spans))
            cut += len(pieces) > 1
            for start, end in pieces:
                fitted.texts.append(text[start:end])
                fitted.ids.append(name)
                fitted.row_numbers.append(number)
                fitted.spans.append([(one - start, to - start) for one, to in spans if start <= one and to <= end])
        left = [size + self.frame for size in self.tokenizer.count(fitted.texts)]
        return replace(fitted, sequences=self._counts(left, cut))

    def _counts(self, sizes: Sequence[int], cut: int) -> SequenceCounts:
        overflow = [size - self.limit for size in sizes if size > self.limit]
        keeps = self.keeps
        lost = 0 if keeps is None else sum(size - keeps for size in sizes if size > keeps)
        return SequenceCounts(len(overflow), sum(overflow), cut, lost)

    def pieces(self, text: str, spans: Sequence[Span]) -> Iterator[Span]:
        """Yield the pieces of a text, each of which fits if that can be without tearing a pair."""
        room, start = self.limit - self.frame, 0
        ends = [end for _, end in self.tokenizer.encode_with_places([text])[0].offsets]
        behind = [_behind(text, end, spans) for _, end in spans]
        while start < len(text):
            first = bisect_right(ends, start)
            last = first + room
            if last >= len(ends):
                break
            cut = _cut(text, start, ends[last - 1], spans, behind)
            while self.tokenizer.count([text[start:cut]])[0] > room and (nearer := _nearer(start, cut, spans, text)):
                cut = nearer
            if cut >= len(text):
                break
            yield start, cut
            start = cut
        yield start, len(text)


def _cut(text: str, start: int, reach: int, spans: Sequence[Span], behind: Sequence[int]) -> int:
    """Return where the piece that begins at `start` and may go as far as `reach` ends."""
    fitting = [place for place in behind if start < place <= reach]
    if fitting:
        return fitting[-1]
    return _before_pairs(text, start, reach, spans)


def _before_pairs(text: str, start: int, reach: int, spans: Sequence[Span]) -> int:
    """Cut before the first pair or within a document; behind the pair where one begins right here and is too long."""
    torn = next((span for span in spans if span[0] < reach < span[1] or span[0] <= start < span[1]), None)
    if torn is not None:
        if text[start : torn[0]].strip():
            return torn[0]
        return _behind(text, torn[1], spans)
    part = text[start:reach]
    for places in _PLACES:
        inner = [cut for cut in places(part) if part[:cut].strip() and cut < len(part)]
        free = [cut for cut in inner if not any(one < start + cut < to for one, to in spans)]
        if free:
            return start + free[-1]
    return reach


_PLACES: tuple[Callable[[str], list[int]], ...] = (
    paragraph_cuts,
    sentence_cuts,
    lambda text: space_cuts(text, 0, len(text)),
)
"""Where a document may be cut, the best first."""


def _nearer(start: int, cut: int, spans: Sequence[Span], text: str) -> int | None:
    """Return a cut before the one given, where the piece still took too many tokens; None where there is none."""
    places = [_behind(text, end, spans) for _, end in spans if start < _behind(text, end, spans) < cut]
    if places:
        return places[-1]
    inside = any(one < cut <= to or _behind(text, to, spans) == cut for one, to in spans if to > start)
    shorter = start + (cut - start) * 9 // 10
    return None if inside or shorter <= start else _before_pairs(text, start, shorter, spans)


def _behind(text: str, end: int, spans: Sequence[Span]) -> int:
    """Return the place behind a pair and the white space that follows it, but not beyond where the next one begins."""
    rest = len(text) - len(text[end:].lstrip())
    following = [one for one, _ in spans if one >= end]
    return min([rest, *following[:1]])
