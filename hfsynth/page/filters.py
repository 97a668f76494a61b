"""Find the rows that fit what was asked, row group by row group, until a page is full or the time is up.

Columns that are cheap to read (status, reason, prompt, verdicts) are looked at first, texts of the rows that are left
next, what must be computed of a pair (its kind, its grounding) last. Nothing is kept between two calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hfsynth.core.records import Pair
from hfsynth.page.rendered import RenderedTexts
from hfsynth.page.rows import CorpusRow, CorpusRows, Group, row_of
from hfsynth.quality.measures import grounding
from hfsynth.quality.task_categories import category_of

PAGE = 20
SECONDS = 1.5
_PAIRS_AT_ONCE, _TEXTS_AT_ONCE = 64, 4096
_LONGEST = 200  # characters of a text that is searched for
_NO_VERDICT = 2.0  # above every score


@dataclass(frozen=True, slots=True)
class Filters:
    """What rows are asked for; what is empty or None asks nothing.

    `style` is that of the training text that a row is in, `kind` a category of pairs, `grounding` and `accuracy` are
    bounds that at least one pair is below. `text` stands in the document or a pair, whatever its case.
    """

    status: str = ""
    reason: str = ""
    kind: str = ""
    prompt: str = ""
    text: str = ""
    grounding: float | None = None
    accuracy: float | None = None
    style: str = ""

    @property
    def is_slow(self) -> bool:
        """Whether texts must be read, or something computed of every pair."""
        return bool(self.text or self.kind) or self.grounding is not None


def filters_of(given: Sequence[Any]) -> Filters:
    """Return the filters that a page's widgets give, by its order: status, reason, text, kind, prompt, bounds, style.

    What is empty, or 0, asks nothing; what follows these eight is not read.
    """
    status, reason, text, kind, prompt, below, accuracy, style = given[:8]
    named = (status or "", reason or "", kind or "", prompt or "", (text or "").strip())
    return Filters(*named, below or None, accuracy or None, style or "")


@dataclass(frozen=True, slots=True)
class Found:
    """The numbers of rows that fit, and up to which row was looked; `ended` says that there are no more rows."""

    numbers: tuple[int, ...]
    seen: int
    ended: bool


def find(
    rows: CorpusRows,
    filters: Filters,
    *,
    texts: RenderedTexts | None = None,
    start: int = 0,
    end: int | None = None,
    limit: int = PAGE,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Return up to `limit` rows from `start` to before `end` that fit; go on at `seen` for more.

    Where the time is up there may be none yet: some rows are always looked at. `texts` are those that a style is of;
    without them no row has one.
    """
    last = len(rows) if end is None else min(end, len(rows))
    until = clock() + seconds
    if filters == Filters():
        numbers = tuple(range(start, min(start + limit, last)))
        return Found(numbers, start + len(numbers), start + len(numbers) >= last)
    found: list[int] = []
    seen = start
    for group in rows.groups(start):
        if group.first >= last or (seen > start and clock() >= until):
            break
        for number, fits in _looked_at(rows, group, filters, max(start - group.first, 0), texts):
            if number >= last:
                break
            seen = number + 1
            if fits:
                found.append(number)
                if len(found) == limit:
                    return Found(tuple(found), seen, seen >= last)
            elif filters.is_slow and clock() >= until:
                return Found(tuple(found), seen, seen >= last)
        else:
            seen = group.first + group.rows
    return Found(tuple(found), min(seen, last), seen >= last)


def _looked_at(
    rows: CorpusRows, group: Group, filters: Filters, offset: int, texts: RenderedTexts | None
) -> Iterator[tuple[int, bool]]:
    """Yield the rows of a group that fit, and where that takes long, now and then one that does not."""
    places = _cheap(rows, group, filters, offset)
    if filters.style and len(places):
        places = places[_with_style(texts.styles(group), filters.style)[places]] if texts else places[:0]
    if not filters.is_slow or not len(places):
        yield from ((group.first + int(place), True) for place in places)
        return
    table = rows.read_group(group, ["text", "pairs"])
    for at in range(0, len(table), _TEXTS_AT_ONCE):
        chosen = places[(places >= at) & (places < at + _TEXTS_AT_ONCE)]
        if len(chosen) and filters.text:
            chosen = chosen[_with_text(table.slice(at, _TEXTS_AT_ONCE), filters.text)[chosen - at]]
        yield from _computed(table, group, filters, chosen)
        if at + _TEXTS_AT_ONCE > offset:
            yield group.first + min(at + _TEXTS_AT_ONCE, len(table)) - 1, False


