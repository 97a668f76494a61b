# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth[cpu,train]==0.1.0"]
# ///
r"""Train the embedded synthesizer: choose permissive, varied rows of a task collection, and fine-tune on them.

COLLECTION is a parquet file in the schema `id, context, pairs: [{instruction, response, task}], source, license`.
Kept are rows whose licence permits the weights to be shipped. Within a row, pairs are put in the order in which the
text answers them, so that a small model learns to walk through a text instead of asking the same thing twice; stock
instructions, which it would fall back on, are thinned out; long texts are cut to a stretch of whole sentences around
the answers; and short texts with few pairs are joined, so that the model learns to go on through a longer one. Some
texts keep one pair, or pairs of one task; shots of a sequence agree in that, so that the model learns to write what
its shots show. Choice and training depend on the seed alone.

    uv run dataset_scripts/made_tasks.py MADE.parquet  # tables and short articles, which public sets lack
    uv run dataset_scripts/train_embedded.py COLLECTION OUT --also MADE.parquet
    uv run dataset_scripts/train_embedded.py COLLECTION OUT --choose-only  # writes OUT.parquet and stops
    hf jobs uv run --flavor a10g-small --secrets HF_TOKEN dataset_scripts/train_embedded.py \
        hf://datasets/user/tasks/train.parquet OUT --push user/synthesizer
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

import hfsynth

CLOSED = ("CC-BY-SA", "upstream", "none in repo")
"""Licences with these words do not permit the weights to be shipped under a permissive licence."""

STOCK = 10  # an instruction that a source uses this often says nothing about the text
SHORT, LONG = 25, 320  # words of a text
USUAL = {"fairytaleqa": 200, "scitldr": 220, "openstax": 170, "medquad": 150}  # words of most texts of a source
ELSEWHERE = 130
LONGER = 0.15  # share of texts that may have more words than usual
RESPONSE, INSTRUCTION = 45, 40  # words at most
PAIRS = 6
FEW, JOINED = 3, 0.35  # a text with fewer pairs is joined with another of its source; of the others, this share
ONE, SAME = 0.12, 0.25  # shares of texts that keep one pair, and the pairs of one task
CAPS = {
    "fairytaleqa": 2_000,
    "openstax": 1_300,
    "medquad": 1_200,
    "made_articles": 700,
    "scitldr": 700,
    "made_accounts": 600,
    "policyqa": 450,
    "made_tables": 400,
    "strategyqa": 350,
    "propara": 300,
    "mts_dialog": 80,
    "qmsum": 30,
    "gap": 30,
}
"""Rows of each source: those whose instructions vary with the text first."""

SENTENCE_END = re.compile(r"(?<=[.!?])[\"”’)]*\s+")
DEFINITION = re.compile(r"^(?:Give the definition of|What is meant by|Explain the term) \"([^\"]+)\"")
DEFINITIONS = (
    "What is {term}?",
    "What does {term} mean?",
    "Define {term}.",
    "How does the text describe {term}?",
    'What is meant by "{term}"?',
    'Explain the term "{term}".',
)
REVERSED = "term_from_definition"  # repeats a whole definition in the question
QUOTED = re.compile(r"[\"“]([^\"”]{3,60})[\"”]")


def main() -> None:
    args = arguments()
    chosen = choose([row for collection in (args.collection, *args.also) for row in read(collection)], args.seed)
    data = Path(f"{args.out}.parquet")
    pq.write_table(pa.Table.from_pylist(chosen), data)
    counts = Counter(row["source"].partition("/")[0] for row in chosen)
    pairs = sum(len(row["pairs"]) for row in chosen)
    print(f"{len(chosen)} texts, {pairs} pairs: {json.dumps(dict(counts))}", file=sys.stderr)
    if not args.choose_only:
        train_on(data, args)
    if args.push and not args.choose_only:
        print(hfsynth.push(args.out, args.push, kind="model", license="apache-2.0", language="en").url)


def read(collection: str) -> list[dict[str, Any]]:
    """Return the rows of a parquet file; end the script with a plain word where there is none."""
    try:
        with fsspec.open(collection, "rb") as file:
            rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        sys.exit(f"{collection} cannot be read as parquet: {error}")
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("collection", help="a parquet file of contexts and pairs")
    parser.add_argument("out", help="the folder of the model; OUT.parquet holds the rows it is trained on")
    parser.add_argument("--base", default="embedded", help="what to train; `embedded` is SmolLM2-135M-Instruct")
    parser.add_argument("--also", action="append", default=[], help="a further file of the kind; may be repeated")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--window", type=int, default=1536)
    parser.add_argument("--lora-rank", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=8e-4)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="bf16")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--device-tokens", type=int, default=2048)
    parser.add_argument("--save-every", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--push", help="USER/NAME: publish the model there, under Apache-2.0")
    parser.add_argument("--choose-only", action="store_true")
    return parser.parse_args()


def train_on(data: Path, args: argparse.Namespace) -> None:
    def tell(progress: hfsynth.TrainingProgress) -> None:
        loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
        speed = progress.tokens / max(progress.seconds, 1e-9)
        print(f"step {progress.step} of {progress.steps}{loss}, {speed:.0f} tokens/s", file=sys.stderr, flush=True)

    config = hfsynth.TrainingConfig(
        base=args.base,
        packing=hfsynth.Packing(args.window, args.shots, epochs=args.epochs, seed=args.seed),
        lora=hfsynth.Lora(args.lora_rank, 2 * args.lora_rank),
        learning_rate=args.learning_rate,
        precision=args.precision,
        batch_tokens=args.batch_tokens,
        device_tokens=args.device_tokens,
        validation=0.02,
    )
    schedule = hfsynth.Schedule(log=5, evaluate=150, save=args.save_every)
    figures = hfsynth.train(data, args.out, config, schedule=schedule, on_progress=tell)
    print(json.dumps({key: value for key, value in figures.items() if not isinstance(value, list)}, indent=2))


def choose(rows: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Return the rows to train on, each as `context`, `pairs` and `source`, in a drawn order."""
    open_rows = [row for row in rows if not any(word in row["license"] for word in CLOSED)]
    asked = Counter((row["source"], pair["instruction"]) for row in open_rows for pair in row["pairs"])
    by_source: dict[str, list[Prepared]] = {}
    for row in open_rows:
        if row["source"] in CAPS and (found := prepared(row, asked, seed)) is not None:
            by_source.setdefault(row["source"], []).append(found)
    chosen = [
        text
        for source, found in sorted(by_source.items())
        for text in together(source, best(found, CAPS[source], seed), seed)
    ]
    kinds = hfsynth.Draws(f"kinds/{seed}")
    alike = [of_a_kind(text, kinds) for text in chosen]
    return [
        {"context": found.context, "pairs": [plain(pair) for pair in found.pairs], "source": found.source}
        for found in (alike[number] for number in hfsynth.Draws(f"rows/{seed}").order(len(alike)))
    ]


