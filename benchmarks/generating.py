"""Against plain `LLM.generate` on all prompts at once, M=1: what it costs to stream, to parse, and to keep a journal.

One engine for all; its cache is emptied before every run, the runs take turns, and the best of each counts. `generate`
is handed every prompt at once and nothing is done with what it says: the upper limit. `engine` drives chains and parses
what comes back; `job` starts from a file and ends with a corpus folder.

    python benchmarks/generating.py
    python benchmarks/generating.py --full --load-format dummy
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from common import (
    Report,
    against_published,
    chosen,
    engine_of,
    gpu_name,
    made_documents,
    parser,
    publish,
    timed,
    write_documents,
)

from hfsynth.core.config import Sampling, SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.engine.loading import engine_for
from hfsynth.engine.vllm import VLLMEngine
from hfsynth.job.run import synthesize
from hfsynth.models.resolve import pinned
from hfsynth.synthesis.chains import chainer_for, generation_for

if TYPE_CHECKING:
    from argparse import Namespace

TARGET = 0.95


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=2)
    args = made.parse_args()
    publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    documents = made_documents(args.corpus, chosen(args.documents, args.full, small=24, large=8000))
    sampling = Sampling(max_tokens=chosen(args.max_tokens, args.full, small=64, large=400))
    model, engine_config = engine_of(args)
    config = pinned(SynthesizerConfig(model, sampling=sampling), engine_config)
    engine = engine_for(config, engine_config)
    if not isinstance(engine, VLLMEngine):
        raise SystemExit("This benchmark needs vLLM.")
    chainer = chainer_for(config, engine)
    generation = generation_for(config, chainer)
    prompts = [chainer.prompts.prompt((), document.text or "") for document in documents]
    raw_tokens = sum(len(engine.tokenizer.encode(document.text or "")) for document in documents)
    with tempfile.TemporaryDirectory() as folder:
        source = Source(str(write_documents(Path(folder) / "documents.jsonl", documents)))
        ways: dict[str, Callable[[int], object]] = {
            "generate": lambda number: generated(engine, prompts, sampling),
            "engine": lambda number: list(engine.run(chainer.chains(documents), generation)),
            "job": lambda number: synthesize(source, Path(folder) / str(number), config, engine=engine_config),
        }
        best = best_of(ways, args.rounds, engine.reset_cache)
    rows = [
        {
            "way": way,
            "documents a second": len(documents) / seconds,
            "raw tokens a second": raw_tokens / seconds,
            "of generate": best["generate"] / seconds,
        }
        for way, seconds in best.items()
    ]
    return Report(
        "generating",
        f"Against LLM.generate: {len(documents)} documents, {args.model}, M=1 (target: {TARGET} of generate)",
        rows,
        {"ratio": round(best["generate"] / best["job"], 3), "target": TARGET},
        [against_published(raw_tokens, best["job"], gpu_name())],
        {way: len(documents) / seconds for way, seconds in best.items()},
        "documents a second",
    )


def best_of(ways: dict[str, Callable[[int], object]], rounds: int, before: Callable[[], None]) -> dict[str, float]:
    """Run all ways in turn, several times, the first of a round being another every time; return the least seconds."""
    best = dict.fromkeys(ways, float("inf"))
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            before()
            best[name] = min(best[name], timed(lambda way=ways[name], number=number: way(number))[0])
    return best


def generated(engine: VLLMEngine, prompts: list[list[int]], sampling: Sampling) -> object:
    """Hand every prompt to vLLM at once."""
    from vllm import SamplingParams

    asked = [{"prompt_token_ids": prompt} for prompt in prompts]
    return engine.llm.generate(asked, SamplingParams(temperature=0, max_tokens=sampling.max_tokens), use_tqdm=False)


if __name__ == "__main__":
    main()
