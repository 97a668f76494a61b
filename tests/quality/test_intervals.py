"""Ratios over documents with intervals: against sums by hand, the exact bootstrap, and in any number of blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.quality.aggregates import Ratios

PARTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda pair: (min(pair), max(pair))), max_size=40)


def ratios_of(parts: list[tuple[int, int]], seed: int = 0) -> dict[str, float | None]:
    ratios = Ratios(["share"], seed=seed)
    for above, below in parts:
        ratios.add({"share": (above, below)})
    return ratios.interval("share")


def test_a_ratio_is_of_the_sums_not_the_mean_of_ratios() -> None:
    assert ratios_of([(1, 1), (0, 3)])["mean"] == 0.25


def test_nothing_has_no_mean_and_one_document_no_interval() -> None:
    assert ratios_of([]) == {"mean": None, "low": None, "high": None}
    assert ratios_of([(0, 0), (0, 0)]) == {"mean": None, "low": None, "high": None}
    assert ratios_of([(1, 4), (0, 0)]) == {"mean": 0.25, "low": None, "high": None}


def test_a_document_may_say_nothing_of_a_ratio() -> None:
    ratios = Ratios(["one", "other"])
    ratios.add({"one": (1, 2)})
    ratios.add({"one": (1, 2), "other": (3, 1)})
    assert ratios.interval("one") == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert ratios.interval("other")["mean"] == 3


def test_the_interval_is_that_of_the_bootstrap_over_documents() -> None:
    """600 documents, more than two blocks: as wide as theory and the plain bootstrap say."""
    generator = np.random.default_rng(1)
    means = generator.random(600)
    found = ratios_of([(4 * mean, 4) for mean in means])
    plain = np.quantile(means[generator.integers(0, 600, (2000, 600))].mean(axis=1), [0.025, 0.975])
    assert (found["low"], found["high"]) == pytest.approx(tuple(plain), abs=0.006)
    width = (found["high"] or 0) - (found["low"] or 0)
    assert width == pytest.approx(2 * 1.96 * means.std() / 600**0.5, rel=0.15)


def test_pairs_of_one_document_are_not_independent() -> None:
    apart = ratios_of([(number % 2, 1) for number in range(400)])
    together = ratios_of([(10 * (number % 2), 10) for number in range(40)])
    assert together["mean"] == apart["mean"] == 0.5
    width = [(one["high"] or 0) - (one["low"] or 0) for one in (apart, together)]
    assert width[1] > 2.5 * width[0]


@settings(deadline=None, max_examples=30)
@given(PARTS, st.integers(0, 3))
def test_intervals_hold_their_mean_within_bounds(parts: list[tuple[int, int]], seed: int) -> None:
    found = ratios_of(parts, seed)
    assert found == ratios_of(parts, seed)
    if found["low"] is not None and found["high"] is not None:
        assert 0 <= found["low"] <= found["high"] <= 1


def test_asking_in_between_changes_no_sum() -> None:
    ratios = Ratios(["share"])
    ratios.add({"share": (1, 2)})
    assert ratios.interval("share")["mean"] == 0.5
    ratios.add({"share": (0, 2)})
    assert ratios.interval("share")["mean"] == 0.25


def test_what_never_happened_may_still_happen() -> None:
    """The upper end for 0 of 100 is 3.62% (Clopper and Pearson), that of 100 of 100 the mirror image."""
    ratios = Ratios(["never", "always", "seldom", "one"])
    for number in range(100):
        ratios.add({"never": (0, 3), "always": (3, 3), "seldom": (number == 0, 3)})
    ratios.add({"one": (0, 3)})
    assert ratios.share("never") == {"mean": 0.0, "low": 0.0, "high": pytest.approx(0.0362, abs=1e-4)}
    assert ratios.share("always") == {"mean": 1.0, "low": pytest.approx(0.9638, abs=1e-4), "high": 1.0}
    assert ratios.share("seldom") == ratios.interval("seldom")
    assert ratios.share("one") == {"mean": 0.0, "low": None, "high": None}
