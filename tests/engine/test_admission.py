"""When a new chain may begin beside those in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hfsynth.engine.admission import SHARE, Admission, outlook


def test_a_chain_is_expected_to_grow_as_it_has_grown() -> None:
    assert outlook(500, 0, shots=3, allowance=100) == (600, 1200, 1800)  # 500 + 100, 500 + 100 + 500 + 100, …
    assert outlook(1000, 1, shots=3, allowance=100) == (1100, 1600)
    assert outlook(1800, 2, shots=3, allowance=100) == (1900,)


def test_chains_begin_while_what_they_grow_to_fits() -> None:
    admission = Admission.of(4000, 3)
    first = outlook(500, 0, shots=3, allowance=100)
    for _ in range(2):
        assert admission.admits(first)
        admission.put(first)
    assert not admission.admits(first)  # three times 600 fit, three times 1,800 will not
    admission.take(first)
    admission.put(outlook(1700, 2, shots=3, allowance=100))  # one is at its last shot: its place is free soon
    assert admission.admits(first)


def test_one_chain_may_begin_however_long_it_is() -> None:
    admission = Admission.of(1000, 2)
    assert admission.admits((5000, 9000))
    admission.put((5000, 9000))
    assert not admission.admits((1, 1))


def test_chains_of_one_shot_and_a_cache_of_unknown_size_know_no_limit() -> None:
    for admission in (Admission.of(100, 1), Admission.of(None, 3)):
        admission.put((10**9,))
        assert admission.admits((10**9,))


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 2)), max_size=60), st.integers(2_000, 20_000))
def test_what_was_admitted_fits_and_what_ended_leaves_nothing(chains: list[tuple[int, int]], cache: int) -> None:
    admission = Admission.of(cache, 3)
    begun: list[tuple[int, ...]] = []
    for tokens, ending in chains:
        new = outlook(tokens, 0, shots=3, allowance=50)
        if admission.admits(new):
            admission.put(new)
            begun.append(new)
        for _ in range(min(ending, len(begun))):
            admission.take(begun.pop(0))
        for later in range(3):
            assert len(begun) <= 1 or sum(one[later] for one in begun) <= SHARE * cache
    for one in begun:
        admission.take(one)
    assert admission.admits((10**9,))
