"""The commands that describe and publish a folder: `card` and `push`. Parse, one library call, print."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfsynth.cli import console
from hfsynth.cli.options import Json, Quiet, Verbose
from hfsynth.cli.rooms import PUSH, in_rooms
from hfsynth.core.errors import ConfigError

if TYPE_CHECKING:
    from hfsynth.publishing.facts import CardSettings


_NAMED = 10  # files that a line names

Folder = Annotated[
    Path,
    typer.Argument(help="A finished corpus folder, here or s3://…; or a synthesizer's with --type model."),
]
License = Annotated[
    str | None, typer.Option(help="The licence, by the Hub's identifier. [default: what those of the parts give]")
]
SourceLicense = Annotated[str | None, typer.Option(help="The source's licence. [default: as its own card says]")]
ModelLicense = Annotated[str | None, typer.Option(help="The model's licence. [default: as its own card says]")]
LicenseName = Annotated[str | None, typer.Option(help="The name of a licence of `other`.")]
LicenseLink = Annotated[str | None, typer.Option(help="Where a licence of `other` can be read.")]
PartLicense = Annotated[
    list[str] | None, typer.Option(help="The licence of a part of a mixture, part=ID; may be repeated.")
]
Creator = Annotated[str | None, typer.Option(help="Who had it made: a person or an organization.")]
Language = Annotated[list[str] | None, typer.Option(help="A language code; may be repeated. [default: the source's]")]
Title = Annotated[str | None, typer.Option(help="The card's title. [default: the repo's name]")]
Template = Annotated[Path | None, typer.Option(help="A Jinja template in place of the card's own body.")]
Include = Annotated[
    list[str] | None,
    typer.Option(help="A pattern of more files that are published; may be repeated."),
]
AllowSecrets = Annotated[
    list[str] | None,
    typer.Option(help="What looks like a secret and may pass, by its id; may be repeated."),
]
Kind = Annotated[str, typer.Option("--type", help="dataset or model.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(card)
    app.command(cls=in_rooms(PUSH))(push)


def card(
    folder: Folder,
    license: License = None,
    license_name: LicenseName = None,
    license_link: LicenseLink = None,
    source_license: SourceLicense = None,
    model_license: ModelLicense = None,
    part_license: PartLicense = None,
    creator: Creator = None,
    language: Language = None,
    title: Title = None,
    repo: Annotated[str | None, typer.Option(help="The repo the card will be in, for its examples.")] = None,
    card_template: Template = None,
    kind: Kind = "dataset",
    include: Include = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when the card is stale.")] = False,
    verbose: Verbose = 0,
) -> None:
    """Write the card (README.md and plots) of FOLDER from what is in it.

    What you write outside of hfsynth's marks, and metadata of your own, stays when the card is written again.

    Example: hfsynth card corpus/ --license cc-by-4.0 --language en
    """
    from hfsynth.core.stores import any_path
    from hfsynth.publishing.hub import KINDS, completed
    from hfsynth.publishing.prepare import check_folder_card, write_card

    if kind not in KINDS:
        raise ConfigError(f"A card's type is dataset or model, not {kind!r}.", hint="Use --type dataset.")
    settings = _settings(
        (license, license_name, license_link, source_license, model_license),
        part_license,
        language,
        title,
        repo,
        include,
        creator,
    )
    template, root = _template(card_template), any_path(folder)
    if check:
        check_folder_card(root, settings, kind=kind, template=template)
        return console.emit(f"The card of {root} says what is in it.")
    result = write_card(root, completed(root, settings), kind=kind, template=template)
    for note in result.notes:
        console.say(note)
    console.emit(f"{result.path} {'written' if result.changed else 'is up to date'}")
    return None


def push(
    folder: Folder,
    repo: Annotated[str, typer.Argument(help="USER/NAME; created where it is new.")],
    license: License = None,
    license_name: LicenseName = None,
    license_link: LicenseLink = None,
    source_license: SourceLicense = None,
    model_license: ModelLicense = None,
    part_license: PartLicense = None,
    creator: Creator = None,
    language: Language = None,
    title: Title = None,
    card_template: Template = None,
    kind: Kind = "dataset",
    include: Include = None,
    allow_secrets: AllowSecrets = None,
    private: Annotated[bool, typer.Option("--private", help="Create the repo private.")] = False,
    revision: Annotated[str, typer.Option(help="The branch to push to; created where it is new.")] = "main",
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of what another push has published.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Tag the published commit.")] = None,
    message: Annotated[str | None, typer.Option(help="The commit's message.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to go on trying a step that fails or stands.")] = 300.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, send nothing, write nothing.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Publish FOLDER as REPO on the Hub, in one change that readers see whole or not at all.

    Other configs and splits of the repo stay. Give the same command again after an interruption: it goes on where it
    was. The card is brought up to date first.

    Example: hfsynth push corpus/ user/name --license cc-by-4.0
    """
    from hfsynth.publishing.hub import PushOptions, push_folder

    allowed = tuple(allow_secrets or ())
    options = PushOptions(
        kind,
        private,
        revision,
        create_pr,
        tag,
        message,
        timeout,
        template=_template(card_template),
        allow_secrets=allowed,
        replace=replace,
    )
    settings = _settings(
        (license, license_name, license_link, source_license, model_license),
        part_license,
        language,
        title,
        repo,
        include,
        creator,
    )
    if dry_run:
        return console.emit(_dry_run(folder, repo, options, settings))
    silent = quiet or as_json
    with console.progress(quiet=silent, estimate=True) as show:
        on_retry = (lambda reason: None) if silent else console.say
        result = push_folder(folder, repo, options, settings=settings, on_progress=sending(show), on_retry=on_retry)
    if result.left:
        console.say(_left(result.left))
    for one in result.replaced:
        console.say(f"This took the place of {one}.")
    if as_json:
        values = {"repo": result.repo, "url": result.url, "commit": result.commit, "changed": result.changed}
        return console.emit_json(values)
    if not result.changed:
        console.say(f"{repo} holds this already; nothing had to change.")
    return console.emit(result.url)


