"""Measures of a pair: by hand, in several languages, and total for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfsynth.conditions import FILTERED
from hfsynth.measures import MEASURES, answer_leak, content_words, foreign_names, foreign_numbers, grounding, words
from hfsynth.records import Pair

TEXT = "In 1922 Frederick Banting gave insulin to Leonard. It cost 1,200.50 dollars; the dose was ７ units."


def test_words_fold_case_and_forms_and_keep_numbers_together() -> None:
    assert words("The dog's 1,200.50 dollars — ７ Units, 3.50!") == [
        "the",
        "dog's",
        "1200.5",
        "dollars",
        "7",
        "units",
        "3.5",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("胰岛素降低血糖", list("胰岛素降低血糖")),
        ("東京 2020年", ["東", "京", "2020", "年"]),
        ("Straße und Wäsche", ["strasse", "und", "wäsche"]),
        ("इंसुलिन रक्त", ["इंसुलिन", "रक्त"]),
        ("ยา", list("ยา")),
        ("", []),
        ("… — !", []),
    ],
)
def test_words_of_several_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_function_words_are_no_content() -> None:
    assert content_words("It is the dose that was given to him") == ["dose", "given"]


def test_grounding_is_the_share_of_content_words_in_the_document() -> None:
    assert grounding(TEXT, "Insulin") == 1.0
    assert grounding(TEXT, "Insulin was given by Banting") == pytest.approx(2 / 3)
    assert grounding(TEXT, "penicillin") == 0.0
    assert grounding(TEXT, "Yes.") == 1.0
    assert grounding(TEXT, "1200.5 dollars and 7 units") == 1.0
    assert grounding("胰岛素降低血糖", "血糖高") == pytest.approx(2 / 3)


def test_numbers_that_the_document_does_not_have() -> None:
    assert foreign_numbers(TEXT, "In 1922 and 1923, for 1200.50 or 1,300 dollars, 1923") == ("1923", "1300")


def test_names_that_the_document_does_not_have() -> None:
    assert foreign_names(TEXT, "Best helped Banting and Charles Best.") == ("Charles", "Best")
    assert foreign_names(TEXT, "Nobody did. Then I said so") == ()
    assert foreign_names(TEXT, "Er nahm Insulin und Zucker") == ("Zucker",)
    assert foreign_names(TEXT, "胰岛素") == ()


def test_a_question_that_gives_its_answer_away() -> None:
    assert answer_leak("Who gave insulin to Leonard?", "Leonard") == 1.0
    assert answer_leak("Who gave insulin to Leonard?", "Banting gave insulin") == pytest.approx(2 / 3)
    assert answer_leak("Was it insulin?", "Yes") == 0.0
    assert answer_leak("Which one?\nOptions:\n- insulin\n- sugar", "insulin") == 0.0
    assert answer_leak("What is it?", "It is") == 0.0


def test_every_measure_can_be_named_in_a_condition() -> None:
    assert set(MEASURES) == set(FILTERED)


def test_lengths_are_counted_in_words() -> None:
    pair = Pair("Who was it?", "Banting, in 1922")
    assert MEASURES["instruction_words"](TEXT, pair) == 3.0
    assert MEASURES["response_words"](TEXT, pair) == 3.0


@given(st.text(), st.text(), st.text())
def test_any_text_has_every_measure(document: str, instruction: str, response: str) -> None:
    values = {name: measure(document, Pair(instruction, response)) for name, measure in MEASURES.items()}
    assert all(isinstance(value, float) and value >= 0 for value in values.values())
    assert values["grounding"] <= 1
    assert values["answer_leak"] <= 1


@given(st.text())
def test_a_text_is_grounded_in_itself(text: str) -> None:
    assert grounding(text, text) == 1.0
    assert foreign_numbers(text, text) == ()
    assert foreign_names(text, text) == ()
