"""`--launcher hf-jobs`: from what was asked for to jobs at work on the corpus that an address describes.

Knows nothing of the command line, and of a corpus only how far it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hfsynth.core.config import EngineConfig
from hfsynth.core.errors import ConfigError, HfsynthError, SourceError
from hfsynth.core.files import damaged
from hfsynth.documents.locate import locate
from hfsynth.job.concurrency import stopping
from hfsynth.job.hf_jobs import crew as crews
from hfsynth.job.hf_jobs.api import HfJobs, RemoteJob
from hfsynth.job.hf_jobs.crew import Crew, Order, jobs_of
from hfsynth.job.hf_jobs.terms import (
    DEFAULT_TIMEOUT,
    Hardware,
    chosen_hardware,
    installed,
    micro_dollars,
    money,
    passed_on,
    seconds_of,
)
from hfsynth.job.launcher import spread_over
from hfsynth.job.progress import JournalView, Progress
from hfsynth.job.site import Site
from hfsynth.job.task_command import job_name

NAME = "hf-jobs"
PLAN = ("source", "synthesizer", "shard_rows")

_GRACE = 60.0  # seconds to cancel jobs in, after Ctrl-C
_MINED = "mined"
_ASK = "Jobs run on the Hub's machines, which share nothing with this one."


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: `jobs` of them on a `flavor` of hardware, each for `timeout` at most.

    `max_cost` is in dollars, for all jobs of the corpus together. `package` is what jobs install in place of this
    version, `image` what they run in, `workers` how many each has, by default one a GPU.
    """

    flavor: str | None = None
    timeout: str = DEFAULT_TIMEOUT
    jobs: int = 1
    detach: bool = False
    max_cost: float | None = None
    package: str | None = None
    image: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.max_cost is not None and self.max_cost <= 0:
            raise ConfigError(f"A bill of ${self.max_cost:g} pays for no job.", hint="Use --max-cost 20, in dollars.")
        seconds_of(self.timeout)


@dataclass(frozen=True, slots=True)
class There:
    """The Hub's machines as they were asked for: whoever is logged in, and the hardware."""

    api: HfJobs
    asked: Asked
    hardware: Hardware

    @classmethod
    def open(cls, asked: Asked, api: HfJobs) -> There:
        """Find the hardware; raise ConfigError, which lists what there is, where it is not there."""
        return cls(api, asked, chosen_hardware(asked.flavor, api.hardware()))

    def require_settled(self, out: str, engine: EngineConfig) -> None:
        """Raise ConfigError for what jobs cannot install, and where they have nothing to reach `out` with."""
        installed(engine, False, self.hardware, self.asked.package)
        passed_on(out, engine, variables_for(out))
        _refuse_own_server(engine)

    def order(self, out: str, plan: Mapping[str, Any], engine: EngineConfig, *, restarts: int = 3) -> Order:
        """Return what the jobs at `out` are to be, whose job is `plan`."""
        asked = self.asked
        mined = plan["synthesizer"]["model"] == _MINED
        trusting = ["--trust-remote-code"] if engine.trust_remote_code else []
        token = {"HF_TOKEN": str(self.api.token)}
        return Order(
            out=out,
            plan=json.loads(json.dumps({name: plan[name] for name in PLAN})),
            number=asked.jobs,
            hardware=self.hardware,
            seconds=seconds_of(asked.timeout),
            installs=installed(engine, mined, self.hardware, asked.package),
            name=job_name(out),
            image=asked.image,
            flags=[*trusting, *([] if asked.workers is None else ["--workers", str(asked.workers)])],
            secrets={**passed_on(out, engine, variables_for(out)), **token},
            max_cost=None if asked.max_cost is None else micro_dollars(asked.max_cost),
            restarts=restarts,
            gpus_an_engine=spread_over(engine),
        )


class CorpusOutlook:
    """How far a corpus is, as its place says."""

    def __init__(self, site: Site) -> None:
        self._site, self._view = site, JournalView(site.corpus, site)

    def is_finished(self) -> bool:
        """Return whether it is published, and has lost nothing since."""
        manifest = self._site.corpus.manifest
        self._site.fetch(manifest)
        if not manifest.exists():
            return False
        self._site.fetch_state()
        return self._site.is_whole()

    def progress(self) -> Progress:
        """Return what its workers report."""
        return self._view.progress()

    def rows(self) -> int:
        """Return how many rows of the source are done."""
        return self._view.progress().rows


def carry_out_there(
    there: There,
    order: Order,
    site: Site,
    *,
    say: Callable[[str], None],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    every: float | None = None,
) -> bool:
    """Have jobs finish a corpus that is described; return whether they have, False where they were left to it.

    Ctrl-C, SIGTERM and SIGHUP cancel every job, but for those that were detached; KeyboardInterrupt or SystemExit is
    raised then. After an error jobs that run go on, and `say` is told so.
    """
    outlook = CorpusOutlook(site)
    crew = Crew(there.api, order, outlook, say)
    with stopping(_GRACE) as stop:
        try:
            crew.begin(stop)
            if there.asked.detach and not stop.requested:
                return False
            crew.follow(stop, lambda: on_progress(outlook.progress()), every=crews.EVERY if every is None else every)
        except HfsynthError:
            if crew.alive:
                say(f"{len(crew.alive)} jobs go on by themselves. See them: hfsynth jobs {order.out}")
            raise
        finally:
            if stop.requested and not there.asked.detach:
                say(f"{crew.cancel()} jobs cancelled.")
        if stop.requested:
            stop.leave()
    on_progress(outlook.progress())
    return True


