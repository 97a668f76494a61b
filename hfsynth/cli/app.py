"""The command line: parse, one library call, print. Every command is a library function of the same name.

Heavy modules are imported inside the commands, so that `hfsynth --help` is quick.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hfsynth.cli import console, evaluate, hf_jobs, page, publish, screen, texts, train, tune, verify, work
from hfsynth.cli.options import (
    Accelerators,
    Claim,
    EngineArgs,
    Exemplars,
    ExemplarSets,
    ExemplarsPerPrompt,
    Grace,
    IdColumn,
    Image,
    Json,
    Launcher,
    PiiKinds,
    PiiModel,
    PromptRecipe,
    Quiet,
    RecipeOptions,
    Sbatch,
    Share,
    SourceConfig,
    SourceName,
    SourceRevision,
    Splits,
    Submit,
    TextColumn,
    TrustRemoteCode,
    Verbose,
    exemplars_of,
    key_values,
    pii_model_of,
    with_options,
    with_recipe_options,
)
from hfsynth.cli.rooms import SYNTHESIZE, in_rooms
from hfsynth.core.errors import ConfigError, HfsynthError, OutputError
from hfsynth.version import __version__

app = typer.Typer(
    name="hfsynth",
    help="Turn any corpus into an instruction-augmented pre-training corpus, and publish it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

PUBLISHED_SYNTHESIZER = "instruction-pretrain/instruction-synthesizer"


def main() -> None:
    """Run the command line; turn hfsynth's errors into a message and an exit code."""
    try:
        app()
    except HfsynthError as error:
        console.show_error(error)
        sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Hold the options that belong to no command."""
    if version:
        console.emit(__version__)
        raise typer.Exit


@app.command(cls=in_rooms(SYNTHESIZE))
@with_options(hf_jobs.HfJobsOptions, "remote")
@with_recipe_options
def synthesize(
    source: SourceName,
    out: Annotated[
        Path, typer.Argument(help="The corpus folder to write, or an object store: s3://, gs://, az://, hf://buckets/.")
    ],
    chosen: RecipeOptions,
    remote: hf_jobs.HfJobsOptions,
    config: SourceConfig = None,
    split: Splits = None,
    revision: SourceRevision = None,
    text_column: TextColumn = "text",
    id_column: IdColumn = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read so many rows only.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of sampling. [default: 0]")] = None,
    max_pairs: Annotated[int | None, typer.Option(help="Pairs a document at most (chat format). [default: 5]")] = None,
    prompt: PromptRecipe = None,
    thinking: Annotated[
        str | None, typer.Option(help="off, on or `budget N`, for models that think (chat format). [default: off]")
    ] = None,
    keep_reasoning: Annotated[
        bool, typer.Option("--keep-reasoning", help="Keep what the model thought, in synthesis.reasoning.")
    ] = False,
    fill: Annotated[
        str | None, typer.Option(help="mined: pairs by rules for documents about which the model writes none.")
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Completions drawn about a document; the best pairs are kept. [default: 1]"),
    ] = None,
    choose_by: Annotated[
        str | None,
        typer.Option(help="measures; agreement between completions; or judge: the model itself. [default: measures]"),
    ] = None,
    exemplars: Exemplars = None,
    exemplars_per_prompt: ExemplarsPerPrompt = None,
    exemplar_sets: ExemplarSets = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help='A condition on pairs, "grounding>=0.5"; may be repeated. Others are kept aside, counted.'),
    ] = None,
    decontaminate: Annotated[
        list[str] | None,
        typer.Option(
            help="Benchmarks whose questions are kept out: core, a file, or USER/DATASET[:CONFIG[:SPLIT]][@REVISION]; "
            "may be repeated."
        ),
    ] = None,
    pii: Annotated[
        str | None,
        typer.Option(
            help="Identifiers in documents (e-mail, IP, phone, card, IBAN, key), before pairs are written: mark "
            "replaces each, drop screens out what has any, report counts them."
        ),
    ] = None,
    pii_model: PiiModel = None,
    pii_kinds: PiiKinds = None,
    engine: Annotated[
        str | None,
        typer.Option(help="vllm, server, or scripted to try a pipeline without a model. [default: vllm]"),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server, such as http://host:8000/v1; implies server.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests to the server at once. [default: 64]")
    ] = None,
    engine_arg: EngineArgs = None,
    speculative: Annotated[
        str | None,
        typer.Option(
            help="ngram, ngram:TOKENS or none: guess words that pairs quote; the pairs stay the same. "
            "[default: ngram for the embedded model on a CPU, else none]"
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    shard_rows: Annotated[int | None, typer.Option(min=1, help="Source rows a shard. [default: 4096]")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes; 0 works in this one. [default: one per visible GPU, 1 on a CPU]"),
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs a worker spreads its model over.")] = 1,
    launcher: Launcher = "local",
    address: Annotated[str | None, typer.Option(help="The Ray cluster. [default: found or started]")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="GPUs that Ray reserves for a worker. [default: --tensor-parallel]")
    ] = None,
    sbatch: Sbatch = None,
    submit: Submit = False,
    image: Image = None,
    claim: Claim = None,
    accelerators: Accelerators = None,
    shard_range: Annotated[str | None, typer.Option(help="Work on shards A to before B only, written A:B.")] = None,
    share: Share = None,
    max_engine_restarts: Annotated[
        int,
        typer.Option(
            min=0, help="Deaths of the engine in a row, without a document in between, to outlive; for each worker."
        ),
    ] = 3,
    grace: Grace = 30.0,
    bad_rows: Annotated[
        str, typer.Option(help="Rows that cannot be read: stop when all else is done, or skip and count them.")
    ] = "stop",
    continue_with_changed_source: Annotated[
        bool,
        typer.Option(
            "--continue-with-changed-source",
            help="The source was mended, has grown or changed: keep the finished shards whose rows are the same.",
        ),
    ] = False,
    describe: Annotated[
        bool, typer.Option("--describe", help="Write the job down in OUT for `hfsynth work OUT`, and start nothing.")
    ] = False,
    pairs_only: Annotated[
        bool,
        typer.Option("--pairs-only", help="Of a recipe with later steps (screen, verify, …) take the first alone."),
    ] = False,
    judge: Annotated[
        str | None, typer.Option(help="The judge of a recipe's verification. [default: the recipe's]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan, write nothing.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Write instruction-response pairs about every document of SOURCE into the corpus folder OUT.

    Give the same command again after an interruption: it goes on where it was. Given several times at once, on any
    machines that share the folder, the runs share the work. The recipe of a published corpus (--recipe user/name) is
    taken with all its steps: what was verified, rendered or mixed is so here.

    Example: hfsynth synthesize notes.jsonl corpus/ --model embedded --shots 2
    """
    from hfsynth.cli import launchers, steps
    from hfsynth.core.config import EngineConfig
    from hfsynth.documents.source import Source
    from hfsynth.engine.speculation import require_greedy, speculating
    from hfsynth.job import run
    from hfsynth.job.begin import job_plan
    from hfsynth.job.launcher import with_tensor_parallel
    from hfsynth.synthesis.prompts import open_prompt

    engine = engine or ("server" if base_url else "vllm")
    fields = chosen.fields()
    model = chosen.model or fields.get("model") or _default_model(engine, launcher, quiet=quiet)
    server = {"base_url": base_url, "concurrency": concurrency}
    arguments = key_values(engine_arg or []) | {name: value for name, value in server.items() if value is not None}
    others: dict[str, Any] = {"seed": seed, "chat.max_pairs": max_pairs, "keep": keep or None}
    others |= {"thinking": thinking, "keep_reasoning": keep_reasoning or None, "fill": fill}
    others |= {"candidates": candidates, "choose_by": choose_by}
    others |= {"decontaminate": decontaminate or None, "pii": pii, "pii_model": pii_model_of(pii_model, pii_kinds)}
    others |= {"exemplars": exemplars_of(exemplars, exemplars_per_prompt, exemplar_sets)}
    if prompt:
        others |= {"prompt": open_prompt(prompt), "prompt_format": chosen.prompt_format or "chat"}
    synthesizer = chosen.config(fields, model, others)
    engine_config = speculating(EngineConfig(engine, arguments, trust_remote_code), speculative)
    require_greedy(engine_config, synthesizer.sampling)
    if engine == "vllm":
        engine_config = with_tensor_parallel(engine_config, tensor_parallel)
    read_from = Source(source, config, split or "train", revision, text_column, id_column, limit)
    planned: dict[str, Any] = {
        "engine": engine_config,
        "shard_rows": shard_rows,
        "continue_with_changed_source": continue_with_changed_source,
    }
    settings = {"max_engine_restarts": max_engine_restarts, "grace": grace, "bad_rows": bad_rows}
    later = steps.later_steps(None if pairs_only else chosen.recipe, engine, judge, out)
    remote.refuse(launcher)
    if launcher == hf_jobs.NAME and not describe:
        asked = hf_jobs.Call(out, remote, image, workers, dry_run, quiet=quiet, as_json=as_json)
        asked.synthesize(read_from, synthesizer, planned, settings, besides=[shard_range, share, later])
        return
    if dry_run:
        console.emit_json(job_plan(read_from, out, synthesizer, **planned))
        return
    wanted = launchers.Wanted(launcher, workers, tensor_parallel, address, gpus_per_worker, engine_config.kind)
    if launcher in launchers.PRINTED:
        printed = launchers.Printed(out, grace, sbatch or [], submit, image, claim, accelerators)
        launchers.print_file(
            wanted, printed, lambda: launchers.shards_of(job_plan(read_from, out, synthesizer, **planned))
        )
        return
    planned |= settings
    if describe:
        gpu = None if gpus_per_worker is None else gpus_per_worker > 0
        result = run.describe_job(read_from, out, synthesizer, gpu=gpu, **planned)
        launchers.tell(result, as_json=as_json)
        return
    with launchers.interruptible(), console.job_progress(quiet=quiet or as_json) as display:
        result = run.synthesize(
            read_from,
            out,
            synthesizer,
            shards=launchers.shard_range(shard_range),
            share=share,
            launcher=launchers.launcher_for(wanted),
            on_progress=display,
            **planned,
        )
    if later and result.finished:
        result = steps.take(
            later, result, wanted, engine=engine_config, judge=judge, grace=grace, quiet=quiet or as_json
        )
    launchers.tell(result, as_json=as_json)


