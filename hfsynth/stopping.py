"""Stop on SIGINT, SIGTERM and SIGHUP: first in good order, then at once. Knows nothing of what is to be stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether the work is to end. `signal` is what asked for it, None where nothing has."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether nothing new should be begun."""
        return self.signal is not None

    def request(self, number: int = signal.SIGTERM) -> None:
        """Ask for the end, in good order."""
        self.signal = self.signal or number

    def leave(self) -> NoReturn:
        """Raise what ends the process with the code that its signal stands for: 130, 143 or 129."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.signal or signal.SIGTERM))


@contextmanager
def stopping(grace: float) -> Iterator[Stop]:
    """Lend a Stop that signals ask. A second signal, or `grace` seconds later, raises `Stop.leave`'s error.

    Where a closed terminal is to be outlived (`nohup`), SIGHUP stays ignored. Signals reach the main thread alone; in
    any other the Stop is lent and left to whoever calls `request`.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def first_or_second(number: int, frame: FrameType | None) -> None:
        if stop.requested or grace <= 0:
            stop.request(number)
            stop.leave()
        stop.request(number)
        signal.setitimer(signal.ITIMER_REAL, grace)

    def too_late(number: int, frame: FrameType | None) -> None:
        stop.leave()

    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP]
    before = {number: signal.signal(number, first_or_second) for number in heard}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, too_late)
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
