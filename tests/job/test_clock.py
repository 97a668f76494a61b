"""What a job says that its engines cost, against a clock of the test's own: the script's notes of its every answer."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from jobs import command, documents, ended, start, stats
from scripts_clock import notes

from hfsynth.job.sessions import Session, Sessions

KILLS = int(os.environ.get("HFSYNTH_TEST_CLOCK_KILLS", "3"))
ROUNDING = 0.005

Span = tuple[float, float]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the test kills as POSIX does")


class Watched:
    """A command under way, and when it began and ended as seen from outside."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.began = time.time()
        self.process = start(arguments, log)

    def over(self) -> Span:
        """Wait until it has ended; return its life."""
        code, _, errors = ended(self.process)
        assert code in (0, -9), errors
        return self.began, time.time()


def timed(source: Path, out: Path, *options: object) -> list[str]:
    scripted = ("--engine", "scripted", "--model", "scripts_clock:timed", "--engine-arg", "max_in_flight=2")
    return command(source, out, *scripted, *options)


def inside(span: Span, spans: list[Span]) -> bool:
    return any(since - ROUNDING <= span[0] and span[1] <= until + ROUNDING for since, until in spans)


def apart(span: Span, spans: list[Span]) -> bool:
    return all(span[1] <= since + ROUNDING or span[0] >= until - ROUNDING for since, until in spans)


def length(spans: list[Span]) -> float:
    return sum(until - since for since, until in spans if since < until)


def union(spans: list[Span]) -> float:
    total = reached = 0.0
    for since, until in sorted(spans):
        total, reached = total + max(0.0, until - max(since, reached)), max(reached, until)
    return total


def check_session(session: Session, life: Span, log: Path) -> list[Span]:
    """Compare a session with its own process' notes; return the answers that it must count as work."""
    own = [note for note in notes(log) if note["pid"] == session.pid]
    loads, answers = (
        [(note["from"], note["to"]) for note in own if note["what"] == what] for what in ("load", "answer")
    )
    working = [span for span in session.spans if span[0] < span[1]]
    waiting = [(since, until) for since, until in session.pauses]
    loading = session.loading_seconds
    assert life[0] <= session.started + ROUNDING and session.updated <= life[1] + ROUNDING
    assert length(working) + length(waiting) + loading <= session.engine_seconds + ROUNDING * 10
    assert session.engine_seconds <= life[1] - life[0] + ROUNDING
    assert loading >= length([span for span in loads if span[1] <= session.updated]) - ROUNDING
    assert all(apart(span, working) and apart(span, waiting) for span in loads)
    assert all(apart(span, waiting) for span in answers)
    counted = [span for span in answers if span[1] <= session.working_to]
    assert all(inside(span, working) for span in counted)
    return counted


def check(out: Path, lives: dict[int, Span], log: Path) -> dict[str, float]:
    """Compare the statistics with the lives of all processes and with their notes; return them."""
    sessions = Sessions(out / ".hfsynth" / "sessions").all()
    counted = [span for session in sessions for span in check_session(session, lives[session.pid], log)]
    found = stats(out)
    assert found["engine_seconds"] == pytest.approx(sum(session.engine_seconds for session in sessions), abs=0.01)
    assert found["loading_seconds"] + found["waiting_seconds"] <= found["engine_seconds"] + ROUNDING
    assert union(counted) - ROUNDING * len(sessions) <= found["seconds"] <= union(list(lives.values())) + ROUNDING
    assert found["seconds"] + found["loading_seconds"] + found["waiting_seconds"] <= length(list(lives.values()))
    return found


def test_over_kills_the_time_told_is_never_more_than_the_clock_says(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 60, special={20: "This is poison.", 40: "Poison: poison again."})
    out, log, chance = tmp_path / "out", tmp_path / "notes", random.Random(5)
    arguments, lives = timed(source, out, "--shard-rows", 6, "--workers", 0), {}
    two = [Watched(arguments, log), Watched(arguments, log)]
    for _ in range(KILLS):
        enough = len(notes(log)) + chance.randrange(1, 12)
        while len(notes(log)) < enough and any(one.process.poll() is None for one in two):
            time.sleep(0.01)
        victim = two.pop(chance.randrange(2))
        victim.process.kill()
        lives[victim.process.pid] = victim.over()
        two.append(Watched(arguments, log))
    lives |= {one.process.pid: one.over() for one in two}
    found = check(out, lives, log)
    assert found["documents"]["ok"] == 58 and found["engine_restarts"] > 0
    assert found["loading_seconds"] > 0 and len(found["workers"]) >= 2


def test_waiting_for_another_worker_is_told_apart(tmp_path: Path) -> None:
    special = {0: "Begin when both have begun.", 89: "End when another waits."}
    source, out, log = documents(tmp_path / "texts.jsonl", 90, special=special), tmp_path / "out", tmp_path / "notes"
    job = Watched(timed(source, out, "--shard-rows", 30, "--workers", 2), log)
    life = job.over()
    pids = {session.pid for session in Sessions(out / ".hfsynth" / "sessions").all()}
    found = check(out, dict.fromkeys(pids, life), log)
    assert len(pids) == 2 and found["waiting_seconds"] > 0
