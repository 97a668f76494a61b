"""Keep built models in the user's cache: ordinary model folders, whole as soon as their manifest is there.

A folder is checked against its manifest whenever it is asked for. Knows nothing of where weights come from, of
engines or of prompts.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfsynth.core.errors import ModelError
from hfsynth.core.files import file_digest
from hfsynth.core.phases import phase

if TYPE_CHECKING:
    import torch


RANDOM_WEIGHTS = "hfsynth_random_weights"
"""What a model folder's config.json sets to true when it has no weights: the engine makes some up."""

_MANIFEST = "manifest.json"
_WORKSHOP = ".tmp"
_ABANDONED_AFTER = 3600  # seconds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, as it will be written: its config, its weights by name, its tokenizer."""

    config: Any
    weights: dict[str, torch.Tensor]
    tokenizer: Any


def cache_folder() -> Path:
    """Return where hfsynth keeps what it can build again: `$HFSYNTH_CACHE` or this system's place for caches."""
    if chosen := os.environ.get("HFSYNTH_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "hfsynth" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hfsynth"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hfsynth"


def has_random_weights(model: str) -> bool:
    """Return whether a model is a folder that asks for random weights, to measure the speed of a shape.

    Its config says so, and is part of the folder's digest: what such a model writes is no other model's work.
    """
    try:
        return bool(json.loads((Path(model) / "config.json").read_text("utf-8")).get(RANDOM_WEIGHTS))
    except (OSError, ValueError, AttributeError):
        return False


def built(kind: str, revision: str, load: Callable[[], LoadedModel]) -> Path:
    """Return the cache's folder for a revision of a kind of model; write what `load` returns where it is not whole.

    Writing happens in a folder beside the final one and ends with a rename, so that neither a crash nor a second
    process at the same time leaves half a model. Raise ModelError when the cache cannot be written.
    """
    final = cache_folder() / kind / revision
    if is_built(final):
        return final
    if final.exists():
        _log.warning("The model in %s is damaged and is built again.", final)
    with phase("building the model"):
        model = load()
        return _stored(model, final)


def _stored(model: LoadedModel, final: Path) -> Path:
    with _explained(final.parent):
        store(model, final)
    return final


def store(model: LoadedModel, final: Path) -> None:
    """Write `model` beside `final` and rename it, unless another process was faster."""
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final.parent)
    with tempfile.TemporaryDirectory(suffix=_WORKSHOP, dir=final.parent, ignore_cleanup_errors=True) as workshop:
        fresh = Path(workshop, "fresh")
        fresh.mkdir()
        _write(model, fresh)
        if is_built(final):
            return
        if final.exists():
            os.rename(final, Path(workshop, "damaged"))
        try:
            os.rename(fresh, final)
        except OSError:
            if not is_built(final):
                raise


def _write(model: LoadedModel, folder: Path) -> None:
    """Write weights, config and tokenizer as bf16, which is finer than the base and the adapter; the manifest last."""
    import torch
    from safetensors.torch import save

    weights = {name: weight.to(torch.bfloat16).contiguous() for name, weight in model.weights.items()}
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    model.config.dtype = torch.bfloat16
    model.config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    _seal(folder)


def _seal(folder: Path) -> None:
    """Flush every file to disk, then write the manifest that declares the folder complete."""
    digests = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    files = {name: {"size": size, "sha256": sha256} for name, (sha256, size) in digests.items()}
    manifest = folder / _MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())


def is_built(folder: Path) -> bool:
    """Tell whether `folder` holds exactly the bytes that its manifest lists. Sizes are compared before checksums.

    A process reads a file again only when its size or its time has changed since.
    """
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        found = {name: (folder / name).stat() for name in files}
        return all(found[name].st_size == facts["size"] for name, facts in files.items()) and all(
            _sha256_then(folder / name, found[name].st_size, found[name].st_mtime_ns) == facts["sha256"]
            for name, facts in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@lru_cache(maxsize=64)
def _sha256_then(path: Path, size: int, changed_ns: int) -> str:
    """Return the SHA-256 of a file as it was then."""
    return file_digest(path)[0]


def _sweep(parent: Path) -> None:
    """Remove what builds that were killed have left behind."""
    for leftover in parent.glob(f"*{_WORKSHOP}"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _ABANDONED_AFTER:
                shutil.rmtree(leftover)


@contextmanager
def _explained(parent: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a ModelError that says where and what to do."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"The model cannot be stored in {parent}: {error}",
            hint="Set HFSYNTH_CACHE to a folder that can be written and has room for the model.",
        ) from error
