"""What it costs to see that a source changes: the processor's time in the checks, of that of a whole scripted job.

    python benchmarks/source_checks.py

Counted are the looks at the file after every block, the digest of each shard's rows, by which a changed source is gone
on with, and the look at the whole source before publishing. The share is of one run, so a busy machine changes little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from common import RESULTS, Report, publish
from overhead import write_corpus

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.documents import source as sources
from hfsynth.documents.source import Source
from hfsynth.documents.watching import FileWatch
from hfsynth.job.feeding import RowsDigest
from hfsynth.job.run import synthesize

TARGET = 0.02


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--documents", type=int, default=20_000)
    made.add_argument("--sentences", type=int, default=20, help="of a document")
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    args = made.parse_args()
    publish(measured(args.documents, args.sentences), args.results)


def measured(documents: int, sentences: int) -> Report:
    spent: dict[str, float] = {}
    undo = [
        timed(FileWatch, "check", "after every block", spent),
        timed(RowsDigest, "add", "digest of the rows", spent),
        timed(sources, "require_same", "before publishing", spent),
    ]
    with tempfile.TemporaryDirectory() as name:
        source = write_corpus(Path(name) / "corpus.jsonl", documents, sentences)
        before = time.process_time()
        synthesize(Source(str(source)), Path(name) / "out", SynthesizerConfig("scripted"), engine=ENGINE)
        whole = time.process_time() - before
    for put_back in undo:
        put_back()
    shares = {what: seconds / whole for what, seconds in spent.items()}
    changes = shares["after every block"] + shares["before publishing"]
    rows = [{"check": what, "seconds": seconds, "of the job": shares[what]} for what, seconds in spent.items()]
    return Report(
        "source_checks",
        f"Checks of the source: {documents:,} documents, {whole:.1f} s of the processor (target: below {TARGET:.0%})",
        rows,
        {"of_the_job": round(changes, 4), "with_digests_of_rows": round(sum(shares.values()), 4)},
        bars={what: 100 * share for what, share in shares.items()},
        unit="% of the job's time",
    )


ENGINE = EngineConfig("scripted", {})


def timed(owner: Any, name: str, what: str, spent: dict[str, float]) -> Callable[[], None]:  # noqa: ANN401
    """Add up the time of a thread in a function; return what puts the function back."""
    function = getattr(owner, name)
    spent[what] = 0.0

    @wraps(function)
    def measured(*arguments: object) -> object:
        before = time.thread_time()
        try:
            return function(*arguments)
        finally:
            spent[what] += time.thread_time() - before

    setattr(owner, name, measured)
    return lambda: setattr(owner, name, function)


if __name__ == "__main__":
    main()
