"""The command that screens a finished corpus: `screen`. Parse, one library call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hfsynth.cli import console
from hfsynth.cli.options import Grace, Json, PiiKinds, PiiModel, Quiet, Verbose, pii_model_of
from hfsynth.cli.rooms import SCREEN, in_rooms


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=in_rooms(SCREEN))(screen)


def screen(
    corpus: Annotated[Path, typer.Argument(help="A finished corpus folder.")],
    pii: Annotated[
        str | None,
        typer.Option(
            help="Identifiers (e-mail, IP, phone, card, IBAN, key): mark replaces each, drop takes out what has any, "
            "report counts them."
        ),
    ] = None,
    pii_model: PiiModel = None,
    pii_kinds: PiiKinds = None,
    duplicates: Annotated[
        bool,
        typer.Option("--duplicates", help="Take out documents that repeat an earlier one, or nearly so; and pairs."),
    ] = False,
    language: Annotated[
        str | None, typer.Option(help="Keep documents in these languages only, en,fr; `unknown` is one of them.")
    ] = None,
    decontaminate: Annotated[
        list[str] | None,
        typer.Option(
            help="Benchmarks whose questions go: core, a file, or USER/DATASET[:CONFIG[:SPLIT]][@REVISION]; may be "
            "repeated."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Worker processes; 0 works in this one. [default: one per core; 0 with a model]",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be done; change nothing.")] = False,
    grace: Grace = 30.0,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Screen the finished CORPUS for benchmark questions, personal identifiers, duplicates and languages.

    Nothing disappears: documents that are taken out keep their row with the status `screened`, pairs go to
    `synthesis.rejected` with the reason, and the folder is replaced as one change. Give the same command again after an
    interruption.

    Example: hfsynth screen corpus/ --pii mark --duplicates
    """
    from hfsynth.cli import launchers
    from hfsynth.core.screening import sentence
    from hfsynth.job.screen import default_workers
    from hfsynth.job.screen import screen as screen_corpus

    model = pii_model_of(pii_model, pii_kinds)
    number = workers if workers is not None else 0 if pii_model else default_workers(corpus)
    wanted = launchers.Wanted("local", number, 1, None, None, "none")
    with launchers.interruptible(), console.job_progress(quiet=quiet or as_json) as display:
        result = screen_corpus(
            corpus,
            pii=pii,
            pii_model=model,
            duplicates=duplicates,
            language=[code.strip() for code in language.split(",")] if language else (),
            decontaminate=decontaminate or (),
            dry_run=dry_run,
            launcher=launchers.launcher_for(wanted),
            grace=grace,
            on_progress=display,
        )
    if as_json:
        told = {"out": str(result.root), "worked": result.worked, "dry_run": dry_run, "screen": list(result.steps)}
        return console.emit_json(told)
    first = [] if result.worked else ["This corpus was screened so before; nothing was left to do."]
    last = ["Nothing was changed: this was a dry run."] if dry_run else []
    if result.texts_removed:
        last.append(f"The texts were made of what is no longer so. Make them again: hfsynth render {result.root}")
    return console.emit("\n".join([*first, *map(sentence, result.steps), *last]))
