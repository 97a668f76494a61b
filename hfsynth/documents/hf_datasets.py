"""Sources that `datasets` reads: the rows of a saved dataset or a stream from the Hub, and whole texts to mix.

Rows come as they are stored: images stay bytes. Texts (of corpus folders, files and the Hub) are memory-mapped
datasets. Knows nothing of what they are for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pyarrow as pa
from datasets import (
    Dataset,
    DatasetDict,
    IterableDataset,
    get_dataset_split_names,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetsError

from hfsynth.core.config import digest
from hfsynth.core.errors import SourceError
from hfsynth.core.files import file_digest
from hfsynth.core.store_paths import AnyPath, StorePath, sorted_glob
from hfsynth.core.stores import any_path, is_store
from hfsynth.corpus.folder import split_order
from hfsynth.corpus.manifest import require_whole
from hfsynth.corpus.parquet import cached_dataset
from hfsynth.documents.column_types import features_of
from hfsynth.documents.files import File, reading
from hfsynth.documents.locate import find_files, locate
from hfsynth.documents.readers import SAMPLE_ROWS, TABLE_ROWS, Row, other_columns
from hfsynth.documents.watching import FileWatch

_BUILDERS = {"parquet": "parquet", "jsonl": "json", "csv": "csv", "txt": "text", "md": "text"}


def open_texts(location: str | Path, *, split: str = "train", revision: str | None = None) -> Dataset:
    """Open a corpus folder's training texts, files, a `save_to_disk` folder, or a split of a dataset on the Hub.

    Text files are one document each. With a `revision` it is a dataset on the Hub, whatever is here. Raise SourceError
    where nothing can be read.
    """
    if revision is not None:
        return _of_hub(str(location), split, revision)
    stored = _corpus_on_store(location)
    if stored is not None:
        return _of_store(stored, split)
    folder = Path(location)
    rendered = sorted(folder.glob(f"data/{split}-*.parquet"))
    require_whole(folder, "data/", digests=True)
    try:
        if rendered:
            return _files("parquet", [str(path) for path in rendered])
        if (folder / ".hfsynth").is_dir():
            raise _no_texts(folder, split)
        return _elsewhere(str(location), split)
    except StopIteration as error:  # what `datasets` raises for files without a byte
        raise SourceError(f"{location} holds no rows.", hint="Check the file or the folder.") from error
    except (OSError, ValueError, DatasetsError) as error:
        raise SourceError(
            f"{location} cannot be read: {error}", hint="Check the name, the path and --split."
        ) from error


def open_splits(location: str, splits: Collection[str] | None = None) -> Dataset | dict[str, Dataset]:
    """Open every split of what `open_texts` opens, or those of `splits` that are there; files, which have none, as one.

    Raise SourceError where nothing can be read, or none of the splits is there.
    """
    there = _splits_there(location)
    if there is None:
        return open_texts(location)
    chosen = [name for name in there if splits is None or name in splits]
    if there and not chosen:
        raise SourceError(
            f"{location} has no split {' or '.join(map(repr, splits or ()))}; it has {', '.join(there)}.",
            hint="Check --split; without it every split is mixed.",
        )
    return {name: open_texts(location, split=name) for name in chosen or ["train"]}


def _splits_there(location: str) -> list[str] | None:
    """Return the splits of a corpus folder, a saved dict or a dataset on the Hub; None where there are none to tell."""
    folder = _corpus_on_store(location) or Path(location)
    rendered = {path.name.partition("-")[0] for path in sorted_glob(folder, "data/*-*.parquet")}
    if rendered or (folder / ".hfsynth").is_dir():
        return sorted(rendered, key=split_order)
    try:
        place = locate(location)
        if place is None:
            return list(get_dataset_split_names(location))
        saved = load_from_disk(location) if place.is_saved else None
        return list(saved) if isinstance(saved, DatasetDict) else None
    except (OSError, ValueError, DatasetsError) as error:
        raise SourceError(f"{location} cannot be read: {error}", hint="Check the name and the path.") from error


def _corpus_on_store(location: str | Path) -> StorePath | None:
    """Return a corpus that lies on a store; None for all else, files there too, which fsspec opens."""
    if not is_store(location) or find_spec("obstore") is None:
        return None
    root = any_path(location)
    return root if isinstance(root, StorePath) and (root / ".hfsynth").is_dir() else None


def _of_store(root: StorePath, split: str) -> Dataset:
    """Copy a split's training texts into the datasets cache, where `datasets` maps them from, and return them."""
    require_whole(root, "data/")
    files = sorted_glob(root / "data", f"{split}-*.parquet")
    if not files:
        raise _no_texts(root, split)
    digests = {path.name: file_digest(path)[0] for path in files}
    return cached_dataset(files, name=f"{root.name}-{split}-{digest(digests)}")


