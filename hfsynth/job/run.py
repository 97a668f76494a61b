"""A synthesis job: a source in, a corpus folder out, by any number of workers, whatever is killed in the meantime.

The folder's plan says what the job is, workers finish its shards one by one, and only the last step makes the pairs
visible. Knows nothing of cards or the Hub, and of engines only that they drive chains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import SourceError, UnreadableRowsError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.files import read_json, writing
from hfsynth.core.stores import is_store, store_url
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.source import Source
from hfsynth.engine.loading import config_of
from hfsynth.engine.protocol import Engine
from hfsynth.job.begin import Job, open_job
from hfsynth.job.concurrency import stopping
from hfsynth.job.finish import stats_so_far, unreadable_rows
from hfsynth.job.journal import JournalPaths
from hfsynth.job.launcher import Launcher
from hfsynth.job.leases import Leases
from hfsynth.job.opening import open_site
from hfsynth.job.progress import Progress
from hfsynth.job.settings import JobSettings, require_shared
from hfsynth.job.shards import finished_shards, part_path, read_extent
from hfsynth.job.shares import Share
from hfsynth.job.site import Site
from hfsynth.job.spec import JobSpec, ShardRange
from hfsynth.job.working import patience, work
from hfsynth.synthesis.exemplars import with_exemplars
from hfsynth.synthesis.prompts import Named, with_prompt

_log = logging.getLogger(__name__)

_TOLD = 20


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a call left: where it lies, what was counted, and whether this call had anything left to do.

    `finished` is False where a range of shards was asked for and others are still missing.
    """

    root: Path
    stats: Mapping[str, Any]
    worked: bool
    finished: bool = True

    @property
    def out(self) -> str:
        """Where it lies, as one writes it: a path has one slash of an address's two."""
        return store_url(self.root) if is_store(self.root) else str(self.root)


