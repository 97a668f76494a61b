"""Does it help? Going on with pre-training on raw texts against the same texts with pairs, at equal tokens.

    python benchmarks/pretraining.py --base embedded --gold collection/train.parquet --source openstax \\
        --domain medicine [--with embedded --with mined] [--tokens 200000] [--seeds 3] [--results FOLDER]

The paper's claim in miniature, whichever way it comes out. `--gold` has rows of `context` and `pairs`; its contexts are
the raw texts of all conditions, and the last `--held-out` of them are trained on by none. `vanilla` trains on the
contexts alone, again and again until the tokens are reached; `gold` on the contexts with their pairs, and each
`--with MODEL` with those that this synthesizer writes about the very same contexts. Texts are rendered and packed as an
export packs them. `--base embedded` goes on with the embedded synthesizer's base, without its adapter.

Measured before and after: the loss on the held-out contexts, and how often the model finds a held-out question's own
response likelier, a token, than those of three other questions (chance: 0.25), with the context before it. Intervals
are over contexts and questions. Nothing that is finished is done again: every run leaves a file in
RESULTS/pretraining-runs, and the same command goes on.

Without `--gold` a toy of random weights reads made-up texts: it shows that the script runs, and nothing else.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from common import RESULTS, TINY, Report, publish, shaped
from transformers import AutoModelForCausalLM, AutoTokenizer, Cache, LlamaConfig, LlamaForCausalLM

import hfsynth
from hfsynth.models.adapters import base_path
from hfsynth.models.tokenizers import TextTokenizer, load_tokenizer

Row = dict[str, Any]
CHOICES = 4


@dataclass(frozen=True)
class Settings:
    """What decides a run, beside its condition and its seed."""

    base: str
    tokens: int
    length: int
    batch: int
    rate: float
    questions: int

    def name(self, condition: str, seed: int, texts: Sequence[str]) -> str:
        """Name the file of a run: another setting or other texts are another run."""
        digest = hashlib.blake2b(repr((self, texts)).encode(), digest_size=6).hexdigest()
        return f"{condition}-{seed}-{digest}.json"


def gold_rows(given: argparse.Namespace) -> list[Row]:
    """Return the contexts with their pairs, or made-up ones."""
    if given.gold is None:
        return [_made_up(number) for number in range(40)]
    columns = [name for name in ("source", "domain") if getattr(given, name)]
    rows = pq.read_table(given.gold, columns=["context", "pairs", *columns]).to_pylist()
    kept = [row for row in rows if all(row[name] == getattr(given, name) for name in columns) and row["pairs"]]
    return [{"text": row["context"], "pairs": row["pairs"]} for row in kept[: given.contexts]]


def _made_up(number: int) -> Row:
    pairs = [{"instruction": f"How much is part {number}?", "response": f"It is {number * 7} coins."}]
    return {"text": f"Part {number} lies on shelf {number % 9}. It is {number * 7} coins.", "pairs": pairs}


def rendered(rows: Sequence[Row], seed: int) -> list[str]:
    """Return the training texts of rows with pairs, in chains of three."""
    chained = [
        {**row, "id": str(n), "synthesis": {"chain": str(n // 3), "shot": n % 3, "follows": n % 3 > 0}}
        for n, row in enumerate(rows)
    ]
    return [text["text"] for text in hfsynth.render_rows(chained, seed=seed)]


def written(rows: Sequence[Row], model: str, folder: Path) -> list[Row]:
    """Return the rows with the pairs that a synthesizer writes about them, in documents' order."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"id": f"{at:06}", "text": row["text"]}) + "\n" for at, row in enumerate(rows))
    source = folder / f"contexts-{hashlib.blake2b(lines.encode(), digest_size=6).hexdigest()}.jsonl"
    source.write_text(lines)
    corpus = folder / f"{source.stem}-{model.replace('/', '--')}"
    hfsynth.synthesize(
        hfsynth.Source(str(source)), corpus, hfsynth.SynthesizerConfig(model, shots=1 if model == "mined" else 3)
    )
    files = sorted((corpus / "pairs").glob("train-*.parquet"))
    return [row for path in files for row in pq.read_table(path, columns=["id", "text", "pairs"]).to_pylist()]


