"""The process of one worker, as `LocalCrew` starts it: its order comes as a line on standard input.

When standard input ends, whoever gave the order is gone; the process and all that it has started then end too.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from hfsynth.corpus import Corpus
from hfsynth.errors import HfsynthError, OutputError
from hfsynth.job_spec import JobSpec
from hfsynth.journal import JournalPaths
from hfsynth.sessions import ORPHANED, Sessions, failed_session
from hfsynth.stopping import stopping
from hfsynth.worker import Worker

_STDIN = 0


def main() -> int:
    """Do what the order on standard input says; return the exit code. What went wrong is in the session's file."""
    order = _read_order()
    try:
        return _work(JobSpec.from_dict(order["spec"]), order["worker"])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _work(spec: JobSpec, name: str) -> int:
    """Be one worker until the job is done, a signal asks for the end, or something goes wrong."""
    with stopping(spec.grace) as stop:
        try:
            worker = Worker(spec, stop, name=name)
        except HfsynthError as error:
            Sessions(JournalPaths(Corpus(Path(spec.out)).journal).sessions).write(failed_session(name, error))
            return error.exit_code
        threading.Thread(target=_end_with_parent, args=(worker,), name="hfsynth-parent", daemon=True).start()
        try:
            worker.run()
        except HfsynthError as error:
            return error.exit_code
        if stop.requested:
            stop.leave()
    return 0


def _read_order() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n") and (part := os.read(_STDIN, 2**16)):
        line += part
    order: dict[str, Any] = json.loads(line)
    return order


def _end_with_parent(worker: Worker) -> None:
    """Wait for the end of standard input, then end this process and those it has started."""
    while os.read(_STDIN, 2**10):
        pass
    with suppress(OutputError):
        worker.sessions.write(worker.session(ended=ORPHANED))
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
