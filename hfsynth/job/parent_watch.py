"""End a child process with the one that ordered it, from its first moment on: before anything large is imported.

The order comes as a line on standard input; when standard input ends, whoever gave the order is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_STDIN = 0


class ParentWatch:
    """Read the order, then wait for the parent's end in a thread. `before_end` is done first, where it is set."""

    def __init__(self) -> None:
        self.order = _read_order()
        self.before_end: Callable[[], None] = lambda: None
        threading.Thread(target=self._wait, name="hfsynth-parent", daemon=True).start()

    def _wait(self) -> None:
        while os.read(_STDIN, 2**10):
            pass
        try:
            self.before_end()
        finally:  # end this process and those it has started
            if os.getpgrp() == os.getpid():
                os.killpg(os.getpgrp(), signal.SIGKILL)
            os._exit(1)


def _read_order() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(_STDIN, 2**16)
        if not part:
            sys.exit(1)  # whoever was to give an order is gone
        line += part
    order: dict[str, Any] = json.loads(line)
    return order