def blocks(texts: Sequence[str], tokenizer: TextTokenizer, settings: Settings, seed: int) -> Iterator[list[int]]:
    """Yield blocks of the texts' tokens, BOS and EOS once a text, in another order every time round."""
    bos, eos = tokenizer.leading_bos(), tokenizer.require_eos().id
    encoded = [[*([bos.id] if bos else []), *one.ids, eos] for one in tokenizer.encode(texts)]
    draw, waiting = random.Random(seed), list[int]()
    while True:
        for at in draw.sample(range(len(encoded)), len(encoded)):
            waiting += encoded[at]
            while len(waiting) >= settings.length:
                yield waiting[: settings.length]
                waiting = waiting[settings.length :]


def load(base: str) -> torch.nn.Module:
    """Return the model to go on with; `toy` is one of random weights."""
    if base == "toy":
        torch.manual_seed(0)
        shape = {name: TINY[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")}
        return LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=1))
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def base_folder(base: str) -> str:
    """Return the folder of the embedded synthesizer's base, or what was given."""
    return str(base_path()) if base == "embedded" else base


def trained(model: torch.nn.Module, feed: Iterator[list[int]], settings: Settings) -> torch.nn.Module:
    """Train on so many tokens, with a rate that falls to nothing."""
    steps = max(1, settings.tokens // (settings.length * settings.batch))
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=0.1)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    model.train()
    for _ in range(steps):
        ids = torch.tensor([next(feed) for _ in range(settings.batch)], device=model.device)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        falling.step()
        optimizer.zero_grad()
    return model


@torch.no_grad()
def measured(model: torch.nn.Module, held: Sequence[Row], tokenizer: TextTokenizer, settings: Settings) -> Row:
    """Return the perplexity of held-out contexts, and which of the held-out questions are answered rightly."""
    model.eval()
    asked = [pair["response"] for row in held for pair in row["pairs"]]
    losses, right = list[tuple[float, int]](), list[bool]()
    for row, ids in zip(held, (one.ids for one in tokenizer.encode([row["text"] for row in held])), strict=True):
        ids = ids[: settings.length]
        read = model(input_ids=torch.tensor([ids], device=model.device), use_cache=True)
        scores = torch.log_softmax(read.logits[0, :-1].float(), dim=-1)
        losses.append((-float(scores.gather(1, torch.tensor(ids[1:], device=model.device)[:, None]).sum()), len(ids)))
        for pair in row["pairs"]:
            if len(right) < settings.questions:
                right.append(is_right(model, read.past_key_values, pair, choices(pair, asked, len(right)), tokenizer))
    perplexity = math.exp(sum(loss for loss, _ in losses) / sum(length - 1 for _, length in losses))
    return {"perplexity": perplexity, "right": right, "losses": [loss / (length - 1) for loss, length in losses]}


def choices(pair: Row, asked: Sequence[str], seed: int) -> list[str]:
    """Return a question's own response, and those of other questions behind it."""
    others = sorted({one for one in asked if one != pair["response"]})
    return [pair["response"], *random.Random(seed).sample(others, min(CHOICES - 1, len(others)))]


def is_right(
    model: torch.nn.Module, context: Cache, pair: Row, answers: Sequence[str], tokenizer: TextTokenizer
) -> bool:
    """Whether the first answer is the likeliest, a token, behind a context that has been read, and the question."""
    question = tokenizer.encode([f"\n\n{pair['instruction']}\n"])[0].ids
    ends = [one.ids[:64] for one in tokenizer.encode(answers)]
    longest = max(map(len, ends))
    ids = torch.tensor([[*question, *end, *([0] * (longest - len(end)))] for end in ends], device=model.device)
    cache = copy.deepcopy(context)
    cache.batch_repeat_interleave(len(ends))
    logits = model(input_ids=ids, past_key_values=cache).logits[:, len(question) - 1 : -1].float()
    scores = torch.log_softmax(logits, dim=-1).gather(2, ids[:, len(question) :, None])[..., 0]
    means = [float(row[: len(end)].mean()) for row, end in zip(scores, ends, strict=True)]
    return means[0] == max(means)


