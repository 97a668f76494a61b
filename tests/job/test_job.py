"""Faults of a job as a user meets them: poison, signals, full disks, damaged files, two jobs at once."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow.parquet as pq
import pytest
import scripts
from jobs import command, documents, ended, journaled, parts, run, scripted, start, stats, until
from loopback_hub.server import Hub
from started import run_process

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import EngineError, OutputError
from hfsynth.documents.source import Source
from hfsynth.engine.loading import shared_engine
from hfsynth.engine.protocol import Chain, EngineKey, Generation
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.progress import Progress
from hfsynth.job.run import synthesize

T = TypeVar("T")
POISON = {13: "Text number 0013 is poison."}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return documents(tmp_path / "texts.jsonl", 40)


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        row for path in sorted((out / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()
    ]
    return rows


# --- poison ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_document_that_makes_the_engine_raise_is_failed_and_the_others_are_not(tmp_path: Path, workers: int) -> None:
    source, out = documents(tmp_path / "texts.jsonl", 30, special=POISON), tmp_path / "out"
    options = (*scripted("raising"), "--shots", 3, "--shard-rows", 6, "--workers", workers)
    run(command(source, out, *options), tmp_path / "calls")
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [f"d{n}" for n in range(30)]
    assert {row["id"]: row["synthesis"]["status"] for row in rows if row["synthesis"]["status"] != "ok"} == {
        "d13": "failed"
    }
    assert rows[13]["synthesis"]["rejected"] == [{"reason": "engine", "text": "The engine died: it choked."}]
    assert stats(out)["engine_restarts"] == 3  # two deaths in company, one alone
    deadly = [call for call in (tmp_path / "calls").read_text().splitlines() if call.endswith("poison.")]
    assert len(deadly) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_document_that_ends_the_engines_process_is_failed_and_the_others_are_not(
    tmp_path: Path, workers: int
) -> None:
    source, out = documents(tmp_path / "texts.jsonl", 30, special=POISON), tmp_path / "out"
    options = (*scripted("exiting"), "--shots", 3, "--shard-rows", 6, "--workers", workers)
    run(command(source, out, *options), tmp_path / "calls")
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [f"d{n}" for n in range(30)]
    assert {row["id"] for row in rows if row["synthesis"]["status"] != "ok"} == {"d13"}
    (rejected,) = rows[13]["synthesis"]["rejected"]
    assert rejected == {"reason": "engine", "text": "the engine's process ended with exit code 9"}
    found = stats(out)
    deaths = [worker["ended"] for worker in found["workers"]].count("killed")
    assert found["engine_restarts"] == deaths
    assert deaths in range(3, 3 + workers)  # another worker may be quicker to take the chains over than to hear of it
    assert found["documents"]["failed"] == found["rejected"]["engine"] == 1


def test_two_poisons_do_not_hide_each_other(tmp_path: Path) -> None:
    special = {3: "This is poison.", 4: "And poison again.", 17: "More poison."}
    source, out = documents(tmp_path / "texts.jsonl", 20, special=special), tmp_path / "out"
    run(command(source, out, *scripted("raising"), "--shots", 2, "--workers", 0))
    assert [n for n, row in enumerate(rows_of(out)) if row["synthesis"]["status"] == "failed"] == [3, 4, 17]


@pytest.mark.parametrize("deadly", [0, 700, 1023])
def test_the_document_that_kills_a_full_engine_is_found_by_halving(tmp_path: Path, deadly: int) -> None:
    source, out = documents(tmp_path / "texts.jsonl", 1100), tmp_path / "out"
    engine = EngineConfig("scripted", {"max_in_flight": 1024})
    scripts.mortal.at, scripts.mortal.asked = f"number {deadly:04}", []
    synthesize(Source(str(source)), out, SynthesizerConfig("scripts:mortal"), engine=engine, max_engine_restarts=3)
    assert [n for n, row in enumerate(rows_of(out)) if row["synthesis"]["status"] != "ok"] == [deadly]
    assert stats(out)["documents"]["failed"] == 1
    assert 3 <= stats(out)["engine_restarts"] <= 15


@pytest.mark.parametrize(
    ("script", "workers", "said"),
    [
        ("raising", 0, "The engine died: it choked."),
        ("raising", 1, "The engine died: it choked."),
        ("exiting", 2, "A worker ended with exit code 9; 1 died"),
    ],
)
def test_an_engine_that_may_not_be_started_again_is_given_up_and_the_same_command_goes_on(
    tmp_path: Path, script: str, workers: int, said: str
) -> None:
    source, out = documents(tmp_path / "texts.jsonl", 30, special=POISON), tmp_path / "out"
    arguments = command(source, out, *scripted(script), "--max-engine-restarts", 0, "--workers", workers)
    for _ in range(3):  # in company, in company, alone: each death ends the job and is remembered
        code, _, errors = ended(start(arguments))
        assert code == 1
        assert said in errors and "--max-engine-restarts" in errors
        assert journaled(out) >= 10
    run(arguments)
    assert [n for n, row in enumerate(rows_of(out)) if row["synthesis"]["status"] != "ok"] == [13]


def test_workers_that_cannot_even_start_are_given_up(source: Path, tmp_path: Path) -> None:
    code, _, errors = ended(start(command(source, tmp_path / "out", "--engine", "scripted", "--model", "no.such:one")))
    assert code == 2
    assert "no.such" in errors


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_lets_what_is_in_flight_end(
    source: Path, tmp_path: Path, number: signal.Signals, code: int, workers: int
) -> None:
    out, log = tmp_path / "out", tmp_path / "calls"
    arguments = command(source, out, *scripted(latency=0.3), "--workers", workers)
    process = start(arguments, log)
    assert until(lambda: log.exists() and len(log.read_text().splitlines()) > 6, process)
    process.send_signal(number)
    found, _, errors = ended(process)
    assert (found, errors) == (code, "Stopped. What is done is kept: the same command goes on.\n")
    begun = log.read_text().splitlines()
    assert journaled(out) == len(begun) < 40
    run(arguments, log)
    assert sorted(log.read_text().splitlines()) == [f"Text number {n:04} says little." for n in range(40)]
    assert stats(out)["documents"]["ok"] == 40


@pytest.mark.parametrize("options", [("--grace", 1), ("--grace", 0), ("--grace", 1, "--workers", 0)])
def test_the_grace_has_an_end(source: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    log = tmp_path / "calls"
    process = start(command(source, tmp_path / "out", *scripted(latency=900), *options), log)
    assert until(log.exists, process)
    process.send_signal(signal.SIGTERM)
    assert ended(process, seconds=300)[0] == 143
    if options[1]:
        (session,) = (tmp_path / "out" / ".hfsynth" / "sessions").glob("*.json")
        assert json.loads(session.read_text())["ended"] == "stopped"  # the worker had the time to say so


@pytest.mark.parametrize("workers", [0, 1])
def test_a_second_signal_stops_at_once(source: Path, tmp_path: Path, workers: int) -> None:
    log = tmp_path / "calls"
    process = start(command(source, tmp_path / "out", *scripted(latency=900), "--workers", workers), log)
    assert until(log.exists, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert ended(process, seconds=300)[0] == 130


# --- disks and files ------------------------------------------------------------------------------------------------

SMALL_FILES = (
    "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
    "from hfsynth.cli import main; sys.argv = ['hfsynth', *sys.argv[1:]]; main()"
)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_is_one_clear_sentence_and_the_same_command_goes_on(tmp_path: Path, workers: int) -> None:
    special = {n: f"{n} " + "abcdef " * 500 for n in range(60)}
    source, out = documents(tmp_path / "texts.jsonl", 60, special=special), tmp_path / "out"
    arguments = command(source, out, *scripted(), "--workers", workers)
    code, _, errors = ended(start([sys.executable, "-c", SMALL_FILES, *arguments[3:]]))
    assert code == 1
    assert "cannot be written" in errors
    assert len(errors.strip().splitlines()) <= 2
    run(arguments)
    assert stats(out)["documents"]["ok"] == 60


def interrupted(source: Path, out: Path, *options: object) -> list[str]:
    """Kill a job in the middle of its second shard; return its command."""
    arguments = command(source, out, *scripted(latency=0.1), "--shard-rows", 10, *options)
    process = start(arguments)
    assert until(lambda: list(out.glob(".hfsynth/parts/*.json")) and journaled(out), process)
    process.kill()
    process.communicate()
    return arguments


def test_a_damaged_line_of_a_journal_is_work_to_do_again(source: Path, tmp_path: Path) -> None:
    arguments = interrupted(source, tmp_path / "out", "--workers", 0)
    (segment,) = (tmp_path / "out" / ".hfsynth" / "segments" / "00001").iterdir()
    lines = segment.read_text().splitlines(keepends=True)
    segment.write_text("".join([lines[0], "\0" * 20 + "\n", *lines[1:]]))
    run(arguments)
    assert stats(tmp_path / "out")["documents"]["ok"] == 40


def test_a_torn_last_line_is_what_a_kill_leaves(source: Path, tmp_path: Path) -> None:
    arguments = interrupted(source, tmp_path / "out", "--workers", 0)
    (segment,) = (tmp_path / "out" / ".hfsynth" / "segments" / "00001").iterdir()
    segment.write_bytes(segment.read_bytes()[:-7])
    run(arguments)
    assert stats(tmp_path / "out")["documents"]["ok"] == 40


def test_a_damaged_part_is_a_clear_error_and_its_repair_goes_on(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = interrupted(source, out, "--workers", 0)
    part = out / ".hfsynth" / "parts" / "00000.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    code, _, errors = ended(start(arguments))
    assert code == 1
    assert f"{part} is damaged" in errors
    assert not (out / "pairs").exists()
    assert not part.with_suffix(".json").exists()  # its shard is open again
    run(arguments)
    whole = tmp_path / "whole"
    run(command(source, whole, *scripted(), "--shard-rows", 10, "--workers", 0))
    assert parts(out) == parts(whole)


def test_a_source_that_has_gone_or_changed_stops_the_job_until_it_is_back(source: Path, tmp_path: Path) -> None:
    arguments = interrupted(source, tmp_path / "out", "--workers", 0)
    away = source.rename(tmp_path / "away")
    code, _, errors = ended(start(arguments))
    assert (code, "texts.jsonl" in errors) == (2, True)
    documents(source, 41)
    code, _, errors = ended(start(arguments))
    assert (code, "source.revision" in errors) == (1, True)
    away.rename(source)
    run(arguments)
    assert stats(tmp_path / "out")["documents"]["ok"] == 40


def test_a_card_written_by_hand_while_the_job_was_under_way_is_kept(source: Path, tmp_path: Path) -> None:
    arguments = interrupted(source, tmp_path / "out", "--workers", 0)
    readme = tmp_path / "out" / "README.md"
    mine = "# Our corpus\n\nMade for the *spring* run \u2014 ask us first.\n"
    readme.write_text(f"---\nlicense: mit\ntags: [ours]\npretty_name: Ours\n---\n{mine}", "utf-8")
    run(arguments)
    text = readme.read_text("utf-8")
    front, body = text.removeprefix("---\n").split("\n---\n")
    assert body == mine
    assert "license: mit\n" in front and "pretty_name: Ours\n" in front and "- ours\n" in front
    assert "pairs/train-*.parquet" in front


# --- sharing --------------------------------------------------------------------------------------------------------


def test_two_jobs_at_once_share_the_work(tmp_path: Path) -> None:
    source, out, log = documents(tmp_path / "texts.jsonl", 400), tmp_path / "out", tmp_path / "calls"
    arguments = command(source, out, *scripted(latency=0.03, in_flight=2), "--shard-rows", 20, "--json")
    processes = [start(arguments, log) for _ in range(2)]
    results = [ended(process) for process in processes]
    assert [code for code, _, _ in results] == [0, 0], results
    assert json.loads(results[0][1])["stats"] == json.loads(results[1][1])["stats"] == stats(out)
    assert sorted(log.read_text().splitlines()) == [f"Text number {n:04} says little." for n in range(400)]
    assert [worker["documents"] > 0 for worker in stats(out)["workers"]] == [True, True]
    assert [row["id"] for row in rows_of(out)] == [f"d{n}" for n in range(400)]


def test_one_command_after_the_other_needs_no_engine(source: Path, tmp_path: Path) -> None:
    arguments = command(source, tmp_path / "out", *scripted(), "--json")
    run(arguments)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    code, printed, _ = ended(start(arguments, tmp_path / "calls"))
    assert (code, json.loads(printed)["worked"]) == (0, False)
    assert not (tmp_path / "calls").exists()
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_what_killed_processes_left_among_the_leases_is_cleared_away(source: Path, tmp_path: Path) -> None:
    left = tmp_path / "out" / ".hfsynth" / "leases" / ".worker-of-old.000000.tmp"
    arguments = command(source, tmp_path / "out", *scripted())
    run(arguments)
    (tmp_path / "out" / ".hfsynth" / "manifest.json").unlink()
    for _ in ("published again", "published before"):
        left.write_text("{")
        run(arguments)
        assert not list(left.parent.iterdir())


class Patient(ScriptedEngine):
    """An engine that answers nothing before it has ten chains in hand, or all there are."""

    hands: ClassVar[list[int]] = []

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        """Yield the results, ten by ten."""
        chains = iter(chains)
        while hand := list(islice(chains, 10)):
            self.hands.append(len(hand))
            yield from super().run(hand, generation)


def test_chains_of_many_shards_are_under_way_at_once(source: Path, tmp_path: Path) -> None:
    engine = EngineConfig("scripted", {"max_in_flight": 50})
    shared_engine(EngineKey(engine, "patient"), lambda key: Patient())
    synthesize(Source(str(source)), tmp_path / "out", SynthesizerConfig("patient"), engine=engine, shard_rows=2)
    assert Patient.hands == [10] * 4
    assert [row["id"] for row in rows_of(tmp_path / "out")] == [f"d{n}" for n in range(40)]


def test_a_source_behind_a_url_is_shared_out_and_may_move(source: Path, tmp_path: Path) -> None:
    options = (*scripted(latency=0.1), "--shard-rows", 5, "--workers", 2)
    out, log = tmp_path / "out", tmp_path / "calls"

    def arguments(hub: Hub) -> list[str]:
        hub.commit("user/lines", {"texts.jsonl": source.read_bytes()})
        return command(f"{hub.endpoint}/datasets/user/lines/resolve/main/texts.jsonl", out, *options)

    with Hub() as hub:
        given = arguments(hub)
        process = start(given, log)
        assert until(lambda: log.exists() and len(log.read_text().splitlines()) > 9, process)
        process.kill()
        process.communicate()
    code, _, errors = ended(start(given))
    assert (code, "texts.jsonl cannot be read" in errors) == (2, True)
    with Hub() as hub:
        run(arguments(hub), log)
    assert [row["id"] for row in rows_of(out)] == [f"d{n}" for n in range(40)]
    assert len(log.read_text().splitlines()) <= 40 + 2 * 4


def test_progress_is_told_and_added_up_over_runs(source: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    engine = EngineConfig("scripted")
    synthesize(
        Source(str(source)), tmp_path / "out", SynthesizerConfig("scripted"), engine=engine, on_progress=seen.append
    )
    assert (seen[-1].documents, seen[-1].rows, seen[-1].total) == (40, 40, 40)
    assert all(before.documents <= after.documents for before, after in zip(seen, seen[1:], strict=False))


def test_a_range_of_shards_leaves_the_others(source: Path, tmp_path: Path) -> None:
    engine, config, out = EngineConfig("scripted"), SynthesizerConfig("scripted"), tmp_path / "out"

    def work(shards: tuple[int, int | None]) -> tuple[bool, int]:
        result = synthesize(Source(str(source)), out, config, engine=engine, shard_rows=10, shards=shards)
        return result.finished, result.stats["total_documents"]

    assert work((1, 2)) == (False, 10)
    assert work((2, None)) == (False, 30)
    assert not (out / "pairs").exists()
    assert work((0, 1)) == (True, 40)
    assert [row["id"] for row in rows_of(out)] == [f"d{n}" for n in range(40)]


def test_a_lost_answer_is_no_death(tmp_path: Path, source: Path) -> None:
    from test_defects import Forgetful

    engine = EngineConfig("scripted", {"max_in_flight": 5})
    shared_engine(EngineKey(engine, "losing"), lambda key: Forgetful())
    with pytest.raises(EngineError, match="did not answer every chain"):
        synthesize(Source(str(source)), tmp_path / "out", SynthesizerConfig("losing"), engine=engine)


def test_a_folder_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        synthesize(
            Source(str(source)),
            tmp_path / "file" / "out",
            SynthesizerConfig("scripted"),
            engine=EngineConfig("scripted"),
        )


def test_the_statistics_say_what_the_rows_say_and_what_the_workers_cost(tmp_path: Path) -> None:
    moods = {3: "Please fail.", 8: "Just ramble.", 15: "Stay silent.", 21: "Be cut off.", 30: " "}
    source, out = documents(tmp_path / "texts.jsonl", 40, special=moods), tmp_path / "out"
    run(command(source, out, *scripted(latency=0.02), "--model", "scripts:moody", "--shard-rows", 5, "--workers", 2))
    found, rows = stats(out), [row["synthesis"] for row in rows_of(out)]
    assert found["source_rows"] == found["total_documents"] == 40
    for status, number in found["documents"].items():
        of_it = [row for row in rows if row["status"] == status]
        assert number == len(of_it)
        assert found["prompt_tokens_by_status"][status] == sum(row["prompt_tokens"] for row in of_it)
        assert found["output_tokens_by_status"][status] == sum(row["output_tokens"] for row in of_it)
    assert {status for status, number in found["documents"].items() if number} == {"ok", "no_pairs", "empty", "failed"}
    assert found["rejected"] == Counter(rejected["reason"] for row in rows for rejected in row["rejected"])
    assert found["pairs"] == sum(len(row["pairs"]) for row in rows_of(out)) > 30
    assert found["computed_tokens"] == found["prompt_tokens"] - found["cached_tokens"]
    assert found["output_tokens_per_second"] == pytest.approx(found["output_tokens"] / found["seconds"], rel=0.01)
    overall = found["output_tokens"] / found["engine_seconds"]
    assert found["output_tokens_per_engine_second"] == pytest.approx(overall, rel=0.01)
    assert found["engine_seconds"] == pytest.approx(sum(worker["engine_seconds"] for worker in found["workers"]))
    assert found["output_tokens"] == sum(worker["output_tokens"] for worker in found["workers"])


@pytest.mark.parametrize(
    ("out", "options"),
    [("ftp://host/corpus", ()), ("hf://datasets/user/name", ("--dry-run",)), ("memory://corpus", ("--workers", "0"))],
)
def test_a_url_cannot_be_worked_on(source: Path, tmp_path: Path, out: str, options: tuple[str, ...]) -> None:
    arguments = command(source, Path("/"), *scripted(), *options)
    arguments[arguments.index("/")] = out
    process = run_process(arguments, cwd=tmp_path)
    assert process.returncode == 1
    assert (
        f"not at {out.partition('://')[0]}://" in process.stderr and "hf://buckets/NAMESPACE/BUCKET" in process.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]


def test_info_follows_a_running_job_from_another_process(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(command(source, out, *scripted(latency=2.0), "--shard-rows", 10, "--workers", 2))
    assert until(lambda: list(out.glob(".hfsynth/sessions/*.json")), process)
    info = [sys.executable, "-m", "hfsynth", "info", str(out)]
    shown = json.loads(run_process([*info, "--json"], check=True).stdout)
    assert shown["finished"] is False
    assert shown["progress"]["total_rows"] == 40
    watched = run_process([*info, "--watch"], check=True)
    assert ended(process)[0] == 0
    assert "of 40 rows" in watched.stderr
    assert "Documents  40: 40 ok" in watched.stdout
