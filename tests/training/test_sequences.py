"""Training sequences: ids as the chain sends them, the loss on the pairs alone, every example once an epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.errors import ConfigError
from hfsynth.core.records import Pair, Turn
from hfsynth.documents.examples import Example
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.training.config import Packing, TrainingConfig
from hfsynth.training.sequences import TrainingSequence, batched, held_out, in_order, pack, sequence

ADA = Turn("Ada wrote notes.", (Pair("Who wrote?", "Ada"), Pair("What?", "Notes")))
SEA = Turn("The sea is salty.", (Pair("What is salty?", "The sea"),))


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> ModelTokenizer:
    from transformers import AutoTokenizer

    return ModelTokenizer(AutoTokenizer.from_pretrained(tiny_llama))


@pytest.fixture(scope="module")
def prompts(tokenizer: ModelTokenizer) -> InstructionPretrain:
    return InstructionPretrain(tokenizer)


def test_an_answer_has_no_leading_space_of_the_tokenizers_own() -> None:
    """A tokenizer like Mistral's puts a space before every text; a model that goes on after a line break does not."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>"]
    letters = ["<QUE> What is salty? <ANS> The sea </END> <CON> </CON>", "\n", "▁"]
    raw.train_from_iterator(letters, trainers.BpeTrainer(vocab_size=60, special_tokens=special, show_progress=False))
    tokenizer = ModelTokenizer(PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>"))
    found = sequence(InstructionPretrain(tokenizer), tokenizer, [SEA])
    first = next(token for token, counts in zip(found.token_ids, found.counts, strict=True) if counts)
    assert tokenizer._tokenizer.convert_ids_to_tokens(first).startswith("<")


def learnt(tokenizer: ModelTokenizer, found: TrainingSequence) -> list[str]:
    """Return the texts of the runs of tokens that count."""
    runs: list[list[int]] = []
    before = False
    for token, counts in zip(found.token_ids, found.counts, strict=True):
        if counts and not before:
            runs.append([])
        if counts:
            runs[-1].append(token)
        before = counts
    return [tokenizer._tokenizer.decode(run) for run in runs]


def test_one_shot_token_by_token(prompts: InstructionPretrain, tokenizer: ModelTokenizer) -> None:
    found = sequence(prompts, tokenizer, [SEA])
    prompt = prompts.prompt((), SEA.document)
    answer = tokenizer.encode("<QUE> What is salty? <ANS> The sea </END></s>")
    whole = "<s> <CON> The sea is salty. </CON>\n\n<QUE> What is salty? <ANS> The sea </END></s>"
    assert list(found.token_ids) == prompt + answer == tokenizer.encode(whole)
    assert list(found.counts) == [False] * len(prompt) + [True] * len(answer)
    assert found.labels() == [-100] * len(prompt) + answer
    assert answer[-1] == tokenizer.encode("</s>")[0]


def test_the_prompt_of_the_last_shot_is_the_one_a_chain_sends(
    prompts: InstructionPretrain, tokenizer: ModelTokenizer
) -> None:
    found = sequence(prompts, tokenizer, [ADA, SEA])
    prompt = prompts.prompt([ADA], SEA.document)
    assert list(found.token_ids[: len(prompt)]) == prompt
    assert list(found.token_ids[len(prompt) :]) == tokenizer.encode("<QUE> What is salty? <ANS> The sea </END></s>")


def test_the_loss_is_on_the_pairs_and_end_marks_of_every_shot(
    prompts: InstructionPretrain, tokenizer: ModelTokenizer
) -> None:
    found = sequence(prompts, tokenizer, [ADA, SEA])
    assert learnt(tokenizer, found) == [
        "<QUE> Who wrote? <ANS> Ada </END>\n\n<QUE> What? <ANS> Notes </END></s>",
        "<QUE> What is salty? <ANS> The sea </END></s>",
    ]


@given(
    texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=3),
    question=st.text(min_size=1).filter(str.strip),
)
@settings(max_examples=50)
def test_any_text_keeps_prompt_and_answer_apart(
    prompts: InstructionPretrain, tokenizer: ModelTokenizer, texts: list[str], question: str
) -> None:
    turns = [Turn(text.encode("utf-8", "replace").decode(), (Pair(question, "yes"),)) for text in texts]
    turns = [Turn(turn.document, (Pair(question.encode("utf-8", "replace").decode(), "yes"),)) for turn in turns]
    found = sequence(prompts, tokenizer, turns)
    prompt = prompts.prompt(turns[:-1], turns[-1].document)
    assert list(found.token_ids[: len(prompt)]) == prompt
    assert learnt(tokenizer, found)[-1] == tokenizer._tokenizer.decode(
        tokenizer.encode(prompts.answer(turns[-1].pairs))
    )
    assert len(learnt(tokenizer, found)) == len(turns)


