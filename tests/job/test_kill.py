"""Kill a job anywhere, give the same command again, and the result is the same: no chain lost, none done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from jobs import children, command, documents, ended, journals, parts, run, scripted, start, stats, until
from seeds import EVERYTHING, SEED

KILLS = 20 if EVERYTHING else 6
IN_FLIGHT = 4
DOCUMENTS = 35 * KILLS  # work enough for all of them
SHOTS = 2

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the tests find processes in /proc")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source, and the corpus that an uninterrupted run made of it."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    documents(folder / "texts.jsonl", DOCUMENTS)
    run(command(folder / "texts.jsonl", folder / "out", *options(0.0), "--workers", 0))
    return folder


def options(latency: float) -> tuple[object, ...]:
    return (*scripted(latency=latency, in_flight=IN_FLIGHT), "--shots", SHOTS, "--shard-rows", 40)


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def redone(log: Path) -> int:
    """Return how often a chain was begun again."""
    begun = Counter(call for call in calls(log) if "|" not in call)
    return sum(begun.values()) - len(begun)


def check_result(uninterrupted: Path, out: Path, log: Path, kills: int) -> None:
    assert parts(out) == parts(uninterrupted / "out")
    begun = {call for call in calls(log) if "|" not in call}
    assert len(begun) == DOCUMENTS // SHOTS
    assert redone(log) <= kills * IN_FLIGHT
    assert stats(out)["documents"] == stats(uninterrupted / "out")["documents"]
    assert not list((out / ".hfsynth" / "parts").glob(".*"))
    assert not list((out / ".hfsynth" / "leases").iterdir())


def wait_at_random(chance: random.Random, process: subprocess.Popen[str], log: Path) -> bool:
    """Wait for a moment in the work, or now and then in the start-up; return whether the process is still there."""
    before = len(calls(log))
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0, 1.5))
        return process.poll() is None
    begun = until(lambda: len(calls(log)) > before, process)
    time.sleep(chance.uniform(0, 0.25))
    return begun and process.poll() is None


@pytest.mark.long
def test_the_command_is_killed_again_and_again(uninterrupted: Path, tmp_path: Path) -> None:
    out, log, chance = tmp_path / "out", tmp_path / "calls", random.Random(SEED)
    arguments = command(uninterrupted / "texts.jsonl", out, *options(0.05))
    kills = 0
    process = start(arguments, log)
    while kills < KILLS and wait_at_random(chance, process, log):
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = start(arguments, log)
    code, _, errors = ended(process)
    assert (code, kills) == (0, KILLS), errors or "it was finished too early to be killed so often"
    check_result(uninterrupted, out, log, kills)
    assert len(stats(out)["workers"]) >= kills // 2


@pytest.mark.long
def test_the_worker_is_killed_again_and_again(uninterrupted: Path, tmp_path: Path) -> None:
    out, log, chance = tmp_path / "out", tmp_path / "calls", random.Random(SEED + 1)
    arguments = command(uninterrupted / "texts.jsonl", out, *options(0.05), "--max-engine-restarts", KILLS)
    process = start(arguments, log)
    kills = 0
    while kills < KILLS and until(lambda: children(process), process) and wait_at_random(chance, process, log):
        for worker in children(process):
            os.kill(worker, signal.SIGKILL)
            kills += 1
        gone = set(children(process))
        until(lambda gone=gone: not gone & set(children(process)), process)
    code, _, errors = ended(process)
    assert code == 0, errors
    assert kills >= KILLS, "it was finished too early to be killed so often"
    check_result(uninterrupted, out, log, kills)


def test_no_worker_outlives_the_command(uninterrupted: Path, tmp_path: Path) -> None:
    process = start(command(uninterrupted / "texts.jsonl", tmp_path / "out", *options(0.5), "--workers", 2))
    assert until(lambda: len(journals(tmp_path / "out")) >= 2, process)
    workers = children(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 300
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
