"""Measure what screening costs: documents a second on one core that are looked through for identifiers and benchmarks.

    python benchmarks/screening.py [--documents N] [--results FOLDER]

Documents are 400 words of the examples' texts, one in ten with an identifier of each kind. Beside them stands what
splitting them into words costs. The index of benchmarks has a million n-grams; the pairs are 12 and 40 words of each
document. `--words N` takes words of a made-up language of so many words in the place of the examples'.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import Report, chosen, parser, publish, texts_of, timed

from hfsynth.core.benchmarks import Benchmark, BenchmarkRow
from hfsynth.quality.contamination import ContaminationIndex
from hfsynth.quality.identifiers import identifiers
from hfsynth.quality.words import words

WORDS = 400
PLANTED = "jane@acme.io +44 20 7946 0958 4111 1111 1111 1111 DE89 3704 0044 0532 0130 00 8.8.8.8"


def main() -> None:
    """Measure and publish."""
    options = parser(__doc__)
    options.add_argument("--words", type=int, help="words of a made-up language")
    options.add_argument("--ngrams", type=int, default=1_000_000, help="n-grams of the index of benchmarks")
    args = options.parse_args()
    source = _made_up(args.words) if args.words else " ".join(texts_of(args.corpus)).split()
    count = chosen(args.documents, args.full, small=4_000, large=40_000)
    documents = [_document(source, number) for number in range(count)]
    index, loading = questions(args.ngrams)
    ways: dict[str, Callable[[str], object]] = {
        "words": words,
        "identifiers": identifiers,
        "benchmarks": index.document,
        "benchmarks, pairs": lambda text: index.pair(text[:80], text[80:320]),
    }
    rows = [{"way": name, "documents a second": round(_speed(way, documents))} for name, way in ways.items()]
    figures = {str(row["way"]): row for row in rows}
    figures["index"] = {"n-grams": index.ngrams, "seconds to load": round(loading, 2)}
    report = Report("screening", "Documents of 400 words looked through", rows, figures)
    report.bars = {str(row["way"]): float(row["documents a second"]) for row in rows}
    report.unit = "documents a second"
    publish(report, args.results)


def questions(ngrams: int) -> tuple[ContaminationIndex, float]:
    """Return an index of made-up questions, loaded from a file, and the seconds that takes."""
    draw = random.Random(ngrams)
    asked = (" ".join(f"term{draw.randrange(50_000)}" for _ in range(25)) for _ in range(ngrams // 31))
    rows = tuple(BenchmarkRow(question, number=number) for number, question in enumerate(asked))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.npz"
        ContaminationIndex.build([Benchmark("made-up", rows)]).save(path)
        seconds, index = timed(lambda: ContaminationIndex.load(path))
    return index, seconds


def _made_up(words: int) -> list[str]:
    """Return a text of so many different words, common and rare ones as in a language."""
    draw = random.Random(words)
    names = ["".join(draw.choice("aeioubdfgklmnprst") for _ in range(draw.randrange(2, 11))) for _ in range(words)]
    return draw.choices(names, [1 / (rank + 3) for rank in range(words)], k=400_000)


def _document(source: list[str], number: int) -> str:
    draw = random.Random(number)
    start = draw.randrange(len(source))
    text = [source[(start + place) % len(source)] for place in range(WORDS)]
    return " ".join([*text, PLANTED] if number % 10 == 0 else text)


def _speed(way: Callable[[str], object], documents: list[str]) -> float:
    began = time.process_time()
    for document in documents:
        way(document)
    return len(documents) / (time.process_time() - began)


if __name__ == "__main__":
    main()