def _computed(table: pa.Table, group: Group, filters: Filters, places: np.ndarray) -> Iterator[tuple[int, bool]]:
    """Yield rows of a table whose pairs fit or do not."""
    for at in range(0, len(places), _PAIRS_AT_ONCE):
        chosen = places[at : at + _PAIRS_AT_ONCE]
        for place, values in zip(chosen, table.take(pa.array(chosen)).to_pylist(), strict=True):
            row = row_of(values, 0)
            yield group.first + int(place), _fits(row.text, row.pairs, filters)


def fits(row: CorpusRow, filters: Filters) -> bool:
    """Say whether a row that is in memory fits; a row whose document is not there has no grounding."""
    wanted = filters.text.casefold()
    told = (row.text, *(side for pair in row.pairs for side in (pair.instruction, pair.response)))
    accuracies = (one.get("accuracy") for one in row.verdicts)
    bound = filters.accuracy
    return (
        filters.status in ("", row.status)
        and filters.prompt in ("", row.synthesis.get("prompt"))
        and (not filters.reason or filters.reason in {reason for reason, _ in row.rejected})
        and (not wanted or any(wanted in one.casefold() for one in told))
        and (bound is None or any(score is not None and score < bound for score in accuracies))
        and not filters.style
        and not (row.absent and filters.grounding is not None)
        and _fits(row.text, row.pairs, filters)
    )


def _fits(text: str, pairs: Sequence[Pair], filters: Filters) -> bool:
    bound = filters.grounding
    if not filters.kind and bound is None:
        return True
    return any(
        (not filters.kind or category_of(pair) == filters.kind)
        and (bound is None or grounding(text, pair.response) < bound)
        for pair in pairs
    )


def _cheap(rows: CorpusRows, group: Group, filters: Filters, offset: int) -> np.ndarray:
    """Return the places in a group, from `offset` on, that small columns let through."""
    mask = np.ones(group.rows, dtype=bool)
    mask[:offset] = False
    for name, value in (("status", filters.status), ("prompt", filters.prompt)):
        if not value:
            continue
        if name not in rows.fields("synthesis") or not rows.may_hold(group, f"synthesis.{name}", value):
            return np.empty(0, dtype=np.int64)
        column = rows.read_group(group, [f"synthesis.{name}"]).column("synthesis")
        mask &= _as_mask(pc.equal(pc.struct_field(column, name), value))
    if filters.reason and mask.any():
        if "rejected" not in rows.fields("synthesis"):
            return np.empty(0, dtype=np.int64)
        lists = pc.struct_field(rows.read_group(group, ["synthesis.rejected"]).column("synthesis"), "rejected")
        mask &= _any_of(lists, lambda items: pc.equal(pc.struct_field(items, "reason"), filters.reason))
    if filters.accuracy is not None and mask.any():
        if "verdicts" not in rows.columns:
            return np.empty(0, dtype=np.int64)
        lists = rows.read_group(group, ["verdicts"]).column("verdicts")
        bound = filters.accuracy
        mask &= _any_of(
            lists, lambda items: pc.less(pc.fill_null(pc.struct_field(items, "accuracy"), _NO_VERDICT), bound)
        )
    return np.flatnonzero(mask)


def _with_style(styles: pa.Array, style: str) -> np.ndarray:
    """Return which texts have a style, inverted or not."""
    return _as_mask(pc.or_kleene(pc.equal(styles, style), pc.starts_with(styles, f"{style}+")))


def _with_text(table: pa.Table, text: str) -> np.ndarray:
    """Return which rows of a table have a text in the document or a pair."""
    wanted = text[:_LONGEST]

    def holds(strings: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.match_substring(strings, wanted, ignore_case=True)

    mask = _as_mask(holds(table.column("text")))
    for said in ("instruction", "response"):
        mask |= _any_of(table.column("pairs"), partial(_field, said, holds))
    return mask


def _field(name: str, fits: Callable[[pa.Array], pa.Array], items: pa.Array) -> pa.Array:
    return fits(pc.struct_field(items, name))


def _as_mask(found: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)


def _any_of(lists: pa.ChunkedArray, fits: Callable[[pa.Array], pa.Array]) -> np.ndarray:
    """Return which lists have an item that fits."""
    mask = np.zeros(len(lists), dtype=bool)
    first = 0
    for chunk in lists.chunks:
        fitting = np.asarray(pc.fill_null(fits(pc.list_flatten(chunk)), False).to_numpy(zero_copy_only=False), bool)
        mask[first + np.asarray(pc.list_parent_indices(chunk).to_numpy(zero_copy_only=False))[fitting]] = True
        first += len(chunk)
    return mask
