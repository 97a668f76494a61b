"""Measure what prompt recipes add to a job's own cost: the same job with `chat`'s own questions, and with recipes.

    python benchmarks/prompts.py [--documents N] [--rounds N] [--results FOLDER]

A scripted engine answers at once, so that the time is the job's own: reading, the chat template, token ids, parsing,
writing. Template and tokenizer are the embedded model's. `one` and `two` are recipes whose prompts have as many tokens
as `chat`'s own: what they add is choosing and wording, which the goal of less than 2% is about. `qa` and `mixed` are
built-in prompts, whose questions are longer, and longer prompts take longer to encode. The jobs take turns within one
run, and the least processor time of each counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from common import EXAMPLES, RESULTS, Report, publish

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.prompt_recipes import Prompt, PromptRecipe
from hfsynth.core.records import Document, Pair
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.models.adapters import embedded_path
from hfsynth.models.tokenizers import ModelTokenizer, load_model_tokenizer
from hfsynth.prompting.chat import json_answer
from hfsynth.synthesis.chains import chainer_for
from hfsynth.synthesis.prompts import with_prompt

GOAL = 2.0
MIXED = '[[prompts]]\nuse = "qa"\nweight = 2\n[[prompts]]\nuse = "faq"\nwhen = ["words>=50", "tables<=0.5"]\n'
ANSWER = json_answer([Pair(f"What does part {n} say?", "It tells of lamps and towers.") for n in range(4)])
ASKED = "Write questions about the text below that make clear what it says, how its parts hang together and why. " * 9


class Unread:
    """A tokenizer whose prompts no script reads, so that reading them costs nothing."""

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> object:
        return getattr(self._tokenizer, name)

    def decode(self, token_ids: Iterable[int]) -> str:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    given = parser.parse_args()
    embedded = load_model_tokenizer(str(embedded_path()), None, trust_remote_code=False)
    engine = ScriptedEngine(lambda prompt: ANSWER, tokenizer=Unread(embedded))  # type: ignore[arg-type]
    with TemporaryDirectory() as place:
        folder = Path(place)
        documents = made_documents(given.documents)
        jobs = recipes(folder, engine, documents)
        seconds = least_seconds(jobs, write_documents(folder, documents), engine, given.rounds)
    rows = [
        {
            "prompts": name,
            "tokens a prompt": round(tokens_of(config, engine, documents), 1),
            "microseconds a document": round(1e6 * seconds[name] / len(documents)),
            "more, %": round(100 * (seconds[name] / seconds["chat"] - 1), 1),
        }
        for name, config in jobs.items()
    ]
    title = f"What prompt recipes add to a job of {given.documents:,} documents (goal of `one` and `two`: {GOAL:g}%)"
    bars = {str(row["prompts"]): float(row["microseconds a document"]) for row in rows}
    publish(Report("prompts", title, rows, {"goal": GOAL}, bars=bars, unit="microseconds of a core"), given.results)


def made_documents(number: int) -> list[Document]:
    """Return so many documents, those of the examples again and again."""
    texts = [json.loads(line)["text"] for line in EXAMPLES.read_text("utf-8").splitlines()]
    return [Document(f"d{n}", f"{n}. {texts[n % len(texts)]}") for n in range(number)]


def write_documents(folder: Path, documents: Iterable[Document]) -> Path:
    rows = ({"id": one.id, "text": one.text} for one in documents)
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "docs.jsonl"


def recipes(folder: Path, engine: ScriptedEngine, documents: list[Document]) -> dict[str, SynthesizerConfig]:
    """Return the jobs to compare: `chat`'s own questions, recipes with prompts as long, built-in prompts."""
    plain = SynthesizerConfig("scripted", prompt_format="chat")
    (folder / "mixed.toml").write_text(MIXED)
    sample = documents[:24]
    goal = tokens_of(plain, engine, sample)
    words = min(range(1, len(ASKED), 8), key=lambda n: abs(tokens_of(as_long(plain, n, 1), engine, sample) - goal))
    own = {f"{name}": as_long(plain, words, number) for number, name in ((1, "one"), (2, "two"))}
    return {"chat": plain, **own, "qa": with_prompt(plain, "qa"), "mixed": with_prompt(plain, folder / "mixed.toml")}


def as_long(plain: SynthesizerConfig, letters: int, number: int) -> SynthesizerConfig:
    """Return a recipe of so many prompts, whose wordings have so many letters; the second is for most documents."""
    kinds = ("free_form", "multiple_choice", "chain_of_thought")
    one = Prompt("one", ASKED[:letters], kinds=kinds, words_a_pair=60, weight=2.0)
    two = replace(one, name="two", when=("words>=50", "tables<=0.5"), weight=1.0)
    return with_prompt(plain, PromptRecipe("own", (one, two)[:number]))


def tokens_of(config: SynthesizerConfig, engine: ScriptedEngine, documents: Iterable[Document]) -> float:
    """Return the mean length of the prompts."""
    chainer = chainer_for(config, engine)
    lengths = [len(next(chainer.chain([document])).token_ids) for document in documents]
    return sum(lengths) / len(lengths)


def least_seconds(
    jobs: Mapping[str, SynthesizerConfig], read: Path, engine: ScriptedEngine, rounds: int
) -> dict[str, float]:
    """Return the least processor time of each job, of several turns; what is only done once comes before."""
    took: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(-1, rounds):
        for name, config in jobs.items():
            start = time.process_time()
            synthesize(Source(str(read)), read.parent / f"{name}{turn}", config, engine=engine)
            if turn >= 0:
                took[name].append(time.process_time() - start)
    return {name: min(found) for name, found in took.items()}


if __name__ == "__main__":
    main()
