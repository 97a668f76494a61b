"""Kill the real vLLM, in the command's process or in one of its own: the same command goes on, or it itself does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import needs_vllm
from datasets import load_dataset
from jobs import children, command, documents, ended, forking, journaled, run, start, stats, until
from warm_python import VLLM

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the tests find processes in /proc")


@needs_vllm
def test_the_real_engine_is_killed(tiny_llama: Path, tmp_path: Path) -> None:
    source, out = documents(tmp_path / "texts.jsonl", 60), tmp_path / "out"
    more = ("--model", tiny_llama, "--shots", 2, "--max-tokens", 60, "--shard-rows", 10, "--workers", 0)
    arguments = command(source, out, *more, "--engine-arg", "max_num_seqs=4")
    process = start(arguments, reads=VLLM)
    assert until(lambda: journaled(out), process, seconds=600)
    process.kill()
    process.communicate()
    assert not (out / "pairs").exists()
    run(arguments, reads=VLLM)
    rows = load_dataset("parquet", data_files=str(out / "pairs" / "*.parquet"), split="train", cache_dir=str(tmp_path))
    assert rows["id"] == [f"d{number}" for number in range(60)]
    found = stats(out)
    assert found["engine_restarts"] == 1
    assert sum(worker["documents"] for worker in found["workers"]) <= 60
    assert json.loads((out / ".hfsynth" / "total.json").read_text()) == {"shards": 6, "rows": 60, "exact": True}


@needs_vllm
def test_the_real_engine_in_a_process_of_its_own_is_killed_and_loaded_again(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With CUDA vLLM computes in a process beside ours, and says EngineDeadError when that is gone."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    source, out = documents(tmp_path / "texts.jsonl", 60), tmp_path / "out"
    more = ("--model", tiny_llama, "--shots", 2, "--max-tokens", 60, "--shard-rows", 10, "--workers", 0)
    process = start(forking(command(source, out, *more, "--engine-arg", "max_num_seqs=4")), reads=VLLM)
    assert until(lambda: journaled(out), process, seconds=600)
    os.kill(engine_core(process), signal.SIGKILL)
    code, _, errors = ended(process)
    assert code == 0, errors
    assert stats(out)["engine_restarts"] == 1
    assert stats(out)["total_documents"] == 60 and stats(out)["documents"]["failed"] == 0


def engine_core(process: subprocess.Popen[str]) -> int:
    """Return the process in which vLLM computes."""
    (found,) = (pid for pid in children(process) if "EngineCore" in Path(f"/proc/{pid}/cmdline").read_text())
    return found
