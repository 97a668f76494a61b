"""The same job as a Slurm array: each task runs the same command on a range of shards. Pure text; submits nothing.

Tasks share the corpus folder, and whichever finishes the last shard publishes it. A task that is killed or requeued
goes on where it was; before its time is up Slurm asks it to stop, which leaves nothing that is in flight to be lost.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from hfsynth.core.errors import ConfigError

_WITH_VALUE = ("--launcher", "--workers", "--sbatch", "--shard-range")
_NOTICE = 60  # seconds before a task is ended that it is told so: more than the usual --grace
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
    settings = [
        f"--array=0-{tasks - 1}",
        "--job-name=hfsynth",
        *([f"--gpus-per-task={gpus}"] if gpus else []),
        "--requeue",
        f"--signal=B:TERM@{_NOTICE}",
        *map(_quoted, lines),  # of two lines for one setting the last counts
    ]
    command = ["hfsynth", *_kept(arguments), "--workers", "1"]
    body = f"exec {shlex.join(command)}"  # Slurm's signal reaches this process alone
    if shards is None:
        return _script(settings, body)
    first = f"first=$((SLURM_ARRAY_TASK_ID * {shards} / {tasks}))\n"
    last = f"last=$(((SLURM_ARRAY_TASK_ID + 1) * {shards} / {tasks}))\n"
    return _script(settings, f'{first}{last}{body} --shard-range "$first:$last"')


def _quoted(line: str) -> str:
    """Return a setting as sbatch reads it: a value with spaces in quotes."""
    name, equals, value = line.partition("=")
    return f'{name}="{value}"' if equals and " " in value and value[0] not in "\"'" else line


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
