"""Recipe files: YAML or JSON with the fields of `synthesizer_config.json`, and settings laid over them.

A recipe is data from somebody else: it has a size limit, numbers with bounds, no aliases, and it names no code. Knows
nothing of models or engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from hfsynth.config import SynthesizerConfig, shown
from hfsynth.errors import ConfigError

MOST_BYTES = 1_000_000
_DIGITS = 40
_PATH = re.compile(r"[/\\~.]|[A-Za-z]:[\\/]|.*://|.*(?:^|[\\/])\.\.(?:[\\/]|$)", re.DOTALL)
SCRIPTED = "scripted"
"""The one script that any recipe may name."""

# What a published config says beyond the recipe itself: where it was applied, and by which version.
_RECORDED = ("source", "hfsynth_version", "render", "mix")


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
    try:
        require_size(str(path), path.stat().st_size)
        values = _values(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"The recipe {path} is neither YAML nor JSON: {str(error)[:300]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"The recipe {path} must hold fields and values, as synthesizer_config.json does.")
    fields = {str(name): value for name, value in values.items() if name not in _RECORDED}
    if isinstance(fields.get("model"), str):
        fields["model"] = RecipeModel(fields["model"], published=published)
    return fields


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
    values: dict[str, Any] = {name: dict(v) if isinstance(v, Mapping) else v for name, v in recipe.items()}
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