def main() -> None:
    given = options().parse_args()
    runs = given.results / "pretraining-runs"
    runs.mkdir(parents=True, exist_ok=True)
    rows = gold_rows(given)
    kept, held = rows[: -given.held_out], rows[-given.held_out :]
    if given.base == "toy":
        tokenizer = load_tokenizer(AutoTokenizer.from_pretrained(shaped(runs / "toy", TINY)))
    else:
        tokenizer = load_tokenizer(base_folder(given.base))
    settings = Settings(given.base, given.tokens, given.length, given.batch, given.rate, given.questions)
    conditions = {"vanilla": [row["text"] for row in kept], "gold": rendered(kept, 0)}
    for model in given.with_model or []:
        conditions[model] = rendered(written(kept, model, runs / "made"), 0)
    found = {"base": [done(runs, "base", 0, [], held, tokenizer, settings)], **{name: [] for name in conditions}}
    for seed in range(given.seeds):
        for condition, texts in conditions.items():
            found[condition].append(done(runs, condition, seed, texts, held, tokenizer, settings))
    publish(report(found, kept, held, settings), given.results)


def done(
    runs: Path,
    condition: str,
    seed: int,
    texts: Sequence[str],
    held: Sequence[Row],
    tokenizer: TextTokenizer,
    settings: Settings,
) -> Row:
    """Return what a run found, from its file where it has been; nothing is trained where there are no texts."""
    path = runs / settings.name(condition, seed, [*texts, *(row["text"] for row in held)])
    if not path.is_file():
        torch.manual_seed(seed)
        model = load(base_folder(settings.base)).to("cuda" if torch.cuda.is_available() else "cpu")
        if texts:
            model = trained(model, blocks(texts, tokenizer, settings, seed), settings)
        part = path.with_suffix(".tmp")
        part.write_text(json.dumps(measured(model, held, tokenizer, settings)))
        part.replace(path)
        sys.stdout.write(f"{condition}, seed {seed}: {path.read_text()}\n")
    values: Row = json.loads(path.read_text())
    return values


def report(found: dict[str, list[Row]], kept: Sequence[Row], held: Sequence[Row], settings: Settings) -> Report:
    """Return the means of the seeds, and how far each condition lies from `vanilla`, with 95% intervals."""
    rows = [
        {
            "trained on": condition,
            "perplexity": round(statistics.mean(run["perplexity"] for run in runs), 3),
            "loss, less vanilla's": difference(runs, found["vanilla"], "losses"),
            "accuracy": round(statistics.mean(statistics.mean(run["right"]) for run in runs), 3),
            "accuracy, less vanilla's": difference(runs, found["vanilla"], "right"),
        }
        for condition, runs in found.items()
    ]
    title = f"{settings.base} after {settings.tokens:,} tokens of {len(kept):,} texts, {len(held):,} held out"
    figures = {"settings": repr(settings), "runs": found}
    bars = {str(row["trained on"]): float(str(row["accuracy"])) for row in rows}
    return Report("pretraining", title, rows, figures, ["A toy: its figures mean nothing."][: settings.base == "toy"],
                  bars, "of held-out questions")  # fmt: skip


def difference(runs: Sequence[Row], others: Sequence[Row], what: str) -> str:
    """Return the mean difference over contexts or questions, each the mean of its seeds, and its 95% interval."""
    ours, theirs = ([statistics.mean(one) for one in zip(*(run[what] for run in some), strict=True)]
                    for some in (runs, others))  # fmt: skip
    apart = [one - other for one, other in zip(ours, theirs, strict=True)]
    half = 1.96 * statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0
    return f"{statistics.mean(apart):+.3f} ± {half:.3f}"


def options() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--base", default="toy", help="a Hub model or a folder")
    made.add_argument("--gold", type=Path, help="a parquet file of `context` and `pairs`")
    made.add_argument("--source", help="only rows of this `source`")
    made.add_argument("--domain", help="only rows of this `domain`")
    made.add_argument("--contexts", type=int, default=500, help="rows to use at most, the held-out ones among them")
    made.add_argument("--held-out", type=int, default=10, help="contexts that no condition trains on")
    made.add_argument("--with", dest="with_model", action="append", help="a synthesizer, as `--model` takes it")
    made.add_argument("--tokens", type=int, default=2048, help="tokens to train on, the same for all conditions")
    made.add_argument("--length", type=int, default=128, help="tokens a sequence")
    made.add_argument("--batch", type=int, default=2, help="sequences a step")
    made.add_argument("--rate", type=float, default=5e-5, help="the learning rate at the beginning")
    made.add_argument("--questions", type=int, default=20, help="held-out questions to ask at most")
    made.add_argument("--seeds", type=int, default=1)
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write into")
    return made


if __name__ == "__main__":
    main()
