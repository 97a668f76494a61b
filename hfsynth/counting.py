"""Show a count that grows, for work whose end is not known: a spinner on a terminal, a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hfsynth import console

_LINE_EVERY = 10.0
_DRAW_EVERY = 0.2


@contextmanager
def counting(what: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Lend a function that is told how many there are so far."""
    if quiet:
        yield lambda number: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"0 {what}") as status:
            yield _every(_DRAW_EVERY, lambda number: status.update(f"{number:,} {what}"))
    else:
        yield _every(_LINE_EVERY, lambda number: console.say(f"{number:,} {what}"))


def _every(seconds: float, show: Callable[[int], None]) -> Callable[[int], None]:
    shown = time.monotonic()

    def count(number: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= seconds:
            shown = time.monotonic()
            show(number)

    return count
