"""The steps that made a corpus, as `synthesizer_config.json` records them: what was done in which order, and how.

Pure: the values of that file in. Knows nothing of how a step is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SYNTHESIZE = "synthesize"
LATER = ("screen", "verify", "render", "mix")
"""Steps after the synthesis, in the order in which they are taken; each is a key of `synthesizer_config.json`."""

ITSELF = "."
"""The source of a mixture's part that is the corpus folder itself, into which the mixture is written."""

_APPLIED = ("source", "hfsynth_version", *LATER)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the command that takes it (`synthesize`, `verify`, …) and its settings, as plain values."""

    name: str
    settings: Mapping[str, Any]


def steps_of(config: Mapping[str, Any] | None) -> tuple[Step, ...]:
    """Return the steps that a `synthesizer_config.json` records, in the order in which they were taken.

    A folder that was mixed or brought from elsewhere, and not synthesized, has no step of that name.
    """
    found = config or {}
    recipe = {name: value for name, value in found.items() if name not in _APPLIED}
    made = [Step(SYNTHESIZE, recipe)] if "source" in found else []
    return (*made, *(Step(name, _settings(found[name])) for name in LATER if found.get(name)))


def _settings(told: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """Return a step's settings; a step of several measures, each with its own, lists them."""
    return told if isinstance(told, Mapping) else {"measures": told}
