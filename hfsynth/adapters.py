"""LoRA adapters as models: merge one into its base once, keep the result in the cache, and give its folder.

What `hfsynth train` writes and what PEFT saves is an adapter folder; every engine can load the merged one. Knows
nothing of engines or of training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hfsynth.config import digest
from hfsynth.embedded import BASE_NAME, base_revision, load_base
from hfsynth.errors import ModelError
from hfsynth.model_folders import LoadedModel, built, merge_lora, sha256_of
from hfsynth.siblings import hide_unfit_siblings

SETTINGS = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_BUILD_VERSION = 1
_UNKNOWN = ("use_dora", "use_rslora", "alpha_pattern", "rank_pattern", "modules_to_save", "fan_in_fan_out")


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter and no whole model."""
    return (folder / SETTINGS).is_file() and not (folder / "config.json").is_file()


def merged_path(folder: Path) -> Path:
    """Return the folder, in the cache, of the adapter's base with the adapter merged in; build it where it is missing.

    The tokenizer is the adapter's own where it has one. Raise ModelError for an adapter that is more than plain LoRA,
    one whose files are missing, and for a base that cannot be loaded.
    """
    settings = _settings(folder)
    base = str(settings.get("base_model_name_or_path") or "")
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}
    pinned = base_revision() if base == BASE_NAME else [base, settings.get("revision")]
    revision = digest({"adapter": files, "base": pinned, "build": _BUILD_VERSION})
    return built("adapters", revision, lambda: _merged(folder, settings, base))


def _settings(folder: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / SETTINGS} cannot be read: {error}") from error
    more = [name for name in _UNKNOWN if settings.get(name)]
    if settings.get("peft_type") != "LORA" or more or settings.get("bias", "none") != "none":
        raise ModelError(
            f"The adapter in {folder} is more than plain LoRA ({', '.join(more) or settings.get('peft_type')}).",
            hint="Merge it with PEFT's merge_and_unload, save the whole model, and give that folder as --model.",
        )
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(f"The adapter in {folder} has no {_WEIGHTS}.")
    return dict(settings)


def _merged(folder: Path, settings: Mapping[str, Any], base: str) -> LoadedModel:
    hide_unfit_siblings()
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    model = load_base() if base == BASE_NAME else _load(folder, base, settings.get("revision"))
    weights = merge_lora(model.weights, load_file(folder / _WEIGHTS), settings["lora_alpha"] / settings["r"])
    own = (folder / "tokenizer_config.json").is_file()
    return replace(model, weights=weights, tokenizer=AutoTokenizer.from_pretrained(folder) if own else model.tokenizer)


def _load(folder: Path, base: str, revision: str | None) -> LoadedModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(base, revision=revision, dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(base, revision=revision)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The adapter in {folder} belongs to the base model {base!r}, which cannot be loaded: "
            f"{str(error).splitlines()[0]}",
            hint=f"Put the base where {folder / SETTINGS} says it is, or change `base_model_name_or_path` there.",
        ) from error
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {name: weight for name, weight in model.state_dict().items() if name not in tied}
    model.config.architectures = [type(model).__name__]
    return LoadedModel(model.config, weights, tokenizer)
