"""Verification: every pair judged once, what does not pass counted and readable, the folder replaced as one change."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from jobs import documents, ended, parts, run, start, stats, until
from scripts_kill import judging, part
from seeds import SEED

import hfsynth
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, EngineError, ModelError, OutputError
from hfsynth.corpus.manifest import damages
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.job.verify import verify

DOCUMENTS = 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a corpus of two pairs a document, one of which has none."""
    folder = tmp_path_factory.mktemp("made")
    source = documents(folder / "texts.jsonl", DOCUMENTS, special={7: "  "})
    config = SynthesizerConfig("scripted", shots=2)
    synthesize(Source(str(source)), folder / "out", config, engine=EngineConfig("scripted"), shard_rows=8)
    return folder / "out"


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]


def judge(script: Callable[[str], Any] = judging, **options: Any) -> ScriptedEngine:  # noqa: ANN401
    return ScriptedEngine(script, **options)


def test_every_pair_gets_its_verdict_and_nothing_else_changes(corpus: Path, made: Path) -> None:
    result = verify(corpus, "judge", engine=judge(), shard_rows=8)
    assert result.worked
    before, after = rows_of(made), rows_of(corpus)
    assert [{**row, "verdicts": None} for row in after] == [{**row, "verdicts": None} for row in before]
    for row in after:
        assert (row["verdicts"] is None) == (not row["pairs"])
        for pair, verdict in zip(row["pairs"], row["verdicts"] or (), strict=True):
            asked = "</response> right answer Answer"
            rubric = f"<document>{row['text']}</document><instruction>{pair['instruction']}</instruction>{asked}"
            right = float(judging(rubric) == "yes")
            assert verdict == {"relevance": 1.0, "accuracy": right, "unjudged": None}
    told = result.stats["verify"]
    scores = [verdict for row in after for verdict in row["verdicts"] or ()]
    assert (told["pairs"], told["judged"], told["kept"]) == (len(scores), len(scores), len(scores))
    assert told["accuracy"] == pytest.approx(sum(one["accuracy"] for one in scores) / len(scores), abs=1e-4)
    assert (told["relevance"], told["rejected"], told["unjudged"]) == (1.0, {}, {})
    assert sum(told["scores"]["accuracy"]) == len(scores)
    assert not list(damages(corpus, digests=True))
    assert load_dataset(str(corpus), "pairs", split="train").num_rows == DOCUMENTS


def test_pairs_below_a_threshold_are_set_aside_with_a_reason_and_counted(corpus: Path, made: Path) -> None:
    told = verify(corpus, "judge", keep=["accuracy>=0.5", "response_words<5"], engine=judge(), shard_rows=8).stats
    before, after = rows_of(made), rows_of(corpus)
    assert [row["id"] for row in after] == [row["id"] for row in before]
    for old, new in zip(before, after, strict=True):
        rejected = new["synthesis"]["rejected"][len(old["synthesis"]["rejected"]) :]
        left = [json.loads(one["text"]) for one in rejected]
        assert len(new["pairs"]) + len(left) == len(old["pairs"])
        assert all(pair in old["pairs"] for pair in new["pairs"])
        assert all({"instruction": one["instruction"], "response": one["response"]} in old["pairs"] for one in left)
        assert all(0 <= one["accuracy"] <= 1 for one in left)
        if old["synthesis"]["status"] == "ok":
            assert new["synthesis"]["status"] == ("ok" if new["pairs"] else "no_pairs")
    reasons = Counter(one["reason"] for row in after for one in row["synthesis"]["rejected"])
    assert set(told["verify"]["rejected"]) == {"filtered_accuracy", "filtered_response_words"}
    assert told["verify"]["rejected"] == dict(reasons) == told["rejected"]
    assert told["documents"] == dict.fromkeys(told["documents"], 0) | Counter(
        row["synthesis"]["status"] for row in after
    )
    assert told["pairs"] == told["verify"]["kept"] == sum(len(row["pairs"]) for row in after)
    assert told["verify"]["pairs"] == told["verify"]["kept"] + sum(reasons.values())


