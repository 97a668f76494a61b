"""Measure rows of the GPU's table that need one engine. `gpu.py` starts it, in a process of its own for each engine."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from common import gpu_name, texts_of, timed, write_documents
from gpu import GROUPED, KEPT, Row, Rows, Setting, options, wanted

from hfsynth import Synthesizer
from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.records import Document, Pair
from hfsynth.documents.source import Source
from hfsynth.engine import vllm
from hfsynth.engine.loading import engine_for
from hfsynth.engine.protocol import Chain, Completion, Generation
from hfsynth.engine.vllm import VLLMEngine
from hfsynth.job.run import synthesize
from hfsynth.models.cache import has_random_weights
from hfsynth.models.resolve import pinned
from hfsynth.prompting.chat import json_answer
from hfsynth.prompting.parsing import render_pairs
from hfsynth.synthesis.chains import chainer_for

T = TypeVar("T")
Work = Callable[[], object]

CALIBRATING = 384  # documents


@dataclass
class Tokens:
    """What an engine was asked and what it wrote, in tokens."""

    prompt: int = 0
    cached: int = 0
    written: int = 0

    def add(self, prompt: int, cached: int, written: int) -> None:
        self.prompt, self.cached, self.written = self.prompt + prompt, self.cached + cached, self.written + written


class Counting(VLLMEngine):
    """The engine that jobs and `map` are given here: it counts tokens, and makes up answers for random weights."""

    tokens = Tokens()
    answer: tuple[Pair, ...] = ()

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        return super().run((self._counted(chain, generation) for chain in chains), generation)

    def _counted(self, chain: Chain[T], generation: Generation) -> Chain[T]:
        completion: Completion | None = None
        while True:
            try:
                request = next(chain) if completion is None else chain.send(completion)
            except StopIteration as end:
                return end.value
            completion = yield request
            type(self).tokens.add(len(request.token_ids), completion.cached_tokens, completion.output_tokens)
            if self.answer and completion.error is None:
                text = json_answer(self.answer) if generation.json_schema else render_pairs(self.answer)
                completion = replace(completion, text=text, finish_reason="stop")


@dataclass(frozen=True)
class Texts:
    """Documents, and their tokens in all."""

    documents: list[Document]
    raw: int


@dataclass(frozen=True)
class Bench:
    """An engine that is loaded, and what it is measured with. `made` are the texts of a size and number, made once."""

    engine: Counting
    config: SynthesizerConfig
    engine_config: EngineConfig
    args: Namespace
    made: dict[tuple[int, int], Texts] = field(default_factory=dict)


def measure(args: Namespace) -> None:
    """Load one engine and measure its rows until the time is over."""
    rows = [row for row in wanted(args) if row.name in args.group.split(";")]
    kept = Rows(args.results / KEPT, args.setup)
    bench = loaded(args, rows[0].setting)
    speed = None if args.documents or args.tiny else calibrated(bench, rows[0].size)
    for row in rows:
        if time.time() + args.row_seconds > args.until:
            return
        number = args.documents or documents_for(row.size, kept, speed, args.row_seconds)
        kept.note(row.name, **measured(bench, row, number))


def loaded(args: Namespace, setting: Setting) -> Bench:
    """Load an engine that counts."""
    vllm.load_vllm = Counting  # type: ignore[assignment]
    engine_config = EngineConfig("vllm", {"disable_log_stats": False})
    sampling = Sampling(max_tokens=args.max_tokens)
    asked = SynthesizerConfig(
        args.model,
        sampling=sampling,
        window=args.window,
        prompt_format=args.prompt_format,
        precision=setting.precision,
    )
    config = pinned(asked, engine_config)
    engine = engine_for(config, engine_config)
    if not isinstance(engine, Counting):
        raise SystemExit("This benchmark needs vLLM.")
    if has_random_weights(args.model):
        Counting.answer = made_up(engine, args.max_tokens)
    return Bench(engine, config, engine_config, args)


def made_up(engine: VLLMEngine, tokens: int) -> tuple[Pair, ...]:
    """Return pairs of about so many tokens."""
    pairs: tuple[Pair, ...] = ()
    while not pairs or len(engine.tokenizer.encode(render_pairs(pairs))) < tokens:
        said = "It says that this is part of a text about the weather, the sea, and the price of fish on that day. " * 2
        pairs = (*pairs, Pair(f"What does part {len(pairs) + 1} of the text say?", said.strip()))
    return pairs


def calibrated(bench: Bench, size: int) -> float:
    """Warm the engine up; return about how many raw tokens a second it takes."""
    found = texts(bench, size, CALIBRATING)
    work = generate(bench, found.documents, Row(Setting("", True), "generate", 1, size), Path())
    return found.raw / timed(work)[0]


def documents_for(size: int, kept: Rows, speed: float | None, seconds: float) -> int:
    """Return how many documents to measure with: as many as other rows of this size, else as fill the time."""
    before = [found["documents"] for found in kept.read().values() if found.get("size") == size and "seconds" in found]
    if before:
        return int(before[0])
    return GROUPED * max(1, round((seconds * speed / size if speed else GROUPED) / GROUPED))


def texts(bench: Bench, size: int, number: int) -> Texts:
    """Return so many documents of about `size` tokens; the first words make every prefix its own."""
    if (size, number) not in bench.made:
        bench.made[size, number] = cut(bench, size, number)
    return bench.made[size, number]


def cut(bench: Bench, size: int, number: int) -> Texts:
    """Cut documents out of the corpus, each from another place on."""
    encode, joined = bench.engine.tokenizer.encode, "\n".join(texts_of(bench.args.corpus))
    length = max(1, round(size * len(joined) / len(encode(joined))))
    whole = joined * (length // len(joined) + 2)
    starts = [n * 7919 % len(joined) for n in range(number)]
    found = [f"Text {n} of {number}.\n{whole[start : start + length]}" for n, start in enumerate(starts)]
    return Texts([Document(str(n), text) for n, text in enumerate(found)], sum(len(encode(text)) for text in found))


def measured(bench: Bench, row: Row, number: int) -> dict[str, Any]:
    """Measure one row. What is prepared before, and put together after, does not count."""
    found = texts(bench, row.size, number)
    before = preemptions(bench.engine)
    with tempfile.TemporaryDirectory() as folder:
        work = WAYS[row.way](bench, found.documents, row, Path(folder))
        bench.engine.reset_cache()
        Counting.tokens = Tokens()
        with gpu_in_use() as used:
            seconds, _ = timed(work)
    tokens = Counting.tokens
    return {
        "size": row.size,
        "documents": number,
        "seconds": round(seconds, 3),
        "raw": found.raw,
        "computed": tokens.prompt - tokens.cached,
        "written": tokens.written,
        "cached_share": round(tokens.cached / tokens.prompt, 4) if tokens.prompt else None,
        "preemptions": preemptions(bench.engine) - before,
        "utilisation": round(sum(used) / len(used)) if used else None,
        "settings": {**bench.engine.settings, "cache_tokens": cache_tokens(bench.engine)},
    }


def generate(bench: Bench, documents: list[Document], row: Row, folder: Path) -> Work:
    """Hand every prompt to vLLM at once."""
    from vllm import SamplingParams

    prompts = chainer_for(bench.config, bench.engine).prompts
    asked = [{"prompt_token_ids": prompts.prompt((), document.text or "")} for document in documents]
    sampling = SamplingParams(temperature=0, max_tokens=bench.config.sampling.max_tokens, detokenize=row.detokenize)

    def work() -> None:
        for output in bench.engine.llm.generate(asked, sampling, use_tqdm=False):
            prompt, written = len(output.prompt_token_ids or ()), len(output.outputs[0].token_ids)
            Counting.tokens.add(prompt, output.num_cached_tokens or 0, written)

    return work


def job(bench: Bench, documents: list[Document], row: Row, folder: Path) -> Work:
    """Run a whole job, from a file to a corpus folder."""
    source = Source(str(write_documents(folder / "documents.jsonl", documents)))
    config = replace(bench.config, shots=row.shots)
    return lambda: synthesize(source, folder / "corpus", config, engine=bench.engine_config)


def mapped(bench: Bench, documents: list[Document], row: Row, folder: Path) -> Work:
    """Run the transform in `datasets.map`, from a file to an Arrow file."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    path = str(write_documents(folder / "documents.jsonl", documents))
    synthesizer = Synthesizer.from_config(replace(bench.config, shots=row.shots), bench.engine_config)

    def work() -> None:
        loaded = load_dataset("json", data_files=path, split="train", cache_dir=str(folder))
        loaded.map(synthesizer, batched=True, batch_size=4096 // GROUPED * GROUPED)

    return work


WAYS: dict[str, Callable[[Bench, list[Document], Row, Path], Work]] = {
    "generate": generate,
    "job": job,
    "map": mapped,
}


def preemptions(engine: VLLMEngine) -> int:
    """Return how many sequences have been thrown out of the cache so far, to be computed again."""
    return sum(int(one.value) for one in engine.llm.get_metrics() if one.name == "vllm:num_preemptions")


def cache_tokens(engine: VLLMEngine) -> int:
    """Return how many tokens the KV cache holds."""
    cache = engine.llm.llm_engine.vllm_config.cache_config
    return cache.kv_cache_size_tokens or (cache.num_gpu_blocks or 0) * cache.block_size


@contextmanager
def gpu_in_use() -> Iterator[list[float]]:
    """Collect the percentage of the time that the GPU computed, once a second: NVML's figure, from nvidia-smi."""
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    found: list[float] = []
    command = [
        "nvidia-smi",
        f"--id={device}",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        "-l",
        "1",
    ]
    if gpu_name() is None:
        yield found
        return
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        said = watcher.stdout or ()
        reader = Thread(target=lambda: found.extend(float(line) for line in said if line.strip().isdigit()))
        reader.start()
        try:
            yield found
        finally:
            watcher.terminate()
            reader.join()


if __name__ == "__main__":
    measure(options().parse_args())
