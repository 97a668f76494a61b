"""When a new chain may begin: only while what is in flight, and what it will grow to, fits the engine's KV cache.

A chain's next shot finds its history in the cache, unless other chains have taken the place meanwhile. So many chains
that they drive out each other's histories compute more than they gain by running together. Pure; knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.95
"""How much of the cache may be spoken for: prompts and the tokens that completions may take."""


def outlook(prompt_tokens: int, shot: int, *, shots: int, allowance: int) -> tuple[int, ...]:
    """Return the tokens that a chain takes now, at `shot` of `shots`, and is expected to take at each shot after it.

    The shots to come are taken to be as long as those in the prompt, completions included: at the first shot, where
    there is none yet, a completion is taken to use up its `allowance`.
    """
    grows = prompt_tokens / (shot + 1) if shot else prompt_tokens + allowance
    return tuple(int(prompt_tokens + grows * later) + allowance for later in range(shots - shot))


@dataclass
class Admission:
    """Let chains begin as long as the tokens in flight stay within `room` now and at each of the shots ahead.

    All chains are taken to advance alike. `room` is None for no limit.
    """

    room: float | None
    shots: int

    def __post_init__(self) -> None:
        self._ahead = [0] * self.shots
        self._in_flight = 0

    @classmethod
    def of(cls, cache_tokens: int | None, shots: int) -> Admission:
        """Return the rule for chains of so many shots on a cache of so many tokens (None: not known).

        Chains of one shot have no history to lose, and gain by running together.
        """
        return cls(None if cache_tokens is None or shots == 1 else SHARE * cache_tokens, shots)

    def admits(self, tokens: Sequence[int]) -> bool:
        """Return whether a chain with this outlook may begin beside those in flight; alone it always may."""
        if self.room is None or not self._in_flight:
            return True
        return all(taken + more <= self.room for taken, more in zip(self._ahead, tokens, strict=False))

    def put(self, tokens: Sequence[int]) -> None:
        """Note that a chain with this outlook is in flight."""
        self._add(tokens, 1)

    def take(self, tokens: Sequence[int]) -> None:
        """Note that it is not any more, with this outlook at least."""
        self._add(tokens, -1)

    def _add(self, tokens: Sequence[int], sign: int) -> None:
        self._in_flight += sign
        for later, number in enumerate(tokens):
            self._ahead[later] += sign * number
