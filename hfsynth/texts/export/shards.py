"""Write an export shard by shard: read, prepare in a second thread, write, record. Knows nothing of trainers.

While one batch is encoded on all cores, the one before is written. A batch depends on nothing but the rows behind the
last finished shard, so an export that was interrupted ends with the same files as one that was not.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hfsynth.core.files import created, publish, temporary
from hfsynth.core.store_paths import AnyPath
from hfsynth.texts.export import records
from hfsynth.texts.export.formats import Batch, ExportReader, Format
from hfsynth.texts.export.lengths import Lengths
from hfsynth.texts.export.records import Manifest, SequenceCounts, Shard
from hfsynth.texts.export.source import ExportSource
from hfsynth.texts.layouts import Row, Skip, source_ids

BATCH_DOCUMENTS = 1000
BATCH_CHARACTERS = 1_000_000
BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export is: rows of the source, documents and tokens written, shards finished.

    `total_rows` is None for a stream, and `tokens` where the target is not tokenized.
    """

    rows: int
    total_rows: int | None
    documents: int
    tokens: int | None
    shards: int


@dataclass(frozen=True, slots=True)
class ExportRun:
    """One export: what, how it is read, cut and written, the folder of its shards, its manifest, who is told of it."""

    source: ExportSource
    read: ExportReader
    lengths: Lengths | None
    format: Format[Any]
    folder: AnyPath
    manifest: AnyPath
    shard_bytes: int
    on_progress: Callable[[ExportProgress], None]


def write_shards(job: ExportRun, manifest: Manifest) -> Manifest:
    """Write the shards that `manifest` lacks, recording each as it is finished, and return the full manifest."""
    if isinstance(job.folder, Path):
        job.folder.mkdir(parents=True, exist_ok=True)
    records.save(job.manifest, manifest)
    with ThreadPoolExecutor(1, thread_name_prefix="hfsynth-export") as pool:
        prepared = _prepared(pool, job, manifest.rows)
        while (shard := _next_shard(job, manifest, prepared)) is not None:
            manifest = manifest.with_shard(shard)
            records.save(job.manifest, manifest)
    return manifest


def _next_shard(job: ExportRun, done: Manifest, prepared: Iterator[tuple[Batch, Any]]) -> Shard | None:
    """Write one shard from the batches; None where there are none left."""
    first = next(prepared, None)
    if first is None:
        return None
    if not first[0].texts:
        return _Tally().add(first[0]).shard({}, tokens=None)
    names = [f"part-{len(done.shards):05d}{ending}" for ending in job.format.endings]
    parts = [temporary(job.folder / name) for name in names]
    tally = _Tally()
    with ExitStack() as files:
        writer = job.format.open([files.enter_context(created(part)) for part in parts])
        try:
            batch: tuple[Batch, Any] | None = first
            while batch is not None:
                writer.append(*batch)
                job.on_progress(tally.add(batch[0]).progress(done, writer.tokens, job.source.rows))
                batch = next(prepared, None) if writer.size < job.shard_bytes else None
        finally:
            writer.close()
    for part, name in zip(parts, names, strict=True):
        publish(part, as_=job.folder / name)
    sizes = {name: (job.folder / name).stat().st_size for name in names}
    return tally.shard(sizes, tokens=writer.tokens)


class _Tally:
    """Sums over the batches of a shard."""

    def __init__(self) -> None:
        self._rows = self._documents = self._neutralized = 0
        self._skipped: Counter[str] = Counter()
        self._sequences = SequenceCounts()

    def add(self, batch: Batch) -> _Tally:
        self._rows += batch.rows
        self._documents += len(batch.texts)
        self._neutralized += batch.neutralized
        self._skipped.update(batch.skipped)
        self._sequences += batch.sequences
        return self

    def shard(self, files: dict[str, int], *, tokens: int | None) -> Shard:
        sequences = asdict(self._sequences)
        return Shard(files, self._rows, self._documents, tokens, self._neutralized, dict(self._skipped), sequences)

    def progress(self, done: Manifest, tokens: int | None, total_rows: int | None) -> ExportProgress:
        return ExportProgress(
            rows=done.rows + self._rows,
            total_rows=total_rows,
            documents=done.documents + self._documents,
            tokens=None if tokens is None else tokens + (done.tokens or 0),
            shards=len(done.shards),
        )


def _prepared(pool: ThreadPoolExecutor, job: ExportRun, start: int) -> Iterator[tuple[Batch, Any]]:
    """Yield batches with what their format computes, a few batches ahead."""
    waiting: deque[Future[tuple[Batch, Any]]] = deque()
    for batch in _batches(job.source.read(start), start, job.read):
        waiting.append(pool.submit(_prepare, job, batch))
        if len(waiting) > BATCHES_AHEAD:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _prepare(job: ExportRun, batch: Batch) -> tuple[Batch, Any]:
    fitted = job.lengths.fit(batch) if job.lengths else batch
    return fitted, job.format.prepare(fitted.texts)


def _batches(rows: Iterator[Row], start: int, read: ExportReader) -> Iterator[Batch]:
    """Cut rows into batches of so many documents or characters; only the last one may hold no document."""
    batch, characters = Batch(), 0
    for number, row in enumerate(rows, start):
        batch.rows += 1
        reading = read(row, number)
        if isinstance(reading, Skip):
            batch.skipped[reading.value] += 1
            continue
        batch.neutralized += reading.neutralized
        batch.texts.append(reading.text)
        batch.spans.append(reading.spans)
        batch.ids.append(_one_line("|".join(source_ids(row))))
        batch.row_numbers.append(number)
        characters += len(reading.text)
        if len(batch.texts) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = Batch(), 0
    if batch.rows:
        yield batch


def _one_line(name: str) -> str:
    """Keep an id on the line of its document: OLMo-core reads the index line by line."""
    return " ".join(name.split())
