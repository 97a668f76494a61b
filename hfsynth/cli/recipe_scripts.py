"""What recipes that are scripts have in common: their arguments, the folder they fill, and its way to the Hub.

Such a script is one file that `uv run` runs as it is (`dataset_scripts/`). Knows nothing of what a recipe does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hfsynth.core.errors import ConfigError, HfsynthError
from hfsynth.publishing.publish import push

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "config": {"help": "the config of a Hub dataset"},
    "split": {"default": "train", "help": "[default: train]"},
    "text-column": {"default": "text", "help": "[default: text]"},
    "model": {"default": "instruction-pretrain/instruction-synthesizer", "help": "what writes the pairs"},
    "engine": {"default": "vllm", "help": "scripted tries the recipe without a model"},
    "tokenizer": {"default": "embedded", "help": "counts the tokens of the mixture"},
    "seed": {"type": int, "default": 0, "help": "of the wordings [default: 0]"},
}


def script_parser(
    description: str | None, *options: str, input: str, license: str | None = None
) -> argparse.ArgumentParser:
    """Return a parser of the arguments that recipe scripts share; a script adds its own, then calls `run_script`.

    Always there are INPUT (which `input` describes), OUTPUT, `--folder`, `--license`, `--license-name`,
    `--license-link`, `--language` and `--private`. `options` are those that the recipe takes besides: `config`,
    `split`, `text-column`, `model`, `engine`, `tokenizer`, `seed`. With `license`, which describes it, a licence must
    be stated; else it is the input's. `description` is the script's `__doc__`. Raise ConfigError for other options.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("input", help=input)
    parser.add_argument("output", help="the repo to publish, USER/NAME")
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"Recipe scripts share no option {name!r}.", hint=f"They are: {', '.join(_OPTIONS)}.")
        parser.add_argument(f"--{name}", **_OPTIONS[name])
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the corpus is made, a folder or an address such as hf://buckets/… [default: the repo's name]",
    )
    parser.add_argument("--license", required=license is not None, help=license or "[default: the input's]")
    parser.add_argument("--license-name", help="of a licence that is `other`")
    parser.add_argument("--license-link", help="of a licence that is `other`")
    parser.add_argument("--language", action="append", help="may be given again [default: the input's]")
    parser.add_argument("--private", action="store_true", help="publish for yourself")
    return parser


def run_script(
    parser: argparse.ArgumentParser,
    recipe: Callable[[argparse.Namespace], object],
    argv: list[str] | None = None,
) -> None:
    """Parse the command line, let `recipe(args)` fill `args.folder`, publish that, and print where it is.

    `args` has every argument of the parser by its name; `argv` stands for the command line in a program. What is wrong
    ends the process, in a sentence and with exit code 1.
    """
    args = parser.parse_args(argv)
    args.folder = args.folder or Path(args.output.rpartition("/")[2])
    try:
        recipe(args)
        published = push(
            args.folder,
            args.output,
            license=args.license,
            license_name=args.license_name,
            license_link=args.license_link,
            language=args.language,
            private=args.private,
        )
    except HfsynthError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{published.url}\n")
