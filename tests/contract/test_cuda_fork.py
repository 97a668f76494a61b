"""That CUDA is unspoilt where vLLM forks its engine's process, whatever the way to it, with a CUDA build of torch.

`make fork` runs this; it needs no GPU. HFSYNTH_CUDA_TORCH names a folder into which such a torch was installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_ways import WAYS, go
from jobs import TESTS

TORCH = os.environ.get("HFSYNTH_CUDA_TORCH")
pytestmark = pytest.mark.skipif(not TORCH, reason="make fork runs it, with a CUDA build of torch")

# It stands where vLLM is imported, and notes whether a forked child could still use CUDA: vLLM's forks come after.
FORKING = """
import os, torch
assert torch.version.cuda, torch.__version__
if (child := os.fork()) == 0:
    os._exit(torch.cuda._is_in_bad_fork())
spoilt = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
with open(os.environ["REACHED"], "a") as file:
    file.write(f"{spoilt}\\n")
raise ImportError("this is as far as it goes")
"""


@pytest.fixture
def forking(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a CUDA build of torch, in which importing vLLM forks and ends."""
    (tmp_path / "fake" / "vllm").mkdir(parents=True)
    (tmp_path / "fake" / "vllm" / "__init__.py").write_text(FORKING)
    path = os.pathsep.join(map(str, (TORCH, tmp_path / "fake", TESTS, *sys.path)))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "PYTORCH_"))}
    return {**kept, "REACHED": str(tmp_path / "reached"), "PYTHONPATH": path}


def spoilt(environment: dict[str, str]) -> set[str]:
    return set(Path(environment["REACHED"]).read_text().split())


def test_to_ask_torch_for_gpus_spoils_a_fork(forking: dict[str, str]) -> None:
    program = "import torch; torch.cuda.is_available(); import vllm"
    subprocess.run([sys.executable, "-c", program], env=forking, check=False, stderr=-1)
    assert spoilt(forking) == {"1"}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_an_engine_spoils_a_fork(forking: dict[str, str], tmp_path: Path, tiny_llama: Path, way: str) -> None:
    ran = go(way, tmp_path, tiny_llama, forking)
    assert ran.returncode != 0 and "this is as far as it goes" in ran.stderr + ran.stdout, ran.stderr
    assert spoilt(forking) == {"0"}
