"""Workers that join a job which its folder describes: shares, what schedulers say of them, kills, who may not join."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import children, documents, ended, journaled, parts, run, scripted, start, stats, until
from jobs import command as synthesize_command
from seeds import EVERYTHING, SEED

import hfsynth
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, ModelError, OutputError, SourceError
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.source import Source
from hfsynth.job.claims import Claims
from hfsynth.job.folder_site import FolderSite
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leases import Holder, Leases
from hfsynth.job.settings import JobSettings
from hfsynth.job.shards import part_path, write_extent
from hfsynth.job.shares import Share

DOCUMENTS = 160
KILLS = 20 if EVERYTHING else 6
IN_FLIGHT = 4
SCRIPT = "scripts_kill:noted"


def work_command(out: Path, *options: object) -> list[str]:
    made = synthesize_command("", out, "--model", SCRIPT, *options)
    return [*made[:3], "work", *made[5:]]


def described(source: Path, out: Path, *, latency: float = 0.0, shard_rows: int = 20) -> None:
    """Describe a job, and start nothing."""
    options = (*scripted(latency=latency, in_flight=IN_FLIGHT), "--shots", 2, "--shard-rows", shard_rows)
    run(synthesize_command(source, out, *options, "--describe"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source, and the corpus that one process made of it."""
    folder = tmp_path_factory.mktemp("whole")
    source = documents(folder / "texts.jsonl", DOCUMENTS)
    options = (*scripted(in_flight=IN_FLIGHT), "--shots", 2, "--shard-rows", 20, "--workers", 0)
    run(synthesize_command(source, folder / "out", *options))
    return folder


# --- the order of a share -----------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(0, 300), st.integers(1, 40))
def test_shares_deal_out_every_shard_once_and_each_comes_to_all(first: int, shards: int, of: int) -> None:
    every = list(range(first, first + shards))
    orders = [list(Share(index, of).order(first, first + shards)) for index in range(of)]
    assert all(sorted(order) == every for order in orders)
    bounds = [order[0] for order in orders if order] + [first + shards] if shards else []
    assert bounds == sorted(bounds)
    own = [end - begin for begin, end in zip(bounds, bounds[1:], strict=False)]
    assert not own or (sum(own) == shards and max(own) - min(own) <= 1)


