"""The transform in `datasets.map`: columns, order, chains, fingerprints, caches, processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scripts_map
from conftest import needs_vllm
from datasets import Dataset, IterableDataset, load_dataset
from started import start_process
from warm_python import VLLM

from hfsynth import Synthesizer
from hfsynth.core.errors import ColumnError, ConfigError, ModelError
from hfsynth.corpus.parquet import output_schema
from hfsynth.engine import loading

COUNTING = "scripts_map:counting"


@pytest.fixture(autouse=True)
def fresh_calls() -> Iterator[None]:
    scripts_map.CALLS.clear()
    yield
    loading.close_engines()


def scripted(script: str = COUNTING, **settings: Any) -> Synthesizer:  # noqa: ANN401
    return Synthesizer(script, engine="scripted", **settings)


def outcomes(ds: Dataset) -> list[tuple[Any, ...]]:
    return [(row["text"], row["pairs"], row["synthesis"]) for row in ds]


def test_one_row_a_document_in_order_with_the_columns_of_the_design() -> None:
    ds = scripts_map.corpus(7).add_column("more", list(range(7)))
    mapped = ds.map(scripted(shots=3), batched=True, batch_size=6)
    assert mapped["id"] == ds["id"]
    assert mapped["more"] == list(range(7))
    assert [s["shot"] for s in mapped["synthesis"]] == [0, 1, 2, 0, 1, 2, 0]
    assert [s["follows"] for s in mapped["synthesis"]] == [False, True, True, False, True, True, False]
    assert len({s["chain"] for s in mapped["synthesis"]}) == 3
    assert {s["status"] for s in mapped["synthesis"]} == {"ok"}
    assert mapped.features == scripted().features(ds.features)


def test_types_hold_when_the_first_batches_have_no_pair() -> None:
    mapped = scripts_map.corpus(100).map(scripted("scripts_map:pairless_at_first"), batched=True, batch_size=10)
    assert [len(pairs) for pairs in mapped["pairs"]] == [0] * 50 + [1] * 50
    assert mapped.features.arrow_schema.field("pairs").type == output_schema().field("pairs").type
    assert mapped[0]["synthesis"]["rejected"] == [{"reason": "no_question", "text": "nothing to ask"}]


@pytest.mark.parametrize("batch_size", [4, 8, 100])
def test_the_outcome_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    ds = scripts_map.corpus(22)
    expected = outcomes(ds.map(scripted(shots=2), batched=True, batch_size=2))
    assert outcomes(ds.map(scripted(shots=2), batched=True, batch_size=batch_size)) == expected


def test_a_batch_that_cuts_a_chain_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="multiple of 2 rows") as caught:
        scripts_map.corpus(10).map(scripted(shots=2), batched=True, batch_size=5)
    assert "batch_size=2048" in caught.value.hint


def test_one_transform_serves_several_maps_with_short_ends() -> None:
    synthesize = scripted(shots=2)
    for rows in (5, 3, 7):
        mapped = scripts_map.corpus(rows).map(synthesize, batched=True, batch_size=4)
        assert len(mapped) == rows


def test_single_rows_work_for_one_shot_only() -> None:
    ds = scripts_map.corpus(3)
    synthesize = scripted()
    mapped = ds.map(synthesize, features=synthesize.features(ds.features))
    assert outcomes(mapped) == outcomes(ds.map(scripted(), batched=True))
    with pytest.raises(ConfigError, match="need batches"):
        ds.map(scripted(shots=2))


def test_remove_columns_and_formats_are_respected() -> None:
    ds = scripts_map.corpus(4).add_column("more", [1, 2, 3, 4])
    mapped = ds.map(scripted(), batched=True, remove_columns=["more"])
    assert mapped.column_names == ["id", "text", "pairs", "synthesis"]
    formatted = ds.with_format("numpy").map(scripted(), batched=True)
    assert outcomes(formatted.with_format(None)) == outcomes(mapped)


def test_num_proc_gives_the_same_rows() -> None:
    ds = scripts_map.corpus(40)
    alone = ds.map(scripted(shots=2), batched=True, batch_size=4)
    together = ds.map(scripted(shots=2), batched=True, batch_size=4, num_proc=2, with_indices=True)
    assert outcomes(together) == outcomes(alone)


def test_num_proc_that_cuts_a_chain_is_refused() -> None:
    settings = {"batched": True, "batch_size": 4, "num_proc": 2, "with_indices": True}
    with pytest.raises(ConfigError, match="multiple of 2 rows"):
        scripts_map.corpus(10).map(scripted(shots=2), **settings)
    with pytest.raises(ConfigError, match="with_indices"):
        scripts_map.corpus(10).map(scripted(shots=2), batched=True, batch_size=4, num_proc=2)


def test_iterable_datasets_stream() -> None:
    ds = scripts_map.corpus(9)
    stream = ds.to_iterable_dataset().map(scripted(shots=2), batched=True, batch_size=4)
    rows = [(row["text"], row["pairs"], row["synthesis"]) for row in stream]
    assert rows == outcomes(ds.map(scripted(shots=2), batched=True, batch_size=4))
    assert [row["id"] for row in stream] == ds["id"]  # a second pass


def test_an_iterable_dataset_with_a_batch_that_cuts_a_chain_is_refused() -> None:
    stream = scripts_map.corpus(9).to_iterable_dataset().map(scripted(shots=2), batched=True, batch_size=3)
    with pytest.raises(ConfigError, match="multiple of 2"):
        list(stream)


def test_a_stream_given_by_generator_works() -> None:
    stream = IterableDataset.from_generator(lambda: iter([{"text": "a"}, {"text": None}, {"text": " "}]))
    statuses = [row["synthesis"]["status"] for row in stream.map(scripted(), batched=True)]
    assert statuses == ["ok", "empty", "empty"]


def in_a_process(folder: Path, changes: str = "{}", **environment: str) -> tuple[str, int, int]:
    """Map in a fresh process; return the fingerprint, how many prompts its script answered, and the engines started."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", scripts_map.__file__, str(folder), changes],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    fingerprint, calls, engines = finished.stdout.split()
    return fingerprint, int(calls), int(engines)


