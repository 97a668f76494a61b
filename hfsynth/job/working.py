"""Have a job's shards finished: here, or in processes that a launcher starts. Knows nothing of what is in them."""

from __future__ import annotations

from collections.abc import Callable

from hfsynth.documents.source import OpenSource
from hfsynth.job.concurrency import Stop
from hfsynth.job.launcher import PATIENCE, Launcher, supervise
from hfsynth.job.opening import open_site
from hfsynth.job.progress import JournalView, Progress
from hfsynth.job.screening_worker import ScreeningWorker
from hfsynth.job.sessions import Session
from hfsynth.job.site import Site
from hfsynth.job.spec import JobSpec
from hfsynth.job.worker import Worker


def work(
    spec: JobSpec,
    opened: OpenSource | None,
    launcher: Launcher | None,
    stop: Stop,
    on_progress: Callable[[Progress], None],
    *,
    site: Site | None = None,
) -> None:
    """Finish the shards, here or in processes that the launcher starts; `site` is where, if it is open already."""
    site = site or open_site(spec.out)
    view = JournalView(site.corpus, site)
    if launcher is None:
        worker_of(spec, stop, site=site, opened=opened, on_session=lambda own: on_progress(view.progress(own))).run()
    else:
        supervise(spec, launcher, stop, lambda: on_progress(view.progress()), site=site)
    on_progress(view.progress())


def worker_of(
    spec: JobSpec,
    stop: Stop,
    *,
    site: Site,
    opened: OpenSource | None = None,
    name: str | None = None,
    on_session: Callable[[Session], None] = lambda session: None,
) -> Worker | ScreeningWorker:
    """Return a worker at a job of either kind."""
    if spec.screening is not None:
        return ScreeningWorker(spec, spec.screening, stop, name=name, on_session=on_session)
    return Worker(spec, stop, site=site, opened=opened, name=name, on_session=on_session)


def patience(grace: float) -> float:
    """Return how long to wait for workers: they have the grace themselves, and need a moment to write."""
    return grace + PATIENCE if grace > 0 else 0.0
