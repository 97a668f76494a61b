"""Models that can think: what each family is sent, to the token, and what of its answer is a pair."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from jobs import documents

from hfsynth.core.config import ChatOptions, EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.recipes import as_begun, config_from
from hfsynth.core.records import Counts, Document, Pair, Reason, Turn
from hfsynth.core.thinking import Marks
from hfsynth.documents.source import Source
from hfsynth.engine.protocol import EngineKey, Generation, Request
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.engine.server import load_server
from hfsynth.engine.server_protocol import Served, completion_body
from hfsynth.job.check import check
from hfsynth.job.progress import describe, inspect
from hfsynth.job.run import synthesize
from hfsynth.models.thinking import parser_of, switches_of
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.chat import Chat, json_answer
from hfsynth.synthesis.chains import chainer_for, generation_for
from hfsynth.synthesis.synthesizer import Synthesizer

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

# Stand-ins for the families' chat templates: how turns are marked, and what thinking does, in our own few lines.
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
QWEN3 = (
    TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
QWEN35 = (
    TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}"
)
SMOLLM3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "<|im_start|>system\nReasoning Mode: {{ '/think' if enable_thinking else '/no_think' }}\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}"
    "<|im_end|>\n" + TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}{% endif %}"
)
DEEPSEEK = (
    "{% if thinking is not defined %}{% set thinking = false %}{% endif %}{{ bos_token }}"
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<|User|>{{ m.content }}"
    "{% else %}<|Assistant|></think>{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>{{ '<think>' if thinking else '</think>' }}{% endif %}"
)
R1 = DEEPSEEK.replace("{{ '<think>' if thinking else '</think>' }}", "<think>\n").replace(
    "{% if thinking is not defined %}{% set thinking = false %}{% endif %}", ""
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]"
    "{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
THOUGHT = ("<think>", "</think>")
TOKENS: dict[str, tuple[str, ...]] = {
    QWEN3: ("<|im_start|>", "<|im_end|>", *THOUGHT),
    QWEN35: ("<|im_start|>", "<|im_end|>", *THOUGHT),
    SMOLLM3: ("<|im_start|>", "<|im_end|>"),  # its marks are ordinary text
    DEEPSEEK: ("<|User|>", "<|Assistant|>", *THOUGHT),
    R1: ("<|User|>", "<|Assistant|>", *THOUGHT),
    LLAMA3: ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    GEMMA: ("<start_of_turn>", "<end_of_turn>"),
    MISTRAL: ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "[THINK]", "[/THINK]"),
}
IM = ("<|im_start|>system\n{s}<|im_end|>\n", "<|im_start|>user\n{d}<|im_end|>\n<|im_start|>assistant\n")
BARE = "\n\n</think>\n\n"

# family, thinking, what stands before the document's turn, and what ends the prompt: where generation starts
CASES = {
    "Qwen3 off": (QWEN3, "off", IM[0], IM[1] + "<think>" + BARE),
    "Qwen3 on": (QWEN3, "on", IM[0], IM[1]),
    "Qwen3 budget": (QWEN3, "budget 9", IM[0], IM[1]),
    "Qwen3 as before": (QWEN3, "template", IM[0], IM[1]),
    "Qwen3.5 off": (QWEN35, "off", IM[0], IM[1] + "<think>" + BARE),
    "Qwen3.5 on": (QWEN35, "on", IM[0], IM[1] + "<think>\n"),
    "SmolLM3 off": (
        SMOLLM3,
        "off",
        "<|im_start|>system\nReasoning Mode: /no_think\n\n{s}<|im_end|>\n",
        IM[1] + "<think>\n\n</think>\n",
    ),
    "SmolLM3 on": (SMOLLM3, "on", "<|im_start|>system\nReasoning Mode: /think\n\n{s}<|im_end|>\n", IM[1]),
    "DeepSeek V3 off": (DEEPSEEK, "off", "<s>{s}", "<|User|>{d}<|Assistant|></think>"),
    "DeepSeek V3 on": (DEEPSEEK, "on", "<s>{s}", "<|User|>{d}<|Assistant|><think>"),
    "DeepSeek R1, which has no switch, off": (R1, "off", "<s>{s}", "<|User|>{d}<|Assistant|><think>" + BARE),
    "DeepSeek R1 on": (R1, "on", "<s>{s}", "<|User|>{d}<|Assistant|><think>\n"),
    "Llama 3": (
        LLAMA3,
        "off",
        "<s><|start_header_id|>system<|end_header_id|>\n\n{s}<|eot_id|>",
        "<|start_header_id|>user<|end_header_id|>\n\n{d}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "Gemma": (GEMMA, "off", "<s>", "<start_of_turn>user\n{s}\n\n{d}<end_of_turn>\n<start_of_turn>model\n"),
    "Mistral": (MISTRAL, "off", "<s>[SYSTEM_PROMPT]{s}[/SYSTEM_PROMPT]", "[INST]{d}[/INST]"),
}


@lru_cache
def tokenizer_of(template: str) -> ModelTokenizer:
    """Return a byte-level tokenizer with a family's own tokens, and its template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = {character: at for at, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<s>", "</s>", *(token for token in TOKENS[template] if token not in THOUGHT)])
    made.add_tokens([token for token in TOKENS[template] if token in THOUGHT])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", chat_template=template
    )
    return ModelTokenizer(fast)


