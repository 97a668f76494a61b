"""Measure what a verification is worth and what it costs, on documents about which people wrote pairs.

    python benchmarks/verifying.py --gold FILE [--model MODEL] [--judge MODEL] [--documents N] [--runs N]

Each run draws other documents, has pairs written about them, judges every pair and looks how many of the pairs that
would be kept match one that a person wrote: half of their words or more, by the F1 of SQuAD over instruction and
response. Kept are those with a score of one half or more, and, for a judge whose scores are all high or low, the better
half by a score. A judge that helps has a larger share there than among all. The price is in computed tokens, prompts
and completions without what the prefix cache held: the goal is three verdicts or more for the price of one synthesized
document. A verdict is one score of a pair, a token that is asked for.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
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
from hfsynth.quality.gold_scoring import best, token_f1

MATCHES = 0.5
THRESHOLD = 0.5
SCORES = ("accuracy", "relevance")
GOAL = 3.0

Judged = tuple[float, Mapping[str, float | None]]
"""How well a pair matches a gold one, and its scores."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--gold", type=Path, required=True, help="contexts with pairs that people wrote")
    made.add_argument("--judge", default="embedded", help="the chat model that judges")
    made.add_argument("--runs", type=int, default=3)
    given = made.parse_args()
    publish(measured(given), given.results)


def measured(args: Namespace) -> Report:
    number = args.documents or 40
    with TemporaryDirectory() as folder:
        runs = [one_run(args, number, seed, Path(folder, str(seed))) for seed in range(args.runs)]
    rows = [row for seed, (pairs, _) in enumerate(runs) for row in rows_of(seed, pairs)]
    prices = [price for _, price in runs]
    figures = {
        "share of pairs that match, all pairs": spread([row["match"] for row in rows if row["kept if"] == "all"]),
        **{
            f"more: {rule}": spread([row["more"] for row in rows if row["kept if"] == rule])
            for rule in dict.fromkeys(row["kept if"] for row in rows if row["kept if"] != "all")
        },
        "verdicts for the price of a document": spread(prices),
        "goal": GOAL,
    }
    title = f"Pairs of {args.model} judged by {args.judge}, {number} documents of {args.gold.stem}, {args.runs} runs"
    bars = {f"{row['kept if']}, run {row['run']}": row["match"] for row in rows if row["match"] is not None}
    return Report("verifying", title, rows, figures, [], bars, "share of the kept pairs that match a gold pair")


def one_run(args: Namespace, number: int, seed: int, folder: Path) -> tuple[list[Judged], float]:
    """Return the judged pairs of one draw of documents, and how many verdicts cost as much as a document."""
    folder.mkdir()
    drawn = gold_documents(args.gold, number, seed, folder / "texts.jsonl")
    sampling = hfsynth.Sampling(max_tokens=args.max_tokens or 256)
    config = hfsynth.SynthesizerConfig(args.model, sampling=sampling)
    made = hfsynth.synthesize(Source(str(folder / "texts.jsonl")), folder / "corpus", config).stats
    told = hfsynth.verify(folder / "corpus", args.judge).stats["verify"]
    computed = made["prompt_tokens"] - made["cached_tokens"] + made["output_tokens"]
    verdict = told["computed_tokens"] / (len(SCORES) * told["pairs"])
    return list(judged(folder / "corpus", drawn)), computed / number / verdict


def judged(corpus: Path, drawn: Sequence[Example]) -> Iterator[Judged]:
    for path in sorted((corpus / "pairs").glob("*.parquet")):
        for row in pq.read_table(path, columns=["id", "pairs", "verdicts"]).to_pylist():
            gold = [text_of(pair) for pair in drawn[int(row["id"])].pairs]
            for pair, scores in zip(row["pairs"], row["verdicts"] or (), strict=False):
                yield best(token_f1, text_of(Pair(pair["instruction"], pair["response"])), gold), scores


def text_of(pair: Pair) -> str:
    return f"{pair.instruction} {pair.response}"


def rows_of(seed: int, pairs: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """Yield what share of pairs matches: of all, of those at or above the threshold, of the better half."""
    whole = mean(match >= MATCHES for match, _ in pairs)
    for rule, kept in kept_by(pairs):
        share = mean(match >= MATCHES for match in kept) if kept else None
        more = None if share is None else round(share - whole, 3)
        told = None if share is None else round(share, 3)
        yield {"run": seed, "kept if": rule, "pairs": len(kept), "match": told, "more": more}


def kept_by(pairs: Sequence[Judged]) -> Iterator[tuple[str, list[float]]]:
    """Yield each rule with how well the pairs that it keeps match."""
    yield "all", [match for match, _ in pairs]
    for score in SCORES:
        scored = [(found, match) for match, scores in pairs if (found := scores[score]) is not None]
        yield f"{score}>={THRESHOLD:g}", [match for found, match in scored if found >= THRESHOLD]
        better = sorted(scored, key=lambda one: one[0], reverse=True)[: len(scored) // 2]
        yield f"better half by {score}", [match for _, match in better]


def spread(values: Sequence[float | None]) -> str:
    """Return the mean of the runs and half of its 95% interval, by their spread."""
    found = [value for value in values if value is not None]
    if len(found) < 2:
        return "–" if not found else f"{found[0]:.3f}"
    return f"{mean(found):.3f} ± {1.96 * stdev(found) / sqrt(len(found)):.3f}"


if __name__ == "__main__":
    main()
