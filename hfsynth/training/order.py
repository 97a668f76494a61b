"""One order of sums, so that a seed gives the same weights: ask PyTorch for it, find out whether a step can have it.

A GPU adds up in whatever order its threads come, unless it is asked not to. Knows nothing of models, data or trainers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def ordered_sums(*, strict: bool) -> Iterator[None]:
    """Ask PyTorch to add up in the same order every time, and put its settings back afterwards.

    With `strict` an operation that cannot raises RuntimeError; else it goes on without an order, and so does flash
    attention, which takes an order only when it is strictly asked for. Of the fused attentions cuDNN's has none.
    """
    cuda, deterministic = torch.backends.cuda, torch.utils.deterministic
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for; read when it is first used
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    cudnn, filled = cuda.cudnn_sdp_enabled(), deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    cuda.enable_cudnn_sdp(False)
    deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cuda.enable_cudnn_sdp(cudnn)
        deterministic.fill_uninitialized_memory = filled


def has_order(step: Callable[[], object]) -> bool:
    """Run `step`, and tell whether all its operations can add up in one order; other errors are passed on."""
    try:
        with ordered_sums(strict=True):
            step()
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        return False
    return True
