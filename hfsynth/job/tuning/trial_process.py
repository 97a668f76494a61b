"""A trial in a process of its own, so that the engine's memory is given back whatever becomes of it.

Knows nothing of what a trial does beyond its order and its outcome.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from hfsynth.core.errors import EngineError
from hfsynth.job.tuning.trial import ORDER, OUTCOME, Order, Outcome

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pathlib import Path; "
    "from hfsynth.job.tuning.trial import main; sys.exit(main(Path(sys.argv[2])))"
)
_LOG = "log.txt"


class TrialFailed(EngineError):
    """A trial came to nothing: what its process said, or how it ended."""


def run_trial(order: Order, seconds: float) -> Outcome:
    """Run one trial, for so many seconds at most; raise TrialFailed where it has no outcome.

    What the engine prints is kept to itself.
    """
    with tempfile.TemporaryDirectory(prefix="hfsynth-trial-") as name:
        folder = Path(name)
        (folder / ORDER).write_text(json.dumps(order.to_dict()), "utf-8")
        how = _run(folder, seconds)
        if not (folder / OUTCOME).is_file():
            raise TrialFailed(f"The trial {how}. {_last_line(folder / _LOG)}".rstrip())
        told = json.loads((folder / OUTCOME).read_text("utf-8"))
        if "error" in told:
            raise TrialFailed(told["error"]["message"], hint=told["error"]["hint"])
        return Outcome.from_dict(told["outcome"])


def _run(folder: Path, seconds: float) -> str:
    """Run the process to its end, or end it and all that it has started; say which."""
    command = [sys.executable, "-c", _START, json.dumps(sys.path), str(folder)]
    with (folder / _LOG).open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=dict(os.environ)
        )
        try:
            code = process.wait(timeout=seconds)
            return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        except subprocess.TimeoutExpired:
            return f"was not done after {seconds:.0f} seconds"
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
