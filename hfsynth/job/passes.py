"""What the workers of a job do with a source's rows: write pairs about them, or judge the pairs that they hold.

A worker knows the pass that it works at by this alone. Knows nothing of leases, journals or engines' deaths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Protocol

import pyarrow as pa
from datasets import Features, List, Value

from hfsynth.core.conditions import JUDGED, Condition
from hfsynth.core.draws import Draws
from hfsynth.core.errors import OutputError
from hfsynth.core.records import Row, Synthesized
from hfsynth.corpus.folder import Corpus, split_order
from hfsynth.corpus.parquet import output_rows
from hfsynth.documents.locate import files_digest, find_files, locate
from hfsynth.documents.parquet_rows import ParquetReader
from hfsynth.documents.source import OpenSource, Source
from hfsynth.documents.splits import SplitSource, open_source_splits
from hfsynth.engine.loading import engine_for
from hfsynth.engine.protocol import Chain, Engine, Generation
from hfsynth.job.shards import name_their_recipe
from hfsynth.job.spec import JobSpec, JudgingSpec, part_schema
from hfsynth.quality.decontamination import SUFFIX, open_index
from hfsynth.quality.rubric import RubricJudge
from hfsynth.synthesis.chains import Chainer, Splitter
from hfsynth.synthesis.exemplars import Beginnings
from hfsynth.synthesis.identified import Cuts, Identifying, marking_of
from hfsynth.synthesis.judging import JudgingChainer, judged_rows
from hfsynth.synthesis.loading import load

VERDICTS = List({**{name: Value("float64") for name in JUDGED}, "unjudged": Value("string")})
"""The column that judging adds: for each pair its scores, or why there are none."""


class RowChainer(Protocol):
    """Turns rows into a chain, whose result has one item for each row."""

    @property
    def beginnings(self) -> Beginnings:
        """Return what chains begin with: those that begin alike are run side by side."""

    def of_rows(self, rows: Sequence[Row]) -> Chain[list[Synthesized]]:
        """Return the chain of neighbouring rows."""


class Driven(Protocol):
    """An engine at hand, and what goes with it."""

    @property
    def engine(self) -> Engine: ...

    @property
    def chainer(self) -> RowChainer: ...

    @property
    def generation(self) -> Generation: ...


class Pass(Protocol):
    """What a worker must know of its pass. `shots` is how many rows a chain has."""

    @property
    def shots(self) -> int: ...

    def open(self) -> OpenSource:
        """Return the source, opened."""

    def schema(self, features: Features, corpus: Corpus) -> pa.Schema:
        """Return the columns of a part that is made of a source with `features`."""

    def load(self) -> Driven:
        """Return this process's engine, loaded the first time, and what goes with it."""

    def splitter(self, chainer: RowChainer) -> Cuts | None:
        """Return what marks and cuts documents, None where they are left as they are."""

    def rows(self, rows: Sequence[Row], results: Sequence[Synthesized]) -> list[Row]:
        """Return the rows of a part: those of the source, and what was made of them."""


def index_file(corpus: Corpus) -> Path:
    """Return where a job keeps the index of its benchmarks: whoever shares the folder need not read them again."""
    return corpus.journal / f"benchmarks{SUFFIX}"


def pass_of(spec: JobSpec, corpus: Corpus) -> Pass:
    """Return the pass of a job that `corpus` describes."""
    return Synthesizing(spec, corpus) if spec.judging is None else Judging(spec, spec.judging)


