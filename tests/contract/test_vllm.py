"""The contract with vLLM: every name, parameter, attribute, variable and error of it that hfsynth uses, in one table.

The table is checked by reading vLLM's source. `make test` reads the build that is installed; `make contract` reads the
newest CUDA wheel that pyproject.toml allows, for which neither a GPU nor any of its requirements is needed. The second
half of this file checks the table itself: that hfsynth uses nothing which is not in it, and that each row can fail.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from vllm_source import NotThere, VLLMSource

import hfsynth
from hfsynth.core.engine_arguments import engine_arguments
from hfsynth.engine.speculation import speculative_config

PACKAGE = Path(hfsynth.__file__).parent
BENCHMARKS = PACKAGE.parent / "benchmarks"


@dataclass(frozen=True)
class Row:
    """`name` can be imported from `module`. What else is wanted of it, in `has`, is its subclasses' to say."""

    module: str
    name: str
    has: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.has.split())

    def broken(self, source: VLLMSource) -> str | None:
        source.find(self.module, self.name)
        return None


@dataclass(frozen=True)
class Call(Row):
    """Takes what `has` says by position, in this order, and `by_name` by name, and wants nothing else."""

    by_name: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.has.split(), *self.by_name.split())

    def broken(self, source: VLLMSource) -> str | None:
        by_position = tuple(self.has.split())
        return source.signature(self.module, self.name).refusal(by_position, tuple(self.by_name.split()))


class Members(Row):
    """An object of this class has these attributes and methods."""

    def broken(self, source: VLLMSource) -> str | None:
        return _wanting(self.words, source.members(self.module, self.name))


class Error(Row):
    """Descends from these, and can be raised without arguments."""

    def broken(self, source: VLLMSource) -> str | None:
        refused = source.signature(self.module, self.name).refusal((), ())
        return _wanting(self.words, source.bases(self.module, self.name)) or refused


class Listed(Row):
    """These values stand in the tuple or list of this name."""

    def broken(self, source: VLLMSource) -> str | None:
        found = source.value(self.module, self.name)
        return _wanting(self.words, set(found) if isinstance(found, (tuple, list)) else set())


class Says(Row):
    """The module of this name has these texts in its code: values that are taken, metrics, variables that it sets."""

    def broken(self, source: VLLMSource) -> str | None:
        return _wanting(self.words, source.texts(f"{self.module}.{self.name}"))


@dataclass(frozen=True)
class Variable(Row):
    """An environment variable that vLLM reads, with the default that hfsynth counts on."""

    default: object = None

    def broken(self, source: VLLMSource) -> str | None:
        found = source.value(self.module, self.name)
        if self.name not in source.texts(self.module):
            return "is not read"
        return None if found == self.default else f"is {found!r} by default, not {self.default!r}"


def _wanting(wanted: tuple[str, ...], found: set[str]) -> str | None:
    missing = [one for one in wanted if one not in found]
    return f"lacks {', '.join(missing)}" if missing else None


_CORE = "vllm.v1.engine.core_client"
_SERVED = "vllm.entrypoints.openai.completion.protocol"
_SERVING = "vllm.entrypoints.serve.engine.protocol"