def system_of(chat: Chat) -> str:
    return chat._wording


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_each_family_is_sent_its_conversation_to_the_token(case: tuple[str, str, str, str]) -> None:
    template, thinking, before, ending = case
    tokenizer = tokenizer_of(template)
    chat = Chat(tokenizer, ChatOptions(), thinking)
    said = {"s": system_of(chat), "d": "A tide."}
    expected = f"{before}{ending}".format(**said)
    ids = chat.prompt((), "A tide.")
    assert ids == tokenizer.encode(expected)
    assert tokenizer._tokenizer.decode(ids) == expected
    control = [token for token in (*TOKENS[template], "<s>") if token in expected]
    assert all(ids.count(tokenizer.vocabulary[token]) == expected.count(token) for token in control)


@pytest.mark.parametrize("template", [QWEN3, QWEN35, DEEPSEEK, R1, LLAMA3, MISTRAL])
def test_an_earlier_shot_is_an_earlier_turn_and_the_document_cannot_think(template: str) -> None:
    tokenizer = tokenizer_of(template)
    chat = Chat(tokenizer)
    pair = Pair("q", "a")
    ids = chat.prompt([Turn("One </think>.", (pair,))], "Two <think>.")
    shown = tokenizer._tokenizer.decode(ids)
    assert json_answer([pair]) in shown and shown.index("One") < shown.index("Two")
    if "</think>" in tokenizer.vocabulary:
        template_only = tokenizer._tokenizer.decode(chat.prompt([Turn("One.", (pair,))], "Two."))
        assert ids.count(tokenizer.vocabulary["</think>"]) == template_only.count("</think>")


@pytest.mark.parametrize(
    ("template", "switches", "parser", "opened"),
    [
        (QWEN3, ("enable_thinking",), "deepseek_r1", False),
        (QWEN35, ("enable_thinking",), "deepseek_r1", True),
        (SMOLLM3, ("enable_thinking",), None, False),  # no tokens of their own: vLLM would not see them
        (DEEPSEEK, ("thinking",), "deepseek_r1", True),
        (R1, (), "deepseek_r1", True),
        (LLAMA3, (), None, False),
        (GEMMA, (), None, False),
        (MISTRAL, (), None, False),
    ],
)
def test_what_a_models_files_say_about_its_thoughts(
    template: str, switches: tuple[str, ...], parser: str | None, opened: bool
) -> None:
    tokenizer = tokenizer_of(template)
    assert switches_of(template) == switches
    marks = tokenizer.marks(True)
    assert (parser_of(marks, tokenizer.vocabulary), marks.opened) == (parser, opened)
    assert not tokenizer.marks(False).opened


def test_a_word_of_the_prose_is_no_switch() -> None:
    assert switches_of("You are thinking. {{ message['thinking'] }} {{ m.thinking }} {{ 'enable_thinking' }}") == ()


ANSWER = json_answer([Pair("Why?", "The Moon.")])


@pytest.mark.parametrize(
    ("thinking", "template", "text", "thought"),
    [
        ("on", QWEN3, f'<think>\nSo {{"pairs": [{{"instruction": "no"}}]}}\n</think>\n\n{ANSWER}', True),
        ("on", QWEN35, f"So.\n</think>\n\n{ANSWER}", True),
        ("on", QWEN3, ANSWER, False),
        ("off", QWEN3, ANSWER, False),
        ("off", R1, f"<think>\nSo.</think>{ANSWER}", True),  # a server may let it think all the same
        ("budget 5", R1, f"So.</think>{ANSWER}", True),
    ],
)
def test_thoughts_are_taken_off_and_counted(thinking: str, template: str, text: str, thought: bool) -> None:
    tokenizer = tokenizer_of(template)
    parsed = Chat(tokenizer, ChatOptions(), thinking).parse(text, cut_off=False)
    assert parsed.pairs == (Pair("Why?", "The Moon."),) and parsed.rejected == ()
    expected = len(tokenizer.encode(text.partition("</think>")[0] + "</think>")) if thought else 0
    assert parsed.reasoning_tokens == expected and parsed.reasoning is None


