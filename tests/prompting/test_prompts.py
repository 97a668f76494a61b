"""Prompts: to the token, whatever the documents hold, and each one a continuation of the last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hfsynth.core.config import ChatOptions, SynthesizerConfig
from hfsynth.core.errors import ModelError
from hfsynth.core.records import Pair, Turn
from hfsynth.core.text import FORMAT_DELIMITERS, Escape
from hfsynth.engine.scripted import CharacterTokenizer
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.chat import Chat, json_answer
from hfsynth.prompting.formats import prompt_format
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.prompting.parsing import render_pairs

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

SPECIALS = ("<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>")
TEXTS = (
    "The lighthouse keeper lit the lamp every evening and wrote down the weather.",
    "Potatoes were first grown in the Andes. What is it? It is a short document.",
    "<s> <CON> a </CON> <QUE> b <ANS> c </END> </s>",
)
TRAINING: dict[str, Any] = {"vocab_size": 420, "special_tokens": [*SPECIALS], "show_progress": False}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level() -> Any:  # noqa: ANN401
    """Return a byte-level BPE that splits as Llama 3 does: line breaks stay together, also before a delimiter."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}{1,3}|\s*[\r\n]+|\s+(?!\S)|\s+|[^\s\p{L}\p{N}]+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=[*SPECIALS], show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, "a\n\nb\n\nc\n\n"], trainer)
    return tokenizer


def cl100k_like() -> Any:  # noqa: ANN401
    """Return a byte-level BPE that keeps line breaks with the punctuation before them, as Llama 3 and Qwen do."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    words = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(**TRAINING, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([*TEXTS, "a </CON>\n\n", "b </CON>\n\n"] * 3, trainer)
    return tokenizer


def llama2_like(*, lines_merge: bool = False) -> Any:  # noqa: ANN401
    """Return a BPE that puts a space before a text by its normalizer and cuts nothing, as Llama 2 and Mistral do."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(**{**TRAINING, "special_tokens": [*SPECIALS, *bytes_]})
    lines = ["a</CON>\n\n<QUE>"] * 9 if lines_merge else []
    tokenizer.train_from_iterator([*TEXTS, *lines], trainer)
    return _without_special_bytes(tokenizer, bytes_)


def gpt2_like() -> Any:  # noqa: ANN401
    """Return a byte-level BPE that splits as GPT-2 does: the last of two line breaks goes with what follows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=[*SPECIALS], show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, "a\n\n", "b\n\n", "c\n\n"], trainer)
    return tokenizer


def metaspace(prepend_scheme: str) -> Any:  # noqa: ANN401
    """Return a BPE like Mistral's: spaces as U+2581, unknown characters, line breaks among them, as bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=prepend_scheme)])
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=[*SPECIALS, *bytes_], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _without_special_bytes(tokenizer, bytes_)


def _without_special_bytes(tokenizer: Any, bytes_: Sequence[str]) -> Any:  # noqa: ANN401
    """Make the byte tokens ordinary entries of the vocabulary, as they are in a real one."""
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in bytes_]
    return tokenizers.Tokenizer.from_str(json.dumps(values))


MAKERS = {
    "byte-level": byte_level,
    "gpt2-like": gpt2_like,
    "cl100k-like": cl100k_like,
    "llama2-like": llama2_like,
    "merges line breaks": lambda: llama2_like(lines_merge=True),
    "metaspace first": lambda: metaspace("first"),
    "metaspace always": lambda: metaspace("always"),
}


@lru_cache
def wrapped(kind: str, template: str | None = TEMPLATE) -> ModelTokenizer:
    """Return a tokenizer that adds a BOS by itself unless it is told not to, as a Llama's does."""
    from tokenizers import processors

    made = MAKERS[kind]()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        chat_template=template,
    )
    return ModelTokenizer(fast)


def id_of(tokenizer: ModelTokenizer, token: str) -> int:
    (token_id,) = tokenizer.encode(token)
    return token_id


