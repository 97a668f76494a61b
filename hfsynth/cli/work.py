"""The command that joins a job which its folder describes: `work`. Parse, one library call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hfsynth.cli import console, hf_jobs
from hfsynth.cli.options import (
    Accelerators,
    Claim,
    EngineArgs,
    Image,
    Json,
    Launcher,
    Quiet,
    Sbatch,
    Share,
    Submit,
    TrustRemoteCode,
    Verbose,
    key_values,
    with_options,
)
from hfsynth.cli.rooms import WORK, in_rooms
from hfsynth.core.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=in_rooms(WORK))(with_options(hf_jobs.HfJobsOptions, "remote")(work))


def work(
    out: Annotated[Path, typer.Argument(help="The corpus folder, whose job `hfsynth synthesize` has described.")],
    remote: hf_jobs.HfJobsOptions,
    share: Share = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes; 0 works in this one. [default: one per visible GPU, 1 on a CPU]"),
    ] = None,
    tensor_parallel: Annotated[
        int | None, typer.Option(min=1, help="GPUs a worker spreads its model over. [default: the folder's]")
    ] = None,
    launcher: Launcher = "local",
    address: Annotated[str | None, typer.Option(help="The Ray cluster. [default: found or started]")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="GPUs that Ray reserves for a worker. [default: --tensor-parallel]")
    ] = None,
    sbatch: Sbatch = None,
    submit: Submit = False,
    image: Image = None,
    claim: Claim = None,
    accelerators: Accelerators = None,
    source: Annotated[
        str | None, typer.Option(help="Where the source lies on this machine. [default: the folder's]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The script of a job of the scripted engine: a folder cannot choose code.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="vllm, server or scripted. [default: the folder's]")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server, such as http://host:8000/v1; implies server.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests to the server at once. [default: the folder's]")
    ] = None,
    engine_arg: EngineArgs = None,
    trust_remote_code: TrustRemoteCode = False,
    max_engine_restarts: Annotated[
        int | None,
        typer.Option(min=0, help="Deaths of the engine in a row to outlive, a worker. [default: the folder's]"),
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds for what is in flight after Ctrl-C or SIGTERM. [default: the folder's]"),
    ] = None,
    bad_rows: Annotated[str | None, typer.Option(help="stop or skip. [default: the folder's]")] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Join the job that OUT describes until it is finished: on any machine that shares the folder, any number of times.

    What is not given is as the folder says. Whoever finishes the last shard publishes the corpus. Killed at any moment,
    the same command goes on.

    Example: hfsynth work corpus/
    """
    from hfsynth.cli import launchers
    from hfsynth.core.config import EngineConfig
    from hfsynth.job.join import require_plan
    from hfsynth.job.join import work as join
    from hfsynth.job.launcher import spread_over, with_tensor_parallel
    from hfsynth.job.opening import open_site
    from hfsynth.job.settings import JobSettings
    from hfsynth.job.shards import read_extent

    elsewhere = launcher in ("kubernetes", "skypilot")  # what their machines share need not be here
    with open_site(out) as site:
        if not elsewhere:
            require_plan(site)
        found = JobSettings.find(site.corpus) or JobSettings(EngineConfig())
        shards = (read_extent(site.corpus) or {}).get("shards")
    server = {"base_url": base_url, "concurrency": concurrency}
    arguments = key_values(engine_arg or []) | {name: value for name, value in server.items() if value is not None}
    given = engine or ("server" if base_url else None)
    told = launchers.engine_of(found.engine, given, arguments, trust_remote_code)
    told = with_tensor_parallel(told, tensor_parallel) if tensor_parallel else told
    wanted = launchers.Wanted(launcher, workers, spread_over(told), address, gpus_per_worker, told.kind)
    if launcher in launchers.PRINTED:
        wait = found.grace if grace is None else grace
        printed = launchers.Printed(out, wait, sbatch or [], submit, image, claim, accelerators)
        launchers.print_file(wanted, printed, lambda: shards)
        return
    remote.refuse(launcher)
    if launcher == hf_jobs.NAME:
        if told != launchers.engine_of(found.engine, None, {}, trust_remote_code) or source or model or share:
            raise ConfigError(
                "Jobs work as OUT says: from what source, with which engine.",
                hint="Leave out --source, --share, --model and the engine's options, or describe the job with them.",
            )
        restarts = found.max_engine_restarts if max_engine_restarts is None else max_engine_restarts
        asked = hf_jobs.Call(out, remote, image, workers, quiet=quiet, as_json=as_json)
        asked.work(told, found.location, restarts)
        return
    with launchers.interruptible(), console.job_progress(quiet=quiet or as_json) as display:
        result = join(
            out,
            share=share,
            source=source,
            model=model,
            engine=None if told == found.engine else told,
            launcher=launchers.launcher_for(wanted),
            max_engine_restarts=max_engine_restarts,
            grace=grace,
            bad_rows=bad_rows,
            on_progress=display,
        )
    launchers.tell(result, as_json=as_json)
