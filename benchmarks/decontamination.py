"""Hide made-up benchmark questions in documents and pairs, and count how many of them an index finds, and what else.

    python benchmarks/decontamination.py [--documents N] [--corpus FILE] [--results FOLDER]

200 questions of 5 to 69 words, each hidden in five ways in a document of 400 words of the corpus and in a pair, among
N documents and as many pairs in all: whole, cut to 60% of its words, in other case, in other punctuation, and in other
Unicode. Beyond an index of n-grams, and not part of recall, are questions with every fourth word another or in other
order.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from common import Report, chosen, parser, publish, texts_of

from hfsynth.core.benchmarks import Benchmark, BenchmarkRow
from hfsynth.quality.contamination import DOCUMENT_WORDS, PAIR_WORDS, Contamination, ContaminationIndex

QUESTIONS = 200
WORDS = 400
OPENINGS = (
    *("Which of the following best describes", "What is the most likely reason for", "How many", "Why did", "When was"),
    *("According to the passage, what can be said about", "A train leaves", "Consider", "Calculate the number of"),
)


@dataclass(frozen=True)
class Hidden:
    """A text with what was hidden in it, and how; `way` is empty where nothing was. `words` are those hidden."""

    text: tuple[str, str]
    way: str
    words: int


def whole(question: str, draw: random.Random) -> str:
    """Leave it as it is."""
    return question


def cut(question: str, draw: random.Random) -> str:
    """Keep 60% of the words, from somewhere in it."""
    words = question.split()
    kept = max(1, round(0.6 * len(words)))
    start = draw.randrange(len(words) - kept + 1)
    return " ".join(words[start : start + kept])


def cased(question: str, draw: random.Random) -> str:
    """Write all of it large, or every word with a capital."""
    return draw.choice([question.upper(), question.title()])


def punctuated(question: str, draw: random.Random) -> str:
    """Put punctuation and breaks between the words, and take its own away."""
    breaks = [" ", ", ", " - ", "\n", "; ", "  "]
    return "".join(word.strip("?,.") + draw.choice(breaks) for word in question.split())


def unicoded(question: str, draw: random.Random) -> str:
    """Write it in full-width letters, with soft hyphens, or taken apart into letters and marks."""
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in question)
    return draw.choice([wide, question.replace("e", "e\u00ad"), unicodedata.normalize("NFD", question)])


def worded(question: str, draw: random.Random) -> str:
    """Replace every fourth word."""
    return " ".join("something" if place % 4 == 3 else word for place, word in enumerate(question.split()))


def ordered(question: str, draw: random.Random) -> str:
    """Shuffle the words."""
    words = question.split()
    draw.shuffle(words)
    return " ".join(words)


WAYS: tuple[Callable[[str, random.Random], str], ...] = (whole, cut, cased, punctuated, unicoded)
BEYOND: tuple[Callable[[str, random.Random], str], ...] = (worded, ordered)


def main() -> None:
    """Measure and publish."""
    args = parser(__doc__).parse_args()
    count = chosen(args.documents, args.full, small=10_000, large=100_000)
    rows, figures = measured(" ".join(texts_of(args.corpus)).split(), count)
    publish(Report("decontamination", "Hidden benchmark questions found", rows, figures), args.results)


def measured(source: list[str], count: int) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return the table and the figures for so many documents and pairs made of `source`."""
    questions = [_question(source, number) for number in range(QUESTIONS)]
    rows = tuple(BenchmarkRow(question, number=number) for number, question in enumerate(questions))
    index = ContaminationIndex.build([Benchmark("made-up", rows)])
    documents = [*hidden(source, questions, count, pairs=False)]
    pairs = [*hidden(source, questions, count, pairs=True)]
    found = {
        "documents": [(one, index.document(one.text[0])) for one in documents],
        "pairs": [(one, index.pair(*one.text)) for one in pairs],
    }
    table = [row for name, told in found.items() for row in _table(name, told)]
    figures: dict[str, object] = {"questions": QUESTIONS, "left out of the index": sum(index.left_out.values())}
    for name, long in (("documents", DOCUMENT_WORDS), ("pairs", PAIR_WORDS)):
        figures |= {f"{name}: {what}": value for what, value in _figures(found[name], long).items()}
    return table, figures


def hidden(source: list[str], questions: list[str], count: int, *, pairs: bool) -> list[Hidden]:
    """Return texts in each of which at most one question is hidden, each question once in each way."""
    plants = [(way, question) for way in (*WAYS, *BEYOND) for question in questions]
    made = []
    for number in range(max(count, len(plants))):
        draw = random.Random(number + count * pairs)
        way, question = plants[number] if number < len(plants) else (None, "")
        planted = way(question, draw) if way else ""
        text = _pair(source, planted, draw) if pairs else (_document(source, planted, draw), "")
        made.append(Hidden(text, way.__name__ if way else "", len(planted.split())))
    return made


def _question(source: list[str], number: int) -> str:
    """Make a question up: its words stand in the source, but not so in a row."""
    draw = random.Random(f"question {number}")
    content = [draw.choice(source).strip('.,;:"()') for _ in range(draw.choice([3, 5, 8, 12, 16, 20, 30, 45, 60]))]
    return " ".join([draw.choice(OPENINGS), *filter(None, content)]) + "?"


def _document(source: list[str], planted: str, draw: random.Random) -> str:
    text, place = _taken(source, WORDS, draw), draw.randrange(WORDS)
    return " ".join([*text[:place], planted, *text[place:]])


def _pair(source: list[str], planted: str, draw: random.Random) -> tuple[str, str]:
    asked = f"{draw.choice(OPENINGS)} {' '.join(_taken(source, draw.choice([6, 12, 25]), draw))}?"
    return planted or asked, " ".join(_taken(source, draw.choice([1, 5, 20, 60]), draw))


def _taken(source: list[str], count: int, draw: random.Random) -> list[str]:
    start = draw.randrange(len(source))
    return [source[(start + place) % len(source)] for place in range(count)]


def _table(name: str, told: list[tuple[Hidden, Contamination]]) -> list[dict[str, object]]:
    long = DOCUMENT_WORDS if name == "documents" else PAIR_WORDS
    rows = []
    for way in (*(way.__name__ for way in (*WAYS, *BEYOND)), ""):
        ours = [(one, verdict.flagged) for one, verdict in told if one.way == way]
        told_long = [flagged for one, flagged in ours if one.words >= long]
        row = {"texts": f"{name}, {way or 'nothing hidden'}", "number": len(ours), "flagged": sum(f for _, f in ours)}
        rows.append({**row, "of those with a run left": f"{sum(told_long)} of {len(told_long)}" if way else None})
    return rows


def _figures(told: list[tuple[Hidden, Contamination]], long: int) -> dict[str, float]:
    within = {way.__name__ for way in WAYS}
    planted = [(one.words >= long, verdict.flagged) for one, verdict in told if one.way in within]
    right = sum(flagged for _, flagged in planted)
    flagged = sum(verdict.flagged for one, verdict in told if one.way in within or not one.way)
    of_long = [flagged for is_long, flagged in planted if is_long]
    return {
        "recall": right / len(planted),
        "recall where a run of words is left": sum(of_long) / len(of_long),
        "precision": right / max(flagged, 1),
    }


if __name__ == "__main__":
    main()
