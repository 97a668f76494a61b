"""Against `datasets.map` with a naive function that calls `LLM.generate` on every batch, M=1.

Each batch waits for its slowest completion before the next begins, so the engine drains at every batch's end; a job of
ours hands the next document over the moment one ends. Both start from the same file, parse the same completions and
end with files. A batch is what a user would write for the machine: 1,000 documents with --full. On two cores, where
1,000 would take an hour, it is 12 with 6 sequences at once, so that there are batches at all: what is lost at the end
of a batch depends on the number of sequences against its size, so this figure holds for these sizes only.

    python benchmarks/naive_map.py
    python benchmarks/naive_map.py --full --load-format dummy
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable
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

from hfsynth.chains import Chainer
from hfsynth.config import Sampling, SynthesizerConfig
from hfsynth.job import synthesize
from hfsynth.models import chainer_for, engine_for, pinned
from hfsynth.sources import Source
from hfsynth.vllm_engine import VLLMEngine


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--batch", type=int, help="documents a batch")
    made.add_argument("--sequences", type=int, help="sequences the engine runs at once")
    made.add_argument("--rounds", type=int, default=2)
    args = made.parse_args()
    publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    documents = made_documents(args.corpus, chosen(args.documents, args.full, small=36, large=8000))
    batch = chosen(args.batch, args.full, small=12, large=1000)
    sampling = Sampling(max_tokens=chosen(args.max_tokens, args.full, small=96, large=400))
    model, engine_config = engine_of(args, max_num_seqs=chosen(args.sequences, args.full, small=6, large=256))
    config = pinned(SynthesizerConfig(model, sampling=sampling), engine_config)
    engine = engine_for(config, engine_config)
    if not isinstance(engine, VLLMEngine):
        raise SystemExit("This benchmark needs vLLM.")
    chainer = chainer_for(config, engine)
    raw_tokens = sum(len(engine.tokenizer.encode(document.text or "")) for document in documents)
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        path = write_documents(Path(folder) / "documents.jsonl", documents)
        ways: dict[str, Callable[[int], object]] = {
            "map": lambda number: mapped(path, Path(folder) / f"map{number}", batch, naive(engine, chainer, sampling)),
            "job": lambda number: synthesize(
                Source(str(path)), Path(folder) / f"job{number}", config, engine=engine_config
            ),
        }
        best = best_of(ways, args.rounds, engine.reset_cache)
    speeds = {way: len(documents) / seconds for way, seconds in best.items()}
    return Report(
        "naive_map",
        f"Against datasets.map with LLM.generate a batch of {batch}: {len(documents)} documents, {args.model}, M=1",
        [{"way": way, "documents a second": speed, "of map": speed / speeds["map"]} for way, speed in speeds.items()],
        {"ratio": round(speeds["job"] / speeds["map"], 3), "batch": batch},
        [against_published(raw_tokens, best["job"], gpu_name())],
        speeds,
        "documents a second",
    )


def naive(engine: VLLMEngine, chainer: Chainer, sampling: Sampling) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function that comes to mind first."""
    from vllm import SamplingParams

    parameters = SamplingParams(temperature=0, max_tokens=sampling.max_tokens)

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