def examples(count: int, source: str = "one") -> list[Example]:
    return [Example(source, f"Text {number} of {source}.", (Pair("Which?", f"{number}"),)) for number in range(count)]


def test_every_example_once_an_epoch_and_shots_of_one_source(
    prompts: InstructionPretrain, tokenizer: ModelTokenizer
) -> None:
    data = examples(30) + examples(20, "two")
    packed, left_out = pack(data, prompts, tokenizer, Packing(window=400, shots=3, epochs=2, seed=1))
    texts = [tokenizer._tokenizer.decode(found.token_ids) for found in packed]
    for example in data:
        assert sum(f"> {example.context} <" in text for text in texts) == 2
    assert {found.shots for found in packed} == {1, 2, 3}
    assert not any("of one" in text and "of two" in text for text in texts)
    assert all(len(found.token_ids) <= 400 for found in packed)
    assert not left_out.total()


def test_the_seed_decides(prompts: InstructionPretrain, tokenizer: ModelTokenizer) -> None:
    packing = Packing(window=400, shots=3, seed=1)
    once, again = (pack(examples(20), prompts, tokenizer, packing)[0] for _ in range(2))
    other = pack(examples(20), prompts, tokenizer, Packing(window=400, shots=3, seed=2))[0]
    assert once == again
    assert once != other


def test_caps_bound_what_an_epoch_takes_of_a_source(prompts: InstructionPretrain, tokenizer: ModelTokenizer) -> None:
    data = examples(30) + examples(20, "two") + examples(5, "three")
    packing = Packing(window=400, shots=1, cap=10, caps=(("two", 3),))
    packed, left_out = pack(data, prompts, tokenizer, packing)
    texts = [tokenizer._tokenizer.decode(found.token_ids) for found in packed]
    assert Counter(next(s for s in ("one", "two", "three") if f"of {s}" in text) for text in texts) == {
        "one": 10,
        "two": 3,
        "three": 5,
    }
    assert left_out["over_cap"] == 37


def test_what_is_longer_than_the_window_is_left_out(prompts: InstructionPretrain, tokenizer: ModelTokenizer) -> None:
    data = [*examples(3), Example("one", "long " * 500, (Pair("Which?", "4"),))]
    packed, left_out = pack(data, prompts, tokenizer, Packing(window=200, shots=1))
    assert len(packed) == 3
    assert left_out["too_long"] == 1


def test_held_out_contexts_are_on_one_side_only() -> None:
    data = examples(200) * 2
    train, held = held_out(data, 0.2, seed=0)
    assert len(train) + len(held) == 400
    assert 20 <= len(held) <= 140
    assert not {example.context for example in train} & {example.context for example in held}
    assert held_out(data, 0.0, seed=0)[1] == []


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 120), st.integers(1, 20))
def test_batches_hold_every_sequence_once_within_the_tokens(lengths: list[int], tokens: int, within: int) -> None:
    data = [TrainingSequence(tuple([number] * length), (True,) * length, 1) for number, length in enumerate(lengths)]
    batches = in_order(batched(data, tokens, within=within), seed=0)
    assert sorted(found.token_ids[0] for batch in batches for found in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(len(found.token_ids) for found in batch)
        assert padded <= tokens or len(batch) == 1


@pytest.mark.parametrize("setting", ["window", "shots", "epochs"])
def test_settings_that_cannot_work_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        Packing(**{"window": 10, setting: 0})


def test_a_window_stands_for_its_packing() -> None:
    short = TrainingConfig("base", window=512)
    assert short == TrainingConfig("base", Packing(512))
    assert replace(short, max_steps=3).packing == Packing(512)
    for wrong in ({}, {"packing": Packing(512), "window": 512}):
        with pytest.raises(ConfigError, match="either a packing or a window"):
            TrainingConfig("base", **wrong)
