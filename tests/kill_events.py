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
from hfsynth.corpus.manifest import damages
from hfsynth.documents.source import Source
from hfsynth.job.run import synthesize
from hfsynth.job.screen import screen
from hfsynth.job.verify import verify

CHANGES = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.utime"}


def job(source: Path, out: Path) -> None:
    engine = EngineConfig("scripted", {"max_in_flight": 2})
    synthesize(Source(str(source)), out, SynthesizerConfig("scripted", shots=2), engine=engine, shard_rows=4)


def verification(out: Path) -> None:
    engine = EngineConfig("scripted", {"max_in_flight": 2})
    verify(out, "scripts_kill:judging", keep=["accuracy>=0.5"], engine=engine, shard_rows=4)


def screening(out: Path) -> None:
    screen(out, pii="mark", duplicates=True)


def forked(work: Callable[[], None]) -> int:
    """Do something in a fork; return its exit code, or less than 0 where a signal has ended it."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number: int, work: Callable[[], None], folder: str) -> None:
    """Do the work, and end this process before its event `number`: a file under `folder` is opened or changed."""
    left = number

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in CHANGES and str(arguments[0]).startswith(folder):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    work()


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
        if forked(lambda number=number: killed_at(number, lambda: job(source, out), str(out))) != -signal.SIGKILL:
            break
        kills += 1
        half = (out / "pairs").exists() and contents(out) != contents(whole)
        again = forked(lambda: job(source, out))
        left = [path.name for path in out.rglob("*") if path.suffix == ".tmp" or path.name == "segments"]
        same = not again and contents(out) == contents(whole) and counts(out) == counts(whole)
        if half or left or not same or forked(lambda: job(source, out)):
            bad.append([number, half, again, left])
    return {"kills": kills, "bad": bad}


def second_pass(
    source: Path, folder: Path, step: int, first: int, run: Callable[[Path], None], name: str
) -> dict[str, object]:
    """Kill a second pass likewise: what lies there is the old corpus or the new one, whole, at any time."""
    before, whole, out = folder / "before", folder / "whole", folder / "out"
    assert forked(lambda: job(source, before)) == 0
    shutil.copytree(before, whole)
    assert forked(lambda: run(whole)) == 0
    kills, bad = 0, []
    for number in range(first, 100_000, step):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(before, out)
        work = lambda number=number: killed_at(number, lambda: run(out), f"{folder}/")  # noqa: E731
        if forked(work) != -signal.SIGKILL:
            break
        kills += 1
        half = [corpus for corpus in (before, whole) if contents(out) == contents(corpus) and agree(out, corpus)] == []
        again = forked(lambda: run(out))
        left = [path.name for path in (*out.rglob("*"), *folder.iterdir()) if path.suffix == ".tmp"]
        left += [path.name for path in (out / ".hfsynth" / name,) if path.exists()]
        if half or left or again or contents(out) != contents(whole) or not agree(out, whole):
            bad.append([number, half, again, left])
    return {"kills": kills, "bad": bad}


def agree(out: Path, other: Path) -> bool:
    """Return whether two corpora say the same of themselves, and each that it is whole."""
    return counts(out) == counts(other) and not list(damages(out, digests=True))


if __name__ == "__main__":
    passes = {"verify": verification, "screen": screening}
    arguments = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    program = sys.argv[5]
    found = second_pass(*arguments, passes[program], program) if program in passes else main(*arguments)
    print(json.dumps(found))  # noqa: T201
