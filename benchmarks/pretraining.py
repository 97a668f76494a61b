"""Does it help? Going on with pre-training on raw texts against the same texts with pairs, at equal tokens.

    python benchmarks/pretraining.py --base SmolLM2-135M --gold collection/train.parquet --source openstax \\
        --domain medicine [--with-embedded] [--corpus mined=FOLDER] [--tokens 200000] [--seeds 3] [--results FOLDER]

The paper's claim in miniature, whichever way it comes out. `--gold` has rows of `context` and `pairs`; its contexts are
the raw texts of all conditions, and the last `--held-out` of them are trained on by none. `vanilla` trains on the
contexts alone, again and again until the tokens are reached; `gold` on the contexts with their pairs, `embedded` with
those that the embedded synthesizer writes about the very same contexts, and `--corpus NAME=FOLDER` with the pairs of a
corpus folder that was made of them. Texts are rendered and packed as an export packs them.

Measured before and after: the perplexity of the held-out contexts, and how often the model finds a held-out question's
own response likelier, a token, than those of three other questions (chance: 0.25). Nothing that is finished is done
again: every run leaves a file in RESULTS/pretraining-runs, and the same command goes on.

Without `--gold` a toy of random weights reads made-up texts: it shows that the script runs, and nothing else.
"""

from __future__ import annotations

import argparse
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
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import hfsynth
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


def embedded_rows(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Return the rows with the pairs that the embedded synthesizer writes about them."""
    source = folder / "contexts.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    source.write_text("".join(json.dumps({"id": f"{n:06}", "text": row["text"]}) + "\n" for n, row in enumerate(rows)))
    hfsynth.synthesize(str(source), folder / "embedded", model="embedded", shots=3)
    return corpus_rows(folder / "embedded")


def corpus_rows(folder: Path) -> list[Row]:
    """Return the documents of a corpus folder with their pairs."""
    files = sorted((folder / "pairs").glob("train-*.parquet"))
    return [row for path in files for row in pq.read_table(path, columns=["text", "pairs"]).to_pylist()]


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
def likelihood(model: torch.nn.Module, before: list[int], ids: list[int]) -> float:
    """Return the mean log-likelihood of a token of `ids` behind `before`."""
    whole = torch.tensor([[*before, *ids]], device=model.device)
    scores = torch.log_softmax(model(input_ids=whole).logits[0, :-1].float(), dim=-1)
    chosen = scores.gather(1, whole[0, 1:, None])[-len(ids) :]
    return float(chosen.mean())


def measured(model: torch.nn.Module, held: Sequence[Row], tokenizer: TextTokenizer, settings: Settings) -> Row:
    """Return the perplexity of held-out contexts and the accuracy on held-out questions."""
    model.eval()
    contexts = [one.ids[: settings.length] for one in tokenizer.encode([row["text"] for row in held])]
    sums = [(likelihood(model, ids[:1], ids[1:]) * (len(ids) - 1), len(ids) - 1) for ids in contexts if len(ids) > 1]
    perplexity = math.exp(-sum(total for total, _ in sums) / sum(number for _, number in sums))
    asked = [(row["text"], pair) for row in held for pair in row["pairs"]][: settings.questions]
    right = sum(_is_right(model, asked, at, tokenizer, settings) for at in range(len(asked)))
    return {"perplexity": perplexity, "accuracy": right / len(asked), "questions": len(asked)}


def _is_right(
    model: torch.nn.Module, asked: Sequence[tuple[str, Row]], at: int, tokenizer: TextTokenizer, settings: Settings
) -> bool:
    text, pair = asked[at]
    others = [one["response"] for _, one in asked if one["response"] != pair["response"]]
    wrong = random.Random(at).sample(others, min(CHOICES - 1, len(others)))
    context, question = tokenizer.encode([text, f"\n\n{pair['instruction']}\n"])
    before = context.ids[-settings.length :] + question.ids
    answers = [one.ids[:64] for one in tokenizer.encode([pair["response"], *wrong])]
    scores = [likelihood(model, before, ids) for ids in answers]
    return scores[0] == max(scores)


def main() -> None:
    given = options().parse_args()
    runs = given.results / "pretraining-runs"
    runs.mkdir(parents=True, exist_ok=True)
    rows = gold_rows(given)
    kept, held = rows[: -given.held_out], rows[-given.held_out :]
    if given.base == "toy":
        tokenizer = load_tokenizer(AutoTokenizer.from_pretrained(shaped(runs / "toy", TINY)))
    else:
        tokenizer = load_tokenizer(given.base)
    settings = Settings(given.base, given.tokens, given.length, given.batch, given.rate, given.questions)
    conditions = {"vanilla": [row["text"] for row in kept], "gold": rendered(kept, 0)}
    if given.with_embedded:
        conditions["embedded"] = rendered(embedded_rows(kept, runs / "made"), 0)
    for named in given.corpus or []:
        name, _, folder = named.partition("=")
        conditions[name] = rendered(corpus_rows(Path(folder)), 0)
    found = {"base": [done(runs, "base", 0, [], held, tokenizer, settings)]}
    for condition, texts in conditions.items():
        found[condition] = [
            done(runs, condition, seed, texts, held, tokenizer, settings) for seed in range(given.seeds)
        ]
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
        model = load(settings.base).to("cuda" if torch.cuda.is_available() else "cpu")
        if texts:
            model = trained(model, blocks(texts, tokenizer, settings, seed), settings)
        part = path.with_suffix(".tmp")
        part.write_text(json.dumps(measured(model, held, tokenizer, settings)))
        part.replace(path)
        sys.stdout.write(f"{condition}, seed {seed}: {path.read_text()}\n")
    values: Row = json.loads(path.read_text())
    return values


def report(found: dict[str, list[Row]], kept: Sequence[Row], held: Sequence[Row], settings: Settings) -> Report:
    """Return the means of the seeds, and how far they lie apart."""
    rows = [
        {
            "trained on": condition,
            "perplexity": round(statistics.mean(run["perplexity"] for run in runs), 3),
            "of seeds": " ".join(f"{run['perplexity']:.2f}" for run in runs),
            "accuracy": round(statistics.mean(run["accuracy"] for run in runs), 3),
            "accuracies": " ".join(f"{run['accuracy']:.2f}" for run in runs),
        }
        for condition, runs in found.items()
    ]
    title = f"{settings.base} after {settings.tokens:,} tokens of {len(kept):,} texts, {len(held):,} held out"
    figures = {"settings": repr(settings), "runs": found}
    bars = {str(row["trained on"]): float(str(row["accuracy"])) for row in rows}
    return Report("pretraining", title, rows, figures, ["A toy: its figures mean nothing."][: settings.base == "toy"],
                  bars, "of held-out questions")  # fmt: skip


def options() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--base", default="toy", help="a Hub model or a folder")
    made.add_argument("--gold", type=Path, help="a parquet file of `context` and `pairs`")
    made.add_argument("--source", help="only rows of this `source`")
    made.add_argument("--domain", help="only rows of this `domain`")
    made.add_argument("--contexts", type=int, default=500, help="rows to use at most, the held-out ones among them")
    made.add_argument("--held-out", type=int, default=10, help="contexts that no condition trains on")
    made.add_argument("--with-embedded", action="store_true", help="the embedded synthesizer's pairs, too")
    made.add_argument("--corpus", action="append", help="NAME=FOLDER: a corpus of the same contexts; may be repeated")
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