def test_thoughts_are_kept_on_request_without_their_marks() -> None:
    chat = Chat(tokenizer_of(QWEN3), ChatOptions(), "on", keep_reasoning=True)
    assert chat.parse(f"<think>\nSo.\n</think>\n{ANSWER}", cut_off=False).reasoning == "So."


@pytest.mark.parametrize("text", ["<think>\nAnd so on and", "<think>So.</think>\n"])
def test_a_thought_without_an_answer_is_unfinished_and_no_pair(text: str) -> None:
    parsed = Chat(tokenizer_of(QWEN3), ChatOptions(), "on").parse(text, cut_off=True)
    assert parsed.pairs == () and [one.reason for one in parsed.rejected] == [Reason.UNFINISHED]
    assert parsed.reasoning_tokens > 0


def test_an_answer_may_speak_of_the_marks() -> None:
    chat = Chat(tokenizer_of(QWEN3))
    said = json_answer([Pair("What ends it?", "< /think> does.")])
    assert chat.parse(said, cut_off=False).pairs == (Pair("What ends it?", "</think> does."),)
    assert Marks().split("It is </think>.") == ("", "It is </think>.")


def test_a_question_about_a_document_is_answered_without_the_thought() -> None:
    assert Chat(tokenizer_of(QWEN35), ChatOptions(), "on").parse_answer("Hm.\n</think>\n\nThe Moon.") == "The Moon."


def thinking_script(prompt: str) -> str:
    return f"<think>{'m' * 20}</think>\n{ANSWER}"


def test_a_chain_counts_thoughts_and_shows_none() -> None:
    seen: list[str] = []

    def script(prompt: str) -> str:
        seen.append(prompt)
        return thinking_script(prompt)

    config = SynthesizerConfig("m", prompt_format="chat", shots=2, thinking="on", keep_reasoning=True)
    engine = ScriptedEngine(script)
    chainer = chainer_for(config, engine)
    asked = [Document("a", "One."), Document("b", "Two.")]
    (results,) = engine.run(chainer.chains(asked), generation_for(config, chainer))
    assert [result.synthesis.reasoning_tokens for result in results] == [35, 35]
    assert results[0].synthesis.reasoning == "m" * 20
    assert "The Moon." in seen[1] and "mmm" not in seen[1]
    counts = Counts.of(results)
    assert counts.reasoning_tokens == 70 == Counts.from_dict(counts.to_dict()).reasoning_tokens
    older = {name: value for name, value in counts.to_dict().items() if name != "reasoning_tokens"}
    assert Counts.from_dict(older).reasoning_tokens == 0


# --- the recipe -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "settled"),
    [
        ("off", "off"),
        ("on", "on"),
        (False, "off"),
        (True, "on"),
        (" budget  64", "budget 64"),
        ("budget 007", "budget 7"),
    ],
)
def test_thinking_has_one_form(given: Any, settled: str) -> None:  # noqa: ANN401
    assert SynthesizerConfig("m", prompt_format="chat", thinking=given).thinking == settled


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"thinking": "hard"}, "off, on or budget N"),
        ({"thinking": "budget 0"}, "off, on or budget N"),
        ({"thinking": 5}, "off, on or budget N"),
        ({"thinking": "budget 400"}, "leaves no tokens for an answer"),
        ({"keep_reasoning": True}, "thinking is off"),
        ({"keep_reasoning": "yes", "thinking": "on"}, "true or false"),
        ({"thinking": "on", "prompt_format": "instruction-pretrain"}, "for chat models"),
    ],
)
def test_what_cannot_be_thought_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SynthesizerConfig.from_dict({"model": "m", "prompt_format": "chat", **values})


def test_old_recipes_are_read_as_they_ran_and_name_the_same_rows() -> None:
    plain = SynthesizerConfig("m").to_dict()
    assert {"thinking", "keep_reasoning"}.isdisjoint(plain)
    written = {**SynthesizerConfig("m", prompt_format="chat").to_dict()}
    assert written.pop("thinking") == "off"
    old = SynthesizerConfig.from_dict(written)
    assert old.thinking == "template" and old.to_dict() == written
    assert config_from(written, {"shots": 2}).thinking == "template"
    assert config_from(written, {"thinking": "off"}).thinking == "off"
    by_hand = {"model": "m", "prompt_format": "chat"}
    assert SynthesizerConfig.from_dict(by_hand).thinking == "off" == config_from(by_hand, {}).thinking
    assert config_from(plain, {"prompt_format": "chat"}).thinking == "off"


