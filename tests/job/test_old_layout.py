"""Folders that earlier versions made are read and finished: `old_layout/make.py` says how these were made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from jobs import stats

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.processes import machine
from hfsynth.core.recipes import read_recipe
from hfsynth.documents.source import Source
from hfsynth.job.check import check
from hfsynth.job.run import JobResult, synthesize
from hfsynth.texts.corpus_folder import render_folder

OLD = Path(__file__).parents[1] / "old_layout"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the old folders, as on the machine that made them: its leases are of a process that is dead."""
    copied = Path(shutil.copytree(OLD, tmp_path / "old"))
    for lease in copied.glob("half/.hfsynth/leases/*.json"):
        lease.write_text(lease.read_text().replace('"machine": "old-machine"', f'"machine": "{machine()}"'))
    monkeypatch.chdir(copied)
    return copied


def job(out: str) -> JobResult:
    config, engine = SynthesizerConfig("scripts:quoting", shots=2), EngineConfig("scripted")
    return synthesize(Source("texts.jsonl"), out, config, engine=engine, shard_rows=4)


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]


def test_an_old_corpus_is_whole_and_its_job_finished(folder: Path) -> None:
    before = {path: path.read_bytes() for path in (folder / "finished").rglob("*") if path.is_file()}
    assert check(folder / "finished").damaged == ()
    assert not job("finished").worked
    assert {path: path.read_bytes() for path in (folder / "finished").rglob("*") if path.is_file()} == before
    texts = load_dataset(str(folder / "finished"), split="train", cache_dir=str(folder / "cache"))
    assert texts["source_ids"] == [[f"d{n}", f"d{n + 1}"] for n in range(0, 8, 2)] + [["d8"], ["d10", "d11"]]


def test_an_old_corpus_is_rendered_again_and_a_lost_part_made_anew(folder: Path) -> None:
    out = folder / "finished"
    made, lost = rows(out), out / "pairs" / "train-00001-of-00003.parquet"
    lost.unlink()
    assert job("finished").worked and rows(out) == made
    render_folder(out)
    texts = load_dataset(str(out), split="train", cache_dir=str(folder / "cache"))
    assert sum(texts["num_pairs"]) == stats(out)["pairs"] == sum(len(row["pairs"]) for row in made)
    assert check(out).damaged == ()


def test_what_an_old_job_left_half_finished_is_finished(folder: Path) -> None:
    out = folder / "half"
    (segment,) = (out / ".hfsynth" / "segments" / "00001").iterdir()
    assert segment.read_text().splitlines()[0].endswith("}")  # no checksum
    assert job("half").worked
    assert rows(out) == rows(folder / "finished")
    found, whole = stats(out), stats(folder / "finished")
    for name in ("pairs", "output_tokens", "total_documents"):
        assert found[name] == whole[name]
    assert found["documents"] == {**whole["documents"], "screened": 0}  # which is said of newer ones alone
    assert sum(worker["documents"] for worker in found["workers"]) < 12  # what was done was not done again
    assert read_recipe(out / "synthesizer_config.json")["format_version"] == 1  # the same prompts to its end
    assert check(out).damaged == () and not (out / ".hfsynth" / "segments").exists()
    pairs = load_dataset(str(out), "pairs", split="train", cache_dir=str(folder / "cache"))
    assert pairs["id"] == [f"d{n}" for n in range(12)]
