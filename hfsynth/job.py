"""A synthesis job: a source in, a corpus folder out, in shards that are finished one by one.

Chains of all shards flow through one engine run without a pause between shards. A shard's rows are written in input
order as they become complete; a finished shard is renamed into the journal with its counts, and only the last step
makes the pairs visible. Knows nothing of cards or the Hub, and of engines only that they drive chains.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from datasets import Features, Value

from hfsynth import __version__
from hfsynth.columns import output_features, output_rows
from hfsynth.config import EngineConfig, SynthesizerConfig
from hfsynth.corpus import (
    Corpus,
    part_name,
    read_json,
    readme_with_configs,
    write_json,
    write_text,
)
from hfsynth.durable import sync_folder, writing
from hfsynth.errors import ConfigError, EngineError, OutputError
from hfsynth.feeding import ChainOutcome, Feeder, Splitter
from hfsynth.models import chainer_for, engine_for, generation_for, pinned
from hfsynth.shards import ShardRecord, ShardWriter, finished_shards, part_path
from hfsynth.sources import OpenSource, Source, open_source
from hfsynth.stats import Counts

SHARD_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `total` counts the source's rows where that is known; seconds are the working time."""

    counts: Counts
    rows: int
    total: int | None
    seconds: float

    @property
    def documents(self) -> int:
        """Documents that are done."""
        return self.counts.total_documents

    @property
    def pairs(self) -> int:
        """Pairs written about them."""
        return self.counts.pairs

    @property
    def output_tokens(self) -> int:
        """Tokens the model has written."""
        return self.counts.output_tokens


@dataclass(frozen=True, slots=True)
class JobResult:
    """A finished job: where it lies, what it counted, and whether this call had anything left to do."""

    root: Path
    stats: Mapping[str, Any]
    worked: bool


