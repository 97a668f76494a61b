"""Mined pairs: every answer is the document's, the same everywhere, and none of the published miner's defects."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from jobs import documents, stats

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.draws import Draws
from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.core.records import Pair
from hfsynth.core.text import FORMAT_DELIMITERS
from hfsynth.documents.source import Source
from hfsynth.job.check import check
from hfsynth.job.run import synthesize
from hfsynth.mining.mine import MOST, MOST_OF_A_KIND, mine
from hfsynth.mining.miners import Mined, candidates
from hfsynth.mining.passages import passage_of
from hfsynth.mining.rules import LANGUAGES, rules_language, rules_of
from hfsynth.models.mined import RULES
from hfsynth.prompting.pair_layout import OPTIONS_HEADING
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import write_card
from hfsynth.quality.measures import grounding
from hfsynth.synthesis.synthesizer import Synthesizer
from hfsynth.texts.corpus_folder import render_folder

TEXT = """The Tides of the Sea

A tide is a slow rise and fall of the sea. The Moon pulls the water on the side of the Earth that is near to it. \
Therefore, the water of the sea rises twice in a day. The Sun pulls at the water as well. However, its pull is less \
than half of that of the Moon. In other words, the Moon is what matters most for a tide. The dose was 2.5 mg in the \
year 1831 and 40 in the year 1902.

How tides are measured

The height of the water is read from a tide gauge in many of the harbours. The harbours of Bristol and Saint John have \
the highest tides of all. The height of a tide at Bristol is what the others are compared with. \
Ships must wait outside of the harbours because the water is too low for them in the \
morning. For example, a ship of ten metres waits for six hours. The tide gauge was invented by William Thomson in the \
year 1872

There are three kinds of gauges:

- a float in a well
- a sensor under the water
- a radar over the water

| Harbour | Height | Country |
| --- | --- | --- |
| Bristol | 14 m | England |
| Saint John | 16 m | Canada |
"""
GERMAN = """Die Gezeiten

