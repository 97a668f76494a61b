"""The scripted engine: exact, in any order, cut like a model's answers, and clear about wrong arguments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfsynth.core.config import EngineConfig, Sampling
from hfsynth.core.errors import ConfigError, EngineError
from hfsynth.core.records import Document
from hfsynth.engine.protocol import Chain, Completion, EngineKey, Generation, Request
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine, load_scripted
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.synthesis.chains import Chainer


def asking(*prompts: str) -> Chain[list[Completion]]:
    """Ask one prompt after the other and return the completions."""
    answers = []
    for shot, prompt in enumerate(prompts):
        answers.append((yield Request(CharacterTokenizer().encode(prompt), shot, 0)))
    return answers


@given(st.text(st.characters(exclude_categories=())), st.lists(st.sampled_from(["<s>", "</s>", "<", "s>"]), max_size=4))
def test_token_ids_and_text_are_one_to_one(text: str, controls: list[str]) -> None:
    whole = text.join(controls) + text
    token_ids = CharacterTokenizer().encode(whole)
    assert CharacterTokenizer().decode(token_ids) == whole
    assert len(token_ids) == len(whole) - 2 * whole.count("<s>") - 3 * whole.count("</s>")


def test_a_script_sees_the_prompt_and_its_answer_comes_back() -> None:
    engine = ScriptedEngine(lambda prompt: prompt.upper() + "!")
    (answers,) = engine.run([asking("one", "two")], Generation())
    assert [(answer.text, answer.finish_reason, answer.output_tokens) for answer in answers] == [
        ("ONE!", "stop", 4),
        ("TWO!", "stop", 4),
    ]


def test_answers_are_cut_at_max_tokens() -> None:
    engine = ScriptedEngine(lambda prompt: prompt)
    answers = next(engine.run([asking("12345", "123456")], Generation(Sampling(max_tokens=5))))
    assert [(answer.text, answer.finish_reason) for answer in answers] == [("12345", "stop"), ("12345", "length")]


def test_answers_end_before_the_first_stop_string() -> None:
    stopping = Generation(Sampling(max_tokens=5), stop=("#", "()"))
    answers = next(ScriptedEngine(lambda prompt: prompt).run([asking("ab()c#", "abcdef#", "#")], stopping))
    assert [(answer.text, answer.finish_reason) for answer in answers] == [
        ("ab", "stop"),
        ("abcde", "length"),
        ("", "stop"),
    ]


def test_a_script_may_give_a_whole_completion() -> None:
    failed = Completion("", "error", error="no")
    assert next(ScriptedEngine(lambda prompt: failed).run([asking("a")], Generation())) == [failed]


def test_a_script_can_kill_the_engine() -> None:
    def dying(prompt: str) -> str:
        raise EngineError("The engine died.")

    with pytest.raises(EngineError):
        list(ScriptedEngine(dying).run([asking("a")], Generation()))


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5), st.sampled_from([0.0, 0.0003]))
def test_every_chain_ends_once_whatever_is_in_flight(lengths: list[int], in_flight: int, latency: float) -> None:
    engine = ScriptedEngine(lambda prompt: prompt, latency=latency, max_in_flight=in_flight)
    chains = [asking(*(f"{number}.{shot}" for shot in range(length))) for number, length in enumerate(lengths)]
    ended = [[answer.text for answer in answers] for answers in engine.run(chains, Generation())]
    assert sorted(ended) == sorted([f"{n}.{shot}" for shot in range(length)] for n, length in enumerate(lengths))


def test_completions_end_out_of_order() -> None:
    engine = ScriptedEngine(lambda prompt: prompt, latency=0.005)
    ended = [answers[0].text for answers in engine.run([asking(f"{n:02}") for n in range(30)], Generation())]
    assert ended != sorted(ended)


def test_chains_are_read_only_as_far_as_keeps_the_engine_busy() -> None:
    read = itertools.count()

    def endless() -> Iterator[Chain[list[Completion]]]:
        while True:
            next(read)
            yield asking("a", "b")

    run = ScriptedEngine(lambda prompt: prompt, max_in_flight=4).run(endless(), Generation())
    for _ in range(10):
        next(run)
    assert next(read) <= 10 + 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"max_in_flight": "many"}, "max_in_flight"),
        ({"latency": -1}, "latency"),
        ({"latency": "slow"}, "latency"),
        ({"gpu_memory_utilization": 0.9}, "gpu_memory_utilization"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_scripted(EngineKey(EngineConfig("scripted", arguments), "scripted"))


@pytest.mark.parametrize(
    "name",
    [
        "nowhere:f",
        "scripts",
        "scripts:missing",
        "scripts:not_a_script",
        ":f",
        "",
        ".scripts:quoting",
        "scripts:a:b",
        ":",
    ],
)
def test_a_script_that_cannot_be_imported_is_a_clear_error(name: str) -> None:
    with pytest.raises(ConfigError, match="script"):
        load_scripted(EngineKey(EngineConfig("scripted"), name))


def test_scripts_are_named_by_module_and_function() -> None:
    engine = load_scripted(EngineKey(EngineConfig("scripted", {"max_in_flight": 2}), "scripts:quoting", window=900))
    assert (engine.window, engine.max_in_flight) == (900, 2)
    assert engine.script("<s> <CON> a text </CON>\n\n") == "<QUE> What is text 1? <ANS> a text </END>"


def test_the_built_in_script_quotes_the_document() -> None:
    engine = load_scripted(EngineKey(EngineConfig("scripted"), "scripted"))
    chainer = Chainer(InstructionPretrain(engine.tokenizer), engine.window, 400)
    (result,) = next(engine.run(chainer.chains([Document("d", "one two three")]), Generation()))
    assert [pair.response for pair in result.pairs] == ["one two three", "one two three"]


def test_a_request_with_choices_says_how_likely_each_is() -> None:
    def choosing() -> Chain[tuple[Completion, Completion]]:
        choices = (ord("y"), ord("n"))
        first = yield Request(CharacterTokenizer().encode("yes or no?"), 0, 0, choices)
        second = yield Request(CharacterTokenizer().encode("write"), 1, 0)
        return first, second

    chosen, written = next(ScriptedEngine(lambda prompt: "no, never").run([choosing()], Generation()))
    assert (chosen.text, chosen.output_tokens, chosen.logprobs) == ("n", 1, (None, 0.0))
    assert (written.text, written.logprobs) == ("no, never", ())
