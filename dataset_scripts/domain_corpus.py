# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth[vllm,stores]==0.1.0"]
# ///
r"""Make a domain corpus for continual pre-training: all texts converted, mixed with general instructions 1:1.

The published setting for domain-adaptive pre-training (Instruction Pre-Training, M=3): every text of INPUT gets
instruction-response pairs in chains of three documents, is rendered, and is mixed with general instructions, half of
the tokens each, until one of the two runs out. The repo OUTPUT gets the mixture as config `default` and the pairs as
`pairs`.

    uv run dataset_scripts/domain_corpus.py me/medical-texts me/medical-instruct --general Open-Orca/OpenOrca
    hf jobs uv run --flavor a100-large --timeout 8h --secrets-file keys.env dataset_scripts/domain_corpus.py \
        me/medical-texts me/medical-instruct --general Open-Orca/OpenOrca \
        --folder hf://buckets/me/corpora/medical-instruct

Given again after an interruption, it goes on where it was: on the same machine, or on any with a bucket as its folder.
`keys.env` has HF_TOKEN, and the bucket's HFSYNTH_S3_KEY and HFSYNTH_S3_SECRET.
"""

from __future__ import annotations

import argparse

import hfsynth

PRESET = "domain-adaptive"


def main() -> None:
    parser = hfsynth.script_parser(
        __doc__,
        "config",
        "split",
        "text-column",
        "model",
        "engine",
        "tokenizer",
        input="the domain's texts: a Hub dataset, a folder or files",
    )
    parser.add_argument("--general", default="Open-Orca/OpenOrca", help="general instructions: a Hub dataset or files")
    parser.add_argument("--repeat-general", action="store_true", help="use instructions again when they run out")
    hfsynth.run_script(parser, make)


def make(args: argparse.Namespace) -> None:
    hfsynth.synthesize(
        hfsynth.Source(args.input, args.config, args.split, text_column=args.text_column),
        args.folder,
        hfsynth.SynthesizerConfig(args.model, shots=hfsynth.PRESETS[PRESET].shots, long_documents="split"),
        engine=hfsynth.EngineConfig(args.engine),
    )
    hfsynth.render(args.folder)
    general = hfsynth.open_texts(args.general)
    parts = [
        hfsynth.Part("augmented", hfsynth.open_texts(args.folder), hfsynth.Kind.AUGMENTED),
        hfsynth.Part("general", general, hfsynth.Kind.GENERAL, repeat=args.repeat_general),
    ]
    hfsynth.mix(parts, args.folder, tokenizer=args.tokenizer, preset=PRESET)


if __name__ == "__main__":
    main()
