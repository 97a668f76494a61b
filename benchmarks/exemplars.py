"""Measure how much of their exemplars chains find in the engine's prefix cache, side by side and in the source's order.

    python benchmarks/exemplars.py [--model MODEL] [--exemplars FILE] [--corpus FILE] [--documents N] [--cache-tokens N]

The same documents run twice through one engine: with chains that begin alike next to each other, as a job runs them,
and with each in its place. Counted are the tokens of a chain's exemplars that its first prompt found; the first chain
of each set, which can find nothing, is left out. The cache is small, so that it cannot hold every set at once. The goal
is 0.9.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from common import EXAMPLES, RESULTS, Report, publish

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.records import Document, Synthesized
from hfsynth.engine.protocol import Measurable
from hfsynth.synthesis.exemplars import neighbours, settle
from hfsynth.synthesis.loading import Loaded, load

GOAL = 0.9


def documents(corpus: Path, number: int) -> list[Document]:
    """Return the texts of a corpus over and over, cut differently each time."""
    with corpus.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    taken = islice(cycle(texts), number)
    return [Document(f"d{at}", text[at // len(texts) * 40 :][:600]) for at, text in enumerate(taken)]


def found(loaded: Loaded, groups: Iterable[Sequence[Document]]) -> dict[str, Any]:
    """Run chains in their order; return what they found of their exemplars, without each set's first chain."""
    chainer = loaded.chainer
    tokens = {
        tuple(one.id for one in begun.exemplars): len(chainer.prompts.prompt(begun.turns, "")) - chainer.overhead
        for begun in chainer.beginnings.each
    }
    by_set: dict[tuple[str, ...], list[int]] = {}
    started = time.perf_counter()
    results: list[list[Synthesized]] = list(loaded.engine.run(map(chainer.chain, groups), loaded.generation))
    for result, *_ in results:
        if not result.synthesis.exemplars_left_out:
            by_set.setdefault(result.synthesis.exemplars, []).append(result.synthesis.cached_tokens)
    later = [(tokens[ids], one) for ids, cached in by_set.items() for one in sorted(cached)[1:]]
    shown, cached_tokens = sum(of for of, _ in later), sum(min(of, one) for of, one in later)
    counted = {"sets": len(by_set), "chains": len(results), "exemplar_tokens": shown, "found": cached_tokens}
    return {**counted, "share": round(cached_tokens / shown, 4), "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="a Hub model, a folder, or `embedded`")
    parser.add_argument("--corpus", type=Path, default=EXAMPLES, help="JSON lines with a `text` column")
    parser.add_argument("--exemplars", type=Path, default=EXAMPLES.with_name("exemplars.jsonl"))
    parser.add_argument("--per-prompt", type=int, default=2)
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--max-tokens", type=int, default=16, help="tokens a completion at most")
    parser.add_argument("--sequences", type=int, default=2, help="requests that the engine works on at once")
    parser.add_argument("--cache-tokens", type=int, default=2_560, help="tokens that the KV cache holds")
    parser.add_argument("--block", type=int, default=32, help="tokens a block of the cache")
    parser.add_argument("--window", type=int, default=2_048)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    given = parser.parse_args()
    cache = {"num_gpu_blocks_override": given.cache_tokens // given.block, "block_size": given.block}
    engine = EngineConfig("vllm", {**cache, "max_num_seqs": given.sequences})
    exemplars = Exemplars(str(given.exemplars), per_prompt=given.per_prompt, sets=given.sets)
    sampling = Sampling(max_tokens=given.max_tokens)
    asked = SynthesizerConfig(given.model, window=given.window, sampling=sampling, exemplars=exemplars)
    loaded = load(settle(asked, engine), engine)
    groups = [[document] for document in documents(given.corpus, given.documents)]
    beside = list(neighbours(groups, loaded.chainer.beginnings.number, lambda group: 1))
    rows = []
    for name, order in (("side by side", beside), ("as they come", groups)):
        if isinstance(loaded.engine, Measurable):
            loaded.engine.reset_cache()
        rows.append({"order": name, **found(loaded, order)})
    title = f"Exemplars found in the prefix cache, {given.documents} chains, {given.model} (goal: {GOAL})"
    bars = {str(row["order"]): float(row["share"]) for row in rows}
    figures = {"goal": GOAL, "cache_tokens": given.cache_tokens}
    publish(Report("exemplars", title, rows, figures, bars=bars, unit="share of tokens"), given.results)


if __name__ == "__main__":
    main()