@dataclass(frozen=True)
class Prepared:
    """A row as it is learnt; `own` counts the pairs that ask about this very text."""

    source: str
    context: str
    pairs: tuple[Mapping[str, str], ...]
    own: int


def prepared(row: Mapping[str, Any], asked: Mapping[tuple[str, str], int], seed: int) -> Prepared | None:
    """Return a row with its text cut and its pairs in order; None where too little is left."""
    stream = hfsynth.Draws(f"{seed}/{row['id']}")
    pairs = [varied(cut(pair), stream) for pair in (*asked_by_title(row["pairs"]), *row["pairs"])]
    pairs = [pair for pair in pairs if pair["task"] != REVERSED]
    fitting = [pair for pair in pairs if fits(pair)]
    own = [pair for pair in fitting if asked[row["source"], pair["instruction"]] < STOCK]
    stock = [pair for pair in fitting if asked[row["source"], pair["instruction"]] >= STOCK]
    words = LONG if stream.share() < LONGER else USUAL.get(row["source"], ELSEWHERE)
    context, kept = stretch(row["context"], own, words)
    spare = max(3 - len(kept), stream.share() < 0.15)
    ordered = [*in_order(context, kept)[:PAIRS], *(stock[number] for number in stream.order(len(stock))[:spare])]
    if not SHORT <= len(context.split()) <= words or len(ordered) < (1 if is_made(row["source"]) else 2):
        return None
    return Prepared(row["source"], context, tuple(ordered), len(kept))


def best(found: Sequence[Prepared], cap: int, seed: int) -> list[Prepared]:
    """Return `cap` rows: those with the most pairs of their own, up to four, before others, else as drawn."""
    drawn = [found[number] for number in hfsynth.Draws(f"{seed}/{found[0].source}").order(len(found))]
    return sorted(drawn, key=lambda row: -min(row.own, 4))[:cap]


def is_made(source: str) -> bool:
    """Tell whether a source was made by code: its texts have as many pairs as they should."""
    return source.startswith("made_")


def together(source: str, texts: Sequence[Prepared], seed: int) -> Iterable[Prepared]:
    """Return the texts of a source as they are learnt, some of them joined where people wrote them."""
    return texts if is_made(source) else joined(texts, hfsynth.Draws(f"{seed}/joined {source}"))


def joined(texts: Sequence[Prepared], stream: hfsynth.Draws) -> Iterator[Prepared]:
    """Yield texts, those with few pairs and some others joined in twos: one text, all its pairs in order."""
    waiting: Prepared | None = None
    for text in texts:
        if waiting is None and (len(text.pairs) < FEW or stream.share() < JOINED):
            waiting = text
        elif waiting is not None:
            yield both(waiting, text)
            waiting = None
        else:
            yield text
    if waiting is not None:
        yield waiting


def both(one: Prepared, other: Prepared) -> Prepared:
    pairs = {pair["instruction"].casefold(): pair for pair in (*one.pairs, *other.pairs)}
    return Prepared(one.source, f"{one.context}\n\n{other.context}", tuple(pairs.values()), one.own + other.own)