TABLE = (
    # Loading. What is no parameter of LLM goes on to EngineArgs.
    Call("vllm", "LLM", by_name="model"),
    Members(
        "vllm.engine.arg_utils",
        "EngineArgs",
        "model revision tokenizer_revision trust_remote_code max_model_len dtype quantization kv_cache_dtype "
        "load_format enforce_eager max_num_seqs max_num_batched_tokens block_size num_gpu_blocks_override "
        "enable_prefix_caching scheduling_policy async_scheduling generation_config disable_log_stats "
        "use_tqdm_on_load speculative_config tensor_parallel_size gpu_memory_utilization performance_mode watermark",
    ),
    Says("vllm.config", "scheduler", "priority"),
    Says("vllm.config", "model", "auto bfloat16 float16 float32"),
    Says("vllm.config", "cache", "auto fp8"),
    Says("vllm.config", "speculative", "ngram"),
    Says("vllm.model_executor.layers", "quantization", "fp8"),
    Says("vllm.model_executor", "model_loader", "dummy"),
    Members(
        "vllm.config.speculative",
        "SpeculativeConfig",
        "method num_speculative_tokens prompt_lookup_min prompt_lookup_max num_speculative_tokens_per_batch_size",
    ),
    Row("vllm.platforms", "current_platform"),
    Call("vllm.platforms.interface", "Platform.is_cpu"),
    # What the environment says.
    Variable("vllm.envs", "VLLM_ENABLE_V1_MULTIPROCESSING", default=True),
    Variable("vllm.envs", "VLLM_WORKER_MULTIPROC_METHOD", default="fork"),
    Variable("vllm.envs", "VLLM_BATCH_INVARIANT", default=False),
    Variable("vllm.envs", "VLLM_NO_USAGE_STATS", default=False),
    Variable("vllm.envs", "VLLM_LOGGING_LEVEL", default="INFO"),
    Variable("vllm.envs", "VLLM_CPU_KVCACHE_SPACE", default=0),
    Says("vllm", "env_override", "PYTORCH_NVML_BASED_CUDA_CHECK"),
    # The engine in this process, and the settings that it ended up with.
    Members("vllm", "LLM", "llm_engine"),
    Call("vllm", "LLM.get_tokenizer"),
    Call("vllm", "LLM.get_metrics"),
    Call("vllm", "LLM.reset_prefix_cache"),
    Call("vllm", "LLM.generate", "prompts sampling_params", "use_tqdm"),
    Members("vllm.v1.engine.llm_engine", "LLMEngine", "engine_core vllm_config log_stats"),
    Call("vllm.v1.engine.llm_engine", "LLMEngine.add_request", "request_id prompt params", "priority"),
    Call("vllm.v1.engine.llm_engine", "LLMEngine.step"),
    Call("vllm.v1.engine.llm_engine", "LLMEngine.abort_request", "request_ids"),
    Members("vllm.inputs", "TokensPrompt", "prompt_token_ids"),
    Members("vllm.config", "VllmConfig", "model_config cache_config scheduler_config speculative_config"),
    Members("vllm.config", "ModelConfig", "max_model_len dtype quantization"),
    Members("vllm.config", "CacheConfig", "num_gpu_blocks block_size kv_cache_size_tokens cache_dtype"),
    Members("vllm.config", "SchedulerConfig", "max_num_seqs max_num_batched_tokens async_scheduling"),
    # The engine in a process of its own.
    Members(_CORE, "SyncMPClient", "outputs_queue output_queue_thread resources"),
    Call(_CORE, "SyncMPClient.shutdown"),
    Call(_CORE, "InprocClient.shutdown"),
    Members(_CORE, "BackgroundResources", "engine_manager engine_dead"),
    Members("vllm.v1.engine.utils", "CoreEngineProcManager", "processes"),
    # Errors.
    Error("vllm.exceptions", "VLLMClientError", "VLLMError"),
    Error("vllm.v1.engine.exceptions", "EngineDeadError", "VLLMServerError VLLMError"),
    # What is asked for, and what is answered.
    Call(
        "vllm",
        "SamplingParams",
        by_name="max_tokens temperature top_p repetition_penalty frequency_penalty seed stop structured_outputs "
        "output_kind detokenize ignore_eos skip_special_tokens thinking_token_budget logprobs logprob_token_ids",
    ),
    Call("vllm.sampling_params", "StructuredOutputsParams", by_name="json"),
    Members("vllm.sampling_params", "RequestOutputKind", "FINAL_ONLY"),
    Row("vllm", "RequestOutput"),
    Members("vllm.outputs", "RequestOutput", "request_id finished outputs num_cached_tokens prompt_token_ids"),
    Members("vllm.outputs", "CompletionOutput", "text token_ids finish_reason logprobs"),
    Members("vllm.logprobs", "Logprob", "logprob"),
    Listed("vllm.v1.engine", "FINISH_REASON_STRINGS", "stop length abort"),
    # The CPU build alone: what looks at every module's objects, and what numba compiles.
    Says("vllm.triton_utils", "dispatcher", "kernel"),
    Says("vllm.model_executor.models", "registry", ""),
    Call("vllm.model_executor.models.registry", "_run_in_subprocess", "fn"),
    Says("vllm.v1.spec_decode", "ngram_proposer", ""),
    Call("vllm.v1.spec_decode.ngram_proposer", "NgramProposer", "vllm_config"),
    Members("vllm.v1.spec_decode.ngram_proposer", "NgramProposer", "propose"),
    # what is drawn beside a part of a prompt, on a CPU
    Members("vllm.v1.worker.cpu_model_runner", "CPUModelRunner", "_sample"),
    Members("vllm.v1.worker.gpu_model_runner", "GPUModelRunner", "_sample requests input_batch discard_request_mask"),
    Members("vllm.v1.worker.gpu_input_batch", "InputBatch", "generators req_ids"),
    # Metrics.
    Members("vllm.v1.metrics.reader", "Counter", "name value"),
    Says(
        "vllm.v1.spec_decode",
        "metrics",
        "vllm:spec_decode_num_draft_tokens vllm:spec_decode_num_accepted_tokens",
    ),
    Says("vllm.v1.metrics", "loggers", "vllm:num_preemptions vllm:generation_tokens"),
    # `vllm serve`, on the other side of a wire.
    Members(
        _SERVED,
        "CompletionRequest",
        "model prompt max_tokens temperature top_p top_k min_p seed stop repetition_penalty frequency_penalty "
        "response_format logprobs logprob_token_ids return_tokens_as_token_ids",
    ),
    Members(_SERVED, "CompletionResponse", "choices usage"),
    Members(_SERVED, "CompletionResponseChoice", "text finish_reason logprobs"),
    Members(_SERVED, "CompletionLogProbs", "top_logprobs"),
    Members(_SERVING, "UsageInfo", "completion_tokens prompt_tokens_details"),
    Members(_SERVING, "PromptTokenUsageInfo", "cached_tokens"),
    Members(_SERVING, "ModelCard", "id root parent max_model_len owned_by"),
    Members("vllm.entrypoints.openai.completion.serving", "OpenAIServingCompletion", "enable_prompt_tokens_details"),
)

