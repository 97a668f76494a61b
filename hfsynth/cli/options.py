"""Options that several commands read in the same way: their types with help texts, and how some are read."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from hfsynth.core.errors import ConfigError
from hfsynth.core.logs import logging_to_terminal


def _show_log(context: typer.Context, verbose: int) -> int:
    """Show the log on the terminal for as long as the command runs."""
    if verbose and not context.resilient_parsing:
        context.with_resource(logging_to_terminal(logging.INFO if verbose == 1 else logging.DEBUG))
    return verbose


Verbose = Annotated[
    int,
    typer.Option(
        *("--verbose", "-v"),
        count=True,
        show_default=False,
        callback=_show_log,
        help="Show the log, a line an event; -vv shows more, which may quote documents.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

SourceName = Annotated[str, typer.Argument(help="A Hub dataset, a save_to_disk folder, files, a folder or a glob.")]
SourceConfig = Annotated[str | None, typer.Option(help="The Hub dataset's config.")]
Split = Annotated[str, typer.Option(help="The split to read.")]
Splits = Annotated[list[str] | None, typer.Option(help="A split to read, or `all`; may be repeated. [default: train]")]
SourceRevision = Annotated[str | None, typer.Option(help="The Hub dataset's revision.")]
TextColumn = Annotated[str, typer.Option(help="The column that holds the documents.")]
IdColumn = Annotated[str | None, typer.Option(help="The column that names them.")]

Model = Annotated[str | None, typer.Option(help="A Hub model, a folder, or `embedded`.")]
ModelRevision = Annotated[str | None, typer.Option(help="The Hub model's revision.")]
PromptFormat = Annotated[str | None, typer.Option(help="instruction-pretrain or chat.")]
Shots = Annotated[int | None, typer.Option(help="Documents a few-shot chain. [default: 1]")]
MaxTokens = Annotated[int | None, typer.Option(help="Tokens a completion at most. [default: 400]")]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy. [default: 0]")]
Window = Annotated[int | None, typer.Option(help="Tokens a prompt and its completion. [default: the model's]")]
Precision = Annotated[
    str | None,
    typer.Option(help="auto, bf16, fp16, fp32, fp8 (weights), or fp8-kv (and cache). [default: auto, then pinned]"),
]
LongDocuments = Annotated[
    str | None, typer.Option(help="split, truncate or skip documents that do not fit. [default: split]")
]
Recipe = Annotated[
    str | None, typer.Option(help="YAML or JSON like synthesizer_config.json, or a repo: USER/NAME[@REVISION].")
]
EngineArgs = Annotated[list[str] | None, typer.Option(help="An argument of the engine, key=value; may be repeated.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Let code from the model's repo run here.")]


def recipe_fields(recipe: str | None) -> dict[str, Any]:
    """Return the fields of the recipe that `--recipe` names, none where it was not given."""
    from hfsynth.core.recipes import open_recipe

    return open_recipe(recipe) if recipe else {}


def with_recommended(fields: dict[str, Any], model: str) -> dict[str, Any]:
    """Return a recipe's fields; where there is no recipe, the sampling that the model's own folder recommends."""
    from hfsynth.models.resolve import recommended_sampling

    return fields or {"sampling": asdict(recommended_sampling(model))}


def recipe_settings(
    fields: Mapping[str, Any],
    *,
    model: str,
    model_revision: str | None,
    prompt_format: str | None,
    shots: int | None,
    max_tokens: int | None,
    temperature: float | None,
    window: int | None,
    precision: str | None,
    long_documents: str | None,
) -> dict[str, Any]:
    """Return what the options say of a recipe, by its settings' names; None leaves what `fields` say."""
    return {
        "model": model,
        "model_revision": model_revision,
        "prompt_format": prompt_format,
        "shots": shots,
        "window": window,
        "precision": precision,
        "long_documents": long_documents or fields.get("long_documents", "split"),
        "sampling.max_tokens": max_tokens,
        "sampling.temperature": temperature,
    }


def key_values(pairs: list[str]) -> dict[str, Any]:
    """Read key=value pairs; values are JSON where they can be, else text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ConfigError(f"An engine argument is written key=value, not {pair!r}.")
        try:
            values[key.replace("-", "_")] = json.loads(value)
        except ValueError:
            values[key.replace("-", "_")] = value
    return values