def of_a_kind(text: Prepared, stream: hfsynth.Draws) -> Prepared:
    """Return a text with one of its pairs, those of one task, or all.

    Its `source` says which: sequences are packed by it, so that all shots of one agree.
    """
    share = stream.share()
    task, count = Counter(pair["task"] for pair in text.pairs).most_common(1)[0]
    if share < ONE and not is_made(text.source):
        one = text.pairs[stream.below(len(text.pairs))]
        return replace(text, source=f"{text.source}/one/{one['task']}", pairs=(one,))
    if share < ONE + SAME and 2 <= count < len(text.pairs):
        same = tuple(pair for pair in text.pairs if pair["task"] == task)
        return replace(text, source=f"{text.source}/same/{task}", pairs=same)
    return replace(text, source=f"{text.source}/{'few' if len(text.pairs) <= FEW else 'many'}")


def asked_by_title(pairs: Sequence[Mapping[str, str]]) -> Iterator[Mapping[str, str]]:
    """Yield the pair of a title that asks a question and the summary that answers it, where a text has both."""
    said = {pair["task"]: pair["response"] for pair in pairs}
    title, summary = said.get("scientific_title", ""), said.get("scientific_tldr")
    if title.endswith("?") and summary:
        yield {"instruction": title, "response": summary, "task": "title_question"}


def cut(pair: Mapping[str, str]) -> Mapping[str, str]:
    """Return a pair whose long response is cut behind the last sentence that fits."""
    sentences = SENTENCE_END.split(pair["response"].strip())
    while len(sentences) > 1 and len(" ".join(sentences).split()) > RESPONSE:
        sentences.pop()
    return {**pair, "response": " ".join(sentences)}


def varied(pair: Mapping[str, str], stream: hfsynth.Draws) -> Mapping[str, str]:
    """Return a pair that asks for a definition in one of several wordings, any other as it is."""
    match = DEFINITION.match(pair["instruction"])
    if match is None:
        return pair
    return {**pair, "instruction": stream.pick(DEFINITIONS).format(term=match[1]), "term": match[1]}


def fits(pair: Mapping[str, str]) -> bool:
    """Tell whether a pair is of a length that a small model can learn."""
    return 0 < len(pair["response"].split()) <= RESPONSE and 0 < len(pair["instruction"].split()) <= INSTRUCTION


def stretch(text: str, pairs: Sequence[Mapping[str, str]], words: int) -> tuple[str, list[Mapping[str, str]]]:
    """Return the stretch of whole sentences, `words` at most, that holds most of the answers, and their pairs.

    A short text stays whole, with every pair.
    """
    if len(text.split()) <= words:
        return text, list(pairs)
    sentences = SENTENCE_END.split(text)
    places = {number: place for number, pair in enumerate(pairs) if (place := found_in(sentences, pair)) is not None}
    most: tuple[int, int, int] = (0, 0, 0)
    for start in sorted(set(places.values())):
        end = longest(sentences, start, words)
        most = max(most, (sum(start <= place < end for place in places.values()), -start, end))
    inside, start, end = most[0], -most[1], most[2]
    if not inside:
        return text, []
    return " ".join(sentences[start:end]), [pairs[n] for n, place in sorted(places.items()) if start <= place < end]


def longest(sentences: Sequence[str], start: int, words: int) -> int:
    """Return where a stretch of at most `words` words from `start` on ends."""
    left, end = words, start
    while end < len(sentences) and len(sentences[end].split()) <= left:
        left -= len(sentences[end].split())
        end += 1
    return end


def found_in(sentences: Sequence[str], pair: Mapping[str, str]) -> int | None:
    """Return the first sentence that holds the beginning of the response, or the term the instruction quotes."""
    for clue in clues(pair):
        for number, sentence in enumerate(sentences):
            if clue in sentence.casefold():
                return number
    return None


def clues(pair: Mapping[str, str]) -> Iterator[str]:
    """Yield strings whose place in the text is where a pair belongs."""
    yield from (term.casefold() for term in QUOTED.findall(pair["instruction"]))
    if "term" in pair:
        yield pair["term"].casefold()
    yield " ".join(pair["response"].split()[:6]).casefold().rstrip(".")


def in_order(text: str, pairs: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return pairs with different questions in the order in which the text answers them, the unplaced ones last."""
    folded = text.casefold()
    different = {pair["instruction"].casefold(): pair for pair in pairs}.values()

    def place(pair: Mapping[str, str]) -> int:
        found = [at for clue in clues(pair) if (at := folded.find(clue)) >= 0]
        return found[0] if found else closest(folded, pair["response"])

    return sorted(different, key=place)


def closest(text: str, response: str) -> int:
    """Return where the longest word of a response first stands, the end of the text where it does not."""
    for word in sorted(re.findall(r"\w{4,}", response.casefold()), key=len, reverse=True):
        if (at := text.find(word)) >= 0:
            return at
    return len(text)


def plain(pair: Mapping[str, str]) -> Mapping[str, str]:
    return {half: pair[half].strip() for half in ("instruction", "response")}


if __name__ == "__main__":
    main()
