"""What a second worker adds: documents a second of a job with one worker process and with two, in small shards.

    python benchmarks/workers.py                                              # a script that takes 20 ms to answer
    python benchmarks/workers.py --model embedded --documents 256 --shots 2   # the real vLLM

Rates leave out the loading of the engines. Without a GPU two workers have half of the cores each, where one has them
all: only what a single engine leaves idle can be gained.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import RESULTS, Report, publish
from overhead import write_corpus

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.job.launcher import LocalLauncher
from hfsynth.job.run import synthesize


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", default="scripted", help="`scripted`, `embedded`, a Hub model or a folder")
    made.add_argument("--documents", type=int, default=20_000)
    made.add_argument("--sentences", type=int, default=5, help="of a document")
    made.add_argument("--shots", type=int, default=1)
    made.add_argument("--max-tokens", type=int, default=64)
    made.add_argument("--latency", type=float, default=0.02, help="seconds that a script takes to answer")
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    args = made.parse_args()
    publish(measured(args), args.results)


def measured(args: argparse.Namespace) -> Report:
    is_scripted = args.model == "scripted"
    engine = EngineConfig("scripted" if is_scripted else "vllm", {"latency": args.latency} if is_scripted else {})
    config = SynthesizerConfig(args.model, shots=args.shots, sampling=Sampling(max_tokens=args.max_tokens))
    rates = {}
    with tempfile.TemporaryDirectory() as name:
        source = Source(str(write_corpus(Path(name) / "corpus.jsonl", args.documents, args.sentences)))
        for workers in (1, 2):
            out, rows = Path(name) / str(workers), shard_rows(args.documents, args.shots)
            result = synthesize(source, out, config, engine=engine, shard_rows=rows, launcher=LocalLauncher(workers))
            rates[workers] = float(result.stats["documents_per_second"])
    return Report(
        "workers" if is_scripted else "workers_real",
        f"Two workers against one: {args.documents:,} documents, {args.model}, M={args.shots}",
        [{"workers": n, "documents a second": rate, "of one": rate / rates[1]} for n, rate in rates.items()],
        {"speedup": round(rates[2] / rates[1], 2)},
        bars={f"{n} worker{'s' * (n > 1)}": rate for n, rate in rates.items()},
        unit="documents a second",
    )


def shard_rows(documents: int, shots: int) -> int:
    """Return the rows a shard: an eighth of the documents, at most 500, whole chains."""
    return max(shots, min(500, documents // 8) // shots * shots)


if __name__ == "__main__":
    main()
