"""What must hold in a process before vLLM is imported there, and what must not have happened.

vLLM forks the process that computes, where it may. CUDA does not survive a fork: not once it is in use in a process,
and not once torch has asked it how many GPUs there are. So nothing here, and nothing before an engine starts, asks
torch about GPUs; `devices` asks the driver instead, and torch is told to do the same. Every way to an engine comes
through `prepare_process`, before anything that may load torch. `docs/gpu.md` says it to users.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import multiprocess

from hfsynth.core.devices import claim_device, gpus_at_hand
from hfsynth.core.errors import ConfigError
from hfsynth.core.private_names import forked_after_cuda, place_in_pool, reimports_a_script
from hfsynth.models.cache import cache_folder
from hfsynth.models.siblings import hide_unfit_siblings

MULTIPROCESSING = "VLLM_ENABLE_V1_MULTIPROCESSING"
START_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
_ENVIRONMENT = {
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # torch then counts GPUs without taking hold of CUDA
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "4",
    # OpenMP's threads meet after every product of matrices. By default whoever is there first spins; where other work
    # wants the cores that keeps the last one from running, and a product takes seven times as long. So they
    # spin for a short while and then sleep. It is read when the library is loaded: with torch.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
    # N-gram look-up runs in numba, whose OpenMP layer changes how many threads torch uses from then on: on a core
    # of its own, everything after it took five times as long.
    "NUMBA_THREADING_LAYER": "workqueue",
}
_SPREAD = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
_SHIELDED = frozenset({signal.SIGINT, signal.SIGHUP})


def prepare_process(arguments: Mapping[str, Any]) -> None:
    """Make this process fit to load vLLM with the engine's `arguments`; what the user has set stays. May be repeated.

    A worker process of `map(num_proc=…)` gets a GPU of its own. Raise ConfigError where an engine could not start:
    more workers than GPUs, one engine over several GPUs in a worker, a worker whose parent has used CUDA, and a script
    without a guard that vLLM's new process runs again.
    """
    for name, value in {**_ENVIRONMENT, "NUMBA_CACHE_DIR": str(cache_folder() / "numba")}.items():
        os.environ.setdefault(name, value)
    hide_unfit_siblings()
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # it warns before it has read the variable
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # a CPU has no use for what it misses
    if reimports_a_script():
        raise ConfigError(
            "The engine's own process is running your script again, for it starts by importing it.",
            hint="Put what the script does under `if __name__ == '__main__':`.",
        )
    if in_map_worker():
        # It may have no children, and would leave them behind as orphans.
        os.environ[MULTIPROCESSING] = "0"
        _prepare_map_worker(arguments)


@contextmanager
def collecting_nothing() -> Iterator[None]:
    """Let Python look for no garbage meanwhile.

    What an import makes stays. While vLLM's hundreds of thousands of objects come to be, looking at them again and
    again took a seventh of its time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def in_map_worker() -> bool:
    """Return whether this is a worker process of `map(num_proc=…)`, or of another pool."""
    return bool(multiprocess.current_process().daemon or multiprocessing.current_process().daemon)


def _prepare_map_worker(arguments: Mapping[str, Any]) -> None:
    spread = next((name for name in _SPREAD if (arguments.get(name) or 1) > 1), None)
    if spread is not None:
        raise ConfigError(
            f"A worker of map(num_proc=…) may start no processes, so {spread} cannot be {arguments[spread]} there.",
            hint="Leave num_proc out; or run hfsynth synthesize with --workers and --tensor-parallel.",
        )
    devices = gpus_at_hand()
    if not devices:
        return
    _require_unused_cuda()
    device = claim_device(devices, place_in_pool(), os.getppid())
    if device is None:
        raise ConfigError(
            f"There are more processes than GPUs: num_proc may be {len(devices)} at most.",
            hint="Use a smaller num_proc: each process has an engine, and a GPU, of its own.",
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = device


def _require_unused_cuda() -> None:
    """Refuse a worker that was forked from a process in which CUDA was in use."""
    if forked_after_cuda():
        raise ConfigError(
            "CUDA is in use in the process that called map(num_proc=…), so its workers cannot use it.",
            hint='Leave num_proc out; or call multiprocess.set_start_method("spawn") first; or start anew and keep '
            "models of torch out of this process.",
        )


def settle_multiprocessing(on_cpu: bool) -> None:
    """Keep the engine in this process on a CPU: one of its own costs 40 s of start-up and brings nothing there."""
    if on_cpu:
        os.environ.setdefault(MULTIPROCESSING, "0")


def guard_advice() -> str:
    """Return what to do where vLLM had to start its process anew from a script, nothing where it had not."""
    spawned = os.environ.get(MULTIPROCESSING) != "0" and os.environ.get(START_METHOD) == "spawn"
    is_script = hasattr(sys.modules.get("__main__"), "__file__")
    guard = "If this is a script, put what it does under `if __name__ == '__main__':`; see docs/gpu.md."
    return guard if spawned and is_script else ""


@contextmanager
def shielding_children() -> Iterator[None]:
    """Keep the keyboard's interrupt, and a terminal that is closed, from the processes that are started meanwhile.

    They reach a whole process group. An engine in a process of its own would give up what is in flight, where this
    process means to let it end. Signals are blocked in this thread alone, for children to inherit; another thread takes
    them, so that this process goes on to hear them.
    """
    resource_tracker.ensure_running()  # it would unblock them when it is started
    done = threading.Event()
    listener = threading.Thread(target=done.wait, name="hfsynth-signals", daemon=True)
    listener.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SHIELDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        done.set()
