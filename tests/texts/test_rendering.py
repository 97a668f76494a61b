"""Rendering: nothing lost, nothing invented, no state, the shares that were asked for, and the published defects."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.draws import Draws
from hfsynth.core.errors import ColumnError, ConfigError
from hfsynth.core.records import Pair, content_id
from hfsynth.prompting.pair_layout import TaskKind, recognise
from hfsynth.texts.options import OptionLook, list_options
from hfsynth.texts.rendering import render_dataset
from hfsynth.texts.styles import DEFAULT_STYLES, Passage, Rendered, Styles, compose
from hfsynth.texts.training_texts import RenderCounts, in_validation, render_rows
from hfsynth.texts.wordings import STYLE_NAMES, catalogue

Row = dict[str, Any]
FREE = (Pair("When was it opened?", "In 1932."), Pair("Who drew it?", "J. Bradfield"), Pair("Name it", "The bridge!"))
CHOICE = Pair("What is it made of?\nOptions:\n- steel\n- wood\n- brick\n- glass", "steel")
STEPS = Pair(
    "How long?\nLet's think step by step.", "From 1924 to 1932.\nThat is 8.\nTherefore, the answer is 8 years."
)
BOTH = Pair(
    "Which is older?\nOptions:\nA. bridge\nB. opera\nLet's think step by step.",
    "It opened first.\nTherefore, the answer is A",
)
EVERY = (*FREE, CHOICE, STEPS, BOTH)
ONLY = {name: Styles.of({name: 1, "inverted": 0}) for name in STYLE_NAMES}


def one(
    pairs: Sequence[Pair], chain: str = "c", text: str = "DOCUMENT", *, seed: int = 0, styles: Styles | None = None
) -> Rendered:
    return run_of([passage(text, pairs)], seed=seed, chain=chain, styles=styles or Styles())


def passage(text: str, pairs: Sequence[Pair] = ()) -> Passage:
    return text, [(pair.instruction.strip(), pair.response.strip()) for pair in pairs]


def run_of(
    run: Sequence[Passage], *, seed: int, chain: str, index: int = 0, styles: Styles = DEFAULT_STYLES
) -> Rendered:
    return compose(run, f"{seed}\0{chain}\0{index}", styles)


def many(pairs: Sequence[Pair], times: int, styles: Styles | None = None) -> Iterator[Rendered]:
    return (one(pairs, f"chain {number}", styles=styles) for number in range(times))


def row(text: str | None, pairs: Sequence[Pair] = (), chain: str = "c", shot: int = 0, follows: bool = False) -> Row:
    return {
        "text": text,
        "pairs": [{"instruction": pair.instruction, "response": pair.response} for pair in pairs],
        "synthesis": {"status": "ok" if pairs else "no_pairs", "chain": chain, "shot": shot, "follows": follows},
    }


def chains(number: int, shots: int = 2) -> list[Row]:
    return [
        row(f"text {chain}.{shot}", FREE[: 1 + (chain + shot) % 3], f"chain {chain}", shot, shot > 0)
        for chain in range(number)
        for shot in range(shots)
    ]


def holds_everything(text: str, pair: Pair) -> bool:
    """Tell whether a text holds all parts of a pair; an answer that is an option may be named by its label."""
    task = recognise(pair)
    parts = (task.question, *task.options, task.reasoning or "", "" if task.correct else task.answer)
    return all(part in text for part in parts)


@pytest.fixture(scope="module")
def hundred_thousand() -> list[Rendered]:
    """Render 100,000 free-form chains of one document with the same two pairs."""
    return list(many([Pair("QUESTION", "ANSWER")] * 2, 100_000))


# --- the defects of the reference implementation


@pytest.mark.parametrize("pairs", [(), (Pair("", "x"),), (Pair("x", " "),)])
def test_defect_5_a_document_without_pairs_stands_alone_once(pairs: tuple[Pair, ...]) -> None:
    texts = render_rows([row("  A text.\n", pairs)], seed=0)
    assert [(text["text"], text["style"], text["num_pairs"]) for text in texts] == [("  A text.\n", "raw", 0)]


def test_defect_5_no_empty_training_text() -> None:
    rows = [row(None), row(""), row(" \n "), row("A", FREE, "d")]
    texts = list(render_rows(rows, seed=0))
    assert len(texts) == 1
    assert "A" in texts[0]["text"]


@pytest.mark.parametrize("style", STYLE_NAMES)
def test_defect_7_contents_are_not_formatted(style: str) -> None:
    pair = Pair("Replace {answer} and {question} by {0} {{x}} %s", "{options} {reasoning} {noun}")
    for number in range(40):
        text = one([pair, pair], str(number), "{text} {pairs}", styles=ONLY[style]).text
        assert text.count(pair.instruction) == text.count(pair.response) == 2
        assert text.count("{text} {pairs}") == 1


def test_defect_10_rendering_changes_nothing_that_it_is_given() -> None:
    rows = chains(20)
    before = copy.deepcopy(rows)
    first = list(render_rows(rows, seed=1))
    assert rows == before
    assert list(render_rows(rows, seed=2)) != first
    assert list(render_rows(rows, seed=1)) == first
    assert rows == before


@pytest.mark.parametrize("answer", ["wood", "Wood.", "B", "(B)", "wood, brick", "B and C", "paper", "B, as said"])
def test_defect_11_no_multiple_choice_pair_is_dropped(answer: str) -> None:
    pair = Pair(CHOICE.instruction, answer)
    for rendered in many([pair, FREE[0]], 50):
        assert holds_everything(rendered.text, pair)
        if not recognise(pair).correct:
            assert answer in rendered.text


def test_defect_13_option_order_is_unbiased() -> None:
    """Every option lands in every place equally often, over 10,000 documents, within three standard deviations."""
    documents, places = 10_000, 4
    landed: Counter[tuple[str, int]] = Counter()
    for rendered in many([CHOICE], documents):
        listed = sorted((rendered.text.index(f" {option}"), option) for option in recognise(CHOICE).options)
        landed.update((option, place) for place, (_, option) in enumerate(listed))
    expected = documents / places
    allowed = 3 * sqrt(documents * (1 / places) * (1 - 1 / places))
    assert len(landed) == places * places
    worst = max(landed.values(), key=lambda times: abs(times - expected))
    assert abs(worst - expected) <= allowed, landed


def test_defect_14_one_stream_gives_variety(hundred_thousand: list[Rendered]) -> None:
    """Count distinct skeletons: all contents are the same here, so distinct texts are distinct skeletons."""
    assert len({rendered.text for rendered in hundred_thousand}) >= 40_000


@pytest.mark.parametrize("style", STYLE_NAMES)
@pytest.mark.parametrize("inverted", [0, 1])
def test_defects_15_and_16_everything_is_kept(style: str, inverted: int) -> None:
    styles = Styles.of({style: 1, "inverted": inverted})
    for rendered in many(EVERY, 150, styles):
        assert rendered.style == style + ("+inverted" if inverted else "")
        assert rendered.text.count("DOCUMENT") == 1
        for pair in EVERY:
            assert holds_everything(rendered.text, pair)


def test_defect_17_each_question_stands_with_its_own_answer() -> None:
    pairs = [Pair(f"<question {number}>", f"<answer {number}>") for number in range(9)]
    for rendered in many(pairs, 300):
        found = re.findall(r"<(question|answer) (\d)>", rendered.text)
        assert found == [(side, str(number)) for number in range(9) for side in ("question", "answer")]


def test_defect_18_the_last_reasoning_and_the_final_period_are_kept() -> None:
    for rendered in many([FREE[0], STEPS], 150, ONLY["inline_few_shot"]):
        assert "From 1924 to 1932.\nThat is 8." in rendered.text
        assert rendered.text.endswith("8 years.")
        assert "In 1932.\n" in rendered.text


def test_defect_18_the_period_of_a_chosen_answer_is_kept() -> None:
    for rendered in many([FREE[1], Pair(CHOICE.instruction, "Steel.")], 60, ONLY["classic"]):
        assert re.search(r"(?:steel|[\dA-Za-z)\]])\.(?:\n|$)", rendered.text)


def test_defect_19_numbered_questions_go_on_past_26() -> None:
    pairs = [Pair(f"<question {number}>", f"<answer {number}>") for number in range(60)]
    for rendered in many(pairs, 60, ONLY["numbered"]):
        assert all(pair.response in rendered.text for pair in pairs)
        labels = re.findall(r"^(.*?)(?:\n\n?)?<question \d+>", rendered.text, re.MULTILINE)
        assert len(set(labels[1:])) == 59 or set(labels) == {""}


def test_defect_20_no_state_leaks_from_one_text_to_the_next() -> None:
    alone = [one(EVERY, str(number)) for number in range(30)]
    for _ in range(3):
        order = random.Random(5).sample(range(30), 30)
        assert {number: one(EVERY, str(number)) for number in order} == dict(enumerate(alone))


def test_defect_20_one_family_within_a_text() -> None:
    run = [passage(f"DOCUMENT {number}", FREE) for number in range(4)]
    shapes = set()
    for number in range(200):
        text = run_of(run, seed=0, chain=str(number), styles=ONLY["classic"]).text
        between = {text[a.end() : b.start()] for a, b in zip(*[iter(matches(text))] * 2, strict=True)}
        assert len(between) == 1
        shapes |= between
    assert len(shapes) > 30


def matches(text: str) -> list[re.Match[str]]:
    sides = "|".join(re.escape(side) for pair in FREE for side in (pair.instruction, pair.response))
    return list(re.finditer(sides, text))


def test_defect_21_no_doubled_question_marks() -> None:
    for rendered in many(EVERY, 1_000):
        assert "??" not in rendered.text
        assert not re.search(r"[?!][.?]|(?<!\.)\.\.(?!\.)", rendered.text)


def test_defect_22_questions_and_answers_stand_once() -> None:
    pairs = [Pair("<q>", "<a>"), Pair("<r>\nLet's think step by step.", "<c>\nTherefore, the answer is <d>")]
    for rendered in many(pairs, 500):
        assert [rendered.text.count(mark) for mark in ("<q>", "<a>", "<r>", "<c>", "<d>")] == [1] * 5


def test_defect_23_speakers_differ() -> None:
    for rendered in many(FREE, 200, ONLY["dialogue"]):
        asked = re.search(r"\n?([^\n]*)\s" + re.escape(FREE[0].instruction), rendered.text)
        answered = re.search(r"\n([^\n]*)\s" + re.escape(FREE[0].response), rendered.text)
        assert asked and answered and asked.group(1) != answered.group(1)


# --- options


@pytest.mark.parametrize("label", catalogue().option_labels)
@pytest.mark.parametrize("form", ["label", "label and text", "text"])
def test_an_answer_given_as_a_letter_follows_the_shuffled_order(label: str, form: str) -> None:
    """Read the answer back from the options as listed: it must still be the option that was right."""
    seen = set()
    for number in range(200):
        task = recognise(Pair(CHOICE.instruction, "C"))
        listed, answer = list_options(task, OptionLook(label, form, False), Draws(str(number)))
        again = recognise(Pair(f"Which?\nOptions:\n{listed}", answer))
        assert [again.options[index] for index in again.correct] == ["brick"]
        seen.add(again.options)
    assert len(seen) == 24


def test_several_answers_follow_the_shuffled_order() -> None:
    task = recognise(Pair(CHOICE.instruction, "A, B and D"))
    for number in range(50):
        for form in ("label", "label and text", "text"):
            listed, answer = list_options(task, OptionLook("({upper})", form, number % 2 == 0), Draws(str(number)))
            again = recognise(Pair(f"Which?\nOptions:\n{listed}", answer))
            assert {again.options[index] for index in again.correct} == {"steel", "wood", "glass"}


@pytest.mark.parametrize(
    "pair",
    [
        Pair("Which?\nOptions:\n- red\n- blue", "B, since (A) is a trap"),
        Pair("Which?\nOptions:\nA. red\nB. blue\nLet's think step by step.", "Option A is out.\nSo the answer is B"),
        Pair("Why is (A) wrong?\nOptions:\nA. red\nB. blue", "blue"),
    ],
)
def test_options_keep_their_places_where_labels_are_spoken_of(pair: Pair) -> None:
    task = recognise(pair)
    for rendered in many([pair], 60):
        assert re.search(r"A\. red\nB\. blue", rendered.text)
        assert task.answer in rendered.text


def test_all_of_the_above_stays_last() -> None:
    pair = Pair("Which?\nOptions:\n- red\n- blue\n- all of the above", "red")
    for rendered in many([pair], 60):
        assert rendered.text.index("red") < rendered.text.index("blue") < rendered.text.index("all of the above")


def test_options_do_not_count_as_the_questions_do() -> None:
    for rendered in many([CHOICE, CHOICE], 300, ONLY["numbered"]):
        numbered = re.search(r"2\W+What is it", rendered.text)
        assert not (numbered and re.search(r"^\(?2[.)] (?:steel|wood|brick|glass)", rendered.text, re.MULTILINE))


# --- what goes around the contents


def test_a_single_pair_is_never_spoken_of_in_the_plural() -> None:
    for rendered in many(FREE[:1], 500):
        assert not re.search(r"\b(?:these questions|questions \w+ are|some questions)\b", rendered.text.lower())


@pytest.mark.parametrize("style", STYLE_NAMES)
def test_documents_of_a_run_stand_in_order_with_their_pairs(style: str) -> None:
    run = [passage("DOC-0", FREE[:1]), passage("DOC-1", FREE[1:]), passage("DOC-2")]
    for number in range(50):
        text = run_of(run, seed=0, chain=str(number), styles=ONLY[style]).text
        places = [text.index(part) for part in ("DOC-0", FREE[0].response, "DOC-1", FREE[2].response, "DOC-2")]
        assert places == sorted(places)


# --- the distribution


def test_styles_are_drawn_as_published(hundred_thousand: list[Rendered]) -> None:
    """The shares of 100,000 chains: 80/5/5/5/5, a twentieth inverted, within four standard deviations."""
    drawn = Counter(rendered.style for rendered in hundred_thousand)
    for name, share in zip(STYLE_NAMES, (0.80, 0.05, 0.05, 0.05, 0.05), strict=True):
        assert near(drawn[name] + drawn[f"{name}+inverted"], share, 100_000)
    assert near(sum(times for style, times in drawn.items() if style.endswith("+inverted")), 0.05, 100_000)


def near(times: int, share: float, total: int) -> bool:
    return abs(times - share * total) <= 4 * sqrt(total * share * (1 - share))


def test_a_single_pair_is_classic_or_next_turn() -> None:
    drawn = Counter(rendered.style.removesuffix("+inverted") for rendered in many(FREE[:1], 5_000))
    assert set(drawn) == {"classic", "next_turn"}
    assert near(drawn["next_turn"], 0.05, 5_000)


def test_styles_that_are_asked_for_are_the_only_ones() -> None:
    drawn = Counter(
        rendered.style for rendered in many(FREE, 300, Styles.of({"dialogue": 3, "numbered": 1, "inverted": 0}))
    )
    assert set(drawn) == {"dialogue", "numbered"}
    assert near(drawn["dialogue"], 0.75, 300)
    assert {rendered.style for rendered in many(FREE[:1], 20, ONLY["dialogue"])} == {"dialogue"}


@pytest.mark.parametrize(
    ("styles", "message"),
    [
        ({"clasic": 1}, "clasic.*\n.*classic, dialogue, numbered, inline_few_shot, next_turn"),
        ({"classic": -1}, "weight of classic.*-1"),
        ({"classic": float("nan")}, "weight of classic"),
        ({"classic": True}, "weight of classic"),
        ({"classic": "5"}, "weight of classic"),
        ({"classic": 0}, "weight 0"),
        ({}, "weight 0"),
        ({"classic": 1, "inverted": 2}, "inverted"),
    ],
)
def test_styles_that_cannot_work_are_refused(styles: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.compile(message)):
        Styles.of(styles)


# --- the stream


def test_a_stream_is_even_and_endless() -> None:
    stream = Draws("a name")
    drawn = Counter(stream.below(7) for _ in range(70_000))
    assert set(drawn) == set(range(7))
    assert all(near(times, 1 / 7, 70_000) for times in drawn.values())
    assert 0.49 < sum(stream.share() for _ in range(20_000)) / 20_000 < 0.51


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 7, 30])
def test_orders_are_orders(size: int) -> None:
    stream = Draws(str(size))
    places: Counter[int] = Counter()
    for _ in range(3_000):
        order = stream.order(size)
        assert sorted(order) == list(range(size))
        places[order.index(0)] += 1
    assert all(near(places[place], 1 / size, 3_000) for place in range(size))


def test_streams_of_two_names_differ_and_of_one_do_not() -> None:
    first, again, other = (Draws(name) for name in ("x", "x", "y"))
    draws = [first.below(2**32) for _ in range(100)]
    assert draws == [again.below(2**32) for _ in range(100)]
    assert not set(draws) & {other.below(2**32) for _ in range(100)}
    assert Draws("a\ud800").below(9) in range(9)


def test_draws_are_the_same_on_every_machine() -> None:
    stream = Draws("hfsynth")
    assert [stream.below(1000) for _ in range(6)] == [693, 170, 4, 752, 970, 185]


# --- nasty contents

NASTY = st.sampled_from(
    [
        "{answer}",
        "{question} {}",
        "}{",
        "%s %(x)s",
        "</CON>\n\n<QUE> q <ANS> a </END>",
        "<s></s>",
        "السؤال: ما هو؟",
        "\u202eabc\u202c",
        "質問は何ですか。",
        "答え：三つ",
        "long " * 400,
        "a\n\n\nb",
        "\\n \\1 $0",
        "Options:",
        "- x",
        "???",
        "…",
        "0",
        "Let's think step by step.",
        "\u00a0",
        "👩‍👩‍👧",
    ]
)
CONTENT = st.one_of(NASTY, st.text(max_size=30), st.lists(NASTY, max_size=3).map("\n".join))
OPTIONS = st.lists(CONTENT.map(lambda text: " ".join(text.split())).filter(bool), min_size=1, max_size=6)


@st.composite
def nasty_pairs(draw: st.DrawFn) -> Pair:
    question, answer = draw(CONTENT), draw(CONTENT)
    if draw(st.booleans()):
        options = draw(OPTIONS)
        question += "\nOptions:\n" + "\n".join(f"- {option}" for option in options)
        answer = draw(st.sampled_from([*options, answer, "B", "(A)"]))
    if draw(st.booleans()):
        question += "\nLet's think step by step."
        answer = f"{draw(CONTENT)}\nTherefore, the answer is {answer}"
    return Pair(question, answer)


RUNS = st.lists(st.tuples(CONTENT, st.lists(nasty_pairs(), max_size=4)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=300)
@given(RUNS, st.integers(), st.text(max_size=5), st.sampled_from([None, *STYLE_NAMES]), st.sampled_from([0, 1]))
def test_nothing_is_lost_whatever_the_contents(
    contents: list[tuple[str, list[Pair]]], seed: int, chain: str, style: str | None, inverted: int
) -> None:
    rows = [row(text, pairs, chain, shot, shot > 0) for shot, (text, pairs) in enumerate(contents)]
    before = copy.deepcopy(rows)
    styles = {style: 1, "inverted": inverted} if style else None
    total = Counts()
    texts = list(render_rows(rows, seed=seed, styles=styles, on_counts=total))
    assert rows == before
    assert all(text["text"].strip() for text in texts)
    everything = "\n".join(text["text"] for text in texts)
    for text, pairs in contents:
        assert not text.strip() or text in everything
        for pair in pairs if text.strip() else ():
            if pair.instruction.strip() and pair.response.strip():
                assert holds_everything(everything, pair)
    assert total.sum.documents == len(rows)
    given_pairs = sum(len(pairs) for _, pairs in contents)
    counted = (total.sum.pairs, total.sum.empty_questions, total.sum.empty_answers, total.sum.pairs_without_text)
    assert sum(counted) == given_pairs
    assert total.sum.documents == total.sum.empty_documents + sum(text["shots"] for text in texts)


class Counts:
    def __init__(self) -> None:
        self.sum = RenderCounts()

    def __call__(self, counts: RenderCounts) -> None:
        self.sum += counts


# --- rows


def test_one_text_for_each_run() -> None:
    rows = [
        row("a", FREE, "one", 0),
        row("b", FREE, "one", 1, True),
        row("c", (), "one", 2, True),
        row("d", FREE, "one", 3),
        row(None, (), "two", 0),
        row("e", FREE, "two", 1),
        row("f", FREE, "three", 0),
    ]
    texts = list(render_rows(rows, seed=0))
    ids = [[content_id(letter) for letter in run] for run in ("abc", "d", "e", "f")]
    assert [text["source_ids"] for text in texts] == ids
    assert [(text["shots"], text["num_pairs"], text["chain"]) for text in texts] == [
        (3, 6, "one"),
        (1, 3, "one"),
        (1, 3, "two"),
        (1, 3, "three"),
    ]


def test_runs_of_a_chain_are_drawn_apart() -> None:
    rows = [row("same", FREE, f"c{chain}", shot) for chain in range(20) for shot in range(2)]
    texts = [text["text"] for text in render_rows(rows, seed=0)]
    assert sum(a == b for a, b in zip(texts[::2], texts[1::2], strict=True)) <= 1


def test_batches_shards_and_the_global_generator_do_not_matter() -> None:
    rows = chains(60, shots=3)
    random.seed(1)
    whole = list(render_rows(rows, seed=7))
    state = random.getstate()
    for size in (3, 9, 60):
        random.seed(size)
        pieces = [
            text for start in range(0, len(rows), size) for text in render_rows(rows[start : start + size], seed=7)
        ]
        assert pieces == whole
    backwards = [
        text for start in range(len(rows) - 3, -1, -3) for text in render_rows(rows[start : start + 3], seed=7)
    ]
    assert backwards[::-1] == whole
    random.seed(1)
    assert random.getstate() == state


def test_the_text_of_a_seed_and_chain_is_fixed() -> None:
    """The bytes must not change unless RENDERING_VERSION or the wordings do."""
    again = run_of([passage("DOCUMENT", FREE)], seed=3, chain="a chain", index=1)
    assert again == run_of((passage("DOCUMENT", FREE),), seed=3, chain="a chain", index=1)
    others = {
        run_of([passage("DOCUMENT", FREE)], seed=seed, chain=chain, index=index).text
        for seed, chain, index in [(3, "a chain", 1), (4, "a chain", 1), (3, "b chain", 1), (3, "a chain", 2)]
    }
    assert len(others) == 4


def test_rendering_streams_in_constant_memory() -> None:
    taken = 0

    def endless() -> Iterator[Row]:
        nonlocal taken
        for taken in count():
            yield row(f"text {taken}", FREE, f"chain {taken}")

    texts = render_rows(endless(), seed=0)
    for _ in range(50):
        next(texts)
    assert taken <= 51


def test_counts_add_up() -> None:
    rows = [
        row("a", [*FREE, Pair("", "x"), Pair("x", ""), Pair(" ", "")], "one"),
        row("b", (), "two"),
        row(" ", FREE, "three"),
    ]
    rows[0]["pairs"].append({"instruction": None, "response": None})
    total = Counts()
    assert len(list(render_rows(rows, seed=0, on_counts=total))) == 2
    assert total.sum == RenderCounts(
        documents=3,
        empty_documents=1,
        pairs=3,
        empty_questions=3,
        empty_answers=1,
        pairs_without_text=3,
        texts=2,
        raw_texts=1,
    )
    assert total.sum.left_out == {
        "empty_documents": 1,
        "empty_questions": 3,
        "empty_answers": 1,
        "pairs_without_text": 3,
    }
    assert (total.sum + total.sum).documents == 6


def test_rows_without_synthesis_or_with_older_pairs_are_read() -> None:
    pairs = {"instruction": ["q1", "q2"], "response": ["a1", "a2"]}
    texts = list(render_rows([{"text": "t", "pairs": pairs}, {"text": "u", "pairs": None, "id": 7}], seed=0))
    assert [(text["chain"], text["num_pairs"], text["source_ids"]) for text in texts] == [
        (content_id("t"), 2, [content_id("t")]),
        ("7", 0, ["7"]),
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"text": "t"}, "'pairs'.*the columns are: text"),
        ({"pairs": []}, "'text'"),
        ({"text": 3, "pairs": []}, "'text' must hold text; row 1 .* int"),
        ({"text": "t", "pairs": "q"}, "'pairs' must hold a list.*row 1.*str"),
        ({"text": "t", "pairs": ["q"]}, "'pairs' must hold instruction and response; row 1"),
        ({"text": "t", "pairs": [{"instruction": "q", "response": 1}]}, "'pairs.response' must hold text; row 1"),
    ],
)
def test_rows_that_cannot_be_read_are_named(bad: Row, message: str) -> None:
    with pytest.raises(ColumnError, match=re.compile(message, re.DOTALL)):
        list(render_rows([row("a", FREE), bad], seed=0))


def test_validation_is_cut_by_the_chain_alone() -> None:
    inside = sum(in_validation(f"chain {number}", 0.1) for number in range(10_000))
    assert near(inside, 0.1, 10_000)
    assert all(in_validation(str(n), 0.2) for n in range(500) if in_validation(str(n), 0.1))
    assert not any(in_validation(str(n), 0.0) for n in range(100))


# --- datasets


@pytest.fixture
def ds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    Dataset.from_list(chains(40)).to_parquet(tmp_path / "rows.parquet")
    return load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train")


def test_a_dataset_gives_the_texts_of_its_rows(ds: Dataset) -> None:
    train = render_dataset(ds, seed=5)
    assert isinstance(train, Dataset)
    assert list(train) == list(render_rows(chains(40), seed=5))
    assert train.column_names == ["text", "source_ids", "shots", "num_pairs", "style", "chain", "wordings"]
    assert train.features["source_ids"].feature.dtype == "string"


def test_a_second_call_reads_the_cache(ds: Dataset) -> None:
    first = render_dataset(ds, seed=5)
    times = [Path(file["filename"]).stat().st_mtime_ns for file in first.cache_files]
    second = render_dataset(ds, seed=5)
    assert second._fingerprint == first._fingerprint
    assert second.cache_files == first.cache_files
    assert [Path(file["filename"]).stat().st_mtime_ns for file in second.cache_files] == times
    others = [
        render_dataset(ds, seed=6),
        render_dataset(ds, seed=5, styles={"dialogue": 1}),
        render_dataset(ds, seed=5, tokenizer=len),
    ]
    assert len({other._fingerprint for other in [first, *others]}) == 4
    assert list(others[0]) != list(first)
    assert all(text["style"].startswith("dialogue") for text in others[1])


def test_tokens_are_counted(ds: Dataset) -> None:
    train = render_dataset(ds, seed=0, tokenizer=lambda text: len(text.split()))
    assert train["tokens"][:] == [len(text.split()) for text in train["text"]]


def test_a_fast_tokenizer_counts_without_special_tokens(ds: Dataset, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "<s>": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", bos_token="<s>").save_pretrained(
        tmp_path / "t"
    )
    words = [len(text["text"].split()) for text in render_rows(chains(40), seed=0)]
    assert render_dataset(ds, seed=0, tokenizer=str(tmp_path / "t"))["tokens"][:] == words
    loaded = AutoTokenizer.from_pretrained(tmp_path / "t")
    assert render_dataset(ds, seed=0, tokenizer=loaded)["tokens"][:] == words


def test_no_document_is_on_both_sides(ds: Dataset) -> None:
    splits = render_dataset(ds, seed=0, validation=0.3)
    assert isinstance(splits, DatasetDict)
    sides = {name: {source for text in split for source in text["source_ids"]} for name, split in splits.items()}
    assert set(sides) == {"train", "validation"}
    assert not sides["train"] & sides["validation"]
    assert sides["train"] | sides["validation"] == {content_id(row["text"]) for row in chains(40)}
    assert min(map(len, sides.values())) > 0
    everything = {text["text"] for split in splits.values() for text in split}
    assert everything == {text["text"] for text in render_rows(chains(40), seed=0)}


def test_a_stream_gives_a_stream(ds: Dataset) -> None:
    stream = render_dataset(ds.to_iterable_dataset(), seed=5, tokenizer=len)
    assert isinstance(stream, IterableDataset)
    assert list(stream) == [{**text, "tokens": len(text["text"])} for text in render_rows(chains(40), seed=5)]
    splits = render_dataset(ds.to_iterable_dataset(), seed=5, validation=0.3)
    assert isinstance(splits, IterableDatasetDict)
    assert sum(1 for split in splits.values() for _ in split) == 40


def test_a_stream_of_unknown_columns_is_checked_when_read() -> None:
    stream = render_dataset(IterableDataset.from_generator(lambda: iter([{"text": "a"}])), seed=0)
    with pytest.raises(ColumnError, match="pairs"):
        next(iter(stream))


def test_a_dataset_without_texts_renders_to_none(ds: Dataset) -> None:
    assert len(render_dataset(ds.select([]), seed=0)) == 0
    assert len(render_dataset(Dataset.from_list([row("", FREE)]), seed=0)) == 0


def test_formats_and_other_columns_do_not_matter(ds: Dataset) -> None:
    other = ds.add_column("url", ["u"] * len(ds)).with_format("numpy")
    assert list(render_dataset(other, seed=5)) == list(render_dataset(ds, seed=5))


def test_what_was_left_out_is_logged(ds: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    bad = Dataset.from_list([row("a", [*FREE, Pair("", "x")]), row("", (), "d")])
    render_dataset(bad, seed=0)
    assert "empty_documents: 1, empty_questions: 1" in caplog.text


@pytest.mark.parametrize("column", ["pairs", "text"])
def test_a_missing_column_is_named(ds: Dataset, column: str) -> None:
    with pytest.raises(ColumnError, match=f"no column '{column}'"):
        render_dataset(ds.remove_columns(column), seed=0)


def test_a_column_of_the_wrong_type_is_named() -> None:
    with pytest.raises(ColumnError, match="row 0"):
        render_dataset(Dataset.from_dict({"text": ["a"], "pairs": [["q"]]}), seed=0)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_a_share_that_cannot_work_is_refused(ds: Dataset, share: float) -> None:
    with pytest.raises(ConfigError, match="validation"):
        render_dataset(ds, seed=0, validation=share)


def test_every_kind_has_a_pattern_in_every_family() -> None:
    for wordings in catalogue().styles.values():
        assert all(set(family.patterns) == set(TaskKind) for family in wordings.families)
