"""Every wording that comes with the package, held to the rules one by one, and the rules themselves."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from wording_rules import (
    CONTENTS,
    line_problems,
    normalised,
    pattern_problems,
    speaker_problems,
)

from hfsynth.prompting.pair_layout import TaskKind
from hfsynth.texts.wordings import STYLE_NAMES, Family, catalogue

ALL = list(catalogue().patterns())
LINES = [(style, line) for style, wordings in catalogue().styles.items() for line in wordings.lines()]
SPEAKERS = [(style, pair) for style, wordings in catalogue().styles.items() for pair in wordings.speakers]
NOUN = next(noun for noun in catalogue().nouns if noun.one["noun"] == "excerpt")
CONTENT = {"question": "Who is it?", "options": "- me\n- they", "reasoning": "I am not here!", "answer": "zebra"}


def name(case: object) -> str:
    return str(getattr(case, "name", case))[:40]


def filled(pattern: str, **other: str) -> str:
    rest = {"answer_sentence": "zebra.", "asker": "Ann", "answerer": "Bob", "number": "7"}
    return pattern.format_map({**CONTENT, **rest, **other})


def test_there_are_enough_patterns_of_every_kind() -> None:
    kinds = Counter(kind for _, _, kind, _ in ALL)
    assert len(ALL) >= 300
    assert set(kinds) == set(TaskKind)
    assert min(kinds.values()) >= 75
    assert {style for style, *_ in ALL} == set(STYLE_NAMES)


@pytest.mark.parametrize(("style", "family", "kind", "pattern"), ALL, ids=name)
def test_defects_15_16_22_a_pattern_keeps_everything_once(
    style: str, family: Family, kind: TaskKind, pattern: str
) -> None:
    text = filled(pattern)
    for content in CONTENTS[kind]:
        found = CONTENT[content]
        assert len(re.findall(rf"(?<!\w){re.escape(found)}(?!\w)", text)) == 1, f"{style}/{family.name} {content}"


@pytest.mark.parametrize(("style", "family", "kind", "pattern"), ALL, ids=name)
def test_defect_21_no_doubled_punctuation(style: str, family: Family, kind: TaskKind, pattern: str) -> None:
    assert not re.search(r"[?!.][?.,;:!]", filled(pattern, answer="zebra."))


@pytest.mark.parametrize(("style", "family", "kind", "pattern"), ALL, ids=name)
def test_a_pattern_keeps_to_the_rules(style: str, family: Family, kind: TaskKind, pattern: str) -> None:
    assert pattern_problems(style, kind, pattern) == []
    assert pattern == pattern.strip()


def test_no_pattern_twice() -> None:
    seen = Counter(normalised(pattern) for *_, pattern in ALL)
    assert [pattern for pattern, times in seen.items() if times > 1] == []


def test_defect_17_dialogue_and_numbered_patterns_carry_their_signs() -> None:
    for style, _, _, pattern in ALL:
        assert ("{number}" in pattern) == (style == "numbered")
        assert ("{asker}" in pattern and "{answerer}" in pattern) == (style in ("dialogue", "next_turn"))


@pytest.mark.parametrize(("style", "line"), LINES, ids=name)
@pytest.mark.parametrize("pairs", [1, 2])
def test_lines_read_well_in_singular_and_plural(style: str, line: str, pairs: int) -> None:
    words = NOUN.one if pairs == 1 else NOUN.many
    assert line_problems(line, words) == []
    text = line.format_map(words)
    assert "{" not in text
    assert not re.search(
        r"\ba excerpt|\ban? questions|these question\b|this questions|question were|is some|are a\b(?! few)",
        text.lower(),
    )


@pytest.mark.parametrize("style", STYLE_NAMES)
def test_no_line_twice_in_a_place(style: str) -> None:
    wordings = catalogue().styles[style]
    for lines in (
        wordings.opening,
        wordings.bridge,
        wordings.inverted_opening,
        wordings.inverted_bridge,
        wordings.last,
    ):
        assert len(set(map(normalised, lines))) == len(lines)


@pytest.mark.parametrize(("style", "pair"), SPEAKERS, ids=name)
def test_defect_23_speakers_are_distinct(style: str, pair: tuple[str, str]) -> None:
    assert speaker_problems(pair) == []


def test_there_are_forty_sets_of_speakers() -> None:
    assert len(set(catalogue().styles["dialogue"].speakers)) >= 40
    assert len(SPEAKERS) == len(set(SPEAKERS))


def test_turns_without_a_pair_name_their_speaker() -> None:
    for family in catalogue().styles["next_turn"].families:
        assert sorted(re.findall(r"\{(\w+)\}", family.says)) == ["speaker", "words"]


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("Q: {question}", "{answer} stands 0 times"),
        ("{question} {question} {answer}", "{question} stands 2 times"),
        ("{question} {answer} {answer_sentence}", "{answer} stands 2 times"),
        ("{question}? {answer}", "punctuation"),
        ("{question}\n{answer}.", "punctuation"),
        ("{question}\n{answer}\n{options}", "{options} is unknown"),
        ("{question}\n{answer_sentence}", "full stop"),
        ("{answer}\n{question}", "order"),
        ("As said above: {question}\n{answer}", "inverted"),
    ],
)
def test_a_bad_pattern_is_named(pattern: str, problem: str) -> None:
    assert any(problem in found for found in pattern_problems("classic", TaskKind.FREE_FORM, pattern))


def test_bad_lines_and_speakers_are_named() -> None:
    assert line_problems("Read the {text}.", NOUN.one) == ["{text} is unknown here"]
    assert line_problems(" ", NOUN.one) == ["it is empty"]
    assert speaker_problems(("Ann", "ann ")) == ["two different names are needed"]
    assert pattern_problems("numbered", TaskKind.FREE_FORM, "{question} {answer}") == ["{number} is missing"]
