"""Decide what a source is, pin it, and stream its documents: `id`, `text` and whatever other columns it has.

Knows files, datasets and the Hub's datasets; nothing of models, prompts or jobs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import httpx2
from datasets import DatasetBuilder, Features, IterableDataset, Value, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetsError

from hfsynth.core.errors import ColumnError, ConfigError, SourceError
from hfsynth.core.private_names import saved_state
from hfsynth.core.records import content_id
from hfsynth.core.text import encodable
from hfsynth.documents import readers
from hfsynth.documents.csv_rows import CsvReader
from hfsynth.documents.files import File, reading
from hfsynth.documents.hf_datasets import DatasetReader, StreamReader, unreachable
from hfsynth.documents.json_lines import JsonLinesReader
from hfsynth.documents.locate import (
    FILES,
    Place,
    files_digest,
    find_files,
    locate,
    require_same,
    require_same_content,
    watched_file,
)
from hfsynth.documents.parquet_rows import ParquetReader
from hfsynth.documents.readers import SAMPLE_ROWS, UNREAD, BadRow, Reader, Row, TextReader, too_long

RESERVED_COLUMNS = ("pairs", "synthesis")
"""The columns that a synthesis adds, and that a source therefore cannot have."""

_FILE_READERS: dict[str, Callable[[Sequence[File], Collection[str]], Reader]] = {
    "txt": TextReader,
    "md": TextReader,
    "jsonl": JsonLinesReader,
    "csv": CsvReader,
    "parquet": ParquetReader,
}
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """Where documents come from: a Hub dataset id, a `save_to_disk` folder, or files, folders, globs and URLs of files.

    `config` and `split` choose within a Hub dataset, `split` within a saved DatasetDict too; files have neither. A job
    reads several splits, named one by one or `all`.
    `revision` is a branch, tag or commit of a Hub dataset; for anything else it is what `OpenSource.revision` said, and
    opening fails if the content has changed since. `limit` stops after so many rows.
    """

    location: str
    config: str | None = None
    split: str | Sequence[str] | None = "train"
    revision: str | None = None
    text_column: str = "text"
    id_column: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.location.strip():
            raise ConfigError("A source needs a name: a dataset, a folder or a file.")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be at least 1 row, not {self.limit}.", hint="Leave --limit out for all.")
        if self.split is not None and not isinstance(self.split, str):
            names = tuple(self.split)
            if not names or len({*names}) < len(names):
                raise ConfigError(f"These splits cannot be read together: {names}.", hint="Name each one once.")
            object.__setattr__(self, "split", names if len(names) > 1 else names[0])


class OpenSource:
    """A source that is there, whose columns have been checked. Made by `open_source`; for one thread at a time.

    `revision` pins its content. `columns` and `features` are those of `rows()`, `id` and `text` first. `num_rows` is
    None where only reading everything would tell; `expected_rows` is then what the Hub says, good for a progress bar.
    `is_local` says that it lies on this machine's own paths, where reading everything costs no traffic.
    """

    def __init__(
        self,
        source: Source,
        reader: Reader,
        revision: str,
        *,
        expected_rows: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.revision = revision
        self.require_unchanged = check
        """Look at the whole source again; raise SourceError where it is no longer at `revision`."""
        self._source, self._reader = source, reader
        self._others = [name for name in reader.features if name not in ("id", "text", source.text_column)]
        names = ("id", "text", *self._others)
        strings = {"id": Value("string"), "text": Value("string")}
        self.features = Features({name: strings.get(name) or reader.features[name] for name in names})
        self.columns: tuple[str, ...] = names
        self.is_local = False
        self.num_rows = self._limited(reader.num_rows)
        self.expected_rows = self.num_rows if self.num_rows is not None else self._limited(expected_rows)
        self._id_column = source.id_column or "id"
        self._left_off: tuple[int, Iterator[Row | BadRow]] | None = None

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Stream the rows from number `start` to before `stop`, in order and in constant memory.

        Every row has all columns. `text` is the text column's string or None; a column `text` that is not the text
        column is dropped. `id` comes from the id column, else from `id`, else from the content. Reading on where the
        last call stopped skips nothing. Raise ColumnError for a text that is no string, SourceError for a broken row,
        and for a source that has changed since it was opened.
        """
        for row in self.read(start, stop):
            if isinstance(row, BadRow):
                raise row.error
            yield row

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Row | BadRow]:
        """Stream the rows as `rows` does, with a BadRow in the place of each that cannot be read."""
        stop = self._limited(stop) if stop is not None else self._source.limit
        rows = self._resume(start)
        wanted = None if stop is None else max(0, stop - start)
        for number, row in enumerate(islice(rows, wanted), start):
            yield row if isinstance(row, BadRow) else self._document(number, row)
        self._reader.check()
        if stop is not None:
            self._left_off = (max(start, stop), rows)

    def _document(self, number: int, row: Row) -> Row | BadRow:
        try:
            return self.document(number, row)
        except ColumnError as error:
            return BadRow(error)

    def count(self) -> int:
        """Return the number of rows, reading everything where there is no other way."""
        if self.num_rows is None:
            self.num_rows = self.expected_rows = self._limited(self._reader.count()) or 0
        return self.num_rows

    def exact_rows(self) -> int | None:
        """Return the number of rows where that is certain: what is local is counted, a stream is not."""
        return self.count() if self.is_local else self.num_rows

    def _limited(self, rows: int | None) -> int | None:
        limit = self._source.limit
        return rows if rows is None or limit is None else min(rows, limit)

    def _resume(self, start: int) -> Iterator[Row | BadRow]:
        (position, rows), self._left_off = self._left_off or (-1, iter(())), None
        return rows if position == start else self._reader.read(start)

    def document(self, number: int, row: Row) -> Row:
        """Turn a row as it stands in the source into one of `rows()`, or raise ColumnError.

        A text that is too long to be worked on is left out, and the row says so under UNREAD.
        """
        if UNREAD in row:
            blank = dict.fromkeys(self._others)
            return {"id": row["id"], "text": None, **blank, UNREAD: row[UNREAD]}
        text = row.get(self._source.text_column)
        if text is not None and not isinstance(text, str):
            raise _no_text(f"row {number + 1} holds a {type(text).__name__}", self._source, self._reader.features)
        carried = {name: row[name] for name in self._others}
        made = {"id": self._id(number, row.get(self._id_column), text), "text": text, **carried}
        return made if text is None or len(text) <= readers.LONGEST else {**made, "text": None, UNREAD: too_long()}

    def _id(self, number: int, value: Any, text: str | None) -> str:  # noqa: ANN401
        if value is None:
            return content_id(text or "")
        if isinstance(value, list | dict | bytes):
            raise ColumnError(
                f"The id column {self._id_column!r} must hold strings or numbers; row {number + 1} holds a "
                f"{type(value).__name__}.",
                hint="Give another --id-column.",
            )
        return encodable(str(value))


