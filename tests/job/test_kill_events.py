"""Kill a small job at its file-system events: the result is the same, and nothing is left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import kill_events
import pytest
from jobs import documents
from seeds import EVERYTHING, SEED

STEP = 1 if EVERYTHING else 19
"""1 kills at every event, of which there are about two hundred; else the seed says at which."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the kills are forks")


@pytest.mark.timeout(3600)
@pytest.mark.long
@pytest.mark.parametrize("program", ["synthesize", "verify", "screen"])
def test_a_job_killed_at_its_file_system_events_makes_the_same_and_leaves_nothing(program: str, tmp_path: Path) -> None:
    repeated = "Text number 0001 says little. Write to jane@acme.io."
    source = documents(tmp_path / "texts.jsonl", 12, special={5: repeated, 9: repeated})
    arguments = [sys.executable, kill_events.__file__, str(source), str(tmp_path), str(STEP), str(SEED % STEP)]
    arguments.append(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False, timeout=3600)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["bad"] == [] and found["kills"] * STEP > 60