kinds = st.sampled_from(list(MAKERS))
versions = st.sampled_from([1, 2])
prefix_kinds = st.sampled_from([kind for kind in MAKERS if kind != "merges line breaks"])
hard = st.sampled_from(
    [*SPECIALS, *FORMAT_DELIMITERS, "< s>", "<  /s>", "<", ">", " ", "\n", "\n\n", "▁", "<0x0A>", "word", "é", "日本"]
)
documents = st.lists(hard | st.text(max_size=4), min_size=1, max_size=10).map("".join)
halves = documents.map(str.strip).filter(bool)
turns = st.builds(Turn, documents, st.lists(st.builds(Pair, halves, halves), min_size=1, max_size=3).map(tuple))
distinct_pairs = st.lists(
    st.builds(Pair, halves, halves),
    min_size=1,
    max_size=3,
    unique_by=lambda p: " ".join(p.instruction.casefold().split()),
)
histories = st.lists(turns, max_size=3)


def published(history: Sequence[Turn], document: str) -> str:
    """Return the prompt as the model page writes it, for documents that hold no control strings."""
    shots = [f"<s> <CON> {turn.document} </CON>\n\n{render_pairs(turn.pairs)}</s>" for turn in history]
    return "".join([*shots, f"<s> <CON> {document} </CON>\n\n"])


plain = st.text("abc. \n日?", min_size=1, max_size=12)
plain_turns = st.builds(Turn, plain, st.lists(st.builds(Pair, plain, plain), min_size=1, max_size=2).map(tuple))


@given(kinds, st.lists(plain_turns, max_size=3), plain)
def test_the_ids_of_version_1_are_those_of_the_published_string_alone(
    kind: str, history: list[Turn], document: str
) -> None:
    tokenizer = wrapped(kind)
    token_ids = InstructionPretrain(tokenizer, 1).prompt(history, document)
    assert token_ids == tokenizer.encode(published(history, document))


@given(kinds, histories, documents, versions)
def test_the_ids_are_the_same_with_what_is_known_of_the_chains_other_prompts(
    kind: str, history: list[Turn], document: str, version: int
) -> None:
    prompts = InstructionPretrain(wrapped(kind), version)
    known = prompts.foresee([*(turn.document for turn in history[1:]), document])
    for shots in (*range(len(history) + 1), len(history)):
        following = [*(turn.document for turn in history), document][shots]
        assert prompts.prompt(history[:shots], following, known) == prompts.prompt(history[:shots], following)


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "merges line breaks"])
def test_a_chains_prompts_encode_each_document_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = wrapped(kind)
    history = [Turn(f"document {name}", (Pair("q", "a"),)) for name in "abc"]
    prompts, encoded = InstructionPretrain(tokenizer), list[str]()
    plain = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text: encoded.append(text) or plain(text))
    known = prompts.foresee(turn.document for turn in history)
    assert sum("document" in text for text in encoded) == 3
    for shots in range(3):
        prompts.prompt(history[:shots], history[shots].document, known)
    assert sum("document" in text for text in encoded) == 3


def test_nothing_is_cut_where_line_breaks_merge() -> None:
    assert wrapped("merges line breaks").cut("</CON>", "\n\n", "<QUE>") is None


@given(kinds, histories, documents)
@example("metaspace always", [], "".join([*SPECIALS, *FORMAT_DELIMITERS]) * 3)
def test_there_is_one_bos_a_shot_and_one_eos_a_closed_shot(kind: str, history: list[Turn], document: str) -> None:
    tokenizer = wrapped(kind)
    token_ids = InstructionPretrain(tokenizer).prompt(history, document)
    bos, eos = id_of(tokenizer, "<s>"), id_of(tokenizer, "</s>")
    assert token_ids[0] == bos
    assert token_ids.count(bos) == len(history) + 1
    assert token_ids.count(eos) == len(history)
    controls = {id_of(tokenizer, token) for token in SPECIALS if token != "<unk>"} - {bos, eos}
    assert controls.isdisjoint(token_ids)


@given(histories, documents)
def test_only_the_formats_own_delimiters_are_in_a_prompt(history: list[Turn], document: str) -> None:
    tokenizer = CharacterTokenizer()
    prompt = tokenizer.decode(InstructionPretrain(tokenizer).prompt(history, document))
    pairs = sum(len(turn.pairs) for turn in history)
    expected = {"<CON>": len(history) + 1, "</CON>": len(history) + 1, "<QUE>": pairs, "<ANS>": pairs, "</END>": pairs}
    assert {token: prompt.count(token) for token in FORMAT_DELIMITERS} == expected


