"""The journal's parts: leases that exactly one holds, notes that survive a kill, a channel that ends for both sides."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.errors import OutputError
from hfsynth.core.processes import mark
from hfsynth.core.records import Counts, Pair, Reason, Rejected, Status, Synthesis, Synthesized
from hfsynth.corpus.folder import Corpus
from hfsynth.job.claims import Claims
from hfsynth.job.concurrency import Channel, Closed
from hfsynth.job.folder_site import FolderSite
from hfsynth.job.journal import (
    ALONE_AFTER,
    CERTAIN,
    NO_STRIKES,
    POSSIBLE,
    Death,
    Segments,
    Strikes,
    chains_in_flight,
    has_ended_any,
    read_journal,
)
from hfsynth.job.leases import Holder, LeaseFolder, Leases, clear
from hfsynth.job.leftovers import sweep
from hfsynth.job.progress import JournalView
from hfsynth.job.restarts import Restarts
from hfsynth.job.sessions import DONE, OpenShard, Session, Sessions, working_seconds
from hfsynth.job.shards import part_path, read_extent, write_extent

OK = Synthesized((Pair("q", "a\u2028\ud800"),), Synthesis(Status.OK, "c", 0, True, 1, 2, 3, 4, "stop"))


def holder(**changes: object) -> Holder:
    return replace(Holder.this_process(), **changes)


def dead_process() -> Holder:
    """Return a process of this machine that has ended."""
    program = "from hfsynth.job.leases import Holder; h = Holder.this_process(); print(h.worker, h.pid, h.began)"
    worker, pid, began = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    return holder(worker=worker, pid=int(pid), began=began)


# --- leases ---------------------------------------------------------------------------------------------------------


def test_a_lease_is_held_by_one_and_free_again_when_given_up(tmp_path: Path) -> None:
    one, two = Leases(tmp_path, holder()), Leases(tmp_path, holder())
    assert one.claim("00003") and one.holds("00003")
    assert not two.claim("00003") and not one.claim("00003")
    one.release("00003")
    assert not one.holds("00003") and two.claim("00003")
    two.remove("00003")
    assert list(tmp_path.iterdir()) == []
    assert one.claim("00003")


def test_the_lease_of_a_dead_process_is_taken_over_at_once_by_exactly_one(tmp_path: Path) -> None:
    assert Leases(tmp_path, dead_process()).claim("00000")
    others = [Leases(tmp_path, holder()) for _ in range(8)]
    won: list[bool] = []
    threads = [threading.Thread(target=lambda leases=leases: won.append(leases.claim("00000"))) for leases in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won.count(True) == 1


def test_a_process_id_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    assert not holder().is_dead
    assert holder(began="1").is_dead
    assert not holder(began="1", machine="far away").is_dead


def test_a_lease_of_another_machine_is_stale_when_its_heart_stops(tmp_path: Path) -> None:
    far = Leases(tmp_path, holder(machine="far away"))
    near = Leases(tmp_path, holder(), stale_after=0.3)
    assert far.claim("00000")
    deadline = time.monotonic() + 0.9
    while time.monotonic() < deadline:
        assert not near.claim("00000")
        far.beat()
        time.sleep(0.02)
    while not near.claim("00000"):
        time.sleep(0.02)
    assert not far.holds("00000")
    far.beat()
    assert near.holds("00000")


def test_a_worker_that_is_known_to_be_gone_holds_nothing(tmp_path: Path) -> None:
    far = Leases(tmp_path, holder(worker="lost", machine="far away"))
    assert far.claim("00000")
    assert not Leases(tmp_path, holder()).claim("00000")
    assert Leases(tmp_path, holder(), is_gone=lambda worker: worker == "lost").claim("00000")


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_there_are_no_hard_links_one_still_holds_a_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(code, "no links here")

    monkeypatch.setattr(os, "link", refused)
    one, two = Leases(tmp_path, holder()), Leases(tmp_path, holder())
    assert one.claim("00003") and not two.claim("00003")
    one.remove("00003")
    assert two.claim("00003") and not list(tmp_path.glob("*.tmp"))
    assert Leases(tmp_path, dead_process()).claim("00004") and one.claim("00004")


def test_a_lease_that_is_being_written_is_held(tmp_path: Path) -> None:
    (tmp_path / "00000.0.json").touch()
    near = Leases(tmp_path, holder(), stale_after=0.1)
    assert not near.claim("00000")
    while not near.claim("00000"):
        time.sleep(0.02)


def test_a_link_that_was_made_and_is_said_to_be_there_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def asked_twice(source: Path, target: Path) -> None:
        with suppress(FileExistsError):
            link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", asked_twice)
    one, two = Leases(tmp_path, holder()), Leases(tmp_path, holder())
    assert one.claim("00000") and one.holds("00000")
    assert not LeaseFolder(tmp_path, "two").make("00000", 0, b"{}") and not two.claim("00000")


@pytest.mark.parametrize("content", ["[]", "7", "{}", '{"worker": 1}', '{"wOrker": "a"}', "\0\0", "nul"])
def test_a_damaged_lease_is_free(tmp_path: Path, content: str) -> None:
    (tmp_path / "00000.0.json").write_text(content)
    assert Leases(tmp_path, holder()).claim("00000")


def test_whoever_has_lost_a_lease_does_not_take_it_from_its_new_holder(tmp_path: Path) -> None:
    slow = Leases(tmp_path, holder(machine="far away"))
    quick = Leases(tmp_path, holder(), is_gone=lambda worker: True)
    assert slow.claim("00000") and quick.claim("00000")
    slow.release("00000")
    assert quick.holds("00000") and not Leases(tmp_path, holder()).claim("00000")


def test_leases_may_be_cleared_away_while_somebody_takes_them(tmp_path: Path) -> None:
    leases, ended = Leases(tmp_path, holder()), threading.Event()

    def clear_again_and_again() -> None:
        while not ended.is_set():
            clear(tmp_path)

    thread = threading.Thread(target=clear_again_and_again)
    thread.start()
    try:
        for number in range(300):
            leases.claim(f"{number}")
            leases.beat()
            leases.release(f"{number}")
        with leases.waiting_for("publish"):
            pass
    finally:
        ended.set()
        thread.join()
    (tmp_path / ".killed.000000.tmp").write_text("{")
    clear(tmp_path)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["claim", "release", "remove"])), max_size=30))
def test_never_do_two_hold_one_lease(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]) -> None:
    folder = tmp_path_factory.mktemp("leases")
    workers = [Leases(folder, holder()) for _ in range(3)]
    for number, step in steps:
        if step == "claim" or workers[number].holds("x"):
            getattr(workers[number], step)("x")
        assert sum(leases.holds("x") for leases in workers) <= 1


# --- claims ---------------------------------------------------------------------------------------------------------


def test_shards_are_claimed_in_order_and_the_end_is_found(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    one, two = (Claims(FolderSite(corpus.root), Leases(corpus.journal / "leases", holder()), 10) for _ in range(2))
    assert [one.next(), two.next(), one.next(), two.next()] == [0, 1, 2, 3]
    two.has_read(3, 0)
    assert read_extent(corpus) == {"shards": 3, "rows": 30}
    one.has_read(2, 4)
    two.has_read(1, 10)
    assert read_extent(corpus) == {"shards": 3, "rows": 24}
    assert one.next() is None and not one.all_finished()
    for shard in range(3):
        corpus.parts.mkdir(parents=True, exist_ok=True)
        part_path(corpus.parts, shard).with_suffix(".json").write_text("{}")
    assert one.all_finished()


def test_a_finished_shard_is_not_claimed_and_a_range_is_kept(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    write_extent(corpus, 95, 10)
    corpus.parts.mkdir(parents=True)
    part_path(corpus.parts, 4).with_suffix(".json").write_text("{}")
    claims = Claims(FolderSite(corpus.root), Leases(corpus.journal / "leases", holder()), 10, (3, 6))
    assert [claims.next(), claims.next(), claims.next()] == [3, 5, None]
    assert Claims(FolderSite(corpus.root), Leases(corpus.journal / "leases", holder()), 10, (20, None)).all_finished()


# --- notes ----------------------------------------------------------------------------------------------------------

results = st.lists(
    st.builds(
        Synthesized,
        st.lists(st.builds(Pair, st.text(), st.text()), max_size=2).map(tuple),
        st.builds(
            Synthesis,
            st.sampled_from(Status),
            st.text(max_size=5),
            st.integers(0, 9),
            rejected=st.lists(st.builds(Rejected, st.sampled_from(Reason), st.text()), max_size=2).map(tuple),
        ),
    ),
    min_size=1,
    max_size=2,
)


def killed(certainty: int) -> Callable[[str], Death | None]:
    return lambda worker: Death("it died", certainty)


@settings(max_examples=40)
@given(st.dictionaries(st.integers(0, 5), results, max_size=5), st.integers(0, 200))
def test_notes_are_read_back_and_a_torn_end_costs_one_line_at_most(
    tmp_path_factory: pytest.TempPathFactory, chains: dict[int, list[Synthesized]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("segments")
    segments = Segments(folder, "w")
    for number, found in chains.items():
        segments.started(7, number)
        segments.finished(7, number, found)
    assert read_journal(folder, 7, killed(CERTAIN)).results == chains
    segments.close()
    if chains:
        path = folder / "00007" / "w.jsonl"
        content = path.read_bytes()
        kept = content[: max(0, len(content) - cut)]
        path.write_bytes(kept)
        whole = [line for line in content.splitlines(keepends=True) if line.startswith(b'{"end"')]
        lost = sum(line not in kept for line in whole)  # one without its end may be half of a longer one
        assert len(read_journal(folder, 7, killed(CERTAIN)).results) == len(whole) - lost


def test_chains_in_flight_are_held_against_by_how_the_worker_died(tmp_path: Path) -> None:
    segments = Segments(tmp_path, "w")
    for shard, number in ((0, 1), (0, 2), (1, 0)):
        segments.started(shard, number)
    segments.finished(0, 1, [OK])
    assert read_journal(tmp_path, 0, killed(CERTAIN)).strikes == {2: Strikes(1, among=2)}
    assert read_journal(tmp_path, 0, killed(POSSIBLE)).strikes == {}  # another was in flight beside it
    assert read_journal(tmp_path, 0, killed(0)).strikes == {}
    assert read_journal(tmp_path, 0, lambda worker: None).strikes == {}
    segments.finished(1, 0, [OK])
    (strikes,) = read_journal(tmp_path, 0, killed(POSSIBLE)).strikes.values()
    assert strikes.is_suspect and not strikes.poison
    segments.close()


def test_suspects_run_in_halves_of_those_in_flight_and_few_of_them_one_by_one() -> None:
    first = NO_STRIKES.struck(Death("bang"), None, among=1000)
    second = first.struck(Death("bang"), None, among=300)
    assert not first.is_suspect and second.is_suspect
    assert second.group == 150
    assert second.struck(Death("bang"), None, among=900).group == 150  # what is known stays known
    assert [NO_STRIKES.struck(Death("bang"), None, among=n).group for n in (0, 1, 8, 9, 150)] == [1, 1, 1, 5, 75]


def test_a_death_tells_how_many_were_in_flight(tmp_path: Path) -> None:
    for death in range(ALONE_AFTER):
        segments = Segments(tmp_path, f"w{death}")
        for number in range(40):
            segments.started(number % 2, number)
        segments.died([(number % 2, number) for number in range(40)], "bang")
        segments.close()
    strikes = read_journal(tmp_path, 1, killed(0)).strikes
    assert set(strikes) == set(range(1, 40, 2))
    assert {found.group for found in strikes.values()} == {20}


def test_deaths_that_narrow_the_hunt_do_not_count_and_others_do() -> None:
    restarts = Restarts(2)
    for in_flight in (64, 64, 32, 16, 8, 1):
        restarts.died(in_flight)
    assert (restarts.in_a_row, restarts.are_exhausted) == (2, False)
    restarts.died(1)  # the next document alone: it was not the document
    assert restarts.are_exhausted
    restarts.answered()
    assert not restarts.are_exhausted
    for _ in range(3):
        assert not restarts.are_exhausted
        restarts.gave_up()
    assert restarts.are_exhausted
    restarts.answered()
    for _ in range(3):
        assert not restarts.are_exhausted
        restarts.died(0)
    assert restarts.are_exhausted


def test_a_shot_that_kills_alone_is_poison(tmp_path: Path) -> None:
    for death in range(ALONE_AFTER):
        segments = Segments(tmp_path, f"w{death}")
        segments.started(0, 5)
        segments.died([(0, 5)], "bang")
        segments.close()
    assert read_journal(tmp_path, 0, killed(0)).strikes[5].is_suspect
    segments = Segments(tmp_path, "w9")
    segments.started(0, 5, shot=0)
    segments.started(0, 5, shot=1)
    segments.close()
    assert read_journal(tmp_path, 0, killed(CERTAIN)).strikes[5].poison == {1: "it died"}
    assert read_journal(tmp_path, 0, killed(POSSIBLE)).strikes[5].poison == {}


def test_notes_of_a_finished_shard_are_dropped_and_others_stay(tmp_path: Path) -> None:
    segments = Segments(tmp_path, "w")
    segments.finished(0, 0, [OK])
    segments.finished(1, 0, [OK])
    segments.drop(0)
    segments.sync()
    assert [path.name for path in tmp_path.iterdir()] == ["00001"]
    assert len(os.listdir("/proc/self/fd")) and read_journal(tmp_path, 1, killed(0)).results == {0: [OK]}
    segments.close()


def test_a_shard_that_another_worker_finishes_while_one_looks_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "00000").mkdir()
    monkeypatch.setattr(Path, "exists", lambda path: True)  # as it was when the folder was listed
    assert chains_in_flight(tmp_path, "w") == 0
    assert not has_ended_any(tmp_path, "w", [Status.OK])


@pytest.mark.parametrize("line", ["[]", "{}", '"x"', "\0\0", '{"end":5,"results":[{}]}', '{"end":5} 00000000', "}"])
def test_a_damaged_line_is_passed_over_and_said(tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture) -> None:
    segments = Segments(tmp_path, "w")
    segments.finished(0, 0, [OK])
    segments.close()
    with (tmp_path / "00000" / "w.jsonl").open("a") as file:
        file.write(line + "\n")
    segments = Segments(tmp_path, "w")
    segments.finished(0, 1, [OK])
    segments.close()
    assert read_journal(tmp_path, 0, killed(0)).results == {0: [OK], 1: [OK]}
    assert "damaged in line 2" in caplog.text


def test_of_every_bit_that_flips_none_changes_a_result(tmp_path: Path) -> None:
    segments = Segments(tmp_path, "w")
    for number in range(3):
        segments.finished(0, number, [OK])
    segments.close()
    path = tmp_path / "00000" / "w.jsonl"
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 7):  # each place of a byte in turn
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        found = read_journal(tmp_path, 0, killed(0)).results
        assert found.keys() < {0, 1, 2}
        assert all(results == [OK] for results in found.values())


def test_notes_without_checksums_are_read(tmp_path: Path) -> None:
    segments = Segments(tmp_path, "w")
    segments.finished(0, 0, [OK])
    segments.started(0, 1)
    segments.close()
    path = tmp_path / "00000" / "w.jsonl"
    path.write_bytes(b"".join(line.rpartition(b" ")[0] + b"\n" for line in path.read_bytes().splitlines()))
    journal = read_journal(tmp_path, 0, killed(CERTAIN))
    assert journal.results == {0: [OK]} and journal.strikes.keys() == {1}


# --- sessions -------------------------------------------------------------------------------------------------------


def session(worker: str, **values: object) -> Session:
    made: dict[str, object] = {
        "worker": worker,
        "host": "h",
        "pid": 1,
        "devices": "",
        "started": 1.0,
        "updated": 2.0,
        **values,
    }
    return Session(**made)


def test_sessions_are_read_back_and_deaths_beside_them(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    sessions.write(session("b", started=5.0))
    sessions.write(session("a", ended=DONE))
    assert [found.worker for found in sessions.all()] == ["a", "b"]
    assert sessions.how_ended("a") is None
    assert sessions.how_ended("b") == Death("its process was killed", POSSIBLE)
    sessions.note_death("b", Death("bang"))
    assert sessions.has_died("b") and sessions.how_ended("b") == Death("bang", CERTAIN)
    assert len(sessions.all()) == 2
    (tmp_path / "sessions" / "a.json").write_text(json.dumps({"worker": "a"}))
    with pytest.raises(OutputError, match="damaged"):
        sessions.all()


def test_working_time_is_the_union_of_all(tmp_path: Path) -> None:
    spans = [(10.0, 20.0), (12.0, 15.0), (18.0, 25.0), (40.0, 41.0), (0.0, 0.0)]
    assert working_seconds(session("w", working_from=a, working_to=b) for a, b in spans) == 16.0


def test_waiting_for_others_is_no_work() -> None:
    one = session("w", working_from=10.0, working_to=90.0, pauses=[[20.0, 80.0]])
    ended = session("v", working_from=10.0, working_to=15.0, pauses=[[15.0, 99.0]])
    assert working_seconds([one, ended]) == 20.0
    died = session("u", working_from=10.0, working_to=90.0, pauses=[[70.0, 80.0]], loads=[[5.0, 10.0], [20.0, 50.0]])
    assert working_seconds([died]) == 40.0
    assert (one.waiting_seconds, ended.waiting_seconds) == (60.0, 84.0)


def test_a_worker_that_is_about_to_end_is_waited_for_and_a_dead_one_is_not(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    pid, where, since = mark().split("-")
    sessions.write(session("dead", mark=f"{pid}-{where}-1{since}"))
    sessions.write(session("ending", mark=mark()))
    thread = threading.Timer(0.3, lambda: sessions.write(session("ending", ended=DONE)))
    thread.start()
    sessions.settle(3600)  # a test does not last as long
    assert [found.ended for found in sessions.all() if found.worker == "ending"] == [DONE]
    thread.join()


def test_what_dead_processes_left_is_swept_away_and_what_living_ones_write_is_not(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    folders = (corpus.root, corpus.journal, corpus.parts, corpus.journal / "sessions", corpus.journal / "leases")
    pid, where, since = mark().split("-")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (mark(), f"{pid}-{where}-1{since}", "1-00000000-1"):
            (folder / f".a.json.{name}.tmp").touch()
    sweep(corpus)
    assert len(list(tmp_path.rglob("*.tmp"))) == 2 * len(folders)  # of another machine it is not known
    for path in tmp_path.rglob("*.tmp"):
        os.utime(path, (1.0, 1.0))
    sweep(corpus)
    assert {path.name for path in tmp_path.rglob("*.tmp")} == {f".a.json.{mark()}.tmp"}


def test_what_is_left_is_told_by_the_workers_that_run_and_not_before_they_have_begun(tmp_path: Path) -> None:
    corpus, clock = Corpus(tmp_path), time.time()
    sessions = Sessions(corpus.journal / "sessions")
    view = JournalView(corpus)
    write_extent(corpus, 300, 100)
    sessions.write(session("starting", updated=clock))
    assert (view.progress().total, view.progress().seconds_left) == (300, None)
    ten = sum((Counts.of([OK]) for _ in range(10)), Counts())
    part = {"counts": ten, "open": {0: OpenShard(10, ten)}}
    sessions.write(session("running", updated=clock, working_from=clock - 20, working_to=clock, **part))
    sessions.write(session("killed", updated=clock - 60, working_from=clock - 80, working_to=clock - 60, **part))
    found = view.progress()
    assert (found.rows, found.documents, found.workers) == (10, 10, 2)
    assert found.speed == pytest.approx(0.5) and found.seconds_left == pytest.approx(580)


# --- the channel ----------------------------------------------------------------------------------------------------


def test_things_come_out_in_order_and_the_channel_stays_small() -> None:
    channel: Channel[int] = Channel(3)
    most = 0

    def produce() -> None:
        for number in range(200):
            channel.put(number)
        channel.close()

    thread = threading.Thread(target=produce)
    thread.start()
    seen = []
    with pytest.raises(Closed):
        while True:
            most = max(most, len(channel._items))
            seen.append(channel.get())
    thread.join()
    assert seen == list(range(200))
    assert most <= 3


def test_an_error_reaches_the_other_side() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.close(KeyError("reader"))
    assert channel.get() == 1
    with pytest.raises(KeyError, match="reader"):
        channel.get()
    full: Channel[int] = Channel(1)
    full.put(1)
    threading.Timer(0.05, full.abandon, [OSError("writer")]).start()
    with pytest.raises(OSError, match="writer"):
        full.put(2)