def test_a_second_process_uses_the_cache_and_starts_no_engine(tmp_path: Path) -> None:
    scripts_map.corpus(8).save_to_disk(tmp_path)
    first = in_a_process(tmp_path, PYTHONHASHSEED="1")
    assert first[1:] == (8, 1)
    again = in_a_process(tmp_path, PYTHONHASHSEED="2")
    assert again == (first[0], 0, 0)
    flags = in_a_process(tmp_path, "{'engine_args': {'max_in_flight': 3}}")
    assert flags == (first[0], 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        "{'shots': 4}",
        "{'seed': 1}",
        "{'prompt_format': 'chat'}",
        "{'model': 'scripts_map:pairless_at_first'}",
        "{'model_revision': 'other'}",
        "{'window': 5000}",
        "{'long_documents': 'truncate'}",
        "{'sampling': __import__('hfsynth').Sampling(max_tokens=41)}",
        "{'sampling': __import__('hfsynth').Sampling(temperature=0.5)}",
    ],
)
def test_whatever_decides_the_result_changes_the_fingerprint(change: str) -> None:
    ds = scripts_map.corpus(4)
    settings = {"shots": 2, "model": COUNTING, **eval(change)}
    base = ds.map(scripted(shots=2), batched=True, batch_size=4)
    other = ds.map(Synthesizer(settings.pop("model"), engine="scripted", **settings), batched=True, batch_size=4)
    assert base._fingerprint != other._fingerprint


def test_the_format_version_changes_the_fingerprint() -> None:
    ds = scripts_map.corpus(4)
    before = ds.map(scripted(), batched=True)._fingerprint
    synthesize = scripted()
    object.__setattr__(synthesize.config, "format_version", 1)
    assert ds.map(synthesize, batched=True)._fingerprint != before


def test_workers_receive_the_engine_flags() -> None:
    import dill

    synthesize = scripted(engine_args={"max_in_flight": 3})
    assert dill.loads(dill.dumps(synthesize)).engine_config == synthesize.engine_config


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        ({"body": ["a"]}, ColumnError, "no column 'text'"),
        ({"text": [1]}, ColumnError, "must hold strings"),
        ({"text": [["a"]]}, ColumnError, "must hold strings"),
    ],
)
def test_unusable_columns_are_named(batch: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        scripted()(batch)


@pytest.mark.parametrize(
    "settings",
    [{"shots": 0}, {"window": 300}, {"prompt_format": "alpaca"}, {"long_documents": "split"}, {"seed": "one"}],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        scripted(**settings)


def test_a_model_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no-such/model"):
        Synthesizer("no-such/model")
    with pytest.raises(ConfigError, match="neither a folder"):
        Synthesizer(str(tmp_path / "not there"))


def test_a_window_smaller_than_max_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no room"):
        scripted(window=400)


@needs_vllm
@pytest.mark.parametrize("prompt_format", ["instruction-pretrain", "chat"])
def test_a_real_model_in_map(tiny_llama: Path, prompt_format: str, tmp_path: Path) -> None:
    from hfsynth import Sampling

    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "Tides are caused by the Moon."}\n{"text": ""}\n{"text": "' + "Lamps. " * 2000 + '"}\n')
    ds = load_dataset("json", data_files=str(source), split="train", cache_dir=str(tmp_path / "cache"))
    synthesize = Synthesizer(
        str(tiny_llama), shots=2, prompt_format=prompt_format, sampling=Sampling(max_tokens=16), window=1024
    )
    rows = ds.map(synthesize, batched=True, batch_size=2)["synthesis"]
    assert rows[0]["status"] in ("ok", "no_pairs")
    assert [row["status"] for row in rows[1:]] == ["empty", "too_long"]
    assert rows[0]["output_tokens"] in range(1, 17)
    truncating = Synthesizer(
        str(tiny_llama),
        prompt_format=prompt_format,
        sampling=Sampling(max_tokens=16),
        window=1024,
        long_documents="truncate",
    )
    cut = ds.map(truncating, batched=True)["synthesis"][2]
    assert cut["status"] in ("ok", "no_pairs")
    assert 1024 - 16 - 12 <= cut["prompt_tokens"] <= 1024 - 16
    assert cut["truncated"] > 0


@needs_vllm
def test_a_real_model_under_num_proc_leaves_no_process_behind(tiny_llama: Path, tmp_path: Path) -> None:
    """Two forked workers, an engine each; all of the session's processes are gone when the program has ended."""
    program = (
        "import sys\n"
        "from datasets import Dataset\n"
        "from hfsynth import Sampling, Synthesizer\n"
        "if __name__ == '__main__':\n"
        "    ds = Dataset.from_dict({'text': [f'Tides and lamps {n}.' for n in range(8)]})\n"
        "    synthesize = Synthesizer(sys.argv[1], shots=2, sampling=Sampling(max_tokens=4))\n"
        "    rows = ds.map(synthesize, batched=True, batch_size=4, num_proc=2, with_indices=True)['synthesis']\n"
        "    print(*(row['output_tokens'] for row in rows))\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    arguments = [sys.executable, script, tiny_llama]
    with start_process(arguments, reads=VLLM, stdout=subprocess.PIPE, start_new_session=True) as process:
        printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    assert all(1 <= int(number) <= 4 for number in printed.split()[-8:])
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