@app.command()
def info(
    folder: Annotated[Path, typer.Argument(help="A corpus folder.")],
    watch: Annotated[bool, typer.Option("--watch", help="Follow a running job until it is finished.")] = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Print what is in a corpus folder; with --watch, first show how the job that fills it comes along.

    Example: hfsynth info corpus/
    """
    from hfsynth.job.progress import describe, follow, inspect

    if watch:
        with console.job_progress(quiet=as_json) as display:
            follow(folder, display)
    facts = inspect(folder)
    if as_json:
        console.emit_json(facts)
    else:
        console.emit(describe(facts))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A corpus folder.")],
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Compare every file of FOLDER with what its job wrote, byte by byte; the exit code is 1 where one was lost.

    Nothing is changed. To make what was lost anew give the `hfsynth synthesize` command again.

    Example: hfsynth check corpus/
    """
    from dataclasses import asdict

    from hfsynth.job.check import check as check_folder

    report = check_folder(folder)
    if as_json:
        console.emit_json({**asdict(report), "root": report.out})
    else:
        state = "damaged" if report.damaged else "whole" if report.finished else "whole as far as it is finished"
        last = f"{report.out}: {report.files:,} files; {state}."
        console.emit("\n".join([*report.damaged, *report.screening, last]))
    if report.damaged:
        raise OutputError(f"{report.out} is not whole.", hint=report.repair)


texts.register(app)
evaluate.register(app)
verify.register(app)
work.register(app)
screen.register(app)
publish.register(app)
page.register(app)
tune.register(app)
hf_jobs.register(app)
train.register(app)


def _default_model(engine: str, launcher: str, *, quiet: bool) -> str:
    """Choose a model where none was named, and say so."""
    if launcher == hf_jobs.NAME and engine == "vllm":
        raise ConfigError("The model that jobs are to run must be named.", hint="Use --model with a model on the Hub.")
    if engine == "scripted":
        return "scripted"
    if engine == "server":
        raise ConfigError("A server's model must be named.", hint="Use --model with the name of the model it serves.")
    has_gpu = shutil.which("nvidia-smi") is not None and Path("/dev/nvidia0").exists()
    chosen = PUBLISHED_SYNTHESIZER if has_gpu else "embedded"
    if not quiet:
        console.say(f"No --model given: using {chosen} ({'a' if has_gpu else 'no'} GPU was found).")
    return chosen
