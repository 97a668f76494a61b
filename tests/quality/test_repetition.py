"""Repetition: exact, near, and of n-grams; draws of a bounded size."""

from __future__ import annotations

import itertools
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.errors import ConfigError
from hfsynth.quality.aggregates import Repeats, Sample, distinct, nearly_repeated

WORDS = st.lists(st.sampled_from(["a", "b", "c", "塔"]), max_size=6)


def test_a_text_that_occurred_before_is_a_repeat() -> None:
    repeats = Repeats(3)
    assert [repeats.is_repeat(text) for text in (["a", "b"], ["b", "a"], ["a", "b"])] == [False, False, True]


def test_of_many_texts_one_class_is_watched_whole() -> None:
    """30,000 texts of which every third occurs again, a tenth of them watched: the share is kept."""
    repeats = Repeats(40_000, watched=4000)
    texts = [[str(number)] for number in range(30_000)] + [[str(number)] for number in range(0, 30_000, 3)]
    told = [repeats.is_repeat(text) for text in texts]
    watched = [flag for flag in told if flag is not None]
    assert len(watched) == pytest.approx(4000, rel=0.1)
    assert sum(watched) / len(watched) == pytest.approx(0.25, abs=0.03)


def test_near_repeats_are_those_with_most_words_and_neighbours_in_common() -> None:
    long = [f"word {number}" for number in range(17)]
    texts = [long, [*long, "really"], long[::-1], long, ["what"], ["what", "else"], []]
    assert nearly_repeated(texts) == [False, True, False, True, False, False, False]


def test_nothing_is_nearly_repeated_in_nothing() -> None:
    assert nearly_repeated([]) == []
    assert nearly_repeated([[], []]) == [False, True]


@settings(deadline=None, max_examples=40)
@given(st.lists(WORDS, max_size=8))
def test_an_exact_repeat_is_a_near_repeat(texts: list[list[str]]) -> None:
    for number, found in enumerate(nearly_repeated(texts)):
        assert found or texts[number] not in texts[:number]


def test_no_near_duplicate_is_missed_and_none_is_invented() -> None:
    """Texts beside copies in which one inner word is another: just as alike as the limit, or just not."""
    draws = random.Random(0)
    words = [f"word{number}" for number in range(5000)]
    texts: list[list[str]] = []
    for length in (13, 14, 15, 16) * 75:
        text = draws.sample(words, length)
        texts += [text, [*text[:5], "another", *text[6:]]]
    alike = [{*text, *itertools.pairwise(text)} for text in texts]
    exact = [
        any(len(own & other) >= 0.8 * len(own | other) for other in alike[:number]) for number, own in enumerate(alike)
    ]
    assert sum(exact) == 225
    assert nearly_repeated(texts) == exact


def test_distinct_n_counts_different_n_grams() -> None:
    texts = [["a", "b", "a", "b"], ["a", "b"], ["c"]]
    assert distinct(texts, 1) == pytest.approx(3 / 7)
    assert distinct(texts, 2) == pytest.approx(2 / 4)
    assert distinct(texts, 3) == pytest.approx(2 / 2)
    assert distinct(texts, 5) is None


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1), st.integers(1, 3))
def test_distinct_n_does_not_depend_on_the_order(texts: list[list[str]], length: int) -> None:
    found = distinct(texts, length)
    assert found == distinct(texts[::-1], length)
    assert found is None or 0 < found <= 1


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 40), st.integers(0, 5))
def test_a_sample_has_its_size_and_keeps_the_order(size: int, offered: int, seed: int) -> None:
    sample: Sample[int] = Sample(size, seed=seed, name="test")
    for item in range(offered):
        sample.offer(item)
    assert len(sample.items()) == min(size, offered)
    assert sample.items() == sorted(set(sample.items()))


def test_every_item_is_as_likely_as_another() -> None:
    counts = [0] * 10
    for seed in range(600):
        sample: Sample[int] = Sample(3, seed=seed, name="test")
        for item in range(10):
            sample.offer(item)
        for item in sample.items():
            counts[item] += 1
    assert all(130 < count < 230 for count in counts)  # 180 each; four deviations are 45


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(ConfigError, match=r"rensa[\s\S]*hfsynth\[evaluate\]"):
        nearly_repeated([])
