"""Measure texts a second of `render_rows` on one core, next to `cook_pt_entries` of the published code.

    python benchmarks/rendering.py [--reference PATH] [--language en|de] [--results FOLDER]

PATH is a checkout of microsoft/LMOps; both sides then get the same documents and pairs in the same run. Documents
have 300 words and five pairs: four free-form, and in turn multiple choice or a chain of thought. A third of a
document's words are function words of English or, with --language de, of German, by which its language is told.
--shots is the number of documents in a chain: the more there are, the less what the reference does once a text
weighs. The goals are 5,000 documents a second and three times the speed of the reference. Each side runs as often as
--rounds says, in turn, and its best processor time counts.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import RESULTS, Report, publish

from hfsynth.texts.training_texts import render_rows

GOAL = 5_000
GOAL_OF_REFERENCE = 3.0

FUNCTION_WORDS = {"en": "the of and in to the a that the is", "de": "der die und in den von das mit nicht ist"}

Rows = list[dict[str, Any]]
Cook = Callable[[Rows, int], list[str]]


def made_up_rows(documents: int, shots: int, language: str = "en") -> Rows:
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(5000)]
    common = FUNCTION_WORDS[language].split()
    return [made_up_row(number, shots, draw, words, common) for number in range(documents)]


def made_up_row(number: int, shots: int, draw: random.Random, words: list[str], common: list[str]) -> dict[str, Any]:
    def say(length: int) -> str:
        return " ".join(draw.choices(words, k=length))

    pairs = [{"instruction": f"What is {say(6)}?", "response": f"{say(12)}."} for _ in range(4)]
    if number % 4 < 2:
        options = draw.sample(words, 4)
        listed = "\n".join(f"- {option}" for option in options)
        pairs.append({"instruction": f"Which is {say(5)}?\nOptions:\n{listed}", "response": options[0]})
    else:
        steps = f"{say(25)}.\nTherefore, the answer is {say(2)}."
        pairs.append({"instruction": f"Why is {say(6)}?\nLet's think step by step.", "response": steps})
    shot = number % shots
    synthesis = {"status": "ok", "chain": f"chain {number // shots}", "shot": shot, "follows": shot > 0}
    text = " ".join(f"{say(2)} {draw.choice(common)}" for _ in range(100))
    return {"text": text, "id": str(number), "pairs": pairs, "synthesis": synthesis}


def reference_chains(rows: Rows, shots: int) -> list[Rows]:
    """Return the same chains in the form that the reference takes."""
    entries = [
        {
            "context": row["text"],
            "QA_list": [{"Q": pair["instruction"], "A": pair["response"]} for pair in row["pairs"]],
            "inherit_from_prev": row["synthesis"]["follows"],
        }
        for row in rows
    ]
    return [entries[at : at + shots] for at in range(0, len(entries), shots)]


def load_reference(checkout: Path) -> Cook:
    folder = checkout / "instruction_pretrain"
    if not (folder / "utils" / "read_compre.py").is_file():
        sys.exit(f"{checkout} is no checkout of microsoft/LMOps: it has no instruction_pretrain/utils/read_compre.py.")
    sys.path.insert(0, str(folder))
    cook: Cook = importlib.import_module("utils.read_compre").cook_pt_entries
    return cook


def seconds_of_ours(rows: Rows) -> tuple[float, int]:
    start = time.process_time()
    texts = sum(1 for _ in render_rows(rows, seed=0))
    return time.process_time() - start, texts


def seconds_of_reference(cook: Cook, chains: list[Rows]) -> tuple[float, int]:
    """Time the reference on a copy, since it changes what it is given; making the copy does not count."""
    chains = copy.deepcopy(chains)
    start = time.process_time()
    texts = sum(len(cook(chain, index + 12345)) for index, chain in enumerate(chains))
    return time.process_time() - start, texts


def speed(documents: int, runs: list[tuple[float, int]]) -> dict[str, float]:
    seconds, texts = min(runs)
    return {
        "texts": texts,
        "seconds": round(seconds, 3),
        "texts_per_second": round(texts / seconds),
        "documents_per_second": round(documents / seconds),
    }


def measure(documents: int, shots: int, rounds: int, cook: Cook | None, language: str = "en") -> dict[str, Any]:
    rows = made_up_rows(documents, shots, language)
    chains = reference_chains(rows, shots)
    list(render_rows(rows[:100], seed=0))  # reads the data files
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds_of_ours(rows))
        if cook is not None:
            theirs.append(seconds_of_reference(cook, chains))
    result: dict[str, Any] = {"documents": documents, "shots": shots, "hfsynth": speed(documents, ours), "goal": GOAL}
    if theirs:
        result["reference"] = speed(documents, theirs)
        result["times_the_reference"] = round(min(theirs)[0] / min(ours)[0], 2)
        result["goal_of_reference"] = GOAL_OF_REFERENCE
    else:
        result["reference"] = "skipped: it needs --reference, the path of a checkout of microsoft/LMOps"
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of microsoft/LMOps")
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--shots", type=int, default=2)
    parser.add_argument("--language", choices=sorted(FUNCTION_WORDS), default="en")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    given = parser.parse_args()
    cook = load_reference(given.reference) if given.reference else None
    result = measure(given.documents, given.shots, given.rounds, cook, given.language)
    sides = {side: result[side] for side in ("hfsynth", "reference") if isinstance(result[side], dict)}
    report = Report(
        "rendering",
        f"Rendering {given.documents:,} documents on one core, M={given.shots} (goal: {GOAL:,} a second)",
        [{"side": side, **figures} for side, figures in sides.items()],
        {name: value for name, value in result.items() if name not in sides},
        bars={side: float(figures["documents_per_second"]) for side, figures in sides.items()},
        unit="documents a second",
    )
    publish(report, given.results)


if __name__ == "__main__":
    main()
