"""A document as the miners see it: its sentences in order, headings, lists and tables. Knows no language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from hfsynth.documents.boundaries import sentence_ends

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_ITEM = re.compile(r"\s*(?:[-*•‣–]|\(?\d{1,3}[.)])\s+(\S.*)")
_MARKUP = re.compile(r"^#{1,6}\s+|\s+#+$|^\*\*|\*\*$")
_RULE = re.compile(r"[\s|:=+-]+")
_ENDS = (".", "!", "?", "…", ":", ";", ",", "。", "।")
_LONGEST_HEADING = 12  # words
_LONGEST_LEAD = 200  # characters
_LONGEST_SENTENCE, _SHORTEST_SENTENCE = 60, 4  # words


@dataclass(frozen=True, slots=True)
class Table:
    """The names of the columns, and rows of as many cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """The items of a list, and the line before it."""

    lead: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, empty where there is none, and the sentences of the paragraphs under it, white space made plain."""

    heading: str
    paragraphs: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """All of a document that miners use."""

    title: str
    sections: tuple[Section, ...]
    lists: tuple[Listing, ...]
    tables: tuple[Table, ...]

    @property
    def paragraphs(self) -> Iterator[tuple[str, ...]]:
        """The sentences of each paragraph."""
        return (paragraph for section in self.sections for paragraph in section.paragraphs)


def passage_of(text: str) -> Passage:
    """Take a document apart."""
    lists: list[Listing] = []
    tables: list[Table] = []
    sections: list[tuple[str, list[tuple[str, ...]]]] = [("", [])]
    title = lead = ""
    for number, block in enumerate(_BLANK.split(text.strip())):
        lines = [line for line in block.split("\n") if line.strip()]
        if len(lines) > 1 and _is_heading(lines[0]) and not _ITEM.match(lines[0]) and not _cells(lines[0]):
            sections.append((_plain(lines[0]), []))
            title = title or (sections[-1][0] if number == 0 else "")
            lead, lines = sections[-1][0], lines[1:]
        if len(lines) == 1 and _is_heading(lines[0]):
            sections.append((_plain(lines[0]), []))
            title = title or (sections[-1][0] if number == 0 else "")
            lead = sections[-1][0]
            continue
        if (table := _table(lines)) is not None:
            tables.append(table)
        elif (found := _listing(lines, lead)) is not None:
            lists.append(found)
        elif sentences := sentences_of(" ".join(lines)):
            sections[-1][1].append(sentences)
        lead = _plain(lines[-1]) if lines and len(lines[-1]) <= _LONGEST_LEAD else ""
    made = tuple(Section(heading, tuple(paragraphs)) for heading, paragraphs in sections if heading or paragraphs)
    return Passage(title, made, tuple(lists), tuple(tables))


def sentences_of(text: str) -> tuple[str, ...]:
    """Return the sentences of a paragraph, white space made plain; what follows its last sentence end is none."""
    ends = sentence_ends(text)
    starts = [0, *ends]
    return tuple(" ".join(text[start:end].split()) for start, end in zip(starts, ends, strict=False))


def is_telling(sentence: str) -> bool:
    """Return whether a sentence is long enough to say something, and short enough to be an answer."""
    return _SHORTEST_SENTENCE <= sentence.count(" ") + 1 <= _LONGEST_SENTENCE


def _is_heading(line: str) -> bool:
    words = line.split()
    fits = 0 < len(words) <= _LONGEST_HEADING and not line.rstrip().endswith(_ENDS)
    return fits and any(character.isalpha() for character in line) and "|" not in line and "\t" not in line


def _plain(line: str) -> str:
    return " ".join(_MARKUP.sub("", line.strip()).split())


def _listing(lines: Sequence[str], lead: str) -> Listing | None:
    """Return the longest run of items among a block's lines, with the line before it."""
    if sum(_ITEM.match(line) is not None for line in lines) < 3:
        return None
    grouped = groupby(lines, lambda line: _ITEM.match(line) is not None)
    longest = max((list(run) for is_item, run in grouped if is_item), key=len)
    if len(longest) < 3:
        return None
    at = lines.index(longest[0])
    items = tuple(_plain(found[1]) for line in longest if (found := _ITEM.match(line)))
    return Listing((_plain(lines[at - 1]) if at else lead).rstrip(":"), items)


def _cells(line: str) -> tuple[str, ...]:
    if line.count("|") < 2 and "\t" not in line:
        return ()
    return tuple(_plain(cell) for cell in re.split(r"\||\t", line.strip().strip("|")))


def _table(lines: Sequence[str]) -> Table | None:
    """Return the block as a table where its lines have the same number of cells, at least two."""
    rows = [cells for line in lines if not _RULE.fullmatch(line) and (cells := _cells(line))]
    if len(rows) < 3 or len(rows) < len(lines) - 1 or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return None
    return Table(rows[0], tuple(rows[1:])) if all(rows[0]) else None
