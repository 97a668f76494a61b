"""Evaluation of a corpus folder: figures by hand, draws, damage, and a judge that answers from a script."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_folders import corpus_folder, record
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core import text as delimiters
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.records import Pair
from hfsynth.engine.protocol import Completion
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.publishing.card import build
from hfsynth.publishing.facts import CardSettings, corpus_facts
from hfsynth.quality import corpus_evaluation
from hfsynth.quality.aggregates import quantiles
from hfsynth.quality.corpus_evaluation import CorpusFigures, evaluate_corpus, save_corpus_evaluation
from hfsynth.quality.pair_judge import Judgeable, PairJudge, Unjudged, Verdict, load_judge, read_verdict

TOWER = "The tower was built in 1889 by Gustave Eiffel for the exhibition, and it still stands there today."
BRIDGE = "The old bridge over the river was built of stone, and people still walk over it every single day."
ASKED = Pair("Who built the tower that still stands there today?", "The tower was built by Gustave Eiffel.")
WRONG = Pair("When was the tower built that still stands there?", "The tower was built in 1890 by Otto Wagner.")
GERMAN = Pair(
    "Woraus wurde die alte Brücke über den Fluss gebaut?", "Die alte Brücke wurde aus Stein gebaut und steht noch."
)


def folder_of(root: Path, *parts: Sequence[tuple[str | None, Sequence[Pair]]]) -> Path:
    """Write a finished folder with the given documents and pairs, a file for each part."""
    corpus_folder(root, {"pairs": {"train": len(parts)}})
    schema = pa.schema(
        {"text": pa.string(), "pairs": pa.list_(pa.struct({"instruction": pa.string(), "response": pa.string()}))}
    )
    for path, documents in zip(sorted((root / "pairs").glob("*.parquet")), parts, strict=True):
        rows = [
            {"text": text, "pairs": [{"instruction": one.instruction, "response": one.response} for one in pairs]}
            for text, pairs in documents
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
    record(root)
    return root


def means(values: dict[str, Any]) -> dict[str, float | None]:
    return {name: interval["mean"] for name, interval in values["figures"].items()}


def test_figures_of_a_small_corpus_by_hand(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [(TOWER, [ASKED, WRONG]), (None, [])], [(BRIDGE, [GERMAN, ASKED])])
    seen: list[int] = []
    values = evaluate_corpus(root, on_progress=seen.append)
    assert seen == [1, 2, 3]
    assert (values["of"], values["documents"], values["pairs"], values["sampled"]) == ("corpus", 3, 4, False)
    assert means(values) == {
        "with_pairs": pytest.approx(2 / 3),
        "pairs_per_document": pytest.approx(4 / 3),
        # of the responses' content words: 4 of 4; tower and built of 5; none of 6; built of 4
        "grounding": pytest.approx((1 + 2 / 5 + 0 + 1 / 4) / 4),
        "fully_grounded": 0.25,
        "with_foreign_numbers": 0.25,
        "with_foreign_names": 0.75,  # Otto Wagner; German nouns; Gustave Eiffel in the text about the bridge
        "answer_leak": pytest.approx((1 / 2 + 2 / 5 + 3 / 6 + 1 / 2) / 4),
        "answer_in_instruction": 0.0,
        "instruction_words": pytest.approx((9 + 9 + 9 + 9) / 4),
        "response_words": pytest.approx((7 + 9 + 10 + 7) / 4),
        "repeated_instructions": 0.25,
        "nearly_repeated_instructions": 0.25,
        "language_known": 1.0,
        "language_mismatch": 0.25,
    }
    assert {name: share["mean"] for name, share in values["categories"].items()} == {
        "who": 0.5,
        "what": 0.25,
        "when": 0.25,
    }
    assert values["words"]["responses"] == {"min": 7, "5%": 7, "25%": 7, "50%": 7, "75%": 9, "95%": 10, "max": 10}
    assert values["languages"] == {"en": 2}
    assert values["compared_pairs"] == 4
    json.dumps(values, allow_nan=False)


def test_an_evaluation_goes_into_stats_and_onto_the_card(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [(TOWER, [ASKED, WRONG]), (BRIDGE, [GERMAN])])
    before = json.loads((root / "stats.json").read_text())
    values = evaluate_corpus(root, judge=PairJudge(ScriptedEngine(lambda prompt: YES), "a judge"))
    save_corpus_evaluation(root, values)
    stats = json.loads((root / "stats.json").read_text())
    assert stats == {**before, "evaluation": values}
    shown = build(corpus_facts(root, CardSettings(license="mit")))
    assert "| with a number that the document does not have | 33.3 (0.0–" in shown
    assert "| response accuracy | 100.0 (15.8–100.0) |" in shown  # two documents
    assert "`a judge`" in shown


@pytest.mark.parametrize("sample", [1, 3, 7])
def test_a_sample_of_documents_depends_on_the_seed_alone(tmp_path: Path, sample: int) -> None:
    documents = [(f"{TOWER} {number}", [ASKED] * (number % 3)) for number in range(9)]
    whole = folder_of(tmp_path / "whole", documents)
    apart = folder_of(tmp_path / "apart", documents[:2], documents[2:])
    values = evaluate_corpus(whole, sample=sample, seed=3)
    assert (values["documents"], values["sampled"]) == (sample, True)
    assert evaluate_corpus(apart, sample=sample, seed=3) == values
    assert len({evaluate_corpus(whole, sample=1, seed=seed)["pairs"] for seed in range(8)}) > 1


def test_splits_are_measured_together_or_alone(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [(TOWER, [ASKED, WRONG]), (BRIDGE, [])], [(BRIDGE, [GERMAN])])
    parts = sorted((root / "pairs").glob("*.parquet"))
    for path, name in zip(parts, ("train", "test"), strict=True):
        path.rename(path.with_name(f"{name}-00000-of-00001.parquet"))
    record(root)
    whole = evaluate_corpus(root)
    assert list(whole["splits"].items()) == [("train", 2), ("test", 1)] and whole["documents"] == 3
    alone = evaluate_corpus(root, split="test")
    assert (alone["splits"], alone["pairs"]) == ({"test": 1}, 1)
    assert evaluate_corpus(root, split=["train", "test"]) == whole
    with pytest.raises(OutputError, match="no pairs in split 'dev'; splits there: train, test"):
        evaluate_corpus(root, split="dev")
    save_corpus_evaluation(root, whole)
    shown = build(corpus_facts(root, CardSettings(license="mit")))
    assert "on 3 pairs of 3 documents of train, test," in shown


def test_a_sample_larger_than_the_corpus_is_the_corpus(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [(TOWER, [ASKED])])
    assert evaluate_corpus(root, sample=5) == evaluate_corpus(root)


def test_a_corpus_without_pairs_has_no_means(tmp_path: Path) -> None:
    values = evaluate_corpus(folder_of(tmp_path, [(TOWER, []), (None, [])]))
    found = means(values)
    assert (found.pop("with_pairs"), found.pop("pairs_per_document")) == (0.0, 0.0)
    assert set(found.values()) == {None}
    assert values["categories"] == {} == values["languages"]


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no finished pairs"):
        evaluate_corpus(tmp_path)
    root = folder_of(tmp_path / "corpus", [(TOWER, [ASKED])])
    with pytest.raises(ConfigError, match="sample"):
        evaluate_corpus(root, sample=0)
    (root / ".hfsynth" / "manifest.json").unlink()
    with pytest.raises(OutputError, match="no finished pairs"):
        evaluate_corpus(root)
    part = next((root / "pairs").glob("*.parquet"))
    pq.write_table(pa.table({"text": ["a"]}), part)
    record(root)
    with pytest.raises(OutputError, match="no column 'pairs'"):
        evaluate_corpus(root)
    part.write_bytes(b"nonsense")
    record(root)
    with pytest.raises(OutputError, match="damaged"):
        evaluate_corpus(root)


def test_a_folder_that_was_downloaded_needs_no_journal(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [(TOWER, [ASKED])])
    for path in (root / ".hfsynth").iterdir():
        path.unlink()
    (root / ".hfsynth").rmdir()
    assert evaluate_corpus(root)["pairs"] == 1


def test_compared_pairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_evaluation, "COMPARED", 5)
    figures = CorpusFigures(expected_pairs=20)
    for _ in range(10):
        figures.add(TOWER, [ASKED, WRONG])
    values = figures.to_dict()
    assert values["compared_pairs"] == 5
    assert values["figures"]["repeated_instructions"]["mean"] == pytest.approx(18 / 20)


def test_memory_does_not_grow_with_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_evaluation, "COMPARED", 20)
    figures = CorpusFigures(expected_pairs=10**9)

    def kept_after(documents: range) -> int:
        for number in documents:
            figures.add(f"{number} is even.", [Pair(f"Is {number} even?", f"{number} is.")])
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = kept_after(range(512))  # two blocks of the bootstrap: nothing is under way
        assert kept_after(range(512, 1536)) < first + 50_000
    finally:
        tracemalloc.stop()


def test_quantiles_are_values_that_occur() -> None:
    assert quantiles({}) == {}
    assert quantiles({3: 1}) == {"min": 3, "5%": 3, "25%": 3, "50%": 3, "75%": 3, "95%": 3, "max": 3}
    assert quantiles({1: 50, 2: 45, 9: 5}) == {"min": 1, "5%": 1, "25%": 1, "50%": 1, "75%": 2, "95%": 2, "max": 9}


TEXTS = st.text(max_size=30)
DOCUMENTS = st.lists(st.tuples(TEXTS, st.lists(st.builds(Pair, TEXTS, TEXTS), max_size=3)), max_size=4)


@settings(deadline=None, max_examples=30)
@given(DOCUMENTS)
def test_any_corpus_has_figures_within_their_ranges(documents: list[tuple[str, list[Pair]]]) -> None:
    figures = CorpusFigures(expected_pairs=10)
    for text, pairs in documents:
        figures.add(text, pairs)
    values = figures.to_dict()
    json.dumps(values, allow_nan=False)
    unbounded = {"pairs_per_document", "instruction_words", "response_words"}
    shares = [found for name, found in means(values).items() if name not in unbounded and found is not None]
    assert all(0 <= share <= 1 for share in shares)
    assert sum(share["mean"] for share in values["categories"].values()) == pytest.approx(float(values["pairs"] > 0))


YES = '{"why": "It says so.", "relevant": true, "accurate": true}'


def judged_by(script: Callable[[str], str | Completion], *, window: int = 65_536) -> PairJudge:
    return PairJudge(ScriptedEngine(script, window), "a judge")


def opinion(prompt: str) -> str | Completion:
    """Judge by what the pair holds."""
    asked = prompt.rpartition("<instruction>")[2]
    if "refuse" in asked:
        return Completion("", "error", error="refused")
    if "ramble" in asked:
        return "Well, true."
    return json.dumps({"why": "", "relevant": "tower" in asked, "accurate": "1890" not in asked})


def test_the_judge_is_shown_the_document_and_the_pair() -> None:
    prompts: list[str] = []
    judge = judged_by(lambda prompt: prompts.append(prompt) or YES)
    assert judge.verdicts([Judgeable(7, TOWER, ASKED)]) == [(7, Verdict(relevant=True, accurate=True))]
    assert f"<document>\n{TOWER}\n</document>" in prompts[0]
    assert f"<instruction>\n{ASKED.instruction}\n</instruction>" in prompts[0]
    assert f"<response>\n{ASKED.response}\n</response>" in prompts[0]
    assert prompts[0].count("<s>") == 2  # the two turns of the template


def test_control_strings_of_a_pair_stay_text() -> None:
    prompts: list[str] = []
    judge = judged_by(lambda prompt: prompts.append(prompt) or YES)
    judge.verdicts([Judgeable(0, "one</s>two", Pair("<s>?", "</s>"))])
    assert prompts[0].count("<s>") == 2
    assert delimiters.Escape.of(["<s>", "</s>"]).unescape(prompts[0]).count("</s>") == 3


def test_verdicts_come_with_their_documents_and_misses_are_counted(tmp_path: Path) -> None:
    refused, rambled = Pair("refuse?", "x"), Pair("ramble?", "x")
    root = folder_of(tmp_path, [(TOWER, [ASKED, WRONG, refused]), (BRIDGE, [GERMAN, ASKED, rambled])])
    seen: list[int] = []
    values = evaluate_corpus(root, judge=judged_by(opinion), on_verdict=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]
    judged = values["judge"]
    assert (judged["model"], judged["pairs"]) == ("a judge", 4)
    assert judged["context_relevance"]["mean"] == 0.75
    assert judged["response_accuracy"]["mean"] == 0.75
    assert judged["context_relevance"]["low"] == 0.5
    assert judged["unjudged"] == {"too_long": 0, "failed": 1, "unreadable": 1}


def test_a_judge_is_asked_about_a_bounded_number_of_pairs(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [(TOWER, [ASKED] * 4)] * 5)
    values = evaluate_corpus(root, judge=PairJudge(ScriptedEngine(opinion), "a judge", pairs=6))
    assert values["judge"]["pairs"] == 6


def test_a_long_document_is_shown_in_part_and_a_long_pair_not_judged() -> None:
    prompts: list[str] = []
    judge = judged_by(lambda prompt: prompts.append(prompt) or YES, window=3000)
    long = Judgeable(0, f"{TOWER} " * 50, ASKED)
    assert judge.verdicts([long, Judgeable(1, TOWER, Pair("a" * 4000, "b"))]) == [
        (0, Verdict(relevant=True, accurate=True)),
        (1, Unjudged.TOO_LONG),
    ]
    assert len(prompts) == 1
    assert len(judge.engine.tokenizer.encode(prompts[0])) <= 2700
    assert prompts[0].count(TOWER) >= 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "[]",
        "null",
        '{"relevant": true}',
        '{"relevant": 1, "accurate": 0}',
        '{"relevant": "yes", "accurate": "no"}',
    ]
    + ['{"relevant": true, "accur', "[" * 100_000],
)
def test_an_unreadable_verdict_is_none(text: str) -> None:
    assert read_verdict(Completion(text, "stop")) is Unjudged.UNREADABLE


@given(st.text())
def test_any_answer_is_read_or_counted(text: str) -> None:
    assert read_verdict(Completion(text, "length")) is Unjudged.UNREADABLE


def test_a_judge_that_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        PairJudge(ScriptedEngine(), "a judge", pairs=0)
    with pytest.raises(ConfigError, match="no room"):
        PairJudge(ScriptedEngine(window=300), "a judge")


def test_a_judge_is_named_by_its_model(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [(TOWER, [ASKED])])
    with pytest.raises(ConfigError, match="no-such-judge"):
        evaluate_corpus(root, judge=str(tmp_path / "no-such-judge"))


def test_a_judge_is_loaded_like_any_model() -> None:
    from hfsynth.core.config import EngineConfig

    judge = load_judge("test_corpus_evaluation:opinion", engine=EngineConfig(kind="scripted"), pairs=2)
    assert judge.pairs == 2
    assert judge.model == "test_corpus_evaluation:opinion"
    assert judge.verdicts([Judgeable(0, TOWER, WRONG)]) == [(0, Verdict(relevant=True, accurate=False))]
