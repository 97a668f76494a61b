"""The real vLLM with a tiny real model: exactness against `LLM.generate`, refusals, faults, priorities."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_vllm
from started import run_process
from warm_python import VLLM

from hfsynth.core.config import EngineConfig, Sampling
from hfsynth.core.errors import ModelError
from hfsynth.engine.loading import close_engines, shared_engine
from hfsynth.engine.protocol import Chain, Completion, EngineKey, Generation, Request
from hfsynth.engine.vllm import VLLMEngine, load_vllm

pytestmark = needs_vllm

GENERATION = Generation(Sampling(max_tokens=8))


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> VLLMEngine:
    """Return an engine that was loaded last in this process: what vLLM counts is of that one alone."""
    close_engines()
    engine = shared_engine(EngineKey(EngineConfig("vllm", {"max_num_seqs": 4}), str(tiny_llama)), load_vllm)
    assert isinstance(engine, VLLMEngine)
    return engine


def asking(*prompts: list[int]) -> Chain[list[Completion]]:
    """A chain that asks every prompt in turn and returns the completions."""
    completions = []
    for shot, prompt in enumerate(prompts):
        completions.append((yield Request(prompt, shot, seed=shot)))
    return completions


@pytest.mark.parametrize("penalties", [{}, {"repetition_penalty": 1.2, "frequency_penalty": 0.5}], ids=str)
def test_completions_are_those_of_plain_generate(engine: VLLMEngine, penalties: dict[str, float]) -> None:
    from vllm import SamplingParams

    prompts = [engine.tokenizer.encode(f"<s> Tides and lamps, number {number}.") for number in range(11)]
    generation = Generation(Sampling(max_tokens=8, **penalties))
    ours = {completions[0].text for completions in engine.run((asking(p) for p in prompts), generation)}
    plain = engine._llm.generate(
        [{"prompt_token_ids": p} for p in prompts],
        SamplingParams(max_tokens=8, temperature=0.0, **penalties),
        use_tqdm=False,
    )
    assert ours == {output.outputs[0].text for output in plain}


def test_choices_are_as_likely_as_plain_generate_says(engine: VLLMEngine) -> None:
    from vllm import SamplingParams

    prompt = engine.tokenizer.encode("<s> Tides and lamps, and then")
    told = engine._llm.generate(
        [{"prompt_token_ids": prompt}], SamplingParams(max_tokens=1, temperature=0.0, logprobs=4), use_tqdm=False
    )
    expected = {token: found.logprob for token, found in told[0].outputs[0].logprobs[0].items()}

    def choosing() -> Chain[tuple[Completion, Completion]]:
        chosen = yield Request(prompt, 0, 0, choices=tuple(expected))
        return chosen, (yield Request(prompt, 1, 0))

    ((chosen, written),) = engine.run([choosing()], GENERATION)
    assert (chosen.output_tokens, written.output_tokens, written.logprobs) == (1, 8, ())
    assert chosen.logprobs == pytest.approx(list(expected.values()), abs=1e-4)


def test_a_frequency_penalty_keeps_tokens_from_coming_again(engine: VLLMEngine) -> None:
    prompt = engine.tokenizer.encode("<s> Tides and lamps")
    most = {}
    for penalty in (-2.0, 2.0):
        ((completion,),) = engine.run([asking(prompt)], Generation(Sampling(max_tokens=40, frequency_penalty=penalty)))
        most[penalty] = max(Counter(engine.tokenizer.encode(completion.text)).values())
    assert most[2.0] < 20 < most[-2.0]


def test_rounds_follow_without_a_barrier(engine: VLLMEngine) -> None:
    """With four slots, a chain of three rounds ends before the last of forty single rounds begins."""
    started: list[int] = []

    def single(number: int) -> Chain[str]:
        started.append(number)
        yield Request(engine.tokenizer.encode(f"<s> Text {number}"), 0, 0)
        return f"single {number}"

    def long() -> Chain[str]:
        prompt = engine.tokenizer.encode("<s> A chain")
        for shot in range(3):
            completion = yield Request(prompt, shot, 0)
            prompt = [*prompt, *engine.tokenizer.encode(completion.text), 5]
        return f"long after {len(started)}"

    ended = list(engine.run((long() if n == 0 else single(n) for n in range(41)), GENERATION))
    assert len(ended) == 41
    after = next(int(end.split()[-1]) for end in ended if end.startswith("long"))
    assert after < 40


def test_the_source_of_chains_is_read_only_as_far_as_needed(engine: VLLMEngine) -> None:
    read = 0

    def chains() -> Iterator[Chain[list[Completion]]]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield asking(engine.tokenizer.encode("<s> Lamp"))

    run = engine.run(chains(), GENERATION)
    next(run)
    assert read < 30
    run.close()


def test_tokens_are_counted_while_they_are_written(engine: VLLMEngine) -> None:
    before, seen = engine.tokens_written, []

    def chain() -> Chain[int]:
        first = yield Request(engine.tokenizer.encode("<s> Tides"), 0, seed=0)
        seen.append(engine.tokens_written - before)
        second = yield Request(engine.tokenizer.encode("<s> Lamps"), 1, seed=1)
        return first.output_tokens + second.output_tokens

    (tokens,) = engine.run([chain()], Generation(Sampling(max_tokens=8)))
    assert 0 < seen[0] < tokens == engine.tokens_written - before


def test_a_run_given_up_leaves_a_clean_engine(engine: VLLMEngine) -> None:
    run = engine.run((asking(engine.tokenizer.encode(f"<s> One {n}")) for n in range(20)), GENERATION)
    next(run)
    run.close()
    prompt = engine.tokenizer.encode("<s> Another")
    (completions,) = engine.run([asking(prompt)], GENERATION)
    assert completions[0].finish_reason in ("stop", "length")
    assert not engine._llm.llm_engine.has_unfinished_requests()


def test_a_refused_request_comes_back_to_its_chain_and_the_others_go_on(engine: VLLMEngine) -> None:
    too_long = [5] * (engine.window + 1)
    fine = engine.tokenizer.encode("<s> Fine")
    ended = list(engine.run([asking(too_long), asking(fine), asking([]), asking(fine)], GENERATION))
    errors = [completions[0].error for completions in ended]
    assert sum(error is None for error in errors) == 2
    assert sum(error is not None for error in errors) == 2


def test_a_chain_without_requests_ends_at_once(engine: VLLMEngine) -> None:
    assert list(engine.run([asking(), asking()], GENERATION)) == [[], []]


def test_a_later_shot_finds_its_prefix_in_the_cache(engine: VLLMEngine) -> None:
    prompt = engine.tokenizer.encode("<s> " + "Potatoes were first grown in the Andes. " * 40)
    (completions,) = engine.run([asking(prompt, [*prompt, 7, 8, 9])], GENERATION)
    assert completions[1].cached_tokens > len(prompt) - 32  # but for the last, unfilled block


def test_sampling_is_reproducible_whatever_runs_beside_it(engine: VLLMEngine) -> None:
    warm = Generation(Sampling(max_tokens=12, temperature=1.0))
    prompt = engine.tokenizer.encode("<s> Weather")
    (alone,) = engine.run([asking(prompt)], warm)
    others = [asking(engine.tokenizer.encode(f"<s> {n}")) for n in range(9)]
    among = list(engine.run([asking(prompt), *others], warm))
    assert alone[0].text in {completions[0].text for completions in among}


def test_completions_end_before_a_stop_string(engine: VLLMEngine) -> None:
    prompt = engine.tokenizer.encode("<s> Weather and potatoes")
    ((plain,),) = engine.run([asking(prompt)], GENERATION)
    stop = plain.text[len(plain.text) // 2 :][:3]
    ((stopped,),) = engine.run([asking(prompt)], Generation(GENERATION.sampling, stop=(stop,)))
    assert stopped.text == plain.text.partition(stop)[0]
    assert (stopped.finish_reason, stopped.error) == ("stop", None)


def test_completions_are_held_to_a_schema(engine: VLLMEngine) -> None:
    import json

    schema = json.dumps({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    schema = schema[:-1] + ', "additionalProperties": false}'
    generation = Generation(Sampling(max_tokens=60), schema)
    (completions,) = engine.run([asking(engine.tokenizer.encode("<s> JSON"))], generation)
    if completions[0].finish_reason == "stop":
        assert set(json.loads(completions[0].text)) == {"a"}
    else:
        assert completions[0].text.lstrip().startswith("{")


# Where a Python started anew cannot read vLLM, for it finds a torchvision of another torch.
NO_OTHER_PYTHON = """
import os, sys
from vllm.model_executor.models import registry
registry._SUBPROCESS_COMMAND = ["false"]
from hfsynth.core.config import EngineConfig
from hfsynth.engine.protocol import EngineKey
from hfsynth.engine.vllm import load_vllm
print(load_vllm(EngineKey(EngineConfig(), sys.argv[1])).window)
"""


def test_on_a_machine_that_has_loaded_no_model_no_other_python_is_asked(tiny_llama: Path, tmp_path: Path) -> None:
    own = {**os.environ, "VLLM_CACHE_ROOT": str(tmp_path)}
    ran = run_process([sys.executable, "-c", NO_OTHER_PYTHON, tiny_llama], reads=VLLM, env=own, check=True)
    assert ran.stdout.split()[-1] == "2048"
    assert list(tmp_path.glob("modelinfos/*LlamaForCausalLM*"))  # it was asked, and is not asked again


def test_a_model_that_does_not_load_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-architecture"}')
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_vllm(EngineKey(EngineConfig(), str(tmp_path)))


def test_a_value_that_vllm_refuses_is_a_model_error(tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded: .*SchedulerConfig"):
        load_vllm(EngineKey(EngineConfig("vllm", {"max_num_seqs": -3}), str(tiny_llama)))
