"""The real engine: vLLM in this process, driven request by request.

The only module that imports vLLM. It uses the engine's own `add_request` and `step`, with the CUDA and the CPU build
alike, so that a chain's next shot goes in the moment its last one ends, while its prefix is still in the KV cache.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

import multiprocess

from hfsynth.chains import Chain, Completion, Request
from hfsynth.engine import EngineKey, Generation
from hfsynth.errors import EngineError, ModelError
from hfsynth.model_folders import has_random_weights
from hfsynth.model_tokenizer import ModelTokenizer
from hfsynth.speculation import ARGUMENT as SPECULATIVE
from hfsynth.speculation import Speculation, require_greedy

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

T = TypeVar("T")

_CPU_ARGUMENTS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 32,
    "block_size": 32,  # only whole blocks are found again: of the build's own 128 tokens a shot computes 64 anew
}
_ARGUMENTS: dict[str, Any] = {
    "enable_prefix_caching": True,
    "scheduling_policy": "priority",
    "generation_config": "vllm",
    "disable_log_stats": True,
    "use_tqdm_on_load": False,
}


class VLLMEngine:
    """Drive chains on one vLLM engine. `window` is the model's length in tokens, or the smaller one asked for."""

    def __init__(self, key: EngineKey) -> None:
        self._llm = _load(key)
        _wake_when_it_dies(self._llm.llm_engine.engine_core)
        self._config = key.config
        config = self._llm.llm_engine.vllm_config
        self.window: int = config.model_config.max_model_len
        self.tokenizer = ModelTokenizer(self._llm.get_tokenizer())
        # A few requests more than run at once, so that a slot which falls free is taken in the same step.
        self._capacity: int = config.scheduler_config.max_num_seqs + max(4, config.scheduler_config.max_num_seqs // 8)
        self._served = 0

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        """Yield each chain's result as it ends; see `Engine.run`.

        Raise ConfigError where completions are drawn by an engine that speculates: see `hfsynth.speculation`.
        """
        require_greedy(self._config, generation.sampling)
        waiting = iter(chains)
        under_way: dict[str, Chain[T]] = {}
        try:
            while True:
                while len(under_way) < self._capacity and (chain := next(waiting, None)) is not None:
                    yield from self._advance(under_way, chain, None, generation)
                if not under_way:
                    return
                for output in self._step():
                    if output.finished and (chain := under_way.pop(output.request_id, None)) is not None:
                        yield from self._advance(under_way, chain, _completion(output), generation)
        finally:
            self._abandon(under_way)

    def reset_cache(self) -> None:
        """Forget every cached prefix, so that two measurements do not help each other."""
        self._llm.reset_prefix_cache()

    @property
    def llm(self) -> LLM:
        """vLLM's own object, for what is not offered here; a run that is under way has its engine."""
        return self._llm

    @property
    def settings(self) -> dict[str, int]:
        """What the engine settled on where it was left to choose: sequences at once, and tokens a step."""
        config = self._llm.llm_engine.vllm_config.scheduler_config
        return {"max_num_seqs": config.max_num_seqs, "max_num_batched_tokens": config.max_num_batched_tokens}

    def speculation(self) -> Speculation:
        """Return what was proposed and accepted so far; all zeros unless loaded with `disable_log_stats` false."""
        if not self._llm.llm_engine.log_stats:
            return Speculation(0, 0)
        found = {metric.name: getattr(metric, "value", 0) for metric in self._llm.get_metrics()}
        names = ("vllm:spec_decode_num_draft_tokens", "vllm:spec_decode_num_accepted_tokens")
        proposed, accepted = (int(found.get(name, 0)) for name in names)
        return Speculation(proposed, accepted)

    def close(self) -> None:
        """Shut the engine down, its worker processes too."""
        self._llm.llm_engine.engine_core.shutdown()

    def _advance(
        self, under_way: dict[str, Chain[T]], chain: Chain[T], completion: Completion | None, generation: Generation
    ) -> Iterator[T]:
        """Send a chain its completion; submit its next request, or yield its result."""
        try:
            request = next(chain) if completion is None else chain.send(completion)
            while (refused := self._submit(under_way, chain, request, generation)) is not None:
                request = chain.send(refused)
        except StopIteration as end:
            yield end.value

    def _submit(
        self, under_way: dict[str, Chain[T]], chain: Chain[T], request: Request, generation: Generation
    ) -> Completion | None:
        """Hand a request to the engine; return a completion with the error when the engine refuses it."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        self._served += 1
        name = str(self._served)
        try:
            self._llm.llm_engine.add_request(
                name,
                {"prompt_token_ids": request.token_ids},
                _parameters(request, generation),
                priority=-request.shot,  # lower goes first: shots under way before new chains
            )
        except (VLLMClientError, ValueError, TypeError) as error:
            return Completion("", "error", error=f"{type(error).__name__}: {error}")
        except EngineDeadError as error:
            raise EngineError(f"The engine died: {error}") from error
        under_way[name] = chain
        return None

    def _step(self) -> list[RequestOutput]:
        """Let the engine compute one step; turn its death, whatever its kind, into EngineError."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return cast("list[RequestOutput]", self._llm.llm_engine.step())
        except (EngineDeadError, RuntimeError, MemoryError) as error:
            raise EngineError(f"The engine died: {type(error).__name__}: {error}") from error

    def _abandon(self, under_way: Mapping[str, object]) -> None:
        """Take back what is still under way when a run is given up, so that the next run starts clean."""
        if under_way:
            self._llm.llm_engine.abort_request(list(under_way))


def load_vllm(key: EngineKey) -> VLLMEngine:
    """Load the engine that `key` describes; raise ModelError where vLLM or the model is missing."""
    return VLLMEngine(key)


def _load(key: EngineKey) -> LLM:
    _quiet_environment()
    with warnings.catch_warnings():
        # Deprecations inside vLLM and torch are not the user's to act on.
        warnings.simplefilter("ignore")
        return _loaded(key)


def _loaded(key: EngineKey) -> LLM:
    try:
        from vllm import LLM
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ModelError(
            f"vLLM cannot be imported: {error}.",
            hint='Install it with pip install "hfsynth[vllm]" (CUDA) or pip install "hfsynth[cpu]".',
        ) from error
    except RuntimeError as error:  # an operator that is missing: a torchvision built for another torch
        raise ModelError(
            f"vLLM cannot be imported: {_first_line(error)}.",
            hint="Text models need none of them: pip uninstall -y torchvision torchaudio torchcodec",
        ) from error
    weights = {"load_format": "dummy"} if has_random_weights(key.model) else {}
    arguments = {
        **_ARGUMENTS,
        **(_CPU_ARGUMENTS if current_platform.is_cpu() else {}),
        **key.config.arguments,
        **weights,
    }
    try:
        return LLM(
            model=key.model,
            revision=key.revision,
            tokenizer_revision=key.revision,
            max_model_len=key.window,
            trust_remote_code=key.config.trust_remote_code,
            **arguments,
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"The model {key.model!r} cannot be loaded: {_first_line(error)}",
            hint=_advice(key),
        ) from error


def _advice(key: EngineKey) -> str:
    check = "Check --model and --model-revision, and the --engine-arg values."
    return f"{check} It may be speculation that cannot be had here." if SPECULATIVE in key.config.arguments else check


def _wake_when_it_dies(core: Any) -> None:  # noqa: ANN401
    """Hand the error to whoever waits for an engine in a process of its own, once that process is gone.

    vLLM's synchronous client notices a killed process (for want of memory, say), ends the thread that brings its
    answers, and leaves its caller waiting for them for ever.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    answers, thread = getattr(core, "outputs_queue", None), getattr(core, "output_queue_thread", None)
    if answers is None or thread is None:  # it computes in this process
        return

    def wake() -> None:
        thread.join()
        answers.put(EngineDeadError())

    threading.Thread(target=wake, name="hfsynth-engine-watch", daemon=True).start()


def _quiet_environment() -> None:
    """Set what vLLM reads from the environment when it is imported; what the user has set stays."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # it warns before it has read the variable
    if find_spec("vllm") is None:
        return
    if multiprocess.current_process().daemon or multiprocessing.current_process().daemon:
        # A worker of `map(num_proc=…)`: it may have no children, and would leave them behind as orphans.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if not _has_cuda():
        # One process: an engine process of its own costs 40 s of start-up and brings nothing on a CPU.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
        # N-gram look-up runs in numba, whose OpenMP layer changes how many threads torch uses from then on: on a core
        # of its own, everything after it took five times as long.
        os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _parameters(request: Request, generation: Generation) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling, schema = generation.sampling, generation.json_schema
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        frequency_penalty=sampling.frequency_penalty,
        seed=request.seed if sampling.temperature > 0 else None,
        stop=list(generation.stop),
        structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(output: RequestOutput) -> Completion:
    answer = output.outputs[0]
    return Completion(
        text=answer.text,
        finish_reason=answer.finish_reason or "error",
        output_tokens=len(answer.token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        error=None if answer.finish_reason in ("stop", "length") else f"finish_reason {answer.finish_reason}",
    )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
