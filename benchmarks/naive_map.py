"""Against `datasets.map` with a naive function that calls `LLM.generate` on every batch, M=1.

Each batch waits for its slowest completion before the next begins, so the engine drains at every batch's end; a job of
ours hands the next document over the moment one ends. Both start from the same file, sample as the model recommends,
parse the same completions and end with files. Completions end by themselves: cut at the same length they would all end
together. What is lost at the end of a batch depends on its size against the number of sequences that run at once. With
--full it has 1,000 documents, of which 256 run at once. On two cores, where 1,000 would take an hour, 6 run at once, of
batches of 24 (about the same quotient) and of 6 (as with 1,000 documents on a GPU that runs 1,024 sequences).

    python benchmarks/naive_map.py
    python benchmarks/naive_map.py --full --load-format dummy
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import (
    Report,
    against_published,
    chosen,
    engine_of,
    gpu_name,
    made_documents,
    parser,
    publish,
    write_documents,
)
from datasets import disable_progress_bars, load_dataset
from generating import best_of

from hfsynth.core.config import Sampling, SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.engine.loading import engine_for
from hfsynth.engine.vllm import VLLMEngine
from hfsynth.job.run import synthesize
from hfsynth.models.resolve import pinned, recommended_sampling
from hfsynth.synthesis.chains import Chainer, chainer_for


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--batch", type=int, nargs="+", help="documents a batch; several sizes are several runs")
    made.add_argument("--sequences", type=int, help="sequences the engine runs at once")
    made.add_argument("--rounds", type=int, default=2)
    args = made.parse_args()
    publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    documents = made_documents(args.corpus, chosen(args.documents, args.full, small=72, large=8000))
    batches = args.batch or ([1000] if args.full else [24, 6])
    model, engine_config = engine_of(args, max_num_seqs=chosen(args.sequences, args.full, small=6, large=256))
    sampling = replace(recommended_sampling(model), max_tokens=args.max_tokens or 400)
    config = pinned(SynthesizerConfig(model, sampling=sampling), engine_config)
    engine = engine_for(config, engine_config)
    if not isinstance(engine, VLLMEngine):
        raise SystemExit("This benchmark needs vLLM.")
    chainer = chainer_for(config, engine)
    raw_tokens = sum(len(engine.tokenizer.encode(document.text or "")) for document in documents)
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        path = write_documents(Path(folder) / "documents.jsonl", documents)
        generated = naive(engine, chainer, sampling)
        ways: dict[str, Callable[[int], object]] = {
            "job": lambda number: synthesize(
                Source(str(path)), Path(folder) / f"job{number}", config, engine=engine_config
            )
        }
        for batch in batches:
            ways[f"map, batches of {batch:,}"] = lambda number, batch=batch: mapped(
                path, Path(folder) / f"map{batch}-{number}", batch, generated
            )
        best = best_of(ways, args.rounds, engine.reset_cache)
    speeds = {way: len(documents) / seconds for way, seconds in best.items()}
    gains = {way: speeds["job"] / speed for way, speed in speeds.items()}
    return Report(
        "naive_map",
        f"Against datasets.map with LLM.generate a batch: {len(documents)} documents, {args.model}, M=1",
        [{"way": way, "documents a second": speed, "job, times that": gains[way]} for way, speed in speeds.items()],
        {f"gain over {way}": round(gain, 3) for way, gain in gains.items() if way != "job"},
        [against_published(raw_tokens, best["job"], gpu_name())],
        speeds,
        "documents a second",
    )


def naive(engine: VLLMEngine, chainer: Chainer, sampling: Sampling) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function that comes to mind first."""
    from vllm import SamplingParams

    parameters = SamplingParams(
        temperature=0,
        max_tokens=sampling.max_tokens,
        repetition_penalty=sampling.repetition_penalty,
        frequency_penalty=sampling.frequency_penalty,
    )

    def write_pairs(batch: dict[str, Any]) -> dict[str, Any]:
        prompts = [{"prompt_token_ids": chainer.prompts.prompt((), text)} for text in batch["text"]]
        outputs = [output.outputs[0] for output in engine.llm.generate(prompts, parameters, use_tqdm=False)]
        parsed = [chainer.prompts.parse(one.text, cut_off=one.finish_reason == "length") for one in outputs]
        return {
            "pairs": [[{"instruction": p.instruction, "response": p.response} for p in one.pairs] for one in parsed]
        }

    return write_pairs


def mapped(source: Path, out: Path, batch: int, function: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Map a file, and write what comes out."""
    rows = load_dataset("json", data_files=str(source), split="train", cache_dir=str(out / "cache"))
    rows.map(function, batched=True, batch_size=batch, new_fingerprint=out.name).to_parquet(str(out / "out.parquet"))


if __name__ == "__main__":
    main()
