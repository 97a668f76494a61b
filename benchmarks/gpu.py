"""How well a GPU is used, in one table and half an hour: against `LLM.generate`, and next to the published speed.

    python benchmarks/gpu.py                              # random weights in Mistral-7B's shape
    python benchmarks/gpu.py --model ORGANISATION/MODEL   # a checkpoint
    python benchmarks/gpu.py --tiny                       # a toy model, to see without a GPU that the script works
    python benchmarks/gpu.py --rows "fp8 job-3"           # rows whose name has all of these words

Rows that need the same engine are measured in one process, which loads it once. `generate` hands every prompt to vLLM
at once, M=1, and does nothing with what it says: the limit. `job` goes from a file to a corpus folder, `map` is
`ds.map`; the number is M. A row is kept as soon as it is measured: the same command goes on where an earlier one ended,
`--fresh` measures all again. When the minutes are over, the rows that are left say so.

`raw` counts the documents' own tokens, `computed` those of the prompts that were not found in the cache, `written` the
completions'. Random weights say nothing, so the next shot of a chain is shown a made-up answer of as many tokens; the
cache holds nothing of it, as it would of an answer that the model wrote itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from common import (
    PUBLISHED,
    SEVEN_BILLION,
    TINY,
    Report,
    gpu_name,
    machine,
    model_of,
    parser,
    publish,
    shown,
    texts_of,
    timed,
    write_documents,
)

from hfsynth import vllm_engine
from hfsynth.chains import Chain, Completion
from hfsynth.config import EngineConfig, Sampling, SynthesizerConfig, digest
from hfsynth.engine import Generation
from hfsynth.job import synthesize
from hfsynth.model_folders import has_random_weights
from hfsynth.models import chainer_for, engine_for, pinned
from hfsynth.parsing import render_pairs
from hfsynth.prompts import json_answer
from hfsynth.records import Document, Pair
from hfsynth.sources import Source
from hfsynth.vllm_engine import VLLMEngine

if TYPE_CHECKING:
    from vllm import RequestOutput

T = TypeVar("T")

SIZES = (1000, 500, 2000)  # raw tokens of a document; the first is that of the rows that differ in other things
TINY_SIZES = (100, 50, 200)
LOADING = 90.0  # seconds: with less time left no engine is loaded
MEASURING = 0.6  # share of the time that is meant for the rows themselves
WRITTEN = 260  # tokens of a completion of random weights: as many as a checkpoint writes about a document
KEPT = "gpu.jsonl"
GROUPED = 6  # the number of documents is a multiple of it, so that no chain is short
PRECISIONS: dict[str, dict[str, Any]] = {
    "bf16": {"dtype": "bfloat16"},
    "fp8": {"dtype": "bfloat16", "quantization": "fp8"},
    "fp8-kv": {"dtype": "bfloat16", "quantization": "fp8", "kv_cache_dtype": "fp8"},
    "fp32": {"dtype": "float32"},
}


@dataclass(frozen=True)
class Setting:
    """What an engine is loaded with: its precision, and whether it computes in a process of its own."""

    precision: str
    own_process: bool

    @property
    def name(self) -> str:
        return self.precision if self.own_process else f"{self.precision} in-process"


@dataclass(frozen=True)
class Row:
    """One measurement: a way to have documents of so many raw tokens answered, M at a time."""

    setting: Setting
    way: str
    shots: int
    size: int
    detokenize: bool = True

    @property
    def name(self) -> str:
        way = self.way if self.way == "generate" else f"{self.way}-{self.shots}"
        return f"{self.setting.name} {way} {self.size}{'' if self.detokenize else ' ids-only'}"


@dataclass
class Tokens:
    """What an engine was asked and what it wrote, in tokens."""

    prompt: int = 0
    cached: int = 0
    written: int = 0

    def add(self, prompt: int, cached: int, written: int) -> None:
        self.prompt, self.cached, self.written = self.prompt + prompt, self.cached + cached, self.written + written


def plan(sizes: tuple[int, int, int], precisions: tuple[str, ...]) -> list[Row]:
    """Return every row, the most telling first, those of one engine together."""
    main, *others = sizes
    first, in_process = Setting(precisions[0], True), Setting(precisions[0], False)
    rows = [Row(first, "generate", 1, main), *(Row(first, "job", shots, main) for shots in (1, 3, 2))]
    rows += [Row(first, "map", 3, main), Row(first, "generate", 1, main, detokenize=False)]
    rows += [Row(first, way, shots, size) for size in others for way, shots in (("generate", 1), ("job", 3))]
    for precision in precisions[1:]:
        setting = Setting(precision, True)
        rows += [Row(setting, "generate", 1, main), Row(setting, "job", 3, main), Row(setting, "job", 3, others[0])]
    return [*rows, Row(in_process, "generate", 1, main), Row(in_process, "job", 3, main)]


# --- the rows that are done -----------------------------------------------------------------------------------------


class Rows:
    """The file of measured rows. Those of another model, machine, version or size are not these."""

    def __init__(self, path: Path, setup: str) -> None:
        self._path, self._setup = path, setup

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the last that was noted of each row, by name."""
        lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]  # one may have been cut off
        return {one["row"]: one for one in found if one["setup"] == self._setup}

    def note(self, name: str, **values: object) -> None:
        """Add what was found of a row, or why there is nothing."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps({'row': name, 'setup': self._setup, **values})}\n")

    def done(self) -> set[str]:
        return {name for name, found in self.read().items() if "seconds" in found}


def setup(args: Namespace) -> str:
    """Return a digest of what two runs have in common when their rows belong into one table."""
    here = {name: found for name, found in machine().items() if name != "busy_cores"}
    names = ("model", "load_format", "prompt_format", "documents", "corpus", "max_tokens", "window", "tiny")
    return digest({**here, **{name: str(getattr(args, name)) for name in names}})


# --- all rows -------------------------------------------------------------------------------------------------------


def main() -> None:
    args = options().parse_args()
    if args.group:
        measure(args)
        return
    args.results.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        (args.results / KEPT).unlink(missing_ok=True)
    settle(args)
    rows, kept = wanted(args), Rows(args.results / KEPT, args.setup)
    run_all(rows, kept, args, model_of(args, TINY if args.tiny else SEVEN_BILLION))
    publish(report(rows, kept.read(), args), args.results)
    (args.results / "gpu.md").write_text(markdown(rows, kept.read()), "utf-8")


def settle(args: Namespace) -> None:
    """Fill in what was left open."""
    args.tiny = args.tiny or gpu_name() is None
    if args.model == "embedded":
        args.load_format = "dummy"
    written = WRITTEN if args.load_format == "dummy" else Sampling().max_tokens
    args.max_tokens = args.max_tokens or (16 if args.tiny else written)
    args.window = args.window or (2048 if args.tiny else 8192)
    args.setup = setup(args)


def options() -> ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--tiny", action="store_true", help="a toy model and few documents, as where there is no GPU")
    made.add_argument("--minutes", type=float, default=30.0, help="time for everything, loading included")
    made.add_argument("--rows", default="", help="only the rows whose name has all of these words")
    made.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    made.add_argument("--prompt-format", default="instruction-pretrain", help="`chat` for a chat model")
    made.add_argument("--window", type=int, help="tokens of a prompt and its completion at most")
    made.add_argument("--group", help="for the script itself: measure the rows of one engine")
    made.add_argument("--setup", help="for the script itself: what rows of one table have in common")
    made.add_argument("--until", type=float, help="for the script itself: when the time is over")
    made.add_argument("--row-seconds", type=float, help="for the script itself: how long a row is to take")
    return made


def wanted(args: Namespace) -> list[Row]:
    """Return the rows that were asked for."""
    sizes = TINY_SIZES if args.tiny else SIZES
    rows = plan(sizes, ("fp32",) if args.tiny else ("bf16", "fp8", "fp8-kv"))
    return [row for row in rows if all(word in row.name.split() for word in args.rows.split())]


def run_all(rows: list[Row], kept: Rows, args: Namespace, model: str) -> None:
    """Measure what is not measured yet, one process an engine; note why a row has no figures."""
    until = time.time() + 60 * args.minutes
    row_seconds = MEASURING * 60 * args.minutes / max(1, len(rows))
    for setting, group in groupby(rows, key=lambda row: row.setting):
        left = [row.name for row in group if row.name not in kept.done()]
        if not left:
            continue
        if until - time.time() < (0 if args.tiny else LOADING):
            why = "no time left"
        else:
            why = run_group(setting, args, model, until, row_seconds)
        for name in left:
            if name not in kept.done():
                kept.note(name, why=why)


def run_group(setting: Setting, args: Namespace, model: str, until: float, row_seconds: float) -> str:
    """Measure the rows of one engine in a process of their own; return why some may be left."""
    own = {"model": model, "group": setting.name, "until": until, "row-seconds": row_seconds, "setup": args.setup}
    settled = {"max-tokens": args.max_tokens, "window": args.window, "results": args.results}
    options = [f"--{name}={value}" for name, value in {**own, **settled}.items()]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if setting.own_process else "0"}
    command = [sys.executable, __file__, *sys.argv[1:], *options, *(["--tiny"] if args.tiny else [])]
    child = subprocess.Popen(command, env=environment)
    try:
        code = child.wait(timeout=until - time.time() + row_seconds + 60)
    except subprocess.TimeoutExpired:
        return "took too long"
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    return f"ended with exit code {code}" if code else "no time left"


def report(rows: list[Row], found: dict[str, dict[str, Any]], args: Namespace) -> Report:
    """Return the table."""
    table = [table_row(row, found) for row in rows]
    weights = "random weights" if args.load_format == "dummy" else "a checkpoint"
    model = "a toy model" if args.tiny else "Mistral-7B's shape" if args.model == "embedded" else args.model
    gpu = gpu_name()
    there = f"Published: {PUBLISHED:,} raw tokens a second (7B, one A100-80GB)."
    return Report(
        "gpu",
        f"On {gpu or 'no GPU: a check of the script, not a measurement'}: {model}, {weights}",
        table,
        {"max_tokens": args.max_tokens, "window": args.window},
        [there if gpu else f"{there} No GPU here: nothing to compare."],
        {row.name: one["raw/s"] for row, one in zip(rows, table, strict=True) if one.get("raw/s")},
        "raw tokens a second",
    )


def table_row(row: Row, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a row as the table shows it: rates, and how they compare with the limit and with the published one."""
    one = found.get(row.name, {"why": "not run"})
    if "seconds" not in one:
        return {"row": row.name, "note": one["why"]}
    rate = one["raw"] / one["seconds"]
    limit = found.get(replace(row, way="generate", shots=1, detokenize=True).name, {})
    return {
        "row": row.name,
        "documents": one["documents"],
        "seconds": one["seconds"],
        "raw/s": rate,
        "computed/s": one["computed"] / one["seconds"],
        "written/s": one["written"] / one["seconds"],
        "cached": one["cached_share"],
        "preempted": one["preemptions"],
        "GPU %": one["utilisation"],
        "of generate": rate / (limit["raw"] / limit["seconds"]) if "seconds" in limit else None,
        "of published": rate / PUBLISHED if gpu_name() else None,
    }