def test_a_share_comes_first_and_then_what_others_have_left(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    write_extent(corpus, 80, 10)
    corpus.parts.mkdir(parents=True)
    part_path(corpus.parts, 5).with_suffix(".json").write_text("{}")
    site = FolderSite(corpus.root)
    one, two = (
        Claims(site, Leases(corpus.journal / "leases", Holder.this_process()), 10, share=Share(index, 2))
        for index in (0, 1)
    )
    assert [two.next(), two.next(), two.next()] == [4, 6, 7]
    assert [one.next(), two.next(), one.next(), two.next(), one.next()] == [0, 1, 2, 3, None]


def test_where_the_end_is_not_known_there_are_no_shares() -> None:
    order = Share(3, 4).order(7, None)
    assert [next(order), next(order)] == [7, 8]


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/4", "1/0", "", "1/2/3"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        Share.parse(text)
    assert "3/4" in (error.value.hint or "")


# --- what schedulers say ------------------------------------------------------------------------------------------

ARRAY = {"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "4"}
SKYPILOT = {"SKYPILOT_JOB_RANK": "2", "SKYPILOT_NUM_JOBS": "3"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (ARRAY, (2, 4)),
        ({**ARRAY, "SLURM_ARRAY_TASK_STEP": "2"}, (1, 4)),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "11"}, (3, 4)),  # 4,5,8,11: an array with gaps
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, (3, 8)),
        ({**ARRAY, "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (5, 8)),
        ({**ARRAY, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (2, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, None),
        ({"SLURM_ARRAY_TASK_ID": "6"}, None),
        ({**ARRAY, "SLURM_ARRAY_TASK_COUNT": "many"}, None),
        ({"JOB_COMPLETION_INDEX": "5"}, None),
        ({"JOB_COMPLETION_INDEX": "5", "HFSYNTH_SHARES": "6"}, (5, 6)),
        (SKYPILOT, (2, 3)),
        ({**SKYPILOT, "SKYPILOT_NUM_JOBS": "None"}, None),
        ({"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2"}, (1, 2)),
        ({**SKYPILOT, "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2"}, (5, 6)),
        ({**ARRAY, "HFSYNTH_SHARE": "0/9"}, (0, 9)),
        ({**ARRAY, **SKYPILOT}, (2, 4)),
    ],
)
def test_the_share_that_a_scheduler_tells_of(environment: dict[str, str], expected: tuple[int, int] | None) -> None:
    found = Share.found(environment)
    assert (found and (found.index, found.of)) == expected
    assert found is None or found.origin in (*environment, *(f"{a} and {b}" for a in environment for b in environment))


def test_a_share_that_is_given_comes_before_any_other() -> None:
    assert Share.settled("1/3", ARRAY) == Share(1, 3)
    assert Share.settled(None, {}) == Share()
    with pytest.raises(ConfigError, match="I/N"):
        Share.found({"HFSYNTH_SHARE": "a half"})


def sessions(out: Path) -> list[Path]:
    """Return the records of the workers that have begun."""
    return list((out / ".hfsynth" / "sessions").glob("[!.]*.json"))


# --- joining ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_workers_join_and_take_over_from_one_that_is_killed(whole: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "calls"
    described(whole / "texts.jsonl", out, latency=0.05)
    assert not (out / "pairs").exists()
    options = ("--workers", 0)
    killed = start(work_command(out, *options, "--share", "1/3"), log)
    others = [start(work_command(out, *options, "--share", share), log) for share in ("0/3", "2/3")]
    assert until(lambda: journaled(out) >= 6 and len(sessions(out)) == 3, killed)
    killed.kill()
    killed.communicate()
    for process in others:
        code, _, errors = ended(process)
        assert code == 0, errors
    assert parts(out) == parts(whole / "out")
    begun = Counter(line for line in log.read_text().splitlines() if "|" not in line)
    assert len(begun) == DOCUMENTS // 2
    assert sum(begun.values()) - len(begun) <= IN_FLIGHT
    assert sum(stats(out)["documents"].values()) == DOCUMENTS
    assert sorted(one["ended"] for one in stats(out)["workers"]) == ["done", "done", "killed"]


@pytest.mark.long
def test_workers_are_killed_again_and_again(tmp_path: Path) -> None:
    """Three workers, each with a process of its own that its command looks after; any of the six may be killed."""
    source, log, chance = documents(tmp_path / "texts.jsonl", 60 * KILLS), tmp_path / "calls", random.Random(SEED)
    options = (*scripted(in_flight=IN_FLIGHT), "--shots", 2, "--shard-rows", 20, "--workers", 0)
    run(synthesize_command(source, tmp_path / "plain", *options))
    out = tmp_path / "out"
    described(source, out, latency=0.05)
    commands = [work_command(out, "--share", f"{index}/3", "--max-engine-restarts", KILLS) for index in range(3)]
    running = [start(command, log) for command in commands]
    kills = 0
    while kills < KILLS:
        before = journaled(out)
        place = chance.randrange(3)
        if not until(lambda before=before: journaled(out) != before, running[place]):
            break
        time.sleep(chance.uniform(0, 0.3))
        inner = children(running[place])
        if inner and chance.random() < 0.5:
            os.kill(inner[0], signal.SIGKILL)
        else:
            running[place].kill()
            running[place].communicate()
            running[place] = start(commands[place], log)
        kills += 1
    assert kills == KILLS, "it was finished too early to be killed so often"
    for process in running:
        code, _, errors = ended(process)
        assert code == 0, errors
    assert parts(out) == parts(tmp_path / "plain")
    begun = Counter(line for line in log.read_text().splitlines() if "|" not in line)
    assert len(begun) == 30 * KILLS
    assert sum(begun.values()) - len(begun) <= KILLS * IN_FLIGHT
    assert sum(stats(out)["documents"].values()) == 60 * KILLS


def test_a_worker_begins_with_its_share(whole: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "calls"
    described(whole / "texts.jsonl", out)
    environment = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0"}
    os.environ.update(environment)
    try:
        run(work_command(out), log)
    finally:
        for name in environment:
            del os.environ[name]
    begun = [line for line in log.read_text().splitlines() if "|" not in line]
    assert begun[0] == f"Text number {DOCUMENTS * 3 // 4:04} says little."
    assert parts(out) == parts(whole / "out")


def test_a_worker_that_is_asked_to_stop_says_that_the_same_command_goes_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    described(whole / "texts.jsonl", out, latency=0.05)
    process = start([word for word in work_command(out) if word != "--quiet"])
    assert until(lambda: journaled(out) >= 4, process)
    process.send_signal(signal.SIGTERM)
    code, _, errors = ended(process)
    assert code == 143 and "the same command goes on" in errors
    run(work_command(out))
    assert parts(out) == parts(whole / "out")


def test_a_finished_job_is_recognised_and_needs_neither_source_nor_script(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole / "out", out)
    JournalPaths(Corpus(out).journal).settings.unlink()  # as earlier versions left it
    arguments = [word for word in work_command(out) if word not in ("--model", SCRIPT)]
    code, told, errors = ended(start(arguments))
    assert code == 0 and "nothing was left to do" in told, errors


# --- from Python --------------------------------------------------------------------------------------------------

CONFIG = SynthesizerConfig("scripts:quoting", shots=2)
ENGINE = EngineConfig("scripted", {"max_in_flight": 3})


def test_a_job_is_described_and_joined_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = documents(tmp_path / "texts.jsonl", 10)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    plain = hfsynth.synthesize(Source("texts.jsonl"), tmp_path / "plain", CONFIG, engine=ENGINE, shard_rows=4)
    told = hfsynth.describe_job(
        Source("texts.jsonl"), "out", CONFIG, engine=ENGINE, shard_rows=4, grace=7.0, bad_rows="skip"
    )
    assert (told.worked, told.finished) == (False, False)
    settings = JobSettings.read(Corpus(Path("out")))
    assert settings == JobSettings(ENGINE, 3, 7.0, "skip", str(source), str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    joined = hfsynth.work("../out", share="1/2", model="scripts:quoting")
    assert (joined.worked, joined.finished) == (True, True)
    assert parts(tmp_path / "out") == parts(plain.root)
    again = hfsynth.describe_job(Source(str(source)), tmp_path / "out", CONFIG, engine=ENGINE, shard_rows=4)
    assert (again.worked, again.finished) == (False, True)
    assert not hfsynth.work(tmp_path / "out").worked


def test_several_splits_are_joined_too(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    splits = {
        name: Dataset.from_dict({"text": [f"The text {name} {n}." for n in range(rows)]})
        for name, rows in (("train", 5), ("test", 3))
    }
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    source = Source(str(tmp_path / "saved"), split="all")
    plain = hfsynth.synthesize(source, tmp_path / "plain", CONFIG, engine=ENGINE, shard_rows=2)
    hfsynth.describe_job(source, tmp_path / "out", CONFIG, engine=ENGINE, shard_rows=2)
    hfsynth.work(tmp_path / "out", model="scripts:quoting", share="2/3")
    assert parts(tmp_path / "out") == parts(plain.root)


def test_a_folder_gives_no_leave_to_run_code(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 4)
    trusting = EngineConfig("scripted", {}, trust_remote_code=True)
    hfsynth.describe_job(Source(str(source)), tmp_path / "out", CONFIG, engine=trusting)
    assert not JobSettings.read(Corpus(tmp_path / "out")).engine.trust_remote_code
    with pytest.raises(ConfigError, match="cannot choose the script"):
        hfsynth.work(tmp_path / "out")
    with pytest.raises(OutputError, match="another recipe"):
        hfsynth.work(tmp_path / "out", model="scripts:nothing")


def test_a_folder_tells_no_secret(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.journal.mkdir()
    engine = EngineConfig("server", {"base_url": "http://me:secret@host:8000/v1", "concurrency": 3})
    JobSettings(engine).write(corpus, "https://me:secret@host/texts.jsonl?token=secret")
    assert "secret" not in JournalPaths(corpus.journal).settings.read_text()
    found = JobSettings.read(corpus)
    assert (found.engine.arguments["base_url"], found.location) == ("http://host:8000/v1", "https://host/texts.jsonl")


def test_an_engine_that_is_an_object_cannot_be_joined(tmp_path: Path) -> None:
    source = Source(str(documents(tmp_path / "texts.jsonl", 4)))
    engine = hfsynth.ScriptedEngine()
    with pytest.raises(ConfigError, match="an object"):
        hfsynth.describe_job(source, tmp_path / "out", SynthesizerConfig("mine"), engine=engine)
    hfsynth.synthesize(source, tmp_path / "out", SynthesizerConfig("mine"), engine=engine, shards=(1, 2), shard_rows=2)
    with pytest.raises(ConfigError, match="an object"):
        hfsynth.work(tmp_path / "out")
    assert hfsynth.work(tmp_path / "out", engine=engine).finished
    hfsynth.close_engines()


def test_the_source_may_lie_elsewhere_and_must_be_the_same(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 6)
    hfsynth.describe_job(Source(str(source)), tmp_path / "out", CONFIG, engine=ENGINE)
    other = documents(tmp_path / "others.jsonl", 7)
    with pytest.raises(SourceError, match="revision"):
        hfsynth.work(tmp_path / "out", model="scripts:quoting", source=str(other))
    (tmp_path / "elsewhere").mkdir()
    moved = source.rename(tmp_path / "elsewhere" / "texts.jsonl")
    with pytest.raises(SourceError, match="No such file"):
        hfsynth.work(tmp_path / "out", model="scripts:quoting")
    assert hfsynth.work(tmp_path / "out", model="scripts:quoting", source=str(moved)).finished


def test_folders_that_describe_no_job(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as error:
        hfsynth.work(tmp_path)
    assert f"hfsynth synthesize SOURCE {tmp_path} --describe" in (error.value.hint or "")
    with pytest.raises(OutputError, match="not at ftp"):
        hfsynth.work("ftp://host/corpus")
    source = documents(tmp_path / "texts.jsonl", 4)
    hfsynth.describe_job(Source(str(source)), tmp_path / "out", CONFIG, engine=ENGINE)
    path = JournalPaths(Corpus(tmp_path / "out").journal).settings
    path.write_text(json.dumps({**json.loads(path.read_text()), "grace": None, "engine": "vllm"}))
    with pytest.raises(OutputError, match="damaged"):
        hfsynth.work(tmp_path / "out")
    path.unlink()
    with pytest.raises(OutputError, match="earlier version"):
        hfsynth.work(tmp_path / "out")


def test_a_model_beside_the_place_of_description_is_looked_for_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama: Path
) -> None:
    source = documents(tmp_path / "texts.jsonl", 4)
    (tmp_path / "here").mkdir()
    shutil.copytree(tiny_llama, tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    config, engine = SynthesizerConfig("./model", shots=2), EngineConfig("server", {"base_url": "http://localhost:1"})
    hfsynth.describe_job(Source(str(source)), tmp_path / "out", config, engine=engine)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as error:
        hfsynth.work(tmp_path / "out")
    assert str(tmp_path / "here") in (error.value.hint or "")
