"""The real engine: vLLM in this process, driven request by request.

It and `vllm_cpu` alone import vLLM. It uses the engine's own `add_request` and `step`, with the CUDA and the CPU build
alike, so that a chain's next shot goes in the moment its last one ends, while its prefix is still in the KV cache.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hfsynth.core.errors import EngineError, EngineStopped, ModelError
from hfsynth.core.phases import phase
from hfsynth.engine import vllm_cpu
from hfsynth.engine.admission import Admission, outlook
from hfsynth.engine.protocol import Chain, Completion, EngineKey, Generation, Request, drive
from hfsynth.engine.speculation import ARGUMENT, Speculation, in_the_tail, require_greedy
from hfsynth.engine.start import (
    MULTIPROCESSING,
    collecting_nothing,
    guard_advice,
    prepare_process,
    settle_multiprocessing,
    shielding_children,
)
from hfsynth.models.cache import has_random_weights
from hfsynth.models.precision import precision_arguments
from hfsynth.models.tokenizers import ModelTokenizer, thought_parser

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.outputs import CompletionOutput
    from vllm.v1.engine.llm_engine import LLMEngine


T = TypeVar("T")

_log = logging.getLogger(__name__)
_names = count(1)  # of requests: no two of an engine have the same one
_TOLD = 20  # the most likely tokens: an engine that speculates tells of no others

_ARGUMENTS: dict[str, Any] = {
    "enable_prefix_caching": True,
    "scheduling_policy": "priority",
    "generation_config": "vllm",
    "disable_log_stats": False,  # preemptions are counted nowhere else
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
        self._cache_tokens = _cache_tokens(config.cache_config)
        overlaps = config.device_config.device_type == "cpu" or config.scheduler_config.async_scheduling
        if config.speculative_config is not None and not overlaps:
            _log.warning("With this speculation vLLM schedules no step while another is computed; see hfsynth tune.")

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        """Yield each chain's result as it ends; see `Engine.run`.

        Chains of several shots begin only as far as their prompts fit the KV cache: see `hfsynth.engine.admission`.
        Raise ConfigError where completions are drawn by an engine that speculates: see `hfsynth.engine.speculation`.
        """
        require_greedy(self._config, generation.sampling)
        admission = Admission.of(self._cache_tokens, generation.shots)
        yield from drive(chains, _Requests(self._llm.llm_engine, generation, admission, self._capacity))

    def reset_cache(self) -> None:
        """Forget every cached prefix, so that two measurements do not help each other."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            self._llm.reset_prefix_cache()
        except EngineDeadError as error:
            raise _died(error) from error

    @property
    def llm(self) -> LLM:
        """vLLM's own object, for what is not offered here; a run that is under way has its engine."""
        return self._llm

    @property
    def settings(self) -> dict[str, int]:
        """What the engine settled on: sequences at once, tokens a step, and whether it schedules while it computes."""
        config = self._llm.llm_engine.vllm_config.scheduler_config
        return {
            "max_num_seqs": config.max_num_seqs,
            "max_num_batched_tokens": config.max_num_batched_tokens,
            "async_scheduling": int(config.async_scheduling),
        }

    def speculation(self) -> Speculation:
        """Return what was proposed and accepted so far; all zeros where loaded with `disable_log_stats`."""
        found = self._metrics()
        names = ("vllm:spec_decode_num_draft_tokens", "vllm:spec_decode_num_accepted_tokens")
        return Speculation(*(found.get(name, 0) for name in names))

    @property
    def acceptance(self) -> float | None:
        """The share of guessed tokens that was kept; None where none was guessed."""
        return self.speculation().acceptance

    @property
    def preemptions(self) -> int:
        """How often a request was put back for want of cache; 0 where loaded with `disable_log_stats`."""
        return self._metrics().get("vllm:num_preemptions", 0)

    @property
    def tokens_written(self) -> int:
        """How many tokens it has written, of requests under way too; 0 where loaded with `disable_log_stats`."""
        return self._metrics().get("vllm:generation_tokens", 0)

    def _metrics(self) -> dict[str, int]:
        if not self._llm.llm_engine.log_stats:
            return {}
        return {metric.name: int(getattr(metric, "value", 0)) for metric in self._llm.get_metrics()}

    def close(self) -> None:
        """Shut the engine down, its worker processes too."""
        self._llm.llm_engine.engine_core.shutdown()