# Refused in advance of versions that have them.
NEWER_THAN_SOME = {"fly_window_size", "fly_entropy_threshold", "fly_entropy_top_k"}


def title(row: Row) -> str:
    return f"{row.module}.{row.name}"


def broken(row: Row, source: VLLMSource) -> str | None:
    """Say what of a row does not hold, None where it holds."""
    try:
        found = row.broken(source)
    except NotThere as error:
        return str(error)
    return found and f"{title(row)} {found}"


@pytest.fixture(scope="module")
def source() -> VLLMSource:
    """Return the source to read: `$HFSYNTH_VLLM_SOURCE`, else the build that is installed."""
    if named := os.environ.get("HFSYNTH_VLLM_SOURCE"):
        return VLLMSource(Path(named))
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed, and HFSYNTH_VLLM_SOURCE names no source of it")
    return VLLMSource(Path(spec.origin).parent)


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLE, ids=title)
def test_vllm_has_what_hfsynth_uses(row: Row, source: VLLMSource) -> None:
    assert broken(row, source) is None


def test_every_engine_argument_is_sorted(source: VLLMSource) -> None:
    assert unsorted(source) == [], "sort these into hfsynth/core/engine_arguments.yaml"


def unsorted(source: VLLMSource) -> list[str]:
    """Return the engine arguments that the table of arguments does not know."""
    parameters = {one.name for one in source.signature("vllm", "LLM").parameters}
    return sorted((parameters | set(source.fields("vllm.engine.arg_utils", "EngineArgs"))) - set(engine_arguments()))


@pytest.mark.parametrize(
    ("argument", "module", "config"),
    [
        ("attention_config", "vllm.config.attention", "AttentionConfig"),
        ("mamba_config", "vllm.config.mamba", "MambaConfig"),
        ("speculative_config", "vllm.config.speculative", "SpeculativeConfig"),
    ],
)
def test_what_is_refused_of_an_argument_is_there(argument: str, module: str, config: str, source: VLLMSource) -> None:
    refused = set(engine_arguments()[argument].unless)
    assert refused - set(source.fields(module, config)) <= NEWER_THAN_SOME
    assert refused & set(source.fields(module, config))


# --- the table is whole ---------------------------------------------------------------------------------------------

_NAMES = {part for row in TABLE for word in (row.name, *row.words) for part in word.split(".")}
_FILES = sorted([*PACKAGE.rglob("*.py"), *BENCHMARKS.glob("*.py")])
_ITS_OWN = re.compile(r"VLLM_[A-Z0-9_]+|PYTORCH_[A-Z0-9_]+|vllm:\w+")
_OBJECTS = {"_llm", "llm", "llm_engine", "_llm_engine", "engine_core", "vllm_config", "cache_config"}
_CONFIGS = {"model_config", "scheduler_config", "cache_config"}


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


def names_of_vllm(path: Path) -> Iterator[str]:
    """Yield every name that a file imports from vLLM, and every variable and metric of vLLM that it mentions."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and _ITS_OWN.fullmatch(str(node.value)):
            yield str(node.value)


def attributes_of_vllm(path: Path) -> Iterator[str]:
    """Yield every attribute that a file reads of vLLM's own objects."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute):
            first, *others = ast.unparse(node.value).split(".")
            if _OBJECTS & {first, *others} or _CONFIGS & set(others):
                yield node.attr


def arguments_given(path: Path, to: str) -> Iterator[str]:
    """Yield the keywords that a file gives to calls of a name."""
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == to:
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)


def test_hfsynth_names_nothing_of_vllm_that_is_not_in_the_table() -> None:
    used = {(path.name, name) for path in _FILES for name in names_of_vllm(path)}
    assert {name for _, name in used} >= {"LLM", "EngineDeadError", "VLLM_ENABLE_V1_MULTIPROCESSING"}
    assert [one for one in sorted(used) if one[1] not in _NAMES] == []


