"""From mapped datasets to a corpus folder: the rows, the bytes and the card of a job, kills, streams, bad input."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest
import scripts_map
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, load_dataset

import hfsynth
from hfsynth import Synthesizer, render, save_corpus
from hfsynth.core.config import EngineConfig
from hfsynth.core.errors import ColumnError, ConfigError, OutputError, SourceError
from hfsynth.corpus import parquet
from hfsynth.engine import loading
from hfsynth.job import part_writer
from hfsynth.job.part_writer import ShardWriter
from hfsynth.job.run import synthesize as run_job
from hfsynth.publishing import saving
from hfsynth.texts import corpus_folder
from hfsynth.texts.corpus_folder import render_folder

MOODS = ("", " silent", " ramble", " fail", " cut")


@pytest.fixture(autouse=True)
def closed_engines() -> Iterator[None]:
    yield
    loading.close_engines()


def transform(shots: int = 2, script: str = "scripts:moody", **settings: Any) -> Synthesizer:  # noqa: ANN401
    return Synthesizer(script, engine="scripted", shots=shots, **settings)


def source(path: Path, rows: int, start: int = 0) -> Path:
    texts = ((n, f"Text number {n} says little{MOODS[n % 5]}.") for n in range(start, start + rows))
    path.write_text("".join(json.dumps({"id": f"d{n}", "text": text, "page": n}) + "\n" for n, text in texts))
    return path


def mapped(tmp_path: Path, rows: int = 21, **settings: Any) -> tuple[Dataset, Synthesizer]:  # noqa: ANN401
    synthesize = transform(**settings)
    path = source(tmp_path / "texts.jsonl", rows)
    ds = load_dataset("json", data_files=str(path), split="train")
    return ds.map(synthesize, batched=True, batch_size=300), synthesize


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def card_of(root: Path, *, drop: tuple[str, ...]) -> list[str]:
    hfsynth.card(root, license="cc-by-4.0", language="en", repo="user/name")
    lines = (root / "README.md").read_text().splitlines()
    return [line for line in lines if not any(part in line for part in drop)]


def test_the_folder_is_the_one_that_a_job_makes(tmp_path: Path) -> None:
    ds, synthesize = mapped(tmp_path, 4100)
    config = synthesize.config
    run_job(hfsynth.Source(str(tmp_path / "texts.jsonl")), tmp_path / "job", config, engine=EngineConfig("scripted"))
    render_folder(tmp_path / "job", seed=3, validation=0.2)
    texts = render(ds, seed=3, validation=0.2)
    saved = save_corpus(
        tmp_path / "ours", pairs=ds, texts=texts, synthesizer=synthesize, source=str(tmp_path / "texts.jsonl")
    )
    job = files(tmp_path / "job")
    ours = files(saved.root)
    assert [name for name in ours if name.endswith(".parquet")] == [name for name in job if name.endswith(".parquet")]
    assert len([name for name in ours if name.startswith("pairs/")]) == 2
    assert all(content == job[name] for name, content in ours.items() if name.endswith(".parquet"))
    assert json.loads(ours["synthesizer_config.json"]) == json.loads(job["synthesizer_config.json"])
    counted = json.loads(job["stats.json"])
    assert saved.stats == json.loads(ours["stats.json"])
    del counted["render"]["counts"]
    assert saved.stats.items() <= counted.items()
    assert set(counted) - set(saved.stats) == {
        *("seconds", "documents_per_second", "output_tokens_per_second", "computed_tokens_per_second"),
        *("engine_seconds", "engine_restarts", "output_tokens_per_engine_second", "workers"),
        *("unreadable", "unreadable_rows"),
        *("loading_seconds", "waiting_seconds", "preemptions"),
    }
    timed = ("a second |", "engine-hours")
    assert card_of(saved.root, drop=timed) == card_of(tmp_path / "job", drop=timed)
    hfsynth.check_card(saved.root)


def test_dicts_keep_their_splits_and_streams_give_the_same_bytes(tmp_path: Path) -> None:
    synthesize = transform()
    raw = load_dataset(
        "json",
        data_files={
            name: str(source(tmp_path / f"{name}.jsonl", rows, rows)) for name, rows in (("train", 9), ("test", 4))
        },
    )
    ds = raw.map(synthesize, batched=True, batch_size=4)
    texts = render(ds, seed=0)
    assert isinstance(texts, DatasetDict) and list(texts) == ["train", "test"]
    saved = save_corpus(tmp_path / "ours", pairs=ds, texts=texts, synthesizer=synthesize, source="me/raw@v1")
    assert list(files(saved.root / "pairs")) == ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    back = load_dataset(str(saved.root), "pairs")
    assert {name: rows[:] for name, rows in back.items()} == {name: rows[:] for name, rows in ds.items()}
    assert {name: rows[:] for name, rows in load_dataset(str(saved.root)).items()} == {
        name: rows[:] for name, rows in texts.items()
    }
    recipe = json.loads((saved.root / "synthesizer_config.json").read_text())
    assert recipe["source"]["location"] == "me/raw" and recipe["source"]["revision"] == "v1"
    assert recipe["source"]["split"] == ["train", "test"]
    streams = IterableDatasetDict({name: rows.to_iterable_dataset() for name, rows in ds.items()})
    streamed = render(streams, seed=0)
    assert isinstance(streamed, IterableDatasetDict)
    again = save_corpus(
        tmp_path / "streamed", pairs=streams, texts=streamed, synthesizer=synthesize, source="me/raw@v1"
    )
    assert files(again.root) == files(saved.root)


def test_a_stream_is_synthesized_once_and_its_files_are_known(tmp_path: Path) -> None:
    scripts_map.CALLS.clear()
    path = source(tmp_path / "texts.jsonl", 10)
    stream = load_dataset("json", data_files=str(path), split="train", streaming=True)
    synthesize = transform(script="scripts_map:counting")
    stream = stream.map(synthesize, batched=True, batch_size=4)
    saved = save_corpus(tmp_path / "ours", pairs=stream, texts=render(stream, seed=0), synthesizer=synthesize)
    assert len(scripts_map.CALLS) == 10
    assert saved.stats["render"]["texts"] == {"train": 5} and saved.stats["render"]["seed"] == 0
    found = json.loads((saved.root / "synthesizer_config.json").read_text())["source"]
    assert found["location"] == "texts.jsonl"
    assert found["revision"] == hfsynth.documents.source.open_source(hfsynth.Source(str(path))).revision


def test_memory_does_not_grow_with_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 2**20)
    for module in (corpus_folder, parquet, part_writer):
        monkeypatch.setattr(module, "ROWS_AT_A_TIME", 16)
    synthesize = transform(script="scripts:quoting")
    first = Dataset.from_dict({"id": ["a", "b"], "text": ["One.", "Two."]}).map(synthesize, batched=True)
    rows = [{**row, "text": 1000 * f"{row['text']} It is said at length. "} for row in first]

    def peaks(number: int) -> tuple[int, int]:
        stream = IterableDataset.from_generator(lambda: islice(cycle(rows), number), features=first.features)
        texts = render(stream, seed=0)
        tracemalloc.start()
        save_corpus(tmp_path / str(number), pairs=stream, texts=texts, synthesizer=synthesize)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak, pa.default_memory_pool().max_memory()

    peaks(2)  # what is loaded and kept at the first time
    some, many = peaks(130), peaks(650)
    assert len(files(tmp_path / "650" / "data")) == 1 and load_dataset(str(tmp_path / "650"))["train"].num_rows == 325
    assert all(after < 1.2 * before for before, after in zip(some, many, strict=True)), (some, many)


def test_an_unknown_source_is_asked_for_and_not_guessed(tmp_path: Path) -> None:
    synthesize = transform()
    ds = scripts_map.corpus(4).map(synthesize, batched=True)
    saved = save_corpus(tmp_path / "ours", pairs=ds, synthesizer=synthesize)
    result = hfsynth.card(saved.root, license="cc0-1.0", language=("en", "de"))
    assert any("where the documents come from" in note for note in result.notes)
    written = result.path.read_text()
    assert "| source | not stated |" in written and "Make it again" not in written
    assert "engine-hours" not in written


def test_a_mixture_goes_with_its_pairs(tmp_path: Path, tiny_llama: Path) -> None:
    ds, synthesize = mapped(tmp_path)
    part = hfsynth.Part("augmented", render(ds, seed=0), "augmented")
    mixture = hfsynth.mix([part], tokenizer=str(tiny_llama))
    saved = save_corpus(tmp_path / "ours", pairs=ds, texts=mixture, synthesizer=synthesize)
    assert load_dataset(str(saved.root), split="train")[:] == mixture.dataset[:]
    assert saved.stats["mix"]["tokens"] == mixture.report.tokens


def test_renamed_columns_are_named_once(tmp_path: Path) -> None:
    synthesize = transform(text_column="body", id_column="name")
    raw = scripts_map.corpus(5).rename_columns({"text": "body", "id": "name"})
    ds = raw.map(synthesize, batched=True, batch_size=2)
    texts = render(ds, seed=0, text_column="body", id_column="name")
    assert texts["source_ids"] == [["d0", "d1"], ["d2", "d3"], ["d4"]]
    saved = save_corpus(tmp_path / "ours", pairs=ds, texts=texts, synthesizer=synthesize)
    assert load_dataset(str(saved.root), "pairs", split="train")["text"] == raw["body"]
    with pytest.raises(ColumnError, match="column 'text'") as caught:
        render(ds, seed=0)
    assert "text_column" in caught.value.hint
    with pytest.raises(ColumnError, match="no column 'body'"):
        save_corpus(tmp_path / "other", pairs=ds.rename_column("body", "words"), synthesizer=synthesize)
    assert not (tmp_path / "other").exists()


def test_broken_chains_are_said_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    synthesize = transform(shots=3, script="scripts:quoting")
    ds = scripts_map.corpus(9).map(synthesize, batched=True, batch_size=9)
    left = ds.select([0, 2, 3, 4, 5, 7, 6, 8])  # one chain without its middle, one whole, one out of order
    with caplog.at_level(logging.WARNING):
        texts = render(left, seed=0)
    assert texts["source_ids"] == [["d0"], ["d3", "d4", "d5"], ["d6"]]
    assert "broken_chains: 3" in caplog.text
    saved = save_corpus(tmp_path / "ours", pairs=left, texts=texts, synthesizer=synthesize)
    assert saved.stats["broken_chains"] == 5
    hfsynth.card(saved.root, license="cc0-1.0", language="en")
    assert "5 of them are in few-shot chains" in (saved.root / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda ds: ds.remove_columns("synthesis"), ColumnError, "no column 'synthesis'"),
        (lambda ds: {"train": ds, "test": ds.remove_columns("page")}, ColumnError, "differ in the columns page"),
        (lambda ds: {}, SourceError, "an empty dict"),
        (lambda ds: {"a b": ds}, SourceError, "cannot be the name of a split"),
        (lambda ds: [1], SourceError, "got list"),
        (lambda ds: ds.select([]), SourceError, "no rows"),
        (lambda ds: ds.map(lambda row: {"synthesis": {**row["synthesis"], "status": "fine"}}), ColumnError, "Row 0"),
    ],
)
def test_unusable_datasets_are_refused(
    tmp_path: Path, change: Callable[[Dataset], Any], error: type[Exception], words: str
) -> None:
    ds, synthesize = mapped(tmp_path)
    with pytest.raises(error, match=words):
        save_corpus(tmp_path / "ours", pairs=change(ds), synthesizer=synthesize)
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"shots": 3}, {"script": "scripts:quoting"}])
def test_rows_of_another_recipe_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    ds, _ = mapped(tmp_path)
    with pytest.raises(ConfigError, match="another recipe"):
        save_corpus(tmp_path / "ours", pairs=ds, synthesizer=transform(**change))
    assert not (tmp_path / "ours").exists()


def test_folders_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    ds, synthesize = mapped(tmp_path)
    job = tmp_path / "job"
    run_job(hfsynth.Source(str(tmp_path / "texts.jsonl")), job, synthesize.config, engine=EngineConfig("scripted"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for folder, words in (
        (job, "holds the work"),
        (tmp_path / "full", "not empty"),
        (tmp_path / "texts.jsonl", "file"),
    ):
        with pytest.raises(OutputError, match=words):
            save_corpus(folder, pairs=ds, synthesizer=synthesize)
    (tmp_path / "empty").mkdir()
    assert save_corpus(tmp_path / "empty", pairs=ds, synthesizer=synthesize).root == tmp_path / "empty"


def test_a_new_version_keeps_what_is_not_ours(tmp_path: Path) -> None:
    ds, synthesize = mapped(tmp_path)
    root = save_corpus(tmp_path / "ours", pairs=ds, texts=render(ds, seed=0), synthesizer=synthesize).root
    readme = root / "README.md"
    readme.write_text(readme.read_text() + "\nMy own words.\n")
    (root / "notes").mkdir()
    (root / "notes" / "mine.txt").write_text("mine")
    (root / "LICENSE").write_text("free")
    save_corpus(root, pairs=ds.select(range(4)), synthesizer=synthesize)
    assert (root / "notes" / "mine.txt").read_text() == "mine" and (root / "LICENSE").read_text() == "free"
    assert "My own words." in readme.read_text()
    assert not (root / "data").exists() and load_dataset(str(root), "pairs", split="train").num_rows == 4


def test_a_stream_that_breaks_off_leaves_the_old_folder(tmp_path: Path) -> None:
    ds, synthesize = mapped(tmp_path)
    root = save_corpus(tmp_path / "ours", pairs=ds, synthesizer=synthesize).root
    before = files(root)

    def breaking() -> Iterator[dict[str, Any]]:
        yield from ds.select(range(8))
        raise OSError("the line is dead")

    stream = IterableDataset.from_generator(breaking, features=ds.features)
    with pytest.raises(SourceError, match="the line is dead"):
        save_corpus(root, pairs=stream, synthesizer=synthesize)
    assert files(root) == before
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "texts.jsonl"}


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds, synthesize = mapped(tmp_path)
    root = save_corpus(tmp_path / "ours", pairs=ds, synthesizer=synthesize).root
    before = files(root)

    def full(self: ShardWriter, *rows: object) -> None:
        raise OutputError("The disk is full.") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "_write", full)
    with pytest.raises(OutputError, match="disk is full"):
        save_corpus(root, pairs=ds.select(range(3)), synthesizer=synthesize)
    assert files(root) == before and {path.name for path in tmp_path.iterdir()} == {"ours", "texts.jsonl"}


def killed_at(line: int, save: Callable[[], object]) -> bool:
    """Save in a forked process that ends at the so-manieth line of the saving modules; tell whether it was killed."""
    watched = {
        saving.__file__,
        *(sys.modules[f"hfsynth.{name}"].__file__ for name in ("corpus.exchange", "publishing.saved_rows")),
    }
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401
        nonlocal left
        if frame.f_code.co_filename not in watched:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os._exit(9)
        return trace

    sys.settrace(trace)
    try:
        save()
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the process to be killed is forked")
@pytest.mark.parametrize("exchange", [True, False])
def test_killed_at_any_line_it_leaves_the_old_folder_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr("hfsynth.corpus.exchange._exchanged", lambda one, other: False)
    ds, synthesize = mapped(tmp_path, 3)
    versions = []
    for name, rows in (("old", 2), ("new", 3)):
        chosen = ds.select(range(rows))
        save_corpus(tmp_path / name, pairs=chosen, texts=render(chosen, seed=0), synthesizer=synthesize)
        versions.append(files(tmp_path / name))
    old, new = versions
    root, line, seen = tmp_path / "old", 1, set()
    texts = render(ds, seed=0)
    while killed_at(line, lambda: save_corpus(root, pairs=ds, texts=texts, synthesizer=synthesize)):
        saving.mend_folder(root)
        found = files(root)
        assert found in (old, new)
        seen.add(found == new)
        if found == new:
            save_corpus(
                root, pairs=ds.select(range(2)), texts=render(ds.select(range(2)), seed=0), synthesizer=synthesize
            )
            assert files(root) == old
        line += 1 + line // 12
    assert seen >= {False} and files(root) == new
    saving.mend_folder(root)
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new", "texts.jsonl"}
