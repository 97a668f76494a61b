"""The command that finds the engine's fastest settings and predicts what a corpus will take: `tune`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hfsynth.cli import console
from hfsynth.cli.options import (
    IdColumn,
    Json,
    Quiet,
    RecipeOptions,
    SourceConfig,
    SourceName,
    SourceRevision,
    Split,
    TextColumn,
    TrustRemoteCode,
    Verbose,
    key_values,
    with_recipe_options,
)
from hfsynth.cli.rooms import TUNE, in_rooms
from hfsynth.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from hfsynth.job.tuning.settings import Setting
    from hfsynth.job.tuning.trial import Prediction, Range
    from hfsynth.job.tuning.tune import OtherRecipe, Told, Trial, Tuning


_PLAIN_WIDTH = 140  # of a table that goes into a file or a pipe


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=in_rooms(TUNE))(with_recipe_options(tune))


def tune(
    source: SourceName,
    chosen: RecipeOptions,
    config: SourceConfig = None,
    split: Split = "train",
    revision: SourceRevision = None,
    text_column: TextColumn = "text",
    id_column: IdColumn = None,
    engine_arg: Annotated[
        list[str] | None, typer.Option(help="An argument that every trial has, key=value; may be repeated.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    documents: Annotated[
        int | None, typer.Option(min=1, help="The sample's size at most. [default: 512 with a GPU, 24 without]")
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long to search.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Which documents are drawn.")] = 0,
    precisions: Annotated[
        str | None,
        typer.Option(
            help="Other recipes to compare in the time left: precisions, or none. [default: fp8,fp8-kv with a GPU]"
        ),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Find the engine's fastest settings for the documents of SOURCE, and predict what all of them will take.

    Runs a sample through a fresh engine for every setting: sequences at once, tokens a step, prefix caching,
    speculation. Prints the flags to give to `hfsynth synthesize`; none of them changes the pairs. In the time left the
    fastest setting runs in other precisions, which are other recipes and compared alone: how much faster, how many
    pairs stay the same, how well they keep to their documents.

    Example: hfsynth tune notes.jsonl --model embedded --shots 2 --minutes 10
    """
    from hfsynth.core.config import EngineConfig
    from hfsynth.documents.source import Source
    from hfsynth.job.tuning.tune import tune as tune_engine

    fields = chosen.fields()
    model = chosen.model or fields.get("model")
    if not model:
        raise ConfigError("No model was named.", hint="Use --model with a Hub model, a folder, or embedded.")
    found = tune_engine(
        Source(source, config, split, revision, text_column, id_column),
        chosen.config(fields, model),
        engine=EngineConfig("vllm", key_values(engine_arg or []), trust_remote_code),
        documents=documents,
        minutes=minutes,
        seed=seed,
        precisions=_names(precisions),
        on_trial=(lambda trial: None) if quiet or as_json else _say,
    )
    if as_json:
        console.emit_json(found.to_dict())
    else:
        _show(found)


def _names(precisions: str | None) -> list[str] | None:
    """Read the precisions, with commas between them; `none` are none of them."""
    if precisions is None:
        return None
    return [] if precisions == "none" else [name.strip() for name in precisions.split(",")]


def _say(trial: Told) -> None:
    """Tell what is tried, and what came of it."""
    from hfsynth.job.tuning.settings import Setting

    if trial is None:
        console.say("Trying the engine as it is …")
    elif isinstance(trial, Setting):
        console.say(f"Trying {setting_words(trial)} …")
    elif isinstance(trial, str):
        console.say(f"Trying the fastest in {trial}, which is another recipe …")
    else:
        console.say(f"  {_per_hour(trial)} documents/h {trial.note}".rstrip())


def _show(found: Tuning) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    out = Console(file=sys.stdout, width=width, markup=False, emoji=False)  # an engine's message is no markup
    out.print(table(found))
    if found.others:
        out.print(precision_table(found))
    console.emit("\n".join(conclusion(found)))


