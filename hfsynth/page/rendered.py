"""The training texts that were rendered from a corpus's rows, found by the rows that are in them.

Texts are in the order of the rows, so a group of rows has its texts where those of the group before it end; of one row
alone they are looked for near where they should be. Nothing is rendered here. Knows no page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hfsynth.page.marks import Span
from hfsynth.page.rows import CorpusRow, CorpusRows, Group
from hfsynth.texts.pair_spans import PAIR_SPANS

SECONDS = 1.0
"""How long the text of one row is looked for."""

_SMALL = ("chain", "source_ids", "style")


@dataclass(frozen=True, slots=True)
class RenderedText:
    """One training text as it was written, and where its pairs lie where that is known; `split` is one of `data/`.

    `tokens` is None where none were counted.
    """

    text: str
    style: str
    split: str
    documents: int
    pairs: int
    tokens: int | None
    spans: tuple[Span, ...] = ()


class RenderedTexts:
    """The texts of a corpus beside its rows; `opened` opens them when they are first asked for.

    A style is `dialogue`, or `dialogue+inverted` where some questions stand before their document.
    """

    def __init__(self, rows: CorpusRows, opened: Callable[[], CorpusRows]) -> None:
        self._rows = rows
        self._opened = opened
        self._begins: dict[tuple[str, int], dict[str, int]] = {}
        self._lock = RLock()

    @cached_property
    def _texts(self) -> CorpusRows:
        return self._opened()

    @property
    def are_there(self) -> bool:
        """Whether there are texts that say of which rows they are made: a mixture of other parts does not."""
        return set(_SMALL) <= set(self._texts.columns) and "chain" in self._rows.fields("synthesis")

    def styles(self, group: Group) -> pa.Array:
        """Return the style of the text that each row of a group is in, null for a row that is in none."""
        with self._lock:
            for before in self._rows.groups(self._known(group)):
                if before.first >= group.first:
                    break
                self._matched(before)
            return self._matched(group)

    def text_of(self, row: CorpusRow, *, clock: Callable[[], float] = time.monotonic) -> RenderedText | None:
        """Return the text that a row is in; None where it is in none, or that would take too long to find."""
        until = clock() + SECONDS
        for split, group in self._nearest(row.number):
            table = self._texts.read_group(group, ["chain", "source_ids"])
            mask = pc.equal(table.column("chain"), row.chain)
            for place in pc.indices_nonzero(mask).to_pylist():
                if row.id in table.column("source_ids")[place].as_py():
                    return _text(self._texts.values(group.first + place, 1)[0], split)
            if clock() >= until:
                break
        return None

    def _nearest(self, number: int) -> Iterator[tuple[str, Group]]:
        """Yield the row groups of texts, those first that should hold the text of a row by its place in its split."""
        split = self._rows.split_of(number)
        share = (number - self._rows.start_of(split)) / self._rows.splits[split]
        for own in self._splits(split):
            start, rows = self._texts.start_of(own), self._texts.splits[own]
            guess = start + share * rows
            groups = [group for group in self._texts.groups(start) if group.file.split == own]
            for group in sorted(groups, key=lambda one: abs(one.first + one.rows / 2 - guess)):
                yield own, group

    def _splits(self, split: str) -> list[str]:
        """Return the splits of the texts that can hold what was made of a split's rows; `validation` is cut off."""
        return [own for own in self._texts.splits if own == split or own not in self._rows.splits]

    def _known(self, group: Group) -> int:
        """Return the first row of the last group up to this one whose texts' beginnings are known."""
        split = group.file.split
        start = self._rows.start_of(split)
        self._begins.setdefault((split, start), {own: self._texts.start_of(own) for own in self._splits(split)})
        return max(first for own, first in self._begins if own == split and first <= group.first)

    def _matched(self, group: Group) -> pa.Array:
        """Return the styles of a group's rows, and keep where the texts of the next one begin."""
        split = group.file.split
        keys = _keys(self._rows.read_group(group, ["id", "synthesis.chain"]))
        styles, ends = pa.nulls(len(keys), pa.string()), {}
        for own, begin in self._begins[split, group.first].items():
            found, ends[own] = self._found(keys, own, begin)
            styles = pc.coalesce(styles, found)
        self._begins[split, group.first + group.rows] = ends
        return styles

    def _found(self, keys: pa.Array, split: str, begin: int) -> tuple[pa.Array, int]:
        """Return the styles of rows from the texts of a split from `begin` on, and the last text that has one of them.

        The last one, for a chain may go on in the next group.
        """
        styles, last = pa.nulls(len(keys), pa.string()), begin
        for group in self._texts.groups(begin):
            if group.file.split != split:
                break
            skipped = max(begin - group.first, 0)
            table = self._texts.read_group(group, _SMALL).slice(skipped).combine_chunks()
            owners = pc.list_parent_indices(table.column("source_ids").combine_chunks())
            places = pc.index_in(keys, value_set=_text_keys(table, owners))
            if places.null_count == len(places):
                if skipped or group.first == begin:  # it may end with the text before those of these rows
                    continue
                break
            owner = owners.take(places)
            styles = pc.coalesce(styles, table.column("style").combine_chunks().take(owner))
            last = group.first + skipped + pc.max(owner).as_py()
            if last < group.first + group.rows - 1:
                break
        return styles, last


def _keys(table: pa.Table) -> pa.Array:
    """Return what stands for each row: its chain and its id."""
    chains = pc.struct_field(table.column("synthesis").combine_chunks(), "chain")
    return _joined(chains, table.column("id").combine_chunks())


def _text_keys(table: pa.Table, owners: pa.Array) -> pa.Array:
    """Return the same for each document of each text; `owners` are the texts' places."""
    return _joined(
        table.column("chain").combine_chunks().take(owners),
        pc.list_flatten(table.column("source_ids").combine_chunks()),
    )


def _joined(chains: pa.Array, ids: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(chains.cast(pa.string()), ids.cast(pa.string()), "\0")


def _text(values: Mapping[str, Any], split: str) -> RenderedText:
    spans = tuple((int(span["start"]), int(span["end"])) for span in values.get(PAIR_SPANS) or ())
    return RenderedText(
        str(values.get("text") or ""),
        str(values.get("style") or ""),
        split,
        int(values.get("shots") or 0),
        int(values.get("num_pairs") or 0),
        values.get("tokens"),
        spans,
    )
