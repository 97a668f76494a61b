"""Against the reference implementation: same model, same documents, same vLLM; its schedule and ours.

    python benchmarks/reference.py --reference PATH       # a checkout of microsoft/LMOps

The reference's own functions do its work, in the order its README gives: `get_dataset` and `run` for one round after
the other over the whole corpus, then `cook_pt_entries`. All that is ours of it is the object it calls `generate` on: it
hands the prompts to the engine under test, with the model's own BOS and EOS in place of `<s>` and `</s>`, and keeps
count. Ours drives the same number of chains and renders them. Both end with training texts in memory, on one engine
with one set of flags, whose cache is smaller than a round and is emptied before every run.

A pair is lost where the reference's parser finds fewer than ours in the same completion, or where rendering drops it;
what ours rejects is counted under a reason and not lost. A document is lost where it is in no result. The last rows
give both a document that does not fit the window, among others that do.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import (
    Report,
    against_published,
    chosen,
    engine_of,
    gpu_name,
    made_documents,
    parser,
    publish,
    skipped,
    timed,
)

from hfsynth.core.config import Sampling, SynthesizerConfig
from hfsynth.core.records import Document, Status, Synthesized
from hfsynth.engine.loading import engine_for
from hfsynth.engine.vllm import VLLMEngine
from hfsynth.models.resolve import pinned
from hfsynth.synthesis.chains import Chainer, chainer_for, generation_for
from hfsynth.texts.training_texts import render_rows

NAME = "reference"
TITLE = "Against the reference implementation"
SHOTS = (1, 2, 3)
BLOCK = 32  # tokens a block of the KV cache on a CPU
_SEED = 12345  # what the reference's README starts from


@dataclass(frozen=True)
class Answer:
    """A completion as the reference reads it."""

    prompt: str
    outputs: Sequence[Any]


@dataclass
class CountingModel:
    """What the reference calls `generate` on. Counts prompt tokens and keeps what the model said."""

    engine: VLLMEngine
    prompt_tokens: int = 0
    computed_tokens: int = 0
    said: list[tuple[str, bool]] = field(default_factory=list)

    def generate(self, prompts: Sequence[str], parameters: object) -> list[Answer]:
        """Hand every prompt of a round to vLLM at once."""
        bos, eos = self.engine.tokenizer.bos or "", self.engine.tokenizer.eos or ""
        written = [prompt.replace("</s>", eos).replace("<s>", bos) for prompt in prompts]
        ids = [{"prompt_token_ids": self.engine.tokenizer.encode(prompt)} for prompt in written]
        found = self.engine.llm.generate(ids, parameters, use_tqdm=False)
        for output in found:
            self.prompt_tokens += len(output.prompt_token_ids)
            self.computed_tokens += len(output.prompt_token_ids) - (output.num_cached_tokens or 0)
            self.said.append((output.outputs[0].text, output.outputs[0].finish_reason == "length"))
        return [Answer(prompt, output.outputs) for prompt, output in zip(prompts, found, strict=True)]


@dataclass(frozen=True)
class Found:
    """What one side made of the documents: those in its result, pairs, texts, and pairs that went without a word."""

    seconds: float
    documents: int
    pairs: int
    texts: int
    empty_texts: int
    pairs_lost: int
    prompt_tokens: int
    computed_tokens: int
    note: str = ""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--reference", type=Path, help="a checkout of microsoft/LMOps")
    made.add_argument("--sequences", type=int, help="sequences the engine runs at once")
    made.add_argument("--cache-tokens", type=int, default=2560, help="size of the KV cache (not with --full)")
    args = made.parse_args()
    if args.reference is None:
        why = "needs --reference PATH, a checkout of microsoft/LMOps"
        skipped(NAME, TITLE, why, args.results)
    else:
        publish(measured(args, loaded_reference(args.reference)), args.results)


def loaded_reference(checkout: Path) -> Any:  # noqa: ANN401
    """Import the reference's module."""
    folder = checkout / "instruction_pretrain"
    if not (folder / "utils" / "read_compre.py").is_file():
        sys.exit(f"{checkout} is no checkout of microsoft/LMOps: it has no instruction_pretrain/utils/read_compre.py.")
    sys.path.insert(0, str(folder))
    return importlib.import_module("utils.read_compre")


