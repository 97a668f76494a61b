"""One file of a corpus's pairs, screened: what may be duplicates noted in a file of arrays, or the file written anew.

Rows come and go in batches, and only the columns that screening knows are read into values. Knows nothing of leases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hfsynth.core.errors import OutputError
from hfsynth.core.files import file_digest, publish, replaced, temporary, writing
from hfsynth.core.processes import mark
from hfsynth.core.records import Counts, Row
from hfsynth.core.screening import Screening
from hfsynth.corpus.folder import Corpus, split_order
from hfsynth.corpus.manifest import damaged_parquet
from hfsynth.corpus.parquet import RowGroupWriter, synthesized
from hfsynth.quality.identifiers import identifiers
from hfsynth.quality.measures import LooksForBenchmarks
from hfsynth.quality.screening import COLUMNS, Repeated, Screened, is_in, screened, texts_of, without_repeated
from hfsynth.quality.token_classifier import TokenClassifier

ROWS_AT_A_TIME = 1000


def pairs_files(corpus: Corpus) -> list[Path]:
    """Return the files of a corpus's pairs, split after split: the shards of a screening."""
    return sorted(
        corpus.pairs.glob("*.parquet"), key=lambda path: (*split_order(path.name.partition("-")[0]), path.name)
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring rows of a file as they are, and those of their columns that screening knows as values."""

    table: pa.RecordBatch
    rows: list[Row]

    def with_rows(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Return the batch with other values in these columns; itself where the rows are the very same."""
        if all(new is old for new, old in zip(rows, self.rows, strict=True)):
            return self.table
        columns = list(self.table.columns)
        for name in rows[0]:
            place = self.table.schema.get_field_index(name)
            columns[place] = pa.array([row[name] for row in rows], type=self.table.schema.field(place).type)
        return pa.RecordBatch.from_arrays(columns, schema=self.table.schema)


def batches(path: Path) -> Iterator[Batch]:
    """Yield a file's rows; raise OutputError where it is damaged, or its rows hold no pairs."""
    try:
        with pq.ParquetFile(path) as file:
            known = [name for name in COLUMNS if name in file.schema_arrow.names]
            for name in ("text", "pairs", "synthesis"):
                if name not in known:
                    raise OutputError(
                        f"{path} has no column {name!r}.", hint="Pairs are screened with their documents."
                    )
            for table in file.iter_batches(batch_size=ROWS_AT_A_TIME):
                yield Batch(table, table.select(known).to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise damaged_parquet(path) from error


def texts_at(path: Path, rows: NDArray[np.int32]) -> Iterator[str]:
    """Yield the texts of some rows of a file, whose numbers rise; raise OutputError where it is damaged."""
    start = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=["text"]):
                own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + batch.num_rows)] - start
                yield from batch.column(0).take(pa.array(own)).to_pylist()
                start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise damaged_parquet(path) from error


# --- what may be a duplicate ------------------------------------------------------------------------------------------


class Noted:
    """What a file holds that may be a duplicate, from its screened rows: sketches of documents, keys of pairs."""

    def __init__(self) -> None:
        self._number = 0
        self._rows: list[int] = []
        self._owners: list[tuple[int, int]] = []
        self._pair_keys: list[int] = []
        self._sketches: list[Any] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Take in the next rows."""
        from hfsynth.quality.near_duplicates import plain_words, sketches, word_key

        texts = []
        for row in rows:
            if is_in(row):
                self._rows.append(self._number)
                texts.append(row["text"])
                for place, pair in enumerate(row["pairs"] or []):
                    self._owners.append((len(self._rows) - 1, place))
                    said = (*plain_words(pair["instruction"]), "\n", *plain_words(pair["response"]))
                    self._pair_keys.append(word_key(said))
            self._number += 1
        self._sketches.append(sketches(texts))

    def write(self, path: Path) -> None:
        """Write the arrays down, whole or not at all."""
        found = self._sketches
        arrays: dict[str, Any] = {
            "rows": np.array(self._rows, dtype=np.int32),
            "owners": np.array(self._owners, dtype=np.int32).reshape(-1, 2),
            "pair_keys": np.array(self._pair_keys, dtype=np.uint64),
        }
        if found:
            arrays["keys"] = np.concatenate([one.keys for one in found])
            arrays["signatures"] = np.concatenate([one.signatures for one in found])
            for number in range(len(found[0].bands)):
                arrays[f"band{number}"] = np.concatenate([one.bands[number] for one in found])
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as temporary_path, temporary_path.open("wb") as file:
                np.savez(file, **arrays)


def read_repeated(path: Path) -> dict[int, Repeated]:
    """Return what of a file is a duplicate, by its rows, as `hfsynth.job.duplicates` has written it down."""
    with np.load(path) as arrays:
        rows, files, places = (arrays[name].tolist() for name in ("rows", "files", "places"))
        exact, names = arrays["exact"].tolist(), arrays["names"].tolist()
        pairs: dict[int, set[int]] = {}
        for row, place in arrays["pairs"].tolist():
            pairs.setdefault(row, set()).add(place)
    found = {row: Repeated(pairs=frozenset(places)) for row, places in pairs.items()}
    for row, file, place, is_exact in zip(rows, files, places, exact, strict=True):
        found[row] = Repeated(f"row {place} of {names[file]}", is_exact)
    return found


# --- the file anew ----------------------------------------------------------------------------------------------------


class NewPart:
    """A file of pairs on its way to be written anew; where no row is changed, there will be none."""

    def __init__(self, path: Path, old: Path) -> None:
        self._path, self._temporary = path, temporary(path, writer=mark())
        self._changed = False
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = RowGroupWriter(self._temporary, pq.read_schema(old))

    def add(self, batch: Batch, rows: Sequence[Row]) -> None:
        """Write rows."""
        table = batch.with_rows(rows)
        self._changed |= table is not batch.table
        with writing(self._path):
            self._file.write(table)

    def finish(self) -> tuple[str, int] | None:
        """Put the file in place and return its digest and size; None, and no file, where nothing was changed."""
        if not self._changed:
            self.abandon()
            return None
        with writing(self._path):
            self._file.close()
            described = file_digest(self._temporary)
            publish(self._temporary, as_=self._path)
        return described

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            self._file.abandon()
        self._temporary.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class RowScreen:
    """Screens the rows of a file; `repeated` says what of them is a duplicate, by their numbers."""

    settings: Screening
    repeated: Mapping[int, Repeated]
    index: LooksForBenchmarks | None = None
    classifier: TokenClassifier | None = None

    def screened(self, rows: Sequence[Row], first: int) -> list[Screened]:
        """Screen rows, of which the first has the number `first` in its file."""
        if self.classifier is not None:
            self.classifier.prepare(text for row in rows for text in texts_of(row))
        find = self.classifier or identifiers
        found = [screened(row, self.settings, self.index, find) for row in rows]
        if not self.repeated:
            return found
        return [
            without_repeated(one, self.repeated[number]) if number in self.repeated else one
            for number, one in enumerate(found, first)
        ]


def counted(found: Sequence[Screened], path: Path) -> Counts:
    """Return the counts of screened rows; raise OutputError where they are not ours."""
    try:
        counts = Counts.of(synthesized(one.row) for one in found)
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{path} does not say how its pairs came about: {error}.", hint="Use a folder that hfsynth wrote."
        ) from error
    return counts + Counts(screened=sum((one.counts for one in found if one.counts), Counter()))
