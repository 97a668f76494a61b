"""The two published settings for mixing, and how shares are settled. Knows nothing of rows or tokenizers.

From scratch a fifth of the raw texts is converted and the rest stays as it is; for a domain all texts are converted
and mixed with general instructions 1:1 by tokens (Instruction Pre-Training, settings for pre-training).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hfsynth.core.errors import ConfigError
from hfsynth.texts.layouts import Kind

TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Preset:
    """A published setting.

    `shots` is M, the documents of a chain; `converted` the share of the raw documents to synthesize for; `shares` the
    share of each kind in the tokens of the mixture, or None where every part is used whole, once.
    """

    shots: int
    converted: float
    kinds: tuple[Kind, ...]
    shares: Mapping[Kind, float] | None


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "general-pretraining": Preset(shots=2, converted=0.2, kinds=(Kind.AUGMENTED, Kind.RAW), shares=None),
        "domain-adaptive": Preset(
            shots=3,
            converted=1.0,
            kinds=(Kind.AUGMENTED, Kind.GENERAL),
            shares=MappingProxyType({Kind.AUGMENTED: 0.5, Kind.GENERAL: 0.5}),
        ),
    }
)


def preset_named(name: str) -> Preset:
    """Return the preset, or raise ConfigError with the names there are."""
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}.", hint=f"Presets: {', '.join(PRESETS)}.")
    return PRESETS[name]


def shares_of_ratios(names: Sequence[str], ratios: Mapping[str, float] | Sequence[float]) -> list[float]:
    """Return the share of every part; ratios go by name, or by position. They must be positive and sum to 1."""
    given = ratios if isinstance(ratios, Mapping) else dict(zip(names, ratios, strict=False))
    if set(given) != set(names) or len(ratios) != len(names):
        raise ConfigError(
            f"There must be one ratio for each of the parts {', '.join(names)}; got {_shown(ratios)}.",
            hint="Name every part once, or leave the ratios out to use every part whole.",
        )
    shares = [float(given[name]) for name in names]
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise ConfigError(f"Ratios must be above 0; got {_shown(ratios)}.", hint="Leave out a part you do not want.")
    if abs(sum(shares) - 1) > TOLERANCE:
        raise ConfigError(
            f"The ratios must sum to 1; {_shown(ratios)} sum to {sum(shares):g}.",
            hint="Divide each of them by their sum, or give the parts weights, which need not sum to 1.",
        )
    return shares


def shares_of_weights(names: Sequence[str], weights: Sequence[float | None]) -> list[float] | None:
    """Return the share of every part from relative weights, or None where no part has one."""
    if all(weight is None for weight in weights):
        return None
    missing = [name for name, weight in zip(names, weights, strict=True) if weight is None]
    if missing:
        raise ConfigError(f"Some parts have a weight and {', '.join(missing)} has none.", hint="Give all a weight.")
    values = [float(weight) for weight in weights if weight is not None]
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ConfigError(f"Weights must be above 0; got {_shown(values)}.", hint="Leave out a part you do not want.")
    return [value / sum(values) for value in values]


def shares_of_preset(name: str, kinds: Sequence[Kind], weights: Sequence[float | None]) -> list[float] | None:
    """Return the share of every part under a preset, or None where it uses every part whole.

    Parts of one kind divide its share by their weights, equally without. Raises ConfigError where a kind that the
    preset mixes is missing, or one is there that it does not know.
    """
    preset = preset_named(name)
    if set(kinds) != set(preset.kinds):
        raise ConfigError(
            f"The preset {name!r} mixes the kinds {', '.join(preset.kinds)}; the parts are {', '.join(kinds)}.",
            hint="Add or leave out parts, or give ratios instead of the preset.",
        )
    if preset.shares is None:
        return None
    shares = [0.0] * len(kinds)
    for kind, share in preset.shares.items():
        places = [at for at, one in enumerate(kinds) if one is kind]
        within = shares_of_weights([kind] * len(places), [weights[at] for at in places])
        for place, part in zip(places, within or [1 / len(places)] * len(places), strict=True):
            shares[place] = share * part
    return shares


def _shown(ratios: Mapping[str, float] | Sequence[float]) -> str:
    if isinstance(ratios, Mapping):
        return ", ".join(f"{name}={ratio:g}" for name, ratio in ratios.items())
    return ", ".join(f"{ratio:g}" for ratio in ratios)
