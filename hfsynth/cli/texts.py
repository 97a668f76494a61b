"""The commands that turn pairs into training data: `render`, `mix` and `export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfsynth.cli import console
from hfsynth.cli.options import Json, Quiet, Verbose
from hfsynth.core.errors import ConfigError

if TYPE_CHECKING:
    from hfsynth.texts.export.export import SequenceReport
    from hfsynth.texts.mixture_parts import Part


_TRAINERS = "axolotl, litdata, litgpt, llama-factory, megatron, nanotron, olmo, sft, text, torchtitan or trl"
Folder = Annotated[Path, typer.Argument(help="A corpus folder, here or s3://….")]
Locations = Annotated[list[str] | None, typer.Option(help="May be repeated.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(render)
    app.command()(mix)
    app.command()(export)


def render(
    folder: Folder,
    seed: Annotated[int, typer.Option(help="Another seed gives other wordings.")] = 0,
    style: Annotated[
        list[str] | None,
        typer.Option(help="name=weight, may be repeated: classic, dialogue, numbered, inline_few_shot, next_turn."),
    ] = None,
    inverted: Annotated[float, typer.Option(help="Share of texts whose documents come last.")] = 0.05,
    validation: Annotated[float, typer.Option(help="Share of chains that go to a validation split.")] = 0.0,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count tokens with this model's tokenizer (a Hub model, a folder, `embedded`).")
    ] = None,
    pair_spans: Annotated[
        bool, typer.Option("--pair-spans", help="Say where the pairs lie: for --split-longer and --loss-mask.")
    ] = False,
    wordings: Annotated[
        str, typer.Option(help="Language around documents and pairs: en, de, fr, es, zh, hi; auto: the document's.")
    ] = "auto",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Render the pairs of a finished corpus FOLDER into training texts, config `default` of the corpus.

    Example: hfsynth render corpus/ --seed 1 --validation 0.01
    """
    from hfsynth.texts.corpus_folder import render_folder
    from hfsynth.texts.styles import Styles

    weights = {**(_weights(style) if style else asdict(Styles())), "inverted": inverted}
    with console.counting("texts", quiet=quiet or as_json) as on_texts:
        report = render_folder(
            folder,
            seed=seed,
            tokenizer=tokenizer,
            styles=weights,
            validation=validation,
            pair_spans=pair_spans,
            wordings=wordings,
            on_texts=on_texts,
        )
    _show(report, as_json)


