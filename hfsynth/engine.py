"""What drives chains: the `Engine` protocol, and one engine a process and configuration.

Knows nothing of documents, prompts' wording, files or `datasets`.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from hfsynth.chains import Chain
from hfsynth.config import EngineConfig, Sampling
from hfsynth.prompts import PromptTokenizer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Generation:
    """How every request of a run is answered.

    `json_schema` holds completions to a schema; a completion ends before the first of the strings in `stop`.
    """

    sampling: Sampling = field(default_factory=Sampling)
    json_schema: str | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine is loaded from: with the process id, the key of the engine cache."""

    config: EngineConfig
    model: str
    revision: str | None = None
    window: int | None = None


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


_engines: dict[tuple[int, EngineKey], Engine] = {}


def shared_engine(key: EngineKey, load: Callable[[EngineKey], Engine]) -> Engine:
    """Return this process's engine for `key`, loading it the first time.

    The process id is part of the cache's key: a forked child finds its parent's engines here and must not use them.
    """
    found = _engines.get((os.getpid(), key))
    if found is None:
        found = _engines[(os.getpid(), key)] = load(key)
    return found


def drop_engine(engine: Engine) -> None:
    """Take an engine out of the cache and close it, so that it is loaded anew when it is next asked for."""
    for key in [key for key, found in _engines.items() if found is engine]:
        del _engines[key]
    engine.close()


def close_engines() -> None:
    """Close every engine of this process. Runs by itself when the process ends."""
    own = [key for key in _engines if key[0] == os.getpid()]
    for key in own:
        _engines.pop(key).close()


atexit.register(close_engines)
