"""Answers by the published SQuAD definition, and best matchings, against hand-computed figures and brute force."""

from __future__ import annotations

import sys
from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hfsynth.core.errors import ConfigError
from hfsynth.core.records import Pair
from hfsynth.quality.gold_scoring import best, exact_match, largest_matching, normalized, pair_quality, token_f1

ENGLISH = st.text(st.characters(max_codepoint=0x24F, exclude_categories=("Cs",)), max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("an U.S. e-mail", "us email"),  # punctuation goes without leaving a gap, before articles do
        ("a.n", ""),  # and so may make an article
        ("theatre, Ann and Ana", "theatre ann and ana"),  # only whole words are articles
        ("\u2018the\u2019 \u201cWar\u201d", "\u2018 \u2019 \u201cwar\u201d"),  # SQuAD knows ASCII punctuation alone
        ("tab\tand\nline", "tab and line"),
        ("", ""),
        ("Der Fluß", "der fluß"),
        ("東京タワー。", "東 京 タ ワ ー"),
        ("在1958年（昭和33年）", "在 1958 年 昭 和 33 年"),
        ("ที่นี่", "ที่ นี่"),  # vowels and tones are marks on a consonant
        ("ﾄｳｷｮｳ", "ﾄ ｳ ｷ ｮ ｳ"),
    ],
)
def test_answers_are_normalised_as_squad_does(text: str, expected: str) -> None:
    assert normalized(text) == expected


@given(ENGLISH)
def test_text_with_spaces_is_what_the_four_steps_of_squad_give(text: str) -> None:
    """Lower case, punctuation, articles, white space, in this order, each done naively."""
    lowered = "".join(character for character in text.lower() if character not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    runs: list[str] = [""]  # split at the edges of words, to find whole words without a regular expression
    for character in lowered:
        word = character.isalnum()
        if runs[-1] and runs[-1][-1].isalnum() != word:
            runs.append("")
        runs[-1] += character
    kept = "".join(" " if run in ("a", "an", "the") else run for run in runs)
    assert normalized(text) == " ".join(kept.split())


@given(ENGLISH, ENGLISH)
@example("the", "a ?!")
@example("", "one")
def test_scores_are_those_of_another_implementation_of_squad(one: str, other: str) -> None:
    squad = pytest.importorskip("transformers.data.metrics.squad_metrics")
    assert normalized(one) == squad.normalize_answer(one)
    assert exact_match(one, other) == squad.compute_exact(other, one)
    assert token_f1(one, other) == pytest.approx(squad.compute_f1(other, one))


@pytest.mark.parametrize(
    ("prediction", "reference", "f1", "exact"),
    [
        ("The Eiffel Tower", "eiffel tower.", 1.0, 1.0),
        ("in Paris, France", "Paris", 0.5, 0.0),  # 1 common of 3 and 1: P 1/3, R 1
        ("a cat sat on the mat", "the cat on a mat", 6 / 7, 0.0),  # cat on mat of cat sat on mat: P 3/4, R 1
        ("no no no", "no no", 0.8, 0.0),  # counted as often as they occur: P 2/3, R 1
        ("yes", "no", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("the", "...", 1.0, 1.0),  # nothing is left of either
        ("", "Paris", 0.0, 0.0),
        ("東京です", "東京", 2 / 3, 0.0),
    ],
)
def test_f1_and_exact_match(prediction: str, reference: str, f1: float, exact: float) -> None:
    assert token_f1(prediction, reference) == pytest.approx(f1)
    assert exact_match(prediction, reference) == exact


@given(ENGLISH, ENGLISH)
def test_f1_is_symmetric_and_one_where_answers_match(one: str, other: str) -> None:
    assert token_f1(one, other) == token_f1(other, one)
    assert 0 <= token_f1(one, other) <= 1
    assert token_f1(one, one) == exact_match(one, one) == 1


def test_the_best_of_several_references_counts() -> None:
    assert best(token_f1, "in Paris", ["London", "Paris", "Paris, Texas"]) == pytest.approx(2 / 3)
    assert best(exact_match, "Paris", ["London", "The Paris"]) == 1
    assert best(token_f1, "Paris", []) == 0


def test_pairs_are_matched_one_to_one_so_that_the_sum_is_largest() -> None:
    """Whoever takes the perfect match first is left with nothing for the others: 1 in all instead of 8/7."""
    gold = [Pair("one two", "three four"), Pair("one two", "iron")]
    generated = [Pair("one two", "three four"), Pair("three four", "salt")]
    quality = pair_quality(generated, gold)  # 4/7 for each generated pair with the other gold one: 2 * 2 / (4 + 3)
    assert quality.f1 == quality.precision == quality.recall == pytest.approx(4 / 7)


def test_more_or_fewer_pairs_cost_precision_or_recall() -> None:
    first, second, third = (Pair(f"What is {word}?", word) for word in ("iron", "salt", "wood"))
    quality = pair_quality([first], [third, second, first])
    assert (quality.precision, quality.recall) == (1, pytest.approx(1 / 3))
    assert quality.f1 == pytest.approx(2 / 4)
    assert pair_quality([third, first, second], [first]).precision == pytest.approx(1 / 3)
    assert pair_quality([], [first]).f1 == pair_quality([first], []).f1 == 0
    assert pair_quality([], []).f1 == 1


TABLES = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(st.floats(0, 1), min_size=width, max_size=width), min_size=1, max_size=5)
)


@given(TABLES)
def test_the_matching_is_the_best_of_all(weights: list[list[float]]) -> None:
    rows, columns = len(weights), len(weights[0])
    if rows <= columns:
        sums = [sum(weights[r][c] for r, c in enumerate(chosen)) for chosen in permutations(range(columns), rows)]
    else:
        sums = [sum(weights[r][c] for c, r in enumerate(chosen)) for chosen in permutations(range(rows), columns)]
    assert largest_matching(weights) == pytest.approx(max(sums))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ConfigError, match=r"scipy[\s\S]*hfsynth\[evaluate\]"):
        largest_matching([[0.5]])
