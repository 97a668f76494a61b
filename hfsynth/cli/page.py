"""The command that opens the page: `page`. Parse, one library call, print."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from hfsynth.cli import console
from hfsynth.cli.options import EngineArgs, Quiet, Verbose, key_values
from hfsynth.core.errors import ConfigError

Location = Annotated[
    list[str] | None, typer.Option(help="A part of the mixtures that the page plans; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(page)


def page(
    corpus: Annotated[
        str | None,
        typer.Argument(
            help="A corpus folder, finished or being filled, an object store's address, or USER/NAME on the Hub."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="What is tried: a Hub model, a folder, `embedded` or `mined`.")
    ] = "embedded",
    engine: Annotated[
        str | None, typer.Option(help="vllm, server, or scripted to try the page without a model. [default: vllm]")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server that runs the model; implies server.")
    ] = None,
    engine_arg: EngineArgs = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="[default: the first free one from 7860]")] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than yourself can reach most.")
    ] = "127.0.0.1",
    tokenizer: Annotated[str, typer.Option(help="The tokenizer that mixtures are counted with.")] = "embedded",
    augmented: Location = None,
    raw: Location = None,
    general: Location = None,
    push: Annotated[
        str | None, typer.Option(help="Publish the page of USER/NAME as the Space USER/SPACE instead of showing it.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create the Space private.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Look at a CORPUS in the browser, try a model on a document, plan a mixture.

    The page is for you alone unless --host names another address than this machine's own. It reads the corpus and the
    parts that are named here, and no other file.

    Example: hfsynth page corpus/ --model embedded
    """
    if push is not None:
        return _push(corpus, push, model, private=private)
    from hfsynth.page.settings import LOOPBACK
    from hfsynth.page.start import build_page

    if not quiet:
        console.say("Loading the page, which takes some seconds…")
    engine = engine or ("server" if base_url else "vllm")
    chosen = "scripted" if engine == "scripted" and model == "embedded" else model
    arguments = key_values(engine_arg or []) | ({"base_url": base_url} if base_url else {})
    parts = {"augmented": augmented or [], "raw": raw or [], "general": general or []}
    built = build_page(corpus, model=chosen, engine=engine, engine_args=arguments, parts=parts, tokenizer=tokenizer)
    if host not in LOOPBACK and not quiet:
        console.say(
            f"Everybody who reaches {host} can read this corpus and use the model: there is no password. "
            "Leave --host out to be alone."
        )
    try:
        address = built.launch(host=host, port=port, wait=False)
    except OSError as error:
        raise ConfigError(
            f"The page cannot listen on {host}: {error}", hint="Choose another --port or --host."
        ) from error
    with suppress(KeyboardInterrupt):  # also one that comes before it waits
        if not quiet:
            console.say("Ctrl-C closes the page.")
        console.emit(address)
        return built.wait()
    return built.close()


def _push(corpus: str | None, repo: str, model: str, *, private: bool) -> None:
    from hfsynth.page.space import publish_page

    if corpus is None:
        raise ConfigError(
            "A Space shows a corpus, and none was named.", hint="hfsynth page USER/NAME --push USER/SPACE"
        )
    pushed = publish_page(corpus, repo, model=model, private=private)
    if not pushed.changed:
        console.say(f"{repo} holds this already; nothing had to change.")
    console.emit(pushed.url)
