"""Peak memory of `save_corpus` against the size of a stream: it must not grow with it.

Synthesized rows, streamed from Parquet files, and the texts rendered from them go into a corpus folder; every size in a
process of its own. The rows are made up beforehand, so that neither an engine nor the making counts. They are many
files, for Arrow may decode a whole file ahead of whoever reads it, however slowly: with the million rows in one, that
reader took 700 MiB more, and the saving no more.

    python benchmarks/saving.py             # 10,000, 100,000 and 1,000,000 rows
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from common import Report, parser, publish
from datasets import Features, Value, load_dataset
from scale import SENTENCE, run_of

import hfsynth
from hfsynth.core.records import chain_id
from hfsynth.corpus.parquet import output_features

SIZES = (10_000, 100_000, 1_000_000)
SHOTS = 2
FEATURES = output_features(Features({"id": Value("string"), "text": Value("string")}))
FILE_ROWS = 10_000


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--save", nargs=2, metavar=("ROWS", "FOLDER"), help="save a folder's rows and measure nothing")
    args = made.parse_args()
    if args.save:
        save(Path(args.save[0]), Path(args.save[1]))
    else:
        publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    most = args.documents or SIZES[-1]
    rows = []
    for size in [size for size in SIZES if size < most] + [most]:
        with tempfile.TemporaryDirectory() as folder:
            write(size, Path(folder) / "rows")
            ran = run_of([sys.executable, __file__, "--save", f"{folder}/rows", f"{folder}/corpus"])
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


def write(rows: int, folder: Path) -> None:
    """Write so many synthesized rows."""
    made = synthesized(rows, transform().config.fingerprint)
    folder.mkdir()
    while some := list(islice(made, FILE_ROWS)):
        path = folder / f"{len(list(folder.iterdir())):05d}.parquet"
        pq.write_table(pa.Table.from_pylist(some, FEATURES.arrow_schema), path)


def save(rows: Path, folder: Path) -> None:
    """Save a stream of a folder's rows, and the texts rendered from it."""
    files = sorted(map(str, rows.iterdir()))
    stream = load_dataset("parquet", data_files=files, split="train", features=FEATURES, streaming=True)
    hfsynth.save_corpus(folder, pairs=stream, texts=hfsynth.render(stream, seed=0), synthesizer=transform())


def transform() -> hfsynth.Synthesizer:
    """Return the transform whose rows these could be."""
    return hfsynth.Synthesizer("scripted", engine="scripted", shots=SHOTS)


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
