"""Processes that tests start: whatever becomes of a test, none outlives it (a fixture in `conftest` sees to it).

On Linux a Python program is forked from a Python that has read its libraries, where it is only what the program does
that counts; `fresh` starts an interpreter of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import warm_python

_STARTED: list[subprocess.Popen[Any]] = []
_ASKING = threading.Lock()
_ASKED_FOR: Counter[Warm] = Counter()
_KEPT: set[Warm] = set()

MOST_KEPT = 8
"""How many Pythons wait with all libraries read: each takes 200 megabytes."""

READ_AT_IMPORT = ("HF_", "HUGGING", "TRANSFORMERS_", "XDG_", "HOME")
"""The beginnings of the names of settings that the project's own libraries read when they are imported."""


def start_process(
    arguments: Sequence[object],
    *,
    fresh: bool = False,
    reads: Sequence[str] = (),
    outlives: bool = False,
    **options: Any,  # noqa: ANN401
) -> subprocess.Popen[str]:
    """Start a process that speaks text and ends with the test; `options` are those of Popen.

    `reads` are more modules that the program will read. One that `outlives` the test is ended by whoever started it.
    """
    argv = [str(argument) for argument in arguments]
    warm = None if fresh else _kind(argv, options, reads)
    process = WarmProcess(argv, warm, **options) if warm else subprocess.Popen(argv, text=True, **options)
    if not outlives:
        _STARTED.append(process)
    return process


def run_process(
    arguments: Sequence[object],
    *,
    check: bool = False,
    timeout: float | None = None,
    **options: Any,  # noqa: ANN401
) -> subprocess.CompletedProcess[str]:
    """Start a process and wait for its end, as `subprocess.run` does; what it writes is returned."""
    with start_process(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            out, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, errors)
    if check and done.returncode:
        raise AssertionError(f"it ended with {done.returncode}\n{out}\n{errors}")
    return done


def end_started() -> None:
    """Kill the processes that still run, close their pipes and wait for them."""
    while _STARTED:
        process = _STARTED.pop()
        process.kill()  # nothing, where it has ended
        with suppress(BrokenPipeError), process:  # closes the pipes, whether anybody reads or not
            pass


def _kind(argv: Sequence[str], options: Mapping[str, Any], reads: Sequence[str]) -> Warm | None:
    """Return the kind of Python that may run this; None where it must start anew."""
    known = {"env", "cwd", "stdin", "stdout", "stderr", "start_new_session"}
    runs = len(argv) > 1 and argv[0] == sys.executable and (argv[1] in ("-c", "-m") or argv[1].endswith(".py"))
    if sys.platform != "linux" or not runs or not set(options) <= known:
        return None
    environment = options.get("env") or os.environ
    if _settings(environment, ("PYTHON",)) != _settings(os.environ, ("PYTHON",)):
        return None
    settings = _settings(environment, READ_AT_IMPORT)
    return Warm((*warm_python.LIBRARIES, *warm_python.PROJECT, *reads), settings).worth_it()


def _settings(environment: Mapping[str, str], beginnings: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found = ((key, value) for key, value in environment.items() if key.startswith(beginnings) and key != "PYTHONPATH")
    return tuple(sorted(found))


@dataclass(frozen=True)
class Warm:
    """What a Python has read, and the settings that it read it under."""

    libraries: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]

    def worth_it(self) -> Warm:
        """Return this kind once it is asked for again, and else what reads no settings: to read it all takes long."""
        usual = self.settings == _settings(os.environ, READ_AT_IMPORT)
        _ASKED_FOR[self] += 1
        if usual or self in _KEPT or (_ASKED_FOR[self] > 1 and len(_KEPT) < MOST_KEPT):
            _KEPT.add(self)
            return self
        return Warm(warm_python.LIBRARIES, _settings(os.environ, READ_AT_IMPORT))

    def environment(self) -> dict[str, str]:
        """Return the environment under which it reads."""
        others = {key: value for key, value in os.environ.items() if not key.startswith(READ_AT_IMPORT)}
        return others | dict(self.settings)


@cache
def _warm(kind: Warm) -> socket.socket:
    """Start a Python that reads the libraries, and return where it takes orders; it ends with this process."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, warm_python.__file__, str(there.fileno()), *kind.libraries]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with there:
        process = subprocess.Popen(command, pass_fds=[there.fileno()], env=kind.environment(), **streams)
    atexit.register(process.wait)
    atexit.register(here.close)  # which ends it
    return here


class WarmProcess(subprocess.Popen[str]):
    """A process forked from a warm Python: not this process's child, but used as if it were."""

    _child_created = False  # nothing for Popen itself to wait for
    _sigint_wait_secs = 0

    def __init__(
        self,
        args: Sequence[str],
        kind: Warm,
        *,
        env: Mapping[str, str] | None = None,
        cwd: object = None,
        stdin: Any = None,  # noqa: ANN401
        stdout: Any = None,  # noqa: ANN401
        stderr: Any = None,  # noqa: ANN401
        start_new_session: bool = False,
    ) -> None:
        self.args, self.returncode = list(args), None
        self._read: dict[str, str] = {}
        self._readers: list[threading.Thread] = []
        self._ended, told = os.pipe()
        theirs, self.stdin, self.stdout, self.stderr = _streams(stdin, stdout, stderr)
        order = {
            "arguments": list(args[1:]),
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()),
            "session": start_new_session,
        }
        with _ASKING:
            warm = _warm(kind)
            socket.send_fds(warm, [json.dumps(order).encode()], [told, *theirs])
            self.pid = int(warm.recv(64))
        for fd in (told, *theirs):
            os.close(fd)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            status = os.read(self._ended, 64)
            os.close(self._ended)
            self.returncode = os.waitstatus_to_exitcode(int(status)) if status else -signal.SIGKILL
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        """Read what it writes until it ends; may be called again where time was up."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._readers:
            self._begin(input)
        for reader in self._readers:
            reader.join(None if deadline is None else max(deadline - time.monotonic(), 0))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
        return self._read.get("stdout") or "", self._read.get("stderr") or ""

    def _begin(self, given: str | None) -> None:
        if self.stdin is not None:
            with suppress(BrokenPipeError), self.stdin:
                self.stdin.write(given or "")
        for name, stream in (("stdout", self.stdout), ("stderr", self.stderr)):
            if stream is not None:
                self._readers.append(threading.Thread(target=self._drain, args=(name, stream), daemon=True))
                self._readers[-1].start()

    def _drain(self, name: str, stream: IO[str]) -> None:
        with stream:
            self._read[name] = stream.read()


def _streams(stdin: Any, stdout: Any, stderr: Any) -> tuple[list[int], *tuple[IO[str] | None, ...]]:  # noqa: ANN401
    """Return the three descriptors for the process, and our ends of those that are pipes."""
    theirs: list[int] = []
    ours: list[IO[str] | None] = []
    for number, asked in enumerate((stdin, stdout, stderr)):
        own: IO[str] | None = None
        if asked == subprocess.PIPE:
            read, write = os.pipe()
            kept, handed = (write, read) if number == 0 else (read, write)
            own = os.fdopen(kept, "w" if number == 0 else "r")
        elif asked == subprocess.DEVNULL:
            handed = os.open(os.devnull, os.O_RDWR)
        elif asked == subprocess.STDOUT:
            handed = os.dup(theirs[1])
        else:
            handed = os.dup(number if asked is None else asked if isinstance(asked, int) else asked.fileno())
        theirs.append(handed)
        ours.append(own)
    return theirs, *ours
