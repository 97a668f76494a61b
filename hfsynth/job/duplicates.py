"""Decide which documents and pairs of a corpus are duplicates, from what was noted of each of its files.

The first in order stays. Keys are sorted a class after the other and signatures read from a file, so memory grows with
the rows by a few bytes each: see docs/screening.md. The texts of those that may be near-duplicates are read again, and
decide.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfsynth.core.files import replaced, temporary, write_json, writing
from hfsynth.core.screening import SIMILARITY
from hfsynth.quality.near_duplicates import (
    BANDS,
    PERMUTATIONS,
    Keys,
    Numbers,
    class_of,
    classes_of,
    near,
    repeats,
    resolved,
    shingle_keys,
    similarity_of,
)

_DECIDED = "decided.json"


def noted_path(folder: Path, shard: int) -> Path:
    """Return where what was noted of a file lies."""
    return folder / f"{shard:05d}.npz"


def is_decided(folder: Path) -> bool:
    """Return whether all decisions lie in a folder."""
    return (folder / _DECIDED).exists()


Texts = Callable[[int, NDArray[np.int32]], Iterable[str]]
"""Give the texts of some rows, in their order, of the file with a number."""


def decide(noted: Path, names: Sequence[str], decided: Path, texts: Texts) -> None:
    """Decide about all files, whose arrays are in `noted` and whose names are `names`, and write it into `decided`."""
    with writing(decided):
        decided.mkdir(parents=True, exist_ok=True)
        index = _Index(noted, len(names))
        with _signatures(index, decided / "signatures.bin") as signatures:
            exact, same, candidates = _documents(index, signatures)
        with _shingles(index, candidates, texts, decided / "shingles.bin") as found:
            gone = _gone(same, candidates, found)
        pairs = _repeated_pairs(index, gone)
        for shard in range(len(names)):
            _write(noted_path(decided, shard), index, shard, gone, exact, pairs, names)
        write_json(decided / _DECIDED, {"documents": len(gone), "pairs": int(pairs.sum())})


class _Index:
    """The arrays of all files. Documents, and pairs, are numbered through all of them."""

    def __init__(self, folder: Path, shards: int) -> None:
        self._folder, self.shards = folder, shards
        lengths = [(len(self.array(shard, "rows")), len(self.array(shard, "pair_keys"))) for shard in range(shards)]
        self.documents, self.pairs = (np.concatenate([[0], np.cumsum(some)]) for some in zip(*lengths, strict=True))

    def array(self, shard: int, name: str) -> NDArray[Any]:
        with np.load(noted_path(self._folder, shard)) as arrays:
            found: NDArray[Any] = arrays[name]
            return found

    def keys(self, name: str, starts: NDArray[np.int64], wanted: Wanted, classes: int, number: int) -> _Keyed:
        """Return the keys of a class among all files' arrays of a name, and the numbers of their items."""
        keys, numbers = [], []
        for shard in range(self.shards):
            own = self.array(shard, name)
            there = wanted(shard, np.arange(starts[shard], starts[shard + 1]))
            there &= class_of(own, classes) == number
            places = np.flatnonzero(there)
            keys.append(own[places])
            numbers.append(places + starts[shard])
        return np.concatenate(keys), np.concatenate(numbers)


Wanted = Callable[[int, Numbers], NDArray[np.bool_]]
_Keyed = tuple[Keys, Numbers]


def _documents(index: _Index, signatures: NDArray[np.uint8]) -> tuple[set[int], dict[int, int], _Pairs]:
    """Return which documents are the same as an earlier one, which one that is, and which of the others may be near."""
    total = int(index.documents[-1])
    there = np.ones(total, dtype=np.bool_)
    same: dict[int, int] = {}

    def wanted(shard: int, numbers: Numbers) -> NDArray[np.bool_]:
        return there[numbers]

    for later, first in _of_classes(index, "keys", index.documents, wanted, repeats):
        same.update(zip(later.tolist(), first.tolist(), strict=True))
    there[list(same)] = False
    found: list[tuple[Numbers, Numbers]] = []
    for band in range(BANDS):
        some = _of_classes(
            index, f"band{band}", index.documents, wanted, lambda keys, numbers: near(keys, numbers, signatures)
        )
        found = _once([*found, *some])
    nothing = np.empty(0, dtype=np.int64)
    return set(same), same, found[0] if found else (nothing, nothing)


def _gone(same: dict[int, int], candidates: _Pairs, found: _Shingles) -> dict[int, int]:
    """Return the documents that go, and for each the one that stays."""
    alike = (similarity_of(found.of(later), found.of(earlier)) for later, earlier in zip(*candidates, strict=True))
    is_near = np.fromiter((one >= SIMILARITY for one in alike), np.bool_, len(candidates[0]))
    nearly = resolved([(candidates[0][is_near], candidates[1][is_near])])
    return {later: nearly.get(first, first) for later, first in same.items()} | nearly


