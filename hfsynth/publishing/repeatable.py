"""Whether the later steps of a recipe can be taken on another machine: what each one must say, and what it may name.

A recipe is data from somebody else. Pure: takes no step itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hfsynth.core.errors import ConfigError
from hfsynth.core.recipes import trusted_model
from hfsynth.core.steps import ITSELF, Step
from hfsynth.models.adapters import EMBEDDED
from hfsynth.publishing.card_reuse import hub_id

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ALONE = "Take the synthesis alone (--pairs-only), and give the other commands yourself."
_NUMBER, _TEXT, _LIST, _MAPPING = (int, float), (str,), (list, tuple), (Mapping,)
_SETTINGS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "verify": {"judge": _MAPPING, "rubric": _TEXT, "keep": _LIST, "sample": (int,), "seed": (int,)},
    "render": {
        "seed": (int,),
        "styles": _MAPPING,
        "validation": _NUMBER,
        "tokenizer": _TEXT,
        "wordings": _TEXT,
        "pair_spans": (bool,),
    },
    "mix": {
        "seed": (int,),
        "tokenizer": _TEXT,
        "preset": _TEXT,
        "budget_tokens": (int,),
        "ratios": _MAPPING,
        "sources": _MAPPING,
    },
}
"""The settings that each step may have, and their types; None stands for none."""


def require_repeatable(steps: Sequence[Step], engine: str, judge: str | None) -> None:
    """Raise ConfigError where one of the steps cannot be taken on this machine.

    `engine` is the kind that would run the judge, `judge` one that the user has named in the place of the recipe's.
    """
    for step in steps:
        _require_known(step)
        tokenizer = step.settings.get("tokenizer")
        if tokenizer not in (None, EMBEDDED) and not hub_id(str(tokenizer)):
            raise ConfigError(
                f"The recipe's step {step.name} counts with a tokenizer of somebody's machine: {str(tokenizer)[:100]}.",
                hint=_ALONE,
            )
        if step.name == "verify" and judge is None:
            _require_judge(step.settings, engine)
        if step.name == "mix":
            _require_parts(step.settings.get("sources") or {})


def _require_known(step: Step) -> None:
    """Raise ConfigError for a step, or a setting of one, that this version does not know."""
    known = _SETTINGS.get(step.name)
    if known is None:
        raise ConfigError(f"The recipe has a step that cannot be repeated here: {step.name}.", hint=_ALONE)
    for name, value in step.settings.items():
        types = known.get(name, ())
        if value is not None and not (isinstance(value, types) and (types == (bool,) or not isinstance(value, bool))):
            raise ConfigError(
                f"The recipe's step {step.name} has a setting that cannot be: {name}={value!r}"[:300] + ".", hint=_ALONE
            )


def _require_judge(settings: Mapping[str, Any], engine: str) -> None:
    judge = (settings.get("judge") or {}).get("model")
    try:
        if not isinstance(judge, str):
            raise ConfigError("It is not named.")
        trusted_model(judge, engine)
    except ConfigError as error:
        raise ConfigError(
            f"The judge of the recipe's verification cannot be used here. {error.message}",
            hint="Give one yourself, --judge MODEL; or --pairs-only, and verify later.",
        ) from error


def _require_parts(sources: Mapping[str, Any]) -> None:
    """Raise ConfigError for parts that are neither the corpus itself nor a dataset on the Hub."""
    away = [name for name, part in sources.items() if not isinstance(part, Mapping) or not _at_hand(part)]
    if away or not sources:
        named = f": {', '.join(map(str, away))}" if away else ""
        raise ConfigError(f"The recipe's mixture has parts that are not known or not on the Hub{named}.", hint=_ALONE)


def _at_hand(part: Mapping[str, Any]) -> bool:
    source, revision = str(part.get("source") or ""), str(part.get("revision") or "")
    return source == ITSELF or bool(hub_id(source) and _COMMIT.fullmatch(revision))
