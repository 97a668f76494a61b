"""Compare the ways to write pairs about the same documents: pairs a document, grounding, repetition, speed.

    python benchmarks/methods.py [--corpus FILE …] [--documents N] [--chat MODEL] [--only WAY …] [--results FOLDER]

Each way is a job of its own, by the command that the table names, then `hfsynth evaluate` on its folder. `--chat base`,
the default, is the embedded synthesizer's base model, a chat model of 135M parameters. The documents are the first
`--words` words of texts taken evenly from the corpora (JSON lines with `text`, or .gz of them); without one, those of
the examples. Speed is of the job at work, loading left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import EXAMPLES, RESULTS, Report, publish

from hfsynth.models.adapters import base_path
from hfsynth.quality.corpus_evaluation import evaluate_corpus

EMBEDDED = ("--model", "embedded")
EXEMPLARS = ("--exemplars", str(EXAMPLES.with_name("exemplars.jsonl")))
WAYS: Mapping[str, Sequence[str]] = {
    "mined": ("--model", "mined"),
    "embedded": EMBEDDED,
    "embedded, 1 exemplar": (*EMBEDDED, *EXEMPLARS),
    "embedded, 2 shots": (*EMBEDDED, "--shots", "2"),
    "chat": ("--model", "CHAT", "--prompt-format", "chat"),
    "chat, prompt qa": ("--model", "CHAT", "--prompt", "qa"),
    "chat, prompt faq": ("--model", "CHAT", "--prompt", "faq"),
}
"""The options of each way; CHAT stands for the chat model."""
_FIGURES = {
    "pairs a document": "pairs_per_document",
    "with pairs": "with_pairs",
    "grounding": "grounding",
    "fully grounded": "fully_grounded",
    "repeated": "repeated_instructions",
    "other language": "language_mismatch",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, action="append", help="may be repeated")
    parser.add_argument("--documents", type=int, default=24, help="of all corpora together")
    parser.add_argument("--words", type=int, default=250, help="of a document at most")
    parser.add_argument("--chat", default="base", help="a chat model, or `base`")
    parser.add_argument("--only", action="append", choices=list(WAYS), help="may be repeated")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    given = parser.parse_args()
    chosen = {name: options for name, options in WAYS.items() if not given.only or name in given.only}
    asks = any("CHAT" in options for options in chosen.values())
    chat = str(base_path()) if asks and given.chat == "base" else given.chat
    with TemporaryDirectory() as place:
        texts = documents(given.corpus or [EXAMPLES], given.documents, given.words)
        read = Path(place) / "docs.jsonl"
        read.write_text(
            "".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts)), "utf-8"
        )
        rows = [
            measured(name, [chat if word == "CHAT" else word for word in options], read, Path(place) / f"out{number}")
            for number, (name, options) in enumerate(chosen.items())
        ]
    title = f"The ways to write pairs: {len(texts)} documents of {sum(len(one.split()) for one in texts):,} words"
    bars = {row["way"]: float(row["documents a second"]) for row in rows}
    publish(Report("methods", title, rows, bars=bars, unit="documents a second"), given.results)


def documents(corpora: Sequence[Path], number: int, words: int) -> list[str]:
    """Return so many texts, as many of each corpus, taken evenly from it and cut behind so many words."""
    found: list[str] = []
    for corpus in corpora:
        opened = gzip.open if corpus.suffix == ".gz" else open
        with opened(corpus, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
        each = max(1, number // len(corpora))
        found += [" ".join(texts[at * len(texts) // each].split(" ")[:words]) for at in range(each)]
    return found


def measured(name: str, options: Sequence[str], read: Path, out: Path) -> dict[str, Any]:
    """Run a job and return its row."""
    command = [
        sys.executable,
        "-m",
        "hfsynth",
        "synthesize",
        str(read),
        str(out),
        *options,
        "--workers",
        "0",
        "--quiet",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    stats = json.loads((out / "stats.json").read_text("utf-8"))
    told = evaluate_corpus(out)["figures"]
    figures = {title: _rounded(told[figure]["mean"]) for title, figure in _FIGURES.items()}
    written = round(stats["output_tokens"] / stats["total_documents"])
    speed = {"tokens a document": written, "documents a second": round(stats["documents_per_second"], 2)}
    rejected = sum(stats["rejected"].values())
    return {"way": name, **figures, "pairs": stats["pairs"], "rejected": rejected, **speed}


def _rounded(mean: float | None) -> float | None:
    return None if mean is None else round(mean, 3)


if __name__ == "__main__":
    main()
