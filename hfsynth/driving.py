"""Drive one engine through chains, and outlive its deaths.

Every chain is noted in the journal when it is handed over and when it has ended. When the engine dies it is loaded
again and the chains in flight are run again; those in flight at two deaths are run alone, and a document with which
the engine dies again is not given to it any more. Knows nothing of sources, parts or leases.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from hfsynth.chains import Chain, Chainer
from hfsynth.channel import Channel, Closed
from hfsynth.engine import Engine, Generation
from hfsynth.errors import EngineError, HfsynthError, ModelError
from hfsynth.feeding import ChainOutcome, ChainRun, Prepared, watched
from hfsynth.journal import Death, Segments
from hfsynth.stopping import Stop

_WAIT_AT_MOST = 30.0


class Loader(Protocol):
    """Loads the engine, and lets go of one that has died."""

    def load(self) -> Engine: ...
    def drop(self, engine: Engine) -> None: ...


class Driver:
    """Run chains on an engine that may die `max_restarts` times in a row without finishing a chain in between."""

    def __init__(
        self,
        loader: Loader,
        chainer_of: Callable[[Engine], Chainer],
        generation_of: Callable[[Chainer], Generation],
        segments: Segments,
        stop: Stop,
        *,
        max_restarts: int,
    ) -> None:
        self._loader = loader
        self._segments = segments
        self._stop = stop
        self._max_restarts = max_restarts
        self._engine = loader.load()
        self.chainer = chainer_of(self._engine)
        self._generation = generation_of(self.chainer)
        self._under_way: dict[tuple[int, int], ChainRun] = {}
        self._again: list[ChainRun] = []
        self._alone: list[ChainRun] = []
        self._shot: int | None = None
        self._ended = False
        self._deaths_in_a_row = 0
        self.restarts = 0

    def outcomes(self, prepared: Channel[Prepared]) -> Iterator[ChainOutcome]:
        """Yield every chain's outcome as it ends, until the channel has ended or a stop is asked for.

        A chain that must run alone waits until those under way have ended. Raise EngineError where the engine keeps
        dying, or loses a chain.
        """
        self._ended = False
        while not (self._ended or self._stop.requested):
            try:
                yield from self._ending(self._chains(prepared))
                while self._alone and not self._stop.requested:
                    yield from self._ending([self._alone_chain(self._alone.pop(0))])
                    self._shot = None
            except EngineError as error:
                self._outlive(error)
            else:
                self._require_answers()

    def _chains(self, prepared: Channel[Prepared]) -> Iterator[Chain[ChainOutcome]]:
        """Hand chains over until one must run alone, or there are no more."""
        while not self._stop.requested:
            item = self._next(prepared)
            if item is None:
                self._ended = True
                return
            if item.run.strikes.is_suspect:
                self._alone.append(item.run)
                return
            self._under_way[item.run.key] = item.run
            self._segments.started(*item.run.key)
            yield item.chain

    def _next(self, prepared: Channel[Prepared]) -> Prepared | None:
        if self._again:
            return Prepared.of(self._again.pop(0), self.chainer)
        try:
            return prepared.get()
        except Closed:
            return None

    def _alone_chain(self, run: ChainRun) -> Chain[ChainOutcome]:
        """Return a chain that notes every shot: should the engine die, that is the document which killed it."""

        def note(shot: int) -> None:
            self._shot = shot
            self._segments.started(*run.key, shot=shot)

        self._under_way[run.key] = run
        return watched(run.outcome(self.chainer), note)

    def _ending(self, chains: Iterable[Chain[ChainOutcome]]) -> Iterator[ChainOutcome]:
        for outcome in self._engine.run(chains, self._generation):
            self._segments.finished(outcome.shard, outcome.number, outcome.results)
            del self._under_way[outcome.shard, outcome.number]
            self._deaths_in_a_row = 0
            yield outcome

    def _outlive(self, error: EngineError) -> None:
        """Hold the death against the chains in flight, put them back in front, and load the engine again."""
        death = Death(error.message)
        victims = [self._under_way[key] for key in sorted(self._under_way)]
        self._segments.died(self._under_way, death.why)
        self._again = [*(run.struck(death, self._shot) for run in victims), *self._alone, *self._again]
        self._under_way.clear()
        self._alone.clear()
        self._shot, self._ended = None, False
        self._loader.drop(self._engine)
        self._engine = self._reloaded(error)

    def _reloaded(self, error: HfsynthError) -> Engine:
        while self._deaths_in_a_row < self._max_restarts:
            self._deaths_in_a_row += 1
            self.restarts += 1
            try:
                return self._loader.load()
            except ModelError as refused:  # the dead engine's memory may take a while to be free
                error = refused
                time.sleep(min(2.0**self._deaths_in_a_row, _WAIT_AT_MOST))
        raise EngineError(
            f"{error.message} It was started {self._deaths_in_a_row} times again and finished no document since.",
            hint="What is done is kept: the same command goes on. --max-engine-restarts allows more.",
        ) from error

    def _require_answers(self) -> None:
        if self._under_way:
            raise EngineError(
                f"The engine did not answer every chain: {len(self._under_way)} are missing.",
                hint="What is done is kept: the same command goes on.",
            )
