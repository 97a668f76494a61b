# /// script
# requires-python = ">=3.11"
# dependencies = ["hfsynth[vllm,stores]==0.1.0"]
# ///
r"""Run the recipe of a published corpus again, on new text.

Reads the `synthesizer_config.json` of the repo --recipe (model and revision, format, shots, sampling, seed), applies it
to INPUT and renders the result. What the recipe was applied to and mixed with is left out. The repo OUTPUT gets the
training texts as config `default` and the pairs as `pairs`.

    uv run dataset_scripts/rerun_recipe.py me/new-texts me/new-instruct --recipe me/medical-instruct
    hf jobs uv run --flavor a100-large --timeout 8h --secrets-file keys.env dataset_scripts/rerun_recipe.py \
        me/new-texts me/new-instruct --recipe me/medical-instruct@v1 \
        --folder hf://buckets/me/corpora/new-instruct

Given again after an interruption, it goes on where it was: on the same machine, or on any with a bucket as its folder.
`keys.env` has HF_TOKEN, and the bucket's HFSYNTH_S3_KEY and HFSYNTH_S3_SECRET.
"""

from __future__ import annotations

import argparse

import hfsynth


def main() -> None:
    parser = hfsynth.script_parser(
        __doc__,
        "config",
        "split",
        "text-column",
        "engine",
        "seed",
        input="new texts: a Hub dataset, a folder or files",
    )
    parser.add_argument("--recipe", required=True, help="the repo whose recipe is run, USER/NAME[@REVISION], or a file")
    hfsynth.run_script(parser, rerun)


def rerun(args: argparse.Namespace) -> None:
    """Synthesize and render; the seed of sampling is the recipe's."""
    hfsynth.synthesize(
        hfsynth.Source(args.input, args.config, args.split, text_column=args.text_column),
        args.folder,
        hfsynth.SynthesizerConfig.from_dict(hfsynth.open_recipe(args.recipe)),
        engine=hfsynth.EngineConfig(args.engine),
    )
    hfsynth.render(args.folder, seed=args.seed)


if __name__ == "__main__":
    main()
