"""The command that says how good a synthesizer is: `evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hfsynth import console
from hfsynth.card_text import as_score, as_share
from hfsynth.cli_options import key_values
from hfsynth.counting import counting
from hfsynth.errors import ConfigError

_PLAIN_WIDTH = 140  # of a table that goes into a file or a pipe


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(evaluate)


def evaluate(
    model: Annotated[str | None, typer.Option(help="A synthesizer: a Hub model, a folder, or `embedded`.")] = None,
    model_revision: Annotated[str | None, typer.Option(help="The Hub model's revision.")] = None,
    prompt_format: Annotated[str, typer.Option(help="instruction-pretrain or chat.")] = "instruction-pretrain",
    seen: Annotated[str | None, typer.Option(help="Gold data of task sets seen in tuning.")] = None,
    unseen: Annotated[str | None, typer.Option(help="Gold data of other task sets.")] = None,
    gold: Annotated[str | None, typer.Option(help="Gold data, where seen or unseen does not matter.")] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Gold examples shown before a document; may be repeated. [default: 0 and 3]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents of each source at most.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens a completion at most.")] = 400,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    window: Annotated[
        int | None, typer.Option(help="Tokens a prompt and its completion. [default: the model's]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which documents and examples are drawn.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. [default: evaluation.json in the model's folder]")
    ] = None,
    engine: Annotated[str, typer.Option(help="vllm, server or scripted.")] = "vllm",
    engine_arg: Annotated[
        list[str] | None, typer.Option(help="An argument of the engine, key=value; may be repeated.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let code from the model's repo run here.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say how good the synthesizer --model is on gold data: contexts with pairs that people wrote.

    Gold data have the columns `context, pairs`, the published collection's `context, QA_list`, or SQuAD's. The
    figures are those of the Instruction Pre-Training paper, each with a 95% interval.

    Example: hfsynth evaluate --model embedded --unseen gold.parquet --limit 20 --shots 0
    """
    from hfsynth.config import EngineConfig, SynthesizerConfig
    from hfsynth.models import recommended_sampling
    from hfsynth.synthesizer_evaluation import evaluate_synthesizer, evaluation_place, save_evaluation

    if model is None:
        raise ConfigError("No synthesizer was named.", hint="hfsynth evaluate --model MODEL --unseen FILE")
    config = SynthesizerConfig(
        model=model,
        model_revision=model_revision,
        prompt_format=prompt_format,
        window=window,
        sampling=replace(recommended_sampling(model), max_tokens=max_tokens, temperature=temperature),
    )
    sets = {"seen": seen, "unseen": unseen, "gold": gold}
    with counting("completions", quiet=quiet or as_json) as on_progress:
        values = evaluate_synthesizer(
            config,
            {name: location for name, location in sets.items() if location},
            engine=EngineConfig.create(engine, key_values(engine_arg or []), trust_remote_code),
            shots=shots or (0, 3),
            limit=limit,
            seed=seed,
            on_progress=on_progress,
        )
    place = out or evaluation_place(model)
    if place:
        save_evaluation(values, place)
    if as_json:
        console.emit_json(values)
        return
    _show(values)
    if place:
        console.emit(f"Written to {place}")


def _show(values: Mapping[str, Any]) -> None:
    """Print the layout of the paper's Table 5, then the sources."""
    for gold, by_shots in values["results"].items():
        _table(f"{gold}: all documents", _rows(by_shots, "all"))
        for shots, found in by_shots.items():
            _table(f"{gold}, {_setting(shots)}, by source", found["sources"].items())


def _rows(by_shots: Mapping[str, Any], part: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for shots, found in by_shots.items():
        yield _setting(shots), found[part]


def _setting(shots: str) -> str:
    return "zero-shot" if shots == "0" else f"{shots}-shot"


def _table(title: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE)
    for heading in ("", "documents", "response accuracy", "pair quality", "with pairs", "pairs each", "duplicates"):
        table.add_column(heading, no_wrap=True, justify="right" if heading else "left")
    for name, found in rows:
        table.add_row(
            name,
            f"{found['documents']:,}",
            as_score(found["response_accuracy"]["f1"]),
            as_score(found["pair_quality"]["f1"]),
            as_share(found["with_pairs"]["mean"]),
            _number(found["pairs_per_document"]["mean"]),
            as_share(found["duplicates"]),
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
