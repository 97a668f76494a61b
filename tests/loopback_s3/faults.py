"""Faults on demand and the log of requests. Knows nothing of how a request is carried out."""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request, in this order.

    `delay` seconds pass; with `drop="before"` the connection breaks and nothing is done; with a `status` and without
    `applied` that is the answer and nothing is done. Else the request is carried out, a listing as things were `stale`
    writes ago, and answered, unless `status` takes the answer's place or `drop="after"` breaks the connection first.
    `how` says whether the client sees a reset or an early end.
    """

    status: int | None = None
    applied: bool = False
    drop: Literal["before", "after"] | None = None
    how: Literal["reset", "close"] = "close"
    delay: float = 0.0
    stale: int = 0


CONFLICT = Fault(status=409)
UNAVAILABLE = Fault(status=503)
APPLIED_THEN_500 = Fault(status=500, applied=True)
APPLIED_THEN_DROPPED = Fault(drop="after")
APPLIED_THEN_RESET = Fault(drop="after", how="reset")
DROPPED = Fault(drop="before")
RESET = Fault(drop="before", how="reset")


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the log: the operation by its name in S3's documentation, bucket and key, bytes in and out.

    `status` is 0 where the connection was broken.
    """

    number: int
    kind: str
    bucket: str
    key: str
    received: int
    sent: int
    status: int

    @property
    def line(self) -> str:
        """What a pattern is searched in: `PutObject bucket/key`."""
        return f"{self.kind} {self.bucket}/{self.key}"


@dataclass(slots=True)
class Rule:
    """A fault and when it strikes. `seen` counts matching requests since the rule was added, `fired` the strikes."""

    fault: Fault
    match: str
    nth: int
    times: int | None
    seen: int = 0
    fired: int = 0

    def strikes(self, line: str) -> bool:
        """Count a request, and say whether the fault strikes it."""
        if re.search(self.match, line) is None:
            return False
        self.seen += 1
        struck = self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)
        self.fired += struck
        return struck


class Script:
    """The rules in force and what was asked. A request is counted by every rule and struck by the first that fires."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault, match: str = "", *, nth: int = 1, times: int | None = 1) -> Rule:
        """Strike the `nth` matching request from now on, and the `times - 1` that follow (None: for ever).

        `match` is a regular expression searched in `PutObject bucket/key`; without it every request is counted.
        """
        rule = Rule(fault, match, nth, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget the rules and the log."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def choose(self, line: str) -> Fault:
        with self._lock:
            struck = [rule.fault for rule in self._rules if rule.strikes(line)]
        return struck[0] if struck else Fault()

    def note(self, kind: str, bucket: str, key: str, *, received: int, sent: int, status: int) -> None:
        with self._lock:
            number = len(self.requests) + 1
            self.requests.append(Request(number, kind, bucket, key, received, sent, status))

    def counted(self) -> Counter[str]:
        """Return how many requests there were of each operation."""
        with self._lock:
            return Counter(request.kind for request in self.requests)
