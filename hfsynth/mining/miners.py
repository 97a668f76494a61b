"""What can be asked of a document by its form alone, one function a kind of evidence; every answer is text of it.

Pure: the same document gives the same candidates in the same order. Drawn are only the neighbourhood that gaps are
taken from and the order of sentences, from the stream that is given.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import NamedTuple

from hfsynth.core.draws import Draws
from hfsynth.mining.passages import Listing, Passage, Table, is_telling
from hfsynth.mining.rules import Rules

GAP = "____"
# What stands before is looked at behind the first character: a search for that one is several times as fast.
_NUMBER = re.compile(r"\d(?<![\w.,/-]\d)(?:[\d,.]*\d)?(?![\w/-]|[.,]\d)%?")
_NAME = re.compile(r"[A-Z](?<=[a-zß-ÿ,] [A-Z])[\w’'-]{2,}(?: [A-Z][\w’'-]+)*")
_TERM = re.compile(r"[a-zß-öø-ÿ]{6,}")
_LONGEST_PAIR_OF_SENTENCES = 400  # characters, of what stands in a question
_OPTIONS = 3
_NEIGHBOURHOOD = 12  # sentences
_KEY_TERMS = 6

Neighbours = tuple[str, str, re.Match[str] | None]
"""A sentence, the one after it, and what that one's first words say of how it goes with it, if they say it."""


class Mined(NamedTuple):
    """A pair in the making: its kind, what is put into the kind's wording, the answer, and options to choose from."""

    kind: str
    response: str
    a: str = ""
    b: str = ""
    options: tuple[str, ...] = ()


def candidates(passage: Passage, rules: Rules, draws: Draws) -> Iterator[Mined]:
    """Yield all that the document lends itself to, in the order of the text within each kind of evidence."""
    paragraphs = [tuple(filter(is_telling, paragraph)) for paragraph in passage.paragraphs]
    sentences = [sentence for paragraph in paragraphs for sentence in paragraph]
    yield from _headings(passage)
    for paragraph in passage.paragraphs:
        neighbours = _neighbours(paragraph, rules)
        yield from _relations(neighbours, sentences, rules)
        yield from _continuations(neighbours)
    for sentence in sentences:
        yield from _inside(sentence, rules)
    yield from _gaps(sentences, rules, draws)
    yield from _terms(sentences, rules)
    for listing in passage.lists:
        yield from _listing(listing)
    for table in passage.tables:
        yield from _table(table)
    for paragraph in paragraphs:
        yield from _order(paragraph, draws)


def upper_first(text: str) -> str:
    """Return a text that begins with a capital letter where it begins with a letter."""
    return text[:1].upper() + text[1:]


def _headings(passage: Passage) -> Iterator[Mined]:
    told = [section for section in passage.sections if section.paragraphs]
    if passage.title and told:
        yield Mined("title", passage.title)
    if told and is_telling(opening := told[0].paragraphs[0][0]):
        yield Mined("opening", opening)
    for section in told:
        first = section.paragraphs[0]
        if section.heading and section.heading != passage.title and is_telling(first[0]):
            yield Mined("section", " ".join(first[:2]), section.heading)
            yield Mined("summary", first[0], section.heading)


def _neighbours(paragraph: Sequence[str], rules: Rules) -> list[Neighbours]:
    """Return the sentences that follow one which is long enough to ask about, with how their first words join them."""
    return [
        (before, sentence, rules.opener.match(sentence))
        for before, sentence in pairwise(paragraph)
        if is_telling(before)
    ]


def _relations(neighbours: Iterable[Neighbours], sentences: Sequence[str], rules: Rules) -> Iterator[Mined]:
    """Yield what a sentence's first words say about the one before it."""
    for before, sentence, found in neighbours:
        if found is None or not is_telling(rest := upper_first(sentence[found.end() :])):
            continue
        kind = str(found.lastgroup)
        yield Mined(kind, rest, before)
        if kind != "effect":
            continue
        yield Mined("cause", before, rest)
        others = [other for other in sentences if other not in (before, sentence) and rules.opener.match(other) is None]
        if len(others) >= 2:
            yield Mined("entailment", rest, before, options=(rest, others[0], others[-1]))