class _Requests:
    """One run's requests at the engine, and the tokens that each takes now and later, by the engine's name for it."""

    def __init__(self, engine: LLMEngine, generation: Generation, admission: Admission, capacity: int) -> None:
        self.capacity = capacity
        self._llm_engine = engine
        self._speculates = engine.vllm_config.speculative_config is not None
        self._generation = generation
        self._admission = admission
        self._under_way: dict[str, tuple[int, Request, Sequence[int]]] = {}

    def admits(self, request: Request) -> bool:
        """Return whether a chain may begin with this request."""
        return self._admission.admits(self._outlook(request))

    def submit(self, number: int, request: Request) -> Completion | None:
        """Hand a request to the engine; return a completion with the error when the engine refuses it."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        name = str(next(_names))
        try:
            self._llm_engine.add_request(
                name,
                {"prompt_token_ids": request.token_ids},
                _parameters(request, self._generation, speculates=self._speculates),
                priority=-request.shot,  # lower goes first: shots under way before new chains
            )
        except (VLLMClientError, ValueError, TypeError) as error:
            return Completion("", "error", error=f"{type(error).__name__}: {error}")
        except EngineDeadError as error:
            raise _died(error) from error
        tokens = self._outlook(request)
        self._under_way[name] = number, request, tokens
        self._admission.put(tokens)
        return None

    def next_ended(self) -> Iterator[tuple[int, Completion]]:
        """Let the engine compute one step; turn its death, whatever its kind, into EngineError."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            outputs = cast("list[RequestOutput]", self._llm_engine.step())
        except (EngineDeadError, RuntimeError, MemoryError) as error:
            raise _died(error) from error
        for output in outputs:
            if output.finished and output.request_id in self._under_way:
                number, request, tokens = self._under_way.pop(output.request_id)
                self._admission.take(tokens)
                yield number, _completion(output, request.choices)

    def abandon(self) -> None:
        """Take back what is still under way when a run is given up, so that the next run starts clean."""
        if self._under_way:
            self._llm_engine.abort_request(list(self._under_way))

    def _outlook(self, request: Request) -> tuple[int, ...]:
        shots = max(self._generation.shots, request.shot + 1)
        allowance = self._generation.sampling.max_tokens
        return outlook(len(request.token_ids), request.shot, shots=shots, allowance=allowance)


def load_vllm(key: EngineKey) -> VLLMEngine:
    """Load the engine that `key` describes; raise ModelError where vLLM or the model is missing."""
    return VLLMEngine(key)


def _load(key: EngineKey) -> LLM:
    prepare_process(key.config.arguments)
    with warnings.catch_warnings():
        # Deprecations inside vLLM and torch are not the user's to act on.
        warnings.simplefilter("ignore")
        return _loaded(key)


def _loaded(key: EngineKey) -> LLM:
    try:
        with phase("starting vLLM"), collecting_nothing():
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
    settle_multiprocessing(on_cpu=current_platform.is_cpu())
    on_cpu = current_platform.is_cpu()
    weights = {"load_format": "dummy"} if has_random_weights(key.model) else {}
    arguments = {
        **_ARGUMENTS,
        **(vllm_cpu.ARGUMENTS if on_cpu else {}),
        **precision_arguments(key.precision),
        **_thinking_arguments(key),
        **(key.config.arguments if on_cpu else in_the_tail(key.config.arguments)),
        **weights,
    }
    if on_cpu:
        vllm_cpu.look_at_namespaces_alone()
        vllm_cpu.look_at_models_here()
        vllm_cpu.rewind_draws()
    try:
        with phase("loading the model"), ExitStack() as around:
            if os.environ.get(MULTIPROCESSING) != "0":
                around.enter_context(shielding_children())
            if on_cpu:
                around.enter_context(vllm_cpu.taking_memory_as_it_is_used())
            loaded = LLM(
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
    if on_cpu and (arguments.get(ARGUMENT) or {}).get("method") == "ngram":
        vllm_cpu.compile_guessing(loaded)
    return loaded


def _thinking_arguments(key: EngineKey) -> dict[str, Any]:
    """Return what lets a schema hold the answer alone."""
    trust = key.config.trust_remote_code
    return {"reasoning_parser": thought_parser(key.model, key.revision, trust)} if key.thinks else {}


def _advice(key: EngineKey) -> str:
    check = "Check --model and --model-revision, and the --engine-arg values."
    guess = "It may be speculation that cannot be had here." if key.config.arguments.get(ARGUMENT) else ""
    return " ".join(filter(None, (check, guess, guard_advice())))


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
        for call in list(getattr(core, "utility_results", {}).values()):  # whoever waits for more than a step
            if not call.done():
                call.set_exception(EngineDeadError())

    threading.Thread(target=wake, name="hfsynth-engine-watch", daemon=True).start()


def _parameters(request: Request, generation: Generation, *, speculates: bool) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    if request.choices:
        told: dict[str, Any] = {"logprobs": _TOLD} if speculates else {"logprob_token_ids": list(request.choices)}
        return SamplingParams(max_tokens=1, temperature=0.0, output_kind=RequestOutputKind.FINAL_ONLY, **told)
    sampling, schema = generation.sampling, request.json_schema or generation.json_schema
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
        thinking_token_budget=generation.thinking_budget,
        skip_special_tokens=not generation.shows_marks,
    )


def _completion(output: RequestOutput, choices: Sequence[int]) -> Completion:
    """Return what came back; raise EngineStopped where the engine gave the request up, for it was not asked to."""
    answer = output.outputs[0]
    if answer.finish_reason == "abort":
        raise EngineStopped("The engine's process was told to end, and gave up what was in flight.")
    return Completion(
        text=answer.text,
        finish_reason=answer.finish_reason or "error",
        output_tokens=len(answer.token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        error=None if answer.finish_reason in ("stop", "length") else f"finish_reason {answer.finish_reason}",
        logprobs=tuple(_logprob(answer, choice) for choice in choices),
    )


def _logprob(answer: CompletionOutput, choice: int) -> float | None:
    found = answer.logprobs[0].get(choice) if answer.logprobs else None
    return found.logprob if found is not None else None


def _cache_tokens(cache: Any) -> int | None:  # noqa: ANN401
    """Return how many tokens the KV cache holds, None where the engine does not say."""
    if cache.kv_cache_size_tokens is not None:
        return int(cache.kv_cache_size_tokens)
    return cache.num_gpu_blocks * cache.block_size if cache.num_gpu_blocks else None


def _died(error: BaseException) -> EngineError:
    return EngineError(f"The engine died: {type(error).__name__}: {error}")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