@given(prefix_kinds, histories, turns, documents)
def test_the_next_prompt_begins_with_the_last_one(kind: str, history: list[Turn], turn: Turn, document: str) -> None:
    prompts = InstructionPretrain(wrapped(kind))
    last, following = prompts.prompt(history, turn.document), prompts.prompt([*history, turn], document)
    assert following[: len(last)] == last
    assert len(following) > len(last)


@given(histories, documents)
def test_a_gpt2_like_split_is_told_that_a_question_follows(history: list[Turn], document: str) -> None:
    # There a pair of line breaks is one token at the end of a text and two before a word.
    tokenizer = wrapped("gpt2-like")
    one, two = (InstructionPretrain(tokenizer, version).prompt(history, document) for version in (1, 2))
    assert two[:-2] == one[:-1]
    assert two[-2:] == tokenizer.encode("\n") * 2 and one[-1:] == tokenizer.encode("\n\n")


def test_the_published_example_to_the_letter() -> None:
    tokenizer = CharacterTokenizer()
    history = [Turn("c1", (Pair("q", "a"), Pair("r", "b")))]
    assert tokenizer.decode(InstructionPretrain(tokenizer).prompt(history, "c2")) == (
        "<s> <CON> c1 </CON>\n\n<QUE> q <ANS> a </END>\n\n<QUE> r <ANS> b </END></s><s> <CON> c2 </CON>\n\n"
    )


@given(
    st.lists(
        st.builds(Pair, halves, halves),
        min_size=1,
        max_size=3,
        unique_by=lambda p: " ".join(p.instruction.casefold().split()),
    )
)
def test_what_a_prompt_shows_of_pairs_is_read_back(pairs: list[Pair]) -> None:
    tokenizer = CharacterTokenizer()
    prompts = InstructionPretrain(tokenizer)
    shown = tokenizer.decode(prompts.prompt([Turn("c", tuple(pairs))], "d"))
    answer = shown.removeprefix("<s> <CON> c </CON>\n\n").partition("</s><s> <CON> d")[0]
    assert prompts.parse(answer, cut_off=False).pairs == tuple(pairs)


@given(kinds, histories, documents, halves)
def test_a_question_goes_on_where_the_prompt_ends(
    kind: str, history: list[Turn], document: str, instruction: str
) -> None:
    prompts = InstructionPretrain(wrapped(kind))
    opened = prompts.prompt(history, document)
    assert prompts.ask(history, document, instruction)[: len(opened)] == opened


@given(prefix_kinds, st.lists(plain_turns, max_size=2), plain, st.text("abc?", min_size=1))
def test_the_ids_of_a_question_are_those_of_the_whole_string(
    kind: str, history: list[Turn], document: str, instruction: str
) -> None:
    tokenizer = wrapped(kind)
    token_ids = InstructionPretrain(tokenizer).ask(history, document, instruction)
    assert token_ids == tokenizer.encode(f"{published(history, document)}<QUE> {instruction} <ANS>")


@given(halves, halves)
def test_the_answer_to_a_question_is_read_up_to_its_end(instruction: str, response: str) -> None:
    tokenizer = CharacterTokenizer()
    prompts = InstructionPretrain(tokenizer)
    whole = tokenizer.decode(prompts.prompt([Turn("c", (Pair(instruction, response),))], ""))
    asked = tokenizer.decode(prompts.ask((), "c", instruction))
    assert whole.startswith(asked)
    answer = whole.removeprefix(asked).partition("</s>")[0]
    assert prompts.parse_answer(answer) == prompts.parse_answer(answer.removesuffix(" </END>")) == response
    assert prompts.parse_answer(f"{answer}\n\n<QUE> And?") == response


def test_a_question_of_the_chat_format_is_a_plain_turn() -> None:
    tokenizer = CharacterTokenizer()
    history = [Turn("c1", (Pair("q", "a"), Pair("r", "b")))]
    asked = tokenizer.decode(Chat(tokenizer).ask(history, "c2 </s>", "s"))
    assert asked == (
        "<s>user: c1\n\nq</s><s>assistant: a</s><s>user: r</s><s>assistant: b</s>"
        "<s>user: c2 < /s>\n\ns</s><s>assistant: "
    )
    assert Chat(tokenizer).parse_answer(" It is < /s>.\n") == "It is </s>."


