"""Near-duplicates: planted ones are found, others are left, and nothing goes because of a text that goes itself."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfsynth.quality import near_duplicates
from hfsynth.quality.near_duplicates import BANDS, near, plain_words, repeats, resolved, shingles, sketches

VOCABULARY = [f"word{number}" for number in range(2000)]


def made(draw: random.Random, length: int = 200) -> list[str]:
    return draw.choices(VOCABULARY, k=length)


def changed(words: list[str], draw: random.Random, number: int) -> list[str]:
    """Return a text with so many words replaced: each takes five shingles away, and brings five."""
    copy = list(words)
    for place in draw.sample(range(len(copy)), number):
        copy[place] = draw.choice(VOCABULARY)
    return copy


def jaccard(one: str, other: str) -> float:
    left, right = set(shingles(plain_words(one))), set(shingles(plain_words(other)))
    return len(left & right) / len(left | right)


def gone(texts: list[str]) -> dict[int, int]:
    found = sketches(texts)
    numbers = np.arange(len(texts), dtype=np.int64)
    pairs = [pair for band in range(BANDS) for pair in near(found.bands[band], numbers, found.signatures)]
    return resolved(pairs)


def test_a_thousand_planted_near_duplicates_are_found_and_nothing_else() -> None:
    draw = random.Random(3)
    originals = [made(draw) for _ in range(1000)]
    near_ones = [changed(words, draw, draw.randrange(1, 3)) for words in originals]  # 0.9 and more
    halves = [[*words[:100], *made(draw, 100)] for words in originals]  # a third
    texts = [" ".join(words) for words in (*originals, *near_ones, *halves)]
    assert all(
        jaccard(texts[n], texts[n + 1000]) > 0.88 and jaccard(texts[n], texts[n + 2000]) < 0.5 for n in range(50)
    )
    found = gone(texts)
    assert found == {number + 1000: number for number in range(1000)}


def test_case_punctuation_and_spaces_make_no_difference() -> None:
    one, other = "One: two, three.\nFour - five, six seven!", "one TWO three four\tfive six, seven"
    found = sketches([one, other])
    assert found.keys[0] == found.keys[1] and (found.signatures[0] == found.signatures[1]).all()


def test_characters_without_spaces_are_compared_one_by_one() -> None:
    text = "北京是中华人民共和国的首都，也是全国的政治中心和文化中心。" * 3
    assert gone([text + "一", "完全不同的句子，讲的是另外一件事情，没有任何相似之处。" * 3, text + "二"]) == {2: 0}


def test_short_texts_are_compared_as_a_whole() -> None:
    assert gone(["Yes it is.", "No it is not.", "yes, it is"]) == {2: 0}


def test_no_texts_have_no_sketches() -> None:
    assert sketches([]).keys.shape == (0,)
    assert gone([]) == {}


def test_a_text_near_to_one_that_goes_stays_where_no_other_is_near() -> None:
    pairs = [(np.array([1, 2]), np.array([0, 1])), (np.array([4]), np.array([3]))]
    assert resolved(pairs) == {1: 0, 4: 3}


def test_boilerplate_does_not_cost_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 3)
    keys, numbers = np.zeros(50, dtype=np.uint64), np.arange(50, dtype=np.int64)
    signatures = np.arange(50, dtype=np.uint8)[:, None].repeat(128, axis=1)
    signatures[[10, 49]] = signatures[[0, 2]]
    found = [
        pair for both in near(keys, numbers, signatures) for pair in zip(*map(np.ndarray.tolist, both), strict=True)
    ]
    assert found == [(10, 0), (49, 2)]


@given(st.lists(st.integers(0, 6), max_size=40))
def test_repeats_are_those_that_have_an_equal_before_them(values: list[int]) -> None:
    keys, numbers = np.array(values, dtype=np.uint64), np.arange(len(values), dtype=np.int64) + 100
    later, first = repeats(keys, numbers)
    expected = {n + 100: values.index(value) + 100 for n, value in enumerate(values) if value in values[:n]}
    assert dict(zip(later.tolist(), first.tolist(), strict=True)) == expected


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50), st.integers(1, 7))
def test_every_key_is_in_one_class(values: list[int], classes: int) -> None:
    found = near_duplicates.class_of(np.array(values, dtype=np.uint64), classes)
    assert all(0 <= one < classes for one in found.tolist())
