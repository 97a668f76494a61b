"""Every number that a card says of screening is recounted from the rows, through all the ways to take something out."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from identifier_makers import MAKERS
from jobs import documents
from scripts_kill import judging
from seeds import SEED

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.job.screen import screen
from hfsynth.job.verify import verify
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import write_card

WORDS = [*("the", "keeper", "of", "a", "lamp", "went", "down", "to", "the", "harbour", "in", "winter", "and", "saw")]
WORDS += [*("that", "the", "boat", "was", "gone", "with", "all", "the", "nets")]
GERMAN = "Der Leuchtturm steht am Rand der Bucht, und im Winter fahren die Boote nicht mehr hinaus auf das Meer."
FIRST = "Why did the keeper of the northern lamp row across the bay in the winter of the great storm?"
SECOND = "Which of the seven nets did the fisherman mend before he sailed to the island of the grey seals?"
NUMBER = re.compile(r"\d[\d,]*")


def texts() -> dict[int, str]:
    draw = random.Random(SEED)
    made = {number: " ".join(draw.choices(WORDS, k=60)) for number in range(90)}
    for number in range(0, 36, 3):
        kind = list(MAKERS)[number // 3 % len(MAKERS)]
        made[number] += f" Ask {MAKERS[kind](draw)}."
    made |= {number: f"{GERMAN} Nummer {number}. {GERMAN}" for number in (40, 41, 42)}
    made |= {number: f"{made[number]} Quiz: {FIRST}" for number in (50, 51)}
    made |= {number: f"{made[number]} Quiz: {SECOND}" for number in (60, 61, 62, 63)}
    return made | {
        70: made[1].upper(),
        71: made[2] + "!",
        72: made[4].replace("keeper", "Keeper", 1) + " and more",
        80: " ",
    }


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[dict[str, Any]]]:
    """Return a card, and the rows that it tells of."""
    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path / "cache"))
    for name, question in (("first", FIRST), ("second", SECOND)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": question}) + "\n")
    source, out = documents(tmp_path / "texts.jsonl", 90, special=texts()), tmp_path / "out"
    first = str(tmp_path / "first.jsonl")
    config = SynthesizerConfig("scripted", pii="mark", decontaminate=first, shots=2)  # type: ignore[arg-type]
    synthesize(Source(str(source)), out, config, engine=EngineConfig("scripted"), shard_rows=20)
    screen(out, duplicates=True, language=["en", "unknown"], decontaminate=str(tmp_path / "second.jsonl"))
    verify(out, "judge", keep=["accuracy>=0.5"], engine=ScriptedEngine(judging))
    write_card(out, CardSettings(license="cc0-1.0", language=("en",)))
    rows = [row for path in sorted((out / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]
    return (out / "README.md").read_text(), rows


def taken_out(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yield what was taken out: `document` or `pair`, the reason, and what is said of it."""
    for row in rows:
        for one in row["synthesis"]["rejected"]:
            yield "pair" if one["text"].startswith("{") else "document", one["reason"], one["text"]


def numbers(text: str) -> list[int]:
    return [int(found.replace(",", "")) for found in NUMBER.findall(text)]


def test_every_number_of_a_screening_is_in_the_rows(card: tuple[str, list[dict[str, Any]]]) -> None:
    text, rows = card
    entries = list(taken_out(rows))
    out = Counter((what, reason) for what, reason, _ in entries)
    why = Counter((reason, told) for what, reason, told in entries if what == "document")
    [section] = re.findall(r"## Screening\n\n((?:- .*\n)+)", text)
    before, language, benchmarks, duplicates = [line[2:] for line in section.splitlines()]

    found = [row["synthesis"]["identifiers"] for row in rows if row["synthesis"]["identifiers"]]
    kinds = Counter(kind for own in found for kind in own)
    assert numbers(before) == [len(found), *(kinds[kind] for kind in sorted(kinds))] and set(kinds) == set(MAKERS)

    spoken = Counter({told: number for (reason, told), number in why.items() if reason == "language"})
    counted = sorted(spoken.items(), key=lambda item: (-item[1], item[0]))
    assert numbers(language) == [out["document", "language"], out["pair", "language"], *(n for _, n in counted)]
    assert out["document", "language"] >= 3 and out["pair", "language"] > 0

    by_suite = {
        name: sum(n for (_, told), n in why.items() if f"of {name}.jsonl" in told) for name in ("first", "second")
    }
    assert by_suite == {"first": 2, "second": 4}
    assert f": {by_suite['second']} documents and {out['pair', 'contaminated']} pairs were kept out" in benchmarks
    assert "not the same questions in other words" in benchmarks
    told = re.search(r"benchmarks named above hold (\d+) documents .* and (\d+) pairs", text)
    assert told and (int(told[1]), int(told[2])) == (by_suite["first"], 0)

    same = {kind: sum(n for (_, told), n in why.items() if told.startswith(kind)) for kind in ("exact", "near")}
    assert numbers(duplicates)[:3] == [same["exact"] + same["near"], same["exact"], same["near"]]
    assert numbers(duplicates)[-1] == out["pair", "duplicate"] > 0 and same["exact"] >= 2


def test_the_table_of_what_was_taken_out_is_in_the_rows(card: tuple[str, list[dict[str, Any]]]) -> None:
    text, rows = card
    statuses = Counter(row["synthesis"]["status"] for row in rows)
    reasons = Counter(one["reason"] for row in rows for one in row["synthesis"]["rejected"])
    lines = re.findall(r"^\| [a-z ,]+ \| `(\w+)` \| ([\d,]+) \| [a-z]", text, re.MULTILINE)
    counted = {(name, int(number.replace(",", ""))) for name, number in lines if number != "0"}
    assert counted == {*statuses.items(), *reasons.items()}
