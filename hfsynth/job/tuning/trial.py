"""One trial of an engine setting: a sample of documents through a fresh engine, timed, and what a corpus will cost.

`measure` times an engine at hand: shares of its time for each group of documents, and `predict` draws an error bar from
them. The module is also the program of a trial's process (`trial_process` starts it). Knows nothing of which settings
are worth trying.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import HfsynthError
from hfsynth.core.records import Counts, Document, Synthesized
from hfsynth.engine.protocol import Chain, Completion, Generation, Measurable, Request
from hfsynth.job.parent_watch import ParentWatch
from hfsynth.quality.agreement import Answer, Fingerprint
from hfsynth.synthesis.chains import Chainer, Splitter, grouped
from hfsynth.synthesis.loading import Loaded, load

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Cost:
    """Some neighbouring documents and the engine's seconds that they took."""

    documents: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Range:
    """A figure, and from where to where it may lie (the 95% interval of a bootstrap)."""

    value: float
    low: float
    high: float

    def over(self, amount: float) -> Range:
        """Return `amount` divided by the figure."""
        return Range(amount / self.value, amount / self.high, amount / self.low)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Documents an hour of one engine, and the hours that it needs for `documents`; None where their number is not
    known."""

    documents_per_hour: Range
    documents: int | None
    engine_hours: Range | None


class TimeShares:
    """Share out the time that passes, equally at every moment, among those who are under way.

    Shares add up to the time in which anybody was: a sum over a sample that can be drawn again and again, where the
    time from begin to end, with many at once, could not be added.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._of_each = 0.0  # what somebody who was there all along would have by now
        self._entered: dict[Hashable, float] = {}

    def enter(self, name: Hashable) -> None:
        """Begin to share."""
        self._pass()
        self._entered[name] = self._of_each

    def leave(self, name: Hashable) -> float:
        """Return the share of one who ends."""
        self._pass()
        return self._of_each - self._entered.pop(name)

    def _pass(self) -> None:
        now = self._clock()
        if self._entered:
            self._of_each += (now - self._last) / len(self._entered)
        self._last = now


def predict(costs: Sequence[Cost], documents: int | None, *, seed: int = 0) -> Prediction:
    """Predict from a sample's costs what one engine does in an hour, and how long it takes for so many documents.

    The error bar is that of the sample: costs are drawn again with replacement, 2,000 times. It knows nothing of other
    work on the machine. Needs at least one cost that took time.
    """
    draw = random.Random(seed)
    speeds = sorted(_per_hour(draw.choices(costs, k=len(costs))) for _ in range(DRAWS))
    cut = round(DRAWS * (1 - LEVEL) / 2)
    speed = Range(_per_hour(costs), speeds[cut], speeds[-1 - cut])
    return Prediction(speed, documents, None if documents is None else speed.over(documents))


def _per_hour(costs: Sequence[Cost]) -> float:
    seconds = sum(cost.seconds for cost in costs)
    return 3600 * sum(cost.documents for cost in costs) / max(seconds, 1e-9)


FOLDER, OUTCOME = "folder", "outcome.json"
_WARM_UP_TOKENS = 8

