"""Several completions about a document: the best pairs are kept, the others counted, one status a document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import shown_documents

from hfsynth import Sampling, Synthesizer, SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.core.recipes import open_recipe
from hfsynth.core.records import Document, Pair, Parsed, Reason, Status, Synthesized
from hfsynth.documents.source import Source
from hfsynth.engine.protocol import Completion, Generation
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.prompting.parsing import folded_question, render_pairs
from hfsynth.quality.gold_scoring import pair_quality
from hfsynth.quality.rubric import RubricJudge
from hfsynth.synthesis.candidates import Candidates, agreed, chosen
from hfsynth.synthesis.chains import Chainer

TEXT = "The tower was built in 1912 by masons from Bern."
GOOD, ALSO = Pair("When was it built?", "In 1912."), Pair("Who built it?", "Masons from Bern.")
BAD, WORSE = Pair("How high is it?", "97 metres."), Pair("When was it built?", "In 1850.")


def answers(*completions: str | Completion) -> ScriptedEngine:
    """Answer each request for pairs with the next completion, and a judge's questions with no where 1912 is missing."""
    left = iter(completions)

    def script(prompt: str) -> str | Completion:
        if "Answer yes or no." not in prompt:
            return next(left)
        response = prompt.partition("<response>\n")[2].partition("\n</response>")[0]
        return "yes" if "1912" in response else "no"

    return ScriptedEngine(script, max_in_flight=1)


def synthesized(engine: ScriptedEngine, number: int, *, judged: bool = False, agreement: bool = False) -> Synthesized:
    judge = RubricJudge(CharacterTokenizer(), 65_536) if judged else None
    candidates = Candidates(number, judge, agreement=agreement)
    chainer = Chainer(InstructionPretrain(CharacterTokenizer()), 65_536, 400, candidates=candidates)
    ((result,),) = engine.run(chainer.chains([Document("d", TEXT)]), Generation())
    return result


def test_the_best_pairs_by_measures_are_kept_and_all_others_counted() -> None:
    result = synthesized(answers(render_pairs([WORSE, BAD]), render_pairs([GOOD]), render_pairs([GOOD, ALSO])), 3)
    assert result.pairs == (GOOD, ALSO)  # 5 pairs of 3 completions: 2 each
    rejected = [(one.reason, one.text) for one in result.synthesis.rejected]
    assert rejected == [
        (Reason.DUPLICATE_QUESTION, f"{GOOD.instruction}\n{GOOD.response}"),
        (Reason.DUPLICATE_QUESTION, f"{WORSE.instruction}\n{WORSE.response}"),
        (Reason.NOT_CHOSEN, json.dumps({"instruction": BAD.instruction, "response": BAD.response})),
    ]
    assert len(result.pairs) + len(rejected) == 5


def test_a_judge_is_asked_about_each_different_pair_once() -> None:
    result = synthesized(answers(render_pairs([ALSO]), render_pairs([GOOD]), render_pairs([ALSO])), 3, judged=True)
    assert result.pairs == (GOOD,)
    assert Counter(one.reason for one in result.synthesis.rejected) == {
        Reason.DUPLICATE_QUESTION: 1,
        Reason.NOT_CHOSEN: 1,
    }
    written = sum(len(render_pairs([pair])) for pair in (ALSO, GOOD, ALSO))
    assert result.synthesis.output_tokens == written + 4


def test_the_pairs_that_completions_agree_on_are_kept() -> None:
    told = Pair("When was the tower built?", "In 1912.")  # as GOOD in other words
    result = synthesized(
        answers(render_pairs([BAD, GOOD]), render_pairs([told, ALSO]), render_pairs([GOOD, ALSO, WORSE])),
        3,
        agreement=True,
    )
    assert result.pairs == (GOOD, ALSO)
    again, left = Reason.DUPLICATE_QUESTION, Reason.NOT_CHOSEN
    assert [one.reason for one in result.synthesis.rejected] == [again, again, again, left, left]
    assert [json.loads(one.text)["response"] for one in result.synthesis.rejected[3:]] == ["97 metres.", "In 1912."]
    assert synthesized(answers("", ""), 2, agreement=True).synthesis.status is Status.NO_PAIRS


WORDS = st.lists(st.sampled_from(("who", "when", "built", "tower", "masons", "1912")), min_size=1, max_size=4)
PAIRS = st.builds(lambda one, two: Pair(f"{' '.join(one)}?", " ".join(two)), WORDS, WORDS)


