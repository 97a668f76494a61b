"""What vLLM's CPU build needs and costs: its arguments, and what it does more slowly than it must.

Each function mends one thing of the build, as it is in the versions that pyproject.toml allows. Where a name is gone,
the build does what it does by itself.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from hfsynth.core.private_names import answer_in_this_process, call_before_sampling

if TYPE_CHECKING:
    import torch
    from vllm import LLM

ARGUMENTS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 32,
    "block_size": 32,  # only whole blocks are found again: of the build's own 128 tokens a shot computes 64 anew
}
_LARGE = 64 * 2**20  # bytes

T = TypeVar("T")
_Named = Mapping[str, Any] | None


def look_at_namespaces_alone() -> None:
    """Let vLLM's CPU build load where llvmlite is: an engine that guesses, loaded before this one, has imported it.

    vLLM asks every object of every module for its `vars`, and llvmlite's library answers with a function of that name.
    """
    from vllm.triton_utils import dispatcher

    def namespace(value: object) -> Mapping[str, object]:
        found = vars(value)
        return found if isinstance(found, Mapping) else {}

    setattr(dispatcher, "vars", namespace)  # noqa: B010 - a name of the module that hides the built-in one


def look_at_models_here() -> None:
    """Let vLLM's CPU build ask a model's class in this process what it can do, once a machine.

    It asks in a Python of its own, to keep CUDA out of this one: that reads all of vLLM again, and finds torchvision,
    which is hidden here where it was built for another torch.
    """
    from vllm.model_executor.models import registry

    answer_in_this_process(registry)


@contextmanager
def taking_memory_as_it_is_used() -> Iterator[None]:
    """Let large tensors of zero bytes come from pages that the system gives, zeroed, when they are first touched.

    The KV cache is one: `torch.zeros` writes all of it, gigabytes, before the first prompt. That was two fifths of the
    time of a load, and memory that a small corpus never uses.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Untouched(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, called: Callable[..., T], kinds: object, given: tuple[Any, ...] = (), named: _Named = None
        ) -> T | torch.Tensor:
            found = _untouched(given, named or {}) if called is torch.zeros else None
            return called(*given, **(named or {})) if found is None else found

    with Untouched():
        yield


def _untouched(given: tuple[Any, ...], named: Mapping[str, Any]) -> torch.Tensor | None:
    """Return the tensor that `torch.zeros(bytes, dtype=torch.int8, device="cpu")` asks for, None for another call."""
    import torch

    if len(given) != 1 or not isinstance(given[0], int) or given[0] < _LARGE or named.keys() != {"dtype", "device"}:
        return None
    if named["dtype"] != torch.int8 or torch.device(named["device"]).type != "cpu":
        return None
    pages = mmap.mmap(-1, given[0], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=torch.int8)  # which keeps them


def rewind_draws() -> None:
    """Let a sampled completion begin with a prompt that is computed in parts.

    What is drawn after each part but the last is thrown away, and vLLM then puts the request's random numbers back by
    four, as CUDA counts them. A generator on a CPU has no such count: the engine died. So the numbers are noted before
    they are drawn, and put back as they were.
    """
    import torch
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    class Rewound(torch.Generator):  # type: ignore[misc]
        """Stands for a request's generator; `before` is its state before the draw that is thrown away."""

        before: torch.Tensor

        def get_offset(self) -> int:
            return 0

        def set_offset(self, offset: int) -> None:
            self.set_state(self.before)

    def note(runner: Any) -> None:  # noqa: ANN401
        generators = runner.input_batch.generators
        for place in [place for place in generators if runner.discard_request_mask.np[place]]:
            if not isinstance(generators[place], Rewound):
                generator = Rewound()
                generator.set_state(generators[place].get_state())
                generators[place] = generator
                runner.requests[runner.input_batch.req_ids[place]].generator = generator
            generators[place].before = generators[place].get_state()

    call_before_sampling(CPUModelRunner, note)


def compile_guessing(loaded: LLM) -> None:
    """Let numba compile vLLM's n-gram look-up while the engine loads, and keep it: every process waited three seconds.

    vLLM means to compile it too, but hands it no request, and numba then has nothing to compile for.
    """
    import numpy as np
    from vllm.v1.spec_decode import ngram_proposer

    with suppress(OSError, RuntimeError):  # a cache that cannot be written
        for found in vars(ngram_proposer).values():
            if hasattr(found, "enable_caching"):
                found.enable_caching()
    config = loaded.llm_engine.vllm_config
    tokens = np.zeros((1, config.model_config.max_model_len), dtype=np.int32)
    ngram_proposer.NgramProposer(config).propose(1, [[0]], np.full(1, 2, dtype=np.int32), tokens)
