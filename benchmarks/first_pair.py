"""From the command to the first finished pairs, and to the last: where the time goes, before and now, in one run.

The job of `make demo`, command and all, again and again: as it is now, and as it was. That is another tree
(`--before`, made by `git worktree add`), or else this one with the settings from before: nothing guessed, and threads
that spin while they wait for each other. `--beside` busy loops run all the while.

    python benchmarks/first_pair.py --rounds 3
    python benchmarks/first_pair.py --beside 2
    python benchmarks/first_pair.py --before ../hfsynth-before
    python benchmarks/first_pair.py --before ../hfsynth-before --cold
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import ROOT, Report, parser, publish

SPINNING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "300000"}  # what the library does where nothing is said
PHASES = ("building the model", "starting vLLM", "loading the model")
_LOOK_EVERY = 0.1

Run = Mapping[str, Any]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--before", type=Path, help="a tree of an earlier commit; else this one with its settings")
    made.add_argument("--rounds", type=int, default=1)
    made.add_argument("--beside", type=int, default=0, help="busy loops that run beside the job")
    made.add_argument("--cold", action="store_true", help="begin each run with empty caches, as on a new machine")
    made.add_argument("--shots", type=int, default=2)
    publish(measured(made.parse_args()), made.parse_args().results)


def measured(args: Namespace) -> Report:
    found: dict[str, list[Run]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as folder, busy(args.beside):
        for number in range(args.rounds):
            for way in found if number % 2 else reversed(found):
                found[way].append(one_run(args, way, Path(folder, f"{way}{number}")))
    before, now = found["before"], found["now"]
    same = all(run["pairs"] == before[0]["pairs"] for run in (*before, *now))
    ratios = {name: ratio(now, before, name) for name in ("first pairs", "all", "processor")}
    title = f"The first pairs of {args.corpus.name}, M={args.shots}, {args.model}, beside {args.beside} busy loops"
    title += ", with empty caches" if args.cold else ""
    rows = [row(way, run) for way, runs in found.items() for run in runs]
    figures = {f"{name}, of before": value for name, value in ratios.items()}
    bars = {f"{way}: {name}": middle(runs, name) for name in ("first pairs", "all") for way, runs in found.items()}
    return Report("first_pair", title, rows, {**figures, "the same pairs": same}, [], bars, "seconds")


def one_run(args: Namespace, way: str, out: Path) -> Run:
    """Run the command once, watch for the first pairs, and read what the worker noted of its phases."""
    tree = args.before if way == "before" and args.before else ROOT
    options = ["--speculative", "none"] if way == "before" and not args.before else []
    settings = SPINNING if way == "before" and not args.before else {}
    command = [sys.executable, "-m", "hfsynth", "synthesize", args.corpus.absolute(), out, "--model", args.model]
    caches = {"XDG_CACHE_HOME": str(out.with_suffix(".cache"))} if args.cold else {}
    started = time.time()
    job = subprocess.Popen(
        [*map(str, command), "--shots", str(args.shots), "--quiet", *options],
        cwd=tree,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(tree), **settings, **caches},
        stdout=subprocess.DEVNULL,
    )
    first = None
    while (ended := os.wait4(job.pid, os.WNOHANG))[0] == 0:
        first = first or (time.time() if has_pairs(out) else None)
        time.sleep(_LOOK_EVERY)
    if ended[1]:
        raise SystemExit(f"The job of {way} failed: {ended[1]}.")
    whole = time.time() - started
    session = next(iter(sessions(out)))
    spans = {name: until - since for name, since, until in session.get("phases", ())}
    return {
        "starting": session["started"] - started,
        **{name: spans.get(name) for name in PHASES},
        "loaded": session["working_from"] - started,
        "first pairs": (first or time.time()) - started,
        "all": whole,
        "processor": ended[2].ru_utime + ended[2].ru_stime,
        "pairs": pairs(out),
    }


def has_pairs(out: Path) -> bool:
    """Tell whether a worker shows that it has any; it says so every second, and once told of whole chains alone."""
    return any(session["counts"]["pairs"] or session.get("early_pairs") for session in sessions(out))


def sessions(out: Path) -> Iterator[dict[str, Any]]:
    for path in (out / ".hfsynth" / "sessions").glob("[!.]*.json"):
        yield json.loads(path.read_text("utf-8"))


def pairs(out: Path) -> Sequence[object]:
    import pyarrow.parquet as pq

    tables = [pq.read_table(path, columns=["id", "pairs"]) for path in sorted((out / "pairs").glob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Keep processes busy meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def row(way: str, run: Run) -> dict[str, Any]:
    return {"": way, **{name: value for name, value in run.items() if name != "pairs"}}


def middle(runs: Sequence[Run], name: str) -> float:
    return statistics.median(float(run[name]) for run in runs)


def ratio(now: Sequence[Run], before: Sequence[Run], name: str) -> float:
    return round(middle(now, name) / middle(before, name), 3)


if __name__ == "__main__":
    main()