@dataclass(frozen=True, slots=True)
class Synthesizing:
    """Write pairs about the documents of a source."""

    spec: JobSpec
    job: Corpus

    @property
    def shots(self) -> int:
        return self.spec.config.shots

    def open(self) -> OpenSource:
        return open_source_splits(self.spec.source)[1]

    def schema(self, features: Features, corpus: Corpus) -> pa.Schema:
        staging = corpus.journal / "pairs"  # where a publication that was killed has gathered them
        parts = [*sorted(corpus.parts.glob("[0-9]*.parquet")), *sorted(staging.glob("*.parquet"))]
        return part_schema(features, self.spec.config, recipe=name_their_recipe(parts))

    def load(self) -> Driven:
        if self.spec.config.decontaminate is not None:
            open_index(self.spec.config.decontaminate, near=index_file(self.job))
        return load(self.spec.config, self.spec.engine)

    def splitter(self, chainer: RowChainer) -> Cuts | None:
        config = self.spec.config
        splits = config.long_documents == "split" and isinstance(chainer, Chainer)
        splitter = Splitter.of(chainer) if splits and isinstance(chainer, Chainer) else None
        marking = marking_of(config)
        return splitter if marking is None else Identifying(marking, splitter)

    def rows(self, rows: Sequence[Row], results: Sequence[Synthesized]) -> list[Row]:
        config = self.spec.config
        made = output_rows(results, config.extra_columns, recipe=config.fingerprint)
        return [{**row, **values} for row, values in zip(rows, made, strict=True)]


@dataclass(frozen=True, slots=True)
class Judging:
    """Judge the pairs of a corpus."""

    spec: JobSpec
    judging: JudgingSpec

    @property
    def shots(self) -> int:
        return 1

    def open(self) -> OpenSource:
        return open_pairs(Corpus(Path(self.judging.corpus)))

    def schema(self, features: Features, corpus: Corpus) -> pa.Schema:
        return Features({**features, "verdicts": VERDICTS}).arrow_schema

    def load(self) -> Driven:
        engine = engine_for(self.spec.config, self.spec.engine)
        conditions = tuple(map(Condition.parse, self.judging.keep))
        drawn = partial(is_drawn, seed=self.judging.seed, below=self.judging.below)
        judge = RubricJudge(engine.tokenizer, engine.window)
        return _Loaded(engine, JudgingChainer(judge, conditions, drawn), Generation(self.spec.config.sampling))

    def splitter(self, chainer: RowChainer) -> Cuts | None:
        return None

    def rows(self, rows: Sequence[Row], results: Sequence[Synthesized]) -> list[Row]:
        return list(judged_rows(rows, results))


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: Engine
    chainer: RowChainer
    generation: Generation


def draw_of(name: str, seed: int) -> int:
    """Return a number of 63 bits that stands for a document in the drawing of a sample."""
    return Draws(f"verify/{seed}/{name}").below(2**63)


def is_drawn(row: Row, *, seed: int, below: int | None) -> bool:
    """Return whether a row is in the sample of the documents with the lowest draws; all are where there is none."""
    return below is None or draw_of(row["id"], seed) < below


class _PairsSource(OpenSource):
    """The rows of a corpus, as they are."""

    def document(self, number: int, row: Row) -> Row:
        """Return the row itself: it was checked when it was made."""
        return row


def open_pairs(corpus: Corpus) -> OpenSource:
    """Open the pairs of a finished corpus as a source whose rows hold `pairs` and `synthesis`.

    Raise OutputError where rows do not say how their pairs came about.
    """
    names = sorted({path.name.partition("-")[0] for path in corpus.pairs.glob("*.parquet")}, key=split_order)
    splits = {name: _open_split(corpus, name) for name in names}
    return SplitSource(splits) if len(splits) > 1 else next(iter(splits.values()))


def _open_split(corpus: Corpus, split: str) -> OpenSource:
    pattern = f"{escape(str(corpus.pairs))}/{split}-*.parquet"
    place = locate(pattern)
    if place is None:
        raise OutputError(f"{corpus.root} holds no pairs.")
    _, files = find_files(place)
    reader = ParquetReader(files, {"id", "text"})
    missing = [name for name in ("id", "text", "pairs", "synthesis") if name not in reader.features]
    if missing:
        raise OutputError(f"{pattern} has no column {missing[0]!r}.", hint="Pairs are judged with their documents.")
    opened = _PairsSource(Source(pattern), reader, files_digest(files))
    opened.is_local = True
    return opened
