"""Drive one engine through chains, and outlive its deaths.

Every chain is noted in the journal when it is handed over and when it has ended. When the engine dies it is loaded
again and the chains in flight are run again; those in flight at two deaths are suspects, run in groups: the group with
which the engine dies is halved, until a document that kills the engine runs alone and is not given to it any more.
Knows nothing of sources, parts or leases.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from hfsynth.core.errors import EngineError, EngineStopped, HfsynthError, ModelError
from hfsynth.core.logs import without_quotes
from hfsynth.core.records import ANSWERED, Parsed, Status, Synthesized
from hfsynth.engine.loading import drop_engine
from hfsynth.engine.protocol import Chain, CountsPreemptions, CountsTokens, Engine
from hfsynth.job.concurrency import Channel, Closed, Stop
from hfsynth.job.feeding import ChainOutcome, ChainRun, Prepared, watched_chain
from hfsynth.job.journal import Death, Notes
from hfsynth.job.passes import Driven, RowChainer
from hfsynth.job.restarts import Restarts
from hfsynth.synthesis.chains import Chainer

_log = logging.getLogger(__name__)

_WAIT_AT_MOST = 30.0
_AFTERMATH = 1.0  # whoever ended the engine's process may be about to end this one


class Early:
    """Documents and pairs of chains that have not ended, to be seen soon: a chain's first shot is done long before it.

    One thread counts; any other may look.
    """

    def __init__(self) -> None:
        self.documents = self.pairs = 0

    def heard(self, chainer: RowChainer) -> RowChainer:
        """Return `chainer` so that what it reads out of completions is counted; not where pairs are yet to be kept."""
        if not isinstance(chainer, Chainer) or chainer.keep or chainer.candidates.number > 1:
            return chainer
        return replace(chainer, heard=self._count)

    def ended(self, results: Iterable[Synthesized]) -> None:
        """Take a chain's documents out again, which are counted elsewhere from now on."""
        read = [result for result in results if result.synthesis.status in ANSWERED]
        self.documents = max(0, self.documents - len(read))
        self.pairs = max(0, self.pairs - sum(len(result.pairs) for result in read))

    def lost(self) -> None:
        """Forget all: their chains are run again."""
        self.documents = self.pairs = 0

    def _count(self, parsed: Parsed) -> None:
        self.documents += 1
        self.pairs += len(parsed.pairs)


