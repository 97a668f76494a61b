"""Metrics for the `evaluate` library: a folder each, named as its metric. `metric_path` says where one lies.

Each is a thin module over pure functions of this package, so that figures are the same wherever they are computed.
"""

from __future__ import annotations

from pathlib import Path

from hfsynth.core.errors import ConfigError

_FOLDER = Path(__file__).parent
METRICS = tuple(sorted(path.parent.name for path in _FOLDER.glob("*/*.py") if path.stem == path.parent.name))


def metric_path(name: str) -> str:
    """Return what `evaluate.load` loads a metric of hfsynth from; no network is needed.

    Raise ConfigError for a name that is none of `METRICS`.
    """
    if name not in METRICS:
        raise ConfigError(f"There is no metric {name!r}.", hint=f"Metrics: {', '.join(METRICS)}.")
    return str(_FOLDER / name)