def _settings(
    licences: tuple[str | None, str | None, str | None, str | None, str | None],
    of_parts: list[str] | None,
    language: list[str] | None,
    title: str | None,
    repo: str | None,
    include: list[str] | None,
    creator: str | None,
) -> CardSettings:
    from hfsynth.publishing.facts import CardSettings

    license, name, link, of_source, of_model = licences
    return CardSettings(
        license,
        name,
        link,
        tuple(language or ()),
        title,
        repo,
        source_license=of_source,
        model_license=of_model,
        include=tuple(include or ()),
        creator=creator,
        part_licenses=_by_part(of_parts or []),
    )


def _by_part(given: list[str]) -> dict[str, str]:
    """Read part=ID options."""
    found = dict(item.partition("=")[::2] for item in given)
    if not all(found) or not all(found.values()):
        raise ConfigError("A part's licence is written part=ID.", hint="Use --part-license raw=odc-by.")
    return found


def _template(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The template {path} cannot be read: {error}.", hint="Check --card-template.") from error


def _left(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"Not published, for they are no part of it (--include PATTERN): {', '.join(paths[:_NAMED])}{more}."


def _dry_run(folder: Path, repo: str, options: Any, settings: CardSettings) -> str:  # noqa: ANN401
    """Return what a push would send: files, sizes, the card's metadata. Asks no network."""
    from hfsynth.core.stores import any_path
    from hfsynth.corpus.readme import as_yaml
    from hfsynth.publishing.prepare import prepare

    allowed = options.allow_secrets
    publication = prepare(
        any_path(folder), repo, options.kind, settings, template=options.template, allowed=allowed, write=False
    )
    lines = [f"{file.size:>15,}  {path}" for path, file in sorted(publication.files.items())]
    lines.append(f"{publication.size:>15,}  bytes in {len(publication.files)} files, and README.md with:")
    if publication.left:
        lines.insert(0, _left(publication.left))
    return "\n".join([*lines, "---", as_yaml(publication.card.metadata) + "---"])


def sending(show: console.Display, clock: Callable[[], float] = time.monotonic) -> Callable[[int, int], None]:
    """Return what tells a display how many bytes were sent, and how fast since it was first told."""
    from hfsynth.corpus.readme import as_size

    first: tuple[float, int] | None = None

    def tell(done: int, total: int) -> None:
        nonlocal first
        now = clock()
        first = first or (now, done)
        seconds = now - first[0]
        speed = f", {as_size(round((done - first[1]) / seconds))}/s" if seconds >= 1 else ""
        show(done, total, f"{as_size(done)} of {as_size(total)} sent{speed}")

    return tell
