"""Which texts of a long sequence are the same as an earlier one, or nearly so; of sketches alone, so in little memory.

A text's sketch is a key of its words, a MinHash signature of its shingles (`rensa`), and keys of bands of that
signature. Texts that share a band's key are compared by their signatures, which estimate the similarity; whoever has
the texts decides by their shingles (`similarity_of`). What is said to be a near-duplicate is near to an earlier text
that stays: nothing goes because of a text that goes itself. Knows nothing of files and rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from hfsynth.core.errors import ConfigError
from hfsynth.core.screening import SHINGLE_WORDS, SIMILARITY
from hfsynth.quality.words import CHARACTER

PERMUTATIONS = 128
BANDS, BAND_ROWS = 21, 6
"""Two texts that are alike by 0.8 share a band's key in 998 of 1,000 cases, by 0.5 in 281, by 0.3 in 15."""

CANDIDATE, CERTAIN = SIMILARITY - 0.1, SIMILARITY + 0.1
"""An estimate has a standard error of 0.035 at 0.8: what is estimated below the first is not near, above the second
is."""

MOST_COMPARED = 64
"""Of texts that share a key, so many are compared with those after them: boilerplate must not cost its square."""

RANGE = 2**25
"""So many keys are sorted at once: 1 GiB of memory."""

_SEED = 1
_WORD = re.compile(r"\w+")
_WORD_OR_CHARACTER = re.compile(rf"{CHARACTER}|\w+")
_UNSPACED = re.compile(CHARACTER)

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int64]
KeysOf = Callable[[int, int], tuple[Keys, Numbers]]
"""Give the keys of a class, one of so many, and the numbers of the texts that have them, in order."""


@dataclass(frozen=True, slots=True)
class Sketches:
    """The sketches of texts: a key of all words, the keys of bands (a row a band), signatures (a row a text)."""

    keys: Keys
    bands: Keys
    signatures: NDArray[np.uint8]


def plain_words(text: str) -> list[str]:
    """Return a text's words without differences of case and punctuation; characters without spaces are a word each."""
    folded = text.lower()
    if folded.isascii() or not _UNSPACED.search(folded):
        return _WORD.findall(folded)
    return _WORD_OR_CHARACTER.findall(folded)


def shingles(words: Sequence[str]) -> list[str]:
    """Return the runs of five neighbouring words; of a shorter text itself is the only one."""
    if len(words) <= SHINGLE_WORDS:
        return [" ".join(words)]
    return list(map(" ".join, zip(*(words[start:] for start in range(SHINGLE_WORDS)), strict=False)))


def word_key(words: Iterable[str]) -> int:
    """Return 64 bits that stand for words in their order."""
    content = " ".join(words).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big")


def sketches(texts: Sequence[str]) -> Sketches:
    """Return the sketches of texts; raise ConfigError where rensa is not installed."""
    said = [plain_words(text) for text in texts]
    keys = np.array([word_key(words) for words in said], dtype=np.uint64)
    full = _digests([shingles(words) for words in said])
    return Sketches(keys, _bands(full), (full & np.uint64(0xFF)).astype(np.uint8))


def _digests(sets: list[list[str]]) -> Keys:
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise ConfigError(
            "Near-duplicates are found by rensa, which is not installed.",
            hint="Run `pip install 'hfsynth[evaluate]'`.",
        ) from error
    rows = RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, _SEED).to_rows() if sets else []
    return np.array(rows, dtype=np.uint64).reshape(len(sets), PERMUTATIONS)


def _bands(full: Keys) -> Keys:
    """Return a key for each band of each signature, bands first."""
    bands = np.empty((BANDS, len(full)), dtype=np.uint64)
    for band in range(BANDS):
        key = np.full(len(full), band + 1, dtype=np.uint64)
        for column in range(band * BAND_ROWS, (band + 1) * BAND_ROWS):
            key = (key ^ full[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        bands[band] = key
    return bands


def classes_of(number: int) -> int:
    """Return in how many classes so many keys are sorted, one class after the other."""
    return max(1, -(-number // RANGE))


def class_of(keys: Keys, classes: int) -> NDArray[np.uint64]:
    """Return the class of each key, of so many."""
    return (keys >> np.uint64(32)) * np.uint64(classes) >> np.uint64(32)


def repeats(keys: Keys, numbers: Numbers) -> tuple[Numbers, Numbers]:
    """Return the numbers of the texts with a key that an earlier one has, and those of the first that has it."""
    order, starts, lengths = _runs(keys)
    firsts = np.repeat(order[starts], lengths)
    later = firsts != order
    return numbers[order[later]], numbers[firsts[later]]


def near(
    keys: Keys, numbers: Numbers, signatures: NDArray[np.uint8], *, similarity: float = CANDIDATE
) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield texts of which an earlier one with the same key may be near, and that one, as numbers of texts.

    `signatures` are those of all texts, by their numbers. A text that is `CERTAIN` to be near is compared no further.
    """
    order, starts, lengths = _runs(keys)
    for start, length in zip(starts[lengths > 1], lengths[lengths > 1], strict=True):
        left = numbers[order[start : start + length]]
        for _ in range(MOST_COMPARED):
            first, left = left[0], left[1:]
            if not len(left):
                break
            estimate = _alike(signatures[left], signatures[first])
            alike = estimate >= similarity
            if alike.any():
                yield left[alike], np.full(int(alike.sum()), first)
            left = left[estimate < CERTAIN]
            if not len(left):
                break


def _alike(some: NDArray[np.uint8], one: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Estimate the Jaccard similarity of texts with one; of 256 bytes, one is the same by chance."""
    same = (some == one).mean(axis=1)
    estimate: NDArray[np.float64] = (same - 1 / 256) / (1 - 1 / 256)
    return estimate


def _runs(keys: Keys) -> tuple[Numbers, Numbers, Numbers]:
    """Return the places of keys in sorted order, and where runs of equal ones start and how long they are."""
    order = np.argsort(keys, kind="stable").astype(np.int64)
    ordered = keys[order]
    starts = (
        np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else np.empty(0, np.int64)
    )
    return order, starts, np.diff(np.append(starts, len(keys)))


def shingle_keys(text: str) -> Keys:
    """Return numbers that stand for the different shingles of a text, sorted; they mean nothing to another process."""
    keys = np.fromiter(map(hash, set(shingles(plain_words(text)))), dtype=np.int64)
    return np.unique(keys.view(np.uint64))


def similarity_of(one: Keys, other: Keys) -> float:
    """Return the Jaccard similarity of two texts, given the keys of their shingles."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(len(one) + len(other) - common, 1)


def resolved(pairs: Iterable[tuple[Numbers, Numbers]]) -> dict[int, int]:
    """Return the texts that go, and for each the first text near to it that stays, in order of the texts.

    `pairs` are texts and earlier ones near to them.
    """
    gone: dict[int, int] = {}
    found = [np.stack(pair, axis=1) for pair in pairs]
    for later, earlier in np.unique(np.concatenate(found), axis=0).tolist() if found else ():
        if later not in gone and earlier not in gone:
            gone[later] = earlier
    return gone
