"""Jobs over several splits: one job, files for each split, kept by whatever reads the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from jobs import command, ended, parts, run, scripted, start, until
from loopback_hub.server import Hub

from hfsynth import Source, Synthesizer, save_corpus
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ColumnError, ConfigError, OutputError, SourceError
from hfsynth.documents.splits import SplitLayout
from hfsynth.job.begin import job_plan
from hfsynth.job.progress import describe, inspect
from hfsynth.job.run import synthesize
from hfsynth.texts.corpus_folder import render_folder
from hfsynth.texts.export.export import export

SIZES = {"train": 11, "validation": 5, "test": 8}
ENGINE = EngineConfig("scripted")


def dataset(sizes: dict[str, int] | None = None) -> DatasetDict:
    def rows(split: str, number: int) -> Dataset:
        texts = [f"Text {n} of {split} says little." for n in range(number)]
        return Dataset.from_dict({"id": [f"{split}{n}" for n in range(number)], "text": texts})

    return DatasetDict({split: rows(split, number) for split, number in (sizes or SIZES).items()})


def config(shots: int = 2) -> SynthesizerConfig:
    return SynthesizerConfig("scripts:quoting", shots=shots)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    dataset().save_to_disk(tmp_path / "raw")
    return tmp_path / "raw"


@pytest.mark.parametrize("split", ["all", ("train", "validation", "test")])
def test_a_job_of_splits_is_what_map_and_save_make(saved: Path, tmp_path: Path, split: Any) -> None:  # noqa: ANN401
    result = synthesize(Source(str(saved), split=split), tmp_path / "job", config(), engine=ENGINE)
    assert result.stats["source_rows"] == result.stats["total_documents"] == sum(SIZES.values())
    transform = Synthesizer("scripts:quoting", engine="scripted", shots=2)
    ds = transform.map(dataset())
    ours = save_corpus(tmp_path / "ours", pairs=ds, synthesizer=transform)
    assert parts(ours.root) == parts(tmp_path / "job")
    read = load_dataset(str(tmp_path / "job"), "pairs")
    assert {name: list(rows) for name, rows in read.items()} == {name: list(rows) for name, rows in ds.items()}
    assert not synthesize(Source(str(saved), split=split), tmp_path / "job", config(), engine=ENGINE).worked
    with pytest.raises(OutputError, match="split is"):
        synthesize(Source(str(saved), split=("train", "test")), tmp_path / "job", config(), engine=ENGINE)
    assert "Splits     train, validation, test" in describe(inspect(tmp_path / "job"))


def test_readers_keep_the_splits(saved: Path, tmp_path: Path, tiny_llama: Path) -> None:
    job = tmp_path / "job"
    synthesize(Source(str(saved), split=("train", "test")), job, config(), engine=ENGINE, shard_rows=4)
    assert list(parts(job)) == [
        *(f"test-0000{n}-of-00002.parquet" for n in range(2)),
        *(f"train-0000{n}-of-00003.parquet" for n in range(3)),
    ]
    report = render_folder(job, seed=0, validation=0.3)
    assert report.texts["test"] == 4 and sum(report.texts.values()) == 10
    texts = load_dataset(str(job))
    assert sorted(texts) == ["test", "train", "validation"] and texts["test"].num_rows == 4
    assert texts["train"].num_rows + texts["validation"].num_rows == 6
    assert export(job, tmp_path / "out", to="text", tokenizer=str(tiny_llama), split="test").documents == 4
    whole = tmp_path / "whole"
    synthesize(Source(str(saved), split="all"), whole, config(), engine=ENGINE)
    with pytest.raises(ConfigError, match="There is a split 'validation' already"):
        render_folder(whole, seed=0, validation=0.3)
    assert render_folder(whole, seed=0).texts == {"train": 6, "validation": 3, "test": 4}


def test_it_is_shared_and_resumed_as_one(saved: Path, tmp_path: Path) -> None:
    def options(latency: float, workers: int) -> tuple[object, ...]:
        engine = scripted(latency=latency, in_flight=2)
        return ("--split", "train", "--split", "test", *engine, "--shots", 2, "--shard-rows", 2, "--workers", workers)

    run(command(saved, tmp_path / "whole", *options(0.0, 0)))
    log, out = tmp_path / "calls", tmp_path / "out"
    process = start(command(saved, out, *options(0.3, 2)), log)
    assert until(lambda: log.exists() and len(log.read_text().splitlines()) >= 4, process)
    process.kill()
    process.communicate()
    code, _, errors = ended(start(command(saved, out, *options(0.0, 2)), log))
    assert code == 0, errors
    assert parts(out) == parts(tmp_path / "whole")
    assert len(parts(out)) == 6 + 4


def test_a_lost_part_alone_is_made_again(saved: Path, tmp_path: Path) -> None:
    source, job = Source(str(saved), split=("train", "test")), tmp_path / "job"
    synthesize(source, job, config(), engine=ENGINE, shard_rows=4)
    before = parts(job)
    (job / "pairs" / "test-00000-of-00002.parquet").unlink()
    result = synthesize(source, job, config(), engine=ENGINE, shard_rows=4)
    assert result.worked and parts(job) == before


def test_a_hub_dataset_of_splits_is_one_job(tmp_path: Path) -> None:
    sizes = {"train": 5, "validation": 3}
    with Hub() as hub:
        files = {
            f"{split}.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()
            for split, rows in dataset(sizes).items()
        }
        hub.commit("me/raw", files)
        found = command(
            "me/raw", tmp_path / "out", "--split", "all", "--engine", "scripted", "--shots", 2, "--workers", 0
        )
        hub.run(found, hub.env(tmp_path))
    assert [name.partition("-")[0] for name in parts(tmp_path / "out")] == ["train", "validation"]
    source = json.loads((tmp_path / "out" / "synthesizer_config.json").read_text())["source"]
    assert source["split"] == ["train", "validation"]


def test_splits_that_cannot_be_read_together_are_refused(saved: Path, tmp_path: Path) -> None:
    odd = DatasetDict({"train": dataset()["train"], "test": dataset()["test"].add_column("page", list(range(8)))})
    odd.save_to_disk(tmp_path / "odd")
    (tmp_path / "texts.jsonl").write_text('{"text": "One."}\n')
    for source, error, words in (
        (Source(str(tmp_path / "odd"), split="all"), ColumnError, "different columns"),
        (Source(str(saved), split=("train", "dev")), SourceError, "no split 'dev'"),
        (Source(str(tmp_path / "texts.jsonl"), split=("train", "test")), ConfigError, "has no splits"),
    ):
        with pytest.raises(error, match=words):
            synthesize(source, tmp_path / "out", config(), engine=ENGINE)
    with pytest.raises(ConfigError, match="cannot be read together"):
        Source(str(saved), split=("train", "train"))
    assert not (tmp_path / "out").exists()
    assert (
        job_plan(Source(str(tmp_path / "texts.jsonl"), split="all"), tmp_path / "out", config(), engine=ENGINE)["rows"]
        == 1
    )
    assert job_plan(Source(str(saved), split="all", limit=3), tmp_path / "out", config(), engine=ENGINE)["rows"] == 9


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 40), min_size=1),
    st.integers(1, 12),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_a_layout_gives_every_row_once(sizes: dict[str, int], shard_rows: int, start: int, length: int) -> None:
    layout = SplitLayout(sizes, shard_rows)
    shards = layout.extent()["shards"]
    found = [
        (name, row)
        for n in range(shards)
        for name, a, b in layout.pieces(n * shard_rows, (n + 1) * shard_rows)
        for row in range(a, b)
    ]
    assert found == [(name, row) for name, rows in sizes.items() for row in range(rows)]
    assert all(
        len({name for name, _, _ in layout.pieces(n * shard_rows, (n + 1) * shard_rows)}) == 1 for n in range(shards)
    )
    assert sum(layout.rows_of(shard) for shard in range(shards)) == layout.extent()["rows"]
    some = [(name, row) for name, a, b in layout.pieces(start, start + length) for row in range(a, b)]
    assert len(some) <= length and some == [one for one in found if one in set(some)]
