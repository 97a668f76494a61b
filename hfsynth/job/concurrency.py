"""What threads and signals need: a bounded queue that ends or fails at both ends, and a stop in good order.

SIGINT, SIGTERM and SIGHUP ask for the end first and insist on it then. Knows nothing of what passes through the queue,
or of what is to be stopped.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Generic, NoReturn, Self, TypeVar

from hfsynth.core.errors import HfsynthError

T = TypeVar("T")
_LOOK_UP = 0.1


class Closed(Exception):
    """Nothing more comes out of this channel, or nothing more is wanted in it."""


class Channel(Generic[T]):
    """Hold at most `size` things between the thread that puts and the one that gets.

    `close` says that nothing more comes: what is in it is still handed out. `abandon` says that nothing more is wanted:
    it is emptied. Either may bring an error, which the thread at the other end then gets.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Wait for room and put `item` in; raise Closed, or the error that came with `abandon`."""
        with self._changed:
            self.wait_below(self._size)
            self._items.append(item)
            self._changed.notify_all()

    def wait_below(self, size: int) -> None:
        """Wait until it holds fewer than `size` things; raise as `put` does."""
        with self._changed:
            while not self._closed and len(self._items) >= size:
                self._changed.wait(_LOOK_UP)
            if self._closed:
                raise self._error or Closed

    def get(self) -> T:
        """Wait for something and take it out; raise Closed at the end, or the error that came with `close`.

        The wait is made of short ones, so that a signal that arrives in the meantime is dealt with.
        """
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait(_LOOK_UP)
            if not self._items:
                raise self._error or Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, because of `error` where there is one."""
        with self._changed:
            self._closed, self._error = True, self._error or error
            self._changed.notify_all()

    def abandon(self, error: BaseException | None = None) -> None:
        """Say that nothing more is wanted, because of `error` where there is one, and drop what is waiting."""
        with self._changed:
            self._items.clear()
        self.close(error)


EVERY = 1.0
"""Seconds between two times that a `Repeating` does what it does."""


class Repeating:
    """Do things every second beside a block of work, each of `loops` in a thread of its own."""

    def __init__(self, **loops: tuple[Callable[[], None], ...]) -> None:
        self._loops = loops
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def check(self) -> None:
        """Raise what went wrong in a thread, if anything has: the thread has ended with it."""
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        for name, steps in self._loops.items():
            title = f"hfsynth-{name.replace('_', '-')}"
            self._threads.append(threading.Thread(target=self._again, args=steps, name=title, daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _again(self, *steps: Callable[[], None]) -> None:
        try:
            while not self._ended.wait(EVERY):
                for step in steps:
                    step()
        except (HfsynthError, OSError) as error:
            self._failure = error


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