def test_the_same_verification_again_starts_no_engine_and_another_one_judges_again(corpus: Path) -> None:
    def silent(prompt: str) -> str:
        raise AssertionError("it was asked")

    verify(corpus, "judge", keep=["accuracy>=0.5"], engine=judge())
    whole = parts(corpus)
    assert not verify(corpus, "judge", keep=["accuracy >= 0.50"], engine=judge(silent)).worked
    assert parts(corpus) == whole
    again = verify(corpus, "judge", keep=["accuracy>=0.5"], seed=1, engine=judge())
    assert again.worked
    assert again.stats["verify"]["rejected"] == {}  # what is left has passed


def test_the_job_that_made_the_corpus_takes_it_for_finished(corpus: Path, made: Path) -> None:
    verify(corpus, "judge", keep=["accuracy>=0.5"], engine=judge())
    source, config = Source(str(made.parent / "texts.jsonl")), SynthesizerConfig("scripted", shots=2)
    assert not synthesize(source, corpus, config, engine=EngineConfig("scripted"), shard_rows=8).worked


def test_texts_that_were_made_of_pairs_that_are_out_go_too(corpus: Path) -> None:
    hfsynth.render(corpus)
    kept = verify(corpus, "judge", engine=judge()).stats
    assert list((corpus / "data").iterdir()) and "render" in kept
    told = verify(corpus, "judge", keep=["accuracy>=0.5"], engine=judge()).stats
    assert told["verify"]["texts_removed"] and not (corpus / "data").exists() and "render" not in told
    hfsynth.render(corpus)
    assert not list(damages(corpus, digests=True))


def test_a_sample_judges_as_many_documents_as_were_asked_for_and_keeps_all_pairs(corpus: Path, made: Path) -> None:
    told = verify(corpus, "judge", sample=5, engine=judge(), shard_rows=8).stats["verify"]
    judged = [row for row in rows_of(corpus) if row["verdicts"] is not None]
    assert len(judged) == 5
    assert told["pairs"] == sum(len(row["pairs"]) for row in judged)
    assert [row["pairs"] for row in rows_of(corpus)] == [row["pairs"] for row in rows_of(made)]


