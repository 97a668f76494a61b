"""The real vLLM with its engine in a process of its own, as it is on a GPU, when a signal reaches that process too."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
from conftest import needs_vllm
from jobs import command, documents, ended, forking, journaled, run, until
from started import start_process
from test_engine_start import blocked
from warm_python import VLLM


@needs_vllm
def test_a_signal_that_reaches_the_engines_process_loses_no_document(tiny_llama: Path, tmp_path: Path) -> None:
    """The engine gives up what is in flight, and those documents are work to do again: none is `failed`."""
    source, out = documents(tmp_path / "texts.jsonl", 24), tmp_path / "out"
    options = ("--model", tiny_llama, "--shots", 2, "--max-tokens", 100, "--engine-arg", "max_num_seqs=4")
    arguments = command(source, out, *options, "--workers", 0)
    own = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **own}
    process = start_process(
        forking(arguments), reads=VLLM, env=environment, stdout=-1, stderr=-1, start_new_session=True
    )
    assert until(lambda: journaled(out), process, seconds=600)
    (engine,) = [pid for pid in _descendants(process.pid) if "EngineCore" in _name(pid)]
    assert {signal.SIGINT, signal.SIGHUP} <= blocked(engine)
    for pid in (engine, process.pid):  # as whoever ends a whole job does, its scheduler or a container's
        os.kill(pid, signal.SIGTERM)
    assert ended(process)[0] == 128 + signal.SIGTERM
    assert not Path(f"/proc/{engine}").exists()
    run(arguments, reads=VLLM)
    rows = [row for path in sorted((out / "pairs").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert [row["id"] for row in rows] == [f"d{n}" for n in range(24)]
    assert {row["synthesis"]["status"] for row in rows} <= {"ok", "no_pairs"}


def _descendants(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(below for child in found for below in _descendants(child))]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text() + Path(f"/proc/{pid}/cmdline").read_text()
