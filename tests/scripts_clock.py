"""A script for ScriptedEngine that keeps a clock of its own, named as `scripts_clock:timed`.

It notes from when to when it was loaded and every prompt answered, by which process. Loading takes a while each time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from scripts import quoting, shown_documents
from scripts_kill import LOG

from hfsynth.core.errors import EngineError
from hfsynth.engine.scripted import Script

LOADING, ANSWERING = 0.3, 0.02
_PATIENCE = 100.0


def __getattr__(name: str) -> Script:
    """Load the script: `import_module` finds the module at hand, this is asked every time."""
    if name != "timed":
        raise AttributeError(name)
    began = time.time()
    time.sleep(LOADING)
    _note("load", began)
    return _timed


def _timed(prompt: str) -> str:
    began, document = time.time(), shown_documents(prompt)[-1]
    _note("begin", began, document)
    if "poison" in document:
        raise EngineError("The engine died: it choked.")
    if "both" in document:
        _wait(lambda: len({line["pid"] for line in notes(Path(os.environ[LOG])) if line["what"] == "begin"}) > 1)
    if "waits" in document:
        _wait(_another_waits)
    time.sleep(ANSWERING)
    _note("answer", began, document)
    return quoting(prompt)


def notes(log: Path) -> list[dict[str, float | int | str]]:
    """Return what all processes have noted."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _note(what: str, began: float, document: str = "") -> None:
    line = json.dumps({"pid": os.getpid(), "what": what, "from": began, "to": time.time(), "document": document})
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, line.encode() + b"\n")
    os.close(file)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def _another_waits() -> bool:
    """Return whether another worker's session says that it waits: it lies beside the notes."""
    sessions = Path(os.environ[LOG]).parent.glob("out/.hfsynth/sessions/[!.]*.json")
    return any(json.loads(path.read_text())["pauses"] for path in sessions)
