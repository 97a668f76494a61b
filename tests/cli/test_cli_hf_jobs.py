"""`--launcher hf-jobs` and `hfsynth jobs` from the shell: the Hub and its jobs on the loopback, the corpus on an S3."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from loopback_hub.jobs import Job
from loopback_hub.server import Hub

import hfsynth
from hfsynth.core.stores import open_store

DOCUMENTS = 48
CARD = f"---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: {DOCUMENTS}\n    num_bytes: 1\n---\n"
PROGRAM = """
from hfsynth.job.hf_jobs import crew
crew.EVERY = 0.3
from hfsynth.cli.app import main
main()
"""
RAW = [{"id": f"d{n}", "text": f"Lighthouse {n} was lit every evening by its keeper."} for n in range(DOCUMENTS)]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        rows = "".join(json.dumps(row) + "\n" for row in RAW)
        running.commit("user/raw", {"train.jsonl": rows.encode(), "README.md": CARD.encode()})
        yield running


@pytest.fixture
def out(bucket: str) -> str:
    return f"{bucket}/corpora/corpus"


def recipe(out: str | Path, latency: float = 0.0) -> list[str]:
    engine = ["--engine", "scripted", "--model", "scripted", "--engine-arg", f"latency={latency}"]
    limits = ["--engine-arg", "max_in_flight=2", "--shots", "2", "--shard-rows", "4"]
    return ["synthesize", "user/raw", str(out), *engine, *limits]


def asked(*options: object) -> list[str]:
    return ["--launcher", "hf-jobs", "--flavor", "cpu-basic", *map(str, options)]


class Shell:
    """Where commands are given, with one home and one Hub."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self._hub, self.environment = hub, hub.env(folder)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return self._hub.start([sys.executable, "-c", PROGRAM, *map(str, arguments)], self.environment)

    def run(self, *arguments: object, code: int = 0) -> str:
        return self.ended(self.start(*arguments), code)

    def ended(self, process: subprocess.Popen[str], code: int = 0) -> str:
        told, errors = process.communicate(timeout=600)
        assert process.returncode == code, errors
        for secret in (self._hub.token, "loopback-secret"):
            assert secret not in told + errors
        assert "Traceback" not in errors, errors
        return told if code == 0 else errors


@pytest.fixture
def shell(hub: Hub, bucket: str, tmp_path: Path) -> Shell:
    """Return a shell that has the variables of the bucket."""
    return Shell(hub, tmp_path)


