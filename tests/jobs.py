"""Jobs as real processes: start the command line, look at what it writes, kill it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import Any

from scripts_kill import LOG
from started import start_process

TESTS = Path(__file__).parent


def documents(path: Path, number: int, *, special: dict[int, str] | None = None) -> Path:
    """Write a source of numbered documents; `special` gives some a text of their own."""
    texts = {n: f"Text number {n:04} says little." for n in range(number)} | (special or {})
    path.write_text("".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, text in texts.items()))
    return path


def command(source: Path | str, out: Path, *options: object) -> list[str]:
    """Return a synthesize command; a script answers unless an option names another engine."""
    arguments = [source, out, "--quiet", *options]
    return [sys.executable, "-m", "hfsynth", "synthesize", *map(str, arguments)]


def forking(arguments: list[str]) -> list[str]:
    """Return a command of `python -m` where vLLM forks its engine's process: see `scripts_forking`."""
    return [sys.executable, str(TESTS / "scripts_forking.py"), *arguments[2:]]


def scripted(script: str = "noted", *, latency: float = 0.0, in_flight: int = 4) -> tuple[str, ...]:
    """Return the options that name a script of `scripts_kill` as the engine."""
    arguments = ("--engine-arg", f"latency={latency}", "--engine-arg", f"max_in_flight={in_flight}")
    return ("--engine", "scripted", "--model", f"scripts_kill:{script}", *arguments)


def start(arguments: list[str], log: Path | None = None, *, reads: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a command that finds the scripts and, where `log` is given, notes their calls there.

    `reads` are modules that it will read: see `started`.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(TESTS), *sys.path)),
        **({LOG: str(log)} if log else {}),
    }
    pipe = subprocess.PIPE
    return start_process(arguments, reads=reads, env=environment, stdout=pipe, stderr=pipe)


def ended(process: subprocess.Popen[str], *, seconds: float = 600) -> tuple[int, str, str]:
    """Wait for a command; return its exit code, output and errors."""
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"it does not end: {process.communicate()}") from None
    assert "Traceback" not in errors, errors
    return process.returncode, out, errors


def run(arguments: list[str], log: Path | None = None, *, reads: Sequence[str] = ()) -> None:
    """Run a command that must succeed."""
    code, _, errors = ended(start(arguments, log, reads=reads))
    assert code == 0, errors


def until(condition: Callable[[], Any], process: subprocess.Popen[str], *, seconds: float = 600) -> bool:
    """Wait for a condition; return False where the process has ended before it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)
    return True


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the ids of the processes that a process has started."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []


def journals(out: Path) -> list[Path]:
    """Return the journals of unfinished shards: of a job that is at work any may be gone when it is opened."""
    return [Path(path) for path in glob(str(out / ".hfsynth" / "segments" / "*" / "*.jsonl"))]  # as may its folder


def journaled(out: Path) -> int:
    """Return how many chains the journals of unfinished shards say have ended."""
    ended = 0
    for path in journals(out):
        with suppress(FileNotFoundError):  # its shard has just been finished
            ended += path.read_text().count('"end"')
    return ended


def parts(out: Path) -> dict[str, bytes]:
    """Return the names and bytes of a corpus' files of pairs."""
    return {path.name: path.read_bytes() for path in sorted((out / "pairs").iterdir())}


def stats(out: Path) -> dict[str, Any]:
    """Return a corpus' statistics."""
    found: dict[str, Any] = json.loads((out / "stats.json").read_text())
    return found
