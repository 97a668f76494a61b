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

STEP = int(os.environ.get("HFSYNTH_TEST_KILL_STEP", "19"))
"""1 kills at every event: about two hundred."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the kills are forks")


@pytest.mark.timeout(3600)
def test_a_job_killed_at_its_file_system_events_makes_the_same_and_leaves_nothing(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 12)
    arguments = [sys.executable, kill_events.__file__, str(source), str(tmp_path), str(STEP)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False, timeout=3600)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["bad"] == [] and found["kills"] * STEP > 60
