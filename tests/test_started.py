"""No process that a test starts outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys

from started import end_started, start_process


def test_what_a_test_leaves_running_is_ended_and_its_pipes_are_closed() -> None:
    pipe = subprocess.PIPE
    left = start_process([sys.executable, "-c", "import time; time.sleep(600)"], stdin=pipe, stdout=pipe, stderr=pipe)
    end_started()
    assert left.returncode == -signal.SIGKILL
    assert all(stream is not None and stream.closed for stream in (left.stdin, left.stdout, left.stderr))
    assert start_process([sys.executable, "-c", "pass"]).wait() == 0
    end_started()  # of one that has ended there is nothing to do
