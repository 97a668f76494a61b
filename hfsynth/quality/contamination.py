"""Tell whether a text holds a benchmark's questions: an index of their n-grams, asked about documents and pairs.

A document is looked through for runs of 13 words, as GPT-3's authors did, a pair for runs of 8, as those of Tülu 3 did;
in scripts without spaces for runs of 24 and 15 characters. What a question becomes by other words, translation or other
numbers is out of reach. The index holds hashes, not texts. Knows nothing of files of benchmarks, models or jobs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hfsynth.core.benchmarks import Benchmark, BenchmarkRecord, BenchmarkRow
from hfsynth.core.errors import ConfigError, SourceError
from hfsynth.core.files import replaced
from hfsynth.quality.ngrams import WORD_WEIGHT, Numbers, Runs, Table

DOCUMENT_WORDS, PAIR_WORDS = 13, 8
"""How many words a run has that is looked for in documents, and in pairs."""
SHORTEST = 5
"""How many words a question must have to be looked for at all: shorter ones are everybody's."""
FLAGGED = 0.5
"""The share of a pair, a question or a passage from which on a pair or a document is flagged."""

_COMMON = 10  # rows; a run in more of them is a phrase of whoever writes questions
_OF_A_PASSAGE = 6  # rows that a question about a passage counts for: what is asked about two passages is asked of any
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, BadZipFile, ConfigError)
INDEX_VERSION = 1  # of what is told by an index: raised where the same benchmarks would be told otherwise
_ARRAYS = (
    *("document_numbers", "document_owners", "pair_numbers", "pair_owners", "exact_numbers", "exact_owners"),
    *("rows", "kinds", "benchmarks", "lengths"),
)


class PartKind(IntEnum):
    """Which part of a benchmark's row a text is."""

    QUESTION = 0
    ANSWER = 1
    PASSAGE = 2


@dataclass(frozen=True, slots=True)
class Match:
    """A part of a benchmark that a text holds: `share` of its n-grams. `row` is its row in the benchmark, from 0."""

    benchmark: str
    row: int
    part: str
    share: float


@dataclass(frozen=True, slots=True)
class Contamination:
    """What an index tells of a text.

    `covered` is the share of the text's n-grams that benchmarks hold, `matches` are the parts of benchmarks found in
    it, the largest share first. `share` is the largest of all these, from 0 to 1. `flagged` is the verdict: of a
    document, that it holds an n-gram of a question, or half of a passage; of a pair, that `share` is at least a half.
    """

    share: float = 0.0
    covered: float = 0.0
    matches: tuple[Match, ...] = ()
    flagged: bool = False

    @property
    def told(self) -> str:
        """What is said of it in a line: the share, and where most of it is from."""
        where = "".join(f", {one.part} of row {one.row} of {one.benchmark}" for one in self.matches[:1])
        return f"contamination {self.share:.3g}{where}"


CLEAN = Contamination()


