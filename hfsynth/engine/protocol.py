"""What drives chains: the `Engine` protocol, what a chain asks of it and what comes back, and the loop of every engine.

Knows nothing of documents, prompts' wording, files or `datasets`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from hfsynth.core.config import EngineConfig, Sampling
from hfsynth.core.thinking import TEMPLATE, budget_of, thinks
from hfsynth.models.tokenizers import PromptTokenizer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt for the engine. `shot` lets it serve chains under way before new ones; `seed` is this shot's own.

    With `choices`, which are token ids, one token is asked for and no text: the completion says how likely the model
    holds each of them to come next, whatever the run's sampling and schema are.
    `json_schema` holds this completion alone to a schema, where those of the run have none in common.
    """

    token_ids: list[int]
    shot: int
    seed: int
    choices: tuple[int, ...] = ()
    json_schema: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back. `finish_reason` is `stop`, `length` or `error`; then `error` says what went wrong.

    `logprobs` are the natural logarithms of the probabilities of the request's `choices`, in their order, before any
    sampling; None for one that the engine did not tell.
    """

    text: str
    finish_reason: str
    output_tokens: int = 0
    cached_tokens: int = 0
    error: str | None = None
    logprobs: tuple[float | None, ...] = ()


Chain = Generator[Request, Completion, T]
"""Yields requests, is sent completions, returns its result."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How every request of a run is answered.

    `json_schema` holds completions to a schema; a completion ends before the first of the strings in `stop`. `shots` is
    the most requests that a chain makes, `thinking` the recipe's: with thoughts a schema holds the answer alone.
    """

    sampling: Sampling = field(default_factory=Sampling)
    json_schema: str | None = None
    stop: tuple[str, ...] = ()
    shots: int = 1
    thinking: str = TEMPLATE

    @property
    def thinking_budget(self) -> int | None:
        """The most tokens of thought."""
        return budget_of(self.thinking)

    @property
    def shows_marks(self) -> bool:
        """Whether control tokens stay in a completion's text: the marks of a thought may be such tokens."""
        return thinks(self.thinking)


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine is loaded from: with the process id, the key of the engine cache.

    `thinks` says that a schema is to hold what follows a thought, and the thought is free.
    """

    config: EngineConfig
    model: str
    revision: str | None = None
    window: int | None = None
    precision: str = "auto"
    thinks: bool = False


@runtime_checkable
class Engine(Protocol):
    """Drive many chains at once."""

    @property
    def window(self) -> int:
        """Return the longest prompt plus completion, in tokens."""

    @property
    def tokenizer(self) -> PromptTokenizer:
        """Return the model's tokenizer."""

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        """Yield each chain's result as it ends, in whatever order they end.

        `chains` is read only as far ahead as keeps the engine busy. A request the engine refuses comes back to its
        chain as a completion with `error`; EngineError is raised when the engine itself dies.
        """

    def close(self) -> None:
        """Free what the engine holds. The engine is not used afterwards."""


class RequestQueue(Protocol):
    """The requests of one run, as an engine serves them: what `drive` needs to know of an engine."""

    @property
    def capacity(self) -> int:
        """Return how many requests are under way at most."""

    def admits(self, request: Request) -> bool:
        """Return whether a chain may begin with this request now. Asked again after a request has ended.

        Where nothing is under way the answer is yes.
        """

    def submit(self, number: int, request: Request) -> Completion | None:
        """Begin a request, which `number` names until it ends; return its completion at once where it is refused."""

    def next_ended(self) -> Iterable[tuple[int, Completion]]:
        """Work, or wait, until requests have ended, and give their numbers and completions.

        There may be none yet. Raise EngineError when the engine has died.
        """

    def abandon(self) -> None:
        """Take back what is still under way: the run has ended or was given up."""


def drive(chains: Iterable[Chain[T]], requests: RequestQueue) -> Iterator[T]:
    """Yield each chain's result as it ends: the loop of `Engine.run`, the same for all engines.

    Chains begin as soon as there is room for them, in their order; one that has begun gives its next request the moment
    its last one ends. `chains` is read one chain further than the room at most.
    """
    run = _Run(enumerate(chains), requests)
    try:
        while True:
            yield from run.begin()
            if not run.under_way:
                return
            for number, completion in requests.next_ended():
                yield from run.go_on(number, run.under_way.pop(number), completion)
    finally:
        requests.abandon()


class _Run(Generic[T]):
    """The chains of one run: those that wait, those under way by their numbers, and between them the next to begin."""

    def __init__(self, waiting: Iterator[tuple[int, Chain[T]]], requests: RequestQueue) -> None:
        self._waiting, self._requests = waiting, requests
        self._next: tuple[int, Chain[T], Request] | None = None
        self.under_way: dict[int, Chain[T]] = {}

    def begin(self) -> Iterator[T]:
        """Begin as many chains as there is room for; yield the results of those that ask for nothing."""
        while len(self.under_way) < self._requests.capacity:
            if self._next is None and (item := next(self._waiting, None)) is not None:
                number, chain = item
                try:
                    self._next = number, chain, next(chain)
                except StopIteration as end:
                    yield end.value
                    continue
            if self._next is None or not self._requests.admits(self._next[2]):
                return
            (number, chain, request), self._next = self._next, None
            refused = self._submit(number, chain, request)
            if refused is not None:
                yield from self.go_on(number, chain, refused)

    def go_on(self, number: int, chain: Chain[T], completion: Completion | None) -> Iterator[T]:
        """Send a chain its completion and submit its next request, until one is not refused; yield its result."""
        while completion is not None:
            try:
                request = chain.send(completion)
            except StopIteration as end:
                yield end.value
                return
            completion = self._submit(number, chain, request)

    def _submit(self, number: int, chain: Chain[T], request: Request) -> Completion | None:
        refused = self._requests.submit(number, request)
        if refused is None:
            self.under_way[number] = chain
        return refused


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """An engine that this process holds: what it was loaded from, and with which arguments of its own."""

    kind: str
    model: str
    revision: str | None
    window: int
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        revision = f" at {self.revision[:12]}" if self.revision else ""
        return f"{self.kind}: {self.model}{revision}, window {self.window:,}"


@runtime_checkable
class CountsPreemptions(Protocol):
    """An engine that counts how often it put a request back for want of cache, to compute its prompt again."""

    @property
    def preemptions(self) -> int:
        """Return how often so far."""


@runtime_checkable
class Measurable(Protocol):
    """An engine that can be measured: it says how it runs, and forgets what it has computed before."""

    @property
    def settings(self) -> Mapping[str, int]:
        """Return what the engine settled on, by name."""

    @property
    def acceptance(self) -> float | None:
        """Return the share of guessed tokens that was kept; None where none was guessed."""

    def reset_cache(self) -> None:
        """Forget every cached prefix, so that two measurements do not help each other."""


@runtime_checkable
class CountsTokens(Protocol):
    """An engine that knows how many tokens it has written so far, of requests that are under way too."""

    @property
    def tokens_written(self) -> int:
        """Return how many so far. Any thread may ask."""
