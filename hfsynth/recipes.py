"""Recipe files: YAML or JSON with the fields of `synthesizer_config.json`, and settings laid over them.

Knows nothing of models or engines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hfsynth.config import SynthesizerConfig
from hfsynth.errors import ConfigError

# What a published config says beyond the recipe itself: where it was applied, and by which version.
_RECORDED = ("source", "hfsynth_version", "render", "mix")


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the fields of a recipe file; raise ConfigError where it is missing or holds something else."""
    try:
        values = _values(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"The recipe {path} is neither YAML nor JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"The recipe {path} must hold fields and values, as synthesizer_config.json does.")
    return {str(name): value for name, value in values.items() if name not in _RECORDED}


def _values(text: str) -> Any:  # noqa: ANN401
    """Read JSON as JSON: YAML takes its 1e-05 for a word and stumbles over its tabs."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return yaml.safe_load(text)


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
