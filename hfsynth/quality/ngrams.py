"""Runs of words as numbers, and tables to look them up in: what an index of n-grams is made of. Pure.

A text is compared in NFKC, without differences of case, without punctuation and invisible characters, thousands
written together (`1,200` is `1200`). Characters of scripts without spaces are a token each, and 24 of them weigh as
much as 13 words. A run's number depends on its tokens alone, the same on every machine: the sum of the tokens' 64-bit
hashes times powers of an odd number, modulo 2**64, so that all runs of a text are had from one cumulative sum.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hfsynth.quality.words import CHARACTER, MARKS, UNSPACED

Numbers: TypeAlias = NDArray[np.uint64]
Owners: TypeAlias = NDArray[np.uint32]
Places: TypeAlias = NDArray[np.intp]

WORD_WEIGHT, CHARACTER_WEIGHT = 24, 13

_BASE = 0x9E3779B97F4A7C55
_INVERSE = pow(_BASE, -1, 2**64)
_PIECE = 2**20  # characters that are tokens at once
_LONGEST_KEPT, _MOST_KEPT = 32, 2**18
_FEWEST_SLOTS, _MOST_SLOTS = 16, 28  # powers of two

_NOT_ASCII_WORD = "".join(chr(code) if chr(code).isalnum() else " " for code in range(128)).lower()
_GROUPING = re.compile(r",(?<=\d,)(?=\d{3}(?!\d))")
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_SPECIAL = re.compile(f"[{UNSPACED}{MARKS}]")
_PLAIN_WORD = re.compile(r"[^\W_]+")
_TOKEN = re.compile(rf"{CHARACTER}|[^\W_{UNSPACED}](?:[^\W_{UNSPACED}]|[{MARKS}])*")
_UNSPACED_FIRST = re.compile(f"[{UNSPACED}]")


class _Hashes(dict[str, int]):
    """Hashes of words, those of short ones kept; emptied when it has grown large."""

    def __missing__(self, word: str) -> int:
        found = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        if len(word) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[word] = found
        return found


class _Weights(dict[str, int]):
    """Weights of tokens, those of short ones kept; emptied when it has grown large."""

    def __missing__(self, word: str) -> int:
        found = CHARACTER_WEIGHT if _UNSPACED_FIRST.match(word) else WORD_WEIGHT
        if len(word) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[word] = found
        return found


_hashes, _weigh = _Hashes(), _Weights()


class Runs:
    """The runs of a text's tokens. `len()` is the number of its tokens."""

    def __init__(self, text: str) -> None:
        pieces = [_tokens(piece) for piece in _pieces(text)]
        hashed = [np.fromiter(map(_hashes.__getitem__, words), np.uint64, len(words)) for words, _ in pieces]
        tokens = hashed[0] if len(hashed) == 1 else np.concatenate(hashed)
        self._count = len(tokens)
        self._sums = np.zeros(self._count + 1, np.uint64)
        np.cumsum(tokens * _powers(_BASE, self._count), out=self._sums[1:])
        self._weights: NDArray[np.int64] | None = None
        if any(special for _, special in pieces):
            each = [np.fromiter(map(_weigh.__getitem__, words), np.int64, len(words)) for words, _ in pieces]
            self._weights = np.concatenate(([0], np.cumsum(np.concatenate(each))))

    def __len__(self) -> int:
        return self._count

    @property
    def has_characters(self) -> bool:
        """Whether tokens may be characters of scripts without spaces."""
        return self._weights is not None

    @property
    def weight(self) -> int:
        """What all tokens weigh."""
        return self._count * WORD_WEIGHT if self._weights is None else int(self._weights[-1])

    def of_weight(self, least: int) -> Numbers:
        """Return, token after token, the number of the shortest run that begins there and weighs so much."""
        if self._weights is None:
            return self.of_length(-(-least // WORD_WEIGHT))
        ends = np.searchsorted(self._weights, self._weights[:-1] + least)
        whole = int(np.searchsorted(ends, self._count, side="right"))
        return self._numbers(np.arange(whole), ends[:whole])

    def of_length(self, tokens: int) -> Numbers:
        """Return the numbers of all runs of so many tokens."""
        count = max(0, self._count - tokens + 1)
        found: Numbers = (self._sums[tokens : tokens + count] - self._sums[:count]) * _powers(_INVERSE, count)
        return found

    def whole(self) -> int:
        """Return the number of all tokens together."""
        return int(self._sums[-1])

    def _numbers(self, starts: Places, ends: Places) -> Numbers:
        found: Numbers = (self._sums[ends] - self._sums[starts]) * _powers(_INVERSE, len(starts))
        return found


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers of runs, sorted, and beside each whose it is; a number is there once for each owner.

    `sizes` says how many numbers each owner has. `slots` has a bit for the first digits of every number: what is not
    there need not be searched for.
    """

    numbers: Numbers
    owners: Owners
    sizes: Places
    slots: NDArray[np.uint8]
    shift: np.uint64

    @classmethod
    def of(cls, numbers: Numbers, owners: Owners, count: int) -> Table:
        """Make a table of numbers that are sorted already; there are `count` owners, whether they have any or not."""
        bits = min(_MOST_SLOTS, max(_FEWEST_SLOTS, int(len(numbers) * 32).bit_length()))
        shift = np.uint64(64 - bits)
        taken = np.zeros(2**bits, bool)
        taken[numbers >> shift] = True
        sizes = np.bincount(owners, minlength=count)
        return cls(numbers, owners, sizes, np.packbits(taken, bitorder="little"), shift)

    def places(self, numbers: Numbers) -> Places:
        """Return the places of those of `numbers` that the table has."""
        slot = numbers >> self.shift
        likely = np.flatnonzero((self.slots[slot >> np.uint64(3)] >> (slot & np.uint64(7)).astype(np.uint8)) & 1)
        if not len(likely) or not len(self.numbers):
            return likely[:0]
        asked = numbers[likely]
        at = np.minimum(np.searchsorted(self.numbers, asked), len(self.numbers) - 1)
        found: Places = likely[self.numbers[at] == asked]
        return found

    def owners_of(self, numbers: Numbers) -> Owners:
        """Return the owners of numbers that the table has, each owner once for each different number."""
        asked = np.unique(numbers)
        first, last = (np.searchsorted(self.numbers, asked, side=side) for side in ("left", "right"))
        counts = last - first
        starts = np.repeat(first - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
        found: Owners = self.owners[starts + np.arange(len(starts))]
        return found


def _pieces(text: str) -> Iterator[str]:
    """Cut a text, where it is long, at blanks if there are any."""
    start = 0
    while len(text) - start > _PIECE:
        end = text.find(" ", start + _PIECE, start + 2 * _PIECE)
        end = start + _PIECE if end < 0 else end
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _tokens(text: str) -> tuple[list[str], bool]:
    """Return the tokens, and whether there may be characters of scripts without spaces among them."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
        text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    text = _GROUPING.sub("", text) if "," in text else text
    if text.isascii():
        return text.translate(_NOT_ASCII_WORD).split(), False
    if not _SPECIAL.search(text):
        return _PLAIN_WORD.findall(text), False
    return _TOKEN.findall(text), True


def _powers(base: int, count: int) -> Numbers:
    return _kept_powers(base, max(10, count.bit_length()))[:count]


@lru_cache(maxsize=64)
def _kept_powers(base: int, bits: int) -> Numbers:
    """Return the powers of a number from the 0th, modulo 2**64."""
    factors = np.full(2**bits, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
