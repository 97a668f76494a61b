"""Measure what the search for secrets costs a push: against reading the texts and the digests that a push computes.

    python benchmarks/leaks.py [--documents N] [--results FOLDER]

The corpus is one Parquet file of texts that are made of the examples' words. Searching reads the decoded texts, which
are several times as large as the file: the figure is over the bytes of the texts. The memory that the search adds is
given for two sizes, of which the larger has four times the texts.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common import Report, chosen, parser, publish, texts_of

from hfsynth.corpus.files import CorpusFiles
from hfsynth.publishing.leaks import refuse_leaks
from hfsynth.publishing.plan import LocalFile

WORDS = 400


def main() -> None:
    """Measure and publish."""
    args = parser(__doc__).parse_args()
    words = " ".join(texts_of(args.corpus)).split()
    sizes = [size := chosen(args.documents, args.full, small=40_000, large=400_000), 4 * size]
    rows = [measured(words, size) for size in sizes]
    figures = {f"{row['documents']} documents": row for row in rows}
    report = Report("leaks", "The search for secrets beside the digests of a push", rows, figures)
    report.bars = {name: rows[-1][name] for name in ("read s", "digests s", "search s")}
    report.unit = "seconds"
    publish(report, args.results)


def measured(words: list[str], documents: int) -> dict[str, float | int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        write(path, words, documents)
        reading = timed(lambda: read(path))
        digests = timed(lambda: LocalFile.of(path))
        before = peak()
        searched = timed(lambda: refuse_leaks(CorpusFiles(Path(folder)), ["x.parquet"], token=None))
        texts = sum(map(len, words)) / len(words) * WORDS * documents / 1e6
        return {
            "documents": documents,
            "text MB": round(texts),
            "file MB": round(path.stat().st_size / 1e6),
            "read s": round(reading, 2),
            "digests s": round(digests, 2),
            "search s": round(searched, 2),
            "MB/s": round(texts / searched),
            "times reading and digests": round(searched / (reading + digests), 1),
            "MiB added": round(peak() - before),
        }


def write(path: Path, words: list[str], documents: int) -> None:
    draw = random.Random(0)
    schema = pa.schema({"text": pa.string()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, documents, 1000):
            count = min(1000, documents - start)
            texts = [" ".join(draw.choices(words, k=WORDS)) for _ in range(count)]
            writer.write_table(pa.table({"text": texts}, schema=schema))


def read(path: Path) -> None:
    with pq.ParquetFile(path) as file:
        for _ in file.iter_batches(batch_size=4096):
            pass


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def peak() -> float:
    """Return the most memory this process has had, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


if __name__ == "__main__":
    main()