def open_source(source: Source) -> OpenSource:
    """Find out what a source is, pin its revision and check its columns.

    A name that exists as a folder or file is that; one that looks like a path must exist; anything else is a dataset
    on the Hub. Raise SourceError where nothing can be read or there are no documents, ColumnError for missing,
    mistyped or reserved columns.
    """
    found = open_rows(source)
    opened = _checked(source, found)
    opened.is_local = found.is_local
    return opened


@dataclass(frozen=True, slots=True)
class Rows:
    """A source's rows as they stand there, none of its columns checked; otherwise as `OpenSource` has it."""

    reader: Reader
    revision: str
    expected_rows: int | None = None
    check: Callable[[], None] = lambda: None
    is_local: bool = False


def open_rows(source: Source) -> Rows:
    """Find out what a source is and pin its revision, whatever its columns are; raise SourceError as `open_source`."""
    place = locate(source.location)
    if place is None:
        return _open_hub(source)
    found = _open_saved(source, place) if place.is_saved else _open_files(source, place)
    return replace(found, is_local="://" not in source.location)


def _checked(source: Source, found: Rows) -> OpenSource:
    """Make the open source, or say what is wrong with it."""
    reader = found.reader
    first = next(reader.read(0), None)
    if first is None:
        raise _no_documents(source)
    if isinstance(first, BadRow):
        first = next((row for row in islice(reader.read(0), SAMPLE_ROWS) if not isinstance(row, BadRow)), first)
    if isinstance(first, BadRow):
        raise first.error
    _check_columns(source, reader.features)
    opened = OpenSource(source, reader, found.revision, expected_rows=found.expected_rows, check=found.check)
    opened.document(0, first)  # what is wrong with the first row is wrong from the start
    return opened


def _no_documents(source: Source) -> SourceError:
    return SourceError(f"{source.location} holds no documents.", hint="Check the file, the split or the folder.")


def _check_columns(source: Source, features: Features) -> None:
    if source.text_column not in features:
        raise _missing(source.text_column, "text", features)
    if source.id_column is not None and source.id_column not in features:
        raise _missing(source.id_column, "id", features)
    kind = getattr(features[source.text_column], "dtype", "list or struct")
    if kind not in ("string", "large_string"):
        raise _no_text(f"it holds {kind}", source, features)
    taken = [name for name in RESERVED_COLUMNS if name in features]
    if taken:
        raise ColumnError(
            f"{source.location} already has the columns {' and '.join(taken)}, which the synthesis adds.",
            hint="Rename or remove them in the source, or give the raw corpus.",
        )


