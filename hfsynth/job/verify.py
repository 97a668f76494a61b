"""Judge every pair of a finished corpus: a job of its own over the rows, and the folder replaced as one change.

The same workers as those of a synthesis do it, with their leases, journals and engines, in a folder within the corpus's
own; whatever is killed, the same call goes on. Until the last rename the corpus is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hfsynth.core.addresses import public_location
from hfsynth.core.conditions import canonical
from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.core.files import read_json
from hfsynth.corpus.exchange import mend_folder
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.source import OpenSource, Source
from hfsynth.documents.splits import SplitLayout, SplitSource
from hfsynth.engine.loading import config_of
from hfsynth.engine.protocol import Engine
from hfsynth.engine.speculation import ARGUMENT, NO_GUESSES, speculating
from hfsynth.job.begin import SHARD_ROWS
from hfsynth.job.calibrate import calibrated
from hfsynth.job.concurrency import stopping
from hfsynth.job.journal import JournalPaths
from hfsynth.job.launcher import Launcher
from hfsynth.job.leases import Holder, Leases, clear
from hfsynth.job.passes import draw_of, open_pairs
from hfsynth.job.progress import Progress
from hfsynth.job.run import JobResult
from hfsynth.job.second_pass import begin_pass, pairs_digest, require_pairs
from hfsynth.job.shards import write_extent, write_layout
from hfsynth.job.spec import JobSpec, JudgingSpec
from hfsynth.job.verified import publish_verified
from hfsynth.job.working import patience, work
from hfsynth.models.resolve import pinned
from hfsynth.quality.rubric import RUBRIC

_FOLDER = "verify"


def verify(
    folder: str | Path,
    judge: str,
    *,
    judge_revision: str | None = None,
    keep: Sequence[str] = (),
    sample: int | None = None,
    calibrate: str | Path | None = None,
    seed: int = 0,
    window: int | None = None,
    engine: EngineConfig | Engine | None = None,
    shard_rows: int = SHARD_ROWS,
    launcher: Launcher | None = None,
    max_engine_restarts: int = 3,
    grace: float = 30.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> JobResult:
    """Have a chat model judge every pair of the finished corpus `folder`; the same call goes on after a kill.

    The judge is asked whether the instruction is about the document and whether the response is right, one token each;
    the scores, from 0 to 1, go into the column `verdicts`, aligned with `pairs` (null where nothing was judged).
    `keep` are conditions on `relevance`, `accuracy` and the measures of `hfsynth.quality.measures`: pairs that do not
    meet them go to `synthesis.rejected` with a reason. `sample` judges so many documents, drawn from the seed, and
    keeps all pairs. `calibrate` names gold data (as `hfsynth evaluate --gold` reads it) on which the judge is tried.
    `stats.json` says what was judged, kept and rejected, and what it cost. Where pairs are taken out, texts and figures
    that were made of them go too: render again.

    Workers, engines, signals and `shard_rows` are as for `hfsynth.synthesize`. A folder that is verified so already is
    recognised and starts no engine. Raise OutputError for a folder without finished pairs, or one of which another
    verification is unfinished, ModelError for a judge that never answers yes or no.
    """
    root = Corpus(Path(folder)).root
    mend_folder(root)
    corpus = Corpus(root)
    asked = Asked.of(judge, judge_revision, keep, sample, seed=seed, window=window)
    engine_config = _plain(config_of(engine))
    config = pinned(asked.config, engine_config, gpu=None if launcher is None else launcher.on_gpu)
    pairs = require_pairs(corpus)
    wanted = asked.identity(config)
    if is_verified(corpus, wanted, pairs, calibrate=calibrate):
        return JobResult(root, read_json(corpus.stats), worked=False)
    inner = Corpus(corpus.journal / _FOLDER)
    opened = open_pairs(corpus)
    leases = Leases(JournalPaths(corpus.journal).leases, Holder.this_process())
    with leases.waiting_for("plan"):
        asked_for = {**wanted, "pairs": pairs, "shard_rows": shard_rows}
        identity = begin_pass(inner, asked_for, "verified", lambda: _lay_out(inner, opened, shard_rows))
        spec = JobSpec(
            source=Source(str(corpus.pairs)),
            revision=opened.revision,
            out=str(inner.root.absolute()),
            config=config,
            engine=engine_config,
            shard_rows=identity["shard_rows"],
            max_engine_restarts=max_engine_restarts,
            grace=grace,
            judging=JudgingSpec(str(root.absolute()), asked.keep, _below(corpus, asked), seed),
        )
    tried = calibrated(inner, calibrate, config, engine_config, seed=seed, stays=launcher is None)
    with stopping(grace if launcher is None else patience(grace)) as stop:
        work(spec, opened, launcher, stop, on_progress)
        if stop.requested:
            stop.leave()
    with leases.waiting_for("publish"):
        if inner.plan.exists():  # else another call has published it
            publish_verified(corpus, inner, {**identity, "calibration": tried}, pairs_of=pairs_digest)
    clear(JournalPaths(corpus.journal).leases)
    return JobResult(root, read_json(corpus.stats), worked=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a verification, checked. `config` is the judge's."""

    config: SynthesizerConfig
    keep: tuple[str, ...]
    sample: int | None
    seed: int

    @classmethod
    def of(
        cls, judge: str, revision: str | None, keep: Sequence[str], sample: int | None, *, seed: int, window: int | None
    ) -> Asked:
        """Check the settings; raise ConfigError for those that cannot work together."""
        conditions = canonical(list(keep), judged=True)
        if sample is not None and sample < 1:
            raise ConfigError(f"sample must be a whole number of at least 1, not {sample}.", hint="Use --sample 1000.")
        if sample is not None and conditions:
            raise ConfigError(
                "Conditions need a verdict on every pair, and a sample judges some documents only.",
                hint="Leave --sample out, or --keep.",
            )
        sampling = Sampling(max_tokens=1)
        config = SynthesizerConfig(
            judge, model_revision=revision, prompt_format="chat", window=window, sampling=sampling
        )
        return cls(config, conditions, sample, seed)

    def identity(self, config: SynthesizerConfig) -> dict[str, Any]:
        """Return what decides the verdicts and what is kept, as plain values; `config` is the judge's, pinned."""
        told = {name: getattr(config, name) for name in ("model", "model_revision", "window", "precision")}
        told["model"] = public_location(config.model)
        return {"judge": told, "rubric": RUBRIC, "keep": list(self.keep), "sample": self.sample, "seed": self.seed}


