"""HF Jobs on the loopback: a job is a process of this machine, with a time limit that ends it, and an account of it.

What is asked of `uv run --with PACKAGE hfsynth …` runs as this environment's hfsynth, and a script in a bucket that is
mounted by this environment's Python. Its variables are what the job was given, as secrets too, and nothing of the
test's own settings for stores and the Hub.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from started import start_process

from loopback_hub.trees import Refusal
from loopback_hub.wire import Answer, Call, as_json

TESTS = Path(__file__).parents[1]
LABEL = re.compile(r"[A-Za-z0-9_-]{1,100}")
OURS = ("HF_", "HUGGING", "TRANSFORMERS_", "AWS_", "GOOGLE_", "AZURE_", "HFSYNTH_")
SECONDS = {"second": 1, "minute": 60, "hour": 3600}


def hardware(name: str, cost: int, gpu: str = "", number: int = 1) -> dict[str, Any]:
    """Return a machine as the Hub describes it; it costs so many micro-dollars a minute."""
    made = {"type": "gpu", "model": gpu, "quantity": str(number), "vram": "80 GB", "manufacturer": "Nvidia"}
    priced = {"unitCostMicroUSD": cost, "unitCostUSD": cost / 1e6, "unitLabel": "minute"}
    told = {"name": name, "prettyName": name.title(), "cpu": "2 vCPU", "ram": "16 GB", "ephemeralStorage": "20 GB"}
    return {**told, "accelerator": made if gpu else None, **priced}


HARDWARE = [
    hardware("cpu-basic", 167),
    hardware("cpu-upgrade", 500),
    hardware("t4-small", 6_667, "T4"),
    hardware("a10g-largex2", 50_000, "A10G", 2),
    hardware("h200", 83_334, "H200"),
]


@dataclass
class Job:
    """One job: what was asked for, and the process that does it."""

    id: str
    owner: str
    spec: dict[str, Any]
    process: subprocess.Popen[str]
    log: Path
    created: float = field(default_factory=time.time)
    ended: float | None = None
    stage: str = "RUNNING"
    message: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.spec.get("labels") or {}
        return found

    @property
    def arguments(self) -> list[str]:
        """What hfsynth was called with."""
        command = self.spec["command"]
        return list(command[command.index("hfsynth") + 1 :])

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (self.ended or time.time()) - self.created

    def told(self) -> dict[str, Any]:
        """Return it as the Hub does: of secrets nothing."""
        kept = ("command", "arguments", "environment", "flavor", "labels", "dockerImage")
        running = int(self.seconds)
        times = {"createdAt": self.created, "startedAt": self.created, "finishedAt": self.ended}
        return {
            "id": self.id,
            **{key: self.spec[key] for key in kept if key in self.spec},
            **{key: None if at is None else _date(at) for key, at in times.items()},
            "status": {"stage": self.stage, "message": self.message},
            "durations": {"schedulingSecs": 0, "runningSecs": running, "totalSecs": running},
            "owner": {"id": "0" * 24, "name": self.owner, "type": "user"},
        }


class Jobs:
    """All jobs, in the order of their starts. `limits` are time limits, by place, of the next start there.

    A limit of 0 ends the job before its start is answered.
    """

    def __init__(self, endpoint: str, buckets: Mapping[str, Mapping[str, bytes]]) -> None:
        self.all: list[Job] = []
        self.limits: dict[str, float] = {}
        self._endpoint, self._buckets = endpoint, buckets
        self._folder = Path(tempfile.mkdtemp(prefix="hfsynth-jobs-"))
        self._lock = threading.Lock()
        self._timers: list[threading.Timer] = []

    # What a test looks at, and does beside the client

    def at(self, place: int) -> list[Job]:
        """Return the jobs that were started at a place."""
        return [job for job in self.all if job.labels.get("place") == str(place)]

    def alive(self) -> list[Job]:
        """Return the jobs that run."""
        self._reap()
        return [job for job in self.all if job.stage == "RUNNING"]

    def end(self, job: Job, stage: str = "CANCELED", message: str | None = None) -> None:
        """End a job at once, with all that it has started."""
        with self._lock:
            if job.stage != "RUNNING":
                return
            job.stage, job.message, job.ended = stage, message, time.time()
            with suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()

    def close(self) -> None:
        """End everything."""
        for timer in self._timers:
            timer.cancel()
        for job in self.all:
            self.end(job)
        shutil.rmtree(self._folder, ignore_errors=True)

    # The protocol

    def answer(self, call: Call, rest: list[str], page_size: int) -> Answer:
        self._reap()
        match call.method, rest:
            case "GET", ["hardware"]:
                return as_json(HARDWARE)
            case "POST", [owner]:
                return as_json(self._start(owner, call.json()).told())
            case "GET", [owner]:
                return self._list(call, owner, page_size)
            case "GET", [owner, name]:
                return as_json(self._job(owner, name).told())
            case "GET", [owner, name, "logs"]:
                return self._logs(call, self._job(owner, name))
            case "POST", [owner, name, "cancel"]:
                self.end(self._job(owner, name))
                return as_json({})
            case "PUT", [owner, name, "labels"]:
                job = self._job(owner, name)
                job.spec["labels"] = _labels(call.json().get("labels"))
                return as_json(job.told())
        raise Refusal(404, "Sorry, we can't find the page you are looking for.")

    def _start(self, owner: str, spec: dict[str, Any]) -> Job:
        if spec.get("flavor") not in {one["name"] for one in HARDWARE}:
            raise Refusal(400, f'"flavor" must be one of {", ".join(one["name"] for one in HARDWARE)}')
        labels = _labels(spec.get("labels"))
        name = secrets.token_hex(12)
        folder = self._folder / name
        folder.mkdir()
        command = self._mounted(_command(spec["command"]), folder, spec.get("volumes", []))
        with (folder / "log").open("w") as log:
            process = start_process(
                command,
                fresh=True,
                env=self._environment(name, folder, spec),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        job = Job(name, owner, spec, process, folder / "log")
        self.all.append(job)
        limit = self.limits.pop(labels.get("place", ""), spec.get("timeoutSeconds", 1800))
        if not limit:
            self.end(job, "ERROR", "Job timeout")
        timer = threading.Timer(limit, self.end, (job, "ERROR", "Job timeout"))
        timer.daemon = True
        timer.start()
        self._timers.append(timer)
        return job

    def _mounted(self, command: list[str], folder: Path, volumes: list[dict[str, Any]]) -> list[str]:
        """Put the files of buckets where a job sees them, and return its command as it is here."""
        for number, volume in enumerate(volumes):
            here, path = folder / f"volume-{number}", volume.get("path", "")
            for name, content in self._buckets[volume["source"]].items():
                if name.startswith(path):
                    file = here / name.removeprefix(path).lstrip("/")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
            command = [word.replace(volume["mountPath"], str(here)) for word in command]
        return command

    def _environment(self, name: str, folder: Path, spec: Mapping[str, Any]) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        switches = ("TELEMETRY", "UPDATE_CHECK", "PROGRESS_BARS", "XET")
        return {
            **kept,
            **{f"HF_HUB_DISABLE_{switch}": "1" for switch in switches},
            "HF_ENDPOINT": self._endpoint,
            "HF_HOME": str(folder / "home"),
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": os.pathsep.join((str(TESTS), *filter(None, sys.path))),
            "JOB_ID": name,
            **spec.get("environment", {}),
            **spec.get("secrets", {}),
        }

    def _list(self, call: Call, owner: str, size: int) -> Answer:
        wanted = [label.partition("=")[::2] for label in call.query.get("label", [])]
        stages = call.query.get("stage", [])
        found = [
            job.told()
            for job in reversed(self.all)
            if job.owner == owner
            and all(job.labels.get(key) == value for key, value in wanted)
            and (not stages or job.stage in stages)
        ]
        start = int(call.query.get("cursor", ["0"])[0])
        headers = {}
        if start + size < len(found):
            query = urlencode({**call.query, "cursor": [str(start + size)]}, doseq=True)
            headers["Link"] = f'<{self._endpoint}/api/jobs/{owner}?{query}>; rel="next"'
        return as_json(found[start : start + size], headers=headers)

    def _job(self, owner: str, name: str) -> Job:
        found = next((job for job in self.all if (job.owner, job.id) == (owner, name)), None)
        if found is None:
            raise Refusal(404, "Job not found")
        return found

    def _logs(self, call: Call, job: Job) -> Answer:
        lines = [f"===== Job started at {_date(job.created)} =====", *job.log.read_text("utf-8").splitlines()]
        tail = int(call.query.get("tail", ["0"])[0])
        events = [f"data: {json.dumps({'data': line, 'timestamp': _date(job.created)})}\n\n" for line in lines[-tail:]]
        return Answer(200, "".join(events).encode(), {"Content-Type": "text/event-stream"})

    def _reap(self) -> None:
        with self._lock:
            for job in self.all:
                if job.stage == "RUNNING" and (code := job.process.poll()) is not None:
                    job.stage, job.ended = ("ERROR" if code else "COMPLETED"), time.time()
                    job.message = f"Job failed with exit code: {code}" if code else None


def _command(command: list[str]) -> list[str]:
    """Return what runs here for `uv run --with PACKAGE hfsynth …`."""
    words = iter(command)
    if (next(words, None), next(words, None)) != ("uv", "run"):
        raise Refusal(400, f"Nothing here runs {command}")
    program = _program(words)
    if program != "hfsynth" and not program.endswith(".py"):
        raise Refusal(400, f"Nothing here runs {program}")
    return [sys.executable, *(["-m"] if program == "hfsynth" else []), program, *words]


def _program(words: Iterator[str]) -> str:
    for word in words:
        if word in ("--with", "--python"):
            next(words)
        else:
            return word
    return ""


def _labels(labels: dict[str, str] | None) -> dict[str, str]:
    wrong = [
        f"{key}={value}"
        for key, value in (labels or {}).items()
        if not (LABEL.fullmatch(key) and LABEL.fullmatch(value))
    ]
    if wrong:
        raise Refusal(400, f"Labels are at most 100 letters, digits, dashes and underscores: {wrong[0]}")
    return labels or {}


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
