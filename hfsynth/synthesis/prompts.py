"""Prompt recipes by name: the built-in ones, TOML files, and the personas that a file names.

What a file names elsewhere (a built-in prompt, a dataset of personas) is read into the recipe, which then stands for
itself: on the Hub, on the card, in a job that goes on. Knows nothing of models or engines.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.errors import ColumnError, ConfigError
from hfsynth.core.prompt_recipes import Prompt, PromptRecipe
from hfsynth.core.recipes import require_size
from hfsynth.documents.hf_datasets import open_texts

Named = str | Path | PromptRecipe
"""A built-in recipe's name, a TOML file, or a recipe."""

_FOLDER = files("hfsynth.prompting") / "recipes"
_OF_PROMPT = frozenset(own.name for own in fields(Prompt))
_OF_RECIPE = ("name", "language", "personas", "persona_column", "prompts")
_PERSONAS = 200
_PERSONA_LETTERS = 2_000
_PERSONA_COLUMNS = ("persona", "text")


def prompt_names() -> tuple[str, ...]:
    """Return the names of the built-in prompt recipes."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in _FOLDER.iterdir() if path.name.endswith(".toml")))


def with_prompt(config: SynthesizerConfig, prompt: Named | None) -> SynthesizerConfig:
    """Return `config` with a prompt recipe, if one is given, and the format that it needs."""
    return config if prompt is None else replace(config, prompt=open_prompt(prompt), prompt_format="chat")


def require_personas(config: SynthesizerConfig, columns: Iterable[str]) -> None:
    """Raise ColumnError where a prompt recipe takes personas from a column that the source does not have."""
    column = config.prompt.persona_column if config.prompt else None
    if column is not None and column not in columns:
        raise ColumnError.missing(column, columns, hint="The prompt recipe names it as its persona_column.")


def named_in_short(prompt: Mapping[str, Any] | None) -> str:
    """Return the name of a prompt recipe, given as plain values, and what tells it from another of that name."""
    return "none" if prompt is None else f"{prompt.get('name')} ({prompt.get('digest')})"


def open_prompt(prompt: Named) -> PromptRecipe:
    """Return the prompt recipe that a built-in name or a TOML file stands for.

    Raise ConfigError for an unknown name, a file that cannot be read, and one whose recipe cannot be; SourceError and
    ColumnError for personas that cannot be had.
    """
    if isinstance(prompt, PromptRecipe):
        return prompt
    if str(prompt) in prompt_names():
        return PromptRecipe.from_dict({"name": str(prompt), "prompts": [_built_in(str(prompt))]})
    path = Path(prompt)
    if path.suffix != ".toml" and not path.is_file():
        near = get_close_matches(str(prompt), prompt_names(), n=1)
        raise ConfigError(
            f"There is no prompt recipe {str(prompt)!r:.100}" + (f"; did you mean {near[0]}?" if near else "."),
            hint=f"Built in are: {', '.join(prompt_names())}. Or name a TOML file.",
        )
    values = _read(path)
    try:
        return _recipe(values, path.stem)
    except ConfigError as error:
        raise ConfigError(f"The prompt recipe {path}: {error.message}", hint=error.hint) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        require_size(str(path), path.stat().st_size)
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The prompt recipe {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The prompt recipe {path} is no TOML: {str(error)[:300]}") from error


@cache
def _built_in(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8"))


def _recipe(values: Mapping[str, Any], stem: str) -> PromptRecipe:
    """Return the recipe that a file says: several prompts, or the one that its own fields are."""
    listed = values.get("prompts")
    if listed is None:
        own = {name: value for name, value in values.items() if name not in _OF_RECIPE or name == "language"}
        prompts = [_prompt({"name": values.get("name", stem), **own}, {})]
    else:
        _refuse_unknown(values, _OF_RECIPE)
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise ConfigError("prompts must be a list of tables.", hint="Begin each of them with [[prompts]].")
        prompts = [_prompt(one, {n: values[n] for n in ("language",) if n in values}) for one in listed]
    found = {"name": values.get("name", stem), "prompts": prompts, "persona_column": values.get("persona_column")}
    return PromptRecipe.from_dict({**found, "personas": _personas(values.get("personas", []))})


def _prompt(own: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a prompt; those of the built-in one that it names go behind its own."""
    _refuse_unknown(own, (*sorted(_OF_PROMPT), "use"))
    used = own.get("use")
    if used is not None and used not in prompt_names():
        raise ConfigError(
            f"There is no built-in prompt {used!r:.100}.", hint=f"There are: {', '.join(prompt_names())}."
        )
    base = {} if used is None else _built_in(used)
    return {**base, **common, **{name: value for name, value in own.items() if name != "use"}}


def _refuse_unknown(values: Iterable[str], known: tuple[str, ...]) -> None:
    for name in values:
        if name not in known:
            raise ConfigError(f"{name!r:.100} is no setting here.", hint=f"Known are: {', '.join(known)}.")


def _personas(said: object) -> object:
    """Return the personas of a list as they are, and some of a dataset's, taken evenly from all of it."""
    if not isinstance(said, str):
        return said
    ds = open_texts(said)
    column = next((name for name in _PERSONA_COLUMNS if name in ds.column_names), None)
    if column is None:
        raise ColumnError.missing("persona", ds.column_names, where=said)
    chosen = sorted({at * len(ds) // _PERSONAS for at in range(_PERSONAS)} if len(ds) > _PERSONAS else range(len(ds)))
    texts = (str(text or "").strip()[:_PERSONA_LETTERS] for text in ds.select(chosen)[column])
    return list(dict.fromkeys(text for text in texts if text))
