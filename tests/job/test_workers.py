"""Several workers: GPUs dealt out, shares taken over from the dead, ranges of shards."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import children, command, documents, ended, journals, parts, run, scripted, start, stats, until
from scripts_clock import notes
from started import start_process

import hfsynth
from hfsynth.cli.launchers import shard_range
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.devices import core_groups, device_groups, usable_cores, visible_devices
from hfsynth.core.errors import ConfigError, EngineError
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.source import Source
from hfsynth.job.claims import Claims
from hfsynth.job.concurrency import Stop
from hfsynth.job.journal import JournalPaths, Segments
from hfsynth.job.launcher import End, LocalLauncher, supervise, with_tensor_parallel
from hfsynth.job.leases import Leases
from hfsynth.job.run import synthesize
from hfsynth.job.spec import JobSpec
from hfsynth.job.worker import Worker


class Dying:
    """A launcher of workers that die as soon as they are looked at."""

    def __init__(self, size: int) -> None:
        self.size = size

    def start(self, spec: JobSpec, place: int, worker: str) -> Dying.Member:
        return self.Member(worker)

    def close(self) -> None: ...

    @dataclass(frozen=True)
    class Member:
        worker: str

        def ended(self) -> End:
            return End("died", None)

        def stop(self, signal: int) -> None: ...
        def kill(self) -> None: ...


@pytest.mark.long
@pytest.mark.parametrize(("size", "restarts", "deaths"), [(1, 3, 4), (2, 3, 7), (2, 0, 1)])
def test_each_worker_may_die_so_often_in_a_row(size: int, restarts: int, deaths: int, tmp_path: Path) -> None:
    """Of the document that kills one worker another may die as well, which took it over before it was known."""
    config, engine = SynthesizerConfig("scripted"), EngineConfig("scripted")
    out = str(tmp_path / "out")
    spec = JobSpec(Source("texts"), "r", out, config, engine, 10, max_engine_restarts=restarts)
    paths = JournalPaths(Corpus(Path(out)).journal)
    for folder in (paths.sessions, paths.segments):
        folder.mkdir(parents=True)
    with pytest.raises(EngineError, match=f"{deaths} died with no document"):
        supervise(spec, Dying(size), Stop(), lambda: None)


def test_two_workers_share_a_job_and_make_what_one_makes(tmp_path: Path) -> None:
    special = {0: "Begin when both have begun."}  # one must not be done before the other is there
    source, log, alone = (
        documents(tmp_path / "texts.jsonl", 400, special=special),
        tmp_path / "notes",
        tmp_path / "alone",
    )
    options = (*scripted()[:2], "--model", "scripts_clock:timed", "--shots", 2, "--shard-rows", 20)
    alone.write_text(json.dumps({"pid": 0, "what": "begin"}) + "\n")
    run(command(source, tmp_path / "one", *options, "--workers", 1), alone)
    run(command(source, tmp_path / "two", *options, "--workers", 2), log)
    assert parts(tmp_path / "one") == parts(tmp_path / "two")
    found = stats(tmp_path / "two")
    assert [worker["documents"] > 0 for worker in found["workers"]] == [True, True]
    assert sum(worker["documents"] for worker in found["workers"]) == 400
    assert found["engine_seconds"] >= found["seconds"] > 0
    assert len([note for note in notes(log) if note["what"] == "answer"]) == 400


def test_a_worker_whose_shelf_ends_while_it_looks_does_not_wait_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, look = documents(tmp_path / "texts.jsonl", 20), Claims.next
    waits: list[float] = []

    def look_until_all_is_written(claims: Claims) -> int | None:
        shard = look(claims)
        while shard is None and threading.current_thread() is threading.main_thread() and claims._leases.held:
            time.sleep(0.001)
        return shard

    monkeypatch.setattr(Claims, "next", look_until_all_is_written)
    monkeypatch.setattr(Worker, "_wait", lambda _, seconds: waits.append(seconds))
    config, engine = SynthesizerConfig("scripted"), EngineConfig("scripted")
    synthesize(Source(str(source)), tmp_path / "out", config, engine=engine)
    assert stats(tmp_path / "out")["documents"]["ok"] == 20
    assert max(waits, default=0) < 0.1


def test_a_worker_whose_parent_is_gone_ends_before_it_has_imported_anything() -> None:
    program = "from hfsynth.job.parent_watch import ParentWatch; w = ParentWatch(); print(1, flush=True); import time; "
    arguments = [sys.executable, "-c", program + "time.sleep(600)"]
    process = start_process(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write('{"worker": "w"}\n')
    process.stdin.flush()
    assert process.stdout.readline() == "1\n"
    process.stdin.close()
    assert process.wait(300) == -signal.SIGKILL
    process.stdout.close()
    loaded = "import sys, hfsynth.job.parent_watch; print({'datasets', 'pyarrow'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
    nobody = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (nobody.returncode, nobody.stderr) == (1, b"")


def test_a_heart_beats_while_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, beats, synced = documents(tmp_path / "texts.jsonl", 4), threading.Event(), threading.Event()
    beat = Leases.beat

    def slow(segments: Segments) -> None:
        assert beats.wait(300)
        synced.set()

    def noted(leases: Leases) -> None:
        beat(leases)
        beats.set()

    monkeypatch.setattr(Segments, "sync", slow)
    monkeypatch.setattr(Leases, "beat", noted)
    monkeypatch.setattr("hfsynth.job.concurrency.EVERY", 0.01)
    engine = EngineConfig("scripted", {"latency": 0.1})
    synthesize(Source(str(source)), tmp_path / "out", SynthesizerConfig("scripted"), engine=engine)
    assert synced.is_set()


def test_the_shards_of_a_dead_worker_are_taken_over_at_once(tmp_path: Path) -> None:
    source, log = documents(tmp_path / "texts.jsonl", 200), tmp_path / "calls"
    arguments = command(
        source, tmp_path / "out", *scripted(latency=0.1, in_flight=2), "--shard-rows", 20, "--workers", 2
    )
    process = start(arguments, log)
    assert until(lambda: len({path.stem for path in journals(tmp_path / "out")}) == 2, process)
    os.kill(children(process)[0], signal.SIGKILL)
    assert ended(process, seconds=50)[0] == 0  # a lease left to go stale takes longer
    assert stats(tmp_path / "out")["documents"]["ok"] == 200
    calls = log.read_text().splitlines()
    assert len(calls) - len(set(calls)) <= 4


def test_a_worker_leaves_shards_to_others_until_it_needs_them(tmp_path: Path) -> None:
    source, log = documents(tmp_path / "texts.jsonl", 200), tmp_path / "calls"
    options = (*scripted(latency=900, in_flight=4), "--shard-rows", 30, "--workers", 0, "--grace", 0)
    process = start(command(source, tmp_path / "out", *options), log)
    assert until(lambda: log.exists() and len(log.read_text().splitlines()) == 4, process)
    time.sleep(0.5)  # time enough to claim them all
    assert len(list((tmp_path / "out" / ".hfsynth" / "leases").glob("0*.json"))) == 1
    process.terminate()
    assert ended(process)[0] == 143


def test_workers_end_with_an_error_that_one_of_them_has(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 200)
    arguments = command(source, tmp_path / "out", *scripted(in_flight=0), "--shard-rows", 50, "--workers", 2)
    code, _, errors = ended(start(arguments))  # only a worker that loads its engine finds it out
    assert (code, "max_in_flight" in errors) == (2, True)
    sessions = [json.loads(path.read_text()) for path in (tmp_path / "out" / ".hfsynth" / "sessions").glob("*.json")]
    assert sessions
    assert not [session["pid"] for session in sessions if Path(f"/proc/{session['pid']}").exists()]


# --- GPUs -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 16), st.none() | st.integers(1, 16), st.integers(1, 8))
def test_gpus_are_dealt_out_once_and_evenly(number: int, workers: int | None, each: int) -> None:
    devices = [str(n) for n in range(number)]
    try:
        groups = device_groups(devices, workers, each)
    except ConfigError:
        assert each > max(number, 1) // (workers or 1)
        return
    assert len(groups) == (workers or max(1, number // each))
    dealt = [device for group in groups for device in group]
    assert len(set(dealt)) == len(dealt)
    assert {len(group) for group in groups} == ({each} if number else {0})


@given(st.integers(0, 70), st.integers(1, 20))
def test_cores_are_dealt_out_evenly_and_shared_where_they_must(number: int, workers: int) -> None:
    groups = core_groups(range(100, 100 + number), workers)
    assert len(groups) == workers
    dealt = [core for group in groups for core in group]
    assert set(dealt) == set(range(100, 100 + number))
    sizes = [len(group) for group in groups]
    assert max(sizes) - min(sizes) <= 1 and (len(dealt) == number or max(sizes) == 1)


def test_workers_without_a_gpu_have_cores_of_their_own(tmp_path: Path) -> None:
    launcher = LocalLauncher(2, devices=[])
    members = [launcher.start(spec(tmp_path), place, f"w{place}") for place in range(2)]
    try:
        cores = [os.sched_getaffinity(member.pid) for member in members]
        assert cores == [set(group) for group in core_groups(usable_cores(), 2)]
    finally:
        for member in members:
            member.kill()


def test_visible_gpus_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for value, expected in (("2,GPU-ab", ["2", "GPU-ab"]), ("", []), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert visible_devices() == expected
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: a (UUID: x)'\necho '  MIG 1g'\necho 'GPU 1: a (UUID: y)'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_devices() == ["0", "1"]


def test_each_worker_sees_its_own_gpus_and_spreads_its_model(tmp_path: Path) -> None:
    launcher = LocalLauncher(tensor_parallel=2, devices=["3", "5", "7", "8"])
    assert launcher.size == 2
    member = launcher.start(spec(tmp_path), 1, "w")
    try:
        environment = Path(f"/proc/{member.pid}/environ")
        while not environment.read_text():  # the process has only just begun
            time.sleep(0.01)
        assert "CUDA_VISIBLE_DEVICES=7,8" in environment.read_text().split("\0")
    finally:
        member.kill()
    engine = with_tensor_parallel(EngineConfig("vllm", {"max_num_seqs": 8}), 2)
    assert engine.arguments == {"max_num_seqs": 8, "tensor_parallel_size": 2}


@pytest.mark.parametrize(
    ("number", "how", "suspicious"),
    [
        (signal.SIGSEGV, "was ended by SIGSEGV", True),
        (signal.SIGABRT, "was ended by SIGABRT", True),
        (signal.SIGTERM, "was ended by SIGTERM", False),
        (signal.SIGKILL, "was killed", None),
    ],
)
def test_how_a_worker_ended_says_whether_its_work_is_to_blame(
    tmp_path: Path, number: signal.Signals, how: str, suspicious: bool | None
) -> None:
    member = LocalLauncher(1, devices=[]).start(spec(tmp_path), 0, "w")
    os.kill(member.pid, number)
    while member.ended() is None:
        time.sleep(0.01)
    assert member.ended() == End(how, suspicious)
    member.kill()


def test_the_kernels_kill_for_want_of_memory_is_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = iter((7, 8))  # the kernel's own counter, before and after: no test can have its machine run out
    monkeypatch.setattr("hfsynth.job.launcher._oom_kills", lambda: next(counted))
    member = LocalLauncher(1, devices=[]).start(spec(tmp_path), 0, "w")
    member.kill()
    assert member.ended() == End("was killed for want of memory", True)


def spec(tmp_path: Path) -> JobSpec:
    engine = EngineConfig("scripted", {"latency": 1.5})
    config = SynthesizerConfig("scripted", shots=2)
    return JobSpec(Source("a.jsonl", limit=3), "r", str(tmp_path), config, engine, 40, (2, None))


def test_an_order_survives_the_way_to_another_process(tmp_path: Path) -> None:
    made = spec(tmp_path)
    assert JobSpec.from_dict(json.loads(json.dumps(made.to_dict()))) == made


# --- ranges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), [(None, (0, None)), ("3:7", (3, 7)), (":7", (0, 7)), ("3:", (3, None))])
def test_ranges_of_shards(text: str | None, expected: tuple[int, int | None]) -> None:
    assert shard_range(text) == expected


@pytest.mark.parametrize("text", ["", "3", "a:b", "5:5", "7:3", "-2:3", "1:2:3"])
def test_what_is_no_range(text: str) -> None:
    if text == "":
        assert shard_range(text) == (0, None)
        return
    with pytest.raises(ConfigError, match="A:B"):
        shard_range(text)


def test_a_launcher_does_a_job_from_python(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f'{{"text": "Text {number}."}}\n' for number in range(4)))
    launcher = hfsynth.LocalLauncher(2, devices=[])
    engine = hfsynth.EngineConfig("scripted")
    config = hfsynth.SynthesizerConfig("scripted")
    done = hfsynth.synthesize(
        hfsynth.Source(str(source)), tmp_path / "out", config, engine=engine, shard_rows=2, launcher=launcher
    )
    assert done.finished
    assert hfsynth.inspect(str(tmp_path / "out"))["finished"]
