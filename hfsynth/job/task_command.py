"""The command of one of a scheduler's tasks: the command line that asks for them, without what says who works.

Each task has one worker, and finds its share in what the scheduler says. Pure text; starts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from hfsynth.core.errors import ConfigError

_WITH_VALUE = ("--launcher", "--workers", "--share", "--sbatch", "--image", "--claim", "--accelerators")
_WITHOUT_VALUE = ("--submit", "--dry-run", "--describe")
_NO_NAME = re.compile(r"[^a-z0-9]+")


def task_command(arguments: Sequence[str]) -> list[str]:
    """Return what each task runs, given the arguments of the command that asks for them."""
    return ["hfsynth", *_kept(arguments), "--workers", "1"]


def task_number(workers: int | None, what: str) -> int:
    """Return how many tasks are wanted; raise ConfigError where that is not said. `what` names them."""
    if not workers:
        raise ConfigError(f"{what} needs a number of tasks.", hint="Give it as --workers N.")
    return workers


def job_name(out: str) -> str:
    """Return a name for the job that fills a folder: letters, digits and hyphens, few enough for any scheduler."""
    name = _NO_NAME.sub("-", PurePosixPath(out).name.lower()).strip("-")[:32].strip("-")
    return f"hfsynth-{name}" if name else "hfsynth"


def shared_folder(out: str) -> str:
    """Return where tasks mount the folder that they share: the parent of the corpus folder's absolute path.

    Raise ConfigError where there is none.
    """
    path = PurePosixPath(out)
    if not path.is_absolute() or len(path.parts) < 3 or ".." in path.parts:
        raise ConfigError(
            f"The volume is mounted at the parent of OUT, and {out} says of none where it is.",
            hint="Give OUT as the tasks see it, in a folder of its own: /data/corpus.",
        )
    return str(path.parent)


def required(value: str | None, option: str, what: str, example: str) -> str:
    """Return a value that must be given; raise ConfigError, with an example, where it was not."""
    if not value:
        raise ConfigError(f"{what} is not named.", hint=f"Name it: {option} {example}")
    return value


def _kept(arguments: Sequence[str]) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if name in _WITH_VALUE:
            if not equals:
                next(rest, None)
        elif argument not in _WITHOUT_VALUE:
            yield argument
