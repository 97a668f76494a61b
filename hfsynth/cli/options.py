"""Options that several commands read in the same way: their types with help texts, and how some are read."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from hfsynth.core.errors import ConfigError
from hfsynth.core.logs import logging_to_terminal

if TYPE_CHECKING:
    from hfsynth.core.config import SynthesizerConfig
    from hfsynth.core.identifier_models import IdentifierModel

T = TypeVar("T")


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

Model = Annotated[str | None, typer.Option(help="A Hub model, a folder, `embedded`, or `mined`: by rules, no model.")]
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
Exemplars = Annotated[
    str | None,
    typer.Option(help="Human-made contexts with pairs that chains begin with: a file, or USER/DATASET[@REVISION]."),
]
PromptRecipe = Annotated[
    str | None,
    typer.Option(
        help="What a chat model is asked: qa, reading, faq, math, tutorial, table, dialogue, knowledge, FILE.toml."
    ),
]
ExemplarsPerPrompt = Annotated[int | None, typer.Option(min=1, help="Exemplars that a chain begins with. [default: 1]")]
ExemplarSets = Annotated[
    int | None, typer.Option(min=1, help="Sets of exemplars, in each language, that chains share. [default: 8]")
]
EngineArgs = Annotated[list[str] | None, typer.Option(help="An argument of the engine, key=value; may be repeated.")]
PiiModel = Annotated[
    str | None,
    typer.Option(help="A token classifier (folder or USER/MODEL[@REVISION]) that tells persons beside them."),
]
PiiKinds = Annotated[str | None, typer.Option(help="What that model is to tell, person,location. [default: person]")]
Share = Annotated[
    str | None,
    typer.Option(
        help="Try share I of N first, written I/N, from 0/N on. [default: what Slurm, Kubernetes or SkyPilot say]"
    ),
]
Launcher = Annotated[
    str,
    typer.Option(help="Where workers run: local, ray, hf-jobs; or slurm, kubernetes, skypilot: a file is printed."),
]
Sbatch = Annotated[list[str] | None, typer.Option(help="A line for sbatch, such as --time=8:00:00; repeat.")]
Submit = Annotated[bool, typer.Option("--submit", help="Hand the script to sbatch instead of printing it.")]
Image = Annotated[
    str | None, typer.Option(help="Kubernetes, SkyPilot: an image with hfsynth and its engine; HF Jobs: one with uv.")
]
Claim = Annotated[
    str | None, typer.Option(help="The volume that tasks share, mounted at OUT's parent: a claim, SkyPilot's volume.")
]
Accelerators = Annotated[str | None, typer.Option(help="The GPU that SkyPilot is to find, such as H100.")]
Grace = Annotated[float, typer.Option(min=0, help="Seconds for what is in flight after Ctrl-C or SIGTERM.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Let code from the model's repo run here.")]


def pii_model_of(name: str | None, kinds: str | None) -> IdentifierModel | None:
    """Return the model that a command line names; raise ConfigError for kinds without one."""
    from hfsynth.core.identifier_models import IdentifierModel

    if kinds and not name:
        raise ConfigError("--pii-kinds are those of a model, and none is named.", hint="Name one: --pii-model MODEL")
    return IdentifierModel.named(name, kinds) if name else None


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """What a command line says of a recipe; None leaves what the recipe of `--recipe` says, or the default."""

    model: Model = None
    model_revision: ModelRevision = None
    prompt_format: PromptFormat = None
    shots: Shots = None
    max_tokens: MaxTokens = None
    temperature: Temperature = None
    window: Window = None
    precision: Precision = None
    long_documents: LongDocuments = None
    recipe: Recipe = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of the recipe that `--recipe` names, none where it was not given."""
        from hfsynth.core.recipes import open_recipe

        return open_recipe(self.recipe) if self.recipe else {}

    def config(
        self, fields: Mapping[str, Any], model: str, others: Mapping[str, Any] | None = None
    ) -> SynthesizerConfig:
        """Return the recipe that these options, and a command's others by their settings' names, make of `fields`.

        Where there are none, the sampling is the one that the model's own folder recommends.
        """
        from hfsynth.core.recipes import config_from
        from hfsynth.models.resolve import recommended_sampling

        settings = {
            "model": model,
            "model_revision": self.model_revision,
            "prompt_format": self.prompt_format,
            "shots": self.shots,
            "window": self.window,
            "precision": self.precision,
            "long_documents": self.long_documents or fields.get("long_documents", "split"),
            "sampling.max_tokens": self.max_tokens,
            "sampling.temperature": self.temperature,
        }
        return config_from(fields or {"sampling": asdict(recommended_sampling(model))}, settings | {**(others or {})})


def with_options(kind: type[Any], argument: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command the options that are the fields of a dataclass, which it gets as one argument."""
    added = get_type_hints(kind, include_extras=True)
    defaults = {own.name: own.default for own in fields(kind)}

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        own = inspect.signature(command, eval_str=True)

        @wraps(command)
        def run(**given: Any) -> T:  # noqa: ANN401
            taken = {name: given.pop(name) for name in added}
            return command(**given, **{argument: kind(**taken)})

        shared = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=defaults[name], annotation=added[name]) for name in added
        ]
        parameters = [parameter for name, parameter in own.parameters.items() if name != argument]
        vars(run)["__signature__"] = own.replace(parameters=[*parameters, *shared])  # where Typer reads the options
        return run

    return decorate


def with_recipe_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options of a recipe, which it gets as one argument: `chosen`."""
    return with_options(RecipeOptions, "chosen")(command)


def exemplars_of(name: str | None, per_prompt: int | None, sets: int | None) -> dict[str, Any] | None:
    """Return the exemplars that a command line names as a recipe has them, None where it names none."""
    from hfsynth.core.exemplars import Exemplars as Named

    if name is None:
        if per_prompt or sets:
            raise ConfigError(
                "How many exemplars are shown is asked for, and not which.", hint="Name them: --exemplars FILE."
            )
        return None
    counted = {"per_prompt": per_prompt, "sets": sets}
    return {**Named.named(name).to_dict(), **{what: number for what, number in counted.items() if number}}


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
