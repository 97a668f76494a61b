"""A trial in a process of its own, so that the engine's memory is given back whatever becomes of it.

Knows nothing of what a trial does beyond its order and its outcome.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hfsynth.core.errors import EngineError
from hfsynth.job.child_process import ChildProcess, way_of_ending
from hfsynth.job.tuning.trial import FOLDER, OUTCOME, Order, Outcome

_LOG = "log.txt"


class TrialFailed(EngineError):
    """A trial came to nothing: what its process said, or how it ended."""


def run_trial(order: Order, seconds: float) -> Outcome:
    """Run one trial, for so many seconds at most; raise TrialFailed where it has no outcome.

    What the engine prints is kept to itself.
    """
    with tempfile.TemporaryDirectory(prefix="hfsynth-trial-") as name:
        folder = Path(name)
        how = _run(order, folder, seconds)
        if not (folder / OUTCOME).is_file():
            raise TrialFailed(f"The trial {how}. {_last_line(folder / _LOG)}".rstrip())
        told = json.loads((folder / OUTCOME).read_text("utf-8"))
        if "error" in told:
            raise TrialFailed(told["error"]["message"], hint=told["error"]["hint"])
        return Outcome.from_dict(told["outcome"])


def _run(order: Order, folder: Path, seconds: float) -> str:
    """Run the process to its end, or end it and all that it has started; say which."""
    with (folder / _LOG).open("wb") as log:
        child = ChildProcess("hfsynth.job.tuning.trial", {**order.to_dict(), FOLDER: str(folder)}, output=log)
        try:
            code = child.wait(seconds)
        finally:
            child.kill()
    return f"was not done after {seconds:.0f} seconds" if code is None else way_of_ending(code)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
