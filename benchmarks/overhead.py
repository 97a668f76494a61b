"""What a job costs beside the engine: documents a second of the whole job, of the raw engine, and of `datasets.map`.

    python benchmarks/overhead.py                                            # a script that answers at once
    python benchmarks/overhead.py --model embedded --documents 64 --shots 2  # the real vLLM

All runs use the same documents and one engine in this process, whose loading is not counted; they take turns, and the
best of each counts. The raw engine is driven with the same prompts, with no journal and no file; job and map start from
a file and end with one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import RESULTS, Report, publish, timed
from datasets import disable_progress_bars, load_dataset

from hfsynth import Synthesizer
from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.records import Document
from hfsynth.documents.source import Source
from hfsynth.engine.loading import engine_for
from hfsynth.engine.protocol import Engine
from hfsynth.job.run import synthesize
from hfsynth.models.resolve import pinned
from hfsynth.synthesis.chains import chainer_for, generation_for

TARGETS = {"scripted": ("documents a second of the job", 1500.0), "real": ("of raw", 0.95)}
SENTENCE = "It says something about the weather, the sea and the price of fish on that day. "


def main() -> None:
    args = arguments()
    disable_progress_bars()
    publish(measured(args), args.results)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", default="scripted", help="`scripted`, `embedded`, a Hub model or a folder")
    made.add_argument("--documents", type=int, default=20_000)
    made.add_argument("--sentences", type=int, default=5, help="of a document")
    made.add_argument("--shots", type=int, default=1)
    made.add_argument("--max-tokens", type=int, default=64)
    made.add_argument("--repeats", type=int, default=3)
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    return made.parse_args()


def measured(args: argparse.Namespace) -> Report:
    engine = EngineConfig("scripted" if args.model == "scripted" else "vllm", {})
    config = SynthesizerConfig(args.model, shots=args.shots, sampling=Sampling(max_tokens=args.max_tokens))
    with tempfile.TemporaryDirectory() as name:
        source = write_corpus(Path(name) / "corpus.jsonl", args.documents, args.sentences)
        best = best_of(source, Path(name), config, engine, args.repeats)
    rates = {way: args.documents / seconds for way, seconds in best.items()}
    rows = [{"way": way, "documents a second": rate, "of raw": rate / rates["raw"]} for way, rate in rates.items()]
    what, target = TARGETS["scripted" if args.model == "scripted" else "real"]
    return Report(
        "overhead" if args.model == "scripted" else "overhead_real",
        f"Beside the engine: {args.documents:,} documents, {args.model}, M={args.shots} (target: {target:,} {what})",
        rows,
        {"documents_per_second": round(rates["job"], 1), "of_raw": round(rates["job"] / rates["raw"], 3)},
        bars=rates,
        unit="documents a second",
    )


def write_corpus(path: Path, documents: int, sentences: int) -> Path:
    """Write numbered documents, no two alike."""
    with path.open("w") as file:
        for number in range(documents):
            text = f"Entry {number} of the log. " + SENTENCE * sentences
            file.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")
    return path


def best_of(
    source: Path, folder: Path, config: SynthesizerConfig, engine: EngineConfig, repeats: int
) -> dict[str, float]:
    """Return the least seconds that each way takes, of several turns."""
    loaded = engine_for(pinned(config, engine), engine)
    ways: dict[str, Callable[[int], object]] = {
        "raw": lambda number: raw(source, config, loaded),
        "job": lambda number: synthesize(Source(str(source)), folder / f"job{number}", config, engine=engine),
        "map": lambda number: mapped(source, folder / f"map{number}", config, engine),
    }
    best = dict.fromkeys(ways, float("inf"))
    for number in range(repeats):
        for way, run in ways.items():
            forget(loaded)
            best[way] = min(best[way], timed(lambda run=run, number=number: run(number))[0])
    return best


def forget(engine: Engine) -> None:
    """Let an engine that has a prefix cache forget it."""
    reset = getattr(engine, "reset_cache", None)
    if reset is not None:
        reset()


def raw(source: Path, config: SynthesizerConfig, engine: Engine) -> None:
    """Drive the engine through documents that are in memory, and drop what comes back."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    documents = [Document(row["id"], row["text"]) for row in rows]
    chainer = chainer_for(config, engine)
    for _ in engine.run(chainer.chains(documents), generation_for(config, chainer)):
        pass


def mapped(source: Path, out: Path, config: SynthesizerConfig, engine: EngineConfig) -> None:
    """Run the transform in `datasets.map`."""
    loaded = load_dataset("json", data_files=str(source), split="train", cache_dir=str(out))
    batch = 1000 // config.shots * config.shots
    loaded.map(Synthesizer.from_config(config, engine), batched=True, batch_size=batch)


if __name__ == "__main__":
    main()
