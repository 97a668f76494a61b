"""What hfsynth costs beside vLLM's own front end: processor time a document, the engine in a process of its own.

    python benchmarks/front_end.py                    # a toy model, 128 requests in flight, M=3
    python benchmarks/front_end.py --model some/model # with another model's tokenizer and shape, without its weights

All ways hand the engine the same prompts. `vllm` makes and reads none: what it takes is vLLM's. `whole` encodes each
prompt as a whole by transformers' own call, `once` each document once a chain, as `map` does; `job` has a file before
it and a folder behind it. The model's weights are random; every answer is replaced by pairs of a usual length.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import EXAMPLES, RESULTS, TINY, Report, made_documents, model_of, publish, write_documents
from gpu_engine import Counting, made_up

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.records import Document
from hfsynth.documents.source import Source
from hfsynth.engine import vllm as vllm_engine
from hfsynth.engine.loading import engine_for
from hfsynth.engine.protocol import Chain, Completion, Request
from hfsynth.engine.start import MULTIPROCESSING
from hfsynth.job.run import synthesize
from hfsynth.models.resolve import pinned
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.formats import prompt_format
from hfsynth.prompting.parsing import render_pairs
from hfsynth.synthesis.chains import Chainer, chainer_for, generation_for

BLOCK = 32
TARGET = 0.5


class Plain(ModelTokenizer):
    """A tokenizer that encodes by transformers' own call, and of which it cannot be told where texts may be cut."""

    def encode(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return found

    def cut(self, left: str, between: str, right: str) -> None:
        return None


@dataclass(frozen=True)
class Cost:
    """Milliseconds of processor time a document: of the whole process, and of the thread that drives the engine."""

    process: float
    driving: float


def costs(args: argparse.Namespace) -> dict[str, Cost]:
    """Run every way in turn, `--repeats` times, on one engine with an empty cache; return the least of each."""
    vllm_engine.load_vllm = Counting  # type: ignore[assignment]
    cache = {"block_size": BLOCK, "num_gpu_blocks_override": args.cache_tokens // BLOCK}
    engine_config = EngineConfig("vllm", {"max_num_seqs": args.sequences, **cache})
    sampling = Sampling(max_tokens=args.max_tokens)
    asked = SynthesizerConfig(
        model_of(args, TINY),
        shots=args.shots,
        sampling=sampling,
        window=args.window,
        prompt_format="instruction-pretrain",
    )
    config = pinned(asked, engine_config)
    engine = engine_for(config, engine_config)
    assert isinstance(engine, Counting)
    Counting.answer = made_up(engine, args.pair_tokens)
    documents = made_documents(args.corpus, args.documents, joined=args.joined)
    chainer = chainer_for(config, engine)
    generation = generation_for(config, chainer)
    whole = replace(chainer, prompts=prompt_format(config, Plain(engine.llm.get_tokenizer())))
    prompts = list(requests(chainer, documents))

    def drive(chains: Iterator[Chain[Any]]) -> None:
        for _ in engine.run(chains, generation):
            pass

    with tempfile.TemporaryDirectory() as name:
        source = write_documents(Path(name) / "documents.jsonl", documents)
        ways: dict[str, Callable[[int], object]] = {
            "vllm": lambda _: drive(replayed(shots) for shots in prompts),
            "whole": lambda _: drive(whole.chains(documents)),
            "once": lambda _: drive(chainer.chains(documents)),
            "job": lambda n: synthesize(Source(str(source)), Path(name) / f"job{n}", config, engine=engine_config),
        }
        taken: dict[str, list[Cost]] = {way: [] for way in ways}
        for number in range(args.repeats):
            for way, work in ways.items():
                engine.reset_cache()
                taken[way].append(cost(work, number, len(documents)))
    return {way: min(found, key=lambda one: one.process) for way, found in taken.items()}


def cost(work: Callable[[int], object], number: int, documents: int) -> Cost:
    process, driving = time.process_time(), time.thread_time()
    work(number)
    return Cost(1000 * (time.process_time() - process) / documents, 1000 * (time.thread_time() - driving) / documents)


def requests(chainer: Chainer, documents: Sequence[Document]) -> Iterator[list[Request]]:
    """Yield the requests of every chain, as they are where each is answered by the made-up pairs."""
    answer = Completion(render_pairs(Counting.answer), "stop")
    for chain in chainer.chains(documents):
        found: list[Request] = []
        try:
            found.append(next(chain))
            while True:
                found.append(chain.send(answer))
        except StopIteration:
            yield found


def replayed(shots: list[Request]) -> Chain[None]:
    """Ask what a chain asked, whatever comes back."""
    for request in shots:  # noqa: UP028 - what is sent must not reach a list
        yield request


def report(args: argparse.Namespace, found: dict[str, Cost]) -> Report:
    rows = [{"way": way, "ms a document": one.process, "driving thread": one.driving} for way, one in found.items()]
    vllm, whole, once = found["vllm"], found["whole"], found["once"]
    ratios = {
        "ours, once of whole": round((once.process - vllm.process) / (whole.process - vllm.process), 3),
        "ours of vLLM's, once": round((once.process - vllm.process) / vllm.process, 3),
    }
    return Report(
        "front_end",
        f"Processor time beside vLLM's front end: {args.documents:,} documents, M={args.shots}, "
        f"{args.sequences:,} requests in flight (target: ours at most {TARGET} of what it was)",
        rows,
        ratios,
        bars={way: one.process for way, one in found.items()},
        unit="milliseconds of processor time a document",
    )


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", default="embedded", help="whose tokenizer: a Hub model or a folder; else a toy's")
    made.add_argument("--corpus", type=Path, default=EXAMPLES, help="JSON lines with a `text` column")
    made.add_argument("--documents", type=int, default=384)
    made.add_argument("--joined", type=int, default=8, help="texts joined into one document")
    made.add_argument("--shots", type=int, default=3)
    made.add_argument("--sequences", type=int, default=128, help="sequences the engine runs at once")
    made.add_argument("--cache-tokens", type=int, default=600_000, help="size of the KV cache")
    made.add_argument("--window", type=int, default=8192)
    made.add_argument("--max-tokens", type=int, default=16)
    made.add_argument("--pair-tokens", type=int, default=200, help="length of the pairs that take an answer's place")
    made.add_argument("--repeats", type=int, default=1)
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    args = made.parse_args()
    args.load_format = "dummy"
    os.environ[MULTIPROCESSING] = "1"  # as on a GPU
    publish(report(args, costs(args)), args.results)


if __name__ == "__main__":
    main()
