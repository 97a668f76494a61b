"""A source's rows into chains, shard by shard.

Knows nothing of engines and of no file: only of rows, shards and chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from hfsynth.core.records import Row, Synthesized
from hfsynth.core.text import encodable
from hfsynth.documents.readers import BadRow
from hfsynth.engine.protocol import Chain, Completion, Request
from hfsynth.job.journal import NO_STRIKES, Death, Strikes
from hfsynth.job.passes import RowChainer
from hfsynth.job.shards import Unreadable
from hfsynth.synthesis.chains import _NEAR, documents_of, grouped
from hfsynth.synthesis.exemplars import Beginnings, neighbours
from hfsynth.synthesis.identified import Cuts


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """A chain that has ended: which one of which shard, its source rows, and a result for each."""

    shard: int
    number: int
    rows: list[Row]
    results: list[Synthesized]


class RowsDigest:
    """A digest of source rows, one after the other: of their texts and whatever else they hold."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)

    def add(self, row: Row | BadRow) -> None:
        """Take in a row; of one that cannot be read, what is wrong with it."""
        if isinstance(row, BadRow):
            others, text = repr(row.error.message), ""
        else:
            others, text = repr([(name, value) for name, value in row.items() if name != "text"]), row["text"]
        marked = f"{others}\0{'' if text is None else len(text)}\0{text or ''}\0"
        self._digest.update(marked.encode("utf-8", "surrogatepass"))

    def hexdigest(self) -> str:
        """Return 32 hex digits."""
        return self._digest.hexdigest()


class ShardReader:
    """Read a source shard by shard: `shard_rows` rows each, cut by `splitter` where need be, grouped into chains.

    `rows` reads the source from one row number to another. A row that cannot be read has a place in its chain, so that
    all other chains stay as they are when it is mended. Lone surrogates in a text are replaced: no file could
    hold them. For one thread at a time.
    """

    def __init__(
        self,
        rows: Callable[[int, int], Iterator[Row | BadRow]],
        *,
        shots: int,
        shard_rows: int,
        splitter: Cuts | None,
    ) -> None:
        self._rows = rows
        self._shots = shots
        self._shard_rows = shard_rows
        self._splitter = splitter
        self._position = 0
        self._digest = RowsDigest()
        self.rows_read = 0
        self.unreadable: list[Unreadable] = []

    @property
    def digest(self) -> str:
        """What stands for the rows that were read of the shard."""
        return self._digest.hexdigest()

    def chains(self, shard: int) -> Iterator[list[Row]]:
        """Yield the rows of each of the shard's chains, none for a chain of which no row can be read.

        Afterwards `rows_read` says how many rows the shard has, `unreadable` which of them cannot be read, and
        `digest` what they hold.
        """
        start = shard * self._shard_rows
        self._skip_to(start)
        self.rows_read, self.unreadable, self._digest = 0, [], RowsDigest()
        for group in grouped(self._pieces(start), self._shots):
            yield [row for row in group if row is not None]
        self._position = start + self.rows_read

    def _skip_to(self, start: int) -> None:
        """Read on to a row near by, which is quicker than to find it from the source's beginning again."""
        if self._position < start < _NEAR * self._position:
            for _ in self._rows(self._position, start):
                pass

    def _pieces(self, start: int) -> Iterator[Row | None]:
        for row in self._rows(start, start + self._shard_rows):
            self.rows_read += 1
            self._digest.add(row)
            if isinstance(row, BadRow):
                self.unreadable.append(Unreadable(start + self.rows_read, row.error.message))
                yield None
                continue
            clean = row if row["text"] is None else {**row, "text": encodable(row["text"])}
            yield from (clean,) if self._splitter is None else self._splitter.pieces(clean)


Numbered = tuple[int, list[Row]]


def side_by_side(chains: Iterable[Numbered], beginnings: Beginnings) -> Iterable[Numbered]:
    """Return numbered chains so that those which begin with the same exemplars are next to each other."""
    if not beginnings.each:
        return chains
    return neighbours(chains, lambda item: beginnings.number(documents_of(item[1])), lambda item: _size(item[1]))


def _size(rows: Iterable[Row]) -> int:
    return sum(len(row["text"] or "") for row in rows)


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

    def outcome(self, chainer: RowChainer) -> Chain[ChainOutcome]:
        """Return the chain for an engine. Shots that are known to kill engines are failed without one."""
        chain = chainer.of_rows(self.rows)
        poison = self.strikes.poison
        results = yield from (_without(poison, chain) if poison else chain)
        return ChainOutcome(self.shard, self.number, self.rows, results)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chain that is ready to run: its first prompt has been made."""

    run: ChainRun
    chain: Chain[ChainOutcome]

    @classmethod
    def of(cls, run: ChainRun, chainer: RowChainer) -> Prepared:
        """Make the first prompt of `run`, in the thread that calls."""
        chain = run.outcome(chainer)
        try:
            first = next(chain)
        except StopIteration as end:
            return cls(run, _ended(end.value))
        return cls(run, _begun(first, chain))


def watched_chain(chain: Chain[ChainOutcome], on_request: Callable[[int], None]) -> Chain[ChainOutcome]:
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
