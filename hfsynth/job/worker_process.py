"""The process of one worker, as `LocalLauncher` starts it, with the order that `ParentWatch` has read."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress

from hfsynth.core.errors import HfsynthError, OutputError
from hfsynth.core.logs import logging_as_started
from hfsynth.job.concurrency import stopping
from hfsynth.job.opening import open_site
from hfsynth.job.parent_watch import ParentWatch
from hfsynth.job.screening_worker import ScreeningWorker
from hfsynth.job.sessions import ORPHANED, failed_session
from hfsynth.job.spec import JobSpec
from hfsynth.job.worker import Worker
from hfsynth.job.working import worker_of

_LEAVING = 10.0
"""Seconds for the last words of a worker whose parent is gone: a network may be gone with it."""


def main(watch: ParentWatch) -> int:
    """Do what the order says; return the exit code. What went wrong is in the session's file."""
    try:
        with logging_as_started():
            return _work(JobSpec.from_dict(watch.order["spec"]), watch.order["worker"], watch)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _work(spec: JobSpec, name: str, watch: ParentWatch) -> int:
    """Be one worker until the job is done, a signal asks for the end, or something goes wrong."""
    with stopping(spec.grace) as stop, open_site(spec.out) as site:
        try:
            worker = worker_of(spec, stop, site=site, name=name)
        except HfsynthError as error:
            site.sessions().write(failed_session(name, site.told(error)))
            return error.exit_code
        watch.before_end = lambda: _note_orphan(worker)
        try:
            worker.run()
        except HfsynthError as error:
            return error.exit_code
        if stop.requested:
            stop.leave()
    return 0


def _note_orphan(worker: Worker | ScreeningWorker) -> None:
    """Have a worker leave what it has noted to others, in so far as that is quick: nobody waits for it."""

    def leave() -> None:
        with suppress(OutputError):
            worker.leave_to_others(ORPHANED)

    thread = threading.Thread(target=leave, daemon=True)
    thread.start()
    thread.join(_LEAVING)