def test_gold_data_says_what_the_judge_is_worth(corpus: Path, tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    pairs = [{"instruction": f"What is number {n}?", "response": f"right {n}"} for n in range(2)]
    lines = [json.dumps({"context": f"Text {n}.", "pairs": pairs}) for n in range(6)]
    gold.write_text("\n".join(lines) + "\n")

    def knowing(prompt: str) -> str:
        question, response = part(prompt, "instruction"), part(prompt, "response")
        return "yes" if question[-2] == response[-1] else "no"

    told = verify(corpus, "judge", calibrate=gold, engine=judge(knowing)).stats["verify"]["calibration"]
    assert told["data"].endswith("gold.jsonl")
    assert told["accuracy"]["auroc"] == 1.0
    assert sum(row["pairs"] for row in told["accuracy"]["reliability"]) == told["accuracy"]["pairs"] == 12
    assert told["relevance"]["pairs"] == 18
    hfsynth.write_card(corpus, hfsynth.CardSettings(license="mit", language=["en"]))
    card = (corpus / "README.md").read_text("utf-8")
    assert "| accuracy | 12 | 1.00 |" in card and "Tried on 6 documents" in card


def test_the_card_says_what_was_judged_kept_and_taken_out(corpus: Path) -> None:
    told = verify(corpus, "judge", keep=["accuracy>=0.5"], engine=judge()).stats["verify"]
    hfsynth.write_card(corpus, hfsynth.CardSettings(license="mit", language=["en"]))
    card = (corpus / "README.md").read_text("utf-8")
    assert f"| taken out: `filtered_accuracy` | {told['rejected']['filtered_accuracy']} |" in card
    assert f"| kept, by the conditions `accuracy>=0.5` | {told['kept']} |" in card
    assert f"| with a right response (at least one half), % | {100 * told['accuracy']:.1f} |" in card


def test_a_judge_that_never_answers_is_an_error_and_changes_nothing(corpus: Path) -> None:
    whole = parts(corpus)
    with pytest.raises(ModelError, match="about none of"):
        verify(corpus, "judge", keep=["accuracy>=0.5"], engine=judge(lambda prompt: "Well, "), shard_rows=8)
    assert parts(corpus) == whole
    assert not (corpus / ".hfsynth" / "verify").exists()


def test_a_judge_that_answers_at_times_leaves_the_others_counted(corpus: Path) -> None:
    def moody(prompt: str) -> str:
        return "Well" if "begin" in part(prompt, "instruction") else "yes"

    told = verify(corpus, "judge", keep=["accuracy>=0.5"], engine=judge(moody)).stats["verify"]
    half = told["pairs"] // 2
    assert (told["judged"], told["unjudged"], told["rejected"]) == (half, {"unreadable": half}, {"unjudged": half})


def test_an_engine_that_dies_is_outlived(corpus: Path) -> None:
    deaths = iter([True])

    def dying(prompt: str) -> str:
        if next(deaths, False):
            raise EngineError("The engine died.")
        return judging(prompt)

    assert verify(corpus, "judge", engine=judge(dying)).stats["verify"]["judged"] > 0


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"sample": 3, "keep": ["accuracy>=0.5"]}, ConfigError, "a sample judges some documents only"),
        ({"sample": 0}, ConfigError, "at least 1"),
        ({"keep": ["beauty>=0.5"]}, ConfigError, "no measure 'beauty'"),
    ],
)
def test_what_cannot_work_is_refused(corpus: Path, settings: dict[str, Any], error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        verify(corpus, "judge", engine=judge(), **settings)


def test_a_folder_without_finished_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no finished pairs"):
        verify(tmp_path / "nothing", "judge", engine=judge())


def test_another_verification_of_the_same_pairs_is_refused_while_one_is_unfinished(corpus: Path) -> None:
    def dead(prompt: str) -> str:
        raise EngineError("The engine died.")

    with pytest.raises(EngineError):
        verify(corpus, "judge", keep=["accuracy>=0.5"], engine=judge(dead), max_engine_restarts=0)
    with pytest.raises(OutputError, match="verified in another way: keep is not the same"):
        verify(corpus, "judge", engine=judge())
    assert verify(corpus, "judge", keep=["accuracy>=0.5"], engine=judge()).worked


# --- kills ----------------------------------------------------------------------------------------------------------


def command(corpus: Path, latency: float) -> list[str]:
    options = ["--keep", "accuracy>=0.5", "--shard-rows", "8", "--quiet", "--workers", "2", "--engine", "scripted"]
    arguments = ["--engine-arg", f"latency={latency}", "--engine-arg", "max_in_flight=4"]
    judge = ["--judge", "scripts_kill:judging"]
    return [sys.executable, "-m", "hfsynth", "verify", str(corpus), *judge, *options, *arguments]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the test finds processes in /proc")
@pytest.mark.long
def test_a_verification_killed_again_and_again_judges_every_pair_once(corpus: Path, made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made, tmp_path / "other"))
    run(command(other, 0.0))
    log, chance, kills = tmp_path / "calls", random.Random(SEED), 0

    def calls() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    def has_asked(number: int) -> bool:
        return len(calls()) >= number

    process = start(command(corpus, 0.1), log)
    while kills < 3 and until(partial(has_asked, len(calls()) + chance.randrange(1, 20)), process):
        assert parts(corpus) == parts(made)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = start(command(corpus, 0.1), log)
    code, _, errors = ended(process)
    assert (code, kills) == (0, 3), errors
    assert parts(corpus) == parts(other)
    assert stats(corpus)["verify"]["rejected"] == stats(other)["verify"]["rejected"]
    asked = Counter(calls())
    pairs = sum(len(row["pairs"]) for row in rows_of(made))
    assert len(asked) == 2 * pairs
    assert sum(asked.values()) - len(asked) <= kills * 2 * 4 * 4  # of what was in flight: 2 workers, 4 documents of 4
    assert not (corpus / ".hfsynth" / "verify").exists()
    assert not [path for path in corpus.parent.iterdir() if path.suffix == ".tmp"]