def _missing(column: str, role: str, features: Features) -> ColumnError:
    others = [name for name, kind in features.items() if getattr(kind, "dtype", "") in ("string", "large_string")]
    better = next((name for name in ("text", "content", "body", "document") if name in others), None)
    example = better or next(iter(others), None) if role == "text" else "id" if "id" in features else None
    hint = f"Name the column that holds the {role}: --{role}-column {example or 'NAME'}"
    return ColumnError.missing(column, features, hint=hint)


def _no_text(found: str, source: Source, features: Features) -> ColumnError:
    return ColumnError(
        f"The text column {source.text_column!r} must hold strings or null; {found}. The columns are: "
        f"{', '.join(features)}.",
        hint="Name the column that holds the text with --text-column, or repair that row.",
    )


def _open_files(source: Source, place: Place) -> Rows:
    _refuse_config(source)
    kind, files = find_files(place)
    if all(file.size == 0 for file in files):
        raise _no_documents(source)
    revision = files_digest(files)
    _check_revision(source, revision)
    reader = _FILE_READERS[kind](files, {"id", "text", source.text_column})
    return Rows(reader, revision, check=lambda: require_same(place, files, revision))


def _open_saved(source: Source, place: Place) -> Rows:
    _refuse_config(source)
    try:
        with reading(source.location):
            if place.has("dataset_dict.json"):
                place = place / _choose_split(source, json.loads(place.read("dataset_dict.json"))["splits"])
            files = [watched_file(place, "state.json")]
            revision, shards = saved_state(json.loads(place.read("state.json")))
            files += [watched_file(place, shard) for shard in shards]
            # An empty dataset is saved without any shard, and cannot be loaded.
            reader = DatasetReader(load_from_disk(place.location), source.location, files) if shards else None
    except (ValueError, KeyError) as error:
        raise SourceError(
            f"{source.location} is no whole save_to_disk folder: {error}", hint="Save the dataset again."
        ) from error
    if reader is None:
        raise _no_documents(source)
    _check_revision(source, revision)
    content = files_digest(files)
    return Rows(reader, revision, check=lambda: require_same_content(source.location, files, content))


def _choose_split(source: Source, splits: list[str]) -> str:
    if source.split in splits:
        return str(source.split)
    if source.split is None and len(splits) == 1:
        return splits[0]
    asked = "needs a split" if source.split is None else f"has no split {source.split!r}"
    raise SourceError(
        f"{source.location} {asked}; the splits are: {', '.join(splits)}.", hint=f"Choose one: --split {splits[0]}"
    )


def _refuse_config(source: Source) -> None:
    if source.config is not None:
        raise ConfigError(
            f"{source.location} has no configs: only datasets on the Hub have.", hint="Leave --config out."
        )


def _check_revision(source: Source, revision: str) -> None:
    if source.revision not in (None, revision):
        raise SourceError(
            f"{source.location} should be at revision {source.revision}, and is at {revision}.",
            hint="Files changed since they were pinned. --revision is for datasets on the Hub; leave it out for files.",
        )


def _open_hub(source: Source) -> Rows:
    name = source.location
    builder, streams = _builder(source)
    stream = streams[_choose_split(source, list(streams))]
    declared = (builder.info.splits or {}).get(str(stream.split))
    expected = declared.num_examples if declared is not None else None
    return Rows(StreamReader(stream, name), str(builder.hash), expected)


def split_names(source: Source) -> list[str] | None:
    """Return the splits that a source has; None where it has none to choose from. Raise what `open_source` would."""
    place = locate(source.location)
    if place is None:
        return list(_builder(source)[1])
    if not (place.is_saved and place.has("dataset_dict.json")):
        return None
    with reading(source.location):
        return list(json.loads(place.read("dataset_dict.json"))["splits"])


def _builder(source: Source) -> tuple[DatasetBuilder, dict[str, IterableDataset]]:
    """Return the builder of a dataset on the Hub, and its splits as streams."""
    name = source.location
    if not _HUB_ID.fullmatch(name):
        raise SourceError(f"No such file or folder: {name}. It is no dataset id either.", hint=FILES)
    try:
        builder = load_dataset_builder(name, source.config, revision=source.revision)
        return builder, builder.as_streaming_dataset()
    except (OSError, ValueError, RuntimeError, DatasetsError, httpx2.HTTPError) as error:
        raise unreachable(name, error) from error
