"""Draw from a name: the same draws on every machine and in every version of Python, and no shared state.

A hash of the name is read as one large number, digit by digit in the base that each draw needs. That is as even as a
generator and much quicker to set up, which counts where every text has a stream of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from itertools import permutations
from typing import TypeVar

_T = TypeVar("_T")

_LEAST = 2**128  # what must be left, so that no draw is off by more than one in 2**64
_FINE = 2**53
_LISTED = 6  # of so many things all orders are kept


class Draws:
    """An endless stream of even draws that depends on its name alone."""

    __slots__ = ("_block", "_name", "_pool")

    def __init__(self, name: str) -> None:
        self._name = name.encode("utf-8", "surrogatepass")
        self._block = 0
        self._pool = 0

    def below(self, count: int) -> int:
        """Draw a whole number from 0 to below `count`, which must not exceed 2**64."""
        if self._pool < _LEAST:
            salt = self._block.to_bytes(16, "big")
            self._pool = int.from_bytes(blake2b(self._name, salt=salt).digest(), "big")
            self._block += 1
        self._pool, drawn = divmod(self._pool, count)
        return drawn

    def share(self) -> float:
        """Draw a number from 0 to below 1."""
        return self.below(_FINE) / _FINE

    def pick(self, values: Sequence[_T]) -> _T:
        """Draw one of the values, all equally likely."""
        return values[self.below(len(values))]

    def order(self, count: int) -> Sequence[int]:
        """Draw an order of 0 … count - 1, all equally likely."""
        if count <= _LISTED:
            return self.pick(_orders(count))
        order = list(range(count))
        for here in range(count - 1, 0, -1):  # Fisher and Yates
            there = self.below(here + 1)
            order[here], order[there] = order[there], order[here]
        return order

    def sample(self, count: int, of: int) -> set[int]:
        """Draw `count` different ones of the numbers 0 … of - 1, all sets equally likely."""
        drawn: set[int] = set()
        for last in range(of - count, of):  # Floyd
            number = self.below(last + 1)
            drawn.add(last if number in drawn else number)
        return drawn


@cache
def _orders(count: int) -> tuple[tuple[int, ...], ...]:
    return tuple(permutations(range(count)))
