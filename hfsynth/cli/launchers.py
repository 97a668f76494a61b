"""What the command line says about who does the work: processes, Ray, schedulers, ranges of shards, signals."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hfsynth.cli import console
from hfsynth.core.config import EngineConfig
from hfsynth.core.errors import ConfigError

if TYPE_CHECKING:
    from hfsynth.job.launcher import Launcher
    from hfsynth.job.run import JobResult


PRINTED = ("slurm", "kubernetes", "skypilot")
LAUNCHERS = ("local", "ray", "hf-jobs", *PRINTED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options that say who works. `workers` is None for the launcher's own choice."""

    launcher: str
    workers: int | None
    tensor_parallel: int
    address: str | None
    gpus_per_worker: float | None
    engine: str

    def __post_init__(self) -> None:
        if self.launcher not in LAUNCHERS:
            raise ConfigError(f"launcher must be one of {', '.join(LAUNCHERS)}, not {self.launcher!r}.")


def launcher_for(wanted: Wanted) -> Launcher | None:
    """Return the launcher that was asked for; None for this process itself."""
    if wanted.launcher == "ray":
        from hfsynth.job.ray_launcher import RayLauncher

        gpus = wanted.tensor_parallel if wanted.gpus_per_worker is None else wanted.gpus_per_worker
        return RayLauncher(
            wanted.workers,
            address=wanted.address,
            gpus_per_worker=gpus if wanted.engine == "vllm" or wanted.gpus_per_worker else 0,
            tensor_parallel=wanted.tensor_parallel,
        )
    if wanted.workers == 0:
        return None
    from hfsynth.core.devices import visible_devices
    from hfsynth.job.launcher import LocalLauncher

    devices = visible_devices() if wanted.engine == "vllm" else []
    return LocalLauncher(wanted.workers, tensor_parallel=wanted.tensor_parallel, devices=devices)


def engine_of(told: EngineConfig, kind: str | None, arguments: Mapping[str, Any], trust: bool) -> EngineConfig:
    """Return the engine that a folder tells of, with what the command line says in the place of what is there."""
    same = kind is None or kind == told.kind
    return EngineConfig(kind or told.kind, {**(told.arguments if same else {}), **arguments}, trust)


def tell(result: JobResult, *, as_json: bool) -> None:
    """Print what a call has left."""
    from hfsynth.job.progress import describe, inspect

    if as_json:
        told = {"out": result.out, "worked": result.worked, "finished": result.finished, "stats": result.stats}
        console.emit_json(told)
    elif not result.finished and not result.worked:
        console.emit(f"{result.out} describes the job. Work at it, on any machine that reaches it:")
        console.emit(f"hfsynth work {shlex.quote(result.out)}")
    else:
        first = "" if result.worked else "This job was finished before; nothing was left to do.\n"
        console.emit(first + describe(inspect(result.root)))


@dataclass(frozen=True, slots=True)
class Printed:
    """The options of launchers that print a file."""

    out: Path
    grace: float
    sbatch: Sequence[str] = ()
    submit: bool = False
    image: str | None = None
    claim: str | None = None
    accelerators: str | None = None


def print_file(wanted: Wanted, printed: Printed, shards: Callable[[], int | None]) -> None:
    """Print the file by which a scheduler does what this command line says, or hand it to sbatch.

    `shards` finds out how many there are, and what is wrong. Slurm's machines share the folder with this one; the other
    schedulers' need not, and what is wrong is seen there.
    """
    from hfsynth.job.kubernetes import indexed_job
    from hfsynth.job.skypilot import managed_job
    from hfsynth.job.slurm import array_script

    own, number, out = sys.argv[1:], wanted.workers, str(printed.out)
    gpus = wanted.tensor_parallel if wanted.engine == "vllm" else 0
    if printed.submit and wanted.launcher != "slurm":
        raise ConfigError("--submit hands a script to sbatch.", hint=f"Print the file of {wanted.launcher} instead.")
    if wanted.launcher == "kubernetes":
        image, claim = printed.image, printed.claim
        made = indexed_job(own, out=out, pods=number, image=image, claim=claim, gpus=gpus, grace=printed.grace)
    elif wanted.launcher == "skypilot":
        kind, volume = printed.accelerators, printed.claim
        made = managed_job(own, out=out, jobs=number, volume=volume, accelerators=kind, image=printed.image, gpus=gpus)
    else:
        lines = printed.sbatch
        made = array_script(own, tasks=number, shards=shards(), gpus=gpus, grace=printed.grace, lines=lines)
    if printed.submit:
        _submit(made)
    else:
        console.emit(made.rstrip())


def shards_of(plan: Mapping[str, Any]) -> int | None:
    """Return how many shards a plan comes to, None where nobody knows."""
    return None if plan["rows"] is None else -(-plan["rows"] // plan["shard_rows"])


def _submit(script: str) -> None:
    try:
        done = subprocess.run(["sbatch"], input=script, text=True, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ConfigError("There is no sbatch here.", hint="Leave --submit out and submit the script there.") from error
    if done.returncode:
        raise ConfigError(f"sbatch refused the job: {done.stderr.strip()}", hint="Add what it wants with --sbatch.")
    console.emit(done.stdout.rstrip())


def shard_range(text: str | None) -> tuple[int, int | None]:
    """Read a range of shards, A:B, of which either end may be left out."""
    first, colon, last = (text or ":").partition(":")
    try:
        found = int(first or 0), int(last) if last else None
    except ValueError as error:
        raise ConfigError(f"A range of shards is written A:B, not {text!r}.") from error
    if not colon or found[0] < 0 or (found[1] is not None and found[1] <= found[0]):
        raise ConfigError(f"A range of shards goes from A to a larger B, written A:B, not {text!r}.")
    return found


@contextmanager
def interruptible() -> Iterator[None]:
    """Say what to do next when a signal has ended the work, and leave with its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:
        code = int(end.code or 0)
    else:
        return
    console.say("Stopped. What is done is kept: the same command goes on.")
    raise typer.Exit(code)