def markdown(rows: list[Row], found: dict[str, dict[str, Any]]) -> str:
    """Return the table in Markdown, for benchmarks/README.md."""
    table = [table_row(row, found) for row in rows]
    names = list(dict.fromkeys(name for row in table for name in row))
    lines = [names, ["---"] * len(names), *([shown(row.get(name)) for name in names] for row in table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# --- the rows of one engine -----------------------------------------------------------------------------------------


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
class Bench:
    """An engine that is loaded, and what it is measured with."""

    engine: Counting
    config: SynthesizerConfig
    engine_config: EngineConfig
    args: Namespace


def measure(args: Namespace) -> None:
    """Load one engine and measure its rows until the time is over."""
    rows = [row for row in wanted(args) if row.setting.name == args.group]
    kept = Rows(args.results / KEPT, args.setup)
    left = [row for row in rows if row.name not in kept.done()]
    bench = loaded(args, rows[0].setting)
    speed = None if args.documents or args.tiny else calibrated(bench, rows[0].size)
    for row in left:
        if time.time() + args.row_seconds > args.until:
            return
        number = args.documents or documents_for(row.size, kept, speed, args.row_seconds)
        kept.note(row.name, **measured(bench, row, number))


def loaded(args: Namespace, setting: Setting) -> Bench:
    """Load an engine that counts."""
    vllm_engine.load_vllm = Counting  # type: ignore[assignment]
    engine_config = EngineConfig.create("vllm", {**PRECISIONS[setting.precision], "disable_log_stats": False})
    sampling = Sampling(max_tokens=args.max_tokens)
    asked = SynthesizerConfig(args.model, sampling=sampling, window=args.window, prompt_format=args.prompt_format)
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
    documents = texts(bench, size, 384, seed=-1)
    seconds, _ = timed(lambda: generated(bench, documents, detokenize=True))
    return len(documents) * size / seconds


def documents_for(size: int, kept: Rows, speed: float | None, seconds: float) -> int:
    """Return how many documents to measure with: as many as other rows of this size, else as fill the time."""
    before = [found["documents"] for found in kept.read().values() if found.get("size") == size and "seconds" in found]
    if before:
        return int(before[0])
    return GROUPED * max(1, round((seconds * speed / size if speed else GROUPED) / GROUPED))


def texts(bench: Bench, size: int, number: int, seed: int = 0) -> list[Document]:
    """Return so many documents of about `size` tokens; the first words make every prefix its own."""
    found = texts_of(bench.args.corpus)
    joined = "\n".join(found)
    a_token = len(joined) / len(bench.engine.tokenizer.encode(joined))
    length = max(1, round(size * a_token))
    whole = joined * (length // len(joined) + 2)
    starts = [(number_ * 7919) % len(joined) for number_ in range(number)]
    return [
        Document(str(n), f"Text {n} of {number}, {seed}.\n{whole[at : at + length]}") for n, at in enumerate(starts)
    ]


def measured(bench: Bench, row: Row, number: int) -> dict[str, Any]:
    """Measure one row."""
    documents = texts(bench, row.size, number, seed=row.shots)
    raw = sum(len(bench.engine.tokenizer.encode(document.text or "")) for document in documents)
    bench.engine.reset_cache()
    before, Counting.tokens = preemptions(bench.engine), Tokens()
    with tempfile.TemporaryDirectory() as folder, gpu_in_use() as used:
        seconds, _ = timed(lambda: WAYS[row.way](bench, documents, row, Path(folder)))
    tokens = Counting.tokens
    return {
        "size": row.size,
        "documents": len(documents),
        "seconds": round(seconds, 3),
        "raw": raw,
        "computed": tokens.prompt - tokens.cached,
        "written": tokens.written,
        "cached_share": round(tokens.cached / tokens.prompt, 4) if tokens.prompt else None,
        "preemptions": preemptions(bench.engine) - before,
        "utilisation": round(sum(used) / len(used)) if used else None,
        "settings": {**bench.engine.settings, "cache_tokens": cache_tokens(bench.engine)},
        "precision": asdict(row.setting)["precision"],
    }


def generate(bench: Bench, documents: list[Document], row: Row, folder: Path) -> None:
    for output in generated(bench, documents, detokenize=row.detokenize):
        prompt, written = len(output.prompt_token_ids or ()), len(output.outputs[0].token_ids)
        Counting.tokens.add(prompt, output.num_cached_tokens or 0, written)


def generated(bench: Bench, documents: list[Document], *, detokenize: bool) -> list[RequestOutput]:
    """Hand every prompt to vLLM at once."""
    from vllm import SamplingParams

    prompts = chainer_for(bench.config, bench.engine).prompts
    asked = [{"prompt_token_ids": prompts.prompt((), document.text or "")} for document in documents]
    sampling = SamplingParams(temperature=0, max_tokens=bench.config.sampling.max_tokens, detokenize=detokenize)
    return bench.engine.llm.generate(asked, sampling, use_tqdm=False)


def job(bench: Bench, documents: list[Document], row: Row, folder: Path) -> None:
    source = Source(str(write_documents(folder / "documents.jsonl", documents)))
    synthesize(source, folder / "corpus", replace(bench.config, shots=row.shots), engine=bench.engine_config)


def mapped(bench: Bench, documents: list[Document], row: Row, folder: Path) -> None:
    from datasets import disable_progress_bars, load_dataset

    from hfsynth import Synthesizer

    disable_progress_bars()
    path = write_documents(folder / "documents.jsonl", documents)
    loaded = load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder))
    synthesizer = Synthesizer.from_config(replace(bench.config, shots=row.shots), bench.engine_config)
    loaded.map(synthesizer, batched=True, batch_size=4096 // GROUPED * GROUPED)


WAYS: dict[str, Callable[[Bench, list[Document], Row, Path], None]] = {
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
    main()
