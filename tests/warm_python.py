"""A Python that has read large libraries, and forks a process for whatever it is asked to run.

`started.start_process` starts it and speaks to it: most of what a short command costs is reading the same libraries
once more. What runs is a process of its own, with its own environment, streams, signals and end.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

# What reads the environment of a client of the Hub when it is imported is only in the second list.
LIBRARIES = (
    *("pandas", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.csv", "pyarrow.json", "fsspec", "dill", "xxhash"),
    *("multiprocess.pool", "httpx2", "yaml", "tqdm.auto", "typer", "rich.console", "rich.table", "jinja2", "asyncio"),
    *("filelock", "aiohttp", "pydantic"),
)
PROJECT = ("huggingface_hub", "datasets", "hfsynth.cli", "hfsynth.job.run", "hfsynth.publishing.hub")
VLLM = (
    *("vllm", "vllm.entrypoints.llm", "vllm.v1.engine.core", "vllm.v1.worker.cpu_worker"),
    "vllm.model_executor.models.llama",
)
"""What a program reads that loads an engine: fifteen seconds of a processor each time."""

MOST_BYTES = 2**20


class Child:
    """What a forked process has been told to run."""

    def __init__(self, order: dict[str, Any], streams: Sequence[int]) -> None:
        self.order, self.streams = order, streams

    def become(self) -> None:
        """Take on the environment, the streams and the place that were ordered."""
        if self.order["session"]:
            os.setsid()
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
        for stream in self.streams:
            os.close(stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(self.order["env"])
        if self.order["cwd"]:
            os.chdir(self.order["cwd"])

    def run(self, path: Sequence[str]) -> None:
        """Do what `python` does with these arguments."""
        kind, *rest = self.order["arguments"]
        more = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        first = {"-c": "", "-m": os.getcwd()}.get(kind, os.path.dirname(os.path.abspath(kind)))
        sys.path[:] = [first, *filter(None, more), *path]
        if kind == "-m":
            sys.argv[:] = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.argv[:] = ["-c", *rest[1:]]
            main = vars(sys.modules["__main__"])
            kept = {name: main[name] for name in ("__name__", "__builtins__")}
            main.clear()
            main.update(kept)
            exec(compile(rest[0], "<string>", "exec"), main)
        else:
            sys.argv[:] = [kind, *rest]
            runpy.run_path(kind, run_name="__main__")


def serve(control: socket.socket) -> Child:
    """Fork for every order until nobody is there to give one; return in what was forked."""
    waiting, ends = selectors.DefaultSelector(), dict[int, tuple[int, int]]()
    waiting.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fd in ends:
                waiting.unregister(key.fd)
                pid, told = ends.pop(key.fd)
                with suppress(BrokenPipeError):
                    os.write(told, str(os.waitpid(pid, 0)[1]).encode())
                os.close(told)
                os.close(key.fd)
                continue
            message, received, _, _ = socket.recv_fds(control, MOST_BYTES, 4)
            if not message:
                os._exit(0)
            told, *streams = received
            pid = os.fork()
            if not pid:
                waiting.close()
                control.close()
                for fd in (told, *ends, *(told for _, told in ends.values())):
                    os.close(fd)
                return Child(json.loads(message), streams)
            for stream in streams:
                os.close(stream)
            watched = os.pidfd_open(pid)
            ends[watched] = (pid, told)
            waiting.register(watched, selectors.EVENT_READ)
            control.send(str(pid).encode())


def main() -> None:
    """Import the libraries, then serve at the socket that was handed over."""
    control, path = socket.socket(fileno=int(sys.argv[1])), sys.path[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's: whoever started this sees to its end
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "vllm" in sys.argv[2:]:
            read_before_vllm()
        for name in sys.argv[2:]:
            with suppress(ImportError):
                importlib.import_module(name)
        gc.freeze()
        child = serve(control)
    child.become()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    then = leave  # the program takes this module's place
    try:
        child.run(path)
    except SystemExit as end:
        if end.code is not None and type(end.code) is not int:
            raise
        then(end.code or 0)
        raise
    then(0)


def read_before_vllm() -> None:
    """Prepare this process as every way to vLLM does, and let it find where the names of its processes are kept."""
    from hfsynth.engine.start import prepare_process

    prepare_process({})
    with suppress(ImportError):
        import setproctitle

        setproctitle.getproctitle()  # it looks for them where the environment is, which what is forked has replaced


def leave(code: int) -> None:
    """End as Python does, threads and exit functions and all, but for freeing what the libraries hold: that copies it.

    Return where the streams cannot be flushed: Python then ends in its own way.
    """
    import atexit
    import os
    import sys
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


if __name__ == "__main__":
    main()
