"""Filters: conditions read exactly, pairs kept or set aside whole; the same through `map` and the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from scripts import shown_documents

from hfsynth import Synthesizer
from hfsynth.cli import app
from hfsynth.core.conditions import FILTERED, INDEXED, JUDGED, Condition, canonical
from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.core.recipes import config_from, read_recipe
from hfsynth.core.records import Document, Pair, Parsed, Reason, Rejected, Status, Synthesized
from hfsynth.core.text import encodable
from hfsynth.engine import loading
from hfsynth.engine.protocol import Generation
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.prompting.parsing import render_pairs
from hfsynth.quality.measures import MEASURES, keep_pairs
from hfsynth.synthesis.chains import Chainer

FOREIGN = Pair("Who was asked?", "nobody knew anything whatsoever")
LONG = Pair("Tell me everything, please?", "tower " * 9 + "tower")
MODEL = "test_keeping:assorted"
PROMPTS: list[str] = []


def quote(document: str) -> Pair:
    return Pair("How does it go?", document[:60].removesuffix("."))


def assorted(prompt: str) -> str:
    """Answer with a quotation, a pair about something else and a long one; without the first where the text is odd."""
    PROMPTS.append(prompt)
    document = shown_documents(prompt)[-1]
    pairs = [FOREIGN] if document.startswith("odd") else [quote(document), FOREIGN, LONG]
    return render_pairs(pairs)


@pytest.fixture(autouse=True)
def fresh_calls() -> Iterator[None]:
    PROMPTS.clear()
    yield
    loading.close_engines()


def conditions(*texts: str) -> tuple[Condition, ...]:
    return tuple(map(Condition.parse, texts))


def read_back(rejected: Rejected) -> Pair:
    return Pair(**json.loads(rejected.text))


# --- conditions -----------------------------------------------------------------------------------------------------


def test_every_measure_has_a_reason_and_every_reason_a_measure() -> None:
    assert set(FILTERED) == {*MEASURES, *JUDGED, *INDEXED}
    assert FILTERED["grounding"] is Reason.FILTERED_GROUNDING


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("grounding>=0.5", "grounding>=0.5"),
        (" grounding >= 0.50\n", "grounding>=0.5"),
        ("grounding>=.5", "grounding>=0.5"),
        ("grounding>=5e-1", "grounding>=0.5"),
        ("answer_leak<0.8", "answer_leak<0.8"),
        ("response_words<=60.0", "response_words<=60"),
        ("response_words>+3", "response_words>3"),
        ("instruction_words>-0", "instruction_words>0"),
        ("response_words<1e20", "response_words<1e+20"),
    ],
)
def test_a_condition_has_one_canonical_text(text: str, plain: str) -> None:
    assert str(Condition.parse(text)) == plain
    assert Condition.parse(plain) == Condition.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grounding", "A condition is a measure, one of >=, <=, >, < and a number, not 'grounding'"),
        ("grounding==0.5", "not 'grounding==0.5'"),
        ("grounding=>0.5", "not 'grounding=>0.5'"),
        ("0.2<grounding<0.5", "not '0.2<grounding<0.5'"),
        ("", "not ''"),
        (0.5, "not 0.5"),
        (None, "not None"),
        ("Grounding>=0.5", "no measure 'Grounding'"),
        ("beauty>=0.5", "no measure 'beauty', which the condition 'beauty>=0.5' names"),
        (">=0.5", "no measure ''"),
        ("0.5<=grounding", "no measure '0.5'"),
        ("grounding>=", "must be a number, not ''"),
        ("grounding>=half", "must be a number, not 'half'"),
        ("grounding>=50%", "not '50%'"),
        ("grounding>=0,5", "not '0,5'"),
        ("grounding>=nan", "not 'nan' as in 'grounding>=nan'"),
        ("grounding<inf", "not 'inf'"),
        ("grounding<1e999", "not '1e999'"),
        ("grounding>=1_0", "not '1_0'"),
        ("grounding>=٥", "must be a number"),
    ],
)
def test_what_is_no_condition_is_refused_by_what_is_wrong(text: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Condition.parse(text)
    assert said in caught.value.message
    assert caught.value.hint


def test_an_unknown_measure_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        SynthesizerConfig("m", keep=("beauty>1",))
    assert all(name in caught.value.hint for name in MEASURES)


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("grounding>=0.5", [False, True, True]),
        ("grounding>0.5", [False, False, True]),
        ("grounding<=0.5", [True, True, False]),
        ("grounding<0.5", [True, False, False]),
    ],
)
def test_limits_are_exact(condition: str, met: list[bool]) -> None:
    assert [Condition.parse(condition).is_met_by(value) for value in (0.49, 0.5, 0.51)] == met
    assert not Condition.parse(condition).is_met_by(float("nan"))


texts = st.builds(
    lambda measure, comparison, limit: f"{measure}{comparison}{limit!r}",
    st.sampled_from(sorted(MEASURES)),
    st.sampled_from([">=", "<=", ">", "<"]),
    st.floats(-2, 80),
)
keeps = st.lists(texts, max_size=4)


@given(keeps, st.randoms(use_true_random=False))
def test_the_canonical_list_is_one_whatever_was_written(keep: list[str], random: Any) -> None:  # noqa: ANN401
    shuffled = [text.replace("=", "= ") for text in keep + keep[:1]]
    random.shuffle(shuffled)
    assert canonical(shuffled) == canonical(keep)
    assert canonical(canonical(keep)) == canonical(keep)
    assert set(map(Condition.parse, canonical(keep))) == set(map(Condition.parse, keep))


# --- pairs ----------------------------------------------------------------------------------------------------------

pairs = st.lists(
    st.builds(
        Pair,
        st.text(max_size=30).map(encodable),
        st.sampled_from(["tower", "the tower is tall", "42 Romans came.", "Nero did", "", "说 什么\n\n<ANS>"]),
    ),
    max_size=6,
)


@given(st.sampled_from(["The tower is tall.", "", "Nero had 42 towers.", "塔很高。"]), pairs, keeps)
def test_no_pair_is_lost_and_none_is_invented(text: str, found: list[Pair], keep: list[str]) -> None:
    before = Rejected(Reason.NO_QUESTION, "Sure!")
    parsed = keep_pairs(Parsed(tuple(found), (before,)), text, conditions(*keep))
    assert parsed.rejected[0] == before
    left_over = list(found)
    for pair in (*parsed.pairs, *map(read_back, parsed.rejected[1:])):
        left_over.remove(pair)
    assert left_over == []
    values = {pair: {name: measure(text, pair) for name, measure in MEASURES.items()} for pair in found}
    for pair in parsed.pairs:
        assert all(condition.is_met_by(values[pair][condition.measure]) for condition in conditions(*keep))
    for rejected in parsed.rejected[1:]:
        pair = read_back(rejected)
        unmet = [c for c in conditions(*keep) if not c.is_met_by(values[pair][c.measure])]
        assert rejected.reason is unmet[0].reason


def test_the_first_condition_that_is_not_met_is_the_reason() -> None:
    parsed = Parsed((quote("The tower is tall."), FOREIGN, LONG), ())
    kept = keep_pairs(parsed, "The tower is tall.", conditions("response_words<=3", "grounding>=0.5"))
    assert kept.pairs == ()
    assert [rejected.reason for rejected in kept.rejected] == [Reason.FILTERED_RESPONSE_WORDS] * 3
    kept = keep_pairs(parsed, "The tower is tall.", conditions("grounding>=0.5", "response_words<=4"))
    assert kept.pairs == (quote("The tower is tall."),)
    assert [rejected.reason for rejected in kept.rejected] == [
        Reason.FILTERED_GROUNDING,
        Reason.FILTERED_RESPONSE_WORDS,
    ]


# --- chains ---------------------------------------------------------------------------------------------------------


def synthesized(keep: tuple[str, ...], *documents: str, window: int = 65_536, **settings: Any) -> list[Synthesized]:  # noqa: ANN401
    chainer = Chainer(
        InstructionPretrain(CharacterTokenizer()), window, 400, keep=conditions(*keep), **{"shots": 3, **settings}
    )
    chains = chainer.chains(Document(f"d{n}", text) for n, text in enumerate(documents))
    return [result for chain in ScriptedEngine(assorted, window).run(chains, Generation()) for result in chain]


def test_a_filtered_pair_is_counted_kept_aside_and_not_shown_to_the_next_shot() -> None:
    first, second, third = synthesized(("grounding>=0.5", "response_words<=9"), "tower one.", "tower two.", "x")
    assert first.pairs == (quote("tower one."),)
    assert first.synthesis.rejected == (
        Rejected(Reason.FILTERED_GROUNDING, json.dumps(asdict(FOREIGN))),
        Rejected(Reason.FILTERED_RESPONSE_WORDS, json.dumps(asdict(LONG))),
    )
    assert first.synthesis.status is Status.OK
    assert second.synthesis.follows and third.synthesis.follows
    shown = render_pairs([quote("tower one.")])
    assert f"<s> <CON> tower one. </CON>\n\n{shown}</s><s> <CON> tower two. </CON>\n\n" == PROMPTS[1]


def test_a_document_whose_pairs_are_all_filtered_has_none_and_ends_the_run() -> None:
    first, second, third = synthesized(("grounding>=0.5",), "tower one.", "odd one.", "tower two.")
    assert (second.pairs, second.synthesis.status) == ((), Status.NO_PAIRS)
    assert second.synthesis.finish_reason == "stop"
    assert list(map(read_back, second.synthesis.rejected)) == [FOREIGN]
    assert [r.synthesis.follows for r in (first, second, third)] == [False, True, False]
    assert shown_documents(PROMPTS[2]) == ["tower two."]


def test_pairs_are_measured_against_the_text_that_the_model_saw() -> None:
    text = "A short beginning. " + "nobody knew anything whatsoever " * 20
    (whole,) = synthesized(("grounding>=0.5",), text)
    assert FOREIGN in whole.pairs
    (cut,) = synthesized(("grounding>=0.5",), text, window=450, truncate=True)
    assert cut.synthesis.truncated > 600
    assert cut.pairs == (quote("A short beginning."),)
    assert read_back(cut.synthesis.rejected[0]) == FOREIGN


# --- configs and recipes --------------------------------------------------------------------------------------------


@given(keeps, st.booleans())
def test_conditions_survive_json_and_recipe_files(
    tmp_path_factory: pytest.TempPathFactory, keep: list[str], as_yaml: bool
) -> None:
    config = SynthesizerConfig("m", keep=tuple(keep))
    assert SynthesizerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    path = tmp_path_factory.mktemp("recipe") / "recipe"
    path.write_text(yaml.safe_dump(config.to_dict()) if as_yaml else json.dumps(config.to_dict()))
    assert config_from(read_recipe(path), {}) == config
    assert config_from(read_recipe(path), {"keep": ["grounding > 0"]}).keep == ("grounding>0",)


def test_spaces_order_and_repeats_make_no_other_recipe() -> None:
    one = SynthesizerConfig("m", keep=("response_words<=60", "grounding >= 0.50", "grounding>=.5"))
    assert one == SynthesizerConfig("m", keep=("grounding>=0.5", "response_words<=60.0"))
    assert one.to_dict()["keep"] == ["grounding>=0.5", "response_words<=60"]
    assert hash(one) != hash(SynthesizerConfig("m"))


@pytest.mark.parametrize("keep", ["grounding>=0.5", {"grounding": 0.5}, None, 3])
def test_what_is_no_list_of_conditions_is_refused(keep: object) -> None:
    for build in (lambda: SynthesizerConfig.from_dict({"model": "m", "keep": keep}), lambda: transform(keep)):
        with pytest.raises(ConfigError, match="keep must be a list of conditions"):
            build()


# --- map ------------------------------------------------------------------------------------------------------------


def transform(keep: Any, **settings: Any) -> Synthesizer:  # noqa: ANN401
    return Synthesizer(MODEL, engine="scripted", keep=keep, **settings)


def corpus() -> Dataset:
    return Dataset.from_dict({"text": [f"{'odd' if n % 4 == 3 else 'tower'} number {n}." for n in range(8)]})


def test_map_keeps_and_sets_aside() -> None:
    mapped = corpus().map(transform(["grounding>=0.5", "response_words<10"], shots=2), batched=True, batch_size=4)
    assert [s["status"] for s in mapped["synthesis"]] == ["ok", "ok", "ok", "no_pairs"] * 2
    assert [len(found) for found in mapped["pairs"]] == [1, 1, 1, 0] * 2
    reasons = [[rejected["reason"] for rejected in s["rejected"]] for s in mapped["synthesis"]]
    assert reasons == ([["filtered_grounding", "filtered_response_words"]] * 3 + [["filtered_grounding"]]) * 2
    assert json.loads(mapped[0]["synthesis"]["rejected"][0]["text"]) == asdict(FOREIGN)
    unfiltered = corpus().map(transform([], shots=2), batched=True, batch_size=4)
    for kept, row in zip(mapped, unfiltered, strict=True):
        aside = [json.loads(rejected["text"]) for rejected in kept["synthesis"]["rejected"]]
        assert [*kept["pairs"], *aside] == row["pairs"]


def test_conditions_change_the_fingerprint_and_their_spelling_does_not() -> None:
    def fingerprint(*keep: str) -> str:
        return str(corpus().map(transform(list(keep)), batched=True)._fingerprint)

    assert fingerprint("grounding>=0.5") == fingerprint(" grounding >= 0.50")
    assert len({fingerprint(), fingerprint("grounding>=0.5"), fingerprint("grounding>0.5")}) == 3


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    rows = [*corpus()["text"], "", " \n"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    return path


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hfsynth", *map(str, arguments)])
    try:
        app.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def command(source: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("synthesize", source, out, "--engine", "scripted", "--model", MODEL, "--workers", 0, "--quiet", *more)


def test_a_job_counts_what_is_filtered_and_keeps_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    keep = ("--keep", "response_words < 10", "--keep", "grounding>=0.50")
    assert called(monkeypatch, *command(source, out, *keep, "--shots", 2, "--shard-rows", 4)) == 0
    assert "grounding>=0.5, response_words<10" in capsys.readouterr().out
    stats = json.loads((out / "stats.json").read_text())
    assert stats["documents"] == {"ok": 6, "no_pairs": 2, "too_long": 0, "empty": 2, "failed": 0, "screened": 0}
    assert sum(stats["documents"].values()) == stats["total_documents"] == 10
    assert stats["pairs"] == 6
    assert stats["rejected"] == {"filtered_grounding": 8, "filtered_response_words": 6}
    (part, *parts) = sorted((out / "pairs").iterdir())
    row = pq.read_table(part).to_pylist()[3]
    assert (row["pairs"], row["synthesis"]["status"]) == ([], "no_pairs")
    assert [json.loads(rejected["text"]) for rejected in row["synthesis"]["rejected"]] == [asdict(FOREIGN)]
    recipe = out / "synthesizer_config.json"
    assert json.loads(recipe.read_text())["keep"] == ["grounding>=0.5", "response_words<10"]
    again = ("synthesize", source, tmp_path / "again", "--engine", "scripted", "--recipe", recipe, "--workers", 0)
    script = ("--model", "test_keeping:assorted")  # which no recipe may name
    assert called(monkeypatch, *again, *script, "--shard-rows", 4, "--quiet") == 0
    for one in (part, *parts):
        assert (tmp_path / "again" / "pairs" / one.name).read_bytes() == one.read_bytes()


def test_another_condition_is_another_recipe_and_another_spelling_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert called(monkeypatch, *command(source, out, "--keep", "grounding>=0.5")) == 0
    asked = len(PROMPTS)
    assert called(monkeypatch, *command(source, out, "--keep", "grounding >= .5")) == 0
    assert len(PROMPTS) == asked
    capsys.readouterr()
    assert called(monkeypatch, *command(source, out, "--keep", "grounding>=0.6")) == 1
    assert "synthesizer.keep is ['grounding>=0.5'] there and ['grounding>=0.6'] here" in capsys.readouterr().err
    assert called(monkeypatch, *command(source, out)) == 1
    assert called(monkeypatch, *command(source, out, "--keep", "beauty>=0.5")) == 2
    assert "no measure 'beauty'" in capsys.readouterr().err
