"""What drives chains: the `Engine` protocol, what a chain asks of it and what comes back.

Knows nothing of documents, prompts' wording, files or `datasets`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from hfsynth.core.config import EngineConfig, Sampling
from hfsynth.models.tokenizers import PromptTokenizer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt for the engine. `shot` lets it serve chains under way before new ones; `seed` is this shot's own."""

    token_ids: list[int]
    shot: int
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back. `finish_reason` is `stop`, `length` or `error`; then `error` says what went wrong."""

    text: str
    finish_reason: str
    output_tokens: int = 0
    cached_tokens: int = 0
    error: str | None = None


Chain = Generator[Request, Completion, T]
"""Yields requests, is sent completions, returns its result."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How every request of a run is answered.

    `json_schema` holds completions to a schema; a completion ends before the first of the strings in `stop`. `shots` is
    the most requests that a chain makes.
    """

    sampling: Sampling = field(default_factory=Sampling)
    json_schema: str | None = None
    stop: tuple[str, ...] = ()
    shots: int = 1


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine is loaded from: with the process id, the key of the engine cache."""

    config: EngineConfig
    model: str
    revision: str | None = None
    window: int | None = None
    precision: str = "auto"


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
class CountsTokens(Protocol):
    """An engine that knows how many tokens it has written so far, of requests that are under way too."""

    @property
    def tokens_written(self) -> int:
        """Return how many so far. Any thread may ask."""
