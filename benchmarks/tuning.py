"""`hfsynth tune` against a real run: does the whole corpus take what was predicted from a sample?

Tunes on a sample, then runs the whole corpus in a fresh process with the flags that tuning printed. Both leave out the
loading of the model. The error bar is the sample's; other work on the machine between the two is not in it.

    python benchmarks/tuning.py
    python benchmarks/tuning.py --full --model instruction-pretrain/instruction-synthesizer --minutes 15
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from common import Report, chosen, engine_of, made_documents, parser, publish, write_documents


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--shots", type=int, default=2)
    made.add_argument("--minutes", type=float, default=5.0)
    made.add_argument("--sample", type=int, help="documents to tune on")
    args = made.parse_args()
    publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    documents = made_documents(args.corpus, chosen(args.documents, args.full, small=48, large=8000))
    sample = chosen(args.sample, args.full, small=24, large=1024)
    tokens = chosen(args.max_tokens, args.full, small=96, large=400)
    model, engine = engine_of(args, **({} if args.full else {"max_num_seqs": 8}))
    shared = ["--model", model, "--shots", str(args.shots), "--max-tokens", str(tokens)]
    given = [option for name, value in engine.arguments.items() for option in ("--engine-arg", f"{name}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        path = write_documents(Path(folder) / "documents.jsonl", documents)
        limits = ["--documents", str(sample), "--minutes", str(args.minutes), "--precisions", "none"]
        found = asked("tune", str(path), *shared, *given, *limits)
        flags = found["flags"]
        options = [*shared, *without(given, flags), *flags, "--workers", "0"]
        ran = asked("synthesize", str(path), str(Path(folder) / "corpus"), *options)
    return compared(found, 3600 * ran["stats"]["documents_per_second"], len(documents))


def asked(*arguments: str) -> dict[str, Any]:
    """Run a command of hfsynth in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "hfsynth", *arguments, "--json"], stdout=subprocess.PIPE, check=True, text=True
    )
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def without(given: list[str], flags: list[str]) -> list[str]:
    """Return the engine arguments that `flags` do not give anew."""
    renewed = {flag.partition("=")[0] for flag in flags}
    kept = [value for value in given[1::2] if value.partition("=")[0] not in renewed]
    return [option for value in kept for option in ("--engine-arg", value)]


def compared(found: dict[str, Any], real: float, documents: int) -> Report:
    """Put the prediction and the real run side by side."""
    expected = found["prediction"]["documents_per_hour"]
    inside = expected["low"] <= real <= expected["high"]
    first = found["trials"][0]["documents_per_second"]
    rows = [
        {
            "": "predicted",
            "documents an hour": expected["value"],
            "from": expected["low"],
            "to": expected["high"],
            "documents": found["sample_documents"],
        },
        {"": "real run", "documents an hour": real, "documents": documents},
    ]
    tried = [trial["documents_per_second"] for trial in found["trials"] if trial["documents_per_second"]]
    return Report(
        "tuning",
        f"hfsynth tune: {len(found['trials'])} settings tried, then the whole corpus",
        rows,
        {
            "real run of predicted": round(real / expected["value"], 3),
            "inside the error bar": inside,
            "best setting of the first": round(max(tried) / first, 3),
            "flags": " ".join(found["flags"]) or "none",
        },
        [],
        {"predicted": expected["value"], "real run": real},
        "documents an hour",
    )


if __name__ == "__main__":
    main()
