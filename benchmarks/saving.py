"""Peak memory of `save_corpus` against the size of a stream: it must not grow with it.

A stream of synthesized rows, and the texts rendered from it, go into a corpus folder; every size in a process of its
own. The rows are made up as they are read, so that neither an engine nor a source costs anything.

    python benchmarks/saving.py             # 10,000, 100,000 and 1,000,000 rows
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import Report, parser, publish
from datasets import Features, IterableDataset, Value
from scale import SENTENCE, run_of

import hfsynth
from hfsynth.columns import output_features
from hfsynth.identity import chain_id

SIZES = (10_000, 100_000, 1_000_000)
SHOTS = 2


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--save", nargs=2, metavar=("ROWS", "FOLDER"), help="save one stream and measure nothing")
    args = made.parse_args()
    if args.save:
        save(int(args.save[0]), Path(args.save[1]))
    else:
        publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    most = args.documents or SIZES[-1]
    rows = []
    for size in [size for size in SIZES if size < most] + [most]:
        with tempfile.TemporaryDirectory() as folder:
            ran = run_of([sys.executable, __file__, "--save", str(size), f"{folder}/corpus"])
        rows.append({"rows": size, "seconds": ran.seconds, "peak MiB": ran.peak_mib})
    largest = rows[-1]["peak MiB"] / rows[max(0, len(rows) - 2)]["peak MiB"]
    return Report(
        "saving",
        f"A stream of synthesized rows into a corpus folder, with its texts; {most:,} rows at most",
        rows,
        {"peak memory, largest of second largest": round(largest, 3)},
        [],
        {f"{row['rows']:,}": row["peak MiB"] for row in rows},
        "peak MiB",
    )


def save(rows: int, folder: Path) -> None:
    """Save a stream of so many rows, and the texts rendered from it."""
    transform = hfsynth.Synthesizer("scripted", engine="scripted", shots=SHOTS)
    features = output_features(Features({"id": Value("string"), "text": Value("string")}))
    values = {"rows": rows, "recipe": transform.config.fingerprint}
    stream = IterableDataset.from_generator(synthesized, gen_kwargs=values, features=features)
    hfsynth.save_corpus(folder, pairs=stream, texts=hfsynth.render(stream, seed=0), synthesizer=transform)


def synthesized(rows: int, recipe: str) -> Iterator[dict[str, Any]]:
    """Make up the rows of chains of two documents, no two alike."""
    for number in range(rows):
        first = number - number % SHOTS
        name = chain_id(f"d{other}" for other in range(first, min(first + SHOTS, rows)))
        yield {
            "id": f"d{number}",
            "text": f"Entry {number} of the log. {2 * SENTENCE}",
            "pairs": [{"instruction": f"Which entry is it? {n}", "response": f"Entry {number}."} for n in range(3)],
            "synthesis": {
                "status": "ok",
                "chain": name,
                "shot": number - first,
                "follows": number > first,
                "prompt_tokens": 100,
                "output_tokens": 60,
                "cached_tokens": 0,
                "truncated": 0,
                "finish_reason": "stop",
                "rejected": [],
                "recipe": recipe,
            },
        }


if __name__ == "__main__":
    main()