def is_verified(corpus: Corpus, wanted: Mapping[str, Any], pairs: str, *, calibrate: object) -> bool:
    """Return whether the folder's pairs are the result of this very verification."""
    told = (read_json(corpus.stats) or {}).get("verify") or {}
    same = all(told.get(name) == value for name, value in wanted.items()) and told.get("result") == pairs
    return same and (calibrate is None or told.get("calibration") is not None)


def _plain(engine: EngineConfig) -> EngineConfig:
    """Return an engine that guesses nothing: of a single token there is nothing to guess."""
    guesses = engine.kind == "vllm" and ARGUMENT not in engine.arguments
    return speculating(engine, NO_GUESSES) if guesses else engine


def _lay_out(inner: Corpus, opened: OpenSource, shard_rows: int) -> None:
    """Write down which rows are which shard's."""
    if isinstance(opened, SplitSource):
        write_layout(inner, SplitLayout(opened.sizes(at_hand=True), shard_rows))
    else:
        write_extent(inner, opened.count(), shard_rows, exact=True)


def _below(corpus: Corpus, asked: Asked) -> int | None:
    """Return the draw below which a document is in the sample: as many of those with pairs as were asked for."""
    if asked.sample is None:
        return None
    draws = (draw_of(name, asked.seed) for path in sorted(corpus.pairs.glob("*.parquet")) for name in _with_pairs(path))
    lowest = nsmallest(asked.sample, draws)
    return lowest[-1] + 1 if lowest else 0


def _with_pairs(path: Path) -> list[str]:
    names: list[str] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["id", "synthesis.status"]):
            names += [str(row["id"]) for row in batch.to_pylist() if row["synthesis"]["status"] == "ok"]
    return names
