"""Draws from a name: even, without repeats where they must not repeat, and the same wherever they are made."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from scipy.stats import chisquare

from hfsynth.core.draws import Draws


def test_the_draws_of_a_name_are_fixed() -> None:
    draws = Draws("a name")
    assert [draws.below(10) for _ in range(12)] == [4, 9, 4, 7, 4, 9, 5, 5, 3, 6, 3, 9]
    assert Draws("other").below(10**9) == 15061337


@pytest.mark.parametrize(("count", "of"), [(0, 5), (2, 5), (4, 5), (5, 5)])
def test_samples_are_even_and_do_not_repeat(count: int, of: int) -> None:
    drawn = Counter(tuple(sorted(Draws(f"sample {number}").sample(count, of))) for number in range(5000))
    assert set(drawn) == set(combinations(range(of), count))
    assert chisquare(list(drawn.values())).pvalue > 1e-4 or len(drawn) == 1


@pytest.mark.parametrize("count", [1, 3, 9])
def test_orders_hold_everything_once(count: int) -> None:
    firsts: Counter[int] = Counter()
    for number in range(2000):
        order = Draws(f"order {number}").order(count)
        assert sorted(order) == list(range(count))
        firsts[order[0]] += 1
    assert count == 1 or chisquare([firsts[place] for place in range(count)]).pvalue > 1e-4
