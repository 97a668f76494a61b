"""What a job costs beside the engine: documents a second of the whole job, of the raw engine, and of `datasets.map`.

    python benchmarks/overhead.py                                          # a script that answers at once
    python benchmarks/overhead.py --model embedded --documents 64 --shots 2  # the real vLLM
    python benchmarks/overhead.py --latency 0.02 --scaling                 # two workers against one
    python benchmarks/overhead.py --model embedded --documents 256 --shots 2 --scaling

All runs of one call use the same documents and, but for --scaling, one engine in this process, whose loading is not
counted. The raw engine is driven with the same prompts, with no journal and no file; job and map start from a file
and end with one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from datasets import load_dataset

from hfsynth import Synthesizer
from hfsynth.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.engine import Engine
from hfsynth.job import synthesize
from hfsynth.local_crew import LocalCrew
from hfsynth.models import chainer_for, engine_for, generation_for, pinned
from hfsynth.records import Document
from hfsynth.sources import Source

SENTENCE = "It says something about the weather, the sea and the price of fish on that day. "


def main() -> None:
    """Print one line of JSON for each way to do the work."""
    options = arguments()
    engine_config = EngineConfig.create(
        "scripted" if options.model == "scripted" else "vllm",
        {"latency": options.latency} if options.latency else {},
    )
    config = SynthesizerConfig(options.model, shots=options.shots, sampling=Sampling(max_tokens=options.max_tokens))
    with tempfile.TemporaryDirectory() as name:
        source = write_corpus(Path(name) / "corpus.jsonl", options.documents, options.sentences)
        if options.scaling:
            scaling(source, Path(name), config, engine_config)
        else:
            overhead(source, Path(name), config, engine_config, options.repeats)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--sentences", type=int, default=5)
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scaling", action="store_true")
    return parser.parse_args()


def write_corpus(path: Path, documents: int, sentences: int) -> Path:
    """Write numbered documents, no two alike."""
    with path.open("w") as file:
        for number in range(documents):
            text = f"Entry {number} of the log. " + SENTENCE * sentences
            file.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")
    return path


def overhead(source: Path, folder: Path, config: SynthesizerConfig, engine: EngineConfig, repeats: int) -> None:
    """Measure the three ways in turn, several times, and compare the best of each."""
    loaded = engine_for(pinned(config, engine), engine)
    documents = sum(1 for _ in source.open())
    ways = {
        "raw": lambda number: raw(source, config, loaded),
        "job": lambda number: job(source, folder / f"job{number}", config, engine),
        "map": lambda number: mapped(source, folder / f"map{number}", config, engine),
    }
    best = dict.fromkeys(ways, float("inf"))
    for number in range(repeats):
        for way, run in ways.items():
            forget(loaded)
            best[way] = min(best[way], timed(lambda run=run, number=number: run(number)))
    for way, seconds in best.items():
        rate = documents / seconds
        print(
            json.dumps({"way": way, "documents_per_second": round(rate, 1), "of_raw": round(best["raw"] / seconds, 3)})
        )


def timed(work: Callable[[], None]) -> float:
    """Return how long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


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


def job(source: Path, out: Path, config: SynthesizerConfig, engine: EngineConfig) -> None:
    """Run the whole job in this process."""
    synthesize(Source(str(source)), out, config, engine=engine)


def mapped(source: Path, out: Path, config: SynthesizerConfig, engine: EngineConfig) -> None:
    """Run the transform in `datasets.map`."""
    loaded = load_dataset("json", data_files=str(source), split="train", cache_dir=str(out))
    batch = 1000 // config.shots * config.shots
    loaded.map(Synthesizer.from_config(config, engine), batched=True, batch_size=batch)


def scaling(source: Path, folder: Path, config: SynthesizerConfig, engine: EngineConfig) -> None:
    """Run the job with one worker process and with two, in shards small enough to share; rates leave out loading.

    Without a GPU two workers have half of the cores each, where one has them all.
    """
    rows = shard_rows(sum(1 for _ in source.open()), config.shots)
    rates = {}
    for workers in (1, 2):
        result = synthesize(
            Source(str(source)), folder / str(workers), config, engine=engine, shard_rows=rows, crew=LocalCrew(workers)
        )
        rates[workers] = result.stats["documents_per_second"]
        print(json.dumps({"workers": workers, "documents_per_second": rates[workers]}))
    print(json.dumps({"speedup": round(rates[2] / rates[1], 2)}))


def shard_rows(documents: int, shots: int) -> int:
    """Return the rows a shard: an eighth of the documents, at most 500, whole chains."""
    return max(shots, min(500, documents // 8) // shots * shots)


if __name__ == "__main__":
    main()
