"""A job in an object store: the bytes of a local one, whatever is killed, stopped or lost."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from jobs import children, command, documents, ended, run, scripted, start, until
from seeds import EVERYTHING, SEED
from stores import ENGINE, job, left_over, pairs_of, stats_of

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.stores import Entry, FolderStore, open_store
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.source import Source
from hfsynth.job import store_keys as keys
from hfsynth.job.begin import job_plan, open_job
from hfsynth.job.check import check
from hfsynth.job.child_process import ChildProcess
from hfsynth.job.join import work
from hfsynth.job.launcher import LocalLauncher
from hfsynth.job.leases import STALE_AFTER, Holder, Leases
from hfsynth.job.opening import open_site
from hfsynth.job.progress import describe, follow, inspect
from hfsynth.job.run import describe_job, synthesize
from hfsynth.job.settings import JobSettings
from hfsynth.job.spec import JobSpec
from hfsynth.job.store_site import StoreSite

KILLS = int(os.environ.get("HFSYNTH_TEST_KILLS", "20" if EVERYTHING else "5"))
IN_FLIGHT, SHOTS = 4, 2
DOCUMENTS = 35 * KILLS

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the tests find processes in /proc")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source, and the corpus that an uninterrupted run made of it."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    documents(folder / "texts.jsonl", DOCUMENTS)
    run(command(folder / "texts.jsonl", folder / "out", *options(0.0), "--workers", 0))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return documents(tmp_path / "texts.jsonl", 30)


def options(latency: float) -> tuple[object, ...]:
    return (*scripted(latency=latency, in_flight=IN_FLIGHT), "--shots", SHOTS, "--shard-rows", 40)


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def redone(log: Path) -> int:
    """Return how often a chain was begun again."""
    begun = Counter(call for call in calls(log) if "|" not in call)
    return sum(begun.values()) - len(begun)


def check_result(uninterrupted: Path, out: str) -> None:
    assert pairs_of(out) == pairs_of(uninterrupted / "out")
    assert stats_of(out)["documents"] == stats_of(uninterrupted / "out")["documents"]
    assert left_over(out) == []


def wait_at_random(chance: random.Random, process: subprocess.Popen[str], log: Path) -> bool:
    """Wait for a moment in the work, or now and then in the start-up; return whether the process is still there."""
    before = len(calls(log))
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0, 2.5))
        return process.poll() is None
    begun = until(lambda: len(calls(log)) > before, process)
    time.sleep(chance.uniform(0, 0.25))
    return begun and process.poll() is None


# --- kills --------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_command_is_killed_again_and_again(uninterrupted: Path, bucket: str, tmp_path: Path) -> None:
    out, log, chance = f"{bucket}/corpus", tmp_path / "calls", random.Random(SEED)
    arguments = command(uninterrupted / "texts.jsonl", Path(out), *options(0.05))
    kills, process = 0, start(arguments, log)
    while kills < KILLS and wait_at_random(chance, process, log):
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = start(arguments, log)
    code, _, errors = ended(process)
    assert (code, kills) == (0, KILLS), errors or "it was finished too early to be killed so often"
    check_result(uninterrupted, out)
    assert redone(log) <= kills * 2 * IN_FLIGHT  # what was in flight, and what an orphan began before it was ended


@pytest.mark.long
def test_the_worker_is_killed_again_and_again(uninterrupted: Path, bucket: str, tmp_path: Path) -> None:
    out, log, chance = f"{bucket}/corpus", tmp_path / "calls", random.Random(SEED + 1)
    arguments = command(  # slow, so that the other worker does not end all the work while a killed one starts again
        uninterrupted / "texts.jsonl", Path(out), *options(0.4), "--max-engine-restarts", KILLS, "--workers", 2
    )
    process, kills = start(arguments, log), 0
    while kills < KILLS and until(lambda: children(process), process) and wait_at_random(chance, process, log):
        worker = chance.choice(children(process) or [0])
        if worker:
            os.kill(worker, signal.SIGKILL)
            kills += 1
            until(lambda worker=worker: worker not in children(process), process)
    code, _, errors = ended(process)
    assert code == 0, errors
    assert kills >= KILLS, "it was finished too early to be killed so often"
    check_result(uninterrupted, out)
    assert redone(log) <= kills * IN_FLIGHT


@pytest.mark.long
def test_machines_are_lost_with_all_that_they_had(
    uninterrupted: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, log, chance = f"{bucket}/corpus", tmp_path / "calls", random.Random(SEED + 2)
    arguments = command(uninterrupted / "texts.jsonl", Path(out), *options(0.25), "--workers", 0)
    kept = 0
    for machine in range(3):
        monkeypatch.setenv("TMPDIR", str(tmp_path / f"machine{machine}"))
        (tmp_path / f"machine{machine}").mkdir()
        process = start(arguments, log)
        until(lambda: any(segments(out)), process)
        time.sleep(chance.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept = max(kept, sum(gzip.decompress(open_store(out).get(key)).count(b'{"end"') for key in segments(out)))
    begun = sum("|" not in call for call in calls(log))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run(arguments, log)
    check_result(uninterrupted, out)
    assert kept and redone(log) <= begun - kept, "what was sent is not done again"


def segments(out: str) -> list[str]:
    return [entry.key for entry in open_store(out).list(keys.SEGMENTS)]


def test_no_view_of_the_store_is_left_on_this_machine(
    source: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    job(source, f"{bucket}/corpus")
    with pytest.raises(OutputError, match="another recipe"):
        job(source, f"{bucket}/corpus", config=SynthesizerConfig("scripted", shots=2, seed=4))
    assert [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == []


# --- a sleeper ----------------------------------------------------------------------------------------------------


def test_a_worker_that_slept_finds_its_shards_done(bucket: str, tmp_path: Path) -> None:
    out, log = f"{bucket}/corpus", tmp_path / "calls"
    texts = documents(tmp_path / "texts.jsonl", 48)
    engine = EngineConfig("scripted", {"max_in_flight": 2, "latency": 0.2})
    config = SynthesizerConfig("scripts_kill:noted", shots=2)
    local = synthesize(Source(str(texts)), tmp_path / "local", config, engine=ENGINE, shard_rows=8)
    with open_site(out) as site:
        opened = open_job(Source(str(texts)), site, config, engine, shard_rows=8, gpu=None)
        JobSettings(engine).write(site.corpus, str(texts))
        spec = JobSpec(opened.source, opened.opened.revision, site.url, opened.config, engine, 8, stale_after=2.0)
    sleeper = worker(spec, "sleeper", log)
    wait_for(lambda: len(calls(log)) > 4 and any(claims(out)))
    os.kill(sleeper.pid, signal.SIGSTOP)
    other = worker(spec, "other", tmp_path / "others")
    assert other.wait(120) == 0
    assert {entry.key for entry in open_store(out).list(keys.RECORDS)} == {keys.record(n) for n in range(6)}
    os.kill(sleeper.pid, signal.SIGCONT)
    assert sleeper.wait(120) == 0
    sleeper.kill(), other.kill()  # closes their inputs
    result = synthesize(Source(str(texts)), out, config, engine=ENGINE, shard_rows=8)
    assert pairs_of(out) == pairs_of(local.root)
    assert result.stats["total_documents"] == 48 and left_over(out) == []
    assert not claims(out)


def worker(spec: JobSpec, name: str, log: Path) -> ChildProcess:
    return ChildProcess(
        "hfsynth.job.worker_process",
        {"worker": name, "spec": spec.to_dict()},
        environment={"HFSYNTH_TEST_CALLS": str(log)},
    )


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def claims(out: str) -> list[str]:
    return [entry.key for entry in open_store(out).list(keys.CLAIMS)]


# --- poison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "workers"), [("raising", 0), ("raising", 2), ("exiting", 1), ("exiting", 2)])
def test_a_document_that_kills_is_found(bucket: str, tmp_path: Path, script: str, workers: int) -> None:
    texts = documents(tmp_path / "texts.jsonl", 30, special={13: "Text number 0013 is poison."})
    out = f"{bucket}/corpus"
    arguments = (*scripted(script), "--shots", 3, "--shard-rows", 6, "--workers", workers)
    run(command(texts, Path(out), *arguments), tmp_path / "calls")
    found = stats_of(out)
    assert found["documents"]["failed"] == found["rejected"]["engine"] == 1
    assert found["total_documents"] == 30 and found["documents"]["ok"] == 29
    assert found["engine_restarts"] in range(3, 3 + max(1, workers))


def test_what_a_dead_machine_had_in_flight_is_known(bucket: str, tmp_path: Path) -> None:
    with open_site(f"{bucket}/corpus") as lost, open_site(f"{bucket}/corpus") as other:
        notes = lost.notes("w1")
        notes.started(3, 0)
        notes.finished(3, 0, [])
        notes.started(3, 1)
        notes.close()
        notes.started(3, 2, shot=1)  # alone: it is known before the engine is asked
        assert other.fetch_journal(3)
        journal = [p for p in (other.corpus.journal / "segments" / "00003").iterdir()]
        assert [path.name for path in journal] == ["w1.jsonl"]
        assert [line.split(b" ")[0] for line in journal[0].read_bytes().splitlines()] == [
            b'{"start":0}',
            b'{"end":0,"results":[]}',
            b'{"start":1}',
            b'{"start":2,"shot":1}',
        ]
        assert not other.fetch_journal(4)


# --- as for a folder ----------------------------------------------------------------------------------------------


def test_it_is_the_corpus_that_a_folder_gets(source: Path, bucket: str, tmp_path: Path) -> None:
    local, there = job(source, tmp_path / "out"), job(source, f"{bucket}/corpus")
    assert there.out == f"{bucket}/corpus" and there.finished and there.worked
    assert pairs_of(there.out) == pairs_of(local.root)
    store = open_store(there.out)
    assert store.get("README.md") == (tmp_path / "out" / "README.md").read_bytes()
    assert json.loads(store.get("synthesizer_config.json")) == json.loads(
        (tmp_path / "out" / "synthesizer_config.json").read_bytes()
    )
    timed = ("second", "workers", "engine_")
    for name, value in local.stats.items():
        assert any(word in name for word in timed) or there.stats[name] == value, name
    manifest = json.loads(store.get(".hfsynth/manifest.json"))
    assert manifest == json.loads(Corpus(tmp_path / "out").manifest.read_bytes())
    again = job(source, there.out)
    assert not again.worked and again.stats == there.stats
    assert check(there.out).finished and check(there.out).damaged == ()
    told = describe(inspect(there.out))
    assert f"{there.out} (finished)" in told and "train 30" in told
    follow(there.out, lambda progress: None)
    plan = job_plan(Source(str(source)), there.out, SynthesizerConfig("scripted", shots=2), engine=ENGINE, shard_rows=4)
    assert (plan["state"], plan["out"], plan["shards_finished"]) == ("finished", there.out, 8)


def test_a_job_is_described_and_joined(source: Path, bucket: str, tmp_path: Path) -> None:
    out, config = f"{bucket}/corpus", SynthesizerConfig("scripted", shots=2)
    with pytest.raises(OutputError, match="describes no job"):
        work(out)
    described = describe_job(Source(str(source)), out, config, engine=ENGINE, shard_rows=4)
    assert not described.finished
    told = describe(inspect(out))
    assert f"{out} (unfinished)" in told and f"hfsynth work {out}" in told and "A kill     loses" in told
    assert check(out).damaged == () and not check(out).finished
    result = work(out, launcher=LocalLauncher(2), share="1/2")
    assert result.finished and work(out).stats == result.stats
    assert pairs_of(out) == pairs_of(job(source, tmp_path / "out").root)


def test_another_recipe_or_another_content_is_refused(source: Path, bucket: str) -> None:
    job(source, f"{bucket}/corpus")
    with pytest.raises(OutputError, match=f"{bucket}/corpus holds the result of another recipe"):
        job(source, f"{bucket}/corpus", config=SynthesizerConfig("scripted", shots=2, seed=1))
    open_store(bucket).put("other/file.txt", b"mine")
    with pytest.raises(OutputError, match="holds no job"):
        job(source, f"{bucket}/other")
    with pytest.raises(ConfigError, match="changed source"):
        job(source, f"{bucket}/corpus", continue_with_changed_source=True)
    with pytest.raises(OutputError, match="needs a folder"):
        Corpus(Path(f"{bucket}/corpus"))
    with pytest.raises(OutputError, match="not at ftp"):
        job(source, "ftp://host/corpus")


@pytest.mark.parametrize("lost", ["pairs/train-00002-of-00008.parquet", "stats.json", ".hfsynth/manifest.json"])
def test_what_is_lost_is_made_again_and_that_alone(
    source: Path, bucket: str, tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, log = f"{bucket}/corpus", tmp_path / "calls"
    monkeypatch.setenv("HFSYNTH_TEST_CALLS", str(log))
    config = SynthesizerConfig("scripts_kill:noted", shots=2)
    job(source, out, config=config)
    before = pairs_of(out)
    log.unlink()
    open_store(out).delete([lost])
    if lost.startswith("pairs"):
        assert check(out).damaged == (f"{lost} is missing",)
        assert inspect(out)["damaged"] == [f"{lost} is missing"]
    assert job(source, out, config=config).worked
    assert pairs_of(out) == before and check(out).damaged == () and left_over(out) == []
    assert len(calls(log)) == (4 if lost.startswith("pairs") else 0)


def test_a_file_that_was_changed_is_found(source: Path, bucket: str) -> None:
    job(source, f"{bucket}/corpus")
    store, key = open_store(f"{bucket}/corpus"), "pairs/train-00000-of-00008.parquet"
    store.put(key, store.get(key)[:-5] + b"wrong")
    assert check(f"{bucket}/corpus").damaged == (f"{key} is damaged",)


def test_texts_that_the_model_writes_anew_have_their_config(source: Path, bucket: str, tmp_path: Path) -> None:
    recipe = tmp_path / "prompt.toml"
    recipe.write_text('[[prompts]]\nuse = "table"\n[[prompts]]\nuse = "faq"')
    options = {"config": SynthesizerConfig("scripts:prompted", prompt_format="chat"), "prompt": str(recipe)}
    local, there = (job(source, out, **options) for out in (tmp_path / "out", f"{bucket}/corpus"))
    assert there.stats["rewritten"] == local.stats["rewritten"] > 0
    key = "rewritten/train-00000-of-00001.parquet"
    assert open_store(there.out).get(key) == (tmp_path / "out" / key).read_bytes()
    assert check(there.out).damaged == ()
    open_store(there.out).delete([key])
    assert job(source, there.out, **options).worked
    assert open_store(there.out).get(key) == (tmp_path / "out" / key).read_bytes()


def test_splits_are_one_job_there_too(bucket: str, tmp_path: Path) -> None:
    rows = {split: [f"Text {n} of {split}." for n in range(size)] for split, size in (("train", 11), ("test", 6))}
    DatasetDict({split: Dataset.from_dict({"text": texts}) for split, texts in rows.items()}).save_to_disk(
        tmp_path / "raw"
    )
    local, there = (
        synthesize(
            Source(str(tmp_path / "raw"), split="all"),
            out,
            SynthesizerConfig("scripted", shots=2),
            engine=ENGINE,
            shard_rows=4,
            launcher=LocalLauncher(2),
        )
        for out in (tmp_path / "out", f"{bucket}/corpus")
    )
    assert pairs_of(there.out) == pairs_of(local.root) and local.stats["total_documents"] == 17
    assert sorted(pairs_of(there.out))[0] == "pairs/test-00000-of-00002.parquet"


def test_a_store_where_two_can_be_first_takes_one_worker(source: Path, tmp_path: Path) -> None:
    class Careless(FolderStore):
        def create(self, key: str, content: bytes) -> bool:
            self.put(key, content)
            return True

    with StoreSite(Careless(tmp_path / "store")) as site, pytest.raises(OutputError, match="If-None-Match"):
        site.require_several()
    with StoreSite(FolderStore(tmp_path / "other")) as site:
        site.require_several()


# --- leases -------------------------------------------------------------------------------------------------------


def far(worker: str) -> Holder:
    return Holder(worker, "far away", 1, "long ago")


def leases_of(site: StoreSite, holder: Holder, stale_after: float = STALE_AFTER) -> Leases:
    return Leases(site.lease_files(holder.worker, stale_after), holder, stale_after=stale_after)


def test_a_lease_is_had_by_one_and_taken_over_from_the_dead_alone(bucket: str) -> None:
    out = f"{bucket}/corpus"
    with open_site(out) as here, open_site(out) as there:
        assert isinstance(here, StoreSite) and isinstance(there, StoreSite)
        one, two = leases_of(here, far("one"), 0.6), leases_of(there, far("two"), 0.6)
        assert one.claim("00000") and not two.claim("00000")
        for _ in range(4):
            one.beat()
            there.look(now=True)
            assert not two.claim("00000")
            time.sleep(0.3)
        deadline = time.monotonic() + 60
        while not two.claim("00000"):
            assert time.monotonic() < deadline
            there.look(now=True)
            time.sleep(0.1)
        assert two.holds("00000") and not one.holds("00000") and two.generation("00000") == 1
        two.release("00000")
        here.look(now=True)
        assert one.claim("00000") and one.generation("00000") == 2
        one.remove("00000")
        assert claims(out) == []
        with one.waiting_for("publish"):
            assert claims(out) == [keys.claim("publish", 0)]
        assert claims(out) == [] and not [e.key for e in open_store(out).list(keys.BEATS) if "one" in e.key]


def test_a_listing_that_is_older_than_a_lease_takes_it_from_nobody(tmp_path: Path) -> None:
    class Old(FolderStore):
        def list(self, prefix: str = "", after: str | None = None) -> Iterator[Entry]:
            return (entry for entry in super().list(prefix, after) if not entry.key.startswith(keys.CLAIMS))

    with StoreSite(Old(tmp_path / "store")) as site, StoreSite(FolderStore(tmp_path / "store")) as there:
        one, two = leases_of(site, far("one"), 0.1), leases_of(there, far("two"), 0.1)
        assert one.claim("00000") and one.holds("00000")
        there.look(now=True)
        assert not two.claim("00000")
        time.sleep(0.3)
        there.look(now=True)
        assert two.claim("00000") and two.holds("00000")
