"""Show a count that grows: a spinner on a terminal, a plain line now and then elsewhere.

For work whose end is not known, or is known only by those who count.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from hfsynth.cli import console

_LINE_EVERY = 10.0
_DRAW_EVERY = 0.2


class Count(Protocol):
    """Is told how many there are so far, and of how many where that is known."""

    def __call__(self, number: int, of: int | None = None) -> None: ...


@contextmanager
def counting(what: str, *, quiet: bool) -> Iterator[Count]:
    """Lend a function that is told how many there are so far, and of how many where that is known."""
    if quiet:
        yield lambda number, of=None: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"0 {what}") as status:
            yield _every(_DRAW_EVERY, what, status.update)
    else:
        yield _every(_LINE_EVERY, what, console.say)


def _every(seconds: float, what: str, show: Callable[[str], None]) -> Count:
    shown = time.monotonic()

    def count(number: int, of: int | None = None) -> None:
        nonlocal shown
        if time.monotonic() - shown >= seconds:
            shown = time.monotonic()
            show(f"{number:,} {what}" if of is None else f"{number:,} of {of:,} {what}")

    return count
