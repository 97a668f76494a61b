"""Workers on the nodes of a Ray cluster that share the job's place. The only module that imports Ray.

An actor is a shell around the same worker process that `LocalLauncher` starts: the process ends with its actor, and
tells the actor how it ended. Before it starts one it looks whether the place is the driver's: a node with another
folder of that name would work for nobody, and one that cannot reach the store not at all. Knows nothing of what a
worker does.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

from hfsynth.core.errors import ConfigError, HfsynthError, OutputError
from hfsynth.core.files import temporary
from hfsynth.core.processes import mark
from hfsynth.core.stores import is_store, open_store
from hfsynth.corpus.folder import JOURNAL
from hfsynth.job import store_keys
from hfsynth.job.launcher import End, LocalWorkerHandle, with_tensor_parallel
from hfsynth.job.spec import JobSpec

try:
    import ray
    from ray.exceptions import RayActorError, RayError
except ImportError as error:
    raise ConfigError(f"Ray cannot be imported: {error}.", hint='pip install "hfsynth[ray]"') from error

_KILL_PATIENCE = 10.0
_KNOCK_PATIENCE = 10.0
_SIGHT_PATIENCE = 5.0
_LOOK_AGAIN = 0.2


class RayLauncher:
    """`workers` actors with `gpus_per_worker` GPUs each; without a number, as many as the cluster has GPUs for.

    `address` is that of a running cluster; without one Ray finds one, or starts one on this machine. Raise ConfigError
    where the cluster cannot be reached or has too few GPUs.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        gpus_per_worker: float = 1,
        tensor_parallel: int = 1,
    ) -> None:
        self._tensor_parallel = tensor_parallel
        self._signed: tuple[str, str] | None = None
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(address)
        resources = cast("Callable[[], dict[str, float]]", ray.cluster_resources)  # Ray has no annotations here
        gpus = resources().get("GPU", 0.0)
        self.size = workers or (int(gpus / gpus_per_worker) if gpus_per_worker else 1)
        if self.size * gpus_per_worker > gpus or not self.size:
            self.close()
            raise ConfigError(
                f"{max(self.size, 1)} worker(s) with {gpus_per_worker:g} GPU(s) each are too many: the cluster has "
                f"{gpus:g} GPU(s).",
                hint="Use fewer --workers or another --gpus-per-worker.",
            )
        self.on_gpu = gpus_per_worker > 0
        self._shell = ray.remote(_Shell).options(
            num_gpus=gpus_per_worker,
            num_cpus=1,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
        )

    def start(self, spec: JobSpec, place: int, worker: str) -> RayWorkerHandle:
        """Start an actor wherever the cluster has room, now or later."""
        self._signed = self._signed or (spec.out, signed(spec.out))
        engine = with_tensor_parallel(spec.engine, self._tensor_parallel)
        actor = self._shell.remote(replace(spec, engine=engine).to_dict(), worker, self._signed[1])
        return RayWorkerHandle(actor, worker, spec.out)

    def close(self) -> None:
        """Leave the cluster, where this launcher has joined it, and nothing in the job's place."""
        if self._signed is not None:
            with suppress(OutputError):
                open_store(self._signed[0]).delete([self._signed[1]])
        if self._is_ours:
            ray.shutdown()


def signed(out: str) -> str:
    """Put a file in a job's place that has a name nobody has had, for others to see that they share it; return it."""
    name = f"shared.{token_hex(8)}"
    in_folder = temporary(Path(JOURNAL, name), writer=mark()).as_posix()  # what a killed driver leaves is swept away
    sign = store_keys.PROBE + name if is_store(out) else in_folder
    open_store(out).put(sign, b"")
    return sign


def unseen(out: str, sign: str, patience: float = _SIGHT_PATIENCE) -> str | None:
    """Return why a sign is not seen here, None where it is; file systems of several machines may need a moment."""
    deadline = time.monotonic() + patience
    try:
        store = open_store(out)
        while store.version(sign) is None:
            if time.monotonic() > deadline:
                return "it is another place than here"
            time.sleep(_LOOK_AGAIN)
    except HfsynthError as error:
        return str(error)
    return None


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RayError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"The Ray cluster cannot be reached: {reason}", hint="Check --address.") from error


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens at a plain HOST:PORT: Ray itself takes minutes to find out."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_KNOCK_PATIENCE).close()


class _Shell:
    """The actor: a worker's process, and what there is to know of it. Ray has chosen its GPUs in the environment.

    It starts none where it does not see the driver's `sign`.
    """

    def __init__(self, spec: dict[str, Any], worker: str, sign: str) -> None:
        own = JobSpec.from_dict(spec)
        self._unseen = unseen(own.out, sign)
        self._handle = LocalWorkerHandle(own, worker, ()) if self._unseen is None else None

    def ended(self) -> End | tuple[str, str] | None:
        """Return how the process ended, None while it runs; where there can be none, the node's name and why."""
        return (socket.gethostname(), self._unseen or "") if self._handle is None else self._handle.ended()

    def stop(self, signal: int) -> None:
        if self._handle is not None:
            self._handle.stop(signal)

    def kill(self) -> None:
        if self._handle is not None:
            self._handle.kill()


class RayWorkerHandle:
    """A worker in an actor, seen from the driver."""

    def __init__(self, actor: Any, worker: str, out: str) -> None:  # noqa: ANN401
        self.worker = worker
        self._actor = actor
        self._out = out
        self._answer = actor.ended.remote()
        self._end: End | None = None

    def ended(self) -> End | None:
        """Return how the worker ended, None while it runs or waits for its place; a lost actor has ended too.

        Raise OutputError where the actor's node does not share the job's place.
        """
        if self._end is None and ray.wait([self._answer], timeout=0)[0]:
            try:
                found = ray.get(self._answer)
                self._answer = self._actor.ended.remote()
            except RayActorError:
                found = End("was lost with its node", None)
            if isinstance(found, tuple):
                raise _not_shared(self._out, *found)
            self._end = found
        return self._end

    def stop(self, signal: int) -> None:
        """Pass a signal on to the worker's process."""
        self._actor.stop.remote(signal)

    def kill(self) -> None:
        """End the worker's process and its actor."""
        with suppress(RayError):
            ray.get(self._actor.kill.remote(), timeout=_KILL_PATIENCE)
        ray.kill(self._actor)


def _not_shared(out: str, node: str, why: str) -> OutputError:
    if is_store(out):
        hint = "Start Ray on every node with the variables that reach the store from here."
    else:
        hint = "Give a folder on a file system that all nodes have at the same place, such as NFS, or an object store."
    return OutputError(f"{out} cannot be worked on from the node {node} of the Ray cluster: {why}", hint=hint)
