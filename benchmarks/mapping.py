"""Our own cost beside the engine: documents a second of `ds.map` on one core, with an engine that answers at once.

python benchmarks/mapping.py
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

from common import RESULTS, Report, publish
from datasets import Dataset, disable_progress_bars

from hfsynth import Sampling, Synthesizer

WORDS = [
    "the",
    "of",
    "a",
    "tide",
    "lamp",
    "bond",
    "heart",
    "bridge",
    "colony",
    "price",
    "island",
    "valve",
    "letter",
    "season",
    "harvest",
    "market",
]
TARGET = 2000


def five_pairs(prompt: str) -> str:
    """Answer any prompt with five pairs."""
    return "\n\n".join(
        f"<QUE> What does part {number} of the text say about its subject? <ANS> It says that {number} is so. </END>"
        for number in range(5)
    )


def corpus(documents: int, words: int) -> Dataset:
    stream = random.Random(0)
    texts = [" ".join(stream.choices(WORDS, k=words)) for _ in range(documents)]
    return Dataset.from_dict({"id": [str(number) for number in range(documents)], "text": texts})


def rate(ds: Dataset, shots: int) -> float:
    """Return documents a second of processor time."""
    synthesize = Synthesizer("mapping:five_pairs", engine="scripted", shots=shots, sampling=Sampling(max_tokens=1000))
    started = time.process_time()
    mapped = ds.map(synthesize, batched=True, batch_size=1200, load_from_cache_file=False)
    seconds = time.process_time() - started
    assert all(len(pairs) == 5 for pairs in mapped["pairs"]), "every document must have its five pairs"
    return len(ds) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    args = parser.parse_args()
    disable_progress_bars()
    ds = corpus(args.documents, args.words)
    found = {shots: round(rate(ds, shots)) for shots in (1, 2, 3)}
    rows = [{"M": shots, "documents a core-second": documents} for shots, documents in found.items()]
    report = Report(
        "mapping",
        f"ds.map beside an engine that answers at once: {args.documents:,} documents (target: {TARGET:,} a second)",
        rows,
        {"documents_per_core_second": found, "target": TARGET},
        bars={f"M={shots}": float(documents) for shots, documents in found.items()},
        unit="documents a core-second",
    )
    publish(report, args.results)


if __name__ == "__main__":
    main()