def _inside(sentence: str, rules: Rules) -> Iterator[Mined]:
    """Yield what a sentence holds by itself: a definition, a reason for what it says."""
    if (found := rules.definition.match(sentence)) is not None:
        term = found["term"]
        if term.partition(" ")[0].lower() not in rules.common:
            yield Mined("definition", sentence, term)
    if (found := rules.reason.match(sentence)) is not None and is_telling(found["why"]):
        yield Mined("reason", upper_first(found["why"]), found["head"] + ".")


def _continuations(neighbours: Iterable[Neighbours]) -> Iterator[Mined]:
    for before, sentence, found in neighbours:
        if found is None and is_telling(sentence):
            yield Mined("continuation", sentence, before)


def _gaps(sentences: Sequence[str], rules: Rules, draws: Draws) -> Iterator[Mined]:
    """Yield sentences with a number or a name taken out, and others of the neighbourhood to choose from."""
    start = draws.below(max(1, len(sentences) - _NEIGHBOURHOOD + 1))
    near = sentences[start : start + _NEIGHBOURHOOD]
    for kind, pattern in (("number", _NUMBER), ("name", _NAME)):
        found = [(sentence, match) for sentence in near for match in pattern.finditer(sentence)]
        others = dict.fromkeys(match[0] for _, match in found if match[0].lower() not in rules.common)
        for sentence, match in found:
            gone = match[0]
            if gone not in others or sentence.count(gone) > 1:  # it would still be there
                continue
            apart = (other for other in others if other not in sentence and gone not in other)
            wrong = tuple(islice(apart, _OPTIONS))
            options = (gone, *wrong) if len(wrong) == _OPTIONS else ()
            yield Mined(kind, gone, f"{sentence[: match.start()]}{GAP}{sentence[match.end() :]}", options=options)


def _terms(sentences: Sequence[str], rules: Rules) -> Iterator[Mined]:
    """Yield what the words that come again in a document connect: sorted, for equal ones have no order of their own."""
    words = [set(_TERM.findall(sentence.lower())) for sentence in sentences]
    counted = Counter(chain.from_iterable(words))
    again = ((word, count) for word, count in counted.items() if count > 1 and word not in rules.common)
    key = [word for word, _ in sorted(again, key=lambda found: (-found[1], found[0]))[:_KEY_TERMS]]
    if len(key) >= 3:
        holding = [sentences[next(at for at, found in enumerate(words) if word in found)] for word in key]
        yield Mined("terms", ", ".join(map(_as_written, key, holding)))
    for sentence, found in zip(sentences, words, strict=True):
        there = [word for word in key if word in found]
        if len(there) >= 2:
            first, second = (_as_written(word, sentence) for word in there[:2])
            yield Mined("sentence", sentence, first, second)


def _as_written(word: str, sentence: str) -> str:
    """Return a word as the sentence has it, capitals and all."""
    at = sentence.lower().find(word)
    return sentence[at : at + len(word)]


def _listing(listing: Listing) -> Iterator[Mined]:
    if listing.lead:
        yield Mined("list", "\n".join(f"- {item}" for item in listing.items), listing.lead)
    for item, following in pairwise(listing.items):
        if listing.items.count(item) == 1:
            yield Mined("item", following, item)


def _table(table: Table) -> Iterator[Mined]:
    """Yield look-ups by row and column, and of rows by a value that only they have."""
    names = Counter(row[0] for row in table.rows)
    for row in table.rows:
        if not row[0] or names[row[0]] > 1:
            continue
        for column, cell in zip(table.columns[1:], row[1:], strict=True):
            if cell:
                yield Mined("cell", cell, row[0], column)
                if sum(cell in other[1:] for other in table.rows) == 1:
                    yield Mined("row", row[0], column, cell)


def _order(paragraph: Sequence[str], draws: Draws) -> Iterator[Mined]:
    """Yield three neighbouring sentences in another order; the answer is the letters' order."""
    for at in range(0, len(paragraph) - 2, 3):
        three = paragraph[at : at + 3]
        if sum(map(len, three)) > _LONGEST_PAIR_OF_SENTENCES or len(set(three)) < 3:
            continue
        order = draws.order(3)
        shown = "\n".join(f"({letter}) {three[place]}" for letter, place in zip("ABC", order, strict=True))
        yield Mined("order", ", ".join("ABC"[list(order).index(place)] for place in range(3)), shown)
