"""Taking pairs apart: what is understood, and that nothing raises or gets lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.records import Pair
from hfsynth.prompting.pair_layout import PairLayout, TaskKind, letters, recognise, roman

QUESTION = "Which city is the capital of France?"
LAYOUTS = {
    "dashes": "\nOptions:\n- Lyon\n- Paris\n- Nice",
    "stars": "\nOptions:\n* Lyon\n* Paris\n* Nice",
    "dots": "\nChoices:\n• Lyon\n• Paris\n• Nice",
    "plain lines": "\nOptions:\nLyon\nParis\nNice",
    "capitals": "\nOptions:\nA. Lyon\nB. Paris\nC. Nice",
    "brackets": "\nAnswer choices:\n(a) Lyon\n(b) Paris\n(c) Nice",
    "half brackets": "\nOPTIONS:\nA) Lyon\nB) Paris\nC) Nice",
    "numbers": "\nOptions:\n1. Lyon\n2. Paris\n3. Nice",
    "roman": "\nOptions:\n(i) Lyon\n(ii) Paris\n(iii) Nice",
    "bulleted letters": "\nOptions:\n- A. Lyon\n- B. Paris\n- C. Nice",
    "one line": "\nOptions: (A) Lyon (B) Paris (C) Nice",
    "semicolons": "\nOptions: Lyon; Paris; Nice",
    "commas": "\nChoices: Lyon, Paris, Nice",
    "no heading": "\nA. Lyon\nB. Paris\nC. Nice",
    "blank lines": "\n\nOptions:\n\n- Lyon\n\n- Paris\n\n- Nice\n",
}


def choice(answer: str, layout: str = "dashes") -> PairLayout:
    return recognise(Pair(QUESTION + LAYOUTS[layout], answer))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_options_is_read(layout: str) -> None:
    task = choice("Paris", layout)
    assert task.kind is TaskKind.MULTIPLE_CHOICE
    assert (task.question, task.options, task.correct) == (QUESTION, ("Lyon", "Paris", "Nice"), (1,))


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("Paris", (1,)),
        ("paris.", (1,)),
        ("“Paris”", (1,)),
        ("B", (1,)),
        ("(B)", (1,)),
        ("b)", (1,)),
        ("B.", (1,)),
        ("B. Paris", (1,)),
        ("(B) Paris", (1,)),
        ("Option B", (1,)),
        ("The correct answer is Paris.", (1,)),
        ("Answer: (C)", (2,)),
        ("A and C", (0, 2)),
        ("c, a", (0, 2)),
        ("Nice, Lyon", (0, 2)),
        ("Lyon, Paris and Nice", (0, 1, 2)),
        ("Lyon, Paris, and Nice", (0, 1, 2)),
        ("- Lyon\n- Nice", (0, 2)),
        ("D", ()),
        ("Marseille", ()),
        ("Paris, because the government sits there", ()),
        ("B. Lyon", ()),
    ],
)
def test_defect_11_answers_are_understood_and_kept(answer: str, correct: tuple[int, ...]) -> None:
    task = choice(answer)
    assert task.kind is TaskKind.MULTIPLE_CHOICE
    assert (task.answer, task.correct) == (answer, correct)


def test_defect_11_yes_and_capital_yes_are_one() -> None:
    task = recognise(Pair("Is it so?\nOptions:\n- Yes\n- No\n- Maybe", "yes"))
    assert (task.correct, task.answer) == ((0,), "yes")


@pytest.mark.parametrize(
    ("layout", "answer"), [("numbers", "2"), ("numbers", "(2)"), ("roman", "ii"), ("roman", "II.")]
)
def test_answers_follow_the_way_the_options_are_counted(layout: str, answer: str) -> None:
    assert choice(answer, layout).correct == (1,)


def test_an_options_text_counts_before_a_label() -> None:
    assert recognise(Pair("How many?\nOptions:\n1. 3\n2. 2\n3. 1", "3")).correct == (0,)
    assert recognise(Pair("Which grade?\nOptions:\n- B\n- A", "A")).correct == (1,)


def test_an_option_that_holds_a_separator_is_found() -> None:
    task = recognise(Pair("Which?\nOptions:\n- salt and pepper\n- bread, butter", "Bread, butter."))
    assert task.correct == (1,)


def test_chain_of_thought_is_taken_apart() -> None:
    pair = Pair(
        "How many apples?\nLet's think step by step.", "He had 3.\nHe ate 1.\nTherefore, the answer is 2 apples."
    )
    task = recognise(pair)
    assert task == PairLayout(
        TaskKind.CHAIN_OF_THOUGHT, "How many apples?", "2 apples.", reasoning="He had 3.\nHe ate 1."
    )


@pytest.mark.parametrize("cue", ["Let's think step by step", "Let us think step by step:", "Let’s think step-by-step."])
def test_the_call_for_steps_may_be_written_in_several_ways(cue: str) -> None:
    task = recognise(Pair(f"Why? {cue}", "It rained. So the answer is rain"))
    assert (task.question, task.reasoning, task.answer) == ("Why?", "It rained.", "rain")


@pytest.mark.parametrize(
    "question",
    [
        "Which?\nOptions:\n- red\n- blue\nLet's think step by step.",
        "Which?\nLet's think step by step.\nOptions:\n- red\n- blue",
    ],
)
def test_both_can_be_combined(question: str) -> None:
    task = recognise(Pair(question, "The sky is blue.\nTherefore, the answer is (B)."))
    assert task.kind is TaskKind.MULTIPLE_CHOICE_CHAIN_OF_THOUGHT
    assert (task.question, task.options, task.correct) == ("Which?", ("red", "blue"), (1,))
    assert (task.reasoning, task.answer) == ("The sky is blue.", "(B).")


def test_the_last_conclusion_counts() -> None:
    task = recognise(Pair("Why?", "Some say\nTherefore, the answer is 1.\nNo.\nTherefore, the answer is 2."))
    assert (task.reasoning, task.answer) == ("Some say\nTherefore, the answer is 1.\nNo.", "2.")


@pytest.mark.parametrize(
    ("instruction", "response"),
    [
        ("Describe it. Let's think step by step.", "It is round."),
        ("Options:\n- a\n- b", "a"),
        ("Let's think step by step.", "So the answer is 4"),
        ("Explain.\nOptions: there are many", "Many."),
        ("Explain.\nOptions: this, that; more", "All of that."),
        ("Which?\nOptions:\n- a\n- b\nGive a reason.", "a"),
        ("Order these steps.\n1. cook\n2. wash", "2, 1"),
        ("Put these in order.\nA. cook\nB. wash", "wash first, then cook"),
        ("Why?", "Therefore, the answer is no."),
        ("Which?\nOptions:", "a"),
        ("Which?\nOptions:\n- \n-", "a"),
    ],
)
def test_what_cannot_be_taken_apart_stays_word_for_word(instruction: str, response: str) -> None:
    task = recognise(Pair(instruction, response))
    if task.kind is TaskKind.FREE_FORM:
        assert task == PairLayout(TaskKind.FREE_FORM, instruction, response)
    else:
        assert (task.kind, instruction) == (TaskKind.CHAIN_OF_THOUGHT, "Let's think step by step.")


PIECES = st.lists(
    st.sampled_from(
        [
            "Options:",
            "\n",
            "- ",
            "A. ",
            "(b) ",
            "ii) ",
            "Let's think step by step.",
            " and ",
            ", ",
            "Paris",
            "{answer}",
            "答え",
        ]
        + ["Therefore, the answer is ", "İ", "\u202e", "  ", "1. ", "\r\n", "B", "\ud800"]
    ),
    max_size=14,
).map("".join)


@settings(deadline=None, max_examples=400)
@given(PIECES | st.text(max_size=60), PIECES | st.text(max_size=60))
def test_nothing_raises_and_no_word_is_lost(instruction: str, response: str) -> None:
    task = recognise(Pair(instruction, response))
    kept = "".join((task.question, *task.options, *task.markers, task.reasoning or "", task.answer))
    for word in ("Paris", "{answer}", "答え"):
        assert kept.count(word) == (instruction + response).count(word)
    assert task.answer == response.strip() or response.strip().endswith(task.answer)
    assert all(0 <= index < len(task.options) for index in task.correct)
    assert bool(task.options) == ("choice" in task.kind)
    assert (task.reasoning is not None) == ("thought" in task.kind)


def test_long_hostile_texts_take_no_time() -> None:
    filler = "Therefore, " * 20_000 + "Options:\n" * 20_000 + " " * 50_000
    assert recognise(Pair(filler + "x", filler + "x")).kind is TaskKind.FREE_FORM


@pytest.mark.parametrize(("number", "letter", "numeral"), [(1, "A", "i"), (26, "Z", "xxvi"), (27, "AA", "xxvii")])
def test_defect_19_labels_go_on(number: int, letter: str, numeral: str) -> None:
    assert (letters(number), roman(number)) == (letter, numeral)


def test_defect_19_labels_are_all_distinct() -> None:
    for count in (letters, roman):
        assert len({count(number) for number in range(1, 1500)}) == 1499
    assert (letters(702), letters(703), roman(1994), roman(4000)) == ("ZZ", "AAA", "mcmxciv", "mmmm")


@pytest.mark.parametrize(
    "last", ["None of the above", "none of these", "None of the other choices", "All of the above"]
)
def test_defect_12_every_wording_of_none_of_the_above_is_an_option_of_its_own(last: str) -> None:
    task = recognise(Pair(f"Which colour?\nOptions:\n- red\n- blue\n- {last}", f"{last.upper()}."))
    assert task.options == ("red", "blue", last)
    assert task.correct == (2,)
