"""A source's rows into chains, shard by shard.

Knows nothing of engines and of no file: only of rows, shards and chains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain as chain_iterables
from itertools import islice

from hfsynth.chains import Chain, Chainer, grouped
from hfsynth.delimiters import encodable
from hfsynth.records import Document, Synthesized
from hfsynth.shards import Row
from hfsynth.splitting import piece_id, split_text


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """A chain that has ended: which one of which shard, its source rows, and a result for each."""

    shard: int
    number: int
    rows: list[Row]
    results: list[Synthesized]


@dataclass(frozen=True, slots=True)
class Splitter:
    """Cut rows whose document does not fit the window.

    A document that fits is left whole. Pieces of one that does not are made small enough (`piece_tokens`) for a whole
    chain of them, pairs included, to share one window. Token counts are those of a prompt about the text alone.
    """

    count: Callable[[str], int]
    room: int
    piece_tokens: int

    @classmethod
    def of(cls, chainer: Chainer) -> Splitter:
        """Make the splitter for the prompts of `chainer`."""
        room = chainer.window - chainer.max_tokens
        share = (room - (chainer.shots - 1) * chainer.max_tokens) // chainer.shots
        smallest = chainer.overhead + 64
        return cls(lambda text: len(chainer.prompts.prompt((), text)), room, min(room, max(share, smallest)))

    def pieces(self, row: Row) -> Iterator[Row]:
        """Yield the row, or its pieces, with `source_id` and `offset` (in characters) added."""
        text, name = row["text"], row["id"]
        if text is None or not text.strip() or self.count(text) <= self.room:
            yield {**row, "source_id": name, "offset": 0}
            return
        for piece in split_text(text, self.piece_tokens, self.count):
            own = {"id": piece_id(name, piece, text), "text": piece.text, "source_id": name, "offset": piece.offset}
            yield {**row, **own}


class Feeder:
    """Make the chains of the shards that are not in `finished`; know how many chains each shard turned out to have.

    `rows` reads the source from one row number to another (None: to the end). `chains_in` is filled as shards have
    been read to their end, before their last chain is handed out; `rows_read` counts source rows, `total` is the number
    of shards once the source has ended. Halves of characters in a text are replaced: no file could hold them.
    """

    def __init__(
        self,
        rows: Callable[[int, int | None], Iterator[Row]],
        chainer: Chainer,
        *,
        shard_rows: int,
        finished: Collection[int],
        splitter: Splitter | None,
    ) -> None:
        self._rows = rows
        self._chainer = chainer
        self._shard_rows = shard_rows
        self._finished = finished
        self._splitter = splitter
        self.chains_in: dict[int, int] = {}
        self.rows_read = len(finished) * shard_rows
        self.total: int | None = None

    def chains(self) -> Iterator[Chain[ChainOutcome]]:
        """Yield the chains of every unfinished shard, in order, without a pause between shards."""
        shard = 0
        for last in [*sorted(self._finished), None]:
            if last is None or shard < last:
                shard = yield from self._shards(shard, last)
            if last is not None:
                shard = last + 1
        self.total = shard
        self.rows_read -= self._short_by(shard - 1)

    def _shards(self, first: int, end: int | None) -> Generator[Chain[ChainOutcome], None, int]:
        """Yield the chains of shards `first` to `end` from one pass over their rows; return the shard after them."""
        rows = self._rows(first * self._shard_rows, None if end is None else end * self._shard_rows)
        shard = first
        while (row := next(rows, None)) is not None:
            yield from self._shard(shard, chain_iterables([row], islice(rows, self._shard_rows - 1)))
            shard += 1
        return shard

    def _shard(self, shard: int, rows: Iterable[Row]) -> Iterator[Chain[ChainOutcome]]:
        """Yield one shard's chains. One is held back, so that `chains_in` is known before the last one is under way."""
        groups = grouped(self._pieces(rows), self._chainer.shots)
        number, group = 0, next(groups, None)
        while group is not None:
            following = next(groups, None)
            if following is None:
                self.chains_in[shard] = number + 1
            yield self._outcome(shard, number, group)
            number, group = number + 1, following

    def _pieces(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows_read += 1
            clean = row if row["text"] is None else {**row, "text": encodable(row["text"])}
            yield from (clean,) if self._splitter is None else self._splitter.pieces(clean)

    def _short_by(self, shard: int) -> int:
        """Return how many rows the source's last shard lacks, where it was finished before and not read now."""
        if shard not in self._finished:
            return 0
        return self._shard_rows - sum(1 for _ in self._rows(shard * self._shard_rows, None))

    def _outcome(self, shard: int, number: int, rows: list[Row]) -> Chain[ChainOutcome]:
        documents = [Document(row["id"], row["text"]) for row in rows]
        return ChainOutcome(shard, number, rows, (yield from self._chainer.chain(documents)))