class ContaminationIndex:
    """The n-grams of benchmarks. Made by `build` or `load`; asked by any number of threads.

    `benchmarks` are the records of what it was built from, `not_read` names gated ones that were not. `left_out` counts
    questions that are not looked for: `short` ones and `common` ones, all of whose n-grams stand in more than ten rows.
    """

    def __init__(self, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._about, self._arrays = dict(about), dict(arrays)
        self.benchmarks = tuple(map(BenchmarkRecord.from_dict, about["benchmarks"]))
        self.not_read: tuple[str, ...] = tuple(about.get("not_read", ()))
        self.left_out: dict[str, int] = dict(about["left_out"])
        self._documents, self._pairs, self._exact = (
            Table.of(arrays[f"{name}_numbers"], arrays[f"{name}_owners"], len(arrays["kinds"]))
            for name in ("document", "pair", "exact")
        )
        self._lengths = [int(length) for length in arrays["lengths"]]

    @classmethod
    def build(cls, benchmarks: Iterable[Benchmark], *, not_read: Sequence[str] = ()) -> ContaminationIndex:
        """Build an index of benchmarks; raise SourceError where no question of theirs can be looked for.

        `not_read` names what should be among them and is not; it is part of the record.
        """
        made = _Builder()
        for benchmark in benchmarks:
            made.add(benchmark)
        return made.index(not_read)

    @property
    def ngrams(self) -> int:
        """The number of n-grams that are looked for."""
        return len(self._documents.numbers) + len(self._pairs.numbers) + len(self._exact.numbers)

    @cached_property
    def sha256(self) -> str:
        """The identity of the index: the same for the same texts of the same benchmarks, on every machine."""
        found = sha256(_canonical(self._about))
        for name in _ARRAYS:
            found.update(f"{name}:{len(self._arrays[name])};".encode())
            found.update(np.ascontiguousarray(self._arrays[name]).data)
        return found.hexdigest()

    def record(self) -> dict[str, Any]:
        """Return what is to be known of the index wherever it was used: JSON values, no texts."""
        return {**self._about, "ngrams": self.ngrams, "sha256": self.sha256}

    def document(self, text: str) -> Contamination:
        """Look through a document."""
        runs = Runs(text)
        known = runs.of_weight(DOCUMENT_WORDS * WORD_WEIGHT)
        places = self._documents.places(known)
        found = [known[places], *self._whole_questions(runs)]
        if not any(map(len, found)):
            return CLEAN
        matches = self._matches(self._documents, np.concatenate(found))
        covered = len(places) / len(known) if len(known) else 0.0
        share = max(covered, *(match.share for match in matches))
        asked = any(match.part == "question" for match in matches)
        return Contamination(share, covered, matches, asked or share >= FLAGGED)

    def pair(self, instruction: str, response: str) -> Contamination:
        """Look through a pair."""
        asked, both = Runs(instruction), Runs(f"{instruction}\n{response}")
        known, known_asked = (runs.of_weight(PAIR_WORDS * WORD_WEIGHT) for runs in (both, asked))
        places = self._pairs.places(known)
        exact = self._exact.places(np.array([asked.whole()], np.uint64))
        if not len(places) and not len(exact):
            return CLEAN
        matches = self._matches(self._pairs, known[places])
        if len(exact):
            owner = int(self._exact.owners_of(np.array([asked.whole()], np.uint64))[0])
            matches = (self._match(owner, 1.0), *matches)
        of_asked = len(self._pairs.places(known_asked)) / len(known_asked) if len(known_asked) else 0.0
        covered = max(of_asked, len(places) / len(known) if len(known) else 0.0)
        share = max(covered, *(match.share for match in matches if match.part == "question"), 0.0)
        return Contamination(share, covered, matches, share >= FLAGGED)

    def is_flagged(self, text: str) -> bool:
        """Tell whether a text must not be shown to a model, whether it is a document's or a pair's."""
        return self.document(text).flagged or self.pair(text, "").flagged

    def save(self, path: str | Path) -> None:
        """Write the index into one file, whole or not at all."""
        with replaced(Path(path)) as part, part.open("wb") as file:
            about = np.frombuffer(_canonical(self.record()), np.uint8)
            np.savez(file, allow_pickle=False, about=about, **self._arrays)

    def keep(self, path: Path) -> None:
        """Save the index where a file does not hold it already."""
        try:
            there = path.exists() and self.load(path).sha256 == self.sha256
        except SourceError:
            there = False
        if not there:
            self.save(path)

    @classmethod
    def load(cls, path: str | Path) -> ContaminationIndex:
        """Read what `save` wrote; raise SourceError where that is missing, damaged or of another version."""
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(file["about"].tobytes())
                arrays = {name: file[name] for name in _ARRAYS}
            found = cls({name: about[name] for name in about if name not in ("ngrams", "sha256")}, arrays)
            whole = found.sha256 == about["sha256"]
        except FileNotFoundError as error:
            raise SourceError(f"There is no index at {path}.", hint="Check the name.") from error
        except _UNREADABLE as error:
            raise _no_index(path, str(error) or type(error).__name__) from error
        if not whole:
            raise _no_index(path, "its content is not what was written")
        if about["version"] != INDEX_VERSION:
            raise _no_index(path, "another version of hfsynth wrote it")
        return found

    def _whole_questions(self, runs: Runs) -> list[Numbers]:
        """Return the numbers of the short questions that are in a text as a whole."""
        most = len(runs) if runs.has_characters else DOCUMENT_WORDS - 1
        looked = [runs.of_length(length) for length in self._lengths if length <= most]
        return [numbers[self._documents.places(numbers)] for numbers in looked]

    def _matches(self, table: Table, numbers: Numbers) -> tuple[Match, ...]:
        """Return the parts that numbers in a table belong to, by the share of them that is there."""
        if not len(numbers):
            return ()
        owners, counts = np.unique(table.owners_of(numbers), return_counts=True)
        shares = counts / table.sizes[owners]
        order = np.lexsort((owners, -shares))
        return tuple(self._match(int(owners[at]), float(shares[at])) for at in order)

    def _match(self, part: int, share: float) -> Match:
        arrays = self._arrays
        name = self.benchmarks[int(arrays["benchmarks"][part])].source.name
        return Match(name, int(arrays["rows"][part]), PartKind(int(arrays["kinds"][part])).name.lower(), share)


class _Builder:
    """Collects the n-grams of benchmarks. A text that is there twice is one part; its owner is who has it first."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._parts: list[tuple[int, PartKind, int]] = []  # row, kind, benchmark
        self._known: dict[tuple[PartKind, int], int] = {}
        self._asked: set[tuple[int, int]] = set()
        self._times: list[int] = []  # how many rows a part counts for
        self._passage = ("", 0)  # the last one, which the next row may be about too
        self._grams: dict[str, list[tuple[int, Numbers]]] = {"document": [], "pair": [], "exact": []}
        self._lengths: set[int] = set()
        self._short = 0

    def add(self, benchmark: Benchmark) -> None:
        """Take in the rows of a benchmark."""
        self._records.append(benchmark.record().to_dict())
        for row in benchmark.rows:
            self._add_row(row)

    def _add_row(self, row: BenchmarkRow) -> None:
        if row.passage != self._passage[0]:
            self._passage = (row.passage, self._add_passage(row))
        passage, asked = self._passage[1], Runs(row.question)
        if asked.weight < (PAIR_WORDS if passage else SHORTEST) * WORD_WEIGHT:
            self._short += 1
        elif (asked.whole(), passage) not in self._asked:
            self._asked.add((asked.whole(), passage))
            self._add_part(row, PartKind.QUESTION, asked, times=_OF_A_PASSAGE if passage else 1)
        for answer in row.answers:
            if (runs := Runs(answer)).weight >= PAIR_WORDS * WORD_WEIGHT:
                self._add_part(row, PartKind.ANSWER, runs)

    def _add_passage(self, row: BenchmarkRow) -> int:
        """Add a row's passage; return what stands for it, 0 for none."""
        runs = Runs(row.passage)
        if runs.weight >= DOCUMENT_WORDS * WORD_WEIGHT:
            self._add_part(row, PartKind.PASSAGE, runs)
        return runs.whole()

    def _add_part(self, row: BenchmarkRow, kind: PartKind, runs: Runs, *, times: int = 1) -> None:
        part = self._known.setdefault((kind, runs.whole()), len(self._parts))
        if part < len(self._parts):
            self._times[part] += times * (kind is PartKind.QUESTION)
            return
        self._parts.append((row.number, kind, len(self._records) - 1))
        self._times.append(times)
        if kind is not PartKind.ANSWER:
            self._add_document_grams(part, kind, runs)
        if kind is not PartKind.PASSAGE:
            self._add_pair_grams(part, runs)

    def _add_document_grams(self, part: int, kind: PartKind, runs: Runs) -> None:
        if runs.weight >= DOCUMENT_WORDS * WORD_WEIGHT:
            self._grams["document"].append((part, np.unique(runs.of_weight(DOCUMENT_WORDS * WORD_WEIGHT))))
        elif kind is PartKind.QUESTION and runs.weight >= PAIR_WORDS * WORD_WEIGHT:
            self._lengths.add(len(runs))
            self._grams["document"].append((part, runs.of_length(len(runs))))

    def _add_pair_grams(self, part: int, runs: Runs) -> None:
        if runs.weight >= PAIR_WORDS * WORD_WEIGHT:
            self._grams["pair"].append((part, np.unique(runs.of_weight(PAIR_WORDS * WORD_WEIGHT))))
        else:
            self._grams["exact"].append((part, runs.of_length(len(runs))))

    def index(self, not_read: Sequence[str]) -> ContaminationIndex:
        """Sort what was collected into an index."""
        times = np.array(self._times, np.int64)
        arrays: dict[str, NDArray[Any]] = {}
        for name, grams in self._grams.items():
            arrays[f"{name}_numbers"], arrays[f"{name}_owners"] = _sorted(grams, times, rare=name != "exact")
        rows, kinds, benchmarks = zip(*self._parts, strict=True) if self._parts else ((), (), ())
        arrays["rows"], arrays["kinds"] = np.array(rows, np.uint32), np.array(kinds, np.uint8)
        arrays["benchmarks"], arrays["lengths"] = (
            np.array(benchmarks, np.uint16),
            np.array(sorted(self._lengths), np.uint16),
        )
        owners = np.concatenate([arrays[f"{name}_owners"] for name in self._grams])
        kept = np.bincount(owners, minlength=len(self._parts))
        common = int(np.sum((kept == 0) & (arrays["kinds"] == PartKind.QUESTION)))
        if not np.any((kept > 0) & (arrays["kinds"] == PartKind.QUESTION)):
            raise SourceError(
                f"No question can be looked for: {self._short} are shorter than {SHORTEST} words, {common} are "
                "all common phrases.",
                hint="Check which columns of the benchmark hold the questions.",
            )
        left_out = dict(Counter(short=self._short, common=common))
        sizes = {"document_words": DOCUMENT_WORDS, "pair_words": PAIR_WORDS}
        missing = {"not_read": sorted(not_read)} if not_read else {}
        about = {"version": INDEX_VERSION, **sizes, "benchmarks": self._records, "left_out": left_out, **missing}
        return ContaminationIndex(about, arrays)


def _sorted(
    grams: list[tuple[int, Numbers]], times: NDArray[np.int64], *, rare: bool
) -> tuple[Numbers, NDArray[np.uint32]]:
    """Return numbers with their owners, sorted, where asked for without those of many rows."""
    if not grams:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint32)
    numbers = np.concatenate([found for _, found in grams])
    owners = np.repeat(
        np.array([part for part, _ in grams], np.uint32), np.array([len(found) for _, found in grams], np.intp)
    )
    order = np.lexsort((owners, numbers))
    numbers, owners = numbers[order], owners[order]
    if not rare:
        return numbers, owners
    _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    kept = np.repeat(np.add.reduceat(times[owners], first) <= _COMMON, counts)
    return numbers[kept], owners[kept]


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def _no_index(path: str | Path, what: str) -> SourceError:
    return SourceError(f"{path} is no index of benchmarks: {what}.", hint="Build it anew from its benchmarks.")
