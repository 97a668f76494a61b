"""What drives chains: the `Engine` protocol, and one engine a process and configuration.

Knows nothing of documents, prompts' wording, files or `datasets`.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from hfsynth.chains import Chain
from hfsynth.config import EngineConfig, Sampling
from hfsynth.errors import ModelError
from hfsynth.prompts import PromptTokenizer

T = TypeVar("T")

_log = logging.getLogger(__name__)


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


_engines: dict[tuple[int, EngineKey], Engine] = {}


def engines() -> list[LoadedEngine]:
    """Return the engines that this process holds, in the order in which they were loaded.

    One stays loaded for each model, window and set of engine arguments, until `close_engines` or the process's end.
    """
    return [
        LoadedEngine(key.config.kind, key.model, key.revision, engine.window, key.config.arguments)
        for (pid, key), engine in _engines.items()
        if pid == os.getpid()
    ]


def shared_engine(key: EngineKey, load: Callable[[EngineKey], Engine]) -> Engine:
    """Return this process's engine for `key`, loading it the first time.

    The process id is part of the cache's key: a forked child finds its parent's engines here and must not use them.
    """
    found = _engines.get((os.getpid(), key))
    if found is None:
        found = _engines[(os.getpid(), key)] = _loaded_beside(engines(), key, load)
    return found


def _loaded_beside(held: Sequence[LoadedEngine], key: EngineKey, load: Callable[[EngineKey], Engine]) -> Engine:
    """Load an engine, and say which others hold memory before there is none left, and again where there was none."""
    others = "; ".join(str(one) for one in held if one.kind == "vllm") if key.config.kind == "vllm" else ""
    if not others:
        return load(key)
    hint = f"This process already holds {others}. hfsynth.close_engines() frees what it holds."
    _log.warning("Loading %s. %s", key.model, hint)
    try:
        return load(key)
    except ModelError as error:
        raise ModelError(error.message, hint=" ".join(filter(None, (error.hint, hint)))) from error


def drop_engine(engine: Engine) -> None:
    """Take an engine out of the cache and close it, so that it is loaded anew when it is next asked for."""
    for key in [key for key, found in _engines.items() if found is engine]:
        del _engines[key]
    engine.close()


def close_engines() -> None:
    """Close every engine of this process and free its memory. Runs by itself when the process ends.

    What needs an engine later loads it again.
    """
    own = [key for key in _engines if key[0] == os.getpid()]
    for key in own:
        _engines.pop(key).close()


atexit.register(close_engines)
