"""How much texts repeat each other: the same again, nearly the same again, the same words again.

Memory is bounded whatever is asked. Knows nothing of documents or files.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

from hfsynth.errors import ConfigError

T = TypeVar("T")

ALIKE = 0.8
"""How much of what two texts say together both must say for one to be nearly the other (Jaccard similarity)."""

_WATCHED = 1_000_000  # texts that are remembered
_PERMUTATIONS = 128


class Repeats:
    """Tell which texts occurred before, case and punctuation aside.

    Of up to a million `expected` texts all are watched; of more, those of one class of their digests, and of these
    every one, so that their share of repetitions is that of all.
    """

    def __init__(self, expected: int, *, watched: int = _WATCHED) -> None:
        self._classes = max(1, -(-expected // watched))
        self._seen: set[int] = set()

    def is_repeat(self, text: list[str]) -> bool | None:
        """Tell whether a text, given as its words, occurred before; None for one that is not watched."""
        digest = _digest(" ".join(text))
        if digest % self._classes:
            return None
        known = digest in self._seen
        self._seen.add(digest)
        return known


class Sample(Generic[T]):
    """Draw at most `size` of any number of items without replacement, from a seed and the numbers of the items."""

    def __init__(self, size: int, *, seed: int, name: str) -> None:
        self._size = size
        self._name = f"{name}/{seed}"
        self._offered = 0
        self._kept: list[tuple[int, int, T]] = []  # a heap with the next one to go first

    def offer(self, item: T) -> None:
        """Take one more item into account."""
        entry = (-_digest(f"{self._name}/{self._offered}"), self._offered, item)
        self._offered += 1
        if len(self._kept) < self._size:
            heapq.heappush(self._kept, entry)
        elif self._kept and entry > self._kept[0]:
            heapq.heapreplace(self._kept, entry)

    def items(self) -> list[T]:
        """Return the items that were drawn, in the order in which they were offered."""
        return [item for _, _, item in sorted(self._kept, key=lambda entry: entry[1])]


def nearly_repeated(texts: Sequence[list[str]]) -> list[bool]:
    """Tell of each text, given as its words, whether one before it is the same or nearly so.

    Candidates are found by MinHash and locality-sensitive hashing and then compared exactly: by the Jaccard similarity
    of their words and pairs of neighbouring words. Raise ConfigError where datasketch is not installed.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise ConfigError(
            "Near-duplicates are found by datasketch, which is not installed.",
            hint="Run `pip install 'hfsynth[evaluate]'`.",
        ) from error
    index = MinHashLSH(threshold=ALIKE, num_perm=_PERMUTATIONS)
    shingles: dict[int, frozenset[str]] = {}
    found: list[bool] = []
    for number, text in enumerate(texts):
        own = _shingles(text)
        sketch = MinHash(num_perm=_PERMUTATIONS)
        sketch.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in sorted(own)])
        found.append(any(_similarity(own, shingles[other]) >= ALIKE for other in index.query(sketch)))
        shingles[number] = own
        index.insert(number, sketch)
    return found


def distinct(texts: Sequence[list[str]], length: int) -> float | None:
    """Return the share of n-grams of `length` words that are different ones (distinct-n); None without any n-gram.

    The share falls with the number of texts: compare it between equal numbers (Li et al., 2016).
    """
    total = 0
    seen: set[int] = set()
    for text in texts:
        for gram in _grams(text, length):
            total += 1
            seen.add(hash(gram))
    return len(seen) / total if total else None


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _shingles(text: list[str]) -> frozenset[str]:
    return frozenset(text) | frozenset(" ".join(gram) for gram in _grams(text, 2))


def _grams(text: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(text[start:] for start in range(length)), strict=False)


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0