def synthesize(
    source: Source,
    out: str | Path,
    config: SynthesizerConfig,
    *,
    engine: EngineConfig | None = None,
    shard_rows: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> JobResult:
    """Synthesize a whole source into the corpus folder `out`; the same call goes on where a killed one stopped.

    Writes `pairs/`, `synthesizer_config.json`, `stats.json` and a README that `load_dataset(out, "pairs")` reads. A
    finished job is recognised and starts no engine. `shard_rows` is the number of source rows a shard, a multiple of
    the shots. Raise OutputError when the folder holds another job's result or cannot be written, SourceError and
    ColumnError for an unusable source, ModelError for an unusable model.
    """
    engine = engine or EngineConfig()
    rows_a_shard = _shard_rows(shard_rows, config.shots)
    corpus = Corpus(Path(out))
    opened = open_source(source)
    config = pinned(config, engine)
    identity = _identity(source, opened, config, rows_a_shard)
    with _lock(corpus):
        _claim(corpus, identity)
        if corpus.manifest.exists():
            return JobResult(corpus.root, read_json(corpus.stats), worked=False)
        _work(corpus, source, opened, config, engine, rows_a_shard, on_progress)
        return JobResult(corpus.root, _finish(corpus, identity), worked=True)


def plan(
    source: Source,
    out: str | Path,
    config: SynthesizerConfig,
    *,
    engine: EngineConfig | None = None,
    shard_rows: int | None = None,
) -> dict[str, Any]:
    """Return what `synthesize` would do, as plain values: nothing is written and no engine is started.

    Raise what `synthesize` would raise for the source, the model's name and the folder.
    """
    corpus = Corpus(Path(out))
    opened = open_source(source)
    settled = pinned(config, engine or EngineConfig())
    identity = _identity(source, opened, settled, _shard_rows(shard_rows, config.shots))
    _refuse_foreign(corpus)
    _refuse_other(corpus, read_json(corpus.plan), identity)
    finished = finished_shards(corpus.parts)
    state = "finished" if corpus.manifest.exists() else "started" if corpus.plan.exists() else "new"
    first = next(opened.rows(), None)
    return {
        "out": str(corpus.root),
        "state": state,
        "shards_finished": len(finished),
        "rows": _total_rows(opened, source),
        "first_document": None if first is None else {"id": first["id"], "text": (first["text"] or "")[:200]},
        **identity,
    }


def _shard_rows(asked: int | None, shots: int) -> int:
    if asked is None:
        return -(-SHARD_ROWS // shots) * shots
    if asked < 1 or asked % shots:
        raise ConfigError(f"A shard of {asked} rows is no multiple of {shots} shots.", hint="Use another --shard-rows.")
    return asked


def _identity(source: Source, opened: OpenSource, config: SynthesizerConfig, shard_rows: int) -> dict[str, Any]:
    """Return what decides the result, as plain values."""
    return {
        "source": {**asdict(source), "revision": opened.revision},
        "synthesizer": config.to_dict(),
        "shard_rows": shard_rows,
    }


@contextmanager
def _lock(corpus: Corpus) -> Iterator[None]:
    """Keep the folder for this process; the system lets go of it when the process ends, however it ends."""
    with writing(corpus.journal):
        _refuse_foreign(corpus)
        corpus.journal.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(corpus.journal / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"Another process is working on {corpus.root}.", hint="Wait for it, or give another folder."
            ) from error
        yield
    finally:
        os.close(descriptor)


def _refuse_foreign(corpus: Corpus) -> None:
    if corpus.root.is_file():
        raise OutputError(f"{corpus.root} is a file, not a folder.", hint="Give another output folder.")
    if corpus.root.is_dir() and any(corpus.root.iterdir()) and not corpus.journal.is_dir():
        raise OutputError(
            f"{corpus.root} is not empty and holds no job of hfsynth.", hint="Give a new or an empty folder."
        )


def _claim(corpus: Corpus, identity: Mapping[str, Any]) -> None:
    """Write down what the job is, or check that the folder's job is the same."""
    found = read_json(corpus.plan)
    if found is None:
        write_json(corpus.plan, identity)
        return
    _refuse_other(corpus, found, identity)


def _refuse_other(corpus: Corpus, found: Mapping[str, Any] | None, identity: Mapping[str, Any]) -> None:
    differences = [] if found is None else list(_differences(found, identity))
    if differences:
        raise OutputError(
            f"{corpus.root} holds the result of another recipe: {'; '.join(differences)}.",
            hint="Give another output folder, or remove this one.",
        )


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted({*there, *here} - {"location"}):  # a revision pins the content, wherever it lies
        old, new = there.get(name), here.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name} is {old!r} there and {new!r} here"


def _work(
    corpus: Corpus,
    source: Source,
    opened: OpenSource,
    config: SynthesizerConfig,
    engine_config: EngineConfig,
    shard_rows: int,
    on_progress: Callable[[Progress], None],
) -> None:
    """Finish every shard that is not finished yet."""
    finished = finished_shards(corpus.parts)
    meter = _Meter(finished.values(), _total_rows(opened, source), on_progress)
    engine = engine_for(config, engine_config)
    chainer = chainer_for(config, engine)
    split = config.long_documents == "split"
    feeder = Feeder(
        opened.rows,
        chainer,
        shard_rows=shard_rows,
        finished=finished,
        splitter=Splitter.of(chainer) if split else None,
    )
    shelf = _Shelf(corpus.parts, _schema(opened.features, split=split), feeder.chains_in)
    with shelf:
        for outcome in engine.run(feeder.chains(), generation_for(config, chainer)):
            counts = Counts.of(outcome.results)
            shelf.put(outcome, counts, meter)
            meter.advance(counts, feeder.rows_read)
        shelf.finish_complete(meter)
    _require_all(corpus, feeder)
    write_json(corpus.journal / "total.json", {"shards": feeder.total, "rows": feeder.rows_read})


def _total_rows(opened: OpenSource, source: Source) -> int | None:
    """Return the number of rows; files at hand are counted, others only if they say."""
    if opened.expected_rows is None and "://" not in source.location:
        return opened.count()
    return opened.expected_rows


def _require_all(corpus: Corpus, feeder: Feeder) -> None:
    """Raise EngineError where a chain never came back: its shard is missing, and with it its documents."""
    missing = sorted(set(range(feeder.total or 0)) - set(finished_shards(corpus.parts)))
    if missing:
        raise EngineError(
            f"The engine did not answer every chain: {len(missing)} of {feeder.total} shards are incomplete.",
            hint="Give the same command again: finished shards stay.",
        )


def _schema(features: Features | None, *, split: bool) -> pa.Schema:
    """Return the columns of a part: those of the source, where a piece came from, and what was made of it."""
    origin = {"source_id": Value("string"), "offset": Value("int64")} if split else {}
    return output_features(Features({**(features or {}), **origin})).arrow_schema


class _Meter:
    """Add up what has been counted, and the time it took, earlier runs included."""

    def __init__(
        self, finished: Iterable[ShardRecord], total: int | None, on_progress: Callable[[Progress], None]
    ) -> None:
        records = list(finished)
        self._counts = sum((record.counts for record in records), Counts())
        self._before = sum(record.seconds for record in records)
        self._total = total
        self._on_progress = on_progress
        self._started = self._lap_started = time.monotonic()

    def advance(self, counts: Counts, rows: int) -> None:
        """Add one chain's counts and report."""
        self._counts += counts
        seconds = self._before + time.monotonic() - self._started
        self._on_progress(Progress(self._counts, rows, self._total, seconds))

    def lap(self) -> float:
        """Return the seconds since the last lap, or the start."""
        now = time.monotonic()
        seconds, self._lap_started = now - self._lap_started, now
        return seconds


class _Shelf:
    """The parts under way: finish each when its last chain is in, leave nothing of the others behind."""

    def __init__(self, folder: Path, schema: pa.Schema, chains_in: Mapping[int, int]) -> None:
        self._folder = folder
        self._schema = schema
        self._chains_in = chains_in
        self._writers: dict[int, ShardWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self._writers.values():
            writer.abandon()

    def put(self, outcome: ChainOutcome, counts: Counts, meter: _Meter) -> None:
        """Take in a chain's rows."""
        if outcome.shard not in self._writers:
            self._writers[outcome.shard] = ShardWriter(part_path(self._folder, outcome.shard), self._schema)
        rows = [{**row, **values} for row, values in zip(outcome.rows, output_rows(outcome.results), strict=True)]
        self._writers[outcome.shard].add(outcome.number, rows, counts)
        self.finish_complete(meter)

    def finish_complete(self, meter: _Meter) -> None:
        """Finish every part whose last chain is in. The end of the source may become known after its last chain."""
        for shard in [s for s, writer in self._writers.items() if writer.chains == self._chains_in.get(s)]:
            self._writers.pop(shard).finish(meter.lap())


def _finish(corpus: Corpus, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Make the finished parts visible as the corpus, the manifest last; return the statistics."""
    records = finished_shards(corpus.parts)
    total = read_json(corpus.journal / "total.json")
    if len(records) != total["shards"]:
        raise OutputError(
            f"{corpus.root} has {len(records)} finished shards where the source made {total['shards']}.",
            hint="Give the same command again: what is missing is made.",
        )
    stats = _stats(records, total)
    names = {shard: part_name(position, len(records)) for position, shard in enumerate(sorted(records))}
    staging = corpus.journal / "pairs"
    with writing(corpus.pairs):
        if not corpus.pairs.exists():
            staging.mkdir(exist_ok=True)
            for shard, name in names.items():
                part = part_path(corpus.parts, shard)
                if part.exists():
                    os.replace(part, staging / name)
            sync_folder(staging)
            os.replace(staging, corpus.pairs)
            sync_folder(corpus.root)
    write_json(corpus.config, _published_config(identity))
    write_json(corpus.stats, stats)
    write_text(corpus.readme, readme_with_configs({"pairs": "pairs/train-*.parquet"}))
    files = {f"pairs/{names[shard]}": _file_record(record) for shard, record in records.items()}
    write_json(corpus.manifest, {"hfsynth": __version__, "files": files})
    return stats


def _file_record(record: ShardRecord) -> dict[str, Any]:
    return {"rows": record.rows, "size": record.size, "sha256": record.sha256}


def _published_config(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `synthesizer_config.json`: the recipe's own fields, and what they were applied to."""
    return {**identity["synthesizer"], "source": identity["source"], "hfsynth_version": __version__}


def _stats(records: Mapping[int, ShardRecord], total: Mapping[str, Any]) -> dict[str, Any]:
    counts = sum((record.counts for record in records.values()), Counts())
    seconds = sum(record.seconds for record in records.values())
    documents = counts.total_documents
    rate = (lambda number: round(number / seconds, 2)) if seconds else (lambda number: None)
    return {
        "hfsynth": __version__,
        "source_rows": total["rows"],
        "total_documents": documents,
        **counts.to_dict(),
        "computed_tokens": counts.computed_tokens,
        "seconds": round(seconds, 3),
        "documents_per_second": rate(documents),
        "output_tokens_per_second": rate(counts.output_tokens),
        "computed_tokens_per_second": rate(counts.computed_tokens),
    }