Group = Sequence[Document]
"""Neighbouring source documents, as many as a chain has shots."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a trial is to measure: a sample in the order it is to be handed over, and when to stop.

    No more of the sample is handed over once `feed_seconds` have passed; the trial is given up where it is not done
    after `give_up_seconds`. Loading does not count.
    """

    config: SynthesizerConfig
    engine: EngineConfig
    groups: tuple[Group, ...]
    feed_seconds: float | None = None
    give_up_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` reads them back."""
        return {**asdict(self), "config": self.config.to_dict(), "engine": self.engine.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(
            SynthesizerConfig.from_dict(values["config"]),
            EngineConfig.from_dict(values["engine"]),
            tuple(tuple(Document(**document) for document in group) for group in values["groups"]),
            values["feed_seconds"],
            values["give_up_seconds"],
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial measured. `costs` are those of the groups that were handed over, `complete` where all of them ended.

    `settings` are what the engine settled on, `acceptance` the share of guessed tokens that was kept, `fingerprint`
    what another trial's pairs are compared by.
    """

    costs: tuple[Cost, ...]
    complete: bool
    seconds: float
    load_seconds: float
    pairs: int
    output_tokens: int
    prompt_tokens: int
    cached_tokens: int
    settings: dict[str, int]
    acceptance: float | None = None
    fingerprint: Fingerprint = Fingerprint()

    @property
    def documents(self) -> int:
        """Source documents that are done."""
        return sum(cost.documents for cost in self.costs)

    @property
    def documents_per_second(self) -> float:
        """Source documents a second, filling and draining the engine included."""
        return self.documents / max(self.seconds, 1e-9)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote."""
        costs = tuple(Cost(**cost) for cost in values["costs"])
        return cls(**{**values, "costs": costs, "fingerprint": Fingerprint.from_dict(values["fingerprint"])})


@dataclass(frozen=True, slots=True)
class Run:
    """What `measure` found: each group's cost, every answer, the seconds and whether it came to its end."""

    costs: tuple[Cost, ...]
    answers: list[Answer]
    seconds: float
    complete: bool

    @property
    def results(self) -> list[Synthesized]:
        """The answers without their documents."""
        return [result for _, result in self.answers]


def measure(loaded: Loaded, order: Order, clock: Callable[[], float] = time.perf_counter) -> Run:
    """Drive the sample through an engine and share its time out among the sample's groups."""
    chainer = loaded.chainer
    begun = clock()
    shares = TimeShares(clock)
    spent: dict[int, float] = {}

    def fed() -> Iterator[Chain[tuple[int, list[Answer], float]]]:
        for number, group in enumerate(order.groups):
            if order.feed_seconds is not None and spent and clock() - begun > order.feed_seconds:
                return
            spent[number] = 0.0
            for documents in _chains(group, chainer, order.config):
                yield _timed(number, _answered(documents, chainer), shares)

    answers: list[Answer] = []
    ended = loaded.engine.run(fed(), loaded.generation)
    for number, found, seconds in ended:
        answers += found
        spent[number] += seconds
        if order.give_up_seconds is not None and clock() - begun > order.give_up_seconds:
            return Run((), answers, clock() - begun, complete=False)
    costs = tuple(Cost(len(order.groups[number]), seconds) for number, seconds in spent.items())
    return Run(costs, answers, clock() - begun, complete=True)


def _chains(group: Group, chainer: Chainer, config: SynthesizerConfig) -> Iterator[list[Document]]:
    """Cut what is too long as a job does."""
    if config.long_documents != "split":
        return iter([list(group)])
    splitter = Splitter.of(chainer)
    rows = ({"id": document.id, "text": document.text} for document in group)
    pieces = (Document(piece["id"], piece["text"]) for row in rows for piece in splitter.pieces(row))
    return grouped(pieces, config.shots)


def _answered(documents: list[Document], chainer: Chainer) -> Chain[list[Answer]]:
    """Run a chain, and put each result beside its document."""
    results = yield from chainer.chain(documents)
    return list(zip(documents, results, strict=True))


def _timed(number: int, chain: Chain[list[Answer]], shares: TimeShares) -> Chain[tuple[int, list[Answer], float]]:
    """Run a chain from its first request to its end on shared time."""
    name = object()
    shares.enter(name)
    answers = yield from chain
    return number, answers, shares.leave(name)


def tried(order: Order) -> Outcome:
    """Load the engine, warm it up, and measure the sample."""
    started = time.perf_counter()
    loaded = load(order.config, order.engine)
    _warm_up(loaded)
    load_seconds = time.perf_counter() - started
    run = measure(loaded, order)
    counts = Counts.of(run.results)
    engine = loaded.engine if isinstance(loaded.engine, Measurable) else None
    return Outcome(
        costs=run.costs,
        complete=run.complete,
        seconds=run.seconds,
        load_seconds=load_seconds,
        pairs=counts.pairs,
        output_tokens=counts.output_tokens,
        prompt_tokens=counts.prompt_tokens,
        cached_tokens=counts.cached_tokens,
        settings=dict(engine.settings) if engine is not None else {},
        acceptance=engine.acceptance if engine is not None else None,
        fingerprint=Fingerprint.of(run.answers),
    )


def _warm_up(loaded: Loaded) -> None:
    """Let the engine do once what it does slowly the first time, and forget the prefix."""

    def chain() -> Chain[Completion]:
        return (yield Request(loaded.chainer.prompts.prompt((), "A few words to begin with."), 0, 0))

    list(loaded.engine.run([chain()], Generation(Sampling(max_tokens=_WARM_UP_TOKENS))))
    if isinstance(loaded.engine, Measurable):
        loaded.engine.reset_cache()


def main(watch: ParentWatch) -> int:
    """Try what the order says; leave the outcome, or the error, in the folder that it names."""
    try:
        told = {"outcome": asdict(tried(Order.from_dict(watch.order)))}
        code = 0
    except HfsynthError as error:
        told = {"error": error.to_dict()}
        code = error.exit_code
    (Path(watch.order[FOLDER]) / OUTCOME).write_text(json.dumps(told), "utf-8")
    return code