def test_control_strings_that_a_model_quotes_from_a_document_are_restored() -> None:
    prompts = InstructionPretrain(CharacterTokenizer())
    quoted = "<QUE> What is < s>? <ANS> It begins a text, as < CON> does. </END>"
    assert prompts.parse(quoted, cut_off=False).pairs == (Pair("What is <s>?", "It begins a text, as <CON> does."),)


@dataclass(frozen=True)
class Without:
    """A tokenizer that lacks a control token."""

    bos: str | None = "<s>"
    eos: str | None = "</s>"
    special_tokens: tuple[str, ...] = ()

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def chat(self, messages: Sequence[Any]) -> list[int]:
        raise ModelError("no template")


@pytest.mark.parametrize(
    ("tokenizer", "missing"),
    [(Without(bos=None), "no BOS"), (Without(eos=None), "no EOS"), (Without(None, None), "no BOS and no EOS")],
)
def test_a_tokenizer_without_control_tokens_is_a_clear_error(tokenizer: Without, missing: str) -> None:
    with pytest.raises(ModelError, match=missing) as caught:
        InstructionPretrain(tokenizer)
    assert "--prompt-format chat" in caught.value.hint


def test_the_config_names_the_format() -> None:
    tokenizer = wrapped("byte-level")
    assert isinstance(prompt_format(SynthesizerConfig("m"), tokenizer), InstructionPretrain)
    chat = prompt_format(SynthesizerConfig("m", prompt_format="chat", chat=ChatOptions(2)), tokenizer)
    assert isinstance(chat, Chat)
    assert chat.options == ChatOptions(2)


# --- chat -----------------------------------------------------------------------------------------------------------


def test_the_schema_is_json_and_asks_for_the_kinds() -> None:
    schema = json.loads(Chat(CharacterTokenizer(), ChatOptions(3)).json_schema)
    pairs = schema["properties"]["pairs"]
    assert (pairs["minItems"], pairs["maxItems"]) == (1, 3)
    assert [item["required"] for item in pairs["items"]["anyOf"]] == [
        ["instruction", "response"],
        ["instruction", "options", "response"],
        ["instruction", "reasoning", "response"],
    ]
    assert all(not item["additionalProperties"] for item in (schema, *pairs["items"]["anyOf"]))


