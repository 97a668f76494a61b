"""What is mended of vLLM's CPU build: the KV cache takes memory as it is used."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_vllm

from hfsynth.core.config import EngineConfig, Sampling
from hfsynth.engine.loading import shared_engine
from hfsynth.engine.protocol import Chain, EngineKey, Generation, Request
from hfsynth.engine.start import collecting_nothing
from hfsynth.engine.vllm import VLLMEngine, load_vllm
from hfsynth.engine.vllm_cpu import taking_memory_as_it_is_used

torch = pytest.importorskip("torch")

SIZE = 256 * 2**20


def resident(address: int) -> int:
    """Return how many bytes there are in memory of the mapping that begins at or before an address."""
    there = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            first, last = (int(part, 16) for part in name.split("-"))
            there = first <= address < last
        elif there and name == "Rss:":
            return int(rest[0]) * 1024
    raise AssertionError("no such mapping")


def test_a_large_tensor_of_zeros_takes_memory_as_it_is_used() -> None:
    with taking_memory_as_it_is_used():
        zeros = torch.zeros(SIZE, dtype=torch.int8, device="cpu")
    assert resident(zeros.data_ptr()) < SIZE // 8
    zeros[SIZE - 10 :] = 7
    gc.collect()  # the pages are the tensor's own
    assert zeros.shape == (SIZE,) and zeros.dtype == torch.int8 and int(zeros[-4096:].sum()) == 70
    assert zeros.view(torch.float32).view(2, -1).is_contiguous()


@pytest.mark.parametrize(
    "asked",
    [
        {"size": (SIZE // 4,), "dtype": torch.float32, "device": "cpu"},
        {"size": (1000,), "dtype": torch.int8, "device": "cpu"},
        {"size": (3, 4), "dtype": torch.int64},
    ],
    ids=["floats", "small", "no device"],
)
def test_other_tensors_are_torchs_own(asked: dict[str, object]) -> None:
    with taking_memory_as_it_is_used():
        found = torch.zeros(**asked)
    assert found.shape == asked["size"] and found.dtype == asked["dtype"] and not found.any()
    if found.nbytes >= SIZE:
        assert resident(found.data_ptr()) >= SIZE


def test_after_it_torch_is_as_it_was() -> None:
    with taking_memory_as_it_is_used():
        pass
    zeros = torch.zeros(SIZE, dtype=torch.int8, device="cpu")
    assert resident(zeros.data_ptr()) >= SIZE


@needs_vllm
def test_an_engine_has_touched_little_of_its_cache(tiny_llama: Path) -> None:
    engine = shared_engine(EngineKey(EngineConfig("vllm", {"max_num_seqs": 4}), str(tiny_llama)), load_vllm)
    assert isinstance(engine, VLLMEngine)

    def asking() -> Iterator[Request]:
        yield Request([5, 6, 7, 8], 0, seed=0)

    list(engine.run([asking()], Generation()))
    worker = engine.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
    cache = worker.model_runner.kv_caches[0].untyped_storage()
    assert cache.nbytes() > SIZE
    assert 0 < resident(cache.data_ptr()) < cache.nbytes() // 8


@needs_vllm
def test_a_sampled_completion_is_the_same_where_its_prompt_is_computed_in_parts(tiny_llama: Path) -> None:
    whole, parts = (
        shared_engine(EngineKey(EngineConfig("vllm", {"max_num_seqs": 4, **more}), str(tiny_llama)), load_vllm)
        for more in ({}, {"max_num_batched_tokens": 64})
    )
    sampling = Generation(Sampling(max_tokens=12, temperature=1.0))
    prompts = [whole.tokenizer.encode(f"<s> {n} " + "Lamps are lit at dusk, and put out. " * 12) for n in range(6)]
    assert all(len(prompt) > 128 for prompt in prompts)

    def asking(number: int, prompt: list[int]) -> Chain[tuple[int, str]]:
        first = yield Request(prompt, 0, seed=number)
        second = yield Request([*prompt, 7, 8, 9, *prompt], 1, seed=number)
        return number, f"{first.text}|{second.text}"

    told = [dict(engine.run((asking(*one) for one in enumerate(prompts)), sampling)) for engine in (whole, parts)]
    assert told[0] == told[1] and len(set(told[0].values())) > 1


def test_no_garbage_is_looked_for_meanwhile_and_then_as_before() -> None:
    with collecting_nothing():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with collecting_nothing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