def wait(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def records(out: str) -> int:
    return sum("/records/" in entry.key for entry in open_store(out).list(".hfsynth/"))


def pairs(out: str) -> Mapping[str, bytes]:
    store = open_store(out)
    return {entry.key.rpartition("/")[2]: store.get(entry.key) for entry in store.list("pairs/")}


def local_pairs(shell: Shell, folder: Path) -> Mapping[str, bytes]:
    shell.run(*recipe(folder), "--workers", 0, "--quiet")
    return {path.name: path.read_bytes() for path in (folder / "pairs").iterdir()}


def secrets_of(job: Job) -> dict[str, str]:
    found: dict[str, str] = job.spec["secrets"]
    return found


@pytest.mark.long
def test_a_corpus_is_made_by_jobs_that_end_and_a_caller_that_is_killed(
    hub: Hub, shell: Shell, out: str, tmp_path: Path
) -> None:
    call = [*recipe(out, 5.0), *asked("--jobs", 3, "--timeout", "10m", "--max-cost", 1, "--quiet")]
    hub.jobs.limits["0"] = 12.0
    first = shell.start(*call)
    wait(lambda: len(hub.jobs.all) >= 3 and records(out), first)
    hub.jobs.end(hub.jobs.at(1)[0])
    wait(lambda: len(hub.jobs.at(0)) == len(hub.jobs.at(1)) == 2, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert len(hub.jobs.all) == 5 and len(hub.jobs.alive()) == 3
    told = shell.run(*call)
    assert f"{out} (finished)" in told and len(hub.jobs.all) == 5 and not hub.jobs.alive()
    assert [job.message for job in hub.jobs.at(0)] == ["Job timeout", None]
    assert pairs(out) == local_pairs(shell, tmp_path / "local")
    assert not hub.lines(r"^GET /api/jobs/user/"), "one listing follows them all"
    for job in hub.jobs.all:
        assert job.arguments == ["work", out, "--share", f"{job.labels['place']}/3"]
        given = {"AWS_ACCESS_KEY_ID", "AWS_ALLOW_HTTP", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_REGION"}
        assert secrets_of(job).keys() == {*given, "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"}
    listed = json.loads(shell.run("jobs", out, "--json"))["jobs"]
    assert [job["place"] for job in listed] == [0, 0, 1, 1, 2]
    starts = len(hub.lines("^POST /api/jobs/user$"))
    for again in (call, ["work", out, *asked("--jobs", 2)]):
        assert "nothing was left to do" in shell.run(*again)
    assert len(hub.lines("^POST /api/jobs/user$")) == starts


def test_jobs_are_left_to_it_listed_and_cancelled(hub: Hub, shell: Shell, out: str) -> None:
    assert shell.run("jobs", out) == f"No job has worked at {out}.\n"
    told = shell.run(*recipe(out, 60.0), *asked("--jobs", 2, "--detach"))
    assert "2 of 2 run; $0.01 so far, $0.09 at most." in told and told.count("running") == 2
    with_work = shell.run("work", out, *asked("--jobs", 2, "--detach", "--quiet"))
    assert "2 of 2 run" in with_work and len(hub.jobs.all) == 2
    follower = shell.start("work", out, *asked("--jobs", 2))
    wait(lambda: len(hub.lines(r"^GET /api/jobs/user\?")) > 8, follower)
    told = shell.run("jobs", out, "--cancel")
    assert "2 jobs cancelled." in told and told.count("canceled") == 2 and "0 of 2 run" in told
    assert "The jobs were cancelled by hfsynth jobs --cancel." in shell.ended(follower, 1)
    assert len(hub.jobs.all) == 2 and not hub.jobs.alive()


def test_a_dry_run_shows_what_would_be_started_and_its_price(hub: Hub, shell: Shell, out: str, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.json"
    tuned.write_text(json.dumps({"prediction": {"documents_per_hour": {"value": 6.0, "low": 5.0, "high": 8.0}}}))
    dry = [*asked("--flavor", "a10g-largex2", "--jobs", 2, "--timeout", "1h", "--max-cost", 5), "--dry-run"]
    shown = json.loads(shell.run(*recipe(out), *dry, "--tuned", tuned, "--workers", 1))["hf_jobs"]
    command = ["hfsynth", "work", out, "--share", "0/2", "--workers", "1"]
    assert shown["command"] == command and shown["to_start"] == 2
    assert shown["installs"] == f"hfsynth[stores]=={hfsynth.__version__}" and "HF_TOKEN" in shown["secrets"]
    assert shown["cost"] == {
        "an_hour_each": "$3.00",
        "an_hour": "$6.00",
        "at_most_each": "$3.00",
        "at_most_to_start": "$6.00",
        "earlier_jobs_at_most": "$0.00",
        "max_cost": "$5.00",
        "within_max_cost": False,
        "predicted": {
            "documents_an_hour_each": 12,
            "hours": 2.0,
            "job_hours": 4.0,
            "cost": "$12.00",
            "cost_from": "$9.00",
            "cost_to": "$14.40",
        },
    }
    assert not hub.jobs.all and not list(open_store(out).list())
    assert "more than --max-cost 5" in shell.run(*recipe(out), *dry[:-1], code=2) and not hub.jobs.all


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--flavor", "h100"], "There is no hardware 'h100'. There are:\n  cpu-basic"),
        (["--timeout", "soon"], "'soon' is no time limit of a job."),
        (["--max-cost", "0"], "A bill of $0 pays for no job."),
        (["--package", "dist/hfsynth.whl"], "A job cannot install 'dist/hfsynth.whl'."),
        (["--share", "0/2"], "Jobs write the pairs of all shards"),
        (["--launcher", "local", "--jobs", "2"], "Options of HF Jobs were given, and another launcher."),
        (["--model", "."], "The model . is a folder of this machine."),
        (["--base-url", "http://localhost:8000/v1", "--engine", "server"], "is this machine's own."),
    ],
)
def test_what_cannot_be(hub: Hub, shell: Shell, out: str, options: list[str], message: str) -> None:
    assert message in shell.run(*recipe(out), *asked(), *options, code=2)
    assert not hub.jobs.all and not list(open_store(out).list())


def test_what_jobs_cannot_reach(shell: Shell, out: str, tmp_path: Path) -> None:
    assert "share no folder with this one" in shell.run(*recipe(tmp_path / "here"), *asked(), code=2)
    assert "share no folder with this one" in shell.run("jobs", tmp_path, code=2)
    (tmp_path / "raw.jsonl").write_text(json.dumps(RAW[0]))
    here = ["synthesize", tmp_path / "raw.jsonl", out, *recipe(out)[3:]]
    assert "lies on this machine" in shell.run(*here, *asked(), code=2)
    assert "describes no job" in shell.run("work", out, *asked(), code=1)
    for name in [name for name in shell.environment if name.startswith("AWS_")]:
        del shell.environment[name]
    assert "no variable AWS_… is set" in shell.run(*recipe(out), *asked(), code=2)


def test_without_a_token_nothing_is_done(hub: Hub, out: str, tmp_path: Path) -> None:
    shell = Shell(hub, tmp_path)
    del shell.environment["HF_TOKEN"]
    assert "Log in: hf auth login" in shell.run("jobs", out, code=1)
    assert "Log in: hf auth login" in shell.run(*recipe(out), *asked(), code=1)
