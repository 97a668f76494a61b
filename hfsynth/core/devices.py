"""Which GPUs and cores this process may use, without loading a library that would take hold of them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hfsynth.core.errors import ConfigError

_claims: dict[int, tuple[str, socket.socket]] = {}


def visible_devices() -> list[str]:
    """Return what to write into CUDA_VISIBLE_DEVICES for each visible GPU; nothing where there is none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [] if named.strip() in ("", "-1") else [name.strip() for name in named.split(",")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    gpus = [line for line in listed.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(gpus))]


def gpus_at_hand() -> list[str]:
    """Return the visible GPUs of a machine that has an NVIDIA driver; nothing on any other, whatever is set there."""
    has_driver = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists() or shutil.which("nvidia-smi") is not None
    return visible_devices() if has_driver else []


def claim_device(devices: Sequence[str], place: int, owner: int) -> str | None:
    """Return a GPU that no other process of `owner` has claimed: the `place`-th, else the next; None for none.

    The claim ends with this process, however that ends. A process keeps the GPU that it has claimed first.
    """
    held = _claims.get(os.getpid())
    if held is not None:
        return held[0]
    for number in range(len(devices)):
        device = devices[(place + number) % len(devices)]
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0hfsynth-gpu-{owner}-{device}")  # a name without a file: nothing is left behind
        except OSError:
            claim.close()
            continue
        _claims[os.getpid()] = device, claim
        return device
    return None


def device_groups(devices: Sequence[str], workers: int | None, each: int) -> list[tuple[str, ...]]:
    """Deal `devices` out to workers, `each` to every one; workers without a GPU get an empty group.

    `workers` is None for as many as there are groups, or one where there is no GPU. Raise ConfigError where there are
    too few GPUs.
    """
    if not devices:
        if each > 1:
            raise ConfigError(f"There is no GPU to make groups of {each} of.", hint="Leave --tensor-parallel out.")
        return [()] * (workers or 1)
    groups = [tuple(devices[start : start + each]) for start in range(0, len(devices) - each + 1, each)]
    if len(groups) < (workers or 1):
        raise ConfigError(
            f"{workers or 1} worker(s) with {each} GPU(s) each need {(workers or 1) * each} GPUs; "
            f"{len(devices)} are visible.",
            hint="Use fewer --workers, a smaller --tensor-parallel, or a larger CUDA_VISIBLE_DEVICES.",
        )
    return groups[:workers]


def usable_cores() -> list[int]:
    """Return the cores that this process may run on; nothing where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def core_groups(cores: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """Deal `cores` out to workers, neighbours together; where there are fewer than workers, some share one."""
    bounds = [number * len(cores) // workers for number in range(workers + 1)]
    return [tuple(cores[first : max(last, first + 1)]) for first, last in pairwise(bounds)]
