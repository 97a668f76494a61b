"""The real vLLM and a tiny model with marks of thought: the schema holds the answer alone, and every EOS ends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import needs_vllm

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ModelError
from hfsynth.core.records import Document, Parsed
from hfsynth.engine.loading import engine_for, shared_engine
from hfsynth.engine.protocol import Chain, Completion, EngineKey, Generation, Request
from hfsynth.engine.vllm import VLLMEngine, load_vllm
from hfsynth.models.resolve import pinned
from hfsynth.synthesis.chains import chainer_for, generation_for

pytestmark = needs_vllm

TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}"
    "<s>assistant\n<think>{% if enable_thinking is defined and not enable_thinking %}\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
ENGINE = EngineConfig("vllm", {"max_num_seqs": 4})


@pytest.fixture(scope="module")
def thinker(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model with two tokens more, the marks, and a template with a switch."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = Path(shutil.copytree(tiny_llama, tmp_path_factory.mktemp("thinker") / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    return folder


def test_a_schema_holds_the_answer_and_a_budget_the_thought(thinker: Path) -> None:
    sampling = Sampling(max_tokens=60)
    config = SynthesizerConfig(str(thinker), prompt_format="chat", thinking="budget 7", sampling=sampling, window=2048)
    engine = engine_for(pinned(config, ENGINE), ENGINE)
    assert isinstance(engine, VLLMEngine)
    chainer = chainer_for(config, engine)
    texts = [Document(str(n), f"Tides come and go, number {n}.") for n in range(6)]
    raw: list[str] = []
    parse = chainer.prompts.parse

    def noting(text: str, *, cut_off: bool) -> Parsed:
        raw.append(text)
        return parse(text, cut_off=cut_off)

    object.__setattr__(chainer.prompts, "parse", noting)
    results = [one for chain in engine.run(chainer.chains(texts), generation_for(config, chainer)) for one in chain]
    assert len(results) == len(raw) == 6
    for result in results:  # what a random model writes is no text: half characters count for up to three tokens
        assert result.synthesis.status != "failed" and 0 < result.synthesis.reasoning_tokens <= 7 * 3 + 1
    for text in raw:
        _, end, answer = text.partition("</think>")
        assert end and answer.lstrip().startswith("{") and "<think>" not in answer
        assert '"pairs"' in answer or not answer.strip("{ \n\t\r")


def test_a_model_whose_marks_are_no_tokens_cannot_think_under_a_schema(tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="A schema would hold the thoughts too") as caught:
        load_vllm(EngineKey(ENGINE, str(tiny_llama), thinks=True))
    assert "--thinking off" in caught.value.hint


def test_every_eos_of_the_generation_config_ends_an_answer(tiny_llama: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    prompt = AutoTokenizer.from_pretrained(folder).encode("Tides and lamps")
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    written = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=[2])
    tokens = written[0, len(prompt) :].tolist()
    other = next(token for token in tokens[2:] if token not in tokens[:2])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, other], "bos_token_id": 1}))
    # Not closed: vLLM would take what the other engines of this process compute with away from them.
    engine = shared_engine(EngineKey(ENGINE, str(folder), window=256), load_vllm)

    def asking() -> Chain[Completion]:
        return (yield Request(prompt, 0, 0))

    (ended,) = engine.run([asking()], Generation(Sampling(max_tokens=12)))
    assert (ended.finish_reason, ended.output_tokens) == ("stop", tokens.index(other) + 1)
