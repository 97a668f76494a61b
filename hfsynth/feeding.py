"""A source's rows into chains, shard by shard.

Knows nothing of engines and of no file: only of rows, shards and chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from hfsynth.chains import Chain, Chainer, Completion, Request, grouped
from hfsynth.delimiters import encodable
from hfsynth.journal import NO_STRIKES, Death, Strikes
from hfsynth.records import Document, Synthesized
from hfsynth.shards import Row
from hfsynth.splitting import piece_id, split_text

# To read a row and drop it costs about ten times as much as to pass over it on the way from the beginning.
_NEAR = 1.1


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


class ShardReader:
    """Read a source shard by shard: `shard_rows` rows each, those too long cut by `splitter`, grouped into chains.

    `rows` reads the source from one row number to another. Halves of characters in a text are replaced: no file could
    hold them. For one thread at a time.
    """

    def __init__(
        self,
        rows: Callable[[int, int], Iterator[Row]],
        *,
        shots: int,
        shard_rows: int,
        splitter: Splitter | None,
    ) -> None:
        self._rows = rows
        self._shots = shots
        self._shard_rows = shard_rows
        self._splitter = splitter
        self._position = 0
        self.rows_read = 0

    def chains(self, shard: int) -> Iterator[list[Row]]:
        """Yield the rows of each of the shard's chains; afterwards `rows_read` says how many rows the shard has."""
        start = shard * self._shard_rows
        self._skip_to(start)
        self.rows_read = 0
        yield from grouped(self._pieces(self._rows(start, start + self._shard_rows)), self._shots)
        self._position = start + self.rows_read

    def _skip_to(self, start: int) -> None:
        """Read on to a row near by, which is quicker than to find it from the source's beginning again."""
        if self._position < start < _NEAR * self._position:
            for _ in self._rows(self._position, start):
                pass

    def _pieces(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows_read += 1
            clean = row if row["text"] is None else {**row, "text": encodable(row["text"])}
            yield from (clean,) if self._splitter is None else self._splitter.pieces(clean)


@dataclass(frozen=True, slots=True)
class ChainRun:
    """One chain that is to be run: which one of which shard, its rows, and what is held against it."""

    shard: int
    number: int
    rows: list[Row]
    strikes: Strikes = NO_STRIKES

    @property
    def key(self) -> tuple[int, int]:
        """What names the chain within the job; keys are in the order of the source."""
        return self.shard, self.number

    def struck(self, death: Death, shot: int | None, *, among: int) -> ChainRun:
        """Return this run with one more strike, of a death with `among` chains in flight."""
        return replace(self, strikes=self.strikes.struck(death, shot, among=among))

    def outcome(self, chainer: Chainer) -> Chain[ChainOutcome]:
        """Return the chain for an engine. Shots that are known to kill engines are failed without one."""
        documents = [Document(row["id"], row["text"]) for row in self.rows]
        chain = chainer.chain(documents)
        poison = self.strikes.poison
        results = yield from (_without(poison, chain) if poison else chain)
        return ChainOutcome(self.shard, self.number, self.rows, results)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chain that is ready to run: its first prompt has been made."""

    run: ChainRun
    chain: Chain[ChainOutcome]

    @classmethod
    def of(cls, run: ChainRun, chainer: Chainer) -> Prepared:
        """Make the first prompt of `run`, in the thread that calls."""
        chain = run.outcome(chainer)
        try:
            first = next(chain)
        except StopIteration as end:
            return cls(run, _ended(end.value))
        return cls(run, _begun(first, chain))


def watched(chain: Chain[ChainOutcome], on_request: Callable[[int], None]) -> Chain[ChainOutcome]:
    """Tell the shot of every request of `chain` before it goes to the engine."""
    try:
        request = next(chain)
        while True:
            on_request(request.shot)
            request = chain.send((yield request))
    except StopIteration as end:
        outcome: ChainOutcome = end.value
        return outcome


def _without(poison: Mapping[int, str], chain: Chain[list[Synthesized]]) -> Chain[list[Synthesized]]:
    """Answer the requests of some shots with the error that is held against them."""
    try:
        request = next(chain)
        while True:
            why = poison.get(request.shot)
            request = chain.send((yield request) if why is None else Completion("", "error", error=why))
    except StopIteration as end:
        results: list[Synthesized] = end.value
        return results


def _begun(first: Request, chain: Chain[ChainOutcome]) -> Chain[ChainOutcome]:
    """Go on with a chain whose first request has been taken out already."""
    request = first
    try:
        while True:
            request = chain.send((yield request))
    except StopIteration as end:
        outcome: ChainOutcome = end.value
        return outcome


def _ended(outcome: ChainOutcome) -> Chain[ChainOutcome]:
    yield from ()
    return outcome
