# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth[vllm,stores]==0.1.0"]
# ///
r"""Make a general pre-training corpus: a fifth of the raw texts converted, the rest unchanged.

The published setting for pre-training from scratch (Instruction Pre-Training, M=2): the first fifth of INPUT gets
instruction-response pairs in chains of two documents and is rendered; every text is then used once. Shuffle a corpus
that is sorted before you give it. The repo OUTPUT gets the mixture as config `default` and the pairs as `pairs`.

    uv run dataset_scripts/general_corpus.py HuggingFaceFW/fineweb-edu me/fineweb-edu-instruct --config sample-10BT
    hf jobs uv run --flavor a100-large --timeout 8h --secrets-file keys.env dataset_scripts/general_corpus.py \
        HuggingFaceFW/fineweb-edu me/fineweb-edu-instruct --config sample-10BT \
        --folder hf://buckets/me/corpora/fineweb-edu-instruct

Given again after an interruption, it goes on where it was: on the same machine, or on any with a bucket as its folder.
`keys.env` has HF_TOKEN, and the bucket's HFSYNTH_S3_KEY and HFSYNTH_S3_SECRET.
"""

from __future__ import annotations

import argparse
import math

from datasets import Dataset, load_dataset

import hfsynth

PRESET = "general-pretraining"


def main() -> None:
    parser = hfsynth.script_parser(
        __doc__,
        "config",
        "split",
        "text-column",
        "model",
        "engine",
        "tokenizer",
        input="raw texts: a Hub dataset, a folder or files",
    )
    hfsynth.run_script(parser, make)


def make(args: argparse.Namespace) -> None:
    preset = hfsynth.PRESETS[PRESET]
    texts = raw_texts(args)
    converted = math.ceil(len(texts) * preset.converted / preset.shots) * preset.shots
    if converted >= len(texts):
        raise hfsynth.HfsynthError(f"{args.input} has {len(texts)} rows: too few to convert a part of them.")
    hfsynth.synthesize(
        hfsynth.Source(args.input, args.config, args.split, text_column=args.text_column, limit=converted),
        args.folder,
        hfsynth.SynthesizerConfig(args.model, shots=preset.shots, long_documents="split"),
        engine=hfsynth.EngineConfig(args.engine),
    )
    hfsynth.render(args.folder)
    rest = texts.select(range(converted, len(texts)))
    parts = [
        hfsynth.Part("augmented", hfsynth.open_texts(args.folder), hfsynth.Kind.AUGMENTED),
        hfsynth.Part("raw", rest, hfsynth.Kind.RAW),
    ]
    hfsynth.mix(parts, args.folder, tokenizer=args.tokenizer, preset=PRESET)


def raw_texts(args: argparse.Namespace) -> Dataset:
    """Open the raw texts as a dataset with the column `text` alone."""
    if args.config:
        rows = load_dataset(args.input, args.config, split=args.split)
    else:
        rows = hfsynth.open_texts(args.input, split=args.split)
    return rows.select_columns([args.text_column]).rename_columns({args.text_column: "text"})


if __name__ == "__main__":
    main()
