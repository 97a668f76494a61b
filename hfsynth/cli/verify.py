"""The command that has a model judge every pair of a corpus: `verify`. Parse, one library call, print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hfsynth.cli import console
from hfsynth.cli.options import EngineArgs, Grace, Json, Quiet, TrustRemoteCode, Verbose, Window, key_values
from hfsynth.cli.rooms import VERIFY, in_rooms
from hfsynth.core.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=in_rooms(VERIFY))(verify)


def verify(
    corpus: Annotated[Path, typer.Argument(help="A finished corpus folder.")],
    judge: Annotated[str, typer.Option(help="The chat model that judges: a Hub model, a folder, or `embedded`.")],
    keep: Annotated[
        list[str] | None,
        typer.Option(help='A condition on pairs, "accuracy>=0.5"; may be repeated. Others are kept aside, counted.'),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Judge so many documents, drawn, and keep all pairs. [default: all]")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Gold data to try the judge on: contexts with pairs that people wrote.")
    ] = None,
    judge_revision: Annotated[str | None, typer.Option(help="The judge's revision on the Hub.")] = None,
    window: Window = None,
    seed: Annotated[int, typer.Option(help="Which documents are drawn.")] = 0,
    engine: Annotated[str | None, typer.Option(help="vllm, server or scripted. [default: vllm]")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server, such as http://host:8000/v1; implies server.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests to the server at once. [default: 64]")
    ] = None,
    engine_arg: EngineArgs = None,
    trust_remote_code: TrustRemoteCode = False,
    max_engine_restarts: Annotated[
        int, typer.Option(min=0, help="Deaths of the engine in a row to outlive; for each worker.")
    ] = 3,
    shard_rows: Annotated[int, typer.Option(min=1, help="Rows a shard.")] = 4096,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes; 0 works in this one. [default: one per visible GPU, 1 on a CPU]"),
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs a worker spreads its model over.")] = 1,
    launcher: Annotated[str, typer.Option(help="Where workers run: local or ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="The Ray cluster. [default: found or started]")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="GPUs that Ray reserves for a worker. [default: --tensor-parallel]")
    ] = None,
    grace: Grace = 30.0,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Have a chat model judge every pair of CORPUS: is it about the document, is the response right?

    Both are scores from 0 to 1, in the column `verdicts`. With --keep, pairs that do not meet a condition are taken
    out, with a reason, and the folder is replaced as one change. Give the same command again after an interruption.

    Example: hfsynth verify corpus/ --judge Qwen/Qwen3-4B --keep "accuracy>=0.5"
    """
    from hfsynth.cli import launchers
    from hfsynth.core.config import EngineConfig
    from hfsynth.job.verify import verify as verify_corpus

    if launcher in (*launchers.PRINTED, "hf-jobs"):
        raise ConfigError(f"verify does not run by {launcher}.", hint="Give the command in a script of your own.")
    kind = engine or ("server" if base_url else "vllm")
    server = {"base_url": base_url, "concurrency": concurrency}
    arguments = key_values(engine_arg or []) | {name: value for name, value in server.items() if value is not None}
    wanted = launchers.Wanted(launcher, workers, tensor_parallel, address, gpus_per_worker, kind)
    with launchers.interruptible(), console.job_progress(quiet=quiet or as_json) as display:
        result = verify_corpus(
            corpus,
            judge,
            judge_revision=judge_revision,
            keep=keep or (),
            sample=sample,
            calibrate=calibrate,
            seed=seed,
            window=window,
            engine=EngineConfig(kind, arguments, trust_remote_code),
            shard_rows=shard_rows,
            launcher=launchers.launcher_for(wanted),
            max_engine_restarts=max_engine_restarts,
            grace=grace,
            on_progress=display,
        )
    told = result.stats["verify"]
    if as_json:
        return console.emit_json({"out": str(result.root), "worked": result.worked, "verify": told})
    first = [] if result.worked else ["This corpus was verified so before; nothing was left to do."]
    return console.emit("\n".join([*first, *report(told, result.root)]))


def report(told: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Yield the lines that say what came of a verification."""
    yield f"{told['judged']:,} of {told['pairs']:,} pairs judged by {told['judge']['model']}."
    if told["judged"]:
        yield f"about the document: {told['relevance']:.1%}; with a right response: {told['accuracy']:.1%}"
    for reason, number in told["unjudged"].items():
        yield f"without a verdict, {reason.replace('_', ' ')}: {number:,}"
    if told["keep"]:
        out = ", ".join(f"{number:,} {reason}" for reason, number in told["rejected"].items()) or "none"
        yield f"{told['kept']:,} pairs kept; taken out: {out}"
    yield f"{told['computed_tokens']:,} tokens computed, {told['cached_tokens']:,} found in the prefix cache"
    for name in ("relevance", "accuracy"):
        if told["calibration"] and (area := told["calibration"][name]["auroc"]) is not None:
            yield f"on gold pairs, AUROC of {name}: {area:.2f} (0.5 is guessing)"
    if told.get("texts_removed"):
        yield f"The texts were made of pairs that are out. Make them again: hfsynth render {root}"
