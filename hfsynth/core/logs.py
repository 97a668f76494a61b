"""Where the log goes: a file of each worker and of a folder's pushes, and the terminal where it is asked for (`-v`).

Standard `logging` under the name `hfsynth`, one line an event. `HFSYNTH_LOG` names the level of the files (`debug`,
`info`, `warning`, `error`; by default `info`). Secrets are taken out of every line, and no document's text is in one
above `debug`. A log that cannot be written holds no work up.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hfsynth.core.errors import ConfigError

VARIABLE = "HFSYNTH_LOG"
LEVELS = ("debug", "info", "warning", "error")

_TERMINAL = "HFSYNTH_TERMINAL_LOG"  # how a process that was started learns that its log is shown
_QUOTE = 16  # characters in a row that a reason and a document share only where the one quotes the other
_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SECRET = re.compile(r"\b(?:hf_|sk-|api_org_)[\w-]{8,}|(?<=Bearer )\S+|(?<=://)[^/\s@]+(?=@)")


class _Secretless(logging.Formatter):
    """One line an event, without the secrets in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return " ".join(_SECRET.sub("[secret]", super().format(record)).splitlines())


class _Unobtrusive(logging.FileHandler):
    """A file that says nothing on the terminal where it cannot be written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if that can be done."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: the work goes on without its log."""


class _Terminal(logging.Handler):
    """Standard error as it is at the time: a progress display may have put its own in place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if there is a terminal left."""
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()


def log_level() -> int:
    """Return the level that the environment names; raise ConfigError for one that does not exist."""
    name = os.environ.get(VARIABLE, "").lower() or "info"
    if name not in LEVELS:
        raise ConfigError(f"{VARIABLE} is one of {', '.join(LEVELS)}, not {name!r}.")
    return logging.getLevelNamesMapping()[name.upper()]


@contextmanager
def logging_into(file: Path) -> Iterator[None]:
    """Append what hfsynth logs to a file meanwhile."""
    level = log_level()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
    with _handled(_Unobtrusive(file, encoding="utf-8", errors="backslashreplace", delay=True), level):
        yield


@contextmanager
def logging_to_terminal(level: int) -> Iterator[None]:
    """Write what hfsynth logs to standard error meanwhile, also that of processes of its own that are started then."""
    before = os.environ.get(_TERMINAL)
    os.environ[_TERMINAL] = str(level)
    try:
        with _handled(_Terminal(), level):
            yield
    finally:
        if before is None:
            del os.environ[_TERMINAL]
        else:
            os.environ[_TERMINAL] = before


@contextmanager
def logging_as_started() -> Iterator[None]:
    """Write what hfsynth logs to standard error where whoever started this process shows it."""
    level = os.environ.get(_TERMINAL, "")
    if not level.isdecimal():
        yield
        return
    with _handled(_Terminal(), int(level)):
        yield


def without_quotes(reason: str, texts: Iterable[str | None]) -> str:
    """Return a reason, or its beginning before the colon where the rest quotes one of the texts."""
    line = " ".join(reason.split())
    if not any(_quotes(line, " ".join(text.split())) for text in texts if text):
        return line
    return f"{line.partition(':')[0]} (what it says quotes a document, and is logged as debug)"


def _quotes(line: str, text: str) -> bool:
    if len(text) < _QUOTE:
        return bool(text) and text in line
    return any(line[at : at + _QUOTE] in text for at in range(len(line) - _QUOTE + 1))


@contextmanager
def _handled(handler: logging.Handler, level: int) -> Iterator[None]:
    """Hand what hfsynth logs to a handler meanwhile, from a level on."""
    logger = logging.getLogger("hfsynth")
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
