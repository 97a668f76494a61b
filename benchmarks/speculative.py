"""Speculative decoding by n-gram look-up: tokens a second with and without, and the share of guesses that was kept.

Pairs quote their document. The same documents go through a fresh engine in a fresh process each time, the ways taking
turns, and the best of each counts; loading is not counted. The pairs are the same, which a test checks.

    python benchmarks/speculative.py
    python benchmarks/speculative.py --full --model instruction-pretrain/instruction-synthesizer
"""

from __future__ import annotations

from argparse import Namespace

from common import Report, chosen, engine_of, made_documents, parser, publish

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.engine.speculation import speculating
from hfsynth.job.tuning.trial import Order, Outcome
from hfsynth.job.tuning.trial_process import run_trial
from hfsynth.models.resolve import pinned
from hfsynth.synthesis.chains import grouped

WAYS = ("none", "ngram", "ngram:8")
A_TRIAL_AT_MOST = 3600


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--shots", type=int, default=2)
    made.add_argument("--rounds", type=int, default=1)
    args = made.parse_args()
    publish(measured(args), args.results)


def measured(args: Namespace) -> Report:
    documents = made_documents(args.corpus, chosen(args.documents, args.full, small=24, large=4000))
    sampling = Sampling(max_tokens=chosen(args.max_tokens, args.full, small=128, large=400))
    statistics = {"disable_log_stats": False}
    model, engine = engine_of(args, **statistics, **({} if args.full else {"max_num_seqs": 8}))
    config = pinned(SynthesizerConfig(model, shots=args.shots, sampling=sampling), engine)
    order = Order(config, engine, tuple(map(tuple, grouped(documents, args.shots))))
    best: dict[str, Outcome] = {}
    for _ in range(args.rounds):
        for way in WAYS:
            outcome = run_trial(with_speculation(order, engine, way), A_TRIAL_AT_MOST)
            if way not in best or outcome.seconds < best[way].seconds:
                best[way] = outcome
    speeds = {way: speed(outcome) for way, outcome in best.items()}
    fastest = max(best, key=lambda way: speed(best[way]))
    title = f"Speculative decoding: {len(documents)} documents, {args.model}, M={args.shots}, greedy"
    return Report(
        "speculative",
        title,
        [row(way, outcome, best["none"]) for way, outcome in best.items()],
        {"ratio": round(speed(best[fastest]) / speed(best["none"]), 3), "fastest": fastest},
        ["Random weights quote nothing: a dummy model says nothing here."] if args.load_format == "dummy" else [],
        speeds,
        "output tokens a second",
    )


def with_speculation(order: Order, engine: EngineConfig, way: str) -> Order:
    """Return the order for one way."""
    return Order(order.config, speculating(engine, way), order.groups)


def row(way: str, outcome: Outcome, without: Outcome) -> dict[str, object]:
    """Return a way's row of the table."""
    return {
        "speculation": way,
        "output tokens a second": speed(outcome),
        "of without": speed(outcome) / speed(without),
        "guesses kept": None if outcome.acceptance is None else f"{outcome.acceptance:.0%}",
        "output tokens": outcome.output_tokens,
        "pairs": outcome.pairs,
    }


def speed(outcome: Outcome) -> float:
    return outcome.output_tokens / outcome.seconds


if __name__ == "__main__":
    main()
