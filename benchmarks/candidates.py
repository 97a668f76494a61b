"""Measure whether drawing several completions and keeping the best pairs helps, on documents with people's pairs.

    python benchmarks/candidates.py --gold FILE [--model MODEL] [--documents N] [--runs N] [--candidates N]

The same documents get pairs in five ways: the likeliest completion, one that is drawn, and the best of several that
are drawn, chosen by measures, by agreement or by the model as its own judge. Each document's pairs are matched with
those of people (`pair_quality`: F1), and all ways are compared with one drawn completion, document by document. Each
run draws other documents. The price is in computed tokens, prompts and completions without what the prefix cache held.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from common import Report, gold_documents, parser, publish

import hfsynth
from hfsynth.core.records import Pair
from hfsynth.documents.examples import Example
from hfsynth.documents.source import Source
from hfsynth.quality.gold_scoring import pair_quality

ONE = "one, drawn"

Found = Mapping[str, Any]
"""What one way gave: the F1 of each document, pairs a document, computed tokens a document."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--gold", type=Path, required=True, help="contexts with pairs that people wrote")
    made.add_argument("--runs", type=int, default=3)
    made.add_argument("--candidates", type=int, default=3)
    made.add_argument("--temperature", type=float, default=0.7)
    given = made.parse_args()
    publish(measured(given), given.results)


def measured(args: Namespace) -> Report:
    number = args.documents or 32
    with TemporaryDirectory() as folder:
        runs = [one_run(args, number, seed, Path(folder, str(seed))) for seed in range(args.runs)]
    rows = [compared(way, [run[way] for run in runs], [run[ONE] for run in runs]) for way in runs[0]]
    title = f"Pair F1 of {args.model} on {args.gold.stem}, {args.runs} runs of {number} documents"
    return Report("candidates", title, rows, {}, [], {row["way"]: row["f1"] for row in rows}, "pair F1")


def ways(args: Namespace) -> dict[str, dict[str, Any]]:
    """Return the settings of each way."""
    several = {"candidates": args.candidates}
    return {
        "the likeliest": {"temperature": 0.0},
        ONE: {},
        f"best of {args.candidates}, by measures": several,
        f"best of {args.candidates}, by agreement": {**several, "choose_by": "agreement"},
        f"best of {args.candidates}, by judge": {**several, "choose_by": "judge"},
    }


def one_run(args: Namespace, number: int, seed: int, folder: Path) -> dict[str, Found]:
    folder.mkdir()
    drawn = gold_documents(args.gold, number, seed, folder / "texts.jsonl")
    found = {}
    for place, (way, settings) in enumerate(ways(args).items()):
        given = dict(settings)
        temperature = given.pop("temperature", args.temperature)
        sampling = hfsynth.Sampling(max_tokens=args.max_tokens or 256, temperature=temperature)
        hfsynth.close_engines()  # else a way would find the prompts of the one before it
        config = hfsynth.SynthesizerConfig(args.model, sampling=sampling, seed=seed, **given)
        stats = hfsynth.synthesize(Source(str(folder / "texts.jsonl")), folder / str(place), config).stats
        computed = stats["prompt_tokens"] - stats["cached_tokens"] + stats["output_tokens"]
        scores, pairs = scored(folder / str(place), drawn)
        found[way] = {"f1": scores, "pairs": pairs / number, "tokens": computed / number}
    return found


def scored(corpus: Path, drawn: Sequence[Example]) -> tuple[list[float], int]:
    """Return the F1 of each document, in their order, and how many pairs there are."""
    by_place: dict[int, list[Pair]] = {}
    for path in sorted((corpus / "pairs").glob("*.parquet")):
        for row in pq.read_table(path, columns=["id", "pairs"]).to_pylist():
            pairs = [Pair(pair["instruction"], pair["response"]) for pair in row["pairs"]]
            by_place.setdefault(int(row["id"]), []).extend(pairs)
    scores = [pair_quality(by_place.get(place, []), example.pairs).f1 for place, example in enumerate(drawn)]
    return scores, sum(map(len, by_place.values()))


def compared(way: str, runs: Sequence[Found], others: Sequence[Found]) -> dict[str, Any]:
    """Return a way's figures, and how much higher its F1 is than one drawn completion's, with 95% over documents."""
    scores = [score for run in runs for score in run["f1"]]
    plain = [score for run in others for score in run["f1"]]
    more = [one - other for one, other in zip(scores, plain, strict=True)]
    return {
        "way": way,
        "f1": round(mean(scores), 4),
        "more": round(mean(more), 4),
        "95%": round(1.96 * stdev(more) / sqrt(len(more)), 4),
        "pairs a document": round(mean(run["pairs"] for run in runs), 2),
        "computed tokens": round(mean(run["tokens"] for run in runs), 1),
    }


if __name__ == "__main__":
    main()
