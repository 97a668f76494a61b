"""What the command line says of HF Jobs: their options, how they are started from it, and the command `jobs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfsynth.cli import console
from hfsynth.cli.options import Json, Verbose
from hfsynth.core.errors import ConfigError
from hfsynth.core.stores import is_store, store_url

if TYPE_CHECKING:
    from hfsynth.core.config import EngineConfig, SynthesizerConfig
    from hfsynth.documents.source import Source
    from hfsynth.job.hf_jobs.api import RemoteJob
    from hfsynth.job.hf_jobs.launch import Asked, There

NAME = "hf-jobs"

_ADDRESSES = "s3://bucket/corpus, gs://, az://, or hf://buckets/USER/NAME/corpus"


@dataclass(frozen=True, slots=True)
class HfJobsOptions:
    """What a command line says of HF Jobs; None is their default."""

    flavor: Annotated[str | None, typer.Option(help="The hardware of a job, such as a100-large or l40sx1.")] = None
    timeout: Annotated[
        str | None, typer.Option(help="How long a job may run: 90m, 4h, 1d. Others go on where it was. [default: 4h]")
    ] = None
    jobs: Annotated[int | None, typer.Option(min=1, help="How many at once. [default: 1]")] = None
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the jobs and leave them to it: nobody replaces one that ends.")
    ] = False
    max_cost: Annotated[
        float | None, typer.Option(help="Dollars that all jobs of this corpus may cost, those of earlier calls too.")
    ] = None
    package: Annotated[
        str | None, typer.Option(help="What jobs install: an address, or hfsynth[…]==…. [default: this version]")
    ] = None
    tuned: Annotated[
        str | None, typer.Option(help="What hfsynth tune --json printed on such hardware, for --dry-run's price.")
    ] = None

    def asked(self, image: str | None, workers: int | None) -> Asked:
        """Return what is asked for."""
        from hfsynth.job.hf_jobs.launch import Asked
        from hfsynth.job.hf_jobs.terms import DEFAULT_TIMEOUT

        timeout, number = self.timeout or DEFAULT_TIMEOUT, self.jobs or 1
        return Asked(self.flavor, timeout, number, self.detach, self.max_cost, self.package, image, workers)

    def refuse(self, launcher: str) -> None:
        """Raise ConfigError where they are given and another launcher is asked for."""
        if launcher != NAME and self != HfJobsOptions():
            raise ConfigError(
                "Options of HF Jobs were given, and another launcher.",
                hint="Add --launcher hf-jobs, or leave them out.",
            )


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(jobs)


def jobs(
    out: Annotated[Path, typer.Argument(help="Where the corpus is: an address of an object store.")],
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End those that run; nobody starts others for them.")
    ] = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """List the HF Jobs that have worked at OUT: what became of them, and what they cost.

    Example: hfsynth jobs hf://buckets/user/corpora/corpus
    """
    from hfsynth.job.hf_jobs.api import HfJobs
    from hfsynth.job.hf_jobs.crew import cancel_jobs, jobs_of
    from hfsynth.job.hf_jobs.launch import job_values

    where, api = address(out), HfJobs(on_retry=console.say)
    ended = {job.id for job in cancel_jobs(api, where)} if cancel else set()
    found = jobs_of(api, where)
    if as_json:
        console.emit_json({"out": where, "jobs": [{**job_values(job), "cancelled": job.id in ended} for job in found]})
    elif not found:
        console.emit(f"No job has worked at {where}.")
    else:
        console.emit("\n".join([*table(found), *([f"{len(ended)} jobs cancelled."] if cancel else [])]))


def table(found: Sequence[RemoteJob]) -> Iterator[str]:
    """Yield a line a job, and what all of them cost."""
    from hfsynth.job.hf_jobs.terms import money

    yield f"{'job':>4}  {'stage':<10}  {'hardware':<14}  {'minutes':>7}  {'cost':>8}  address"
    for job in found:
        minutes = f"{(job.seconds or 0) / 60:.0f}"
        stage = job.stage.lower()
        yield f"{job.place:>4}  {stage:<10}  {job.flavor:<14}  {minutes:>7}  {money(job.so_far):>8}  {job.url}"
        if job.message:
            yield f"      {job.message}"
    alive = sum(job.alive for job in found)
    most = f", {money(sum(job.cost for job in found))} at most" if alive else ""
    yield f"{alive} of {len(found)} run; {money(sum(job.so_far for job in found))} so far{most}."


def address(out: Path) -> str:
    """Return the address of an object store; raise ConfigError for a folder, which no job could see."""
    if not is_store(out):
        raise ConfigError(
            f"HF Jobs run on the Hub's machines and share no folder with this one: {out} is none of theirs.",
            hint=f"Give OUT as an address that all of them reach: {_ADDRESSES}.",
        )
    return store_url(out)


@dataclass(frozen=True, slots=True)
class Call:
    """A command that has jobs do its work."""

    out: Path
    options: HfJobsOptions
    image: str | None
    workers: int | None
    dry_run: bool = False
    quiet: bool = False
    as_json: bool = False

    def synthesize(
        self,
        source: Source,
        config: SynthesizerConfig,
        planned: Mapping[str, Any],
        settings: Mapping[str, Any],
        *,
        besides: Sequence[object] = (),
    ) -> None:
        """Describe a job at OUT and have it done, or show what that would cost; `besides` are options jobs cannot take.

        `planned` is what decides the result, `settings` how it is worked at.
        """
        from hfsynth.cli import launchers
        from hfsynth.job.begin import job_plan
        from hfsynth.job.hf_jobs.launch import require_reachable
        from hfsynth.job.run import describe_job

        if any(besides):
            raise ConfigError(
                "Jobs write the pairs of all shards, and take no other step.",
                hint="Leave out --shard-range and --share, and add --pairs-only to a recipe with later steps.",
            )
        engine: EngineConfig = planned["engine"]
        there = self._there()
        there.require_settled(address(self.out), engine)
        require_reachable(source.location, config.model)
        if self.dry_run:
            console.emit_json(self._preview(there, job_plan(source, self.out, config, **planned), engine))
            return
        described = describe_job(source, self.out, config, gpu=there.hardware.gpus > 0, **planned, **settings)
        if described.finished:
            launchers.tell(described, as_json=self.as_json)
        else:
            self._carry_out(there, engine, settings["max_engine_restarts"])

    def work(self, engine: EngineConfig, location: str, restarts: int) -> None:
        """Have jobs do what OUT describes."""
        from hfsynth.job.hf_jobs.launch import require_reachable

        there = self._there()
        there.require_settled(address(self.out), engine)
        require_reachable(location)
        self._carry_out(there, engine, restarts)

    def _there(self) -> There:
        from hfsynth.job.hf_jobs.api import HfJobs
        from hfsynth.job.hf_jobs.launch import There

        address(self.out)
        return There.open(self.options.asked(self.image, self.workers), HfJobs(on_retry=console.say))

    def _preview(self, there: There, plan: Mapping[str, Any], engine: EngineConfig) -> dict[str, Any]:
        from hfsynth.job.hf_jobs.launch import preview

        order = there.order(address(self.out), plan, engine)
        return {**plan, "hf_jobs": preview(there, order, plan["rows"], self.options.tuned)}

    def _carry_out(self, there: There, engine: EngineConfig, restarts: int) -> None:
        """Have jobs do what OUT describes, and print what they leave, or which they are where they were left to it."""
        from hfsynth.cli import launchers
        from hfsynth.core.files import read_json
        from hfsynth.job.hf_jobs.launch import CorpusOutlook, carry_out_there
        from hfsynth.job.join import require_plan
        from hfsynth.job.opening import open_site
        from hfsynth.job.run import JobResult

        where, quiet = address(self.out), self.quiet or self.as_json
        say = (lambda text: None) if quiet else console.say
        with open_site(where) as site:
            order = there.order(where, require_plan(site), engine, restarts=restarts)
            worked = not CorpusOutlook(site).is_finished()
            with launchers.interruptible(), console.job_progress(quiet=quiet) as display:
                finished = not worked or carry_out_there(there, order, site, say=say, on_progress=display)
            site.fetch_state()
            result = JobResult(Path(where), read_json(site.corpus.stats), worked=worked, finished=finished)
        if finished:
            launchers.tell(result, as_json=self.as_json)
        else:
            jobs(self.out, as_json=self.as_json)
            say(f"They are left to it. How far the corpus is: hfsynth info {where}")
