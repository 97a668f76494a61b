"""Write the rows of a mixture: as parquet files of a corpus folder, or as a memory-mapped Dataset.

Knows nothing of shares. Rows are written a row group at a time, so memory does not grow with the mixture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features, List, Value, config

from hfsynth.durable import publish, temporary, writing
from hfsynth.errors import OutputError
from hfsynth.parquet_files import RowGroupWriter

FEATURES = Features(
    {"text": Value("string"), "source": Value("string"), "source_ids": List(Value("string")), "tokens": Value("int64")}
)
ROWS_AT_A_TIME = 1000
FILE_BYTES = 500_000_000


def write_mixture(
    rows: Iterable[Mapping[str, object]], out_dir: str | Path, *, split: str = "train", file_bytes: int = FILE_BYTES
) -> list[Path]:
    """Write `data/train-00000-of-0000N.parquet` files under `out_dir`; see `write_split`."""
    return write_split(rows, Path(out_dir) / "data", split=split, features=FEATURES, file_bytes=file_bytes)


def write_split(
    rows: Iterable[Mapping[str, object]],
    folder: Path,
    *,
    split: str,
    features: Features,
    file_bytes: int = FILE_BYTES,
) -> list[Path]:
    """Write the rows of a split as the Hub names its Parquet files, and return their paths.

    A new file is begun when the Arrow size of the rows passes `file_bytes`. The files get their names together at the
    end: an error on the way leaves none. Raises OutputError where the split is there already.
    """
    if any(folder.glob(f"{split}-*.parquet")):
        raise OutputError(f"{folder} already holds the split {split!r}.", hint="Choose an empty folder.")
    parts: list[Path] = []
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _write_parts(_batches(rows, features), folder / split, parts, file_bytes, features)
        except BaseException:
            for part in parts:
                part.unlink(missing_ok=True)
            raise
        names = [folder / f"{split}-{at:05d}-of-{len(parts):05d}.parquet" for at in range(len(parts))]
        for part, name in zip(parts, names, strict=True):
            publish(part, as_=name)
    return names


def to_dataset(rows: Iterable[Mapping[str, object]], *, name: str) -> Dataset:
    """Write the rows to the file `name` of the datasets cache, replacing it, and return them memory-mapped."""
    path = Path(config.HF_DATASETS_CACHE) / "hfsynth" / f"{name}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary(path)
    with suppress(FileNotFoundError):
        part.unlink()
    with pa.OSFile(str(part), "wb") as file, pa.ipc.new_stream(file, FEATURES.arrow_schema) as writer:
        for batch in _batches(rows, FEATURES):
            writer.write_batch(batch)
    publish(part, as_=path)
    return Dataset.from_file(str(path))


def _write_parts(
    batches: Iterator[pa.RecordBatch], stem: Path, parts: list[Path], file_bytes: int, features: Features
) -> None:
    """Write at least one file, also of no rows; `parts` names those begun."""
    batch = next(batches, None)
    while batch is not None or not parts:
        parts.append(temporary(stem.with_name(f"{stem.name}-{len(parts):05d}.parquet")))
        size = 0
        with RowGroupWriter(parts[-1], features.arrow_schema) as writer:
            while batch is not None and size < file_bytes:
                writer.write(batch)
                size += batch.nbytes
                batch = next(batches, None)


def _batches(rows: Iterable[Mapping[str, object]], features: Features) -> Iterator[pa.RecordBatch]:
    schema, remaining = features.arrow_schema, iter(rows)
    while some := list(islice(remaining, ROWS_AT_A_TIME)):
        columns = {name: [row[name] for row in some] for name in features}
        yield pa.RecordBatch.from_pydict(columns, schema=schema)
