"""Reading pairs: every written pair comes back, and whatever a model says is kept or counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hfsynth.core.records import Pair, Parsed, Reason, Rejected
from hfsynth.core.text import FORMAT_DELIMITERS
from hfsynth.prompting.chat import json_answer
from hfsynth.prompting.parsing import parse_json_pairs, parse_pairs, render_pairs

LAYOUT = ("\nOptions:", "\n- ", "\nOptions:\n- ", "\nLet's think step by step.", "\nTherefore, the answer is ")
hard_pieces = st.sampled_from(
    [*FORMAT_DELIMITERS, "< CON>", "<  /END>", "<", "QUE>", *LAYOUT, " ", "\n\n", "{answer}", '"']
)
any_character = st.characters(exclude_categories=())  # lone surrogates too
contents = (
    st.lists(st.one_of(hard_pieces, st.text(max_size=6)), min_size=1, max_size=6)
    .map("".join)
    .map(str.strip)
    .filter(bool)
)
pairs_of_a_document = st.lists(
    st.builds(Pair, contents, contents),
    max_size=5,
    unique_by=lambda pair: " ".join(pair.instruction.casefold().split()),
)


def reasons(parsed: Parsed) -> list[Reason]:
    return [rejected.reason for rejected in parsed.rejected]


def everything(parsed: Parsed) -> str:
    kept = [half for pair in parsed.pairs for half in (pair.instruction, pair.response)]
    return "\n".join([*kept, *(rejected.text for rejected in parsed.rejected)])


# --- the published form ---------------------------------------------------------------------------------------------


@given(pairs_of_a_document, st.booleans())
def test_written_pairs_are_read_back_whatever_is_in_them(pairs: list[Pair], cut_off: bool) -> None:
    assert parse_pairs(render_pairs(pairs), cut_off=cut_off) == Parsed(tuple(pairs), ())


def test_pairs_are_written_as_published() -> None:
    written = render_pairs([Pair("Who?", "Ada."), Pair("When?", "1843.")])
    assert written == "<QUE> Who? <ANS> Ada. </END>\n\n<QUE> When? <ANS> 1843. </END>"


@given(st.lists(st.one_of(hard_pieces, st.text(any_character, max_size=5)), max_size=12).map("".join), st.booleans())
def test_any_text_is_read_without_an_error(text: str, cut_off: bool) -> None:
    parsed = parse_pairs(text, cut_off=cut_off)
    everything(parsed).encode()  # can be stored
    for pair in parsed.pairs:
        assert pair.instruction.strip()
        assert pair.response.strip()


@given(st.lists(st.sampled_from([*FORMAT_DELIMITERS, "word"]), max_size=16), st.booleans())
def test_no_word_is_lost(tokens: list[str], cut_off: bool) -> None:
    numbered = [f"w{number}." if token == "word" else token for number, token in enumerate(tokens)]
    found = everything(parse_pairs(" ".join(numbered), cut_off=cut_off))
    assert [word for word in numbered if word.startswith("w") and found.count(word) != 1] == []


Q1 = Pair("q1", "a1")
Q2 = Pair("q2", "a2")


@pytest.mark.parametrize(
    ("text", "pairs", "rejected"),
    [
        ("", [], []),
        (" \n ", [], []),
        ("<QUE> q1 <ANS> a1 </END>", [Q1], []),
        ("<QUE>q1<ANS>a1</END><QUE>q2<ANS>a2</END>", [Q1, Q2], []),
        ("<QUE> q1 <ANS> a1", [Q1], []),
        ("<QUE> q1 <ANS> a1 <QUE> q2 <ANS> a2 </END>", [Q1, Q2], []),
        ("<QUE> q1 <ANS> a1 </END> </END>\n", [Q1], []),
        ("Sure! <QUE> q1 <ANS> a1 </END>", [Q1], [(Reason.NO_QUESTION, "Sure!")]),
        ("<QUE> q1 <ANS> a1 </END> more", [Q1], [(Reason.NO_QUESTION, "more")]),
        ("nothing of the kind", [], [(Reason.NO_QUESTION, "nothing of the kind")]),
        ("<QUE> q1 </END> <QUE> q2 <ANS> a2 </END>", [Q2], [(Reason.NO_ANSWER, "q1 </END>")]),
        ("<QUE> <ANS> a1 </END>", [], [(Reason.EMPTY_QUESTION, "a1")]),
        ("<QUE> q1 <ANS>  </END>", [], [(Reason.EMPTY_ANSWER, "q1")]),
        ("<QUE> q1 <ANS> a1 <ANS> b1 </END>", [Q1], [(Reason.STRAY_DELIMITER, "<ANS> b1 </END>")]),
        ("<QUE> q1 </END> x <ANS> a1 </END>", [], [(Reason.STRAY_DELIMITER, "q1 </END> x <ANS> a1 </END>")]),
        ("<QUE> q1 <ANS> a1 </END> <CON> b </CON>", [Q1], [(Reason.STRAY_DELIMITER, "<CON> b </CON>")]),
        (
            "<QUE> q1 <ANS> a1 </END> <QUE> Q1  <ANS> a9 </END>",
            [Q1],
            [(Reason.DUPLICATE_QUESTION, "Q1\na9")],
        ),
    ],
)
def test_what_a_model_may_say(text: str, pairs: list[Pair], rejected: list[tuple[Reason, str]]) -> None:
    assert parse_pairs(text) == Parsed(tuple(pairs), tuple(Rejected(*item) for item in rejected))


@pytest.mark.parametrize(
    ("text", "pairs", "rejected"),
    [
        ("<QUE> q1 <ANS> a1 </END> <QUE> q2 <ANS> a", [Q1], [(Reason.UNFINISHED, "q2 <ANS> a")]),
        ("<QUE> q1 <ANS> a1 </END> <QUE> q", [Q1], [(Reason.UNFINISHED, "q")]),
        ("<QUE> q1 <QUE> q2 <ANS> a", [], [(Reason.NO_ANSWER, "q1"), (Reason.UNFINISHED, "q2 <ANS> a")]),
        ("Well, let me", [], [(Reason.UNFINISHED, "Well, let me")]),
        ("<QUE> q1 <ANS> a1 </END>", [Q1], []),
    ],
)
def test_a_pair_that_the_limit_cut_off_is_unfinished(
    text: str, pairs: list[Pair], rejected: list[tuple[Reason, str]]
) -> None:
    assert parse_pairs(text, cut_off=True) == Parsed(tuple(pairs), tuple(Rejected(*item) for item in rejected))


def test_the_three_kinds_of_pairs_are_kept_as_published() -> None:
    choice = Pair("Which?\nOptions:\n- red\n- blue", "blue")
    stepwise = Pair("How many?\nLet's think step by step.", "2 and 2.\nTherefore, the answer is 4")
    free = Pair("Summarise the text.", "It is short.")
    assert parse_pairs(render_pairs([choice, stepwise, free])).pairs == (choice, stepwise, free)


# --- JSON -----------------------------------------------------------------------------------------------------------


@given(pairs_of_a_document, st.booleans())
@example([Pair("Pick\nOptions:\n-  a\n- b", "a")], False)
@example([Pair("\nOptions:\n- a".strip(), "a")], False)
@example([Pair("q\nLet's think step by step.", "x\nTherefore, the answer is  4")], False)
def test_json_answers_are_read_back_whatever_is_in_them(pairs: list[Pair], cut_off: bool) -> None:
    assert parse_json_pairs(json_answer(pairs), cut_off=cut_off) == Parsed(tuple(pairs), ())


def test_options_and_reasoning_are_fields_of_their_own_in_json() -> None:
    choice = Pair("Which?\nOptions:\n- red\n- blue", "blue")
    stepwise = Pair("How many?\nLet's think step by step.", "2 and 2.\nTherefore, the answer is 4")
    assert json.loads(json_answer([choice, stepwise])) == {
        "pairs": [
            {"instruction": "Which?", "options": ["red", "blue"], "response": "blue"},
            {"instruction": "How many?", "reasoning": "2 and 2.", "response": "4"},
        ]
    }
    assert parse_json_pairs(json_answer([choice, stepwise])).pairs == (choice, stepwise)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(any_character, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
items = st.fixed_dictionaries(
    {}, optional={name: json_values for name in ("instruction", "response", "options", "reasoning", "other")}
)


@given(st.lists(items | json_values, max_size=4), st.booleans(), st.integers(0, 200), st.booleans())
def test_any_json_and_any_part_of_it_is_read_without_an_error(
    values: list[Any], ascii_only: bool, cut: int, cut_off: bool
) -> None:
    text = json.dumps({"pairs": values}, ensure_ascii=ascii_only)
    for read in (text, text[:cut], text[cut:]):
        everything(parse_json_pairs(read, cut_off=cut_off)).encode()


@given(st.text(any_character, max_size=40), st.booleans())
def test_any_text_is_read_as_json_without_an_error(text: str, cut_off: bool) -> None:
    for read in (text, '{"pairs": [' + text, '{"pairs": [{"instruction": "q", "response": "' + text):
        everything(parse_json_pairs(read, cut_off=cut_off)).encode()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"pairs": [' + '{"a":' * 100_000, '{"pairs": [{"response": ' + "1" * 5000 + "}]}"]
)
def test_absurd_json_is_a_rejection(text: str) -> None:
    parsed = parse_json_pairs(text)
    assert parsed.pairs == ()
    assert reasons(parsed) == [Reason.INVALID_JSON]


@pytest.mark.parametrize(
    "item",
    [
        {"question": "mark1", "answer": "mark2"},
        {"instruction": "mark1"},
        {"response": "mark2"},
        {"instruction": {"text": "mark1"}, "response": "mark2"},
        {"instruction": "mark1", "response": ["mark2"]},
        {"instruction": "mark1", "options": {"A": "mark2"}, "response": "mark3"},
        {"instruction": "mark1", "reasoning": ["mark2", "mark4"], "response": "mark3"},
        ["mark1", "mark2"],
        "mark1",
    ],
)
def test_an_item_of_another_shape_is_rejected_whole(item: object) -> None:
    parsed = parse_json_pairs(json.dumps({"pairs": [item, {"instruction": "q1", "response": "a1"}]}))
    assert parsed.pairs == (Q1,)
    assert reasons(parsed) == [Reason.INVALID_JSON]
    assert json.loads(parsed.rejected[0].text) == item


def test_numbers_and_truth_values_are_answers() -> None:
    text = '{"pairs": [{"instruction": "2+2?", "response": 4}, {"instruction": "True?", "response": true}]}'
    assert parse_json_pairs(text) == Parsed((Pair("2+2?", "4"), Pair("True?", "true")), ())


@pytest.mark.parametrize(
    ("text", "cut_off", "rejected"),
    [
        ('```json\n{"pairs": [{"instruction": "q1", "response": "a1"}]}\n```', False, []),
        ('Here: [{"instruction": "q1", "response": "a1"}]', False, []),
        ('{"pairs": [{"instruction": "q1", "response": "a1"}, {"instr', True, [Reason.UNFINISHED]),
        ('{"pairs": [{"instruction": "q1", "response": "a1"}, {"instr', False, [Reason.INVALID_JSON]),
        ('{"pairs": [{"instruction": "q1", "response": "a1"}, ', True, []),
        (
            '{"pairs":[{"instruction":"q1","response":"a1"},{"instruction":"","response":"x"}]}',
            False,
            ["empty_question"],
        ),
        (
            '{"pairs":[{"instruction":"q1","response":"a1"},{"instruction":"x","response":" "}]}',
            False,
            ["empty_answer"],
        ),
        (
            '{"pairs":[{"instruction":"q1","response":"a1"},{"instruction":"Q1","response":"x"}]}',
            False,
            ["duplicate_question"],
        ),
    ],
)
def test_whole_pairs_in_front_of_a_slip_are_kept(text: str, cut_off: bool, rejected: list[str]) -> None:
    parsed = parse_json_pairs(text, cut_off=cut_off)
    assert parsed.pairs == (Q1,)
    assert reasons(parsed) == rejected


@pytest.mark.parametrize(("cut_off", "reason"), [(False, Reason.INVALID_JSON), (True, Reason.UNFINISHED)])
def test_text_without_json_is_one_rejection(cut_off: bool, reason: Reason) -> None:
    assert parse_json_pairs("I'd rather not.", cut_off=cut_off) == Parsed((), (Rejected(reason, "I'd rather not."),))


def test_half_a_character_in_json_can_still_be_stored() -> None:
    parsed = parse_json_pairs('{"pairs": [{"instruction": "q\\ud83d", "response": "\\ud83d\\ude00"}]}')
    assert parsed.pairs == (Pair("q\ufffd", "\U0001f600"),)