@dataclass(frozen=True, slots=True)
class _Shingles:
    """The keys of the shingles of some documents, one after the other in a file: `ends` counts keys, not bytes."""

    documents: Numbers
    ends: Numbers
    file: int

    def of(self, document: int) -> Keys:
        place = int(np.searchsorted(self.documents, document))
        start, end = int(self.ends[place - 1]) if place else 0, int(self.ends[place])
        return np.frombuffer(os.pread(self.file, 8 * (end - start), 8 * start), dtype=np.uint64)


@contextmanager
def _shingles(index: _Index, candidates: _Pairs, texts: Texts, path: Path) -> Iterator[_Shingles]:
    """Lend the shingles of all candidates, which are read file after file."""
    part, lengths = temporary(path), list[int]()
    involved = np.unique(np.concatenate(candidates))
    try:
        with writing(path), part.open("wb") as file:
            for shard in range(index.shards):
                start, end = np.searchsorted(involved, index.documents[shard : shard + 2])
                if start < end:
                    rows = index.array(shard, "rows")[involved[start:end] - index.documents[shard]]
                    for keys in map(shingle_keys, texts(shard, rows)):
                        file.write(keys.tobytes())
                        lengths.append(len(keys))
        with part.open("rb") as file:
            yield _Shingles(involved, np.cumsum(np.array(lengths, dtype=np.int64)), file.fileno())
    finally:
        with writing(path):
            os.unlink(part)


def _of_classes(
    index: _Index, name: str, starts: NDArray[np.int64], wanted: Wanted, find: Callable[..., Any]
) -> Iterator[_Pairs]:
    classes = classes_of(int(starts[-1]))
    for number in range(classes):
        found = find(*index.keys(name, starts, wanted, classes, number))
        yield from [found] if isinstance(found, tuple) else found


_Pairs = tuple[Numbers, Numbers]


def _once(found: list[_Pairs]) -> list[_Pairs]:
    """Return each pair of texts once."""
    if not found:
        return found
    both = np.unique(np.stack([np.concatenate(side) for side in zip(*found, strict=True)], axis=1), axis=0)
    return [(both[:, 0], both[:, 1])]


def _repeated_pairs(index: _Index, gone: dict[int, int]) -> NDArray[np.bool_]:
    """Return which pairs are the same as an earlier one, of documents that stay."""
    stays = np.ones(int(index.documents[-1]), dtype=np.bool_)
    stays[list(gone)] = False
    repeated = np.zeros(int(index.pairs[-1]), dtype=np.bool_)

    def wanted(shard: int, numbers: Numbers) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = stays[index.array(shard, "owners")[:, 0] + index.documents[shard]]
        return found

    for later, _ in _of_classes(index, "pair_keys", index.pairs, wanted, repeats):
        repeated[later] = True
    return repeated


def _write(
    path: Path,
    index: _Index,
    shard: int,
    gone: dict[int, int],
    exact: set[int],
    pairs: NDArray[np.bool_],
    names: Sequence[str],
) -> None:
    """Write down what goes of a file: rows with the file and row that each is a duplicate of, and pairs."""
    start, end = (int(place) for place in index.documents[shard : shard + 2])
    own = [number for number in range(start, end) if number in gone]
    rows = index.array(shard, "rows")
    stay = np.array([gone[number] for number in own], dtype=np.int64)
    files = np.searchsorted(index.documents, stay, side="right") - 1
    places = np.empty(len(own), dtype=np.int64)
    for file in np.unique(files):
        of_file = files == file
        places[of_file] = index.array(int(file), "rows")[stay[of_file] - index.documents[file]]
    owners = index.array(shard, "owners")[pairs[index.pairs[shard] : index.pairs[shard + 1]]]
    owners = np.stack([rows[owners[:, 0]], owners[:, 1]], axis=1) if len(owners) else owners
    arrays: dict[str, Any] = {
        "rows": rows[np.array(own, dtype=np.int64) - start],
        "files": files,
        "places": places,
        "exact": np.array([number in exact for number in own], dtype=np.bool_),
        "pairs": owners,
        "names": np.array(names),
    }
    with replaced(path) as temporary_path, temporary_path.open("wb") as file_:
        np.savez(file_, **arrays)


@contextmanager
def _signatures(index: _Index, path: Path) -> Iterator[NDArray[np.uint8]]:
    """Lend the signatures of all documents as one file that is mapped into memory."""
    part = temporary(path)
    total = int(index.documents[-1])
    try:
        with part.open("wb") as file:
            for shard in range(index.shards):
                file.write(index.array(shard, "signatures").tobytes())
        if total:
            mapped = np.memmap(part, dtype=np.uint8, mode="r", shape=(total, PERMUTATIONS))
            yield mapped
            del mapped
        else:
            yield np.empty((0, PERMUTATIONS), dtype=np.uint8)
    finally:
        with writing(path):
            os.unlink(part)
