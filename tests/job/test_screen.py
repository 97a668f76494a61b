"""Screening a whole corpus: counts are those of its rows, nothing disappears, the folder is replaced as one change."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from identifier_makers import MAKERS
from jobs import documents, ended, parts, run, start, stats, until
from scripts_kill import judging
from seeds import SEED

import hfsynth
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.corpus.manifest import damages
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.check import check
from hfsynth.job.run import synthesize
from hfsynth.job.screen import screen
from hfsynth.job.verify import verify
from hfsynth.quality.identifiers import identifiers
from hfsynth.quality.near_duplicates import shingle_keys, similarity_of

NUMBER = 40
WORDS = [f"word{number}" for number in range(500)]


def texts() -> dict[int, str]:
    """Return texts of which some hold identifiers, some are repeated, some nearly so, and one is blank."""
    draw = random.Random(11)
    made = {number: " ".join(draw.choices(WORDS, k=80)) for number in range(NUMBER)}
    for number, kind in enumerate(MAKERS):
        made[number] = f"{made[number]} ends: {MAKERS[kind](draw)}, really."
    made[7] = "  "
    made[20], made[33] = made[12].upper(), made[13] + "!"  # the same words
    made[21] = made[14].replace(made[14].split()[40], "another", 1)  # nearly the same
    made[30] = made[21] + " more"  # near to one that goes, and to the one that stays
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    source = documents(folder / "texts.jsonl", NUMBER, special=texts())
    config = SynthesizerConfig("scripted", shots=2)
    synthesize(Source(str(source)), folder / "out", config, engine=EngineConfig("scripted"), shard_rows=8)
    return folder / "out"


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]


def out_of(rows: list[dict[str, Any]], reason: str) -> tuple[list[str], int]:
    """Return the documents that were taken out for a reason, and how many pairs were."""
    entries = [(row, one) for row in rows for one in row["synthesis"]["rejected"] if one["reason"] == reason]
    own = [row["id"] for row, one in entries if not one["text"].startswith("{")]
    return own, len(entries) - len(own)


def test_duplicates_go_and_the_first_stays(corpus: Path, made: Path) -> None:
    result = screen(corpus, duplicates=True)
    before, after = rows_of(made), rows_of(corpus)
    assert [row["id"] for row in after] == [row["id"] for row in before]
    gone, pairs = out_of(after, "duplicate")
    assert gone == ["d20", "d21", "d30", "d33"]
    assert [row["id"] for row in after if row["synthesis"]["status"] == "screened"] == gone
    why = {row["id"]: row["synthesis"]["rejected"][-1]["text"] for row in after if row["id"] in gone}
    assert why["d20"] == "exact duplicate of row 4 of train-00001-of-00005.parquet"
    assert why["d21"] == why["d30"] == "near duplicate of row 6 of train-00001-of-00005.parquet"
    [step] = result.steps
    assert (step["documents_out"], step["exact"], step["near"], step["pairs_out"]) == (4, 2, 2, pairs)
    kept = [(p["instruction"].lower(), p["response"].lower()) for row in after for p in row["pairs"]]
    assert len(kept) == len(set(kept))
    assert sum(len(row["pairs"]) for row in before) == len(kept) + pairs
    told = result.stats
    assert told["documents"] == dict.fromkeys(told["documents"], 0) | Counter(r["synthesis"]["status"] for r in after)
    assert told["pairs"] == len(kept)
    assert told["rejected"] == dict(Counter(one["reason"] for row in after for one in row["synthesis"]["rejected"]))
    assert not list(damages(corpus, digests=True)) and not check(corpus).damaged
    assert load_dataset(str(corpus), "pairs", split="train", cache_dir=str(corpus.parent / "cache")).num_rows == NUMBER
    assert not (corpus / ".hfsynth" / "screen").exists()


def test_near_duplicates_are_those_whose_shingles_say_so(tmp_path: Path) -> None:
    draw, made = random.Random(SEED), list[str]()
    for number in range(0, 600, 3):
        words = draw.choices(WORDS, k=120)
        made.append(" ".join(words))
        for changes in (draw.randrange(1, 3), draw.randrange(3, 5)):  # around 0.8
            copy = list(words)
            for place in draw.sample(range(4, 116), changes):
                copy[place] = f"other{number}x{place}"
            made.append(" ".join(copy))
    order = draw.sample(range(len(made)), len(made))
    texts = [made[at] for at in order]
    source = documents(tmp_path / "texts.jsonl", len(texts), special=dict(enumerate(texts)))
    config = SynthesizerConfig("scripted")
    synthesize(Source(str(source)), tmp_path / "out", config, engine=EngineConfig("scripted"), shard_rows=70)
    screen(tmp_path / "out", duplicates=True)
    keys = list(map(shingle_keys, texts))
    gone = dict[int, str]()
    for row in rows_of(tmp_path / "out"):
        if row["synthesis"]["status"] == "screened":
            gone[int(row["id"][1:])] = row["synthesis"]["rejected"][-1]["text"]
    alike = {at: [other for other in range(at) if order[other] // 3 == order[at] // 3] for at in range(len(texts))}
    near = {
        at: [other for other in others if other not in gone and similarity_of(keys[other], keys[at]) >= 0.8]
        for at, others in alike.items()
    }
    assert 100 < len(gone) < 390 and all(near[at] for at in gone)  # none that is not near to one that stays
    for at, told in gone.items():
        place, file = told.removeprefix("near duplicate of row ").split(" of ")
        assert int(file.split("-")[1]) * 70 + int(place) in near[at]
    missed = [at for at in near if near[at] and at not in gone]
    assert len(missed) <= 2  # no band in common


def test_identifiers_are_counted_then_marked(corpus: Path, made: Path) -> None:
    [report] = screen(corpus, pii="report").steps
    assert parts(corpus) == parts(made)
    own = Counter(str(one.kind) for row in rows_of(made) for one in identifiers(row["text"]))
    asked = [p for row in rows_of(made) for p in row["pairs"]]
    quoted = Counter(str(one.kind) for p in asked for text in p.values() for one in identifiers(text))
    assert report["kinds"] == {kind: {"documents": own[kind], "pairs": quoted[kind]} for kind in sorted(MAKERS)}
    assert (report["documents"], report["documents_out"]) == (len(MAKERS), 0)
    whole = parts(corpus)
    result = screen(corpus, pii="mark")
    after = rows_of(corpus)
    assert not any(identifiers(json.dumps(row)) for row in after)
    assert sum(row["text"].count(f"<{kind.upper()}>") for row in after for kind in MAKERS) == own.total()
    changed = [name for name, content in parts(corpus).items() if content != whole[name]]
    assert changed == ["train-00000-of-00005.parquet"]  # the others are the same to the byte
    told = hfsynth.inspect(corpus)["stats"]["screen"]
    assert [step["mode"] for step in told["steps"]] == ["mark"]  # the report was of texts that are no more
    assert {**report, "mode": "mark", "result": told["result"]} == result.steps[0]
    assert json.loads((corpus / "synthesizer_config.json").read_text())["screen"] == [
        {"measure": "identifiers", "mode": "mark"}
    ]


def test_dropped_documents_keep_their_rows_and_give_no_text(corpus: Path) -> None:
    hfsynth.render(corpus)
    result = screen(corpus, pii="drop", language=["en", "unknown"])
    assert result.texts_removed and not (corpus / "data").exists() and "render" not in result.stats
    after = rows_of(corpus)
    assert out_of(after, "identifier")[0] == [f"d{number}" for number in range(len(MAKERS))]
    hfsynth.render(corpus)
    rendered = [row for path in (corpus / "data").iterdir() for row in pq.read_table(path).to_pylist()]
    screened = {row["id"] for row in after if row["synthesis"]["status"] == "screened"}
    assert screened and screened.isdisjoint(name for row in rendered for name in row["source_ids"])
    told = hfsynth.inspect(corpus)["stats"]["render"]["counts"]
    assert told["screened_documents"] == len(screened) and told["empty_documents"] == 1


def test_the_same_again_does_nothing_and_passes_add_up(corpus: Path) -> None:
    screen(corpus, duplicates=True)
    whole = parts(corpus)
    assert not screen(corpus, duplicates=True).worked
    screen(corpus, pii="mark")
    again = screen(corpus, duplicates=True, pii="mark")
    assert not again.worked and [step["measure"] for step in again.steps] == ["identifiers", "duplicates"]
    report = screen(corpus, pii="report")
    assert report.worked and report.steps[0]["kinds"] == {} and parts(corpus).keys() == whole.keys()
    assert not screen(corpus, pii="report").worked


def test_a_dry_run_counts_the_same_and_changes_nothing(corpus: Path, tmp_path: Path) -> None:
    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}

    before = everything()
    dry = screen(corpus, pii="drop", duplicates=True, dry_run=True)
    assert everything() == before
    real = screen(corpus, pii="drop", duplicates=True)
    assert list(dry.steps) == [{name: step[name] for name in step if name != "result"} for step in real.steps]


def test_a_finding_of_nothing_leaves_pairs_and_texts(corpus: Path, made: Path) -> None:
    screen(corpus, duplicates=True, pii="mark")
    hfsynth.render(corpus)
    whole = parts(corpus)
    result = screen(corpus, language=["en", "unknown", "de", "cy", "la"])
    if not result.steps[0]["documents_out"]:
        assert parts(corpus) == whole and (corpus / "data").exists() and "render" in result.stats
    assert "language" in [step["measure"] for step in result.stats["screen"]["steps"]]


def test_verdicts_stay_beside_their_pairs_and_verifying_goes_on_after(corpus: Path) -> None:
    verify(corpus, "judge", engine=ScriptedEngine(judging))
    verdicts = {row["id"]: row["verdicts"] for row in rows_of(corpus)}
    screen(corpus, duplicates=True)
    for row in rows_of(corpus):
        assert row["verdicts"] is None or len(row["verdicts"]) == len(row["pairs"])
        assert all(one in verdicts[row["id"]] for one in row["verdicts"] or ())
    assert verify(corpus, "judge", keep=["accuracy>=0.5"], engine=ScriptedEngine(judging)).worked
    assert not screen(corpus, duplicates=True).worked
    assert not list(damages(corpus, digests=True)) and not check(corpus).damaged


def test_the_job_that_made_the_corpus_takes_it_for_finished(corpus: Path, made: Path) -> None:
    screen(corpus, pii="mark")
    source, config = Source(str(made.parent / "texts.jsonl")), SynthesizerConfig("scripted", shots=2)
    assert not synthesize(source, corpus, config, engine=EngineConfig("scripted"), shard_rows=8).worked


def test_a_screened_corpus_with_a_lost_file_is_made_anew_whole_and_not_half_screened(corpus: Path, made: Path) -> None:
    screen(corpus, pii="mark")
    next((corpus / "pairs").iterdir()).unlink()
    assert check(corpus).damaged
    source, config = Source(str(made.parent / "texts.jsonl")), SynthesizerConfig("scripted", shots=2)
    synthesize(source, corpus, config, engine=EngineConfig("scripted"), shard_rows=8)
    assert parts(corpus) == parts(made) and "screen" not in stats(corpus)


def test_card_info_and_check_say_what_was_done_and_what_not(corpus: Path) -> None:
    hfsynth.write_card(corpus, hfsynth.CardSettings(license="mit", language=["en"]))
    card = (corpus / "README.md").read_text("utf-8")
    assert "Not screened for benchmark questions, personal identifiers, duplicates or languages." in card
    screen(corpus, pii="mark", duplicates=True)
    hfsynth.write_card(corpus, hfsynth.CardSettings(license="mit", language=["en"]))
    card = (corpus / "README.md").read_text("utf-8")
    assert "4 documents (2 the same as an earlier one, 2 nearly: 5-word shingles" in card
    assert f"identifiers were replaced by marks in {len(MAKERS)} documents" in card
    assert "Not screened for benchmark questions or languages." in card
    assert len(check(corpus).screening) == 3


def test_a_folder_without_finished_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no finished pairs"):
        screen(tmp_path / "nothing", pii="mark")


def test_what_cannot_be_is_refused(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="Nothing was asked for"):
        screen(corpus)
    with pytest.raises(ConfigError, match="'xx' is no language") as unknown:
        screen(corpus, language=["xx"])
    assert "unknown" in unknown.value.hint


def test_another_screening_is_refused_while_one_is_unfinished(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("The disk is full.")

    with monkeypatch.context() as broken, pytest.raises(OutputError, match="full"):
        broken.setattr("hfsynth.job.screen.republish", lambda *_, **__: full())
        screen(corpus, pii="mark")
    with pytest.raises(OutputError, match="being screened in another way: screen is not the same"):
        screen(corpus, pii="drop")
    assert screen(corpus, pii="mark").worked


def test_a_damaged_part_is_made_again(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr("hfsynth.job.screen.republish", lambda *_, **__: 1 // 0)
        screen(corpus, pii="mark")
    part = next((corpus / ".hfsynth" / "screen" / "made" / ".hfsynth" / "parts").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(OutputError, match="damaged"):
        screen(corpus, pii="mark")
    assert screen(corpus, pii="mark").worked and not list(damages(corpus, digests=True))


# --- kills ----------------------------------------------------------------------------------------------------------


def command(corpus: Path, workers: int = 2) -> list[str]:
    options = ["--pii", "mark", "--duplicates", "--quiet", "--workers", str(workers)]
    return [sys.executable, "-m", "hfsynth", "screen", str(corpus), *options]


def test_workers_make_the_same_as_one_process(corpus: Path, made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made, tmp_path / "other"))
    screen(other, pii="mark", duplicates=True)
    run(command(corpus))
    assert parts(corpus) == parts(other)
    assert stats(corpus)["screen"] == stats(other)["screen"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the test finds processes in /proc")
@pytest.mark.long
def test_a_screening_killed_again_and_again_makes_the_same(corpus: Path, made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made, tmp_path / "other"))
    screen(other, pii="mark", duplicates=True)
    chance, kills = random.Random(SEED), 0
    inner = corpus / ".hfsynth" / "screen"

    def files() -> int:
        return sum(path.is_file() for path in inner.rglob("*")) if inner.exists() else 0

    def has_more_than(number: int) -> bool:
        return files() > number

    process = start(command(corpus))
    while kills < 4 and until(partial(has_more_than, files() + chance.randrange(0, 6)), process):
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        assert parts(corpus) in (parts(made), parts(other))
        process = start(command(corpus))
    code, _, errors = ended(process)
    assert code == 0 and kills, errors
    assert parts(corpus) == parts(other)
    assert stats(corpus)["screen"] == stats(other)["screen"]
    assert not inner.exists()
    assert not [path for path in corpus.parent.iterdir() if path.suffix == ".tmp"]
