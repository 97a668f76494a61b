"""Measure `export --to olmo` against the bare `tokenizer.encode_batch` on the same texts, in one run.

    python benchmarks/export.py [--tokenizer MODEL] [--data corpus.parquet] [--output export.json]

Without --data the texts are made up from a fixed vocabulary, without --tokenizer a byte-level BPE is trained on them.
The target is 80% of the bare speed. Each side runs as often as --rounds says, in turn, and its best time counts.
`encode_batch_fast`, which export uses, leaves out the offsets; it is given beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset
from tokenizers import Encoding, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hfsynth.export import export

BATCH = 1000
GOAL = 0.8


def made_up_texts(count: int) -> list[str]:
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(5000)]
    return [" ".join(draw.choices(words, k=draw.randint(50, 500))) for _ in range(count)]


def trained_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare(encode: Callable[..., list[Encoding]], texts: list[str]) -> int:
    """Encode in batches and count the tokens, keeping nothing."""
    batches = (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))
    return sum(len(one) for batch in batches for one in encode(batch, add_special_tokens=False))


def exported(texts: Dataset, tokenizer: PreTrainedTokenizerFast) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return export(texts, Path(folder), to="olmo", tokenizer=tokenizer)


def measure(texts: list[str], tokenizer: PreTrainedTokenizerFast, rounds: int) -> dict[str, object]:
    backend, dataset = tokenizer.backend_tokenizer, Dataset.from_dict({"text": texts})
    sides: dict[str, Callable[[], object]] = {
        "encode_batch": lambda: bare(backend.encode_batch, texts),
        "encode_batch_fast": lambda: bare(backend.encode_batch_fast, texts),
        "export": lambda: exported(dataset, tokenizer),
    }
    tokens = bare(backend.encode_batch, texts)
    times = [{name: timed(work) for name, work in sides.items()} for _ in range(rounds)]
    best = {name: min(one[name] for one in times) for name in sides}
    return {
        "documents": len(texts),
        "tokens": tokens,
        "seconds": {name: round(seconds, 3) for name, seconds in best.items()},
        "tokens_per_second": {name: round(tokens / seconds) for name, seconds in best.items()},
        "share_of_encode_batch": round(best["encode_batch"] / best["export"], 3),
        "share_of_encode_batch_fast": round(best["encode_batch_fast"] / best["export"], 3),
        "goal": GOAL,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", help="a model id on the Hub, or a folder")
    parser.add_argument("--data", type=Path, help="a parquet file with a column `text`")
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("export.json"))
    given = parser.parse_args()
    column = pq.read_table(given.data, columns=["text"])["text"].to_pylist() if given.data else []
    texts = [text for text in column if text][: given.documents] or made_up_texts(given.documents)
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer) if given.tokenizer else trained_tokenizer(texts)
    result = measure(texts, tokenizer, given.rounds)
    given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