def test_hfsynth_reads_no_attribute_of_vllm_that_is_not_in_the_table() -> None:
    read = {(path.name, name) for path in _FILES for name in attributes_of_vllm(path)}
    assert {name for _, name in read} >= {"add_request", "step", "scheduler_config"}
    assert [one for one in sorted(read) if one[1] not in _NAMES] == []


@pytest.mark.parametrize("to", ["LLM", "SamplingParams", "StructuredOutputsParams"])
def test_hfsynth_gives_vllm_no_parameter_that_is_not_in_the_table(to: str) -> None:
    given = {(path.name, name) for path in _FILES for name in arguments_given(path, to)}
    assert given, f"nothing calls {to}"
    assert [one for one in sorted(given) if one[1] not in _NAMES] == []


def test_every_engine_argument_that_hfsynth_sets_is_in_the_table() -> None:
    tables = [
        node.value
        for path in _FILES
        for node in nodes(path)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in ("_ARGUMENTS", "ARGUMENTS")
    ]
    plain = [one for table in tables if isinstance(table, ast.Dict) for one in (_nested(table) or [table])]
    keys = {ast.literal_eval(key) for one in plain for key in one.keys if key}
    assert keys >= {"max_num_seqs", "scheduling_policy"}
    assert sorted((keys | set(speculative_config("ngram"))) - _NAMES) == []


def _nested(table: ast.Dict) -> list[ast.Dict]:
    """Return the dicts in a dict of dicts: the arguments of each setting."""
    return [value for value in table.values if isinstance(value, ast.Dict)]


# --- the table can fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLE, ids=title)
def test_a_row_breaks_when_what_it_names_is_called_otherwise(row: Row, source: VLLMSource) -> None:
    read = VLLMSource(source.root)
    assert broken(row, read) is None
    if not isinstance(row, Says):
        assert broken(row, read.without(row.name.split(".")[-1:])) is not None
    said = broken(row, read.without(row.words)) if row.words else None
    assert (said is None) == (row.words == ())
    if said and not isinstance(row, Call):
        assert [word for word in row.words if word not in re.split(r"[ ,]+", said)] == []


@pytest.mark.parametrize(
    ("row", "module", "before", "after", "said"),
    [
        ("LLMEngine.add_request", "vllm.v1.engine.llm_engine", "params: SamplingParams | PoolingParams,\n",
         "params: SamplingParams, tenant: str,\n", "wants tenant too"),
        ("LLMEngine.add_request", "vllm.v1.engine.llm_engine", "request_id: str,\n        prompt:",
         "session: str,\n        prompt:", "by position"),
        ("EngineDeadError", "vllm.v1.engine.exceptions", "EngineDeadError(VLLMServerError)", "EngineDeadError(OSError)",
         "lacks VLLMServerError, VLLMError"),
        ("EngineDeadError", "vllm.v1.engine.exceptions", "def __init__(self, ", "def __init__(self, why, ",
         "wants why too"),
        ("VLLM_WORKER_MULTIPROC_METHOD", "vllm.envs", '["fork", "spawn"] = "fork"', '["fork", "spawn"] = "spawn"',
         "is 'spawn' by default, not 'fork'"),
        ("VLLM_BATCH_INVARIANT", "vllm.envs", '"VLLM_BATCH_INVARIANT"', '"VLLM_BATCH"', "is not read"),
        ("FINISH_REASON_STRINGS", "vllm.v1.engine", '"length", "abort"', '"length", "cancelled"', "lacks abort"),
        ("RequestOutputKind", "vllm.sampling_params", "FINAL_ONLY = ", "LAST_ONLY = ", "lacks FINAL_ONLY"),
    ],
)  # fmt: skip
def test_a_row_breaks_when_the_form_changes(
    row: str, module: str, before: str, after: str, said: str, source: VLLMSource
) -> None:
    changed = source.replaced(module, before, after)
    found = [why for one in TABLE if one.name == row and (why := broken(one, changed)) is not None]
    assert any(said in why for why in found), found


def test_a_changed_copy_on_disk_breaks_the_contract(source: VLLMSource, tmp_path: Path) -> None:
    read = VLLMSource(source.root)
    assert [broken(row, read) for row in TABLE if row.module.startswith("vllm.v1.engine")].count(None) > 8
    for path in read.paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.root / path, tmp_path / path)
    client = tmp_path / "v1" / "engine" / "core_client.py"
    client.write_text(client.read_text("utf-8").replace("outputs_queue", "answers"), "utf-8")
    found = [why for row in TABLE if row.module == _CORE and (why := broken(row, VLLMSource(tmp_path)))]
    assert found == [f"{_CORE}.SyncMPClient lacks outputs_queue"]


def test_an_argument_that_is_new_is_found(source: VLLMSource) -> None:
    module, field = "vllm.engine.arg_utils", "    max_num_seqs: int | None"
    assert unsorted(source.replaced(module, field, f"    a_new_one: int = 0\n{field}")) == ["a_new_one"]
