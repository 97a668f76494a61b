"""Measure what looking for identifiers costs: documents a second on one core, beside splitting them into words.

    python benchmarks/screening.py [--documents N] [--results FOLDER]

Documents are 400 words of the examples' texts, one in ten with an identifier of each kind.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from common import Report, chosen, parser, publish, texts_of

from hfsynth.quality.identifiers import identifiers
from hfsynth.quality.words import words

WORDS = 400
PLANTED = "jane@acme.io +44 20 7946 0958 4111 1111 1111 1111 DE89 3704 0044 0532 0130 00 8.8.8.8"


def main() -> None:
    """Measure and publish."""
    args = parser(__doc__).parse_args()
    source = " ".join(texts_of(args.corpus)).split()
    count = chosen(args.documents, args.full, small=4_000, large=40_000)
    documents = [_document(source, number) for number in range(count)]
    ways: dict[str, Callable[[str], object]] = {"words": words, "identifiers": identifiers}
    rows = [{"way": name, "documents a second": round(_speed(way, documents))} for name, way in ways.items()]
    figures = {str(row["way"]): row for row in rows}
    report = Report("screening", "Identifiers looked for in documents of 400 words", rows, figures)
    report.bars = {str(row["way"]): float(row["documents a second"]) for row in rows}
    report.unit = "documents a second"
    publish(report, args.results)


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