@given(st.lists(st.lists(PAIRS, max_size=4, unique=True), min_size=1, max_size=5))
def test_what_agrees_asks_different_questions_and_agrees_more_than_any_pair_alone(written: list[list[Pair]]) -> None:
    parsed = [Parsed(tuple(pairs), ()) for pairs in written]
    pairs = list(dict.fromkeys(pair for some in written for pair in some))
    result = chosen(parsed, pairs, agreed(parsed, pairs))
    assert len({folded_question(pair.instruction) for pair in result.pairs}) == len(result.pairs)
    assert len(result.pairs) + len(result.rejected) == sum(map(len, written))
    filled = [some for some in written if some]
    alone = [sum(pair_quality([pair], some).f1 for some in filled) for pair in pairs]
    assert sum(pair_quality(result.pairs, some).f1 for some in filled) >= max(alone, default=0.0) - 1e-9


def test_completions_that_are_all_the_same_agree_on_all_their_pairs() -> None:
    same = Parsed((BAD, ALSO, GOOD), ())
    assert sorted(agreed([same, same], same.pairs)) == [0, 1, 2]


def test_candidates_have_seeds_of_their_own_and_the_first_has_that_of_a_single_one() -> None:
    def seeds(number: int) -> list[int]:
        chainer = Chainer(InstructionPretrain(CharacterTokenizer()), 65_536, 400, candidates=Candidates(number))
        chain, found = chainer.chain([Document("d", TEXT)]), []
        request = next(chain)
        while True:
            found.append(request.seed)
            try:
                request = chain.send(Completion(render_pairs([GOOD]), "stop"))
            except StopIteration:
                return found

    assert len(set(seeds(3))) == 3
    assert seeds(3)[0] == seeds(1)[0]


def test_a_completion_that_fails_leaves_the_others() -> None:
    failed = Completion("", "error", error="refused")
    result = synthesized(answers(failed, render_pairs([GOOD])), 2)
    assert (result.pairs, result.synthesis.status) == ((GOOD,), Status.OK)
    assert [one.reason for one in result.synthesis.rejected] == [Reason.ENGINE]
    assert synthesized(answers(failed, failed), 2).synthesis.status is Status.FAILED
    assert synthesized(answers("", ""), 2, judged=True).synthesis.status is Status.NO_PAIRS


def numbered() -> Iterator[str]:
    """Yield completions each with a pair of its own."""
    for number in count():
        yield render_pairs([Pair(f"What is said {number}?", "Bern.")])


@pytest.mark.parametrize("choose_by", ["measures", "agreement"])
def test_a_transform_draws_candidates_and_names_them_in_its_recipe(choose_by: str) -> None:
    left = numbered()
    engine = ScriptedEngine(lambda prompt: next(left) if shown_documents(prompt) else "")
    sampling = Sampling(temperature=0.7)
    synthesize = Synthesizer("own", sampling=sampling, candidates=3, choose_by=choose_by, engine=engine)
    (result,) = synthesize.synthesize([Document("d", TEXT)])
    assert (len(result.pairs), len(result.synthesis.rejected)) == (1, 2)
    told = synthesize.config.to_dict()
    assert (told["candidates"], told["choose_by"]) == (3, choose_by)
    assert SynthesizerConfig.from_dict(told) == synthesize.config


def test_a_job_draws_candidates_and_its_recipe_does_so_again(tmp_path: Path) -> None:
    def drawn() -> ScriptedEngine:
        left = numbered()
        return ScriptedEngine(lambda prompt: next(left) if shown_documents(prompt) else "")

    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"id": f"d{n}", "text": f"{TEXT} {n}"}) + "\n" for n in range(5)))
    config = SynthesizerConfig("own", sampling=Sampling(temperature=0.7), candidates=3)
    stats = synthesize(Source(str(source)), tmp_path / "out", config, engine=drawn()).stats
    assert (stats["pairs"], stats["rejected"], stats["documents"]["ok"]) == (5, {"not_chosen": 10}, 5)
    recipe = open_recipe(str(tmp_path / "out"))
    assert (recipe["candidates"], recipe["choose_by"]) == (3, "measures")


def test_a_recipe_without_candidates_is_the_one_of_before() -> None:
    config = SynthesizerConfig("m")
    assert not {"candidates", "choose_by"} & set(config.to_dict())
    assert replace(config, sampling=Sampling(temperature=0.5), candidates=2).fingerprint != config.fingerprint


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"candidates": 2}, "greedy completions are all the same"),
        ({"candidates": 0}, "candidates must be"),
        ({"candidates": 2, "sampling": Sampling(temperature=1.0), "choose_by": "luck"}, "choose_by must be"),
        (
            {
                "candidates": 2,
                "sampling": Sampling(temperature=1.0),
                "prompt_format": "chat",
                "thinking": "on",
                "keep_reasoning": True,
            },
            "thoughts cannot be kept",
        ),
        ({"keep": ("accuracy>=0.5",)}, "judge's verdict"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SynthesizerConfig("m", **settings)  # type: ignore[arg-type]
