"""Hide torchvision and its siblings where they were built for another torch than the one that is installed.

vLLM's CPU build requires all three, and a package index may have them for CUDA alone: `import transformers` then dies
in torchvision. Text models need none of them, so they are made to look as if they were not installed, in this process
and in those that it forks. What fits stays. Decided from what pip wrote down: nothing is imported for it.
"""

from __future__ import annotations

import logging
import re
import sys
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution

SIBLINGS = ("torchvision", "torchaudio", "torchcodec")
_PINNED_TORCH = re.compile(r"torch\s*\(?==\s*([^\s;,)+]+)")

_log = logging.getLogger(__name__)


@cache
def hide_unfit_siblings() -> tuple[str, ...]:
    """Make the siblings that do not fit this torch impossible to import and to find; return their names.

    To be called before transformers or vLLM is imported. One that is loaded already is left alone.
    """
    hidden = tuple(name for name in unfit_siblings() if name not in sys.modules)
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # import and find_spec both take it as absent
    if hidden:
        _log.debug("Hidden, for they were built for another torch: %s", ", ".join(hidden))
    return hidden


def unfit_siblings() -> tuple[str, ...]:
    """Return the installed siblings that were built for another torch."""
    torch = _installed("torch")
    found = {name: _installed(name) for name in SIBLINGS if torch is not None}
    return tuple(name for name, sibling in found.items() if torch and sibling and not _fits(sibling, torch))


def _fits(sibling: Distribution, torch: Distribution) -> bool:
    """Tell whether both are builds for a CPU or neither is, and the one asks for the other's version if for any."""
    version, _, build = torch.version.partition("+")
    if (build == "cpu") is not (sibling.version.partition("+")[2] == "cpu"):
        return False
    pins = (_PINNED_TORCH.match(requirement) for requirement in sibling.requires or ())
    return all(pin is None or pin.group(1) == version for pin in pins)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None
