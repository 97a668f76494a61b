"""Several splits of one source, opened together and read as one, and which shards of a job belong to which.

The splits come one after the other, each from a shard of its own on: no shard, and so no chain, crosses one. Rows are
numbered with the gaps that this leaves behind a split whose last shard is not full. Knows nothing of engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Self

from hfsynth.core.errors import ColumnError, ConfigError, SourceError
from hfsynth.documents.readers import BadRow, Row
from hfsynth.documents.source import OpenSource, Source, open_source, split_names


@dataclass(frozen=True, slots=True)
class SplitLayout:
    """The number of rows of each split, in order, and of a shard."""

    sizes: Mapping[str, int]
    shard_rows: int

    @classmethod
    def of(cls, extent: Mapping[str, Any] | None, shard_rows: int) -> Self | None:
        """Return the layout that a job's extent states; None for the job of one split."""
        return cls(extent["splits"], shard_rows) if extent and "splits" in extent else None

    @property
    def shards(self) -> dict[str, range]:
        """The shards of each split."""
        found, first = {}, 0
        for name, rows in self.sizes.items():
            found[name] = range(first, first - (-rows // self.shard_rows))
            first = found[name].stop
        return found

    def extent(self) -> dict[str, Any]:
        """Return how long the job is, as its journal holds it."""
        shards = max(found.stop for found in self.shards.values())
        return {"shards": shards, "rows": sum(self.sizes.values()), "exact": True, "splits": dict(self.sizes)}

    def name_of(self, shard: int) -> str:
        """Return how the name of a shard's published file begins: its split, and its place in it."""
        split, own = next((split, own) for split, own in self.shards.items() if shard in own)
        return f"{split}-{shard - own.start:05d}"

    def rows_of(self, shard: int) -> int:
        """Return how many rows a shard has."""
        for name, shards in self.shards.items():
            if shard in shards:
                return min(self.shard_rows, self.sizes[name] - (shard - shards.start) * self.shard_rows)
        return 0

    def pieces(self, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
        """Yield the splits between two row numbers, each with its own row numbers in them."""
        for name, shards in self.shards.items():
            first = shards.start * self.shard_rows
            begin, end = max(start - first, 0), min(stop - first, self.sizes[name])
            if begin < end:
                yield name, begin, end


def other_length(split: str, expected: int, found: str) -> SourceError:
    """Return the error for a split that does not hold what it declares."""
    return SourceError(
        f"The split {split!r} should have {expected:,} rows, and has {found}.",
        hint="It has changed since the job began, or its dataset declares a wrong number: give its splits one by one.",
    )


ALL = "all"


class SplitSource(OpenSource):
    """Splits of one source, of the same columns; `splits` are open sources by name, in order.

    `rows` needs a layout, since row numbers depend on where each split begins.
    """

    def __init__(self, splits: Mapping[str, OpenSource]) -> None:
        self.splits = dict(splits)
        first = next(iter(self.splits.values()))
        self.revision = _joined(self.splits)
        self.require_unchanged = self._require_unchanged
        self.features, self.columns = first.features, first.columns
        self.num_rows = self.expected_rows = None
        self.is_local = all(opened.is_local for opened in self.splits.values())
        self.layout: SplitLayout | None = None

    def sizes(self, *, at_hand: bool) -> dict[str, int]:
        """Return the rows of each split: known, counted where they are at hand, declared, or else counted."""
        return {name: _size(opened, at_hand) for name, opened in self.splits.items()}

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Row | BadRow]:
        """Stream rows by the numbers of the layout; without one those of the first split."""
        if self.layout is None:
            yield from next(iter(self.splits.values())).read(start, stop)
            return
        end = self.layout.extent()["shards"] * self.layout.shard_rows
        for name, first, last in self.layout.pieces(start, end if stop is None else stop):
            size = self.layout.sizes[name]
            beyond = int(last == size)
            for number, row in enumerate(self.splits[name].read(first, last + beyond), first):
                if number == size:
                    raise other_length(name, size, "more")
                yield row

    def _require_unchanged(self) -> None:
        for opened in self.splits.values():
            opened.require_unchanged()

    def count(self) -> int:
        """Return the number of rows of all splits, reading everything where there is no other way."""
        return sum(self.sizes(at_hand=True).values())


def open_source_splits(source: Source) -> tuple[Source, OpenSource]:
    """Open a source of one split or several, `all` of them where it says so; return it with their names too.

    Raise what `open_source` raises, ConfigError for several splits of files, which have none, ColumnError for splits of
    different columns.
    """
    several = isinstance(source.split, tuple)
    if not several and source.split != ALL:
        return source, open_source(source)
    there = split_names(source)
    if there is None and several:
        raise ConfigError(
            f"{source.location} has no splits.", hint="Leave --split out, or give each part its own folder."
        )
    if there is None or (len(there) == 1 and not several) or (ALL in there and not several):
        single = replace(source, split="train" if there is None else ALL if ALL in there else there[0])
        return single, open_source(single)
    names = tuple(source.split or ()) if several else tuple(there)
    return replace(source, split=names), SplitSource(_opened(source, names))


def _opened(source: Source, names: tuple[str, ...]) -> dict[str, OpenSource]:
    splits: dict[str, OpenSource] = {}
    for name in names:
        splits[name] = open_source(replace(source, split=name))
        first = next(iter(splits))
        if splits[name].features != splits[first].features:
            raise ColumnError(
                f"The splits {first!r} and {name!r} of {source.location} have different columns: "
                f"{', '.join(splits[first].columns)}; {', '.join(splits[name].columns)}.",
                hint="Make a job of each, or give them the same columns and types.",
            )
    return splits


def _joined(splits: Mapping[str, OpenSource]) -> str:
    """Return the revision of all splits: the commit that they share, or a digest of their own."""
    revisions = {name: opened.revision for name, opened in splits.items()}
    if len({*revisions.values()}) == 1:
        return next(iter(revisions.values()))
    return blake2b(
        "\n".join(f"{name} {revision}" for name, revision in revisions.items()).encode(), digest_size=16
    ).hexdigest()


def _size(opened: OpenSource, at_hand: bool) -> int:
    if opened.num_rows is not None:
        return opened.num_rows
    declared = None if at_hand else opened.expected_rows
    return opened.count() if declared is None else declared
