"""Chains without a barrier against corpus-wide rounds: prompt tokens computed and wall time, in one run.

Same model, same documents, same vLLM engine and flags; only the schedule differs. In corpus-wide rounds every chain's
first shot is finished before any second shot begins, as scripts do it; with a KV cache smaller than one round the
prefixes are gone by then.

    python benchmarks/chaining.py
    python benchmarks/chaining.py --documents corpus.jsonl --model some/model --cache-tokens 200000
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common import EXAMPLES, RESULTS, Report, publish

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.records import Document, Synthesized
from hfsynth.engine.loading import engine_for
from hfsynth.engine.protocol import Chain, Completion, Generation, Request
from hfsynth.engine.vllm import VLLMEngine
from hfsynth.models.resolve import pinned
from hfsynth.synthesis.chains import Chainer, chainer_for, generation_for

BLOCK = 32  # tokens a block of the KV cache on a CPU
TARGETS = {"computed": 0.60, "seconds": 0.75}


@dataclass(frozen=True)
class Measured:
    """One schedule: seconds, prompt tokens, those really computed, completion tokens, pairs, shots that follow."""

    seconds: float
    prompt: int
    computed: int
    output: int
    pairs: int
    followed: int


def documents(path: Path, number: int, joined: int) -> list[Document]:
    """Return `number` documents, each of `joined` neighbouring texts; the first words make every prefix its own."""
    texts = [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
    return [
        Document(str(n), f"Text {n} of {number}.\n" + "\n".join(texts[(n * 7 + k) % len(texts)] for k in range(joined)))
        for n in range(number)
    ]


def ours(engine: VLLMEngine, chainer: Chainer, docs: list[Document], generation: Generation) -> list[Synthesized]:
    """Drive whole chains: the next shot goes in the moment its last one ends."""
    return [result for results in engine.run(chainer.chains(docs), generation) for result in results]


def rounds(engine: VLLMEngine, chainer: Chainer, docs: list[Document], generation: Generation) -> list[Synthesized]:
    """Drive the same chains in corpus-wide rounds."""
    results: list[Synthesized] = []
    waiting: list[tuple[Chain[list[Synthesized]], Request]] = []
    for chain in chainer.chains(docs):
        step(chain, None, waiting, results)
    while waiting:
        asked, waiting = waiting, []
        ended = dict(engine.run((single(n, request) for n, (_, request) in enumerate(asked)), generation))
        for n, (chain, _) in enumerate(asked):
            step(chain, ended[n], waiting, results)
    return results


def single(number: int, request: Request) -> Chain[tuple[int, Completion]]:
    return number, (yield request)


def step(
    chain: Chain[list[Synthesized]],
    completion: Completion | None,
    waiting: list[tuple[Chain[list[Synthesized]], Request]],
    results: list[Synthesized],
) -> None:
    try:
        waiting.append((chain, next(chain) if completion is None else chain.send(completion)))
    except StopIteration as end:
        results.extend(end.value)


def measured(seconds: float, results: Iterable[Synthesized]) -> Measured:
    kept = list(results)
    prompt = sum(result.synthesis.prompt_tokens for result in kept)
    cached = sum(result.synthesis.cached_tokens for result in kept)
    output = sum(result.synthesis.output_tokens for result in kept)
    pairs = sum(len(result.pairs) for result in kept)
    followed = sum(result.synthesis.follows for result in kept)
    return Measured(round(seconds, 1), prompt, prompt - cached, output, pairs, followed)


def schedules(args: argparse.Namespace) -> Iterator[tuple[str, Measured]]:
    """Run both schedules on one engine, its cache emptied before each."""
    blocks = {"block_size": BLOCK, "num_gpu_blocks_override": args.cache_tokens // BLOCK}
    arguments = {"max_num_seqs": args.sequences, **blocks}
    engine_config = EngineConfig("vllm", arguments)
    sampling = Sampling(max_tokens=args.max_tokens)
    config = pinned(SynthesizerConfig(args.model, shots=args.shots, sampling=sampling), engine_config)
    engine = engine_for(config, engine_config)
    chainer = chainer_for(config, engine)
    docs = documents(args.documents, args.number, args.joined)
    round_tokens = sum(len(chainer.prompts.prompt((), document.text or "")) for document in docs) // args.shots
    print(
        f"{len(docs)} documents, M={args.shots}; one round {round_tokens:,} prompt tokens, cache {args.cache_tokens:,}"
    )
    generation = generation_for(config, chainer)
    for name, schedule, asked in (("chains", ours, generation), ("rounds", rounds, replace(generation, shots=1))):
        engine.reset_cache()
        started = time.perf_counter()
        results = schedule(engine, chainer, docs, asked)
        yield name, measured(time.perf_counter() - started, results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=EXAMPLES, help="JSON lines with a `text` column")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--number", type=int, default=30, help="documents made from the texts")
    parser.add_argument("--joined", type=int, default=2, help="texts joined into one document")
    parser.add_argument("--max-tokens", type=int, default=112)
    parser.add_argument("--sequences", type=int, default=2, help="sequences the engine runs at once")
    parser.add_argument("--cache-tokens", type=int, default=3_072, help="size of the KV cache")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    args = parser.parse_args()
    found = dict(schedules(args))
    ratios = {name: round(getattr(found["chains"], name) / getattr(found["rounds"], name), 3) for name in TARGETS}
    report = Report(
        "chaining",
        f"Chains without a barrier against corpus-wide rounds: M={args.shots}, cache {args.cache_tokens:,} tokens",
        [{"schedule": name, **asdict(figures)} for name, figures in found.items()],
        {f"{name}, chains of rounds (target: at most {TARGETS[name]:.2f})": ratio for name, ratio in ratios.items()},
        bars={name: float(figures.computed) for name, figures in found.items()},
        unit="prompt tokens computed",
    )
    publish(report, args.results)


if __name__ == "__main__":
    main()