def _no_texts(folder: AnyPath, split: str) -> SourceError:
    return SourceError(
        f"{folder} has no training texts in split {split!r}.", hint=f"Make them: hfsynth render {folder}"
    )


def _of_hub(name: str, split: str, revision: str) -> Dataset:
    try:
        return load_dataset(name, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError, httpx2.HTTPError) as error:
        raise unreachable(f"{name} at {revision}", error) from error


def commit_of(name: str, revision: str | None = None) -> str:
    """Return the commit that a dataset on the Hub is at; raise SourceError where there is none."""
    try:
        return str(load_dataset_builder(name, revision=revision).hash)
    except (OSError, ValueError, RuntimeError, DatasetsError, httpx2.HTTPError) as error:
        raise unreachable(name, error) from error


def unreachable(name: str, error: Exception) -> SourceError:
    """Return the error that says why a dataset cannot be had from the Hub."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SourceError(
        f"{name} is no file here, and cannot be loaded from the Hub: {reason}",
        hint="Check the name, --config and --revision, the network (HF_HUB_OFFLINE), and `hf auth login`.",
    )


def _elsewhere(location: str, split: str) -> Dataset:
    place = locate(location)
    if place is None:
        return load_dataset(location, split=split)
    if place.is_saved:
        saved = load_from_disk(location)
        return saved if isinstance(saved, Dataset) else saved[split]
    kind, files = find_files(place)
    return _files(_BUILDERS[kind], [file.path for file in files])


def _files(builder: str, paths: Sequence[str]) -> Dataset:
    whole = {"sample_by": "document"} if builder == "text" else {}
    return load_dataset(builder, data_files=list(paths), split="train", **whole)


class DatasetReader:
    """Rows of a `Dataset` in memory-mapped files, as they are stored: images stay bytes.

    Its `files` on this machine are looked at before and after a table is copied out of them; of those elsewhere it
    reads a copy.
    """

    def __init__(self, ds: Dataset, name: str, files: Sequence[File] = ()) -> None:
        self._ds, self._name = ds, name
        self._watches = [file.watch for file in files if isinstance(file.watch, FileWatch)]
        self.features = features_of(ds.features.arrow_schema)
        self.num_rows: int | None = len(ds)

    def read(self, start: int) -> Iterator[Row]:
        if start >= len(self._ds):
            return
        with reading(self._name):
            self.check()
            rest = self._ds.select(range(start, len(self._ds)))
            for table in rest.with_format("arrow").iter(self._rows_at_once):
                rows = table.to_pylist()
                self.check()
                yield from rows

    @property
    def _rows_at_once(self) -> int:
        """How many rows are copied between two looks: the more files there are, the longer a look takes."""
        return TABLE_ROWS * (1 + len(self._watches) // TABLE_ROWS)

    def count(self) -> int:
        return len(self._ds)

    def check(self) -> None:
        for watch in self._watches:
            watch.check()


class StreamReader:
    """Rows of an `IterableDataset`, as they are stored. Its first rows decide the columns where it names none."""

    num_rows: int | None = None

    def __init__(self, ds: IterableDataset, name: str) -> None:
        self._ds, self._name = ds, name
        self.features = features_of(ds.features.arrow_schema if ds.features else self._first_schema())
        self._schema = self.features.arrow_schema

    def _first_schema(self) -> pa.Schema:
        with reading(self._name):
            first = next(iter(self._ds.with_format("arrow").iter(SAMPLE_ROWS)), None)
        return pa.schema([]) if first is None else first.schema

    def read(self, start: int) -> Iterator[Row]:
        with reading(self._name):
            for table in self._ds.skip(start).with_format("arrow").iter(TABLE_ROWS):
                yield from self._conform(table).to_pylist()

    def _conform(self, table: pa.Table) -> pa.Table:
        if not set(table.column_names) <= set(self._schema.names):
            raise other_columns(f"A later part of {self._name}", table.column_names, self._schema.names)
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
            for field in self._schema
        ]
        return pa.table(columns, schema=self._schema)

    def count(self) -> int:
        with reading(self._name):
            return sum(len(table) for table in self._ds.with_format("arrow").iter(SAMPLE_ROWS))

    def check(self) -> None:
        """Do nothing: a dataset's builder pins the commit that it reads from."""
