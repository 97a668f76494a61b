"""Measure `hfsynth screen` on whole corpora: documents a second, peak memory, and which near-duplicates it finds.

    python benchmarks/screening_corpus.py [--documents N] [--results FOLDER]

Documents are 400 words of a made-up language of 50,000 words, with three pairs each, in files of 4,096. One in ten
holds an identifier. 1,000 are copies of others in which up to 12 words are others, 1,000 are half a copy. First each
measure alone, on one core; then one process that reads and writes whole corpora, of a quarter of the documents and of
all; then the decisions about duplicates alone, for made-up sketches of many times as many. Seconds are those of the
processor.

    python benchmarks/screening_corpus.py --flat 1000000

Instead: how much memory it takes to mark identifiers, and to look for an index of a million n-grams, in a tenth of so
many documents and in all of them. Another process writes the corpus as it is made: a process counts the memory of the
one that has started it as its own.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import Report, chosen, parser, publish
from datasets import Features, Value
from scale import run_of
from screening import questions

from hfsynth.core.records import Pair, Status, Synthesis, Synthesized
from hfsynth.core.screening import SIMILARITY, Screening
from hfsynth.corpus.folder import part_name
from hfsynth.corpus.parquet import output_features, output_rows
from hfsynth.job.duplicates import decide, noted_path
from hfsynth.quality.near_duplicates import BANDS, PERMUTATIONS, plain_words, shingles, sketches
from hfsynth.quality.screening import screened

WORDS, FILE_ROWS, PLANTED, CHANGED, ALONE = 400, 4_096, 1_000, 12, 4_000
IDENTIFIER = "write to jane@acme.io or call +44 20 7946 0958"
FEATURES = output_features(Features({"id": Value("string"), "text": Value("string")}))
VOCABULARY = [f"word{number}" for number in range(50_000)]
WAYS = {"identifiers": ["--pii", "mark"], "duplicates": ["--duplicates"]}


def main() -> None:
    """Measure and publish."""
    made = parser(__doc__)
    made.add_argument(
        "--decide", nargs=2, metavar=("DOCUMENTS", "FOLDER"), help="decide about sketches, measure nothing"
    )
    made.add_argument("--flat", type=int, metavar="DOCUMENTS", help="measure memory alone, with so many documents")
    made.add_argument("--write", nargs=2, metavar=("DOCUMENTS", "FOLDER"), help="write a corpus and an index alone")
    args = made.parse_args()
    if args.decide:
        decided(int(args.decide[0]), Path(args.decide[1]))
        return
    if args.flat or args.write:
        if args.flat:
            flat(args.flat)
        else:
            stream(int(args.write[0]), Path(args.write[1]))
        return
    count = chosen(args.documents, args.full, small=20_000, large=200_000)
    rows, figures = alone(), {}
    for number in (count // 4, count):
        with tempfile.TemporaryDirectory() as folder:
            write(number, Path(folder) / "corpus")
            for way, options in WAYS.items():
                command = [sys.executable, "-m", "hfsynth", "screen", f"{folder}/corpus", *options, "--workers", "0"]
                ran = run_of([*command, "--quiet"])
                speed = round(number / ran.processor)
                rows.append({"documents": number, "way": way, "a second": speed, "peak MiB": ran.peak_mib})
            figures = found(Path(folder) / "corpus")
    for number in (count * 10, count * 40):
        with tempfile.TemporaryDirectory() as folder:
            ran = run_of([sys.executable, __file__, "--decide", str(number), folder])
            way, speed = "deciding alone", round(number / ran.processor)
            rows.append({"documents": number, "way": way, "a second": speed, "peak MiB": ran.peak_mib})
    report = Report("screening_corpus", "Whole corpora screened by one process", rows, figures)
    report.bars = {f"{row['way']}, {row['documents']:,}": float(row["a second"]) for row in rows}
    report.unit = "documents a second"
    publish(report, args.results)


def alone() -> list[dict[str, Any]]:
    """Return how many documents a second each measure does by itself, and what it has grown the process to."""
    texts = list(islice(documents(2 * PLANTED + ALONE), ALONE))
    made = [row(name, text) for name, text in enumerate(texts)]
    ways: dict[str, Callable[[], object]] = {
        "identifiers, rows marked": lambda: [screened(one, Screening(pii="mark")) for one in made],
        "near-duplicates, sketches": lambda: [sketches(texts[at : at + 1000]) for at in range(0, ALONE, 1000)],
    }
    found = []
    for way, work in ways.items():
        began = time.process_time()
        work()
        speed = round(ALONE / (time.process_time() - began))
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        found.append({"documents": ALONE, "way": way, "a second": speed, "peak MiB": peak})
    return found


def flat(number: int) -> None:
    """Print what screening a tenth of so many documents takes, and all of them."""
    for count in (number // 10, number):
        with tempfile.TemporaryDirectory() as folder:
            run_of([sys.executable, __file__, "--write", str(count), folder])
            for options in (["--pii", "mark"], ["--decontaminate", f"{folder}/index.npz", "--dry-run"]):
                command = [sys.executable, "-m", "hfsynth", "screen", f"{folder}/corpus", *options, "--workers", "0"]
                ran = run_of([*command, "--quiet"])
                way, speed = options[0].removeprefix("--"), round(count / ran.processor)
                print(f"{count:,} documents, {way}: {speed:,} a second, peak {ran.peak_mib:.0f} MiB", flush=True)


def stream(number: int, folder: Path) -> None:
    """Write a corpus of so many documents, a file at a time, and an index of a million n-grams."""
    write(number, folder / "corpus")
    questions(1_000_000)[0].save(folder / "index.npz")


def write(number: int, root: Path) -> None:
    """Write a corpus of so many documents, a file at a time."""
    (root / "pairs").mkdir(parents=True)
    texts, total = enumerate(documents(number)), -(-number // FILE_ROWS)
    for part in range(total):
        rows = [row(name, text) for name, text in islice(texts, FILE_ROWS)]
        pq.write_table(pa.Table.from_pylist(rows, FEATURES.arrow_schema), root / "pairs" / part_name(part, total))


def documents(number: int) -> Iterator[str]:
    """Yield new documents, then copies of the first with some words changed, then halves of them with other words."""
    draw, first = random.Random(number), list[list[str]]()
    for at in range(number - 2 * PLANTED):
        words = draw.choices(VOCABULARY, k=WORDS)
        if at < PLANTED:
            first.append(words)
        yield " ".join([*words, IDENTIFIER] if at % 10 == 0 else words)
    for words in first:
        copy = list(words)
        for place in draw.sample(range(WORDS), draw.randrange(CHANGED + 1)):
            copy[place] = draw.choice(VOCABULARY)
        yield " ".join(copy)
    for words in first:
        yield " ".join([*words[: WORDS // 2], *draw.choices(VOCABULARY, k=WORDS // 2)])


def row(name: int, text: str) -> dict[str, Any]:
    """Return a synthesized row with three pairs."""
    words = text.split()
    asked = [
        Pair(f"What comes after {words[at]} {words[at + 1]}?", " ".join(words[at + 2 : at + 12])) for at in (3, 60, 99)
    ]
    made = Synthesized(tuple(asked), Synthesis(Status.OK, f"{name:016x}", 0))
    return {"id": str(name), "text": text, **output_rows([made], recipe="made-up")[0]}


def found(root: Path) -> dict[str, Any]:
    """Return how many planted near-duplicates were taken out, of those that are by their true similarity."""
    rows = [one for path in sorted((root / "pairs").iterdir()) for one in _rows(path)]
    status, texts = [one["synthesis"]["status"] for one in rows], [one["text"] for one in rows]
    gone = {number for number, one in enumerate(status) if one == "screened"}
    first = len(texts) - 2 * PLANTED
    alike = {first + at: _similarity(texts[at], texts[first + at]) for at in range(PLANTED)}
    true = {number for number, similarity in alike.items() if similarity >= SIMILARITY}
    clear = {number for number, similarity in alike.items() if similarity >= SIMILARITY + 0.05}
    told = json.loads((root / "stats.json").read_text())["screen"]["steps"]
    return {
        "planted near-duplicates": len(true),
        "recall": round(len(gone & true) / len(true), 4),
        "recall, similarity of at least 0.85": round(len(gone & clear) / len(clear), 4),
        "precision": round(len(gone & true) / len(gone), 4),
        "identifiers marked": {step["measure"]: step.get("kinds") for step in told}["identifiers"],
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path, columns=["text", "synthesis"]).to_pylist()
    return rows


def _similarity(one: str, other: str) -> float:
    left, right = (set(shingles(plain_words(text))) for text in (one, other))
    return len(left & right) / len(left | right)


def decided(number: int, folder: Path) -> None:
    """Decide about made-up sketches: one document in ten is a copy of another, and three pairs each."""
    draw, names = np.random.default_rng(number), []
    size = 50_000
    for shard, start in enumerate(range(0, number, size)):
        count = min(size, number - start)
        signatures = draw.integers(0, 256, (count, PERMUTATIONS), dtype=np.uint8)
        signatures[1::10] = signatures[0::10][: len(signatures[1::10])]
        bands = {f"band{at}": draw.integers(0, 2**64, count, dtype=np.uint64) for at in range(BANDS)}
        for keys in bands.values():
            keys[1::10] = keys[0::10][: len(keys[1::10])]
        owners = np.stack([np.repeat(np.arange(count), 3), np.tile(np.arange(3), count)], axis=1).astype(np.int32)
        arrays: dict[str, Any] = {"rows": np.arange(count, dtype=np.int32), "signatures": signatures, "owners": owners}
        for name, items in (("keys", count), ("pair_keys", 3 * count)):
            arrays[name] = draw.integers(0, 2**64, items, dtype=np.uint64)
        path = noted_path(folder / "noted", shard)
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, **arrays, **bands)
        names.append(path.name)
    decide(folder / "noted", names, folder / "decided", _made_up_texts)


def _made_up_texts(shard: int, rows: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield texts of 400 words, of which those that may be copies are."""
    for number in rows.tolist():
        yield " ".join(f"{shard}-{number // 10}-{word}" for word in range(WORDS))


if __name__ == "__main__":
    main()