def synthesize(
    source: Source,
    out: str | Path,
    config: SynthesizerConfig,
    *,
    exemplars: str | Exemplars | None = None,
    prompt: Named | None = None,
    engine: EngineConfig | Engine | None = None,
    shard_rows: int | None = None,
    shards: ShardRange = (0, None),
    share: str | None = None,
    launcher: Launcher | None = None,
    max_engine_restarts: int = 3,
    grace: float = 30.0,
    bad_rows: str = "stop",
    continue_with_changed_source: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> JobResult:
    """Synthesize a whole source into the corpus folder `out`; the same call goes on where a killed one stopped.

    A source of several splits (named, or `all`) is one job: its shards are done together, no chain crosses a split, and
    each split has its own files. Writes `pairs/`, `synthesizer_config.json`, `stats.json` and a README that
    `load_dataset(out, "pairs")` reads. A finished job is recognised and starts no engine; where parts of it were lost,
    only these are made anew. Calls at the same time share the work. `shard_rows` is the number of source rows a shard,
    a multiple of the shots; `shards` limits this call to a range of them, and `share`, as "0/4" or found in a
    scheduler's variables as `hfsynth.work` does, says which are tried first. Without a `launcher` the work is done in
    this process, with one (`LocalLauncher`, `RayLauncher`) in processes of its own.

    `exemplars` take the place of the recipe's: a file, `user/dataset[@revision]`, or `hfsynth.Exemplars`. So does
    `prompt`: a built-in prompt recipe's name, a TOML file, or a `PromptRecipe`.

    An engine that dies is loaded again, at most `max_engine_restarts` times in a row (for each worker)
    without a finished document in between; a document with which it keeps dying gets the status `failed`. SIGINT and
    SIGTERM let what is in flight end within `grace` seconds, then raise KeyboardInterrupt or SystemExit; a second one
    does so at once.

    A row of the source that cannot be read holds nothing up: everything else is done first. With `bad_rows` "stop"
    UnreadableRowsError then names such rows and nothing is published; with "skip" the corpus is published without
    them, and they are counted as `unreadable`. With `continue_with_changed_source` a folder whose source has changed
    since, mended or grown or otherwise, keeps the finished shards whose rows are the same, and the others are done.

    Raise OutputError when the folder holds another job's result or cannot be written, SourceError and ColumnError for
    an unusable source, ModelError for an unusable model, EngineError for one that keeps dying.
    """
    settings = JobSettings(config_of(engine), max_engine_restarts, grace, bad_rows)
    recipe = with_prompt(with_exemplars(config, exemplars), prompt)
    gpu = None if launcher is None else launcher.on_gpu
    whole = continue_with_changed_source  # whatever a stream's dataset declares
    place = Place(launcher, shards, Share.settled(share))
    with open_site(out) as site:
        job = open_job(source, site, recipe, settings.engine, shard_rows=shard_rows, gpu=gpu, go_on=whole)
        _keep(settings, job, source)
        return carry_out(job, settings, place, whole=whole, on_progress=on_progress)


def describe_job(
    source: Source,
    out: str | Path,
    config: SynthesizerConfig,
    *,
    exemplars: str | Exemplars | None = None,
    prompt: Named | None = None,
    engine: EngineConfig | Engine | None = None,
    gpu: bool | None = None,
    shard_rows: int | None = None,
    max_engine_restarts: int = 3,
    grace: float = 30.0,
    bad_rows: str = "stop",
    continue_with_changed_source: bool = False,
) -> JobResult:
    """Write into the folder `out` what `synthesize` would do with the same arguments, and start nothing.

    `hfsynth.work(out)`, on any machines that share the folder, then does it. `gpu` says whether workers have GPUs,
    where this machine is not like theirs: the precision that a recipe leaves open hangs on it. Raise what `synthesize`
    raises before it starts an engine, and ConfigError for an engine that is an object: no other process has it.
    """
    settings = JobSettings(config_of(engine), max_engine_restarts, grace, bad_rows)
    require_shared(settings.engine)
    recipe = with_prompt(with_exemplars(config, exemplars), prompt)
    go_on = continue_with_changed_source
    with open_site(out) as site:
        job = open_job(source, site, recipe, settings.engine, shard_rows=shard_rows, gpu=gpu, go_on=go_on)
        _keep(settings, job, source)
        return JobResult(Path(site.url), _so_far(site), worked=False, finished=job.leases is None)


def _keep(settings: JobSettings, job: Job, source: Source) -> None:
    """Write down how an unfinished job is worked at."""
    if job.leases is not None:
        settings.write(job.corpus, source.location)
        job.site.share(JournalPaths(job.corpus.journal).settings)


def _so_far(site: Site) -> dict[str, Any]:
    site.look(now=True)
    site.fetch_records()
    site.sessions().all()
    return stats_so_far(site.corpus)


@dataclass(frozen=True, slots=True)
class Place:
    """Who does a call's work, in which range of shards, and which of them are tried first."""

    launcher: Launcher | None = None
    shards: ShardRange = (0, None)
    share: Share = Share()


def carry_out(
    job: Job,
    settings: JobSettings,
    place: Place,
    *,
    whole: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> JobResult:
    """Do what is left of a job and publish it; `whole` says that the source is all there is, whatever it declares."""
    corpus, leases, site = job.corpus, job.leases, job.site
    if leases is None:
        return JobResult(Path(site.url), read_json(corpus.stats), worked=False)
    if place.launcher is not None and place.launcher.size > 1:
        site.require_several()
    if place.share.of > 1:
        _log.info("share %d/%d, by %s", place.share.index, place.share.of, place.share.origin or "the caller")
    spec = JobSpec(
        source=job.source,
        revision=job.opened.revision,
        out=site.url if is_store(site.url) else str(corpus.root.absolute()),
        config=job.config,
        engine=settings.engine,
        shard_rows=job.shard_rows,
        shards=place.shards,
        max_engine_restarts=settings.max_engine_restarts,
        grace=settings.grace,
        share=place.share,
    )
    with stopping(settings.grace if place.launcher is None else patience(settings.grace)) as stop:
        work(spec, job.opened, place.launcher, stop, on_progress, site=site)
        if stop.requested:
            stop.leave()
    return _result(job, leases, place.shards, skip=settings.bad_rows == "skip", whole=whole)


def _result(job: Job, leases: Leases, shards: ShardRange, *, skip: bool, whole: bool) -> JobResult:
    """Publish the corpus if it is complete and nobody else has."""
    corpus, site = job.corpus, job.site
    site.look(now=True)
    extent = read_extent(corpus)
    if shards != (0, None) and (extent is None or len(site.finished()) < extent["shards"]):
        return JobResult(Path(site.url), _so_far(site), worked=True, finished=False)
    job.opened.require_unchanged()
    with leases.waiting_for("publish"):
        site.fetch_state()
        if not whole:
            _require_expected(site)
        if not skip and not corpus.manifest.exists():
            site.fetch_records()
            _require_readable(corpus)
        stats = read_json(corpus.stats) if corpus.manifest.exists() else site.publish(job.identity)
    site.sweep(finished=True)
    return JobResult(Path(site.url), stats, worked=True)


def _require_readable(corpus: Corpus) -> None:
    """Raise UnreadableRowsError where rows of the source could not be read."""
    found = unreadable_rows(finished_shards(corpus.parts))
    if found:
        listed = [row.reason for row in found[:_TOLD]]
        more = [f"and {len(found) - _TOLD:,} more"] if len(found) > _TOLD else []
        raise UnreadableRowsError(
            "\n".join([f"{len(found):,} rows of the source cannot be read; all others are done:", *listed, *more]),
            hint="Mend them and add --continue-with-changed-source, or leave them out with --bad-rows skip.",
        )


def _require_expected(site: Site) -> None:
    """Raise SourceError where a stream ended before the number of rows that its dataset declares.

    Its last shard is then done again: the same command reads on from there.
    """
    corpus, paths = site.corpus, JournalPaths(site.corpus.journal)
    extent, expectation = read_extent(corpus), read_json(paths.expectation)
    if extent is None or expectation is None or extent.get("exact") or extent["rows"] >= expectation["rows"]:
        return
    with writing(corpus.parts):
        site.forget(paths.extent, part_path(corpus.parts, max(site.finished())).with_suffix(".json"))
    raise SourceError(
        f"The source ended after {extent['rows']:,} rows, and declares {expectation['rows']:,}.",
        hint="Give the same command again: it reads on from there. If that is all there is, add "
        "--continue-with-changed-source.",
    )
