"""Workers as processes of this machine, each with GPUs, or else cores, of its own. Knows nothing of what they do.

A worker is started, not forked: neither threads nor CUDA survive a fork. It leads a process group, so that what it has
started ends with it, and watches its standard input: when that ends its parent is gone, and it goes too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hfsynth.config import EngineConfig
from hfsynth.devices import core_groups, device_groups, usable_cores, visible_devices
from hfsynth.job_spec import JobSpec
from hfsynth.launch import End

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from hfsynth.parent_watch import ParentWatch; watch = ParentWatch(); "
    "from hfsynth.worker_process import main; sys.exit(main(watch))"
)
_STDERR = 2
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}


class LocalCrew:
    """`workers` processes of this machine with `tensor_parallel` GPUs each; without a number, one a group of GPUs.

    `devices` are the GPUs to deal out, those that are visible where it is not given. Raise ConfigError where there are
    too few. Without GPUs the cores are dealt out: engines whose threads wait for each other on the same ones crawl.
    """

    def __init__(
        self, workers: int | None = None, *, tensor_parallel: int = 1, devices: Sequence[str] | None = None
    ) -> None:
        self._tensor_parallel = tensor_parallel
        self._groups = device_groups(visible_devices() if devices is None else devices, workers, tensor_parallel)
        self._cores = [()] * self.size if self._groups[0] else core_groups(usable_cores(), self.size)

    @property
    def size(self) -> int:
        """Return how many workers are wanted."""
        return len(self._groups)

    @property
    def on_gpu(self) -> None:
        """Return None: its workers have what this machine has."""

    def start(self, spec: JobSpec, place: int, worker: str) -> LocalMember:
        """Start a worker's process on the GPUs or the cores of its place."""
        engine = with_tensor_parallel(spec.engine, self._tensor_parallel)
        return LocalMember(replace(spec, engine=engine), worker, self._groups[place], self._cores[place])

    def close(self) -> None:
        """Do nothing: the crew holds nothing beside its members."""


def with_tensor_parallel(engine: EngineConfig, gpus: int) -> EngineConfig:
    """Return `engine` told to spread its model over so many GPUs."""
    if gpus == 1:
        return engine
    arguments = {**engine.arguments, "tensor_parallel_size": gpus}
    return EngineConfig.create(engine.kind, arguments, engine.trust_remote_code)


class LocalMember:
    """A worker's process. Where no `cores` are given it may run on all."""

    def __init__(self, spec: JobSpec, worker: str, devices: Sequence[str], cores: Sequence[int] = ()) -> None:
        self.worker = worker
        self._oom_kills = _oom_kills()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=_STDERR,  # standard output is for the job's result
            env={**os.environ, **({"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {})},
            start_new_session=True,
        )
        if cores:
            with suppress(OSError):  # it died already: `ended` tells
                os.sched_setaffinity(self._process.pid, cores)
        order = json.dumps({"worker": worker, "spec": spec.to_dict()})
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it died already: `ended` tells
                self._process.stdin.write(order.encode("ascii") + b"\n")
                self._process.stdin.flush()

    def ended(self) -> End | None:
        """Return how the process ended, None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return End(f"ended with exit code {code}")
        number = signal.Signals(-code)
        if number == signal.SIGKILL:
            out_of_memory = _oom_kills() > self._oom_kills
            return End("was killed for want of memory" if out_of_memory else "was killed", out_of_memory or None)
        return End(f"was ended by {number.name}", number in _CRASHES)

    def stop(self, signal: int) -> None:
        """Pass a signal on to the process."""
        self._process.send_signal(signal)

    def kill(self) -> None:
        """End the process and everything it has started; wait until it is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()


def _oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory so far, here and in this container."""
    counters = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))
    lines = [line for path in counters if path.exists() for line in path.read_text("ascii").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
