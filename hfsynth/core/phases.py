"""What this process does before it has anything to count, and since when: loading takes its time, and somebody waits.

One thread goes through phases; others look. Knows nothing of what is done in them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

Phase = tuple[str, float, float]
"""What is done, and from when to when in seconds since the epoch; 0.0 where it is still done."""

_phases: tuple[Phase, ...] = ()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Go through a phase."""
    global _phases
    place, since = len(_phases), time.time()
    _phases = (*_phases, (name, since, 0.0))
    try:
        yield
    finally:
        _phases = (*_phases[:place], (name, since, time.time()), *_phases[place + 1 :])


def phases() -> tuple[Phase, ...]:
    """Return the phases of this process so far, in the order in which they began."""
    return _phases
