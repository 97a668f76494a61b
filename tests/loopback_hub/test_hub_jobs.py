"""HF Jobs on the loopback, as huggingface_hub's own calls see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback_hub.server import READ_TOKEN, Hub

PROGRAM = """
import json, warnings
from huggingface_hub import (
    cancel_job, fetch_job_logs, inspect_job, list_jobs, list_jobs_hardware, run_uv_job, update_job_labels, wait_for_job
)
from huggingface_hub.errors import HfHubHTTPError
warnings.simplefilter("ignore")
told = {"hardware": [one.name for one in list_jobs_hardware()]}
first = run_uv_job("hfsynth", script_args=["--version"], dependencies=["hfsynth"], labels={"a": "1"})
slow = ["synthesize", "user/raw", "out", "--engine", "scripted", "--model", "scripted", "--engine-arg", "latency=60"]
second = run_uv_job("hfsynth", script_args=slow, flavor="cpu-basic", labels={"a": "2"}, timeout="10m")
third = run_uv_job("hfsynth", script_args=slow, flavor="cpu-basic", labels={"a": "1"}, timeout=1)
told["ended"] = [job.status.stage for job in wait_for_job([first.id, third.id])]
told["message"] = inspect_job(job_id=third.id).status.message
told["logs"] = list(fetch_job_logs(job_id=first.id))
told["running"] = [job.id == second.id for job in list_jobs(status="running")]
told["labelled"] = sorted(job.id for job in list_jobs(labels={"a": "1"})) == sorted([first.id, third.id])
update_job_labels(job_id=second.id, labels={"b": "3"})
cancel_job(job_id=second.id)
cancelled = inspect_job(job_id=second.id)
told["cancelled"] = [cancelled.status.stage, cancelled.labels]
for wrong in ({"flavor": "h100"}, {"labels": {"a": "no space"}}):
    try:
        run_uv_job("hfsynth", script_args=["--version"], **wrong)
    except HfHubHTTPError as error:
        told.setdefault("refused", []).append(error.response.status_code)
print(json.dumps(told))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


def test_the_client_starts_follows_and_ends_jobs(hub: Hub, tmp_path: Path) -> None:
    hub.commit("user/raw", {"train.jsonl": b'{"text": "A lamp."}\n'})
    told: dict[str, Any] = json.loads(hub.run(PROGRAM, hub.env(tmp_path)).stdout.splitlines()[-1])
    assert {"cpu-basic", "h200"} <= set(told["hardware"])
    assert told["ended"] == ["COMPLETED", "ERROR"] and told["message"] == "Job timeout"
    assert len(told["logs"]) == 1 and told["logs"][0][0].isdigit()
    assert told["running"] == [True] and told["labelled"]
    assert told["cancelled"] == ["CANCELED", {"b": "3"}]
    assert told["refused"] == [400, 400] and len(hub.jobs.all) == 3


def test_jobs_need_a_token_that_may_write(hub: Hub, tmp_path: Path) -> None:
    program = "from huggingface_hub import list_jobs; list(list_jobs(namespace='user'))"
    for token, status in ((READ_TOKEN, "403"), ("", "401")):
        assert status in hub.run(program, hub.env(tmp_path, token=token), check=False).stderr
