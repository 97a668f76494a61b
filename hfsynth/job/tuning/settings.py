"""The engine settings that are worth trying, and the order to try them in. Pure: it is told how fast each one was.

A climb, one dimension after another, the most promising first: what is found early is worth having when time runs out.
Knows nothing of engines, models or documents.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from hfsynth.engine.speculation import ARGUMENT, PROPOSED_TOKENS, speculative_config

MARGIN = 0.03
"""A setting must be faster than the best so far by this share to take its place: less is noise."""

Search = Generator["Setting", float | None, "Setting"]
"""Yields settings, is sent the speed of each (None for one that failed or was given up), returns the best."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How the engine batches, caches and guesses. `speculative` is None for no guessing."""

    max_num_seqs: int
    max_num_batched_tokens: int
    prefix_caching: bool = True
    speculative: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the engine's arguments."""
        guessing = {ARGUMENT: speculative_config(self.speculative)} if self.speculative else {}
        return {
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "enable_prefix_caching": self.prefix_caching,
            **guessing,
        }

    def flags(self, start: Setting) -> list[str]:
        """Return the command line's options for what differs from `start`."""
        options = []
        for name in ("max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, name) != getattr(start, name):
                options += ["--engine-arg", f"{name}={getattr(self, name)}"]
        if self.prefix_caching != start.prefix_caching:
            options += ["--engine-arg", f"enable_prefix_caching={str(self.prefix_caching).lower()}"]
        if self.speculative != start.speculative:
            options += ["--speculative", str(self.speculative)]
        return options


Step = Callable[[Setting], Setting]


def search(start: Setting, speed: float, *, most_sequences: int, greedy: bool) -> Search:
    """Climb from `start`, whose speed is known, and return the best setting that was tried.

    No more than `most_sequences` at once are tried, since a small sample cannot fill more. Guessing is left out where
    completions are drawn, for it would change them.
    """
    best = start
    for ways in _dimensions(greedy=greedy and start.speculative is None, caching=start.prefix_caching):
        for way in ways:
            climbed = False
            for setting in _steps(best, way, start, most_sequences):
                found = yield setting
                if found is None or found < speed * (1 + MARGIN):
                    break
                best, speed, climbed = setting, found, True
            if climbed:
                break  # the other way would lead back
    return best


def _dimensions(*, greedy: bool, caching: bool) -> list[list[list[Step]]]:
    """Return the dimensions in order, each with the ways to go along it, each way with its steps."""
    guessing = [[_guess(PROPOSED_TOKENS), _guess(2 * PROPOSED_TOKENS)]] if greedy else []
    return [
        guessing,
        [[_sequences(2)] * 3, [_sequences(0.5)] * 2],
        [[_tokens(2)] * 2, [_tokens(0.5)] * 2],
        [[lambda setting: replace(setting, prefix_caching=False)]] if caching else [],
    ]


def _steps(best: Setting, way: list[Step], start: Setting, most_sequences: int) -> Iterator[Setting]:
    setting = best
    for step in way:
        setting = step(setting)
        more = setting.max_num_seqs > start.max_num_seqs
        if setting.max_num_seqs < 1 or setting.max_num_batched_tokens < setting.max_num_seqs:
            return
        if more and setting.max_num_seqs > most_sequences:
            return
        yield setting


def _guess(tokens: int) -> Step:
    method = "ngram" if tokens == PROPOSED_TOKENS else f"ngram:{tokens}"
    return lambda setting: replace(setting, speculative=method)


def _sequences(factor: float) -> Step:
    return lambda setting: replace(setting, max_num_seqs=int(setting.max_num_seqs * factor))


def _tokens(factor: float) -> Step:
    return lambda setting: replace(setting, max_num_batched_tokens=int(setting.max_num_batched_tokens * factor))
