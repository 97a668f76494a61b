"""Measure what prompt recipes add to a job's own cost: the same job with `chat`'s own questions, and with recipes.

    python benchmarks/prompts.py [--documents N] [--rounds N] [--results FOLDER]

A scripted engine answers at once, so that the time is the job's own: reading, prompts, parsing, writing. The jobs take
turns within one run, and the least processor time of each counts. The goal is less than 2% more.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from common import EXAMPLES, RESULTS, Report, publish

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.records import Pair
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.prompting.chat import json_answer
from hfsynth.synthesis.prompts import with_prompt

GOAL = 2.0
MIXED = '[[prompts]]\nuse = "qa"\nweight = 2\n[[prompts]]\nuse = "faq"\nwhen = ["words>=50", "tables<=0.5"]\n'
ANSWER = json_answer([Pair(f"What does part {n} say?", "It tells of lamps and towers.") for n in range(4)])


def source(folder: Path, number: int) -> Path:
    """Write so many documents, those of the examples again and again."""
    texts = [json.loads(line)["text"] for line in EXAMPLES.read_text("utf-8").splitlines()]
    rows = ({"id": f"d{n}", "text": f"{n}. {texts[n % len(texts)]}"} for n in range(number))
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "docs.jsonl"


def seconds_of(config: SynthesizerConfig, read: Path, out: Path) -> float:
    engine = ScriptedEngine(lambda prompt: ANSWER)
    start = time.process_time()
    synthesize(Source(str(read)), out, config, engine=engine)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    given = parser.parse_args()
    plain = SynthesizerConfig("scripted", prompt_format="chat")
    rows = []
    with TemporaryDirectory() as place:
        folder = Path(place)
        read = source(folder, given.documents)
        (folder / "mixed.toml").write_text(MIXED)
        jobs = {"chat": plain, "qa": with_prompt(plain, "qa"), "mixed": with_prompt(plain, folder / "mixed.toml")}
        seconds_of(plain, read, folder / "first")
        took: dict[str, list[float]] = {name: [] for name in jobs}
        for turn in range(given.rounds):
            for name, config in jobs.items():
                took[name].append(seconds_of(config, read, folder / f"{name}{turn}"))
        least = {name: min(found) for name, found in took.items()}
        for name, seconds in least.items():
            more = round(100 * (seconds / least["chat"] - 1), 1)
            rows.append({"prompts": name, "seconds": round(seconds, 3), "more_percent": more})
    title = f"What prompt recipes add to a job of {given.documents:,} documents (goal: {GOAL:g}%)"
    bars = {row["prompts"]: row["seconds"] for row in rows}
    publish(Report("prompts", title, rows, {"goal": GOAL}, bars=bars, unit="seconds of one core"), given.results)


if __name__ == "__main__":
    main()
