"""Scores by a rubric: what is asked, how an answer is read, what it costs, and how far it may be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.core.records import Pair
from hfsynth.core.verdicts import Scored, Scores
from hfsynth.documents.examples import Example
from hfsynth.engine.protocol import Completion, Generation
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine
from hfsynth.quality.calibration import Told, auroc, calibration, known_pairs, reliability
from hfsynth.quality.pair_judge import Unjudged
from hfsynth.quality.rubric import Answers, RubricJudge

TOKENIZER = CharacterTokenizer()
WINDOW = 65_536
PAIRS = [Pair("Who made it?", "Ada."), Pair("When?", "In 1843.")]


def judged(engine: ScriptedEngine, document: str, pairs: Sequence[Pair]) -> Scored:
    (scored,) = engine.run([RubricJudge(engine.tokenizer, engine.window).chain(document, pairs)], Generation())
    return scored


def test_each_pair_is_asked_about_twice_behind_one_beginning() -> None:
    seen: list[str] = []

    def script(prompt: str) -> str:
        seen.append(prompt)
        return "no" if "When?" in prompt and "right answer" in prompt else "yes"

    scored = judged(ScriptedEngine(script), "Ada made it in 1842.", PAIRS)
    assert scored.scores == (Scores(1.0, 1.0), Scores(1.0, 0.0))
    assert len(seen) == 4
    assert {prompt.partition("<instruction>")[0] for prompt in seen} == {seen[0].partition("<instruction>")[0]}
    assert "Ada made it in 1842." in seen[0].partition("<instruction>")[0]
    assert scored.prompt_tokens == sum(len(TOKENIZER.encode(prompt)) for prompt in seen)
    assert scored.output_tokens == 4


@pytest.mark.parametrize(
    ("answer", "unjudged"),
    [
        ("Well, that depends", Unjudged.UNREADABLE),
        ("", Unjudged.UNREADABLE),
        (Completion("", "error", error="no"), Unjudged.FAILED),
        (Completion("y", "length"), Unjudged.UNREADABLE),  # the engine tells no probabilities
    ],
)
def test_what_answers_neither_yes_nor_no_is_no_verdict(answer: str | Completion, unjudged: Unjudged) -> None:
    scored = judged(ScriptedEngine(lambda prompt: answer), "A text.", PAIRS)
    assert scored.scores == (Scores(unjudged=unjudged),) * 2


def test_a_score_is_the_share_of_yes_in_what_is_yes_or_no() -> None:
    answers = Answers.of(TOKENIZER)
    assert answers == Answers(yes=(ord("y"), ord("Y")), no=(ord("n"), ord("N")))
    assert answers.share((math.log(0.1), math.log(0.2), math.log(0.1), None)) == pytest.approx(0.75)
    assert answers.share((math.log(0.005), None, None, None)) is None


def test_words_that_begin_alike_cannot_be_told_apart() -> None:
    class Blind(CharacterTokenizer):
        def encode(self, text: str) -> list[int]:
            return [0 for _ in text]

    with pytest.raises(ModelError, match="does not tell yes from no"):
        Answers.of(Blind())


def test_a_document_is_shown_as_far_as_it_fits_beside_the_longest_pair() -> None:
    seen: list[str] = []

    def script(prompt: str) -> str:
        seen.append(prompt)
        return "yes"

    window = len(TOKENIZER.encode(RubricJudgeProbe.prompt("", PAIRS[0]))) + 60
    scored = judged(ScriptedEngine(script, window=window), "word. " * 100, [*PAIRS, Pair("Why?", "x" * window)])
    assert [one.unjudged for one in scored.scores] == [None, None, Unjudged.TOO_LONG]
    assert {len(TOKENIZER.encode(prompt)) < window for prompt in seen} == {True}
    assert len({prompt.partition("</document>")[0] for prompt in seen}) == 1


class RubricJudgeProbe:
    """The longest prompt about a pair."""

    @staticmethod
    def prompt(document: str, pair: Pair) -> str:
        seen: list[str] = []
        judged(ScriptedEngine(lambda prompt: seen.append(prompt) or "yes"), document, [pair])
        return max(seen, key=len)


def test_a_window_without_room_for_the_rubric_is_refused() -> None:
    with pytest.raises(ConfigError, match="no room for the rubric"):
        RubricJudge(TOKENIZER, 100)


def test_control_strings_in_a_pair_stay_text() -> None:
    seen: list[str] = []
    judged(ScriptedEngine(lambda prompt: seen.append(prompt) or "yes"), "a </s> b", [Pair("<s>?", "</s>")])
    assert all(prompt.count("</s>") == 1 and prompt.count("<s>") == 2 for prompt in seen)  # those of the template


# --- calibration ----------------------------------------------------------------------------------------------------


def test_known_pairs_are_gold_wrong_and_foreign_ones() -> None:
    examples = [Example("s", f"Text {n}.", (Pair(f"a{n}", f"r{n}"), Pair(f"b{n}", f"t{n}"))) for n in range(5)]
    found = list(known_pairs(examples, seed=1))
    assert found == list(known_pairs(examples, seed=1))
    assert len(found) == 5
    by_text = {example.context: example for example in examples}
    for gold, wrong, foreign in found:
        own = by_text[gold.document].pairs
        assert (gold.relevant, gold.accurate, gold.pair in own) == (True, True, True)
        assert (wrong.relevant, wrong.accurate) == (True, False)
        assert wrong.pair.instruction == gold.pair.instruction
        assert wrong.pair.response in {pair.response for pair in own} - {gold.pair.response}
        assert (foreign.relevant, foreign.accurate, foreign.pair in own) == (False, None, False)
    assert len(list(known_pairs(examples, limit=2))) == 2


def test_a_single_document_with_a_single_pair_gives_what_it_can() -> None:
    (found,) = known_pairs([Example("s", "Text.", (Pair("a", "r"),))])
    assert [one.accurate for one in found] == [True]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.booleans()), max_size=30))
def test_auroc_is_how_often_a_true_one_comes_first(values: list[tuple[float, bool]]) -> None:
    told = [Told(*value) for value in values]
    true, false = ([one.probability for one in told if one.true is which] for which in (True, False))
    wins = [1.0 if one > other else 0.5 if one == other else 0.0 for one in true for other in false]
    assert auroc(told) == (pytest.approx(sum(wins) / len(wins)) if wins else None)


def test_the_reliability_table_holds_every_pair_once() -> None:
    told = [Told(0.05, False), Told(0.09, True), Told(0.55, True), Told(1.0, True)]
    assert reliability(told) == [
        {"from": 0.0, "to": 0.1, "pairs": 2, "said": 0.07, "true": 0.5},
        {"from": 0.5, "to": 0.6, "pairs": 1, "said": 0.55, "true": 1.0},
        {"from": 0.9, "to": 1.0, "pairs": 1, "said": 1.0, "true": 1.0},
    ]
    found = calibration(told)
    assert (found["pairs"], found["true"], found["auroc"]) == (4, 3, 1.0)
    assert found["calibration_error"] == pytest.approx((2 * 0.43 + 0.45) / 4, abs=1e-4)
    assert calibration([]) == {"pairs": 0, "true": 0, "auroc": None, "calibration_error": None, "reliability": []}
