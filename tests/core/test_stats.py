"""Counting: parts add up to the whole in any grouping, and every document is counted once."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from hfsynth.core.records import Counts, Pair, Reason, Rejected, Status, Synthesis, Synthesized

syntheses = st.builds(
    Synthesis,
    status=st.sampled_from(Status),
    chain=st.just("c"),
    shot=st.integers(0, 3),
    follows=st.booleans(),
    prompt_tokens=st.integers(0, 4096),
    output_tokens=st.integers(0, 400),
    cached_tokens=st.integers(0, 4096),
    truncated=st.integers(0, 9),
    finish_reason=st.sampled_from([None, "stop", "length", "error"]),
    rejected=st.lists(st.builds(Rejected, st.sampled_from(Reason), st.just("x")), max_size=3).map(tuple),
)
results = st.lists(
    st.builds(Synthesized, st.lists(st.just(Pair("q", "a")), max_size=12).map(tuple), syntheses), max_size=12
)


@given(results, results, results)
def test_counts_of_parts_add_up_to_those_of_the_whole(one: list, two: list, three: list) -> None:
    whole = Counts.of([*one, *two, *three])
    assert Counts.of(one) + (Counts.of(two) + Counts.of(three)) == whole
    assert sum((Counts.of(part) for part in (three, one, two)), Counts()) == whole
    assert whole.total_documents == len(one) + len(two) + len(three)


@given(results)
def test_counts_survive_json(found: list) -> None:
    counts = Counts.of(found)
    assert Counts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts


@given(results)
def test_counts_say_what_is_in_the_results(found: list[Synthesized]) -> None:
    counts = Counts.of(found)
    assert set(counts.to_dict()["documents"]) == set(Status)
    for status in Status:
        of_it = [result.synthesis for result in found if result.synthesis.status is status]
        assert counts.documents[status] == len(of_it)
        assert counts.prompt_tokens_by_status[status] == sum(synthesis.prompt_tokens for synthesis in of_it)
        assert counts.output_tokens_by_status[status] == sum(synthesis.output_tokens for synthesis in of_it)
    for reason in Reason:
        assert counts.rejected[reason] == sum(r.reason is reason for f in found for r in f.synthesis.rejected)
    assert counts.pairs == sum(len(result.pairs) for result in found)
    assert sum(int(number) * times for number, times in counts.pairs_per_document.items()) == counts.pairs
    assert counts.truncated == sum(result.synthesis.truncated > 0 for result in found)
    assert counts.prompt_tokens == sum(counts.prompt_tokens_by_status.values())
    assert counts.output_tokens == sum(counts.output_tokens_by_status.values())
    assert counts.computed_tokens == counts.prompt_tokens - counts.cached_tokens


def test_adding_changes_neither_side() -> None:
    one = Counts.of([Synthesized((Pair("q", "a"),), Synthesis(Status.OK, "c", 0))])
    before = one.to_dict()
    _ = one + one
    assert one.to_dict() == before
    assert Counts().to_dict() == (Counts() + Counts()).to_dict()


def test_the_numbers_of_pairs_are_listed_in_order() -> None:
    found = [Synthesized((Pair("q", "a"),) * number, Synthesis(Status.OK, "c", 0)) for number in (10, 2, 0)]
    assert list(Counts.of(found).to_dict()["pairs_per_document"]) == ["0", "2", "10"]
