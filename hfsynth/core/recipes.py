"""Recipes: YAML or JSON with the fields of `synthesizer_config.json`, and settings laid over them.

A recipe is data from somebody else: it has a size limit, numbers with bounds, no aliases, and it names no code. It is a
file of this machine, or the one of a repo on the Hub. Knows nothing of models or engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml
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

from hfsynth.core.config import SynthesizerConfig, as_written, shown
from hfsynth.core.decontamination import Decontamination
from hfsynth.core.errors import ConfigError, HubError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.identifier_models import IdentifierModel
from hfsynth.core.remote_calls import LOG_IN, invalid_name, reason_of
from hfsynth.core.steps import LATER, SYNTHESIZE, Step, steps_of
from hfsynth.core.thinking import OFF, TEMPLATE

MOST_BYTES = 1_000_000
_DIGITS = 40
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_PATH = re.compile(r"[/\\~.]|[A-Za-z]:[\\/]|.*://|.*(?:^|[\\/])\.\.(?:[\\/]|$)", re.DOTALL)
SCRIPTED = "scripted"
"""The one script that any recipe may name."""

# What a published config says beyond the recipe itself: where it was applied, and by which version.
_RECORDED = ("source", "hfsynth_version", *LATER)


class RecipeModel(str):
    """A model as a recipe names it. `published` is true for a recipe from the Hub; see `trusted_model`."""

    published: bool

    def __new__(cls, name: str, *, published: bool) -> Self:
        made = super().__new__(cls, name)
        made.published = published
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _recipe_model, (str(self), self.published)


def _recipe_model(name: str, published: bool) -> RecipeModel:
    return RecipeModel(name, published=published)


def trusted_model(model: str, engine: str) -> str:
    """Return a model's name as plain text; raise ConfigError where a recipe alone would decide what runs or is read.

    With the scripted engine a model is a function to import, which only the user can name; a recipe from the Hub names
    no file of this machine either. What the user gave herself is no `RecipeModel`, and is taken as it is.
    """
    if not isinstance(model, RecipeModel):
        return model
    if engine == "scripted" and model != SCRIPTED:
        raise ConfigError(
            f"A recipe cannot choose the script {shown(model)}: a script is code that runs on this machine.",
            hint="Give it yourself, --model module:function (model=… in Python), or --model scripted for the built-in.",
        )
    if model.published and _is_path(model):
        raise ConfigError(
            f"The published recipe names a file of somebody's machine as its model: {shown(model)}.",
            hint="Give the model yourself: --model (model=… in Python).",
        )
    return str(model)


def _is_path(name: str) -> bool:
    return _PATH.match(name) is not None


def read_recipe(path: Path, *, published: bool = False) -> dict[str, Any]:
    """Return the fields of a recipe file; raise ConfigError where it is missing, too large or holds something else.

    `published` says that it is from the Hub.
    """
    values = _content(path)
    fields = {str(name): value for name, value in values.items() if name not in _RECORDED}
    if isinstance(fields.get("model"), str):
        fields["model"] = RecipeModel(fields["model"], published=published)
    if published:
        _require_at_hand(fields.get("exemplars"))
        _require_benchmarks_at_hand(fields.get("decontaminate"))
        _require_model_at_hand(fields.get("pii_model"))
    return fields


def _content(path: Path) -> dict[Any, Any]:
    """Return everything that a recipe file says; see `read_recipe` for what it raises."""
    try:
        require_size(str(path), path.stat().st_size)
        values = _values(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"The recipe {path} is neither YAML nor JSON: {str(error)[:300]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"The recipe {path} must hold fields and values, as synthesizer_config.json does.")
    return values


def _require_at_hand(exemplars: object) -> None:
    """Raise ConfigError where a published recipe would have exemplars read from a file of this machine."""
    found = Exemplars.read(exemplars)
    if found is not None and not (found.chosen or found.are_on_hub):
        raise ConfigError(
            f"The published recipe names a file of somebody's machine for its exemplars: {shown(found.source)}.",
            hint="Give exemplars yourself: --exemplars (exemplars=… in Python).",
        )


def _require_benchmarks_at_hand(decontaminate: object) -> None:
    """Raise ConfigError where a published recipe would have benchmarks read from files of this machine."""
    found = Decontamination.read(decontaminate)
    if found is not None and not found.is_pinned:
        raise ConfigError(
            f"The published recipe looks for benchmarks in files of somebody's machine: {shown(list(found.sources))}.",
            hint="Name benchmarks yourself: --decontaminate (decontaminate=… in Python).",
        )


def _require_model_at_hand(pii_model: object) -> None:
    """Raise ConfigError where a published recipe would have names told by a model in a folder of this machine."""
    found = IdentifierModel.read(pii_model)
    if found is not None and (_is_path(found.name) or _HUB_NAME.fullmatch(found.name) is None):
        raise ConfigError(
            f"The published recipe has names told by a model of somebody's machine: {shown(found.name)}.",
            hint="Name a model yourself: --pii-model (pii_model=… in Python).",
        )


def require_size(name: str, size: int) -> None:
    """Raise ConfigError for a recipe that is larger than any recipe is."""
    if size > MOST_BYTES:
        raise ConfigError(
            f"The recipe {name} has {size:,} bytes; a recipe has at most {MOST_BYTES:,}.",
            hint="Check that it is a recipe: the synthesizer_config.json of a corpus.",
        )


class _Loader(yaml.SafeLoader):
    """Reads plain values only: no alias, of which a few lines stand for billions, and no endless number."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Read a whole number; one of many digits takes minutes."""
        if len(node.value) > _DIGITS:
            raise yaml.YAMLError(f"a whole number of {len(node.value):,} digits")
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _values(text: str) -> Any:  # noqa: ANN401
    """Read JSON as JSON: YAML takes its 1e-05 for a word and stumbles over its tabs."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def config_from(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> SynthesizerConfig:
    """Lay `settings` over a recipe's fields and build the config; None means that a setting was not given.

    A setting named `part.field` goes into that part: `sampling.max_tokens`. A model given over a recipe's drops the
    recipe's revision, which belongs to the other model.
    """
    written = as_written(recipe).items()
    values: dict[str, Any] = {name: dict(v) if isinstance(v, Mapping) else v for name, v in written}
    if settings.get("model") not in (None, values.get("model")):
        values.pop("model_revision", None)
    for name, value in settings.items():
        part, _, field = name.partition(".")
        if value is None:
            continue
        if field:
            inner = values.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{part} must be a mapping of settings, not {inner!r}.")
            inner[field] = value
        else:
            values[name] = value
    return SynthesizerConfig.from_dict(values)


def as_begun(config: SynthesizerConfig, begun: Mapping[str, Any], *, precision_asked: bool) -> SynthesizerConfig:
    """Return `config` as a job goes on with it that was begun as `begun` says, perhaps by an earlier version.

    Where no precision was asked for, it is the one that the job was begun with. A job from before there were precisions
    stays without: its engine computes as it did; so does one from before there was `thinking`: its template goes on to
    decide. One of an earlier format version, which is never asked for, shows documents to the model as before.
    """
    changes: dict[str, Any] = {}
    if begun.get("format_version") in range(1, config.format_version):
        changes["format_version"] = begun["format_version"]
    if config.prompt_format == "chat" and config.thinking == OFF and "thinking" not in begun:
        changes["thinking"] = TEMPLATE
    if not precision_asked:
        changes["precision"] = begun.get("precision", "auto")
    return replace(config, **changes)


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
    if not _is_file(name):
        return hub_recipe(name)
    return {"model": str(path), **read_recipe(path / CONFIG_FILE)} if path.is_dir() else read_recipe(path)


def recipe_steps(name: str) -> tuple[Step, ...]:
    """Return the steps that were taken after the synthesis, as the recipe that `open_recipe` opens records them.

    They are `screen`, `verify`, `render` and `mix`, in this order, each with its settings; a recipe that somebody wrote
    has none. `hfsynth.repeat_steps` takes them again. Raise what `open_recipe` raises.
    """
    path = Path(name)
    published = not _is_file(name)
    file = _hub_file(name, None)[0] if published else path / CONFIG_FILE if path.is_dir() else path
    found = steps_of({str(key): value for key, value in _content(file).items()})
    return tuple(_with_judge(step, published=published) for step in found if step.name != SYNTHESIZE)


def _with_judge(step: Step, *, published: bool) -> Step:
    """Mark the judge of a verification as named by a recipe, as its model is; see `trusted_model`."""
    judge = step.settings.get("judge")
    if not isinstance(judge, Mapping) or not isinstance(judge.get("model"), str):
        return step
    named = {**judge, "model": RecipeModel(judge["model"], published=published)}
    return Step(step.name, {**step.settings, "judge": named})


def _is_file(name: str) -> bool:
    """Say whether a recipe's name is that of a file or folder of this machine."""
    return Path(name).exists() or _HUB_NAME.fullmatch(name) is None or name.endswith(_FILE_ENDINGS)


def hub_recipe(name: str, revision: str | None = None) -> dict[str, Any]:
    """Return the recipe that a repo on the Hub was made with, a dataset before a model of the same name.

    `revision` is a branch, a tag or a commit; `user/name@revision` says the same. A synthesizer whose recipe names no
    model is that model itself. Raise HubError where there is no such repo, no recipe in it, or no way to the Hub.
    """
    path, itself = _hub_file(name, revision)
    fields = read_recipe(path, published=True)
    return fields if "model" in fields else itself | fields


def _hub_file(name: str, revision: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the file of a repo's recipe, and what names the repo itself as a model where it is one."""
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
            return path, {"model": repo, "model_revision": revision} if kind == "model" else {}
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
