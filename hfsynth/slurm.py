"""The same job as a Slurm array: each task runs the same command on a range of shards. Pure text; submits nothing.

Tasks share the corpus folder, and whichever finishes the last shard publishes it. A task that is killed or requeued
goes on where it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from hfsynth.errors import ConfigError

_WITH_VALUE = ("--launcher", "--workers", "--sbatch", "--shard-range")
_WITHOUT_VALUE = ("--submit", "--dry-run")


def array_script(
    arguments: Sequence[str],
    *,
    tasks: int | None,
    rows: int | None,
    shard_rows: int,
    gpus: int,
    lines: Sequence[str] = (),
) -> str:
    """Return a script for sbatch whose `tasks` run `hfsynth` with these arguments, one worker with `gpus` GPUs each.

    Where the number of `rows` is not known, the tasks have no ranges and share the shards out among themselves. Raise
    ConfigError where the number of tasks is not given.
    """
    if not tasks:
        raise ConfigError("A Slurm array needs a number of tasks.", hint="Give it as --workers N.")
    shards = None if rows is None else -(-rows // shard_rows)
    tasks = tasks if shards is None else min(tasks, shards)
    settings = [f"--array=0-{tasks - 1}", "--job-name=hfsynth", *([f"--gpus-per-task={gpus}"] if gpus else []), *lines]
    command = ["hfsynth", *_kept(arguments), "--workers", "1"]
    body = shlex.join(command)
    if shards is None:
        return _script(settings, body)
    each = -(-shards // tasks)
    first = f"first=$((SLURM_ARRAY_TASK_ID * {each}))\n"
    return _script(settings, f'{first}{body} --shard-range "$first:$((first + {each}))"')


def _script(settings: Sequence[str], body: str) -> str:
    header = "".join(f"#SBATCH {setting}\n" for setting in settings)
    return f"#!/bin/bash\n{header}\nset -euo pipefail\n{body}\n"


def _kept(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments that a task is given too."""
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if name in _WITH_VALUE:
            if not equals:
                next(rest, None)
        elif argument not in _WITHOUT_VALUE:
            yield argument
