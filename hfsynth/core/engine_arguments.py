"""Which of vLLM's engine arguments change the result, and which only the speed: the table in engine_arguments.yaml.

Knows vLLM's arguments by name alone, and none of the recipe's settings but by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast

import yaml

from hfsynth.core.errors import ConfigError

Kind = Literal["result", "speed", "secret"]


@dataclass(frozen=True, slots=True)
class EngineArgument:
    """One argument. `instead` is the setting that takes its place; `unless` what of a `speed` argument is refused.

    `why` is a clause without a subject of its own, to follow the argument's name.
    """

    name: str
    kind: Kind
    why: str
    instead: str | None = None
    unless: tuple[str, ...] = ()

    def decides_result(self, value: object) -> bool:
        """Say whether this argument, with this value, changes what is written."""
        return self.kind == "result" or self.refused(value) is not None

    def refused(self, value: object) -> str | None:
        """Return the part of the value that changes the result though the argument as such does not, None for none."""
        parts = map(str, value if isinstance(value, Mapping) else [value])
        return next((part for part in parts if _plain(part) in self.unless), None)


@cache
def engine_arguments() -> Mapping[str, EngineArgument]:
    """Return every argument that is known, by name."""
    text = (files("hfsynth.core") / "engine_arguments.yaml").read_text("utf-8")
    rows = [one for group in yaml.safe_load(text) for one in _rows(group)]
    return {one.name: one for one in rows}


def require_speed(name: str, value: object) -> None:
    """Raise ConfigError for what is no argument, is a secret, or changes the result, with this value or with any."""
    known = engine_arguments()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise ConfigError(
            f"{name} is no engine argument of vLLM.",
            hint=f"{meant}The names are those of vLLM's EngineArgs, with underscores.",
        )
    argument = known[name]
    if argument.kind == "secret":
        where = f"{argument.why[0].upper()}{argument.why[1:]}."
        raise ConfigError(f"{name} is no engine argument here, since a job writes its arguments down.", hint=where)
    if not argument.decides_result(value):
        return
    part = argument.refused(value) if argument.kind == "speed" else None
    named = name if part is None else f"{part} in {name}"
    raise ConfigError(
        f"{named} is no engine argument here, since it would change the result: {argument.why}.",
        hint=f"Use --{argument.instead.replace('_', '-')} ({argument.instead}=… in Python) instead."
        if argument.instead
        else "Only what makes the engine faster is an engine argument; what decides the pairs belongs to the recipe.",
    )


def _rows(group: Mapping[str, Any]) -> list[EngineArgument]:
    kind, unless = cast("Kind", group["kind"]), tuple(group.get("unless", ()))
    return [EngineArgument(name, kind, group["why"], group.get("instead"), unless) for name in group["arguments"]]


def _plain(part: str) -> str:
    """Return a key as vLLM reads it: it takes a hyphen for an underscore."""
    return part.replace("-", "_")
