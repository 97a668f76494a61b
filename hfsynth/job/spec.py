"""What a worker must know of a job, as plain values, and the columns of what it writes. Knows nothing of workers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import pyarrow as pa
from datasets import Features, Value

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.screening import Screening
from hfsynth.corpus.parquet import output_features
from hfsynth.documents.source import Source
from hfsynth.job.leases import STALE_AFTER
from hfsynth.job.shares import Share

ShardRange = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class JudgingSpec:
    """What a job judges: the pairs of a corpus folder, and which of them are kept.

    Where `below` is given, only the documents with a lower draw are judged: see `hfsynth.job.passes.is_drawn`.
    """

    corpus: str
    keep: tuple[str, ...] = ()
    below: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ScreeningSpec:
    """What a job screens: the pairs of a corpus folder. One that `looks` only notes what may be duplicates."""

    corpus: str
    settings: Screening
    looks: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` reads them back."""
        return {"corpus": self.corpus, "settings": self.settings.to_dict(), "looks": self.looks}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(**{**values, "settings": Screening.from_dict(values["settings"])})


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything a worker must know, as values that travel to other processes.

    `revision` is what the source must turn out to be at. `shards` is the range of shards to work on, `share` those of
    them that are tried first. A job that judges has `judging`; `config` is then its judge's. One
    that screens has `screening`, and starts no engine.
    """

    source: Source
    revision: str
    out: str
    config: SynthesizerConfig
    engine: EngineConfig
    shard_rows: int
    shards: ShardRange = (0, None)
    max_engine_restarts: int = 3
    grace: float = 30.0
    stale_after: float = STALE_AFTER
    judging: JudgingSpec | None = None
    share: Share = Share()
    screening: ScreeningSpec | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` reads them back."""
        plain = {own.name: getattr(self, own.name) for own in fields(self)}
        return {
            **plain,
            "source": asdict(self.source),
            "config": self.config.to_dict(),
            "engine": self.engine.to_dict(),
            "judging": self.judging and asdict(self.judging),
            "share": asdict(self.share),
            "screening": self.screening and self.screening.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        judging, screening = values.get("judging"), values.get("screening")
        made = {
            "source": Source(**values["source"]),
            "config": SynthesizerConfig.from_dict(values["config"]),
            "engine": EngineConfig.from_dict(values["engine"]),
            "shards": tuple(values["shards"]),
            "judging": judging and JudgingSpec(**{**judging, "keep": tuple(judging["keep"])}),
            "share": Share(**values["share"]),
            "screening": screening and ScreeningSpec.from_dict(screening),
        }
        return cls(**{**values, **made})


def part_schema(features: Features, config: SynthesizerConfig, *, recipe: bool = True) -> pa.Schema:
    """Return the columns of a part: those of the source, where a piece came from, and what was made of it.

    Without `recipe` they are those of the first versions, whose jobs must not end with parts of two kinds.
    """
    split = config.long_documents == "split"
    origin = {"source_id": Value("string"), "offset": Value("int64")} if split else {}
    return output_features(Features({**features, **origin}), config.extra_columns, recipe=recipe).arrow_schema
