"""The columns of a corpus, and the one way Parquet is written here: as the Hub stores, shows and loads it best.

Pages end where the content says so, not after so many bytes, and row groups are large: where a few rows change, the
pages behind them stay as they were, and Xet sends those that changed. An index of the pages lets a reader skip. What
decides the bytes is the rows and how they are handed over, so the same rows in the same pieces are the same file. Rows
are written a row group at a time, so memory does not grow with their number.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, List, Value, config

from hfsynth.core.errors import OutputError
from hfsynth.core.files import created, file_digest, publish, temporary, writing
from hfsynth.core.records import Pair, Reason, Rejected, Status, Synthesis, Synthesized
from hfsynth.core.store_paths import AnyPath, StorePath
from hfsynth.corpus.manifest import damaged_parquet

GROUP_BYTES = 64 * 2**20
"""The Arrow size at which a row group ends. So much of a file is in memory while it is written, and no more."""

_PAGES = {"min_chunk_size": 256 * 2**10, "max_chunk_size": 2**20, "norm_level": 0}  # as `datasets` has them


class RowGroupWriter:
    """Write tables one after the other; they are kept until they fill a row group."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        self._made = _Made()
        self._writer = pq.ParquetWriter(
            self._made, schema, compression="zstd", write_page_index=True, use_content_defined_chunking=_PAGES
        )
        self._waiting: list[pa.Table] = []
        self._size = 0

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Take in rows; write a row group where they fill it. Raise OSError where the disk does."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        self._waiting.append(table)
        self._size += table.nbytes
        if self._size >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is left and the footer."""
        try:
            self._flush()
            self._writer.close()
            self._made.move_to(self._file)
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Let go of the file without what is left; what there is of it is of no use."""
        self._waiting = []
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._waiting, self._size = [], 0
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
            self._made.move_to(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.abandon()


class _Made(io.RawIOBase):
    """The bytes of a row group until they are in the file: Arrow ends the process where a disk is full under it."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:  # noqa: ANN401
        piece = bytes(data)
        self._pieces.append(piece)
        self._at += len(piece)
        return len(piece)

    def move_to(self, file: io.BufferedWriter) -> None:
        pieces, self._pieces = self._pieces, []
        file.writelines(pieces)
        file.flush()


_text = pa.string()
PAIRS_TYPE = pa.list_(pa.struct({"instruction": _text, "response": _text}))
SYNTHESIS_TYPE = pa.struct(
    {
        "status": _text,
        "chain": _text,
        "shot": pa.int64(),
        "follows": pa.bool_(),
        "prompt_tokens": pa.int64(),
        "output_tokens": pa.int64(),
        "cached_tokens": pa.int64(),
        "truncated": pa.int64(),
        "finish_reason": _text,
        "rejected": pa.list_(pa.struct({"reason": _text, "text": _text})),
        "recipe": _text,
        "reasoning_tokens": pa.int64(),
        "reasoning": _text,
        "mined": pa.bool_(),
        "exemplars": pa.list_(_text),
        "exemplars_left_out": pa.int64(),
        "prompt": _text,
        "rewritten": _text,
        "identifiers": pa.list_(_text),
    }
)
_AT_TIMES = frozenset(
    {"recipe", "reasoning_tokens", "reasoning", "mined", "exemplars", "exemplars_left_out", "prompt", "rewritten"}
    | {"identifiers"}
)
_SYNTHESIS = frozenset(field.name for field in fields(Synthesis))


def output_schema(extra: Sequence[str] = (), *, recipe: bool = True) -> pa.Schema:
    """Return the output columns; see `output_features`."""
    there = {*extra, *(["recipe"] if recipe else [])}
    synthesis = pa.struct([field for field in SYNTHESIS_TYPE if field.name in there or field.name not in _AT_TIMES])
    return pa.schema({"pairs": PAIRS_TYPE, "synthesis": synthesis})


def output_features(features: Features | None = None, extra: Sequence[str] = (), *, recipe: bool = True) -> Features:
    """Return `features` with the output columns added; rows of the first versions do not name their `recipe`.

    `extra` names the fields of `synthesis` that only some recipes' rows have.
    """
    return Features({**(features or {}), **Features.from_arrow_schema(output_schema(extra, recipe=recipe))})


def output_values(results: Sequence[Synthesized], extra: Sequence[str] = (), *, recipe: str) -> dict[str, list[Any]]:
    """Return the output columns of `results` as plain values; `recipe` names what made them."""
    return {
        "pairs": [[_pair(pair) for pair in result.pairs] for result in results],
        "synthesis": [_synthesis(result.synthesis, recipe, extra) for result in results],
    }


def output_rows(results: Sequence[Synthesized], extra: Sequence[str] = (), *, recipe: str) -> list[dict[str, Any]]:
    """Return the output columns of `results` row by row."""
    return [
        {"pairs": [_pair(pair) for pair in result.pairs], "synthesis": _synthesis(result.synthesis, recipe, extra)}
        for result in results
    ]


def output_arrays(results: Sequence[Synthesized], extra: Sequence[str] = (), *, recipe: str) -> dict[str, pa.Array]:
    """Return the output columns of `results` as typed Arrow arrays, also where every list in them is empty."""
    values = output_values(results, extra, recipe=recipe)
    return {field.name: pa.array(values[field.name], type=field.type) for field in output_schema(extra)}


def _pair(pair: Pair) -> dict[str, str]:
    return {"instruction": pair.instruction, "response": pair.response}


def synthesized(row: Mapping[str, Any]) -> Synthesized:
    """Read the output columns of a row back; raise KeyError, TypeError or ValueError where they are not ours."""
    found = row["synthesis"]
    rejected = tuple(Rejected(Reason(one["reason"]), one["text"]) for one in found["rejected"] or ())
    pairs = tuple(Pair(pair["instruction"], pair["response"]) for pair in row["pairs"] or ())
    own = {name: found[name] for name in _SYNTHESIS if name in found}
    own |= {name: tuple(own.get(name) or ()) for name in ("exemplars", "identifiers")}
    return Synthesized(pairs, Synthesis(**{**own, "status": Status(found["status"]), "rejected": rejected}))


def _synthesis(synthesis: Synthesis, recipe: str, extra: Sequence[str]) -> dict[str, Any]:
    return {
        "status": synthesis.status.value,
        "chain": synthesis.chain,
        "shot": synthesis.shot,
        "follows": synthesis.follows,
        "prompt_tokens": synthesis.prompt_tokens,
        "output_tokens": synthesis.output_tokens,
        "cached_tokens": synthesis.cached_tokens,
        "truncated": synthesis.truncated,
        "finish_reason": synthesis.finish_reason,
        "rejected": [_rejected(rejected) for rejected in synthesis.rejected],
        "recipe": recipe,
        **{name: getattr(synthesis, name) for name in extra},
    }


def _rejected(rejected: Rejected) -> dict[str, str]:
    return {"reason": rejected.reason.value, "text": rejected.text}


def file_record(path: AnyPath) -> dict[str, Any]:
    """Return what the manifest says of a Parquet file: rows, size and sha256."""
    digest, size = file_digest(path)
    return {"rows": footer(path).num_rows, "size": size, "sha256": digest}


FEATURES = Features(
    {"text": Value("string"), "source": Value("string"), "source_ids": List(Value("string")), "tokens": Value("int64")}
)
ROWS_AT_A_TIME = 1000
FILE_BYTES = 500_000_000


def write_split(
    rows: Iterable[Mapping[str, object]],
    folder: AnyPath,
    *,
    split: str,
    features: Features,
    file_bytes: int = FILE_BYTES,
) -> list[AnyPath]:
    """Write the rows of a split as the Hub names its Parquet files, and return their paths.

    A new file is begun when the Arrow size of the rows passes `file_bytes`. The files get their names together at the
    end: an error on the way leaves none. On a store only the file that is being written is on the disk. Raises
    OutputError where the split is there already.
    """
    if any(folder.glob(f"{split}-*.parquet")):
        raise OutputError(f"{folder} already holds the split {split!r}.", hint="Choose an empty folder.")
    parts: list[AnyPath] = []
    with writing(folder):
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            _write_parts(_batches(rows, features), folder / split, parts, file_bytes, features)
        except BaseException:
            for part in parts:
                part.unlink(missing_ok=True)
            raise
        names: list[AnyPath] = [folder / f"{split}-{at:05d}-of-{len(parts):05d}.parquet" for at in range(len(parts))]
        for part, name in zip(parts, names, strict=True):
            publish(part, as_=name)
    return names


def to_dataset(rows: Iterable[Mapping[str, object]], *, name: str, features: Features = FEATURES) -> Dataset:
    """Write the rows to the file `name` of the datasets cache, replacing it, and return them memory-mapped."""
    return _cached(_batches(rows, features), _in_cache(name), features.arrow_schema)


def cached_dataset(files: Sequence[AnyPath], *, name: str) -> Dataset:
    """Return the rows of Parquet files memory-mapped: from the file `name` of the datasets cache, else copied there."""
    path = _in_cache(name)
    if path.exists():
        return Dataset.from_file(str(path))
    return _cached(_batches_of(files), path, footer(files[0]).schema.to_arrow_schema())


def _in_cache(name: str) -> Path:
    return Path(config.HF_DATASETS_CACHE) / "hfsynth" / f"{name}.arrow"


def _cached(batches: Iterable[pa.RecordBatch], path: Path, schema: pa.Schema) -> Dataset:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary(path)
    with suppress(FileNotFoundError):
        part.unlink()
    with pa.OSFile(str(part), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    publish(part, as_=path)
    return Dataset.from_file(str(path))


def _batches_of(files: Iterable[AnyPath]) -> Iterator[pa.RecordBatch]:
    for path in files:
        with parquet_file(path) as file:
            yield from file.iter_batches(batch_size=ROWS_AT_A_TIME)


def _write_parts(
    batches: Iterator[pa.RecordBatch], stem: AnyPath, parts: list[AnyPath], file_bytes: int, features: Features
) -> None:
    """Write at least one file, also of no rows; `parts` names those begun."""
    batch = next(batches, None)
    while batch is not None or not parts:
        parts.append(temporary(stem.with_name(f"{stem.name}-{len(parts):05d}.parquet")))
        size = 0
        with created(parts[-1]) as path, RowGroupWriter(path, features.arrow_schema) as writer:
            while batch is not None and size < file_bytes:
                writer.write(batch)
                size += batch.nbytes
                batch = next(batches, None)


def _batches(rows: Iterable[Mapping[str, object]], features: Features) -> Iterator[pa.RecordBatch]:
    schema, remaining = features.arrow_schema, iter(rows)
    while some := list(islice(remaining, ROWS_AT_A_TIME)):
        columns = {name: [row[name] for row in some] for name in features}
        yield pa.RecordBatch.from_pydict(columns, schema=schema)


@contextmanager
def parquet_file(path: AnyPath, metadata: Any = None) -> Iterator[pq.ParquetFile]:  # noqa: ANN401
    """Lend a Parquet file to read from, on a store by ranges; `metadata` is its footer where that was read before."""
    if isinstance(path, StorePath):
        with path.open("rb") as opened, pq.ParquetFile(opened, metadata=metadata) as file:
            yield file
    else:
        with pq.ParquetFile(path, metadata=metadata) as file:
            yield file


def footer(path: AnyPath) -> Any:  # noqa: ANN401 (pyarrow's FileMetaData has no annotations)
    """Return a Parquet file's footer; raise OutputError where it is damaged."""
    try:
        with parquet_file(path) as file:
            return file.metadata
    except (pa.ArrowException, OSError) as error:
        raise damaged_parquet(path) from error
