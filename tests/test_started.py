"""No process that a test starts outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from started import end_started, start_process


def test_what_a_test_leaves_running_is_ended_and_its_pipes_are_closed() -> None:
    pipe = subprocess.PIPE
    left = start_process([sys.executable, "-c", "import time; time.sleep(600)"], stdin=pipe, stdout=pipe, stderr=pipe)
    end_started()
    assert left.returncode == -signal.SIGKILL
    assert all(stream is not None and stream.closed for stream in (left.stdin, left.stdout, left.stderr))
    assert start_process([sys.executable, "-c", "pass"]).wait() == 0
    end_started()  # of one that has ended there is nothing to do


ECHO = """
import os, sys
sys.stderr.write(f"{os.environ['WORD']} {os.getcwd()} {os.getpid()} {os.getsid(0)} {sys.argv} {sys.path[1]}")
sys.stdout.write(sys.stdin.read())
sys.exit(3)
"""


@pytest.mark.parametrize("fresh", [True, False])
def test_a_program_runs_the_same_in_a_warm_python(fresh: bool, tmp_path: Path) -> None:
    pipe, environment = subprocess.PIPE, {**os.environ, "WORD": "there", "PYTHONPATH": str(tmp_path)}
    process = start_process(
        [sys.executable, "-c", ECHO, "a", "b"],
        fresh=fresh,
        env=environment,
        cwd=tmp_path,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    )
    out, errors = process.communicate("given\n")
    assert (process.returncode, process.poll(), out) == (3, 3, "given\n")
    assert errors == f"there {tmp_path} {process.pid} {process.pid} ['-c', 'a', 'b'] {tmp_path}"


@pytest.mark.parametrize("fresh", [True, False])
def test_a_program_that_fails_or_is_killed_says_so(fresh: bool) -> None:
    pipe = subprocess.PIPE
    process = start_process([sys.executable, "-c", "raise ValueError('this')"], fresh=fresh, stdout=pipe, stderr=pipe)
    out, errors = process.communicate()
    assert (process.returncode, out, errors.splitlines()[-1]) == (1, "", "ValueError: this")
    process = start_process(
        [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"], fresh=fresh, stdout=pipe
    )
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == -signal.SIGINT
    assert not Path(f"/proc/{process.pid}").exists()
