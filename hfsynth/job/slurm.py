"""The same job as a Slurm array: each task runs the same command and begins with its share. Pure text; submits nothing.

Tasks share the corpus folder, and whichever sees the last shard finished publishes it. A task whose time is nearly up
is told so: what is in flight ends, and it is queued again to go on where it was, as Slurm itself does for a node that
fails.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from hfsynth.job.task_command import task_command, task_number

_NOTICE = 120
_ROOM = 90  # seconds beyond the grace, within which a task's command ends and Slurm hears of it

_BODY = """\
set -uo pipefail

# Before the time is up Slurm sends USR1: what is in flight ends, and the task is queued again to go on.
work=
interrupted=
time_is_up=
trap 'interrupted=yes; time_is_up=yes; kill -TERM "$work"' USR1
trap 'interrupted=yes; kill -TERM "$work"' TERM

{command} &
work=$!
code=0
wait "$work" || code=$?
while [[ $interrupted ]]; do # a signal has ended the waiting, not the work
  interrupted=
  code=0
  wait "$work" || code=$?
done
if [[ $time_is_up && $code -eq 143 ]]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""


def array_script(
    arguments: Sequence[str],
    *,
    tasks: int | None,
    shards: int | None,
    gpus: int,
    grace: float = 30.0,
    lines: Sequence[str] = (),
) -> str:
    """Return a script for sbatch whose `tasks` run `hfsynth` with these arguments, one worker with `gpus` GPUs each.

    There are no more tasks than `shards`, where their number is known. `lines` are further settings. Raise ConfigError
    where the number of tasks is not given.
    """
    number = task_number(tasks, "A Slurm array")
    number = number if shards is None else max(1, min(number, shards))
    settings = [
        f"--array=0-{number - 1}",
        "--job-name=hfsynth",
        *([f"--gpus-per-task={gpus}"] if gpus else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR1@{max(_NOTICE, math.ceil(grace + _ROOM))}",
        *map(_quoted, lines),  # of two lines for one setting the last counts
    ]
    header = "".join(f"#SBATCH {setting}\n" for setting in settings)
    return f"#!/bin/bash\n{header}\n{_BODY.format(command=shlex.join(task_command(arguments)))}"


def _quoted(line: str) -> str:
    """Return a setting as sbatch reads it: a value with spaces in quotes."""
    name, equals, value = line.partition("=")
    return f'{name}="{value}"' if equals and " " in value and value[0] not in "\"'" else line