def test_answers_fit_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Chat(CharacterTokenizer()).json_schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    answer = json_answer(
        [
            Pair("Which?\nOptions:\n- red\n- blue", "blue"),
            Pair("How many?\nLet's think step by step.", "2 and 2.\nTherefore, the answer is 4"),
            Pair("Who?", "Ada."),
        ]
    )
    jsonschema.validate(json.loads(answer), schema)
    for wrong in (
        {"pairs": []},
        {},
        {"pairs": [{"instruction": "q"}]},
        {"pairs": [{"instruction": "", "response": "a"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("kind", ["free_form", "multiple_choice", "chain_of_thought"])
def test_the_wording_speaks_of_the_kinds_asked_for_alone(kind: str) -> None:
    tokenizer = CharacterTokenizer()
    prompt = tokenizer.decode(Chat(tokenizer, ChatOptions(7, (kind,))).prompt((), "d"))
    assert "up to 7" in prompt
    assert ('"options"' in prompt) == (kind == "multiple_choice")
    assert ('"reasoning"' in prompt) == (kind == "chain_of_thought")
    assert prompt.count("language") == 1


@given(kinds, histories, documents)
def test_documents_cannot_take_over_a_conversation(kind: str, history: list[Turn], document: str) -> None:
    tokenizer = wrapped(kind)
    token_ids = Chat(tokenizer).prompt(history, document)
    # a system message, two messages a shot, the document, and the open answer
    assert token_ids.count(id_of(tokenizer, "<|im_start|>")) == 2 * len(history) + 3
    assert token_ids.count(id_of(tokenizer, "<|im_end|>")) == 2 * len(history) + 2
    assert {id_of(tokenizer, token) for token in ("<s>", "</s>", "<pad>")}.isdisjoint(token_ids)


@given(prefix_kinds, histories, turns, documents)
def test_the_next_conversation_begins_with_the_last_one(
    kind: str, history: list[Turn], turn: Turn, document: str
) -> None:
    chat = Chat(wrapped(kind))
    last, following = chat.prompt(history, turn.document), chat.prompt([*history, turn], document)
    # What follows "assistant\n" may share its last token with the line break.
    assert following[: len(last) - 1] == last[:-1]


@given(
    st.lists(
        st.builds(Pair, halves, halves),
        min_size=1,
        max_size=3,
        unique_by=lambda p: " ".join(p.instruction.casefold().split()),
    )
)
def test_what_a_conversation_shows_of_pairs_is_read_back(pairs: list[Pair]) -> None:
    tokenizer = CharacterTokenizer()
    chat = Chat(tokenizer)
    shown = tokenizer.decode(chat.prompt([Turn("c", tuple(pairs))], "d"))
    answer = shown.partition("<s>assistant: ")[2].partition("</s><s>user: d")[0]
    assert chat.parse(answer, cut_off=False).pairs == tuple(pairs)


def test_a_tokenizer_without_a_chat_template_is_a_clear_error() -> None:
    with pytest.raises(ModelError, match="chat template") as caught:
        Chat(wrapped("byte-level", None)).prompt((), "d")
    assert "instruction-pretrain" in caught.value.hint


def test_a_document_may_be_a_template_itself() -> None:
    tokenizer = CharacterTokenizer()
    document = "{{ max_pairs }} {% for x in y %}"
    for prompts in (Chat(tokenizer), InstructionPretrain(tokenizer)):
        assert document in tokenizer.decode(prompts.prompt((), document))


def test_every_control_token_is_known_to_the_escape() -> None:
    tokenizer = wrapped("metaspace first")
    assert set(tokenizer.special_tokens) == set(SPECIALS)
    escaped = Escape.of(tokenizer.special_tokens).escape("".join(SPECIALS))
    assert not [token for token in SPECIALS if token in escaped]


NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
)


def test_a_template_without_a_system_role_gets_its_text_in_the_first_turn() -> None:
    tokenizer = wrapped("byte-level", NO_SYSTEM)
    ids = Chat(tokenizer).prompt((Turn("One.", (Pair("q", "a"),)),), "Two.")
    text = tokenizer._tokenizer.decode(ids)
    assert text.startswith("[user] You write study questions")
    assert text.count("You write study questions") == 1
    assert "\n\nOne.\n[assistant]" in text
    assert text.endswith("[user] Two.\n")


def test_a_template_that_refuses_everything_is_a_clear_error() -> None:
    with pytest.raises(ModelError, match="cannot render the conversation: no"):
        Chat(wrapped("byte-level", "{{ raise_exception('no') }}")).prompt((), "Two.")


def test_added_tokens_that_are_not_flagged_special_are_controls_too() -> None:
    tokenizer = wrapped("byte-level")._tokenizer
    tokenizer.add_tokens(["<tool_call>", "word", "two words"])
    known = ModelTokenizer(tokenizer)
    assert "<tool_call>" in known.special_tokens
    assert not {"word", "two words"} & set(known.special_tokens)
    call = tokenizer.convert_tokens_to_ids("<tool_call>")
    assert call in known.encode("a <tool_call> b")
    assert call not in InstructionPretrain(known).prompt((), "a <tool_call> b")


@pytest.mark.parametrize("kind", list(MAKERS))
@given(text=st.text(max_size=200) | st.lists(st.sampled_from(["<s>", "</s>", " ", "\n\n", "tide"])).map("".join))
def test_a_models_tokenizer_gives_the_ids_that_transformers_gives(kind: str, text: str) -> None:
    theirs = wrapped(kind)._tokenizer
    cut = transformers.PreTrainedTokenizerFast(tokenizer_object=theirs.backend_tokenizer)
    cut.backend_tokenizer.enable_truncation(3)  # as some models' files say
    cut.backend_tokenizer.enable_padding(length=500)
    ours = ModelTokenizer(cut)
    expected = theirs.encode(text, add_special_tokens=False, verbose=False)
    assert ours.encode(text) == wrapped(kind).encode(text) == expected
