"""Where a document has the words of an answer, and which words of an answer it does not have. Pure.

The rules are those of the measure of grounding: content words, numbers by value, pairs of neighbouring characters in
scripts without spaces; function words join marks and make none. Offsets are characters of the text as it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hfsynth.quality.words import NUMBER_WORDS, STOP_WORDS, compatible, folded, forms, numbers, tokens

Span = tuple[int, int]
_NEAR = 24  # characters between two marks that may become one


def answer_spans(document: str, answer: str) -> list[Span]:
    """Return where the document has words of the answer: the whole answer where it is quoted, or its content words.

    Spans are in order and do not overlap; neighbours with nothing but words of the answer between them are one.
    """
    wanted = forms(answer)
    found = [(start, end) for start, end, own in _items(document) if not wanted.isdisjoint(own)]
    quoted = _quotations(document, answer.strip())
    return _joined(document, [*found, *quoted], wanted)


def foreign_spans(document: str, answer: str) -> list[Span]:
    """Return where the answer has content that the document does not have, in order."""
    known = forms(document)
    return [(start, end) for start, end, own in _items(answer) if known.isdisjoint(own)]


def _items(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield the content of a text: where each item stands, and the forms in which it may stand elsewhere."""
    last: tuple[int, int, str] | None = None
    for token in tokens(text):
        start, end, word = token.start(), token.end(), folded(compatible(token.group()))
        if token.lastgroup == "number":
            yield start, end, tuple(form for readings in numbers(compatible(token.group())) for form in readings)
        elif token.lastgroup == "word":
            if len(word) > 1 and word not in STOP_WORDS:
                yield start, end, (word, NUMBER_WORDS[word]) if word in NUMBER_WORDS else (word,)
        elif word not in STOP_WORDS:
            if last is not None and last[1] == start:
                yield last[0], end, (last[2] + word,)
            last = start, end, word


def _quotations(document: str, answer: str) -> Iterator[Span]:
    at = document.find(answer) if len(answer) > 3 else -1
    while at >= 0:
        yield at, at + len(answer)
        at = document.find(answer, at + len(answer))


def _joined(text: str, spans: Sequence[Span], wanted: frozenset[str]) -> list[Span]:
    """Return spans in order, those that overlap or have only words of the answer between them as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and (start <= joined[-1][1] or _is_join(text[joined[-1][1] : start], wanted)):
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _is_join(gap: str, wanted: frozenset[str]) -> bool:
    if len(gap) > _NEAR or "\n" in gap:
        return False
    between = [folded(compatible(token.group())) for token in tokens(gap)]
    if not between:
        return gap.isspace() or gap == "-"
    return all(word in wanted and word in STOP_WORDS for word in between) and not set(gap) & set(".!?;:")