def measured(args: Namespace, reference: Any) -> Report:  # noqa: ANN401
    number = chosen(args.documents, args.full, small=18, large=6000)
    documents = made_documents(args.corpus, number - number % 6 or 6, joined=2)  # rounds of one size for every M
    sampling = Sampling(max_tokens=chosen(args.max_tokens, args.full, small=112, large=400))
    small = {} if args.full else {"block_size": BLOCK, "num_gpu_blocks_override": args.cache_tokens // BLOCK}
    model, engine_config = engine_of(args, max_num_seqs=chosen(args.sequences, args.full, small=2, large=256), **small)
    config = pinned(SynthesizerConfig(model, sampling=sampling), engine_config)
    engine = engine_for(config, engine_config)
    if not isinstance(engine, VLLMEngine):
        raise SystemExit("This benchmark needs vLLM.")
    sides = Sides(reference, engine, config)
    rows: list[dict[str, Any]] = []
    ratios = {}
    for shots in SHOTS:
        theirs, ours = sides.both(documents, shots)
        rows += [row(f"M={shots}", "reference", theirs, documents), row(f"M={shots}", "hfsynth", ours, documents)]
        ratios[f"M={shots}: speed, ours of theirs"] = round(theirs.seconds / ours.seconds, 2)
        ratios[f"M={shots}: prompt tokens computed, ours of theirs"] = round(
            ours.computed_tokens / theirs.computed_tokens, 2
        )
    with_long = [*documents[:2], Document("long", "Far too long. " * engine.window), documents[2]]
    theirs, ours = sides.both(with_long, 1)
    rows += [row("a long one", "reference", theirs, with_long), row("a long one", "hfsynth", ours, with_long)]
    raw_tokens = sum(len(engine.tokenizer.encode(document.text or "")) for document in documents)
    seconds = len(documents) / rows[3]["documents a second"]  # ours, M=2
    return Report(
        NAME,
        f"{TITLE}: {len(documents)} documents, {args.model}",
        rows,
        ratios,
        [round_and_cache(raw_tokens, small), against_published(raw_tokens, seconds, gpu_name())],
        {f"{one['run']} {one['side']}": one["documents a second"] for one in rows[:6]},
        "documents a second",
    )


def round_and_cache(raw_tokens: int, arguments: Mapping[str, int]) -> str:
    """Say how large the first round is for most shots, against the cache."""
    blocks = arguments.get("num_gpu_blocks_override")
    cache = "the GPU's own" if blocks is None else f"{blocks * BLOCK:,} tokens"
    return f"The documents of a round have {raw_tokens // max(SHOTS):,} tokens (M={max(SHOTS)}); KV cache: {cache}."


def row(run: str, side: str, found: Found, documents: Sequence[Document]) -> dict[str, Any]:
    """Return one side's row of the table."""
    return {
        "run": run,
        "side": side,
        "documents a second": found.documents / found.seconds,
        "prompt tokens": found.prompt_tokens,
        "computed": found.computed_tokens,
        "documents lost": len(documents) - found.documents,
        "pairs": found.pairs,
        "pairs lost": found.pairs_lost,
        "texts": found.texts,
        "empty texts": found.empty_texts,
        "note": found.note,
    }


@dataclass
class Sides:
    """Both sides on one engine."""

    reference: Any
    engine: VLLMEngine
    config: SynthesizerConfig

    def both(self, documents: Sequence[Document], shots: int) -> tuple[Found, Found]:
        """Run the reference, then ours."""
        chainer = chainer_for(SynthesizerConfig.from_dict({**self.config.to_dict(), "shots": shots}), self.engine)
        found = []
        for side in (self._theirs, self._ours):
            self.engine.reset_cache()
            found.append(side(documents, shots, chainer))
        return found[0], found[1]

    def _theirs(self, documents: Sequence[Document], shots: int, chainer: Chainer) -> Found:
        from vllm import SamplingParams

        model = CountingModel(self.engine)
        parameters = SamplingParams(temperature=0, max_tokens=self.config.sampling.max_tokens)
        texts = [document.text or "" for document in documents]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            seconds, (entries, cooked, kept, note) = timed(
                lambda: corpus_wide_rounds(
                    self.reference, model, parameters, texts, shots=shots, window=self.engine.window
                )
            )
        readable = sum(len(chainer.prompts.parse(text, cut_off=cut).pairs) for text, cut in model.said)
        return Found(
            seconds,
            sum(map(len, entries)),
            kept,
            len(cooked),
            sum(not text.strip() for text in cooked),
            readable - kept,
            model.prompt_tokens,
            model.computed_tokens,
            note,
        )

    def _ours(self, documents: Sequence[Document], shots: int, chainer: Chainer) -> Found:
        seconds, (results, texts) = timed(lambda: self._chains(documents, chainer))
        prompt = sum(result.synthesis.prompt_tokens for result in results)
        cached = sum(result.synthesis.cached_tokens for result in results)
        pairs = sum(len(result.pairs) for result in results)
        rejected = sum(result.synthesis.status not in (Status.OK, Status.NO_PAIRS) for result in results)
        return Found(
            seconds,
            len(results),
            pairs,
            len(texts),
            sum(not text["text"].strip() for text in texts),
            pairs - sum(text["num_pairs"] for text in texts),
            prompt,
            prompt - cached,
            f"{rejected} with the status too_long" if rejected else "",
        )

    def _chains(self, documents: Sequence[Document], chainer: Chainer) -> tuple[list[Synthesized], list[Any]]:
        chains = ordered(chainer, documents)
        generation = generation_for(self.config, chainer)
        found = dict(self.engine.run((chain for chain in chains), generation))
        results = [result for number in sorted(found) for result in found[number]]
        rows = [as_row(document, result) for document, result in zip(documents, results, strict=True)]
        return results, list(render_rows(rows, seed=0))


def ordered(chainer: Chainer, documents: Sequence[Document]) -> list[Any]:
    """Return chains whose results tell their number."""

    def numbered(number: int, chain: Any) -> Any:  # noqa: ANN401
        return number, (yield from chain)

    return [numbered(number, chain) for number, chain in enumerate(chainer.chains(documents))]


def as_row(document: Document, result: Synthesized) -> dict[str, Any]:
    """Return a result as a row of a synthesized corpus."""
    synthesis = result.synthesis
    return {
        "id": document.id,
        "text": document.text,
        "pairs": [{"instruction": pair.instruction, "response": pair.response} for pair in result.pairs],
        "synthesis": {
            "status": synthesis.status.value,
            "chain": synthesis.chain,
            "shot": synthesis.shot,
            "follows": synthesis.follows,
        },
    }


def corpus_wide_rounds(
    reference: Any,  # noqa: ANN401
    model: CountingModel,
    parameters: Any,  # noqa: ANN401
    texts: list[str],
    *,
    shots: int,
    window: int,
) -> tuple[list[Any], list[str], int, str]:
    """Do with the reference's functions what its README does; return entries, texts, pairs in them, what went wrong."""
    size = (len(texts) + shots - 1) // shots
    entries: list[Any] = []
    try:
        for number in range(shots):
            split = reference.get_dataset(
                prev_examples=entries,
                cur_raw_texts=texts[number * size : (number + 1) * size],
                max_model_len=window,
                max_new_tokens=parameters.max_tokens,
            )
            entries = reference.run(split, model, parameters)
    except AttributeError as error:  # what its handling of a refused prompt ends in
        return [], [], 0, f"ended with AttributeError: {error}"
    cooked = [
        text
        for number, entry in enumerate(entries)
        for text in reference.cook_pt_entries(read_collection=entry, random_seed=number + _SEED)
    ]
    return entries, cooked, sum(len(one["QA_list"]) for entry in entries for one in entry), ""


if __name__ == "__main__":
    main()