def mix(
    out: Annotated[Path, typer.Argument(help="The corpus folder to write the mixture into, here or s3://….")],
    tokenizer: Annotated[str, typer.Option(help="The tokenizer that shares are counted with.")],
    augmented: Locations = None,
    raw: Locations = None,
    general: Locations = None,
    ratio: Annotated[
        list[str] | None, typer.Option(help="part=share in tokens, may be repeated; parts are augmented, raw, general.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="general-pretraining or domain-adaptive.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens in all.")] = None,
    repeat: Annotated[list[str] | None, typer.Option(help="A part that may start again when it runs out.")] = None,
    seed: Annotated[int, typer.Option(help="The order of the documents.")] = 0,
    split: Annotated[
        list[str] | None,
        typer.Option(help="A split to mix; may be repeated. [default: every split of the first part that has any]"),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Mix rendered corpora, raw text and general instructions by tokens into the corpus folder OUT.

    Each part is a corpus folder, files or a Hub dataset. A second part of a kind is named augmented-2, raw-2, ….
    Without shares every part is used whole, once.

    Every split is mixed for itself, from the parts that have it, by the same shares. Files go into the split to train
    on; the budget and --repeat are for that split alone.

    Example: hfsynth mix mixed/ --augmented corpus/ --general chat.parquet --preset domain-adaptive --tokenizer gpt2
    """
    from hfsynth.texts.corpus_folder import mix_folder

    repeating = set(repeat or [])
    parts = [
        part
        for kind, locations in (("augmented", augmented), ("raw", raw), ("general", general))
        for part in _parts(kind, locations or [], splits=split or None, repeating=repeating)
    ]
    unknown = repeating - {part.name for part in parts}
    if unknown:
        raise ConfigError(f"There is no part {min(unknown)!r} to repeat.", hint=f"Parts: {_names(parts)}.")
    with console.counting("texts", quiet=quiet or as_json) as on_texts:
        report = mix_folder(
            parts,
            out,
            tokenizer=tokenizer,
            seed=seed,
            budget_tokens=budget_tokens,
            ratios=_weights(ratio) if ratio else None,
            preset=preset,
            on_texts=on_texts,
        )
    _show(report, as_json)


def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="The folder to write, here or s3://….")],
    to: Annotated[str, typer.Option(help=f"{_TRAINERS}.")],
    tokenizer: Annotated[str, typer.Option(help="The tokenizer of the model to be trained.")],
    split: Annotated[
        list[str] | None, typer.Option(help="A split to export; may be repeated. [default: all of them]")
    ] = None,
    name: Annotated[str, typer.Option(help="The data set's name in LLaMA-Factory.")] = "hfsynth",
    file_format: Annotated[str, typer.Option(help="jsonl or parquet (for text).")] = "jsonl",
    sft_row: Annotated[str, typer.Option(help="pair or chain: what a row holds (for sft).")] = "pair",
    sft_columns: Annotated[str, typer.Option(help="messages or prompt-completion (for sft).")] = "messages",
    sequence_length: Annotated[
        int | None, typer.Option(help="Count what does not fit into sequences of so many tokens, BOS and EOS included.")
    ] = None,
    split_longer: Annotated[
        bool, typer.Option("--split-longer", help="Cut longer texts behind a pair (see render --pair-spans).")
    ] = False,
    loss_mask: Annotated[
        bool, typer.Option("--loss-mask", help="Say which tokens are of pairs (for olmo, nanotron; --pair-spans).")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Write the training texts of a corpus FOLDER as a trainer reads them; an interrupted export goes on.

    Of several splits each gets a folder of its own in OUT, and for LLaMA-Factory its entry: NAME, NAME_validation.
    --to sft takes the pairs themselves, to fine-tune on. axolotl, litgpt, llama-factory, torchtitan and trl get a
    configuration that trains on every token, and the command is printed.

    Example: hfsynth export corpus/ tokens/ --to olmo --tokenizer allenai/OLMo-2-0425-1B
    """
    from hfsynth.texts.corpus_folder import tokenizer_place
    from hfsynth.texts.export.export import export as export_texts

    with console.counting("texts", quiet=quiet or as_json) as on_texts:
        report = export_texts(
            folder,
            out,
            to=to,
            tokenizer=tokenizer_place(tokenizer),
            split=split or None,
            name=name,
            file_format=file_format,
            sft_row=sft_row,
            sft_columns=sft_columns,
            sequence_length=sequence_length,
            split_longer=split_longer,
            loss_mask=loss_mask,
            on_progress=lambda progress: on_texts(progress.documents),
        )
    if as_json:
        return console.emit_json(asdict(report))
    what = "examples" if report.target == "sft" else "texts"
    for each, part in (report.splits or {"": report}).items():
        tokens = "" if part.tokens is None else f" of {part.tokens:,} tokens"
        console.emit(f"{part.folder}: {part.documents:,} {what}{tokens}{each and f' of split {each}'}")
    for reason, number in report.skipped.items():
        console.emit(f"  left out: {number:,} {reason}")
    if report.sequences:
        _show_sequences(report.sequences, split_longer=split_longer)
    if report.neutralized:
        console.emit(f"  {report.neutralized:,} {what} held a control string, which was broken up")
    if report.start:
        console.emit(f"Train on it    {report.start}")


def _show_sequences(found: SequenceReport, *, split_longer: bool) -> None:
    """Say what does not fit, what it costs, and what could be done."""
    if found.cut:
        console.emit(f"  {found.cut:,} texts were cut behind a pair, to fit into {found.length:,} tokens")
    if found.longer:
        console.emit(
            f"  {found.longer:,} texts are longer than {found.length:,} tokens, by {found.overflow_tokens:,} in all"
        )
        if not split_longer:
            console.emit("  (a trainer that truncates throws those away; --split-longer cuts such texts behind a pair)")
    if found.lost_tokens is not None:
        console.emit(f"  tokens this trainer leaves out: {found.lost_tokens:,}")


def _weights(given: list[str] | None) -> dict[str, float]:
    """Read name=number options."""
    weights = {}
    for item in given or []:
        name, equals, number = item.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"Write name=number, not {item!r}.")
    return weights


def _parts(kind: str, locations: list[str], *, splits: list[str] | None, repeating: set[str]) -> list[Part]:
    from hfsynth.documents.hf_datasets import open_splits
    from hfsynth.texts.layouts import Kind
    from hfsynth.texts.mixture_parts import Part

    names = [kind if number == 1 else f"{kind}-{number}" for number in range(1, len(locations) + 1)]
    return [
        Part(name, open_splits(location, splits), Kind(kind), repeat=name in repeating, origin=location)
        for name, location in zip(names, locations, strict=True)
    ]


def _names(parts: list[Part]) -> str:
    return ", ".join(part.name for part in parts) or "none"


def _show(report: Any, as_json: bool) -> None:  # noqa: ANN401
    from hfsynth.corpus.folder import loading_call

    values = {"out": str(report.root), "texts": dict(report.texts), **report.facts}
    if as_json:
        console.emit_json(values)
        return
    for split, number in report.texts.items():
        console.emit(f"{report.root / 'data'}: {number:,} texts in split {split}")
    for split, made in report.facts.get("splits", {"": report.facts}).items():
        if split:
            console.emit(f"  split {split}:")
        for part in made.get("parts", []):
            console.emit(
                f"  {part['name']:12} {part['documents']:>10,} documents {part['tokens']:>14,} tokens "
                f"{part['share_got']:7.2%}"
            )
    console.emit(f"Load it    {loading_call(report.root, 'default', report.texts)}")
