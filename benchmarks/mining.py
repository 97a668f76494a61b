"""Measure documents a second of `--model mined` on one core, and how its memory grows with their number.

    python benchmarks/mining.py [--corpus FILE] [--documents N] [--memory N] [--results FOLDER]

Documents are the paragraphs of the corpus, each taken from another place on until it has 400 words. The goal is 1,000
of them a second of processor time; the best of three runs counts. --memory mines so many one after the other and says
by how much the process has grown since a tenth of them was done.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from common import EXAMPLES, RESULTS, Report, publish

from hfsynth.mining.mine import mine

GOAL = 1_000
WORDS = 400
ROUNDS = 3


def documents(corpus: Path) -> Iterator[str]:
    """Yield documents of `WORDS` words without end."""
    opened = gzip.open if corpus.suffix == ".gz" else open
    with opened(corpus, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n\n") if paragraph.strip()]
    at = 0
    while True:
        taken: list[str] = []
        left = WORDS
        while left > 0:
            words = paragraphs[at % len(paragraphs)].split(" ")[:left]
            taken.append(" ".join(words))
            left -= len(words)
            at += 1
        at += 1  # a turn through the corpus meets other neighbours
        yield "\n\n".join(taken)


def seconds_of(texts: list[str]) -> tuple[float, int]:
    start = time.process_time()
    pairs = sum(len(mine(text, seed=0, name=str(number))) for number, text in enumerate(texts))
    return time.process_time() - start, pairs


def growth(corpus: Path, number: int) -> int:
    """Return how many MiB the process has grown by between a tenth of the documents and all of them."""
    before = 0
    for at, text in enumerate(islice(documents(corpus), number)):
        mine(text, seed=0, name=str(at))
        if at == number // 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=EXAMPLES, help="JSON lines with a `text` column, or .gz of them")
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--memory", type=int, default=0, help="documents to mine for the growth of memory")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    given = parser.parse_args()
    texts = list(islice(documents(given.corpus), given.documents))
    seconds_of(texts[:100])  # reads the rules
    seconds, pairs = min(seconds_of(texts) for _ in range(ROUNDS))
    rate = round(len(texts) / seconds)
    row = {"documents": len(texts), "words": sum(len(text.split()) for text in texts), "pairs": pairs}
    row |= {"seconds": round(seconds, 3), "documents_per_second": rate}
    row |= {"memory_growth_mib": growth(given.corpus, given.memory)} if given.memory else {}
    title = f"Mining {len(texts):,} documents of {WORDS} words on one core (goal: {GOAL:,} a second)"
    report = Report("mining", title, [row], {"goal": GOAL}, bars={"hfsynth": float(rate)}, unit="documents a second")
    publish(report, given.results)


if __name__ == "__main__":
    main()
