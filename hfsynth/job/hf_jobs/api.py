"""HF Jobs as this project uses them. The one module that calls them.

Reading is tried again by `retrying`. A start is not simply repeated: where its answer is lost the job may run and cost
money all the same, so each start carries a label of its own, by which it is looked for first. Knows nothing of corpora.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import httpx2
from huggingface_hub import (
    cancel_job,
    constants,
    fetch_job_logs,
    get_token,
    list_jobs,
    list_jobs_hardware,
    run_uv_job,
    update_job_labels,
    whoami,
)
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from hfsynth.core.errors import ConfigError, HubError
from hfsynth.core.remote_calls import LOG_IN, OnRetry, is_transient, reason_of, retrying, status_of
from hfsynth.job.hf_jobs.terms import Hardware, hourly

T = TypeVar("T")

PLACE, START, MOST, PRICE, CANCELLED = "place", "start", "most", "price", "cancelled"
"""Labels of a job: its place, which start it is, what it may cost at most and an hour, whether it was cancelled."""

_ENDED = frozenset({"COMPLETED", "CANCELED", "ERROR", "DELETED"})
_TRIES, _FIRST_WAIT = 5, 1.0
_PLANS = "https://huggingface.co/settings/billing"
_TOKENS = "https://huggingface.co/settings/tokens"


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job as the Hub lists it. `seconds` is how long it ran, None where the Hub does not say."""

    id: str
    url: str
    stage: str
    message: str
    flavor: str
    labels: Mapping[str, str] = field(default_factory=dict)
    seconds: int | None = None
    created: str = ""

    @property
    def alive(self) -> bool:
        """Whether it runs, or will: a stage that nobody knows is none that costs nothing."""
        return self.stage not in _ENDED

    @property
    def place(self) -> int:
        """Which of the job's places it has, -1 where it does not say."""
        return int(found) if (found := self.labels.get(PLACE, "")).isdecimal() else -1

    @property
    def cost(self) -> int:
        """Micro-dollars: what it can still come to while it runs, what its minutes came to once it has ended."""
        return self._label(MOST) if self.alive or self.seconds is None else self.so_far

    @property
    def so_far(self) -> int:
        """Micro-dollars that its begun minutes came to until now."""
        return min(self._label(MOST), math.ceil(math.ceil((self.seconds or 0) / 60) * self._label(PRICE) / 60))

    def _label(self, name: str) -> int:
        return int(found) if (found := self.labels.get(name, "")).isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Start:
    """What a job is to be. Secrets are values that nobody prints."""

    name: str
    arguments: Sequence[str]
    installs: str
    flavor: str
    seconds: int
    labels: Mapping[str, str]
    image: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class HfJobs:
    """The jobs of whoever is logged in. Raise HubError where nobody is, and for what the Hub refuses."""

    def __init__(self, *, timeout: float = 600.0, on_retry: OnRetry = lambda reason: None) -> None:
        self.token = get_token()
        if self.token is None:
            raise HubError("There is no token to start jobs with.", hint=LOG_IN)
        self._timeout, self._on_retry = timeout, on_retry
        self.namespace = str(self._call(lambda: whoami(token=self.token))["name"])

    def hardware(self) -> list[Hardware]:
        """Return the machines that can be had, with their prices."""
        return [_hardware(one) for one in self._call(lambda: list_jobs_hardware(token=self.token))]

    def listing(self, labels: Mapping[str, str]) -> list[RemoteJob]:
        """Return all jobs that have these labels, ended ones too: one request a page."""
        found = self._call(lambda: list(list_jobs(labels=dict(labels), namespace=self.namespace, token=self.token)))
        return [_job(one) for one in found]

    def start(self, start: Start) -> RemoteJob:
        """Start a job, once, whatever becomes of the answer."""
        own = {**start.labels, START: token_hex(8)}
        for attempt in range(_TRIES):
            try:
                with _explained(self.namespace):
                    return self._started(start, own)
            except HubError as error:
                if attempt == _TRIES - 1 or error.__cause__ is None or not is_transient(error.__cause__):
                    raise
                self._on_retry(f"{reason_of(error.__cause__)} to a start; looking whether the job was started")
            time.sleep(_FIRST_WAIT * 2**attempt)
            if found := self.listing({START: own[START]}):
                return found[0]
        raise AssertionError("the last attempt returns or raises")

    def cancel(self, job: RemoteJob) -> None:
        """End a job; do nothing where it has ended."""
        try:
            self._call(lambda: cancel_job(job_id=job.id, namespace=self.namespace, token=self.token))
        except HubError as error:
            if status_of(error.__cause__ or error) not in (400, 404, 409, 410):
                raise

    def mark_cancelled(self, job: RemoteJob) -> None:
        """Label a job as one that somebody wants to be at an end: whoever follows it starts no other in its place."""
        labels = {**job.labels, CANCELLED: "yes"}
        self._call(lambda: update_job_labels(job_id=job.id, labels=labels, namespace=self.namespace, token=self.token))

    def last_lines(self, job: RemoteJob, number: int = 5) -> list[str]:
        """Return the end of what a job wrote, nothing where it cannot be had."""
        try:
            told = fetch_job_logs(job_id=job.id, namespace=self.namespace, tail=number, token=self.token)
            return [line.rstrip() for line in told if line.strip()][-number:]
        except (HfHubHTTPError, httpx2.TransportError, OSError, ValueError):
            return []

    def _started(self, start: Start, labels: Mapping[str, str]) -> RemoteJob:
        _refuse_names_of_files("hfsynth", *start.arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the call is experimental
            return _job(
                run_uv_job(
                    "hfsynth",
                    script_args=list(start.arguments),
                    dependencies=[start.installs],
                    image=start.image,
                    secrets=dict(start.secrets),
                    flavor=start.flavor,
                    timeout=start.seconds,
                    attempts=1,  # each attempt costs as much again; ended jobs are replaced by whoever follows them
                    name=start.name,
                    labels=dict(labels),
                    namespace=self.namespace,
                    token=self.token,
                )
            )

    def _call(self, function: Callable[[], T]) -> T:
        with _explained(getattr(self, "namespace", "")):
            return retrying(self._timeout, self._on_retry)(function)


def _refuse_names_of_files(*words: str) -> None:
    """Raise ConfigError for words that huggingface_hub would take for a script to upload."""
    taken = next((word for word in words if Path(word).is_file()), None)
    if taken is not None:
        raise ConfigError(
            f"There is a file {taken!r} in this folder, which would be sent as the job's script.",
            hint="Give the command in another folder.",
        )


def _hardware(info: Any) -> Hardware:  # noqa: ANN401 - huggingface_hub's
    gpu = info.accelerator
    counted = int(gpu.quantity) if gpu is not None and str(gpu.quantity).isdecimal() else 0
    told = f"{info.cpu}, {info.ram}" + (f", {gpu.quantity}x {gpu.model} ({gpu.vram})" if gpu is not None else "")
    return Hardware(info.name, told, counted, hourly(info.unit_cost_micro_usd, info.unit_label))


def _job(info: Any) -> RemoteJob:  # noqa: ANN401 - huggingface_hub's
    seconds = None if info.durations is None else _begun(info.durations.running_secs)
    stage = getattr(info.status.stage, "value", info.status.stage)
    created = "" if info.created_at is None else info.created_at.isoformat()
    flavor = getattr(info.flavor, "value", info.flavor) or ""
    return RemoteJob(
        info.id, info.url, str(stage), info.status.message or "", str(flavor), info.labels or {}, seconds, created
    )


def _begun(seconds: int | None) -> int:
    """Return the seconds of a job, of which the first is begun with it; None is said of one that never ran."""
    return 0 if seconds is None else max(1, seconds)


@contextmanager
def _explained(namespace: str) -> Iterator[None]:
    """Turn what the Hub's client raises into HubError."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubError("The Hub is switched off by HF_HUB_OFFLINE.", hint="Unset it and try again.") from error
    except HfHubHTTPError as error:
        raise _refusal(error, namespace) from error
    except (httpx2.TransportError, ConnectionError, TimeoutError) as error:
        raise HubError(
            f"{constants.ENDPOINT} cannot be reached: {reason_of(error)}.",
            hint="Check the network. Jobs that run go on; the same command follows them again.",
        ) from error


def _refusal(error: HfHubHTTPError, namespace: str) -> HubError:
    said = str(error.server_message or "").strip().splitlines()
    said_so = f": {said[0]}" if said else ""
    match status_of(error):
        case 401:
            return HubError("The Hub does not accept this token.", hint=f"{LOG_IN} Tokens are made at {_TOKENS}")
        case 402:
            return HubError(
                f"{namespace} cannot pay for jobs{said_so}.", hint=f"Add credits or a payment method: {_PLANS}"
            )
        case 403:
            return HubError(
                f"This token may not run jobs of {namespace}{said_so}.",
                hint=f"Jobs need a paid plan or credits ({_PLANS}) and a token that may start jobs: {_TOKENS}",
            )
        case 404:
            return HubError(f"The Hub knows no such job of {namespace}{said_so}.", hint="hfsynth jobs OUT lists them.")
        case 400 | 413 | 422:
            return HubError(f"The Hub refused the job{said_so}.", hint="Nothing was started.")
    return HubError(f"HF Jobs failed: {reason_of(error)}{said_so}, again and again.", hint="Give it again later.")
