"""Measure `export` against the bare `tokenizer.encode_batch` on the same texts, in one run: olmo, then other targets.

    python benchmarks/export.py [--to megatron --to trl] [--tokenizer MODEL] [--data corpus.parquet] [--results FOLDER]

`--to` names the other targets, by default one of each form; those that are text count what does not fit a sequence.

Without --data the texts are made up from a fixed vocabulary, without --tokenizer a byte-level BPE is trained on them.
The target is 80% of the bare speed.

Both sides run in every round, one right after the other and in turn first, and the figure is the median of the rounds'
ratios: best times taken apart say more about what else the machine was doing than about export. The quartiles, the
processor time and the cores that each side really had are given beside it. Where the sides had different numbers of
cores, `comparable` is false and the ratio of the clock means nothing; run it again on an idle machine.
`encode_batch_fast`, which export uses, leaves out the offsets and is a third side.

    python benchmarks/export.py --memory 1000000 [--to megatron]

is the other figure: the peak memory of an export of so many short texts and of a tenth of them, each a process.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import RESULTS, Report, publish
from datasets import Dataset
from tokenizers import Encoding, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hfsynth.models.tokenizers import TextTokenizer, load_tokenizer
from hfsynth.texts.export.export import export

BATCH = 1000
GOAL = 0.8
CORES_MAY_DIFFER = 0.15
OTHERS = ["megatron", "nanotron", "litdata", "trl"]


@dataclass(frozen=True)
class Timing:
    """One run: by the clock, and in processor time of all threads."""

    clock: float
    processor: float

    @property
    def cores(self) -> float:
        return self.processor / self.clock


def made_up_texts(count: int) -> list[str]:
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(5000)]
    return [" ".join(draw.choices(words, k=draw.randint(50, 500))) for _ in range(count)]


def trained_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def timed(work: Callable[[], object]) -> Timing:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - clock, time.process_time() - processor)


def bare(encode: Callable[..., list[Encoding]], texts: list[str]) -> int:
    """Encode in batches and count the tokens, keeping nothing."""
    batches = (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))
    return sum(len(one) for batch in batches for one in encode(batch, add_special_tokens=False))


def exported(texts: Dataset, tokenizer: TextTokenizer, to: str) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return export(texts, Path(folder), to=to, tokenizer=tokenizer)


def measure_others(texts: list[str], tokenizer: TextTokenizer, targets: list[str], rounds: int) -> dict[str, Any]:
    """Return the speed of each target as a share of `encode_batch`, each beside it in the same rounds."""
    found = {}
    for to in targets:
        sides = sides_of(texts, tokenizer, to)
        del sides["encode_batch_fast"]
        timings = run_rounds(sides, rounds)
        cores = {name: statistics.median(one[name].cores for one in timings) for name in sides}
        found[to] = {
            "share_of_encode_batch": ratios(timings, "encode_batch", "clock"),
            "share_of_encode_batch_processor_time": ratios(timings, "encode_batch", "processor"),
            "comparable": abs(cores["export"] / cores["encode_batch"] - 1) <= CORES_MAY_DIFFER,
        }
    return found


def sides_of(texts: list[str], tokenizer: TextTokenizer, to: str = "olmo") -> dict[str, Callable[[], object]]:
    """Give all sides the same copy of the Rust tokenizer, so that they share its cache of words."""
    dataset = Dataset.from_dict({"text": texts})
    return {
        "encode_batch": lambda: bare(tokenizer.backend.encode_batch, texts),
        "export": lambda: exported(dataset, tokenizer, to),
        "encode_batch_fast": lambda: bare(tokenizer.backend.encode_batch_fast, texts),
    }


def run_rounds(sides: dict[str, Callable[[], object]], rounds: int) -> list[dict[str, Timing]]:
    """Run every side once a round, after one round that is not counted; the order turns from round to round."""
    for work in sides.values():
        work()
    names = list(sides)
    return [
        {name: timed(sides[name]) for name in (names if number % 2 == 0 else names[::-1])} for number in range(rounds)
    ]


def ratios(timings: list[dict[str, Timing]], base: str, unit: str) -> dict[str, float]:
    """Return median and quartiles of how fast export is, as a share of `base`, in the clock or the processor time."""
    shares = [getattr(one[base], unit) / getattr(one["export"], unit) for one in timings]
    low, middle, high = statistics.quantiles(shares, n=4, method="inclusive")
    return {"median": round(middle, 3), "quartile_1": round(low, 3), "quartile_3": round(high, 3)}


def measure(texts: list[str], tokenizer: TextTokenizer, rounds: int) -> dict[str, Any]:
    sides = sides_of(texts, tokenizer)
    tokens = bare(tokenizer.backend.encode_batch, texts)
    timings = run_rounds(sides, rounds)
    clocks = {name: statistics.median(one[name].clock for one in timings) for name in sides}
    cores = {name: statistics.median(one[name].cores for one in timings) for name in sides}
    clock = ratios(timings, "encode_batch", "clock")
    return {
        "documents": len(texts),
        "tokens": tokens,
        "rounds": rounds,
        "median_tokens_per_second": {name: round(tokens / seconds) for name, seconds in clocks.items()},
        "cores_used": {name: round(used, 2) for name, used in cores.items()},
        "comparable": abs(cores["export"] / cores["encode_batch"] - 1) <= CORES_MAY_DIFFER,
        "share_of_encode_batch": clock,
        "share_of_encode_batch_processor_time": ratios(timings, "encode_batch", "processor"),
        "share_of_encode_batch_fast": ratios(timings, "encode_batch_fast", "clock"),
        "share_of_encode_batch_fast_processor_time": ratios(timings, "encode_batch_fast", "processor"),
        "goal": GOAL,
        "goal_met": clock["median"] >= GOAL,
        "load_average": round(os.getloadavg()[0], 1),
    }


def memory(texts: int, targets: list[str]) -> Report:
    """Return each target's peak memory for so many texts, and for a tenth of them."""
    rows = []
    for to in targets:
        peaks = {size: _peak_of(to, size) for size in (texts // 10, texts)}
        rows.append({"target": to, **{f"MiB at {size:,}": round(peak) for size, peak in peaks.items()}})
    bars = {str(row["target"]): float(row[f"MiB at {texts:,}"]) for row in rows}
    return Report("export-memory", f"Peak memory of an export, {texts:,} texts and a tenth", rows, {}, [], bars, "MiB")


def _peak_of(to: str, texts: int) -> float:
    command = [sys.executable, __file__, "--to", to, "--only-export", str(texts)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def only_export(to: str, texts: int) -> float:
    """Export so many texts that no list holds, and return this process's peak memory in MiB."""
    tokenizer = load_tokenizer(trained_tokenizer(made_up_texts(100)))
    rows = ({"text": f"{at}: a short text, one of many.", "source_ids": [str(at)]} for at in range(texts))
    with tempfile.TemporaryDirectory() as folder:
        export(rows, Path(folder), to=to, tokenizer=tokenizer, shard_bytes=20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", help="a model id on the Hub, or a folder")
    parser.add_argument("--data", type=Path, help="a parquet file with a column `text`")
    parser.add_argument("--to", action="append", help="another target to measure; may be repeated")
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    parser.add_argument("--memory", type=int, metavar="TEXTS", help="measure the peak memory of so many texts instead")
    parser.add_argument("--only-export", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_export:
        print(only_export(given.to[0], given.only_export))  # noqa: T201
        return
    if given.memory:
        publish(memory(given.memory, given.to or ["olmo", *OTHERS]), given.results)
        return
    column = pq.read_table(given.data, columns=["text"])["text"].to_pylist() if given.data else []
    texts = [text for text in column if text][: given.documents] or made_up_texts(given.documents)
    chosen = AutoTokenizer.from_pretrained(given.tokenizer) if given.tokenizer else trained_tokenizer(texts)
    loaded = load_tokenizer(chosen)
    result = measure(texts, loaded, given.rounds)
    result["others"] = measure_others(texts, loaded, given.to or OTHERS, given.rounds)
    speeds, cores = result.pop("median_tokens_per_second"), result.pop("cores_used")
    report = Report(
        "export",
        f"export --to olmo against the bare tokenizer: {len(texts):,} texts (goal: {GOAL} of encode_batch)",
        [{"side": side, "tokens a second": speed, "cores": cores[side]} for side, speed in speeds.items()],
        result,
        bars={side: float(speed) for side, speed in speeds.items()},
        unit="tokens a second",
    )
    publish(report, given.results)


if __name__ == "__main__":
    main()
