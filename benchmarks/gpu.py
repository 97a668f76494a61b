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
import time
from argparse import SUPPRESS, ArgumentParser, Namespace
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

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
)

from hfsynth.core.config import Sampling, digest

SIZES = (1000, 500, 2000)  # raw tokens of a document; the first is that of the rows that differ in other things
TINY_SIZES = (100, 50, 200)
LOADING = 90.0  # seconds: with less time left no engine is loaded
MEASURING = 0.6  # share of the time that is meant for the rows themselves
WRITTEN = 260  # tokens of a completion of random weights: as many as a checkpoint writes about a document
KEPT = "gpu.jsonl"
ENGINE = Path(__file__).with_name("gpu_engine.py")
OVER = "no time left"
GROUPED = 6  # the number of documents is a multiple of it, so that no chain is short


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
    # For gpu_engine.py: names of rows, what those of one table share, the end of the time, how long a row takes.
    made.add_argument("--group", help=SUPPRESS)
    made.add_argument("--setup", help=SUPPRESS)
    made.add_argument("--until", type=float, help=SUPPRESS)
    made.add_argument("--row-seconds", type=float, help=SUPPRESS)
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
        while left:
            enough = until - time.time() > (0 if args.tiny else LOADING)
            why = run_group(setting, left, args, model, until, row_seconds) if enough else OVER
            left = noted(kept, left, why)


def noted(kept: Rows, asked: list[str], why: str) -> list[str]:
    """Note why rows are not done; return those that are worth another try.

    Where some were done and then one failed, it is that one's fault; where none was, none of this engine will be.
    """
    left = [name for name in asked if name not in kept.done()]
    failed = left[:1] if len(left) < len(asked) and why != OVER else left
    for name in failed:
        kept.note(name, why=why)
    return left[len(failed) :]


def run_group(setting: Setting, names: list[str], args: Namespace, model: str, until: float, row_seconds: float) -> str:
    """Measure rows of one engine in a process of their own; return why some may be left."""
    own = {"model": model, "group": ";".join(names), "until": until, "row-seconds": row_seconds, "setup": args.setup}
    settled = {"max-tokens": args.max_tokens, "window": args.window, "results": args.results}
    options = [f"--{name}={value}" for name, value in {**own, **settled}.items()]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if setting.own_process else "0"}
    command = [sys.executable, str(ENGINE), *sys.argv[1:], *options, *(["--tiny"] if args.tiny else [])]
    child = subprocess.Popen(command, env=environment)
    try:
        code = child.wait(timeout=until - time.time() + row_seconds + 60)
    except subprocess.TimeoutExpired:
        return OVER
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    return f"ended with exit code {code}" if code else OVER


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


if __name__ == "__main__":
    main()
