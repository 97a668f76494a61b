"""Processes that tests start: whatever becomes of a test, none outlives it (a fixture in `conftest` sees to it)."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

_STARTED: list[subprocess.Popen[Any]] = []


def start_process(arguments: Sequence[object], **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401
    """Start a process that speaks text and ends with the test; `options` are those of Popen."""
    process = subprocess.Popen([str(argument) for argument in arguments], text=True, **options)
    _STARTED.append(process)
    return process


def end_started() -> None:
    """Kill the processes that still run, close their pipes and wait for them."""
    while _STARTED:
        process = _STARTED.pop()
        process.kill()  # nothing, where it has ended
        with suppress(BrokenPipeError), process:  # closes the pipes, whether anybody reads or not
            pass