Eine Tide ist ein langsames Steigen und Fallen des Wassers in der See. Der Mond zieht das Wasser auf der ihm nahen \
Seite der Erde an. Daher steigt das Wasser der See zweimal an einem Tag. Die Schiffe warten vor dem Hafen, weil das \
Wasser für sie am Morgen noch zu niedrig ist. Im Jahr 1872 wurde der erste Pegel in einem Hafen gebaut.
"""


def all_of(text: str, language: str = "en") -> list[Mined]:
    return list(candidates(passage_of(text), rules_of(language), Draws("a")))


def of_kind(text: str, kind: str, language: str = "en") -> list[Mined]:
    return [one for one in all_of(text, language) if one.kind == kind]


def plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def is_of(document: str, one: Mined) -> bool:
    """Return whether an answer is a piece of the document, or made of its words in the way its kind says."""
    if one.kind == "order":
        return sorted(one.response) == sorted("A, B, C")
    parts = re.split(r"\n- |^- |, ", one.response) if one.kind in ("list", "terms") else [one.response]
    return all(plain(part) in plain(document) for part in parts)


def test_a_text_shows_every_kind_and_each_answer_is_the_texts() -> None:
    found = all_of(TEXT)
    kinds = {one.kind for one in found}
    assert kinds == set(rules_of("en").wordings) - {"addition"}
    assert all(is_of(TEXT, one) for one in found)
    assert {(one.kind, one.response) for one in found} >= {
        ("title", "The Tides of the Sea"),
        ("definition", "A tide is a slow rise and fall of the sea."),
        ("effect", "The water of the sea rises twice in a day."),
        ("contrast", "Its pull is less than half of that of the Moon."),
        ("example", "A ship of ten metres waits for six hours."),
        ("reason", "Because the water is too low for them in the morning."),
        ("cell", "16 m"),
        ("row", "Bristol"),
        ("item", "a radar over the water"),
        ("number", "1831"),
        ("name", "Bristol"),
    }
    assert of_kind(TEXT, "list")[0].a == "There are three kinds of gauges"


def test_a_second_language_is_data() -> None:
    assert (rules_language(TEXT), rules_language(GERMAN), rules_language("潮汐是海水的涨落。" * 20)) == (
        "en",
        "de",
        None,
    )
    found = all_of(GERMAN, "de")
    assert {"title", "definition", "effect", "cause", "reason", "number"} <= {one.kind for one in found}
    assert all(is_of(GERMAN, one) for one in found)
    (pair,) = [pair for pair in mine(GERMAN * 3, seed=1, name="d") if "Überschrift" in pair.instruction][:1] or [None]
    assert pair is None or pair.response == "Die Gezeiten"
    assert mine("潮汐是海水的涨落。" * 20, seed=0, name="d") == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_rules_are_whole(language: str) -> None:
    """Every wording names only what there is to fill in, and whatever a kind needs of it."""
    rules = rules_of(language)
    assert set(rules.wordings) <= set(rules_of("en").wordings)
    for kind, wordings in rules.wordings.items():
        assert len(set(wordings)) == len(wordings) > 0
        for wording in wordings:
            places = set(re.findall(r"\{(\w+)\}", wording))
            assert places == (
                {"a", "b"}
                if kind in ("sentence", "cell", "row")
                else set()
                if kind in ("title", "opening", "terms")
                else {"a"}
            ), wording


LINES = [*TEXT.split("\n"), "", "- x", "| a | b |", "#", "{a}"]


@given(st.text(max_size=300) | st.lists(st.sampled_from(LINES)).map("\n".join))
def test_any_text_is_mined_without_an_error_and_grounded(text: str) -> None:
    for language in LANGUAGES:
        for one in all_of(text, language):
            assert one.response and is_of(text, one)
    for pair in mine(text, seed=0, name="d"):
        assert pair.instruction and grounding(text, pair.response) == 1.0


def test_there_are_few_of_a_kind_and_no_question_twice() -> None:
    pairs = mine(TEXT * 9, seed=3, name="d")
    assert 1 < len(pairs) <= MOST and len({pair.instruction.casefold() for pair in pairs}) == len(pairs)
    openings = [
        kind
        for pair in pairs
        for kind, words in rules_of("en").wordings.items()
        if any(pair.instruction.startswith(word.partition("{")[0]) and word.partition("{")[0] for word in words)
    ]
    assert max(Counter(openings).values()) <= MOST_OF_A_KIND
    assert len(mine("A tide is a slow rise and fall of the sea. It is there.", seed=0, name="d")) <= 1


# --- the defects of the published miner -----------------------------------------------------------------------------


def test_a_decimal_point_ends_no_sentence() -> None:
    assert any("2.5 mg" in sentence for paragraph in passage_of(TEXT).paragraphs for sentence in paragraph)
    assert "5 mg" not in {one.response for one in all_of(TEXT)}


def test_the_last_sentence_counts_though_nothing_follows_it() -> None:
    text = "The water of the sea is cold. Therefore, the fish of the sea are slow."
    assert [one.response for one in of_kind(text, "effect")] == ["The fish of the sea are slow."]


def test_a_reason_is_found_in_the_middle_of_a_sentence() -> None:
    (found,) = of_kind("The ships in the harbour were late due to the storms of that winter.", "reason")
    assert (found.a, found.response) == ("The ships in the harbour were late.", "Due to the storms of that winter.")


def test_a_relation_does_not_cross_a_paragraph_or_begin_a_text() -> None:
    assert not of_kind("The sea is cold and wide.\n\nTherefore, the fish of it are slow.", "effect")
    assert not of_kind("Therefore, the fish of the sea are slow.", "effect")


def test_places_to_fill_in_a_document_are_text() -> None:
    text = "The name of the {b} and of the {a} is not known to us. Therefore, the {a} of it is called {b} by all of us."
    pairs = [pair for seed in range(40) for pair in mine(text, seed=seed, name="d")]
    asked = "\n".join(pair.instruction for pair in pairs)
    assert "{a} is not known" in asked and "{b}" in asked


def test_the_right_option_stands_anywhere() -> None:
    places: Counter[int] = Counter()
    for number in range(400):
        for pair in mine(TEXT * 3, seed=0, name=str(number)):
            if OPTIONS_HEADING in pair.instruction:
                options = pair.instruction.partition(f"{OPTIONS_HEADING}\n- ")[2].split("\n- ")
                places[options.index(pair.response)] += 1
    assert set(places) == {0, 1, 2, 3} and min(places[at] for at in range(3)) > sum(places.values()) / 8


def test_documents_are_drawn_for_apart_from_each_other() -> None:
    asked = {mine(TEXT * 3, seed=0, name=str(number)) for number in range(200)}
    assert len(asked) > 190
    assert mine(TEXT, seed=0, name="d") == mine(TEXT, seed=0, name="d") != mine(TEXT, seed=1, name="d")


def test_the_pairs_are_the_same_in_another_process_and_folder(tmp_path: Path) -> None:
    """Whatever order sets have there."""
    program = (
        "import sys, json; from hfsynth.mining.mine import mine; "
        "mined = [p for n in range(9) for p in mine(sys.argv[1], seed=n, name='d')]; "
        "print(json.dumps([[p.instruction, p.response] for p in mined]))"
    )
    here = [[pair.instruction, pair.response] for n in range(9) for pair in mine(TEXT, seed=n, name="d")]
    for salt in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", program, TEXT],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(sys.path)},
        )
        assert json.loads(ran.stdout) == here


@pytest.mark.parametrize("text", ["", " \n ", "x", "{", "\ud800"])
def test_a_text_of_nothing_gives_no_pairs(text: str) -> None:
    assert mine(text, seed=0, name="d") == ()


def test_what_is_mined_is_pinned_to_the_rules() -> None:
    """Rules that give other pairs are other rules: then raise RULES and write down what it gives now."""
    found = Draws(json.dumps([[p.instruction, p.response] for s in range(20) for p in mine(TEXT, seed=s, name="d")]))
    german = Draws(json.dumps([[p.instruction, p.response] for s in range(20) for p in mine(GERMAN, seed=s, name="d")]))
    assert (RULES, found.below(2**32), german.below(2**32)) == ("rules-1", 3803141686, 2994506085)


# --- jobs -----------------------------------------------------------------------------------------------------------

MINED = SynthesizerConfig("mined", seed=5)


def run_job(source: Path, out: Path, config: SynthesizerConfig = MINED, **engine: Any) -> None:  # noqa: ANN401
    synthesize(Source(str(source)), out, config, engine=EngineConfig(**engine), shard_rows=2)


def test_a_mined_job_is_a_job_like_any_other(tmp_path: Path) -> None:
    special = {0: TEXT, 1: " ", 3: GERMAN, 4: "潮汐是海水的涨落。", 5: f"{TEXT} {' '.join(FORMAT_DELIMITERS)}"}
    source, out = documents(tmp_path / "texts.jsonl", 6, special=special), tmp_path / "corpus"
    run_job(source, out)
    rows = load_dataset(str(out), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["status"] for row in rows["synthesis"]] == ["ok", "empty", "ok", "ok", "no_pairs", "ok"]
    assert [Pair(**pair) for pair in rows[0]["pairs"]] == list(mine(TEXT, seed=5, name="d0"))
    found = stats(out)
    assert found["pairs"] > 6 and found["prompt_tokens"] == found["output_tokens"] == 0
    recipe = json.loads((out / "synthesizer_config.json").read_text())
    assert (recipe["model"], recipe["model_revision"], recipe["long_documents"]) == ("mined", RULES, "skip")
    render_folder(out)
    texts = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(texts) == 5 and texts[0]["num_pairs"] == len(rows[0]["pairs"])
    card = write_card(out, CardSettings(license="cc0-1.0"))
    said = (out / "README.md").read_text()
    assert card is not None and "mined by rules, no model wrote them" in said and "machine-generated" in said
    assert check(out).damaged == ()
    mapped = Synthesizer("mined", seed=5).map(Dataset.from_dict({"id": ["d0"], "text": [TEXT]}))
    assert mapped[0]["pairs"] == rows[0]["pairs"]


def test_conditions_hold_for_mined_pairs_too(tmp_path: Path) -> None:
    source, out = documents(tmp_path / "texts.jsonl", 1, special={0: TEXT}), tmp_path / "corpus"
    run_job(source, out, replace(MINED, keep=("response_words>=6",)))
    found = stats(out)
    assert found["rejected"]["filtered_response_words"] > 0 and found["pairs"] > 0


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"shots": 2}, ConfigError, "by itself"),
        ({"fill": "mined"}, ConfigError, "nothing to fill"),
        ({"model_revision": "rules-0"}, ModelError, "rules-0"),
    ],
)
def test_what_rules_cannot_do_is_refused(values: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Synthesizer.from_config(replace(MINED, **values))


def test_documents_without_pairs_are_filled_and_no_later_shot_shows_it(tmp_path: Path) -> None:
    special = {0: f"ramble {TEXT}", 1: "This one is quoted by the script.", 2: "silent 潮汐", 3: f"fail {TEXT}"}
    source = documents(tmp_path / "texts.jsonl", 4, special=special)
    config = SynthesizerConfig("scripts:moody", shots=2, fill="mined", long_documents="skip")
    run_job(source, tmp_path / "corpus", config, kind="scripted")
    rows = load_dataset(str(tmp_path / "corpus"), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["status"] for row in rows["synthesis"]] == ["ok", "ok", "no_pairs", "failed"]
    assert [row["mined"] for row in rows["synthesis"]] == [True, False, False, False]
    assert [Pair(**pair) for pair in rows[0]["pairs"]] == list(mine(f"ramble {TEXT}", seed=0, name="d0"))
    assert rows[0]["synthesis"]["rejected"][0]["reason"] == "no_question"
    assert rows[1]["pairs"][0]["instruction"] == "What is text 1?" and not rows[1]["synthesis"]["follows"]
    recipe = json.loads((tmp_path / "corpus" / "synthesizer_config.json").read_text())
    assert recipe["fill"] == "mined" and "fill" not in SynthesizerConfig("m").to_dict()
    with pytest.raises(ConfigError, match="fill"):
        SynthesizerConfig("m", fill="invented")