def test_a_job_begun_before_goes_on_as_it_was_begun() -> None:
    config = SynthesizerConfig("m", prompt_format="chat")
    begun = {name: value for name, value in config.to_dict().items() if name != "thinking"}
    assert as_begun(config, begun, precision_asked=False).to_dict() == begun
    assert as_begun(config, config.to_dict(), precision_asked=False) == config
    asked = SynthesizerConfig("m", prompt_format="chat", thinking="on")
    assert as_begun(asked, begun, precision_asked=False).thinking == "on"  # another recipe, and refused as one


# --- servers --------------------------------------------------------------------------------------------------------


def test_a_server_is_told_the_budget_and_shows_the_marks() -> None:
    served = Served("m", 100, is_vllm=True)
    body = completion_body(Request([1], 0, seed=5), Generation(Sampling(), thinking="budget 32"), served)
    assert (body["thinking_token_budget"], body["skip_special_tokens"]) == (32, False)
    quiet = completion_body(Request([1], 0, seed=5), Generation(Sampling(), thinking="off"), served)
    assert {"thinking_token_budget", "skip_special_tokens"}.isdisjoint(quiet)


def test_thoughts_on_a_server_that_is_not_known_to_tell_them_apart_are_refused() -> None:
    engine = EngineConfig("server", {"base_url": "http://localhost:9"})
    with pytest.raises(ConfigError, match="answer alone") as caught:
        load_server(EngineKey(engine, "m", thinks=True))
    assert "--reasoning-parser" in caught.value.hint and "--thinking off" in caught.value.hint


# --- jobs -----------------------------------------------------------------------------------------------------------


def run_job(source: Path, out: Path, **settings: Any) -> None:  # noqa: ANN401
    config = SynthesizerConfig("scripts:thinking", prompt_format="chat", **settings)
    synthesize(Source(str(source)), out, config, engine=EngineConfig("scripted"), shard_rows=2)


def test_a_job_keeps_thoughts_in_its_rows_and_sums_them(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 5)
    run_job(source, tmp_path / "corpus", thinking="on", keep_reasoning=True)
    rows = load_dataset(str(tmp_path / "corpus"), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    assert {row["reasoning"] for row in rows["synthesis"]} == {"Let me see."}
    tokens = [row["reasoning_tokens"] for row in rows["synthesis"]]
    assert min(tokens) > 0 and json.loads((tmp_path / "corpus" / "stats.json").read_text())["reasoning_tokens"] == sum(
        tokens
    )
    assert "thought)" in describe(inspect(tmp_path / "corpus"))
    assert all(row["status"] == "ok" for row in rows["synthesis"]) and check(tmp_path / "corpus").damaged == ()
    mapped = Synthesizer(
        "scripts:thinking", prompt_format="chat", thinking="on", keep_reasoning=True, engine="scripted"
    ).map(Dataset.from_dict({"text": ["One.", "Two."]}))
    assert mapped.features["synthesis"] == rows.features["synthesis"]
    assert mapped[0]["synthesis"]["reasoning"] == "Let me see."


def test_a_job_without_thoughts_has_the_columns_it_always_had(tmp_path: Path) -> None:
    run_job(documents(tmp_path / "texts.jsonl", 2), tmp_path / "corpus")
    rows = load_dataset(str(tmp_path / "corpus"), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    assert {"reasoning", "reasoning_tokens"}.isdisjoint(rows.features["synthesis"])


def test_a_chat_job_from_before_the_setting_is_gone_on_with(tmp_path: Path) -> None:
    """The plan of such a job says nothing of thinking, and the same command finishes it."""
    source, out = documents(tmp_path / "texts.jsonl", 4), tmp_path / "corpus"
    config = SynthesizerConfig("scripts:thinking", prompt_format="chat")
    engine = EngineConfig("scripted")
    synthesize(Source(str(source)), out, config, engine=engine, shard_rows=2, shards=(0, 1))
    plan = out / ".hfsynth" / "job.json"
    values = json.loads(plan.read_text())
    assert values["synthesizer"].pop("thinking") == "off"
    plan.write_text(json.dumps(values))
    assert synthesize(Source(str(source)), out, config, engine=engine, shard_rows=2).finished
    assert "thinking" not in json.loads((out / "synthesizer_config.json").read_text())
    with pytest.raises(OutputError, match="thinking"):
        synthesize(Source(str(source)), out, replace(config, thinking="on"), engine=engine, shard_rows=2)
