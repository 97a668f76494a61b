"""What a push from an object store takes: bytes on the disk at most, memory, and how often the corpus is read.

    python benchmarks/pushing.py [--megabytes N] [--results FOLDER]

A corpus of three files is published from a store and from a folder, by the real clients, to a Hub on the loopback, with
and without Xet. The store is the S3 of the tests. The disk is what lies in the pushing process's temporary folder and
in its HF_HOME, looked at every two milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from common import RESULTS, ROOT, Report, publish, timed

sys.path.append(str(ROOT / "tests"))  # the Hub and the S3 that the tests use
from corpus_folders import corpus_folder, record, upload  # noqa: E402
from loopback_hub.server import Hub  # noqa: E402
from loopback_s3.server import ScriptedS3  # noqa: E402

URL = "s3://bucket/corpus"
WORDS = 5000  # characters of a text: hexadecimal digits, of which compression halves the size
PUSH = """
import json, os, resource, sys, threading, time
import hfsynth

where, *folders = sys.argv[1:]
peak, ended = 0, threading.Event()

def size():
    found = [os.path.join(at, name) for folder in folders for at, _, names in os.walk(folder) for name in names]
    total = 0
    for path in found:
        try:
            total += os.lstat(path).st_size
        except OSError:
            pass  # gone meanwhile
    return total

def watch():
    global peak
    while not ended.is_set():
        peak = max(peak, size())
        time.sleep(0.002)

before = size()
thread = threading.Thread(target=watch)
thread.start()
hfsynth.push(where, "user/corpus", license="cc-by-4.0", language="en")
ended.set()
thread.join()
print(json.dumps({"disk": peak - before, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--megabytes", type=int, default=30, help="of each of the three files")
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    args = made.parse_args()
    with tempfile.TemporaryDirectory(prefix="hfsynth-pushing-") as name, ScriptedS3() as s3:
        os.environ.update(s3.env())
        publish(measured(args.megabytes, Path(name), s3), args.results)


def measured(megabytes: int, folder: Path, s3: ScriptedS3) -> Report:
    corpus = written(folder / "corpus", megabytes)
    upload(corpus, URL)
    files = [path.stat().st_size for path in corpus.glob("*/*.parquet")]
    rows = [pushed(where, xet, folder, s3, sum(files)) for xet in (False, True) for where in (URL, str(corpus))]
    return Report(
        "pushing",
        f"A push of {sum(files) / 1e6:.0f} MB in files of {max(files) / 1e6:.0f} MB, from a store and from a folder",
        rows,
        {"rows": rows},
        bars={f"{row['from']}, {row['by']}": row["disk MB"] for row in rows},
        unit="MB on the disk at most",
    )


def written(folder: Path, megabytes: int) -> Path:
    """Make a corpus whose texts do not compress well."""
    corpus_folder(folder, {"default": {"train": 1}, "pairs": {"train": 2}})
    for number, path in enumerate(sorted(folder.glob("*/*.parquet"))):
        digits = Random(number).randbytes(megabytes * 1_000_000).hex()
        texts = [digits[at : at + WORDS] for at in range(0, len(digits), WORDS)]
        rows: dict[str, list[object]] = {"text": list(texts)}
        if path.parent.name == "pairs":
            rows["pairs"] = [[{"instruction": "What?", "response": text[:50]}] for text in texts]
        pq.write_table(pa.table(rows), path, row_group_size=3000, compression="zstd")
    record(folder)
    return folder


def pushed(where: str, xet: bool, folder: Path, s3: ScriptedS3, size: int) -> dict[str, str | float]:
    s3.script.clear()
    with Hub(xet=xet) as hub, tempfile.TemporaryDirectory(dir=folder) as temporary:
        env = {**hub.env(Path(temporary)), "TMPDIR": temporary}
        command = [sys.executable, "-c", PUSH, where, temporary, env["HF_HOME"]]
        seconds, done = timed(lambda: hub.run(command, env, timeout=3600))
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "from": "a store" if where == URL else "a folder",
        "by": "Xet" if xet else "LFS",
        "disk MB": round(found["disk"] / 1e6, 2),
        "memory MiB": round(found["memory"] / 2**20),
        "times read": round(sum(request.sent for request in s3.script.requests) / size, 1),
        "requests": len(s3.script.requests),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
