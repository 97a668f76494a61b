"""Cost a document against the size of the corpus, with an engine that answers at once; and what a resume costs.

Time and peak memory must not grow with the corpus. Every run is a process of its own; processor seconds are given
beside those of the clock. The half-finished job is killed with SIGKILL when half of its shards are done; its resume
should take half of the whole run's time. A finished job is recognised, whatever its size.

    python benchmarks/scale.py              # 1,000 to 1,000,000 documents, 100,000 of them half-finished
    python benchmarks/scale.py --full       # and the 1,000,000 half-finished too
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import Report, parser, publish

SIZES = (1_000, 10_000, 100_000, 1_000_000)
START = [sys.executable, "-c", "import hfsynth.job.run, hfsynth.cli"]
SENTENCE = "It says something about the weather, the sea and the price of fish on that day. "


@dataclass(frozen=True)
class Ran:
    """One process: seconds by the clock and of processors, peak memory, whether it was killed."""

    seconds: float
    processor: float
    peak_mib: float
    killed: bool = False


def main() -> None:
    made = parser(__doc__)
    args = made.parse_args()
    publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    most = args.documents or SIZES[-1]
    sizes = [size for size in SIZES if size < most] + [most]
    halved = most if args.full else min(most, SIZES[-2])
    start = min((run_of(START) for _ in range(2)), key=lambda one: one.processor)
    rows, runs = [], {}
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            source, out = numbered(Path(name) / f"{size}.jsonl", size), Path(name) / f"corpus{size}"
            runs[size] = run(source, out)
            rows.append(row(size, runs[size], run(source, out), start))
        resumed = half_finished(Path(name) / f"{halved}.jsonl", Path(name) / "killed", halved)
    costs = [one["microseconds a document"] for one in rows]
    return Report(
        "scale",
        f"Cost a document against the size of the corpus, scripted engine, one process; {most:,} documents at most",
        rows,
        {
            "peak memory, largest of smallest": round(runs[sizes[-1]].peak_mib / runs[sizes[0]].peak_mib, 2),
            "microseconds a document, largest of second largest": round(costs[-1] / costs[-2], 2)
            if costs[1:]
            else None,
            "seconds to start": round(start.seconds, 2),
            "documents of the half-finished job": halved,
            "resume of a half-finished job, of half of the whole run": round(
                resumed.seconds / (runs[halved].seconds / 2), 2
            ),
            "resume of a half-finished job, seconds": round(resumed.seconds, 1),
        },
        ["Microseconds are of processors, without those of starting Python and importing the package."],
        {f"{size:,}": row["peak MiB"] for size, row in zip(sizes, rows, strict=True)},
        "peak MiB",
    )


def row(size: int, whole: Ran, again: Ran, start: Ran) -> dict[str, float]:
    """Return a size's row of the table."""
    return {
        "documents": size,
        "seconds": whole.seconds,
        "microseconds a document": 1e6 * (whole.processor - start.processor) / size,
        "peak MiB": whole.peak_mib,
        "finished job again, seconds": again.seconds,
    }


def numbered(path: Path, size: int) -> Path:
    """Write numbered documents, no two alike."""
    with path.open("w") as file:
        for number in range(size):
            file.write(f'{{"id": "d{number}", "text": "Entry {number} of the log. {2 * SENTENCE}"}}\n')
    return path


def run(source: Path, out: Path, until: Callable[[], bool] | None = None) -> Ran:
    """Run a job with the scripted engine."""
    command = [sys.executable, "-m", "hfsynth", "synthesize", str(source), str(out)]
    return run_of([*command, "--engine", "scripted", "--workers", "0", "--quiet"], until)


def run_of(command: list[str], until: Callable[[], bool] | None = None) -> Ran:
    """Run a process to its end, or kill it when `until` says so."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while until is not None and process.poll() is None and not until():
        time.sleep(0.01)
    killed = until is not None and process.returncode is None
    if killed:
        process.send_signal(signal.SIGKILL)
    if process.returncode is not None:
        raise SystemExit(f"{command} ended with {process.returncode} before it could be killed.")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not killed:
        raise SystemExit(f"{command} ended with {process.returncode}.")
    seconds = time.perf_counter() - started
    return Ran(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, killed)


def half_finished(source: Path, out: Path, size: int) -> Ran:
    """Kill a job when half of its shards are done, and run it again to its end."""
    shards = max(1, -(-size // 4096))
    parts = out / ".hfsynth" / "parts"
    run(source, out, lambda: len(list(parts.glob("*.json"))) >= shards // 2)
    return run(source, out)


if __name__ == "__main__":
    main()
