"""Synthesized rows of a dataset into the Parquet files of one split, as a job's parts have them, and their counts.

Knows nothing of corpora, texts or the Hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.errors import ColumnError, ConfigError, SourceError
from hfsynth.core.records import Counts, Synthesis, Synthesized, chain_id
from hfsynth.corpus.folder import part_name
from hfsynth.corpus.parquet import synthesized
from hfsynth.documents.column_types import features_of
from hfsynth.documents.dataset_splits import Rows
from hfsynth.documents.files import reading
from hfsynth.documents.hf_datasets import StreamReader
from hfsynth.documents.readers import TABLE_ROWS, Row
from hfsynth.documents.source import RESERVED_COLUMNS, OpenSource, Source
from hfsynth.job.part_writer import ShardWriter
from hfsynth.job.shards import ShardRecord, part_path
from hfsynth.job.spec import part_schema
from hfsynth.synthesis.chains import grouped
from hfsynth.synthesis.synthesizer import Synthesizer

Made = tuple[Row, Synthesized]


class OnePass(StreamReader):
    """The rows of a dataset or a stream, read once: to read a stream a second time would synthesize it again.

    The first rows decide the columns of a stream that names none.
    """

    def __init__(self, rows: Rows, name: str) -> None:
        self._name = name
        with reading(name):
            self._tables: Iterator[pa.Table] = iter(rows.with_format("arrow").iter(TABLE_ROWS))
            schema = rows.features.arrow_schema if rows.features else self._first()
        self.features = features_of(schema)
        self._schema = self.features.arrow_schema

    def _first(self) -> pa.Schema:
        first = next(self._tables, None)
        if first is None:
            raise SourceError(f"{self._name} holds no rows.", hint="Check the dataset.")
        self._tables = chain((first,), self._tables)
        return first.schema

    def read(self, start: int) -> Iterator[Row]:
        with reading(self._name):
            for table in self._tables:
                yield from self._conform(table).to_pylist()


@dataclass(slots=True)
class SavedSplit:
    """What was written of one split: its files by name, its counts, the documents in chains that are not whole."""

    files: dict[str, ShardRecord] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    rows: int = 0
    broken: int = 0


def open_rows(name: str, rows: Rows, synthesizer: Synthesizer) -> OpenSource:
    """Open synthesized rows as a job opens its documents: `id` and `text` first, named as the transform says.

    Raise ColumnError where `pairs`, `synthesis` or the text are missing.
    """
    where = f"The split {name!r} of pairs"
    reader = OnePass(rows, where)
    for column, hint in (
        *((name, "Save what ds.map(synthesize, batched=True, …) returned.") for name in RESERVED_COLUMNS),
        (synthesizer.text_column, "It was renamed or removed after the synthesis: give it its name back."),
    ):
        if column not in reader.features:
            raise ColumnError.missing(column, reader.features, where=where, hint=hint)
    ids = synthesizer.id_column if synthesizer.id_column in reader.features else None
    return OpenSource(Source(where, None, None, None, synthesizer.text_column, ids), reader, "")


def save_split(
    name: str, opened: OpenSource, config: SynthesizerConfig, *, folder: Path, working: Path, shard_rows: int
) -> SavedSplit:
    """Write the files of a split into `folder`, `shard_rows` rows in each; `working` is for those under way.

    Raise ColumnError for rows that no synthesis made, ConfigError for those that another recipe made.
    """
    own = Features({column: kind for column, kind in opened.features.items() if column not in RESERVED_COLUMNS})
    schema = part_schema(own, config)
    saved, records, whole = SavedSplit(), list[ShardRecord](), WholeChains()
    made = whole.watched(_made(opened.rows(), config))
    while (first := next(made, None)) is not None:
        rows = islice(chain((first,), made), shard_rows)
        records.append(_file(rows, ShardWriter(part_path(working, len(records)), schema)))
    folder.mkdir(exist_ok=True)
    for number, record in enumerate(records):
        file = part_name(number, len(records), name)
        part_path(working, number).rename(folder / file)
        part_path(working, number).with_suffix(".json").unlink()
        saved.files[file] = record
    saved.counts = sum((record.counts for record in records), Counts())
    saved.rows = sum(record.rows for record in records)
    saved.broken = whole.broken
    return saved


def _file(made: Iterable[Made], writer: ShardWriter) -> ShardRecord:
    try:
        for number, group in enumerate(grouped(made, TABLE_ROWS)):
            writer.add(number, [row for row, _ in group], Counts.of(result for _, result in group))
    except BaseException:
        writer.abandon()
        raise
    return writer.finish(0.0)


def _made(rows: Iterable[Row], config: SynthesizerConfig) -> Iterator[Made]:
    ours, shots = config.fingerprint, config.shots
    for number, row in enumerate(rows):
        try:
            result = synthesized(row)
        except (KeyError, TypeError, ValueError) as error:
            raise ColumnError(
                f"Row {number} (from 0) was not made by a Synthesizer: pairs or synthesis cannot be read ({error}).",
                hint="Save what ds.map(synthesize, batched=True, …) returned, with both columns as they are.",
            ) from error
        _require_recipe(row["synthesis"], number, ours, shots)
        yield row, result


def _require_recipe(synthesis: Mapping[str, Any], number: int, ours: str, shots: int) -> None:
    """Refuse rows of another recipe; rows of an earlier version do not say theirs."""
    made_by = synthesis.get("recipe")
    if made_by not in (None, ours) or synthesis["shot"] >= shots:
        raise ConfigError(
            f"Row {number} (from 0) was made by another recipe ({made_by or 'of more shots'}) than this synthesizer's "
            f"({ours}).",
            hint="Give the synthesizer that the dataset was mapped with.",
        )


class WholeChains:
    """Count the documents of chains that are not whole: rows that were taken out or moved after the synthesis."""

    def __init__(self) -> None:
        self.broken = 0
        self._ids: list[str] = []
        self._chain = ""
        self._in_order = True

    def watched(self, made: Iterable[Made]) -> Iterator[Made]:
        """Pass rows on and look at their chains."""
        for row, result in made:
            self._add(str(row["id"]), result.synthesis)
            yield row, result
        self._end()

    def _add(self, name: str, synthesis: Synthesis) -> None:
        if synthesis.chain != self._chain or synthesis.shot == 0:
            self._end()
            self._chain = synthesis.chain
        self._in_order = self._in_order and synthesis.shot == len(self._ids)
        self._ids.append(name)

    def _end(self) -> None:
        if self._ids and not (self._in_order and chain_id(self._ids) == self._chain):
            self.broken += len(self._ids)
        self._ids, self._in_order = [], True
