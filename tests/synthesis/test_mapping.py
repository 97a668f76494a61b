"""`synthesize.map`: the rows of one process, whatever their number and the processes; and the engines it leaves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import datasets
import pytest
import scripts_map
from datasets import Dataset, DatasetDict, IterableDatasetDict
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hfsynth
from hfsynth import Synthesizer
from hfsynth.core.config import EngineConfig
from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.engine import loading
from hfsynth.engine.loading import shared_engine
from hfsynth.engine.protocol import EngineKey
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.synthesis.mapping import MapSettings, Tally, rates


@pytest.fixture(autouse=True)
def closed_engines() -> Iterator[None]:
    yield
    loading.close_engines()


def transform(shots: int, script: str = "scripts:quoting") -> Synthesizer:
    return Synthesizer(script, engine="scripted", shots=shots)


@cache
def by_one_process(rows: int, shots: int) -> list[dict[str, Any]]:
    mapped = scripts_map.corpus(rows).map(transform(shots), batched=True, batch_size=60 * shots)
    return list(mapped.select_columns(["id", "text", "pairs", "synthesis"])) if rows else []


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 4))
@example(25, 2, 2)
@example(1, 5, 4)
def test_any_number_of_processes_gives_the_rows_of_one(rows: int, shots: int, processes: int) -> None:
    mapped = transform(shots).map(scripts_map.corpus(rows), batch_size=2 * shots, num_proc=processes)
    assert list(mapped) == by_one_process(rows, shots)


def test_the_engines_of_the_processes_are_gone_with_them() -> None:
    transform(2).map(scripts_map.corpus(7), num_proc=3)
    assert loading.engines() == []


@given(st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 64))
def test_every_process_gets_whole_chains(rows: int, shots: int, processes: int) -> None:
    head = MapSettings.of(shots, None, processes, {}).head(rows)
    assert head % (shots * processes) == 0 and 0 <= rows - head < shots * processes


@pytest.mark.parametrize("processes", [None, 1, 3])
def test_no_rows_have_the_columns_of_the_result(processes: int | None) -> None:
    synthesize = transform(2)
    mapped = synthesize.map(scripts_map.corpus(4).select([]), num_proc=processes)
    assert len(mapped) == 0 and mapped.features == synthesize.map(scripts_map.corpus(4)).features


def test_one_process_shares_the_cache_of_map(tmp_path: Any) -> None:  # noqa: ANN401
    scripts_map.corpus(9).save_to_disk(tmp_path)
    ds = Dataset.load_from_disk(tmp_path)
    synthesize = transform(2, "scripts_map:counting")
    first = ds.map(synthesize, batched=True, batch_size=2048)
    scripts_map.CALLS.clear()
    assert synthesize.map(ds)._fingerprint == first._fingerprint and scripts_map.CALLS == []


def test_dicts_and_streams_and_columns_to_remove() -> None:
    synthesize = transform(3)
    ds = DatasetDict({"train": scripts_map.corpus(7), "test": scripts_map.corpus(2)})
    mapped = synthesize.map(ds, num_proc=2, remove_columns="id")
    assert {name: list(rows) for name, rows in mapped.items()} == {
        name: [{key: value for key, value in row.items() if key != "id"} for row in by_one_process(len(rows), 3)]
        for name, rows in ds.items()
    }
    streams = IterableDatasetDict({name: rows.to_iterable_dataset() for name, rows in ds.items()})
    streamed = synthesize.map(streams, batch_size=3)
    assert {name: list(rows) for name, rows in streamed.items()} == {
        name: by_one_process(len(rows), 3) for name, rows in ds.items()
    }
    assert streamed["train"].features == synthesize.features(ds["train"].features)
    with pytest.raises(ConfigError, match="stream is mapped in the process"):
        synthesize.map(streams, num_proc=2)


@pytest.mark.parametrize("asked", [{"batch_size": 3}, {"batch_size": 0}, {"num_proc": 0}])
def test_settings_that_cannot_work_are_refused(asked: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        transform(2).map(scripts_map.corpus(4), **asked)


def test_map_of_datasets_names_this_method() -> None:
    with pytest.raises(ConfigError) as caught:
        scripts_map.corpus(25).map(transform(2), batched=True, batch_size=4, num_proc=2, with_indices=True)
    assert "synthesize.map(ds, num_proc=…)" in caught.value.hint


def test_processes_tell_what_they_have_made(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: ANN401
    assert not datasets.are_progress_bars_disabled()
    mapped = transform(2).map(scripts_map.corpus(22), num_proc=2)
    shown = capfd.readouterr().err
    assert "Synthesize: 100%" in shown and "22/22" in shown
    assert f"{sum(map(len, mapped['pairs']))} pairs, " in shown and "tokens/s" in shown
    tally = Tally(str(tmp_path))
    tally.add(2, 3, 40)
    tally.add(1, 0, 5)
    assert tally.total() == (3, 3, 45)
    assert rates(30, 400, 2.0) == "30 pairs, 15.0 pairs/s, 200 tokens/s"


def test_engines_are_seen_and_freed() -> None:
    assert hfsynth.engines() == []
    transform(2).map(scripts_map.corpus(4))
    transform(3).map(scripts_map.corpus(4))
    transform(2, "scripts_map:counting").map(scripts_map.corpus(4))
    assert [held.model for held in hfsynth.engines()] == ["scripts:quoting", "scripts_map:counting"]
    assert str(hfsynth.engines()[0]) == "scripted: scripts:quoting, window 65,536"
    hfsynth.close_engines()
    assert hfsynth.engines() == []


def test_a_second_model_says_what_the_first_holds(caplog: pytest.LogCaptureFixture) -> None:
    def full(key: EngineKey) -> ScriptedEngine:
        raise ModelError("There is no memory left.", hint="Use a smaller model.")

    first, second = (EngineKey(EngineConfig("vllm"), model, "0123456789abcdef") for model in ("one", "two"))
    shared_engine(first, lambda key: ScriptedEngine())
    assert not caplog.records
    with caplog.at_level(logging.WARNING), pytest.raises(ModelError, match="no memory left") as caught:
        shared_engine(second, full)
    assert "Loading two. This process already holds vllm: one at 0123456789ab" in caplog.text
    assert "Use a smaller model. This process already holds" in caught.value.hint
    assert "hfsynth.close_engines()" in caught.value.hint
