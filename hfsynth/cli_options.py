"""Options that several commands read in the same way."""

from __future__ import annotations

import json
from typing import Any

from hfsynth.errors import ConfigError


def key_values(pairs: list[str]) -> dict[str, Any]:
    """Read key=value pairs; values are JSON where they can be, else text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ConfigError(f"An engine argument is written key=value, not {pair!r}.")
        try:
            values[key.replace("-", "_")] = json.loads(value)
        except ValueError:
            values[key.replace("-", "_")] = value
    return values
