"""Join a job that its folder describes: the same call as the one that began it, put together from what the folder says.

Knows nothing of how a job is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ModelError, OutputError
from hfsynth.core.files import read_json, reading_values
from hfsynth.core.recipes import RecipeModel
from hfsynth.documents.locate import locate
from hfsynth.documents.source import Source
from hfsynth.engine.loading import config_of
from hfsynth.engine.protocol import Engine
from hfsynth.job.begin import open_job
from hfsynth.job.launcher import Launcher
from hfsynth.job.opening import open_site
from hfsynth.job.progress import Progress
from hfsynth.job.run import JobResult, Place, carry_out
from hfsynth.job.settings import JobSettings, require_shared
from hfsynth.job.shares import Share
from hfsynth.job.site import Site


def work(
    out: str | Path,
    *,
    share: str | None = None,
    source: str | None = None,
    model: str | None = None,
    engine: EngineConfig | Engine | None = None,
    launcher: Launcher | None = None,
    max_engine_restarts: int | None = None,
    grace: float | None = None,
    bad_rows: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> JobResult:
    """Join the job that the folder `out` describes, until it is finished, and publish it if nobody else does.

    Any number of calls, on machines that share the folder, may join at any time and be killed at any time.
    `hfsynth.describe_job` and `synthesize` describe jobs. `share`, as "0/4", says which shards are tried first; at the
    end a worker takes what others have left. Without one it is that of HFSYNTH_SHARE, or comes from the variables of
    Slurm, of an indexed Job of Kubernetes (with HFSYNTH_SHARES, its number of completions) or of SkyPilot.

    What is not given is as the folder says: `source`, where it lies on this machine, `engine`, and what `synthesize`
    takes under the same names. A folder gives no leave to run code: `trust_remote_code` must be in `engine`, and the
    script of a job of the scripted engine named as `model`.

    A finished job is recognised: `worked` is then False. Raise OutputError for a folder that describes no job, and what
    `synthesize` raises.
    """
    with open_site(out) as site:
        plan, corpus = require_plan(site), site.corpus
        if corpus.manifest.exists() and site.is_whole():
            site.sweep(finished=True)
            return JobResult(Path(site.url), read_json(corpus.stats), worked=False)
        site.require_several()
        settings = JobSettings.read(corpus).but(
            engine=None if engine is None else config_of(engine),
            max_engine_restarts=max_engine_restarts,
            grace=grace,
            bad_rows=bad_rows,
        )
        if engine is None:
            require_shared(settings.engine)
        with reading_values(corpus.plan):
            config = _recipe(plan, model, settings)
            read_from = _source(plan, source or settings.location)
        gpu = None if launcher is None else launcher.on_gpu
        job = open_job(read_from, site, config, settings.engine, shard_rows=plan["shard_rows"], gpu=gpu)
        return carry_out(job, settings, Place(launcher, share=Share.settled(share)), on_progress=on_progress)


def require_plan(site: Site) -> Mapping[str, Any]:
    """Return what the job of a place is; raise OutputError where it describes none."""
    site.fetch_state()
    plan: dict[str, Any] | None = read_json(site.corpus.plan)
    if plan is None:
        raise OutputError(
            f"{site.url} describes no job.",
            hint=f"Describe one first: hfsynth synthesize SOURCE {site.url} --describe, with the recipe's options.",
        )
    return plan


def _recipe(plan: Mapping[str, Any], model: str | None, settings: JobSettings) -> SynthesizerConfig:
    """Return the job's recipe; the name of its model is trusted as far as a recipe's is, unless it was given."""
    named = str(plan["synthesizer"]["model"])
    if not Path(named).exists() and (Path(settings.directory) / named).is_dir():
        raise ModelError(
            f"The model {named} is a folder where the job was described, and not here.",
            hint=f"Change to {settings.directory} first.",
        )
    trusted = model if model is not None else RecipeModel(named, published=False)
    return SynthesizerConfig.from_dict({**plan["synthesizer"], "model": trusted})


def _source(plan: Mapping[str, Any], location: str) -> Source:
    """Return the job's source at its revision; several splits that lie here have one each, which are compared later."""
    told = {**plan["source"], "location": location}
    several = not isinstance(told["split"], str | None)
    return Source(**{**told, "revision": None if several and locate(location) is not None else told["revision"]})
