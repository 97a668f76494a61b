"""What `make demo` leaves out is missed by no prompt format: a job through the real engine that cannot import it."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import needs
from jobs import documents

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# Read by every Python that starts, the worker's among them.
WITHOUT = """
import os
from importlib.machinery import PathFinder

found = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name in os.environ["LEFT_OUT"].split() else found(name, path, target)

PathFinder.find_spec = find_spec
"""


def left_out() -> set[str]:
    """Return the modules that the tests' environment has and the demo's has not."""
    names = set(tomllib.loads(PYPROJECT.read_text())["tool"]["hfsynth"]["locks"]["demo"]["left-out"])
    found = importlib.metadata.packages_distributions().items()
    return {module for module, owners in found if names & {owner.lower().replace("_", "-") for owner in owners}}


@pytest.mark.skipif(not PYPROJECT.exists(), reason="no checkout")
@needs("vllm")
@pytest.mark.parametrize("prompt_format", ["chat", "instruction-pretrain"])
def test_a_job_needs_nothing_that_the_demo_leaves_out(tmp_path: Path, tiny_llama: Path, prompt_format: str) -> None:
    modules = left_out()
    assert "uvicorn" in modules  # else nothing is tested
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "LEFT_OUT": " ".join(modules)}
    job = ["synthesize", str(documents(tmp_path / "texts.jsonl", 2)), str(tmp_path / "out"), "--model", str(tiny_llama)]
    command = [sys.executable, "-m", "hfsynth", *job, "--prompt-format", prompt_format, "--max-tokens", "16"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    assert pq.read_table(tmp_path / "out" / "pairs").num_rows == 2