def preview(there: There, order: Order, rows: int | None, tuned: str | None) -> dict[str, Any]:
    """Return what would be started and what it would cost, as plain values; secrets by their names alone.

    `tuned` is a file with what `hfsynth tune --json` printed on such hardware: its prediction is then priced.
    """
    found = jobs_of(there.api, order.out)
    spent, alive = sum(job.cost for job in found), [job for job in found if job.alive]
    places = set(range(order.number)) - {job.place for job in alive}
    start = order.start(0)
    most = len(places) * order.most
    limit = order.max_cost
    return {
        "jobs": order.number,
        "running": len(alive),
        "to_start": len(places),
        "flavor": order.hardware.name,
        "hardware": order.hardware.told,
        "timeout_seconds": order.seconds,
        "command": ["hfsynth", *start.arguments],
        "installs": order.installs,
        "image": order.image,
        "secrets": sorted(order.secrets),
        "cost": {
            "an_hour_each": money(order.hardware.hourly),
            "an_hour": money(order.number * order.hardware.hourly),
            "at_most_each": money(order.most),
            "at_most_to_start": money(most),
            "earlier_jobs_at_most": money(spent),
            "max_cost": None if limit is None else money(limit),
            "within_max_cost": limit is None or spent + most <= limit,
            "predicted": _predicted(order, rows, tuned),
        },
    }


def _predicted(order: Order, rows: int | None, tuned: str | None) -> dict[str, Any] | None:
    """Return the hours and the price of all rows by a prediction of `tune`, None where there is none."""
    if tuned is None:
        return None
    speed = _documents_an_hour(Path(tuned))
    engines = max(1, order.hardware.gpus // order.gpus_an_engine)
    if rows is None:
        return {"documents_an_hour_each": round(speed[0] * engines), "hours": None, "cost": None}
    hours = [rows / (one * engines) for one in speed]
    price = [money(round(one * order.hardware.hourly)) for one in hours]
    return {
        "documents_an_hour_each": round(speed[0] * engines),
        "hours": round(hours[0] / order.number, 2),
        "job_hours": round(hours[0], 2),
        "cost": price[0],
        "cost_from": price[2],
        "cost_to": price[1],
    }


def _documents_an_hour(path: Path) -> tuple[float, float, float]:
    """Return what one engine does, and the ends of the interval."""
    try:
        values = json.loads(path.read_text("utf-8"))["prediction"]["documents_per_hour"]
        found = float(values["value"]), float(values["low"]), float(values["high"])
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", hint="hfsynth tune … --json > FILE") from error
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, "what hfsynth tune --json prints") from error
    if min(found) <= 0:
        raise ConfigError(f"{path} predicts no documents an hour.", hint="Tune with more --documents.")
    return found


_GOOGLE_KEYS = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_APPLICATION_CREDENTIALS")


def variables_for(out: str) -> dict[str, str]:
    """Return this process's variables; for Google's store with the key itself, where a file that holds it is named."""
    found = dict(os.environ)
    path = next((Path(value) for name in _GOOGLE_KEYS if (value := found.get(name))), None)
    if out.startswith("gs:") and path is not None and path.is_file():
        found["GOOGLE_SERVICE_ACCOUNT_KEY"] = path.read_text("utf-8")
    return found


def _refuse_own_server(engine: EngineConfig) -> None:
    """Raise ConfigError for a server on this machine."""
    base_url = str(engine.arguments.get("base_url", ""))
    if (urlsplit(base_url).hostname or "") in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):  # noqa: S104
        raise ConfigError(f"The server {base_url} is this machine's own. {_ASK}", hint="Name one that jobs can reach.")


def require_reachable(source: str, model: str | None = None) -> None:
    """Raise SourceError or ConfigError for a source or a model that lies on this machine."""
    if "://" not in source and locate(source) is not None:
        raise SourceError(
            f"{source} lies on this machine. {_ASK}",
            hint="Put it where jobs can read it: hf upload USER/NAME FILE --repo-type dataset",
        )
    if model is not None and Path(model).is_dir():
        raise ConfigError(f"The model {model} is a folder of this machine. {_ASK}", hint="Upload it to the Hub.")


def job_values(job: RemoteJob) -> dict[str, Any]:
    """Return what there is to know of a job, as plain values."""
    return {
        "place": job.place,
        "id": job.id,
        "stage": job.stage,
        "message": job.message,
        "flavor": job.flavor,
        "seconds": job.seconds,
        "created": job.created,
        "cost": money(job.so_far),
        "at_most": money(job.cost),
        "url": job.url,
    }
