"""HF Jobs by the real client on the loopback Hub, where a job is a process: starts, ends, bills, callers killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import TESTS, command, documents, parts, run, stats
from loopback_hub.faults import Fault
from loopback_hub.server import Hub
from seeds import EVERYTHING

import hfsynth
from hfsynth.core.config import EngineConfig
from hfsynth.core.errors import ConfigError
from hfsynth.corpus.folder import Corpus
from hfsynth.job.hf_jobs.api import RemoteJob
from hfsynth.job.hf_jobs.crew import Order
from hfsynth.job.hf_jobs.launch import variables_for
from hfsynth.job.hf_jobs.terms import (
    Hardware,
    chosen_hardware,
    hourly,
    installed,
    micro_dollars,
    money,
    passed_on,
    seconds_of,
)
from hfsynth.job.shards import record_paths

DOCUMENTS = 96
STARTS, LISTINGS = r"^POST /api/jobs/user$", r"^GET /api/jobs/user\?"
CPU, GPUS = Hardware("cpu-basic", "2 vCPU", 0, 10_020), Hardware("a10g-largex2", "12 vCPU", 2, 3_000_000)
SCRIPTED = EngineConfig("scripted")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return documents(tmp_path_factory.mktemp("texts") / "texts.jsonl", DOCUMENTS)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the corpus that one process makes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(command(source, out, *options(), "--workers", 0))
    return out


def options(latency: float = 0.0) -> tuple[object, ...]:
    engine = ("--engine", "scripted", "--model", "scripted", "--engine-arg", f"latency={latency}")
    return (*engine, "--engine-arg", "max_in_flight=2", "--shots", 2, "--shard-rows", 4)


def described(source: Path, out: Path, latency: float) -> Path:
    run(command(source, out, *options(latency), "--describe"))
    return out


def call(hub: Hub, folder: Path, out: Path, **asked: object) -> subprocess.Popen[str]:
    """Start whoever looks after jobs."""
    environment = {**hub.env(folder), "PYTHONPATH": os.pathsep.join((str(TESTS), *filter(None, sys.path)))}
    return hub.start([sys.executable, str(TESTS / "scripts_hf_jobs.py"), str(out), json.dumps(asked)], environment)


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors
    assert "Traceback" not in errors and "hf_loopback" not in errors, errors
    return errors


def wait(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def done(out: Path) -> int:
    return len(record_paths(Corpus(out).parts))


# --- what is asked for and what it costs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("2H", 7200), (" 1d ", 86400)]
)
def test_time_limits(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "0", "-5m", "2 weeks", "1e3", "8d", "½h", "1h30m", "nan"])
def test_what_is_no_time_limit(text: str) -> None:
    with pytest.raises(ConfigError, match="time limit") as error:
        seconds_of(text)
    assert "--timeout" in error.value.hint


def test_prices_are_rounded_against_us() -> None:
    assert hourly(167, "minute") == 10_020 and hourly(1, "second") == 3600 and hourly(5, "hour") == 5
    assert CPU.most(1) == 167 and CPU.most(61) == 334 and CPU.most(3600) == 10_020
    assert money(10_020) == "$0.02" and money(1_234_567_890) == "$1,234.57" and money(0) == "$0.00"
    assert micro_dollars(0.1) == 100_000 and micro_dollars(1e-7) == 0
    with pytest.raises(ConfigError, match="fortnight"):
        hourly(1, "fortnight")


@pytest.mark.parametrize("flavor", [None, "h100"])
def test_a_flavor_that_does_not_exist_is_answered_with_those_that_do(flavor: str | None) -> None:
    with pytest.raises(ConfigError, match=r"a10g-largex2 +\$3.00 an hour") as error:
        chosen_hardware(flavor, [CPU, GPUS])
    assert "--flavor" in error.value.hint


@pytest.mark.parametrize(
    ("engine", "mined", "hardware", "package", "expected"),
    [
        ("vllm", False, GPUS, None, f"hfsynth[vllm,stores]=={hfsynth.__version__}"),
        ("vllm", False, CPU, None, f"hfsynth[cpu,stores]=={hfsynth.__version__}"),
        ("server", False, CPU, None, f"hfsynth[server,stores]=={hfsynth.__version__}"),
        ("scripted", False, CPU, None, f"hfsynth[stores]=={hfsynth.__version__}"),
        ("vllm", True, GPUS, None, f"hfsynth[stores]=={hfsynth.__version__}"),
        (
            "vllm",
            False,
            GPUS,
            "https://a.b/hfsynth-1-py3-none-any.whl",
            "hfsynth[vllm,stores] @ https://a.b/hfsynth-1-py3-none-any.whl",
        ),
        ("vllm", False, GPUS, "git+https://a.b/c.git@main", "hfsynth[vllm,stores] @ git+https://a.b/c.git@main"),
        ("vllm", False, GPUS, "hfsynth[vllm]>=2,<3", "hfsynth[vllm]>=2,<3"),
    ],
)
def test_what_a_job_installs(engine: str, mined: bool, hardware: Hardware, package: str | None, expected: str) -> None:
    assert installed(EngineConfig(engine), mined, hardware, package) == expected


@pytest.mark.parametrize("package", ["dist/hfsynth.whl", "torch", "http://a.b/c.whl", "hfsynth; rm", ""])
def test_what_a_job_cannot_install(package: str) -> None:
    with pytest.raises(ConfigError, match="cannot install"):
        installed(SCRIPTED, False, CPU, package)


def test_what_is_passed_on_as_secrets() -> None:
    here = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_REGION": "",
        "AWS_PROFILE": "me",
        "AWS_CA_BUNDLE": "/etc/ssl",
        "AWS_SHARED_CREDENTIALS_FILE": "/home/me",
        "HFSYNTH_S3_KEY": "key",
        "HFSYNTH_API_KEY": "sk",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/me",
        "HOME": "/home/me",
    }
    assert passed_on("s3://b/c", SCRIPTED, here) == {"AWS_ACCESS_KEY_ID": "id"}
    assert passed_on("hf://buckets/me/b", SCRIPTED, here) == {"AWS_ACCESS_KEY_ID": "id", "HFSYNTH_S3_KEY": "key"}
    assert passed_on("s3://b/c", EngineConfig("server"), here) == {"AWS_ACCESS_KEY_ID": "id", "HFSYNTH_API_KEY": "sk"}
    with pytest.raises(ConfigError, match="GOOGLE_"):
        passed_on("gs://b/c", SCRIPTED, here)


def test_googles_key_is_passed_on_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.json").write_text('{"type": "service_account"}')
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "key.json"))
    found = passed_on("gs://b/c", SCRIPTED, variables_for("gs://b/c"))
    assert found == {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"type": "service_account"}'}


def order(**given: Any) -> Order:  # noqa: ANN401
    plain: dict[str, Any] = {"out": "s3://b/c/", "plan": {"a": 1}, "number": 2, "hardware": CPU, "seconds": 60}
    return Order(**{**plain, "installs": "hfsynth", "secrets": {"HF_TOKEN": "hf_secret"}, **given})


def test_labels_are_few_letters_and_say_which_job_it_is() -> None:
    labels = order().start(1).labels
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,100}", text) for text in (*labels, *labels.values()))
    assert labels["place"] == "1" and labels == order(out="s3://b/c").start(1).labels
    assert order(plan={"a": 2}).job != order().job != order(out="s3://b/d").job


def test_secrets_are_never_shown() -> None:
    assert "hf_secret" not in repr(order()) + repr(order().start(0))


def test_what_a_job_costs() -> None:
    labels = {"most": "1000", "price": "6000", "place": "3"}
    job = RemoteJob("1", "", "RUNNING", "", "cpu-basic", labels, 61)
    assert (job.alive, job.place, job.cost, job.so_far) == (True, 3, 1000, 200)
    ended = RemoteJob("1", "", "ERROR", "", "cpu-basic", labels, 61)
    assert (ended.alive, ended.cost) == (False, 200)
    assert RemoteJob("1", "", "ERROR", "", "cpu-basic", labels, None).cost == 1000
    assert RemoteJob("1", "", "PAUSED", "", "cpu-basic", {}).alive
    assert RemoteJob("1", "", "ERROR", "", "cpu-basic", {"place": "x"}).place == -1


# --- jobs at work -------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.skipif(not EVERYTHING, reason="the walk on a store takes the same road: test_cli_hf_jobs")
def test_three_jobs_of_which_one_runs_out_of_time_and_one_is_cancelled_and_the_caller_is_killed(
    hub: Hub, tmp_path: Path, source: Path, whole: Path
) -> None:
    out = described(source, tmp_path / "out", 3.0)
    hub.jobs.limits["0"] = 8.0
    first = call(hub, tmp_path, out, jobs=3, timeout="10m")
    wait(lambda: len(hub.jobs.all) >= 3 and done(out) >= 1, first)
    hub.jobs.end(hub.jobs.at(1)[0])
    wait(lambda: len(hub.jobs.at(1)) == 2 and len(hub.jobs.at(0)) == 2, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = [job.id for job in hub.jobs.alive()]
    assert len(hub.lines(STARTS)) == 5 and len(before) == 3 and not (out / "stats.json").exists()
    second = call(hub, tmp_path, out, jobs=3, timeout="10m")
    said = finished(second)
    assert "Going on with 3 jobs that run." in said
    assert len(hub.lines(STARTS)) == 5, "live jobs were adopted and ended by themselves"
    assert [job.stage for job in hub.jobs.all].count("COMPLETED") == 3 and not hub.jobs.alive()
    assert [job.message for job in hub.jobs.at(0)] == ["Job timeout", None]
    assert parts(out) == parts(whole) and stats(out)["documents"] == stats(whole)["documents"]
    assert len(hub.lines(LISTINGS)) > 5 and not hub.lines(r"^GET /api/jobs/user/"), "one listing follows them all"
    for job in hub.jobs.all:
        assert job.arguments[:2] == ["work", str(out)] and job.arguments[3] == f"{job.labels['place']}/3"
        assert job.spec["secrets"] == {"HF_TOKEN": hub.token} and job.spec["attempts"] == 1
        assert job.spec["command"][2:4] == ["--with", f"hfsynth[stores]=={hfsynth.__version__}"]
        assert hub.token not in job.log.read_text()


def test_jobs_that_are_detached_stay(hub: Hub, tmp_path: Path, source: Path, whole: Path) -> None:
    out = described(source, tmp_path / "out", 0.2)
    finished(call(hub, tmp_path, out, jobs=2, detach=True))
    assert len(hub.jobs.all) == 2
    finished(call(hub, tmp_path, out, jobs=2, detach=True))
    assert len(hub.jobs.all) == 2
    finished(call(hub, tmp_path, out, jobs=2))
    assert len(hub.jobs.all) == 2 and parts(out) == parts(whole)


def test_ctrl_c_cancels_every_job(hub: Hub, tmp_path: Path, source: Path) -> None:
    out = described(source, tmp_path / "out", 5.0)
    caller = call(hub, tmp_path, out, jobs=2)
    wait(lambda: len(hub.jobs.alive()) == 2, caller)
    caller.send_signal(signal.SIGINT)
    caller.communicate(timeout=60)
    assert [job.stage for job in hub.jobs.all] == ["CANCELED", "CANCELED"]


def test_jobs_that_get_nothing_done_are_not_replaced_for_ever(hub: Hub, tmp_path: Path, source: Path) -> None:
    out = described(source, tmp_path / "out", 30.0)
    said = finished(call(hub, tmp_path, out, jobs=1, timeout="1s"), 1)
    assert "4 jobs in a row have ended with nothing done" in said and "--timeout" in said
    assert len(hub.jobs.all) == 4 and not hub.jobs.alive()


def test_a_job_that_fails_is_told_with_its_last_words(hub: Hub, tmp_path: Path, source: Path) -> None:
    out = described(source, tmp_path / "out", 0.0)
    source_moved = json.loads((out / ".hfsynth" / "settings.json").read_text())
    (out / ".hfsynth" / "settings.json").write_text(json.dumps({**source_moved, "location": "/nowhere/x.jsonl"}))
    said = finished(call(hub, tmp_path, out, jobs=1), 1)
    assert "No such file or folder: /nowhere/x.jsonl" in said and "exit code: 2" in said


def test_two_callers_at_the_same_time_keep_one_job_a_place(hub: Hub, tmp_path: Path, source: Path, whole: Path) -> None:
    out = described(source, tmp_path / "out", 0.2)
    hub.faults.add(Fault(delay=1.0), match=STARTS, times=None)  # both see that there is none
    callers = [call(hub, tmp_path, out, jobs=2) for _ in range(2)]
    for caller in callers:
        finished(caller)
    assert {job.stage for job in hub.jobs.all} <= {"COMPLETED", "CANCELED"}
    assert [job.stage for job in hub.jobs.all].count("COMPLETED") == 2 and parts(out) == parts(whole)


def test_a_job_that_does_not_end_when_all_is_done_is_cancelled(
    hub: Hub, tmp_path: Path, source: Path, whole: Path
) -> None:
    out = described(source, tmp_path / "out", 0.0)
    caller = call(hub, tmp_path, out, jobs=2)
    wait(lambda: len(hub.jobs.all) == 2, caller)
    os.killpg(hub.jobs.all[1].process.pid, signal.SIGSTOP)  # it has hardly begun
    finished(caller)
    assert [job.stage for job in hub.jobs.all] == ["COMPLETED", "CANCELED"] and parts(out) == parts(whole)


# --- bills --------------------------------------------------------------------------------------------------------


def test_a_bill_that_would_be_too_large_starts_nothing(hub: Hub, tmp_path: Path, source: Path) -> None:
    out = described(source, tmp_path / "out", 1.0)
    said = finished(call(hub, tmp_path, out, jobs=3, flavor="h200", timeout="2h", max_cost=29), 2)
    assert "$30.01 at most" in said and "--max-cost" in said and not hub.jobs.all


def test_no_job_is_started_beyond_the_bill(hub: Hub, tmp_path: Path, source: Path) -> None:
    out = described(source, tmp_path / "out", 30.0)
    caller = call(hub, tmp_path, out, jobs=1, flavor="h200", timeout="1h", max_cost=5.2)
    for number in (1, 2, 3):  # each costs a minute, $0.09, of the $5.01 that it might
        wait(lambda number=number: len(hub.jobs.all) == number, caller)
        hub.jobs.end(hub.jobs.all[-1])
    said = finished(caller, 1)
    assert "All jobs have ended, and another would cost more than --max-cost allows: $0.26 so far" in said
    assert "Job 0 is not started" in said and len(hub.jobs.all) == 3
    said = finished(call(hub, tmp_path, out, jobs=1, flavor="h200", timeout="1h", max_cost=5.2), 2)
    assert "after $0.26 of earlier jobs" in said and len(hub.jobs.all) == 3


def test_a_job_that_ends_before_its_start_is_answered_is_counted_and_replaced(
    hub: Hub, tmp_path: Path, source: Path, whole: Path
) -> None:
    out = described(source, tmp_path / "out", 0.1)
    hub.jobs.limits["0"] = 0
    said = finished(call(hub, tmp_path, out, jobs=1))
    assert "Job 0 has ended (error – Job timeout)." in said and len(hub.jobs.all) == 2
    assert parts(out) == parts(whole)


# --- the wire -----------------------------------------------------------------------------------------------------


def test_a_start_whose_answer_is_lost_is_not_given_twice(hub: Hub, tmp_path: Path, source: Path, whole: Path) -> None:
    out = described(source, tmp_path / "out", 0.1)
    hub.faults.add(Fault(drop="after"), match=STARTS)
    hub.faults.add(Fault(status=502, carried_out=True), match=STARTS, nth=2)
    hub.faults.add(Fault(status=503), match=STARTS, nth=3)
    finished(call(hub, tmp_path, out, jobs=3))
    assert len(hub.lines(STARTS)) == 4 and sorted(job.labels["place"] for job in hub.jobs.all) == ["0", "1", "2"]
    assert parts(out) == parts(whole)


def test_listings_are_read_to_the_last_page(hub: Hub, tmp_path: Path, source: Path, whole: Path) -> None:
    hub.api.page_size = 1
    out = described(source, tmp_path / "out", 0.1)
    finished(call(hub, tmp_path, out, jobs=3, detach=True))
    finished(call(hub, tmp_path, out, jobs=3))
    assert len(hub.jobs.all) == 3 and hub.lines(r"cursor=2") and parts(out) == parts(whole)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(status=402, message="Pre-paid credit balance is insufficient"), "cannot pay for jobs: Pre-paid"),
        (Fault(status=403, message="Jobs are not enabled"), "may not run jobs of user: Jobs are not enabled"),
        (Fault(status=400, message="Labels are too long"), "The Hub refused the job: Labels are too long"),
    ],
)
def test_what_the_hub_refuses_is_told(hub: Hub, tmp_path: Path, source: Path, fault: Fault, expected: str) -> None:
    out = described(source, tmp_path / "out", 0.1)
    hub.faults.add(fault, match=STARTS)
    assert expected in finished(call(hub, tmp_path, out, jobs=2), 1)
    assert not hub.jobs.all


def test_without_a_token_nothing_is_asked(hub: Hub, tmp_path: Path, source: Path) -> None:
    out = described(source, tmp_path / "out", 0.1)
    environment = {**hub.env(tmp_path, token=""), "PYTHONPATH": os.pathsep.join((str(TESTS), *filter(None, sys.path)))}
    caller = hub.start([sys.executable, str(TESTS / "scripts_hf_jobs.py"), str(out), "{}"], environment)
    assert "There is no token to start jobs with.\nLog in: hf auth login" in finished(caller, 1)
    assert not hub.requests


def test_jobs_of_another_recipe_are_in_the_way(hub: Hub, tmp_path: Path, source: Path) -> None:
    out = described(source, tmp_path / "out", 5.0)
    finished(call(hub, tmp_path, out, jobs=1, detach=True))
    (hub.jobs.all[0].spec["labels"])["hfsynth"] = "another"
    said = finished(call(hub, tmp_path, out, jobs=1), 1)
    assert "jobs of another recipe" in said and f"hfsynth jobs {out} --cancel" in said and len(hub.jobs.all) == 1
