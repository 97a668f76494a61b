"""What the command line shows: progress of long work, results, errors. Progress goes to standard error.

There is one display of progress for every command. Knows nothing of jobs beyond the numbers they report.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from hfsynth.core.errors import HfsynthError

_LINE_EVERY = 10.0
_DRAW_EVERY = 0.2


class Figures(Protocol):
    """What a running job reports."""

    @property
    def rows(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def documents_seen(self) -> int: ...
    @property
    def pairs_seen(self) -> int: ...
    @property
    def tokens_written(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def workers(self) -> int: ...
    @property
    def phase(self) -> str: ...
    @property
    def phase_seconds(self) -> float: ...
    @property
    def seconds_left(self) -> float | None: ...


class Display(Protocol):
    """Is told how much is done, of how much where that is known, and both in words."""

    def __call__(self, done: int, total: int | None, words: str) -> None: ...


class Count(Protocol):
    """Is told how many there are so far, and of how many where that is known."""

    def __call__(self, number: int, of: int | None = None) -> None: ...


def say(text: str) -> None:
    """Write a line for people, to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def emit(text: str) -> None:
    """Write a result, to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def emit_json(values: Mapping[str, Any]) -> None:
    """Write a result for scripts, to standard output."""
    emit(json.dumps(values, indent=2, ensure_ascii=False))


def show_error(error: HfsynthError) -> None:
    """Say what went wrong and what to do next."""
    say(f"Error: {error.message}")
    if error.hint:
        say(error.hint)


@contextmanager
def progress(*, quiet: bool, estimate: bool = False) -> Iterator[Display]:
    """Lend a display: a bar on a terminal, a line every ten seconds and a last one elsewhere, nothing when quiet.

    With `estimate` the bar says how long the rest will take, for work whose words do not.
    """
    if quiet:
        yield lambda done, total, words: None
    elif sys.stderr.isatty():
        with _bar(estimate) as display:
            yield display
    else:
        lines = _Lines()
        yield lines
        lines.last()


@contextmanager
def counting(what: str, *, quiet: bool) -> Iterator[Count]:
    """Lend a display of a count that grows: how many of `what` there are."""
    with progress(quiet=quiet) as show:
        yield lambda number, of=None: show(number, of, f"{number:,}{'' if of is None else f' of {of:,}'} {what}")


@contextmanager
def job_progress(*, quiet: bool) -> Iterator[Callable[[Figures], None]]:
    """Lend a display of what a running job reports."""
    with progress(quiet=quiet) as show:
        yield lambda figures: show(figures.rows, figures.total, summary(figures))


def summary(figures: Figures) -> str:
    """Return one line: documents, pairs, tokens, time left; before there are any, what is done and for how long."""
    phase = f"{figures.phase}: {figures.phase_seconds:.0f} s" if figures.phase else ""
    if phase and not figures.rows:
        return phase
    speed = figures.tokens_written / figures.seconds if figures.seconds > 0 else 0.0
    parts = [
        f"{figures.rows:,}{'' if figures.total is None else f' of {figures.total:,}'} rows",
        f"{figures.documents_seen:,} documents",
        f"{figures.pairs_seen:,} pairs",
        f"{figures.tokens_written:,} tokens ({speed:,.0f}/s)",
    ]
    if phase:
        return ", ".join([*parts, phase])
    if figures.workers > 1:
        parts.append(f"{figures.workers} workers")
    left = figures.seconds_left
    return ", ".join(parts if left is None else [*parts, f"{_clock(left)} left"])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Lines:
    """A plain line now and then."""

    def __init__(self) -> None:
        self._said = time.monotonic()
        self._unsaid = ""

    def __call__(self, done: int, total: int | None, words: str) -> None:
        self._unsaid = words
        if time.monotonic() - self._said >= _LINE_EVERY:
            self.last()

    def last(self) -> None:
        """Say the newest words if they have not been said."""
        if self._unsaid:
            say(self._unsaid)
            self._said, self._unsaid = time.monotonic(), ""


@contextmanager
def _bar(estimate: bool) -> Iterator[Display]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    words = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), BarColumn(bar_width=24), words, *([TimeRemainingColumn()] if estimate else []))
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task("starting", total=None)
        newest: tuple[int, int | None, str] | None = None
        drawn = 0.0

        def draw() -> None:
            if newest is not None:
                bar.update(task, total=newest[1], completed=newest[0], description=newest[2])

        def display(done: int, total: int | None, words: str) -> None:
            nonlocal newest, drawn
            newest = (done, total, words)
            if time.monotonic() - drawn >= _DRAW_EVERY:
                drawn = time.monotonic()
                draw()

        yield display
        draw()
