"""The card's table of what became of every document and of everything written, against the rows themselves."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from corpus_folders import corpus_folder
from jobs import documents
from scripts_kill import judging

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.job.verify import verify
from hfsynth.publishing import plots
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import check_folder_card, write_card
from hfsynth.publishing.taken_out import meanings

STATED = CardSettings(license="mit", language=("en",))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    source = documents(tmp_path / "texts.jsonl", 30, special={7: "  ", 9: ""})
    config = SynthesizerConfig("scripted", shots=2)
    synthesize(Source(str(source)), tmp_path / "out", config, engine=EngineConfig("scripted"), shard_rows=8)
    return tmp_path / "out"


def table_of(folder: Path) -> dict[str, dict[str, int]]:
    """Return the table of a folder's card, by what and by name."""
    found: dict[str, dict[str, int]] = {}
    for of, name, number in re.findall(
        r"^\| ([a-z ]+) \| `(\w+)` \| ([\d,]+) \|", (folder / "README.md").read_text(), re.M
    ):
        found.setdefault(of, {})[name] = int(number.replace(",", ""))
    return found


def rows_say(folder: Path) -> tuple[Counter[str], Counter[str]]:
    rows = [row for path in sorted((folder / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]
    told = [row["synthesis"] for row in rows]
    return Counter(one["status"] for one in told), Counter(r["reason"] for one in told for r in one["rejected"])


def test_every_status_and_reason_is_counted_as_in_the_rows(corpus: Path) -> None:
    write_card(corpus, STATED)
    statuses, reasons = rows_say(corpus)
    assert +Counter(table_of(corpus)["documents"]) == statuses and statuses["empty"] == 2
    assert table_of(corpus).get("what was written", {}) == reasons
    assert "The pairs were not verified by a judge." in (corpus / "README.md").read_text()
    verify(corpus, "judge", keep=["accuracy>=0.5"], engine=ScriptedEngine(judging))
    write_card(corpus)
    statuses, reasons = rows_say(corpus)
    assert +Counter(table_of(corpus)["documents"]) == statuses
    assert table_of(corpus)["what was written"] == reasons and reasons["filtered_accuracy"] > 0
    assert sum(statuses.values()) == 30


def test_the_rows_go_before_what_the_statistics_say(corpus: Path) -> None:
    stats = json.loads((corpus / "stats.json").read_text())
    (corpus / "stats.json").write_text(json.dumps({**stats, "documents": {"ok": 999}, "rejected": {"no_answer": 999}}))
    write_card(corpus, STATED)
    assert +Counter(table_of(corpus)["documents"]) == rows_say(corpus)[0]


def test_what_is_left_out_before_and_after_is_in_the_table_too(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", {"default": {"train": 1}, "pairs": {"train": 1}})
    stats = json.loads((folder / "stats.json").read_text())
    stats |= {
        "unreadable": 3,
        "unreadable_rows": [],
        "render": {"counts": {"empty_questions": 2, "broken_chains": 0}},
        "mix": {"parts": [{"name": "raw", "kind": "raw", "documents": 1, "tokens": 9, "share_got": 1.0,
                           "skipped": {"empty_text": 4}}]},
    }  # fmt: skip
    (folder / "stats.json").write_text(json.dumps(stats))
    write_card(folder, STATED)
    found = table_of(folder)
    assert found["documents"]["no_pairs"] == 1 and found["what was written"] == {"no_answer": 2}
    assert found["rows of the source"] == {"unreadable": 3} and found["what was rendered"] == {"empty_questions": 2}
    assert found["rows of the part raw"] == {"empty_text": 4}


def test_every_status_and_reason_is_explained() -> None:
    assert not [name for name, why in meanings().items() if not why]


def test_the_verdicts_are_drawn_and_drawn_anew_when_they_change(corpus: Path) -> None:
    pytest.importorskip("matplotlib")
    write_card(corpus, STATED)
    assert not (corpus / "plots" / "verdicts.png").exists()
    verify(corpus, "judge", engine=ScriptedEngine(judging))
    text = write_card(corpus).path.read_text()
    assert "](plots/verdicts.png)" in text and "not verified by a judge" not in text
    check_folder_card(corpus)
    stats = json.loads((corpus / "stats.json").read_text())
    stats["verify"]["scores"]["accuracy"][0] += 1
    assert plots.stale(corpus, stats) == ["plots/verdicts.png"]
