"""Where the log goes: a file of each worker, and nothing on the terminal. Standard `logging` under the name `hfsynth`.

`HFSYNTH_LOG` names the level (`debug`, `info`, `warning`, `error`; by default `info`). Secrets are taken out of every
line. A log that cannot be written holds no work up.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hfsynth.core.errors import ConfigError

VARIABLE = "HFSYNTH_LOG"
LEVELS = ("debug", "info", "warning", "error")

_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SECRET = re.compile(r"\b(?:hf_|sk-|api_org_)[\w-]{8,}|(?<=Bearer )\S+|(?<=://)[^/\s@]+(?=@)")


class _Secretless(logging.Formatter):
    """One line an event, without the secrets in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return _SECRET.sub("[secret]", super().format(record)).replace("\n", " ")


class _Unobtrusive(logging.FileHandler):
    """A file that says nothing on the terminal where it cannot be written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if that can be done."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: the work goes on without its log."""


def log_level() -> int:
    """Return the level that the environment names; raise ConfigError for one that does not exist."""
    name = os.environ.get(VARIABLE, "").lower() or "info"
    if name not in LEVELS:
        raise ConfigError(f"{VARIABLE} is one of {', '.join(LEVELS)}, not {name!r}.")
    return logging.getLevelNamesMapping()[name.upper()]


@contextmanager
def logging_into(file: Path) -> Iterator[None]:
    """Append what hfsynth logs to a file meanwhile."""
    level, logger = log_level(), logging.getLogger("hfsynth")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
    handler = _Unobtrusive(file, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setLevel(level)
    handler.setFormatter(_Secretless(_FORM))
    before = logger.level
    logger.setLevel(min(level, logger.getEffectiveLevel()))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()
