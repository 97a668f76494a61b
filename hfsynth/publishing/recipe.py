"""Publish a recipe alone: the `synthesizer_config.json` that `Synthesizer.from_hub` and `--recipe` read, and its card.

It goes into a model repo of its own. Knows nothing of corpora or of the model's weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.decontamination import public_decontamination
from hfsynth.core.errors import ConfigError, HubError
from hfsynth.core.exemplars import public_recipe
from hfsynth.core.identifier_models import public_model
from hfsynth.core.recipes import CONFIG_FILE
from hfsynth.core.remote_calls import explained, invalid_name, no_right, no_token, retrying
from hfsynth.corpus.readme import Card
from hfsynth.publishing.card import recipe_card
from hfsynth.publishing.licences import canonical
from hfsynth.publishing.plan import README, LocalFile, Snapshot, their_card
from hfsynth.publishing.repo import HubRepo, no_bars
from hfsynth.version import __version__

KIND = "model"
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


@dataclass(frozen=True, slots=True)
class RecipePushed:
    """A recipe that is on the Hub: where, at which commit, and whether anything had to change."""

    repo: str
    url: str
    commit: str
    changed: bool


def push_recipe(
    config: SynthesizerConfig,
    repo: str,
    *,
    private: bool = False,
    license: str | None = None,
    tag: str | None = None,
    message: str | None = None,
    timeout: float = 300.0,
) -> RecipePushed:
    """Publish a recipe as one commit of the model repo `user/name`; create the repo where it is new.

    Other files of the repo stay, as do everybody's own words in its card. Raise ConfigError where the recipe's model is
    a folder of this machine, HubError for a repo that holds a model, and for everything the Hub refuses.
    """
    if repo.count("/") != 1:
        raise invalid_name(repo)
    license = canonical(license)[0] if license else None
    if Path(config.model).expanduser().is_dir():
        raise ConfigError(
            f"The recipe's model is a folder of this machine ({Path(config.model).name}): nobody else could run it.",
            hint=f"Publish the model first, hfsynth push {config.model} user/model --type model, and give "
            "hfsynth.Synthesizer that name: Synthesizer('user/model', …).push(…).",
        )
    remote = HubRepo(repo, KIND, timeout=timeout)
    if remote.token is None:
        raise no_token()
    with explained(repo, remote.token), no_bars():
        _open(remote, private=private)
        first = remote.head("main")
        commit = retrying(timeout, lambda reason: None)(_published, remote, config, license, message)
        if tag:
            remote.tag(tag, commit)
    return RecipePushed(repo, remote.url, commit, commit != first)


def _open(remote: HubRepo, *, private: bool) -> None:
    if remote.role() == "read":
        raise no_right(remote.repo)
    visibility = remote.visibility()
    if visibility is not None:
        if private and visibility == "public":
            raise HubError(f"{remote.repo} is there already, and public.", hint="Leave out private=True.")
        return remote.check_write()
    if remote.visibility("dataset"):
        raise HubError(
            f"{remote.repo} is there already, as a dataset; a recipe alone is a model repo of its own.",
            hint="Choose another name. A corpus takes its recipe along when it is pushed.",
        )
    return remote.create(private=private)


def _published(remote: HubRepo, config: SynthesizerConfig, license: str | None, message: str | None) -> str:
    """Make the change where the repo does not have it yet; called again after every failure, it looks anew."""
    now = remote.snapshot("main")
    weights = [path for path in now.tree if any(fnmatchcase(path, pattern) for pattern in _WEIGHTS)]
    if weights:
        raise HubError(
            f"{remote.repo} holds a model ({weights[0]}), whose own recipe is published with it.",
            hint="Choose another name for the recipe.",
        )
    wanted = _files(remote.repo, config, license, now)
    changed = {path: file for path, file in wanted.items() if not file.is_at(now.tree.get(path))}
    if not changed:
        return now.commit
    return remote.commit(changed, [], message=message or "Publish a recipe", revision="main", parent=now.commit)


def _files(repo: str, config: SynthesizerConfig, license: str | None, now: Snapshot) -> Mapping[str, LocalFile]:
    values: dict[str, Any] = {
        **public_decontamination(public_recipe(public_model(config.to_dict()))),
        "hfsynth_version": __version__,
    }
    theirs = their_card(repo, now)
    ours = recipe_card(values, repo, license or theirs.metadata.get("license"))
    kept = {key: value for key, value in theirs.metadata.items() if key not in ours.metadata}
    card = Card({**ours.metadata, **kept}, theirs.content).with_block(ours.blocks[0])
    recipe = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return {CONFIG_FILE: LocalFile.of(recipe.encode()), README: LocalFile.of(card.text().encode())}