def table(found: Tuning) -> Table:
    """Return a row for every trial, in the order they were tried."""
    from rich.box import SIMPLE
    from rich.table import Table

    drawn = Table(title=f"{len(found.trials)} settings, {found.documents} documents", title_justify="left", box=SIMPLE)
    drawn.add_column("setting")
    for heading in ("documents/h", "of the first", "output tokens/s", "prompt computed", "guesses kept", ""):
        drawn.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for trial in found.trials:
        drawn.add_row(*cells(trial, found.trials[0], best=trial is found.best and len(found.trials) > 1))
    return drawn


def cells(trial: Trial, first: Trial, *, best: bool) -> list[str]:
    """Return a trial's row of the table."""
    measured = trial.outcome
    if measured is None or trial.speed is None:
        return [setting_words(trial.setting), "–", "–", "–", "–", "–", trial.note]
    kept = "–" if measured.acceptance is None else f"{measured.acceptance:.0%}"
    computed = (measured.prompt_tokens - measured.cached_tokens) / max(measured.prompt_tokens, 1)
    return [
        setting_words(trial.setting),
        _per_hour(trial),
        f"{trial.speed / (first.speed or trial.speed):.2f}",
        f"{measured.output_tokens / max(measured.seconds, 1e-9):,.0f}",
        f"{computed:.0%}",
        kept,
        "fastest" if best else trial.note,
    ]


def precision_table(found: Tuning) -> Table:
    """Return a row for the recipe and one for each precision that would make it another."""
    from rich.box import SIMPLE
    from rich.table import Table

    title = "Other precisions are other recipes: none of them is in the flags"
    drawn = Table(title=title, title_justify="left", box=SIMPLE)
    drawn.add_column("precision")
    for heading in ("documents/h", "of the fastest", "same pairs", "grounding", ""):
        drawn.add_column(heading, justify="right" if heading else "left", overflow="fold")
    own = "this recipe" + ("" if found.own_agreement is None else ", its pairs with another setting")
    drawn.add_row(*_compared(found, found.precision, found.best, found.own_agreement), own)
    for other in found.others:
        drawn.add_row(*precision_cells(found, other))
    return drawn


def precision_cells(found: Tuning, other: OtherRecipe) -> list[str]:
    """Return another recipe's row of the table."""
    return [*_compared(found, other.precision, other.trial, found.agreement(other.trial)), other.trial.note]


def _compared(found: Tuning, precision: str, trial: Trial, agreement: float | None) -> list[str]:
    speed, best = trial.speed, found.best.speed
    return [
        precision,
        _per_hour(trial),
        "–" if speed is None or not best else f"{speed / best:.2f}",
        "–" if agreement is None else f"{agreement:.0%}",
        "–" if trial.grounding is None else f"{trial.grounding:.2f}",
    ]


def setting_words(setting: Setting) -> str:
    """Return a setting in words."""
    parts = [f"{setting.max_num_seqs} sequences", f"{setting.max_num_batched_tokens:,} tokens a step"]
    parts += [] if setting.prefix_caching else ["no prefix cache"]
    return ", ".join([*parts, *([setting.speculative] if setting.speculative else [])])


def conclusion(found: Tuning) -> list[str]:
    """Return what to do, and what it will take."""
    flags = shlex.join(found.flags)
    lines = [
        f"Flags      {flags}" if flags else "Flags      none: nothing that was tried is faster than the engine as it is"
    ]
    lines += _expectation(found.prediction)
    if found.ran_out:
        lines.append("The time was up before every promising setting was tried: --minutes gives more.")
    return lines


def _expectation(prediction: Prediction) -> list[str]:
    """Return the prediction with its error bar, which is the sample's."""
    lines = [f"Expect     {_ranged(prediction.documents_per_hour, 0)} documents an hour and engine"]
    if prediction.documents is not None and prediction.engine_hours is not None:
        hours = _ranged(prediction.engine_hours, 2)
        lines.append(f"           {hours} engine-hours for all {prediction.documents:,} documents")
    return lines


def _ranged(range_: Range, digits: int) -> str:
    value, low, high = (f"{number:,.{digits}f}" for number in (range_.value, range_.low, range_.high))
    return f"{value} ({low} to {high})"


def _per_hour(trial: Trial) -> str:
    return "–" if trial.speed is None else f"{3600 * trial.speed:,.0f}"
