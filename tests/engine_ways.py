"""Every way to an engine, each as a command of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jobs import documents

WAYS = ("here", "worker", "tune", "evaluate", "map", "map-processes", "embedded")

MAP = """
import sys
from datasets import load_dataset
import hfsynth
synthesize = hfsynth.Synthesizer({model!r}, shots=1)
ds = load_dataset("json", data_files={source!r}, split="train")
ds.map(synthesize, batched=True, batch_size=4, with_indices=True, **{options!r})
"""


def go(way: str, tmp_path: Path, model: Path | str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Go one of the ways in a fresh process, and return what came of it."""
    source, out, gold = documents(tmp_path / "texts.jsonl", 8), tmp_path / "out", tmp_path / "gold.jsonl"
    gold.write_text(json.dumps({"context": "Tides.", "pairs": [{"instruction": "What?", "response": "Tides."}]}) + "\n")
    if way == "embedded":
        pytest.importorskip("gguf")
        model = "embedded"
    synthesize = ["-m", "hfsynth", "synthesize", str(source), str(out), "--model", str(model), "--quiet"]
    options: dict[str, Any] = {"num_proc": 2} if way == "map-processes" else {}
    arguments = {
        "here": [*synthesize, "--workers", "0"],
        "embedded": [*synthesize, "--workers", "0"],
        "worker": [*synthesize, "--workers", "1"],
        "tune": ["-m", "hfsynth", "tune", str(source), "--model", str(model), "--minutes", "1"],
        "evaluate": ["-m", "hfsynth", "evaluate", "--model", str(model), "--unseen", str(gold)],
        "map": ["-c", MAP.format(model=str(model), source=str(source), options=options)],
        "map-processes": ["-c", MAP.format(model=str(model), source=str(source), options=options)],
    }[way]
    return subprocess.run([sys.executable, *arguments], env=env, stdout=-1, stderr=-1, text=True, timeout=600)
