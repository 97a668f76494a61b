"""A program of this package in a process of its own, which ends with the one that started it, and all it has started.

It is started, not forked: neither threads nor CUDA survive a fork. It leads a process group and is given an order, a
line of JSON on standard input, by which it also learns that its parent is gone (`ParentWatch`). Knows nothing of what
the program does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from hfsynth.job.parent_watch import ParentWatch; watch = ParentWatch(); "
    "from importlib import import_module; sys.exit(import_module(sys.argv[2]).main(watch))"
)
STDERR = 2


class ChildProcess:
    """A process that runs `main(watch)` of a module and ends with the code it returns; `watch.order` is the order.

    What it prints goes to `output`, standard error where none is given: standard output is for a command's result.
    `environment` is added to this process's own. Where no `cores` are given it may run on all.
    """

    def __init__(
        self,
        module: str,
        order: Mapping[str, Any],
        *,
        output: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        cores: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), module],
            stdin=subprocess.PIPE,
            stdout=STDERR if output is None else output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        if cores:
            with suppress(OSError):  # it died already: `ended` tells
                os.sched_setaffinity(self.pid, cores)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it died already: `ended` tells
                self._process.stdin.write(json.dumps(order).encode("ascii") + b"\n")
                self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Return the process's number, which is that of its group too."""
        return self._process.pid

    def ended(self) -> int | None:
        """Return how the process ended, None while it runs: its exit code, or the signal that ended it, negative."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end, or for so many seconds, and return what `ended` does then."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=seconds)
        return self._process.returncode

    def stop(self, number: int) -> None:
        """Pass a signal on to the process."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the process and everything it has started; wait until it is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()


def way_of_ending(code: int) -> str:
    """Say in words how a process with this code ended."""
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
