"""Whether the later steps of a recipe can be taken on another machine: what each one must say, and what it may name.

A recipe is data from somebody else. Pure: takes no step itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hfsynth.core.decontamination import Decontamination
from hfsynth.core.errors import ConfigError
from hfsynth.core.identifier_models import IdentifierModel
from hfsynth.core.recipes import trusted_model
from hfsynth.core.screening import Screening
from hfsynth.core.steps import ITSELF, Step
from hfsynth.core.store_paths import AnyPath
from hfsynth.core.stores import is_store, store_url
from hfsynth.models.adapters import EMBEDDED
from hfsynth.publishing.card_reuse import hub_id

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ALONE = "Take the synthesis alone (--pairs-only), and give the other commands yourself."
_IN_A_FOLDER = ("screen", "verify")
_MEASURES = ("language", "benchmarks", "identifiers", "duplicates")  # in the order in which one pass takes them
_NUMBER, _TEXT, _LIST, _MAPPING = (int, float), (str,), (list, tuple), (Mapping,)
_SETTINGS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "screen": {"measures": _LIST},
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
        if step.name == "screen":
            screenings(step.settings)
        if step.name == "mix":
            _require_parts(step.settings.get("sources") or {})


def require_place(steps: Sequence[Step], out: str | AnyPath) -> None:
    """Raise ConfigError where one of the steps needs a folder, and `out` is on a store."""
    needing = [step.name for step in steps if step.name in _IN_A_FOLDER]
    if needing and is_store(str(out)):
        raise ConfigError(
            f"The recipe's step {needing[0]} needs a folder, and {store_url(str(out))} is on a store.",
            hint="Give a folder; or take the synthesis alone (--pairs-only), copy the corpus into a folder, and go on.",
        )


def screenings(settings: Mapping[str, Any]) -> list[Screening]:
    """Return the passes of a screening: measures that stand in the order of one pass are taken together.

    Raise ConfigError for a measure, or a setting of one, that this version does not have.
    """
    passes: list[list[Mapping[str, Any]]] = []
    for told in settings.get("measures") or ():
        if not isinstance(told, Mapping) or told.get("measure") not in _MEASURES:
            raise ConfigError(f"The recipe screens for what is not known here: {told!r}"[:300] + ".", hint=_ALONE)
        if not passes or _MEASURES.index(told["measure"]) <= _MEASURES.index(passes[-1][-1]["measure"]):
            passes.append([])
        passes[-1].append(told)
    return [_screening(one) for one in passes]


def _screening(measures: Sequence[Mapping[str, Any]]) -> Screening:
    """Return a pass, and make sure that it is what the recipe says, its constants included."""
    found = {str(told["measure"]): told for told in measures}
    languages = found.get("language", {}).get("languages") or ()
    identifiers = found.get("identifiers", {})
    made = Screening(
        identifiers.get("mode"),
        "duplicates" in found,
        tuple(map(str, languages)) if isinstance(languages, list | tuple) else (),
        _benchmarks(found["benchmarks"]) if "benchmarks" in found else None,
        _model(identifiers) if "model" in identifiers else None,
    )
    if made.measures != [dict(told) for told in measures]:
        raise ConfigError(
            f"The recipe screens in another way than this version: {list(measures)!r}"[:300] + ".", hint=_ALONE
        )
    return made


def _benchmarks(told: Mapping[str, Any]) -> Decontamination:
    """Return the benchmarks of a step; raise ConfigError where they lie in files of somebody's machine."""
    given = {name: value for name, value in told.items() if name not in ("measure", "condition")}
    names = [one.get("name") for one in told.get("benchmarks") or () if isinstance(one, Mapping)]
    found = Decontamination.read({**given, "sources": list(dict.fromkeys(names))})
    if found is None or not found.is_pinned:
        raise ConfigError("The recipe screens for benchmarks in files of somebody's machine.", hint=_ALONE)
    return found


def _model(told: Mapping[str, Any]) -> IdentifierModel:
    """Return the model of a step; raise ConfigError where it is a folder of somebody's machine."""
    name, revision = str(told["model"]), str(told.get("revision"))
    if not hub_id(name) or not _COMMIT.fullmatch(revision):
        raise ConfigError(f"The recipe looks for identifiers with a model of its author's: {name[:100]}.", hint=_ALONE)
    return IdentifierModel(name, revision, tuple(told.get("model_kinds") or ()))


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
