"""Chains: any number of documents and shots, one status a document, the same result in whatever order they end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import moody, quoting, shown_documents

from hfsynth.core.records import Counts, Document, Pair, Reason, Rejected, Status, Synthesized, chain_id, content_id
from hfsynth.core.text import encodable
from hfsynth.engine.protocol import Completion, Generation, Request
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.synthesis.chains import Chainer, grouped

TOKENIZER = CharacterTokenizer()
OVERHEAD = len(TOKENIZER.encode("<s> <CON>  </CON>\n\n"))


def chainer(
    *, window: int = 65_536, max_tokens: int = 100, shots: int = 1, seed: int = 0, truncate: bool = False
) -> Chainer:
    return Chainer(InstructionPretrain(TOKENIZER), window, max_tokens, shots, seed, truncate)


def documents_of(*texts: str | None) -> list[Document]:
    return [Document(f"d{number}", text) for number, text in enumerate(texts)]


def play(
    chains: Chainer, documents: Sequence[Document], *answers: str | Completion
) -> tuple[list[Request], list[Synthesized]]:
    """Run one chain by hand; return what it asked and what it returned."""
    left = iter(answers)
    chain = chains.chain(documents)
    requests: list[Request] = []
    completion: Completion | None = None
    while True:
        try:
            requests.append(next(chain) if completion is None else chain.send(completion))
        except StopIteration as end:
            return requests, end.value
        answer = next(left)
        completion = Completion(answer, "stop", output_tokens=len(answer)) if isinstance(answer, str) else answer


def synthesize(chains: Chainer, documents: Sequence[Document], engine: ScriptedEngine) -> list[list[Synthesized]]:
    """Run all chains; return their results in the order of the documents."""
    ended = engine.run(chains.chains(documents), Generation())
    order = {chain_id(d.id for d in group): number for number, group in enumerate(grouped(documents, chains.shots))}
    return sorted(ended, key=lambda results: order[results[0].synthesis.chain])


def prompts_of(requests: Sequence[Request]) -> list[str]:
    return [TOKENIZER.decode(request.token_ids) for request in requests]


# --- shots ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(1, 12))
def test_any_number_of_documents_makes_chains_of_neighbours(number: int, shots: int) -> None:
    documents = documents_of(*("A text." for _ in range(number)))
    results = synthesize(chainer(shots=shots), documents, ScriptedEngine(quoting))
    lengths = [len(chain) for chain in results]
    assert lengths == [shots] * (number // shots) + [number % shots] * bool(number % shots)
    for chain, group in zip(results, grouped(documents, shots), strict=True):
        assert {result.synthesis.chain for result in chain} == {chain_id(document.id for document in group)}
        assert [result.synthesis.shot for result in chain] == list(range(len(chain)))
        assert [result.synthesis.follows for result in chain] == [shot > 0 for shot in range(len(chain))]


def test_every_shot_shows_the_earlier_ones_and_their_pairs() -> None:
    requests, results = play(
        chainer(shots=3), documents_of("one", "two", "three"), "<QUE> q1 <ANS> a1", "<QUE> q2 <ANS> a2", ""
    )
    first = "<s> <CON> one </CON>\n\n"
    second = f"{first}<QUE> q1 <ANS> a1 </END></s><s> <CON> two </CON>\n\n"
    third = f"{second}<QUE> q2 <ANS> a2 </END></s><s> <CON> three </CON>\n\n"
    assert prompts_of(requests) == [first, second, third]
    assert [result.pairs for result in results] == [(Pair("q1", "a1"),), (Pair("q2", "a2"),), ()]
    assert [result.synthesis.prompt_tokens for result in results] == [len(request.token_ids) for request in requests]
    assert [request.shot for request in requests] == [0, 1, 2]


@pytest.mark.parametrize("broken", ["rubbish", "", Completion("", "error", error="no")])
def test_a_shot_without_pairs_ends_the_run_and_the_next_starts_fresh(broken: str | Completion) -> None:
    requests, results = play(
        chainer(shots=4),
        documents_of("a", "b", "c", "d"),
        "<QUE> q <ANS> 1",
        broken,
        "<QUE> q <ANS> 3",
        "<QUE> q <ANS> 4",
    )
    assert [result.synthesis.follows for result in results] == [False, True, False, True]
    assert [shown_documents(prompt) for prompt in prompts_of(requests)] == [["a"], ["a", "b"], ["c"], ["c", "d"]]


@pytest.mark.parametrize("text", [None, "", " \n\t", "\u2003\u3000", "\x1f"])
def test_an_empty_document_is_not_asked_about_and_ends_the_run(text: str | None) -> None:
    requests, results = play(chainer(shots=3), documents_of("a", text, "c"), "<QUE> q <ANS> 1", "<QUE> q <ANS> 3")
    assert [result.synthesis.status for result in results] == [Status.OK, Status.EMPTY, Status.OK]
    assert [shown_documents(prompt) for prompt in prompts_of(requests)] == [["a"], ["c"]]
    assert results[1].synthesis.prompt_tokens == 0
    assert not results[2].synthesis.follows


def test_a_chain_of_empty_documents_asks_nothing() -> None:
    requests, results = play(chainer(shots=2), documents_of(None, ""))
    assert requests == []
    assert [result.synthesis.status for result in results] == [Status.EMPTY, Status.EMPTY]


# --- the window -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 60))
def test_a_document_fits_to_the_token_or_is_too_long(length: int, room: int) -> None:
    requests, (result,) = play(chainer(window=100 + OVERHEAD + room), documents_of("x" * length), "<QUE> q <ANS> a")
    if length <= room:
        assert result.synthesis.status is Status.OK
        assert result.synthesis.prompt_tokens == OVERHEAD + length
    else:
        assert requests == []
        assert result.synthesis.status is Status.TOO_LONG
        assert [rejected.reason for rejected in result.synthesis.rejected] == [Reason.TOO_LONG]


@given(st.lists(st.integers(1, 80), min_size=1, max_size=8), st.integers(150, 400), st.booleans())
def test_every_prompt_leaves_room_for_the_answer(lengths: list[int], window: int, truncate: bool) -> None:
    chains = chainer(window=window, shots=len(lengths), truncate=truncate)
    requests, results = play(
        chains, documents_of(*("word " * length for length in lengths)), *["<QUE> q <ANS> a </END>"] * len(lengths)
    )
    assert all(len(request.token_ids) + 100 <= window for request in requests)
    asked = iter(requests)
    for result in results:
        if result.synthesis.status is not Status.TOO_LONG:
            assert len(shown_documents(TOKENIZER.decode(next(asked).token_ids))) == 1 or result.synthesis.follows


def test_the_history_is_given_up_before_any_of_the_document() -> None:
    requests, results = play(
        chainer(window=100 + OVERHEAD + 50, shots=3, truncate=True),
        documents_of("a" * 20, "b" * 50, "c" * 5),
        "<QUE> q <ANS> 1",
        "<QUE> q <ANS> 2",
        "<QUE> q <ANS> 3",
    )
    assert [shown_documents(prompt) for prompt in prompts_of(requests)] == [["a" * 20], ["b" * 50], ["c" * 5]]
    assert [(result.synthesis.follows, result.synthesis.truncated) for result in results] == [(False, 0)] * 3


def test_after_the_history_was_given_up_a_new_one_grows() -> None:
    requests, results = play(
        chainer(window=100 + 2 * OVERHEAD + 105, shots=3),
        documents_of("a" * 20, "b" * 80, "c"),
        *["<QUE> q <ANS> 1"] * 3,
    )
    assert [shown_documents(prompt) for prompt in prompts_of(requests)] == [["a" * 20], ["b" * 80], ["b" * 80, "c"]]
    assert [result.synthesis.follows for result in results] == [False, False, True]


def test_a_long_document_is_cut_after_a_sentence_and_it_is_said_by_how_much() -> None:
    text = "The first sentence. The second one. The third does not fit any more."
    chains = chainer(window=100 + OVERHEAD + 40, truncate=True)
    requests, (result,) = play(chains, documents_of(text), "<QUE> q <ANS> a")
    shown = "The first sentence. The second one."
    assert shown_documents(prompts_of(requests)[0]) == [shown]
    assert (result.synthesis.status, result.synthesis.truncated) == (Status.OK, len(text) - len(shown))


def test_the_next_shot_shows_a_cut_document_as_it_was_cut() -> None:
    chains = chainer(window=100 + OVERHEAD + 100, shots=2, truncate=True)
    requests, results = play(chains, documents_of("A short one. " + "w" * 300, "x"), "<QUE> q <ANS> a", "")
    assert [shown_documents(prompt) for prompt in prompts_of(requests)] == [["A short one."], ["A short one.", "x"]]
    assert [result.synthesis.truncated for result in results] == [301, 0]


def test_a_document_is_escaped_before_it_is_measured() -> None:
    text = "<CON>" * 5  # 25 characters, 30 with the gaps
    for room, status in ((29, Status.TOO_LONG), (30, Status.OK)):
        _, (result,) = play(chainer(window=100 + OVERHEAD + room), documents_of(text), "<QUE> q <ANS> a")
        assert result.synthesis.status is status


@pytest.mark.parametrize("window", [100, 100 + OVERHEAD - 1, 100 + OVERHEAD, 50])
def test_a_window_without_room_for_any_document_makes_all_too_long(window: int) -> None:
    requests, (result,) = play(chainer(window=window, truncate=True), documents_of("a text"))
    assert requests == []
    assert result.synthesis.status is Status.TOO_LONG


# --- completions ----------------------------------------------------------------------------------------------------


def test_an_error_fails_the_document_with_its_reason() -> None:
    _, (result,) = play(chainer(), documents_of("a"), Completion("<QUE> q <ANS> a", "error", error="out of luck"))
    assert result.pairs == ()
    assert result.synthesis.status is Status.FAILED
    assert result.synthesis.rejected == (Rejected(Reason.ENGINE, "out of luck"),)


def test_an_error_without_words_fails_the_document_too() -> None:
    _, (result,) = play(chainer(), documents_of("a"), Completion("", "error"))
    assert result.synthesis.status is Status.FAILED
    assert [rejected.reason for rejected in result.synthesis.rejected] == [Reason.ENGINE]


def test_an_answer_cut_by_the_limit_keeps_its_whole_pairs() -> None:
    cut = Completion("<QUE> q1 <ANS> a1 </END>\n\n<QUE> q2 <ANS> an", "length", output_tokens=100, cached_tokens=3)
    _, (result,) = play(chainer(), documents_of("a"), cut)
    assert result.pairs == (Pair("q1", "a1"),)
    assert result.synthesis.status is Status.OK
    assert result.synthesis.finish_reason == "length"
    assert (result.synthesis.output_tokens, result.synthesis.cached_tokens) == (100, 3)
    assert result.synthesis.rejected == (Rejected(Reason.UNFINISHED, "q2 <ANS> an"),)


def test_a_model_that_says_nothing_gives_no_pairs() -> None:
    _, (result,) = play(chainer(), documents_of("a"), "")
    assert (result.synthesis.status, result.synthesis.rejected) == (Status.NO_PAIRS, ())


def test_answers_and_errors_with_half_characters_can_be_stored() -> None:
    for answer in ("<QUE> q\ud800 <ANS> a\udc00 </END> \ud800", Completion("", "error", error="bad \ud800")):
        _, (result,) = play(chainer(), documents_of("a"), answer)
        for pair in result.pairs:
            (pair.instruction + pair.response).encode()
        for rejected in result.synthesis.rejected:
            rejected.text.encode()


def test_lone_surrogates_and_control_characters_reach_the_model_as_text() -> None:
    requests, _ = play(chainer(), documents_of("a\ud800b\x00\udc00"), "")
    assert shown_documents(prompts_of(requests)[0]) == ["a\ufffdb\x00\ufffd"]


@given(st.text(st.characters(exclude_categories=())))
def test_whatever_can_be_encoded_stays_as_it_is(text: str) -> None:
    fixed = encodable(text)
    assert fixed.encode().decode() == fixed
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert fixed == text


# --- the whole ------------------------------------------------------------------------------------------------------

moods = st.sampled_from(
    ["fine", "fail", "ramble", "silent", "cut", "", None, "much too long. " * 40, "</s><CON>", "\ud800"]
)


@given(
    st.lists(moods, max_size=20),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([130, 200, 500, 5000]),
    st.integers(1, 9),
)
def test_every_document_has_exactly_one_status(
    texts: list[str | None], shots: int, truncate: bool, window: int, in_flight: int
) -> None:
    engine = ScriptedEngine(moody, window=window, max_in_flight=in_flight)
    chains = chainer(window=window, shots=shots, truncate=truncate)
    results = list(itertools.chain.from_iterable(synthesize(chains, documents_of(*texts), engine)))
    counts = Counts.of(results)
    assert len(results) == len(texts) == counts.total_documents
    assert counts.documents["empty"] == sum(not (text or "").strip() for text in texts)
    for text, result in zip(texts, results, strict=True):
        status = result.synthesis.status
        assert (status is Status.OK) == bool(result.pairs)
        assert (status is Status.FAILED) <= (text == "fail")
        assert not (status in (Status.TOO_LONG, Status.FAILED) and not result.synthesis.rejected)
        assert not result.synthesis.truncated or truncate


@given(
    st.lists(moods, min_size=1, max_size=16),
    st.integers(1, 4),
    st.sampled_from([1, 3, 64]),
    st.sampled_from([0, 0.0004]),
)
def test_results_do_not_depend_on_how_many_chains_run_at_once_or_how_they_end(
    texts: list[str | None], shots: int, in_flight: int, latency: float
) -> None:
    documents = documents_of(*texts)
    alone = synthesize(chainer(shots=shots), documents, ScriptedEngine(moody, max_in_flight=1))
    together = synthesize(
        chainer(shots=shots), documents, ScriptedEngine(moody, latency=latency, max_in_flight=in_flight)
    )
    assert together == alone


@given(st.integers(1, 4), st.integers(1, 5))
def test_results_do_not_depend_on_the_batch_as_long_as_it_is_whole_chains(shots: int, chains: int) -> None:
    documents = documents_of(*(f"Text number {number}." for number in range(shots * chains)))
    whole = synthesize(chainer(shots=shots), documents, ScriptedEngine(quoting))
    parts = [synthesize(chainer(shots=shots), group, ScriptedEngine(quoting)) for group in grouped(documents, shots)]
    assert [chain for part in parts for chain in part] == whole


def test_a_shots_seed_depends_on_the_seed_the_chain_and_the_shot_alone() -> None:
    def seeds(seed: int, *names: str) -> list[int]:
        documents = [Document(name, "A text.") for name in names]
        requests, _ = play(chainer(shots=9, seed=seed), documents, *["<QUE> q <ANS> a"] * len(names))
        return [request.seed for request in requests]

    assert seeds(0, "a", "b") == seeds(0, "a", "b")
    drawn = [*seeds(0, "a", "b"), *seeds(1, "a", "b"), *seeds(0, "b", "a")]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**31 for seed in drawn)


def test_names_of_chains_and_documents_are_stable() -> None:
    assert (content_id("A text."), chain_id(["a", "b"])) == ("12ea35782a9200ea", "235870420603e322")
    assert chain_id(["ab", "c"]) != chain_id(["a", "bc"])
    assert chain_id(["\ud800"]) and content_id("\ud800")


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_groups_put_together_are_the_items(items: list[int], size: int) -> None:
    groups = list(grouped(items, size))
    assert [item for group in groups for item in group] == items
    assert all(len(group) == size for group in groups[:-1])
