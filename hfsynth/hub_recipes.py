"""Find a recipe by its name: a file on this machine, or the `synthesizer_config.json` of a repo on the Hub.

Knows nothing of what a recipe says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hfsynth.errors import ConfigError, HubError
from hfsynth.hub_errors import LOG_IN, invalid_name
from hfsynth.recipes import read_recipe, require_size
from hfsynth.retrying import reason_of

CONFIG_FILE = "synthesizer_config.json"

_KINDS = ("dataset", "model")
_HUB_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_FILE_ENDINGS = (".yaml", ".yml", ".json")


def open_recipe(name: str) -> dict[str, Any]:
    """Return the fields of a recipe file, or of the published corpus or synthesizer `user/name[@revision]`.

    A file that is there goes first. A corpus folder stands for the recipe in it, and a synthesizer's folder for itself
    as the model of its recipe. Raise ConfigError for a file that
    cannot be read or holds something else, HubError for what cannot be had from the Hub.
    """
    path = Path(name)
    named = _HUB_NAME.fullmatch(name)
    if path.exists() or named is None or name.endswith(_FILE_ENDINGS):
        return {"model": str(path), **read_recipe(path / CONFIG_FILE)} if path.is_dir() else read_recipe(path)
    return hub_recipe(name)


def hub_recipe(name: str, revision: str | None = None) -> dict[str, Any]:
    """Return the recipe that a repo on the Hub was made with, a dataset before a model of the same name.

    `revision` is a branch, a tag or a commit; `user/name@revision` says the same. A synthesizer whose recipe names no
    model is that model itself. Raise HubError where there is no such repo, no recipe in it, or no way to the Hub.
    """
    named = _HUB_NAME.fullmatch(name)
    if named is None:
        raise invalid_name(name)
    if revision and named["revision"] not in (None, revision):
        raise ConfigError(f"{name} names another revision than {revision!r}.", hint="Give the revision once.")
    repo, revision = named["repo"], revision or named["revision"]
    errors: list[HfHubHTTPError | LocalEntryNotFoundError] = []
    for kind in _KINDS:
        unreachable = any(isinstance(error, LocalEntryNotFoundError) for error in errors)  # asked for long enough
        try:
            path = _fetched(repo, kind, revision, cached=unreachable)
        except HFValidationError as error:
            raise invalid_name(repo) from error
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            errors.append(error)
        else:
            itself = {"model": repo, "model_revision": revision} if kind == "model" else {}
            fields = read_recipe(path, published=True)
            return fields if "model" in fields else itself | fields
    raise _explained(repo, revision, errors)


def _fetched(repo: str, kind: str, revision: str | None, *, cached: bool) -> Path:
    """Return the recipe's file, asking for its size first; with `cached` the network is not asked."""
    ask: Any = partial(hf_hub_download, repo, CONFIG_FILE, repo_type=kind, revision=revision, local_files_only=cached)
    require_size(f"of {repo}", ask(dry_run=True).file_size)
    return Path(ask())


def _explained(repo: str, revision: str | None, errors: Sequence[HfHubHTTPError | LocalEntryNotFoundError]) -> HubError:
    """Say why neither a dataset nor a model gave a recipe: what was there before what was not."""
    for kind, error in zip(_KINDS, errors, strict=True):
        match error:
            case LocalEntryNotFoundError():
                return HubError(
                    f"The recipe of {repo} cannot be had: the Hub cannot be reached, and it was not read before.",
                    hint="Check the network and HF_HUB_OFFLINE, or give a recipe file.",
                )
            case EntryNotFoundError():
                return HubError(
                    f"The {kind} {repo} holds no {CONFIG_FILE}{_at(revision)}: it was not published with hfsynth.",
                    hint="Give another repo or revision, or a recipe file.",
                )
            case RevisionNotFoundError():
                return HubError(
                    f"The {kind} {repo} has no revision {revision!r}.", hint="Give a branch, a tag or a commit of it."
                )
            case GatedRepoError():
                return HubError(
                    f"The {kind} {repo} is gated, and this login was not let in.",
                    hint=f"Ask for access on its page. {LOG_IN}",
                )
            case RepositoryNotFoundError():
                continue
            case _:
                return HubError(f"The recipe of {repo} cannot be had: {reason_of(error)}.", hint="Try again later.")
    return HubError(
        f"There is no file, and no dataset or model on the Hub, named {repo}, or this login may not see it.",
        hint=f"Check the name. {LOG_IN}",
    )


def _at(revision: str | None) -> str:
    return f" at {revision}" if revision else ""
