"""Run all benchmarks one after the other, each in a process of its own, and say which passed and which were skipped.

make bench
make bench BENCH="--reference PATH"                    # a checkout of microsoft/LMOps
make bench BENCH="--full --load-format dummy"          # a machine with a GPU
python benchmarks/run.py generating scale              # some of them
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from common import RESULTS, Report, publish, timed

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """One run of a script, NAME.py where no other is named: its options, the shared ones it has, what it needs."""

    name: str
    shared: tuple[str, ...] = ()
    needs: str | None = None
    script: str = ""
    options: tuple[str, ...] = ()
    requires: str = ""  # a shared option without which there is nothing to measure


MODEL = ("full", "model", "load_format")
REAL = ("--model", "embedded", "--shots", "2")  # a --model that is given comes after it
BENCHMARKS = (
    Benchmark("gpu", MODEL, "vllm"),
    Benchmark("generating", MODEL, "vllm"),
    Benchmark("naive_map", MODEL, "vllm"),
    Benchmark("speculative", MODEL, "vllm"),
    Benchmark("tuning", MODEL, "vllm"),
    Benchmark("pipeline", MODEL, "vllm"),
    Benchmark("reference", (*MODEL, "reference"), "vllm"),
    Benchmark("first_pair", ("model",), "vllm"),
    Benchmark("chaining", ("model",), "vllm"),
    Benchmark("front_end", ("model",), "vllm"),
    Benchmark("exemplars", ("model",), "vllm"),
    Benchmark("verifying", ("model", "gold"), "vllm", requires="gold"),
    Benchmark("candidates", ("model", "gold"), "vllm", requires="gold"),
    Benchmark("scale", ("full",)),
    Benchmark("overhead"),
    Benchmark("source_checks"),
    Benchmark("overhead_real", ("model",), "vllm", "overhead", (*REAL, "--documents", "64")),
    Benchmark("workers"),
    Benchmark("workers_real", ("model",), "vllm", "workers", (*REAL, "--documents", "256")),
    Benchmark("stores", needs="obstore"),
    Benchmark("mapping"),
    Benchmark("saving"),
    Benchmark("rendering", ("reference",)),
    Benchmark("methods", needs="vllm"),
    Benchmark("mining"),
    Benchmark("prompts", needs="transformers"),
    Benchmark("export", needs="transformers"),
    Benchmark("pretraining", needs="torch"),
    Benchmark("republishing", needs="hf_xet"),
    Benchmark("pushing", needs="obstore"),
    Benchmark("page"),
    Benchmark("leaks", ("full",)),
    Benchmark("screening", ("full",)),
    Benchmark("screening_corpus", ("full",)),
    Benchmark("decontamination", ("full",)),
)


def main() -> None:
    given = options().parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in BENCHMARKS if not given.names or one.name in given.names]
    rows = [outcome(one, given) for one in chosen]
    publish(Report("summary", "Benchmarks", rows), RESULTS)
    failed = [row["benchmark"] for row in rows if row["outcome"] == "failed"]
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


def options() -> argparse.ArgumentParser:
    """Return the parser; options go to the benchmarks that have them."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("names", nargs="*", metavar="NAME", choices=[[], *(one.name for one in BENCHMARKS)])
    made.add_argument("--full", action="store_true", help="sizes for a machine with a GPU")
    made.add_argument("--model", help="a Hub model, a folder, or `embedded`")
    made.add_argument("--load-format", help="`dummy`: random weights in the shape of Mistral-7B")
    made.add_argument("--reference", help="a checkout of microsoft/LMOps")
    made.add_argument("--gold", help="contexts with pairs that people wrote, as hfsynth evaluate --gold reads them")
    return made


def outcome(one: Benchmark, given: argparse.Namespace) -> dict[str, str]:
    """Run one benchmark; return its row of the summary."""
    if one.needs and find_spec(one.needs) is None:
        return {"benchmark": one.name, "outcome": "skipped", "seconds": "", "why": f"needs {one.needs}"}
    if one.requires and getattr(given, one.requires) is None:
        return {"benchmark": one.name, "outcome": "skipped", "seconds": "", "why": f"without --{one.requires}"}
    script, flags = f"{one.script or one.name}.py", arguments(one, given)
    command = [sys.executable, str(HERE / script), *flags]
    sys.stdout.write(f"\n$ python benchmarks/{' '.join([script, *flags])}\n")
    sys.stdout.flush()
    seconds, done = timed(lambda: subprocess.run(command, check=False))
    without = "reference" in one.shared and given.reference is None
    why = "without --reference PATH" if without else f"exit code {done.returncode}" if done.returncode else ""
    result = "failed" if done.returncode else "skipped" if without and one.name == "reference" else "passed"
    return {"benchmark": one.name, "outcome": result, "seconds": f"{seconds:.0f}", "why": why}


def arguments(one: Benchmark, given: argparse.Namespace) -> Sequence[str]:
    """Return a benchmark's own options, and those of the shared ones that were given."""
    values = {name: getattr(given, name) for name in one.shared}
    flags = [f"--{name.replace('_', '-')}" for name, value in values.items() if value is True]
    named = [
        text
        for name, value in values.items()
        if isinstance(value, str)
        for text in (f"--{name.replace('_', '-')}", value)
    ]
    return [*one.options, *flags, *named]


if __name__ == "__main__":
    main()
