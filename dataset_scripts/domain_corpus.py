# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth[vllm]"]
# ///
r"""Make a domain corpus for continual pre-training: all texts converted, mixed with general instructions 1:1.

The published setting for domain-adaptive pre-training (Instruction Pre-Training, M=3): every text of INPUT gets
instruction-response pairs in chains of three documents, is rendered, and is mixed with general instructions, half of
the tokens each, until one of the two runs out. The repo OUTPUT gets the mixture as config `default` and the pairs as
`pairs`.

    uv run dataset_scripts/domain_corpus.py me/medical-texts me/medical-instruct --general Open-Orca/OpenOrca
    hf jobs uv run --flavor a100-large --secrets HF_TOKEN dataset_scripts/domain_corpus.py \
        me/medical-texts me/medical-instruct --general Open-Orca/OpenOrca

Given again after an interruption, on the same machine, it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import hfsynth
from hfsynth.documents.hf_datasets import open_texts

PRESET = "domain-adaptive"


def main() -> None:
    args = arguments()
    folder = Path(args.folder or args.output.rpartition("/")[2])
    hfsynth.synthesize(
        hfsynth.Source(args.input, args.config, args.split, text_column=args.text_column),
        folder,
        hfsynth.SynthesizerConfig(args.model, shots=hfsynth.PRESETS[PRESET].shots, long_documents="split"),
        engine=hfsynth.EngineConfig(args.engine),
    )
    hfsynth.render(folder)
    parts = [
        hfsynth.Part("augmented", open_texts(str(folder)), hfsynth.Kind.AUGMENTED),
        hfsynth.Part("general", open_texts(args.general), hfsynth.Kind.GENERAL, repeat=args.repeat_general),
    ]
    hfsynth.mix(parts, folder, tokenizer=args.tokenizer, preset=PRESET)
    stated = hfsynth.CardSettings(license=args.license, language=tuple(args.language))
    print(hfsynth.push(folder, args.output, hfsynth.PushOptions(private=args.private), settings=stated).url)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("input", help="the domain's texts: a Hub dataset, a folder or files")
    parser.add_argument("output", help="the repo to publish, USER/NAME")
    parser.add_argument("--general", default="Open-Orca/OpenOrca", help="general instructions: a Hub dataset or files")
    parser.add_argument("--repeat-general", action="store_true", help="use instructions again when they run out")
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
