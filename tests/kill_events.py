"""Kill a small job at one file-system event after the other, and run it again: the program of `test_kill_events`.

Every kill is a fork of this process, which has imported everything and started no thread. Prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.job.run import synthesize

CHANGES = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.utime"}


def job(source: Path, out: Path) -> None:
    engine = EngineConfig("scripted", {"max_in_flight": 2})
    synthesize(Source(str(source)), out, SynthesizerConfig("scripted", shots=2), engine=engine, shard_rows=4)


def forked(work: Callable[[], None]) -> int:
    """Do something in a fork; return its exit code, or less than 0 where a signal has ended it."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number: int, source: Path, out: Path) -> None:
    """Do the job, and end this process before its event `number`: a file of the folder that is opened or changed."""
    left = number

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in CHANGES and str(arguments[0]).startswith(str(out)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    job(source, out)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "pairs").iterdir())}


def counts(out: Path) -> dict[str, object]:
    stats = json.loads((out / "stats.json").read_text())
    return {name: stats[name] for name in ("total_documents", "documents", "pairs", "output_tokens")}


def main(source: Path, folder: Path, step: int, first: int) -> dict[str, object]:
    whole, out = folder / "whole", folder / "out"
    assert forked(lambda: job(source, whole)) == 0
    kills, bad = 0, []
    for number in range(first, 100_000, step):
        shutil.rmtree(out, ignore_errors=True)
        if forked(lambda number=number: killed_at(number, source, out)) != -signal.SIGKILL:
            break
        kills += 1
        half = (out / "pairs").exists() and contents(out) != contents(whole)
        again = forked(lambda: job(source, out))
        left = [path.name for path in out.rglob("*") if path.suffix == ".tmp" or path.name == "segments"]
        same = not again and contents(out) == contents(whole) and counts(out) == counts(whole)
        if half or left or not same or forked(lambda: job(source, out)):
            bad.append([number, half, again, left])
    return {"kills": kills, "bad": bad}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))  # noqa: T201
