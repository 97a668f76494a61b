"""The command that makes a synthesizer: `train`. Parse, one library call, print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfsynth.cli import console
from hfsynth.cli.options import Json, Quiet, Verbose
from hfsynth.cli.rooms import TRAIN, in_rooms
from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.models.siblings import hide_unfit_siblings
from hfsynth.training.config import Precision

if TYPE_CHECKING:
    from hfsynth.training.trainer import TrainingProgress


_PLANNED = ("sequences", "tokens", "tokens_learnt", "steps", "held_out", "left_out")
_SHOWN = ("method", "sequences", "tokens", "tokens_learnt", "steps", "final_loss", "held_out_loss", "device")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=in_rooms(TRAIN))(train)


def train(
    data: Annotated[str, typer.Argument(help="Task data: a file, a folder, or a dataset on the Hub.")],
    out: Annotated[Path, typer.Argument(help="The folder of the synthesizer to write.")],
    base: Annotated[
        str,
        typer.Option(help="The model to start from: a Hub model, a folder, or `embedded` for SmolLM2-135M-Instruct."),
    ],
    shots: Annotated[int, typer.Option(min=1, help="Examples a sequence at most; 1 teaches no few-shot prompts.")] = 3,
    window: Annotated[int, typer.Option(min=16, help="Tokens a sequence at most.")] = 4096,
    cap: Annotated[int | None, typer.Option(min=1, help="Examples a source at most, in each epoch.")] = None,
    cap_source: Annotated[
        list[str] | None, typer.Option(help="source=examples, may be repeated: a cap of its own for one source.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data, each packed anew.")] = 1,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps at most.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Tune all weights; else a LoRA adapter is trained.")] = False,
    lora_rank: Annotated[int, typer.Option(min=1, help="The adapter's rank.")] = 16,
    lora_alpha: Annotated[int, typer.Option(min=1, help="The adapter is scaled by alpha / rank.")] = 32,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="An adapter of the base to train further, at its rank: a folder, or `embedded` for hfsynth's."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest one, after warm-up. [default: 2e-4; 5e-6 with --full]")
    ] = None,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which it rises.")] = 0.03,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens an optimizer step.")] = 16_384,
    device_tokens: Annotated[int, typer.Option(min=1, help="Tokens on the device at once.")] = 4_096,
    precision: Annotated[
        Precision, typer.Option(help="Of the matrix products; auto is bf16 on a GPU that has it, else fp32.")
    ] = "auto",
    validation: Annotated[float, typer.Option(help="Share of the examples that the loss is measured on.")] = 0.02,
    evaluate_every: Annotated[int, typer.Option(min=1, help="Steps between those measurements.")] = 50,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard, if it is installed.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Draws the order, the shots and the adapter's first weights.")] = 0,
    license: Annotated[
        str | None, typer.Option(help="The model's licence, by the Hub's identifier; with it the card is written.")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="A language code for the card; may be repeated.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the data, show what would be trained on, write nothing.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Train a synthesizer on task DATA: contexts and the pairs that people wrote about them.

    DATA has the columns `context, pairs`, or `context, QA_list` (the published instruction-synthesizer collection), or
    `context, question, answers` (SQuAD-like). The same command goes on where an interrupted one was. Use the result
    with `hfsynth synthesize SOURCE CORPUS --model OUT`.

    Example: hfsynth train tasks.parquet my-synthesizer/ --base embedded --window 1024 --license apache-2.0

    Example: hfsynth train tasks.parquet my-synthesizer/ --base embedded --adapter embedded --learning-rate 1e-4
    """
    from hfsynth.training.config import Lora, Packing, Schedule, TrainingConfig

    library = _library()
    config = TrainingConfig(
        base=base,
        packing=Packing(window, shots, epochs=epochs, seed=seed, cap=cap, caps=_caps(cap_source or [])),
        lora=None if full else Lora(lora_rank, lora_alpha),
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        device_tokens=device_tokens,
        warmup=warmup,
        validation=validation,
        max_steps=max_steps,
        precision=precision,
        adapter=adapter,
    )
    if dry_run:
        return _tell(library.training_plan(data, config), _PLANNED, as_json=as_json)
    schedule = Schedule(evaluate=evaluate_every, save=save_every, tensorboard=tensorboard)
    with console.progress(quiet=quiet or as_json, estimate=True) as show:

        def told(now: TrainingProgress) -> None:
            show(now.step, now.steps, _line(now))

        figures = library.train(data, out, config, schedule=schedule, on_progress=told)
    _describe(out, license, tuple(language or ()))
    _tell(figures, _SHOWN, as_json=as_json)
    return None if as_json else console.emit(f"Use it: hfsynth synthesize SOURCE corpus/ --model {out}")


def _tell(figures: Mapping[str, Any], names: Sequence[str], *, as_json: bool) -> None:
    """Print the figures of these names, or all of them as JSON."""
    if as_json:
        return console.emit_json(figures)
    for name in names:
        console.emit(f"{name.replace('_', ' ')}: {_shown(figures[name])}")
    return None


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count:,} {reason}" for reason, count in value.items()) or "nothing"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _library() -> Any:  # noqa: ANN401 - a module
    hide_unfit_siblings()
    try:
        from hfsynth.training import train
    except ImportError as error:
        raise ModelError(
            f"Training needs {error.name}, which is not installed.", hint="Run `pip install 'hfsynth[train]'`."
        ) from error
    return train


def _describe(out: Path, license: str | None, language: tuple[str, ...]) -> None:
    """Write the model's card where its licence is known; nobody but the user can state it."""
    from hfsynth.publishing.facts import CardSettings
    from hfsynth.publishing.prepare import write_card

    if license is None:
        return console.say(f"For its card: hfsynth card {out} --type model --license LICENCE")
    write_card(out, CardSettings(license=license, language=language), kind="model")
    return None


def _caps(given: list[str]) -> tuple[tuple[str, int], ...]:
    caps = []
    for text in given:
        source, equals, number = text.rpartition("=")
        if not (source and equals and number.isdigit()):
            raise ConfigError(
                f"A cap is written source=examples, not {text!r}.", hint="For example --cap-source gap=400."
            )
        caps.append((source, int(number)))
    return tuple(sorted(caps))


def _line(now: TrainingProgress) -> str:
    loss = "" if now.loss is None else f", loss {now.loss:.3f}"
    return f"step {now.step:,} of {now.steps:,}{loss}, {now.tokens / max(now.seconds, 1e-9):,.0f} tokens/s"
