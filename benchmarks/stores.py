"""What it costs that a job's folder is an object store: documents a second against a folder, and requests a minute.

    python benchmarks/stores.py

The store is moto's S3, a process on the loopback, which needs about as much of the processor as the job; the engine is
a script that answers at once. The two take turns, and the best of each counts. The requests are those of one command
that works itself, at documents that take long, from its second minute on, counted by an S3 of the tests' own; a worker
process does not look on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from common import RESULTS, ROOT, Report, publish, timed
from overhead import write_corpus

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.job.run import synthesize

sys.path.append(str(ROOT / "tests"))
from loopback_s3.moto import moto_server  # noqa: E402
from loopback_s3.server import ScriptedS3  # noqa: E402

SHARD_ROWS = 4096
TARGETS = {"of the folder": 0.8, "requests a minute": 6.0}


def main() -> None:
    args = arguments()
    publish(measured(args), args.results)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--documents", type=int, default=5 * SHARD_ROWS)
    made.add_argument("--repeats", type=int, default=3)
    made.add_argument("--seconds", type=float, default=180.0, help="of slow work, while which requests are counted")
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    return made.parse_args()


def measured(args: argparse.Namespace) -> Report:
    with tempfile.TemporaryDirectory() as name:
        best = best_of(Path(name), args.documents, args.repeats)
        minutely = requests_a_minute(Path(name), args.seconds)
    rates = {way: args.documents / seconds for way, seconds in best.items()}
    share = rates["store"] / rates["folder"]
    rows = [
        {"way": way, "documents a second": rate, "of the folder": rate / rates["folder"]} for way, rate in rates.items()
    ]
    rows += [
        {"way": f"requests a minute: {kind}", "documents a second": None, "of the folder": number}
        for kind, number in minutely.items()
    ]
    return Report(
        "stores",
        f"A store against a folder: {args.documents:,} documents, {SHARD_ROWS:,} a shard (targets: {TARGETS})",
        rows,
        {"of_the_folder": round(share, 3), "requests_a_minute": round(minutely["heart-beat"] + minutely["notes"], 2)},
        bars=rates,
        unit="documents a second",
    )


def best_of(folder: Path, documents: int, repeats: int) -> dict[str, float]:
    """Return the best seconds of a job in a folder and in a store; the two take turns."""
    source = write_corpus(folder / "corpus.jsonl", documents, sentences=5)
    found: dict[str, list[float]] = {"folder": [], "store": []}
    with moto_server() as s3:
        os.environ.update(s3.env())
        bucket = s3.new_bucket()
        for turn in range(repeats + 1):  # the first warms up
            for way, out in (("folder", str(folder / f"out{turn}")), ("store", f"s3://{bucket}/out{turn}")):
                seconds = timed(lambda out=out: job(source, out))[0]
                if turn:
                    found[way].append(seconds)
    return {way: min(seconds) for way, seconds in found.items()}


def requests_a_minute(folder: Path, seconds: float) -> dict[str, float]:
    """Return how many requests a command with one worker makes a minute, once it has begun, by what they are for."""
    source = write_corpus(folder / "slow.jsonl", 256, sentences=5)
    first, last = seconds / 3, seconds * 0.97
    seen: dict[float, int] = {}
    with ScriptedS3() as s3:
        os.environ.update(s3.env())
        for moment in (first, last):
            threading.Timer(moment, lambda moment=moment: seen.update({moment: len(s3.script.requests)})).start()
        job(source, "s3://bucket/slow", latency=seconds / 64, max_in_flight=4)
        lines = [request.line for request in s3.script.requests[seen[first] : seen[last]]]
    counted = Counter(purpose(line) for line in lines)
    return {kind: number * 60 / (last - first) for kind, number in counted.items()}


def purpose(line: str) -> str:
    """Say what a request is for."""
    if "PutObject" in line:
        return "heart-beat" if "beats/" in line else "notes" if "segments/" in line else "parts"
    return "looking on"


def job(source: Path, out: str, **engine: float) -> None:
    config = SynthesizerConfig("scripted", shots=1, sampling=Sampling(max_tokens=64))
    synthesize(Source(str(source)), out, config, engine=EngineConfig("scripted", engine), shard_rows=SHARD_ROWS)


if __name__ == "__main__":
    main()
