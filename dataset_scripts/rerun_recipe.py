# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth[vllm]"]
# ///
r"""Run the recipe of a published corpus again, on new text.

Reads the `synthesizer_config.json` of the repo --recipe (model and revision, format, shots, sampling, seed), applies it
to INPUT and renders the result. What the recipe was applied to and mixed with is left out. The repo OUTPUT gets the
training texts as config `default` and the pairs as `pairs`.

    uv run dataset_scripts/rerun_recipe.py me/new-texts me/new-instruct --recipe me/medical-instruct
    hf jobs uv run --flavor a100-large --secrets HF_TOKEN dataset_scripts/rerun_recipe.py \
        me/new-texts me/new-instruct --recipe me/medical-instruct@v1

Given again after an interruption, on the same machine, it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import hfsynth
from hfsynth.core.recipes import open_recipe


def main() -> None:
    args = arguments()
    folder = Path(args.folder or args.output.rpartition("/")[2])
    hfsynth.synthesize(
        hfsynth.Source(args.input, args.config, args.split, text_column=args.text_column),
        folder,
        hfsynth.SynthesizerConfig.from_dict(open_recipe(args.recipe)),
        engine=hfsynth.EngineConfig(args.engine),
    )
    hfsynth.render(folder, seed=args.seed)
    stated = hfsynth.CardSettings(license=args.license, language=tuple(args.language))
    print(hfsynth.push(folder, args.output, hfsynth.PushOptions(private=args.private), settings=stated).url)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("input", help="new texts: a Hub dataset, a folder or files")
    parser.add_argument("output", help="the repo to publish, USER/NAME")
    parser.add_argument("--recipe", required=True, help="the repo whose recipe is run, USER/NAME[@REVISION], or a file")
    parser.add_argument("--seed", type=int, default=0, help="of the wordings; that of sampling is the recipe's")
    parser.add_argument("--config", help="the config of a Hub dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--engine", default="vllm", help="scripted tries the recipe without a model")
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
