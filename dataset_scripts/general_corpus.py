# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth[vllm]"]
# ///
r"""Make a general pre-training corpus: a fifth of the raw texts converted, the rest unchanged.

The published setting for pre-training from scratch (Instruction Pre-Training, M=2): the first fifth of INPUT gets
instruction-response pairs in chains of two documents and is rendered; every text is then used once. Shuffle a corpus
that is sorted before you give it. The repo OUTPUT gets the mixture as config `default` and the pairs as `pairs`.

    uv run dataset_scripts/general_corpus.py HuggingFaceFW/fineweb-edu me/fineweb-edu-instruct --config sample-10BT
    hf jobs uv run --flavor a100-large --secrets HF_TOKEN dataset_scripts/general_corpus.py \
        HuggingFaceFW/fineweb-edu me/fineweb-edu-instruct --config sample-10BT

Given again after an interruption, on the same machine, it goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from datasets import Dataset, load_dataset

import hfsynth
from hfsynth.documents.hf_datasets import open_texts

PRESET = "general-pretraining"


def main() -> None:
    args = arguments()
    preset = hfsynth.PRESETS[PRESET]
    texts = raw_texts(args)
    converted = math.ceil(len(texts) * preset.converted / preset.shots) * preset.shots
    if converted >= len(texts):
        raise hfsynth.HfsynthError(f"{args.input} has {len(texts)} rows: too few to convert a part of them.")
    folder = Path(args.folder or args.output.rpartition("/")[2])
    hfsynth.synthesize(
        hfsynth.Source(args.input, args.config, args.split, text_column=args.text_column, limit=converted),
        folder,
        hfsynth.SynthesizerConfig(args.model, shots=preset.shots, long_documents="split"),
        engine=hfsynth.EngineConfig(args.engine),
    )
    hfsynth.render(folder)
    rest = texts.select(range(converted, len(texts)))
    parts = [
        hfsynth.Part("augmented", open_texts(str(folder)), hfsynth.Kind.AUGMENTED),
        hfsynth.Part("raw", rest, hfsynth.Kind.RAW),
    ]
    hfsynth.mix(parts, folder, tokenizer=args.tokenizer, preset=PRESET)
    stated = hfsynth.CardSettings(license=args.license, language=tuple(args.language))
    print(hfsynth.push(folder, args.output, hfsynth.PushOptions(private=args.private), settings=stated).url)


def raw_texts(args: argparse.Namespace) -> Dataset:
    """Open the raw texts as a dataset with the column `text` alone."""
    if args.config:
        rows = load_dataset(args.input, args.config, split=args.split)
    else:
        rows = open_texts(args.input, split=args.split)
    return rows.select_columns([args.text_column]).rename_columns({args.text_column: "text"})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("input", help="raw texts: a Hub dataset, a folder or files")
    parser.add_argument("output", help="the repo to publish, USER/NAME")
    parser.add_argument("--config", help="the config of a Hub dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--model", default="instruction-pretrain/instruction-synthesizer")
    parser.add_argument("--engine", default="vllm", help="scripted tries the recipe without a model")
    parser.add_argument("--tokenizer", default="embedded", help="counts the tokens of the mixture")
    parser.add_argument("--folder", help="where the corpus is made [default: the repo's name]")
    parser.add_argument("--license", help="[default: the input's]")
    parser.add_argument("--language", action="append", default=[], help="[default: the input's]")
    parser.add_argument("--private", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except hfsynth.HfsynthError as error:
        sys.exit(str(error))