class Driver:
    """Run chains on an engine that may die `max_restarts` times in a row without answering a document in between.

    `load` is asked for the engine at once, and again after each death.
    """

    def __init__(self, load: Callable[[], Driven], segments: Notes, stop: Stop, *, max_restarts: int) -> None:
        self._load = load
        self._segments = segments
        self._stop = stop
        self._deaths = Restarts(max_restarts)
        loaded = load()
        self._engine: Engine | None = loaded.engine
        self.early = Early()
        self.chainer = self.early.heard(loaded.chainer)
        self._generation = loaded.generation
        self._under_way: dict[tuple[int, int], ChainRun] = {}
        self._again: list[ChainRun] = []
        self._group: list[ChainRun] = []
        self._shot: int | None = None
        self._ended = False
        self._preempted = -_preemptions(self._engine)
        self._written = -_tokens_written(self._engine)
        self.restarts = 0

    @property
    def preemptions(self) -> int | None:
        """How often a request was put back for want of cache, None where the engine does not count it."""
        counts = self._engine is None or isinstance(self._engine, CountsPreemptions)
        return self._preempted + _preemptions(self._engine) if counts else None

    @property
    def tokens_written(self) -> int:
        """How many tokens were written, of chains under way too; 0 where the engine does not count them."""
        return max(0, self._written + _tokens_written(self._engine))

    def outcomes(self, prepared: Channel[Prepared]) -> Iterator[ChainOutcome]:
        """Yield every chain's outcome as it ends, until the channel has ended or a stop is asked for.

        A group of suspects waits until those under way have ended, and runs apart from all others. Raise EngineError
        where the engine keeps dying, or loses a chain.
        """
        self._ended = False
        while not (self._ended or self._stop.requested):
            try:
                engine = self._engine or self._reloaded()
                yield from self._ending(engine, self._chains(prepared))
                while not self._stop.requested and self._take_suspects(prepared):
                    yield from self._ending(engine, self._suspects())
                    self._shot = None
            except EngineError as error:
                self._outlive(error)
            else:
                self._require_answers()

    def _chains(self, prepared: Channel[Prepared]) -> Iterator[Chain[ChainOutcome]]:
        """Hand chains over until there are suspects to run, or no more chains."""
        while not self._stop.requested:
            item = self._next(prepared)
            if item is None:
                self._ended = True
                return
            if item.run.strikes.is_suspect:
                self._again.insert(0, item.run)
                return
            self._start(item.run)
            yield item.chain

    def _next(self, prepared: Channel[Prepared]) -> Prepared | None:
        if self._again:
            return Prepared.of(self._again.pop(0), self.chainer)
        try:
            return prepared.get()
        except Closed:
            return None

    def _take_suspects(self, prepared: Channel[Prepared]) -> bool:
        """Take the suspects that come next and may be run together; return whether there are any."""
        while (run := self._next_run(prepared)) is not None:
            sizes = [one.strikes.group for one in (*self._group, run)]
            if not run.strikes.is_suspect or len(sizes) > min(sizes):
                self._again.insert(0, run)
                break
            self._group.append(run)
        return bool(self._group)

    def _next_run(self, prepared: Channel[Prepared]) -> ChainRun | None:
        if self._again:
            return self._again.pop(0)
        item = self._next(prepared)
        return None if item is None else item.run

    def _suspects(self) -> Iterator[Chain[ChainOutcome]]:
        """Hand over the group that was taken."""
        if len(self._group) == 1:
            yield self._alone(self._group.pop())
        while self._group:
            run = self._group.pop(0)
            self._start(run)
            yield run.outcome(self.chainer)

    def _start(self, run: ChainRun) -> None:
        self._under_way[run.key] = run
        self._segments.started(*run.key)

    def _alone(self, run: ChainRun) -> Chain[ChainOutcome]:
        """Return a chain that notes every shot: should the engine die, that is the document which killed it."""

        def note(shot: int) -> None:
            self._shot = shot
            self._segments.started(*run.key, shot=shot)

        self._under_way[run.key] = run
        return watched_chain(run.outcome(self.chainer), note)

    def _ending(self, engine: Engine, chains: Iterable[Chain[ChainOutcome]]) -> Iterator[ChainOutcome]:
        for outcome in engine.run(chains, self._generation):
            self._segments.finished(outcome.shard, outcome.number, outcome.results)
            self.early.ended(outcome.results)
            _log_refused(outcome)
            run = self._under_way.pop((outcome.shard, outcome.number))
            if any(result.synthesis.status in ANSWERED for result in outcome.results):
                self._deaths.answered()
            elif run.strikes.poison:
                self._deaths.gave_up()
            yield outcome

    def _outlive(self, error: EngineError) -> None:
        """Let go of a dead engine, hold its death against the chains in flight, and put them back in front.

        After a stop was asked for nothing is held against them: they are work to do again, by whoever goes on.
        """
        engine, self._engine = self._engine, None
        if engine is not None:
            self._preempted += _preemptions(engine)
            self._written += _tokens_written(engine)
            drop_engine(engine)
        if isinstance(error, EngineStopped):
            time.sleep(_AFTERMATH)
        if self._stop.requested:
            return
        self.early.lost()
        victims = [self._under_way[key] for key in sorted(self._under_way)]
        flying = ", ".join(f"shard {shard} chain {number}" for shard, number in sorted(self._under_way))
        _log.warning("engine died (%s) with %s in flight", type(error).__name__, flying or "nothing")
        _log.debug("engine said: %s", error.message)
        self._again = [*self._struck(victims, error), *self._group, *self._again]
        self._under_way.clear()
        self._group.clear()
        self._shot, self._ended = None, False
        self._deaths.died(len(victims))
        if self._deaths.are_exhausted:
            raise self._given_up(error) from error

    def _struck(self, victims: list[ChainRun], error: EngineError) -> list[ChainRun]:
        if isinstance(error, EngineStopped):
            return victims
        self._segments.died((run.key for run in victims), error.message)
        return [run.struck(Death(error.message), self._shot, among=len(victims)) for run in victims]

    def _reloaded(self) -> Engine:
        """Load the engine again; the memory of the one that died may take a while to be free."""
        wait = 1.0
        while True:
            self.restarts += 1
            try:
                self._engine = self._load().engine
                self._preempted -= _preemptions(self._engine)
                self._written -= _tokens_written(self._engine)
                _log.info("engine restarted, for the %d. time", self.restarts)
                return self._engine
            except ModelError as refused:
                self._deaths.died(0)
                if self._deaths.are_exhausted:
                    raise self._given_up(refused) from refused
                wait = min(2 * wait, _WAIT_AT_MOST)
                time.sleep(wait)

    def _given_up(self, error: HfsynthError) -> EngineError:
        return EngineError(
            f"{error.message} It was loaded {self.restarts} times again, the last ones without an answer.",
            hint="What is done is kept: the same command goes on. --max-engine-restarts allows more.",
        )

    def _require_answers(self) -> None:
        if self._under_way:
            raise EngineError(
                f"The engine did not answer every chain: {len(self._under_way)} are missing.",
                hint="What is done is kept: the same command goes on.",
            )


def _log_refused(outcome: ChainOutcome) -> None:
    """Log the requests of a chain that came to nothing, and why."""
    for shot, result in enumerate(outcome.results):
        if result.synthesis.status is Status.FAILED:
            why = "; ".join(rejected.text for rejected in result.synthesis.rejected)
            told = without_quotes(why, (row["text"] for row in outcome.rows))
            place = f"shard {outcome.shard} chain {outcome.number} shot {shot}"
            _log.warning("request refused, %s: %s", place, told)
            _log.debug("request refused, %s, in full: %s", place, why)


def _preemptions(engine: Engine | None) -> int:
    return engine.preemptions if isinstance(engine, CountsPreemptions) else 0


def _tokens_written(engine: Engine | None) -> int:
    return engine.tokens_written if isinstance(engine, CountsTokens) else 0
