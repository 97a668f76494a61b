"""Faults on demand and the log of requests. Knows nothing of what a request means.

A rule says which requests it concerns (`match`), which of those it strikes (`nth`, `times`) and what happens
(`Fault`). Without `match` a rule counts every request, so a test can walk one fault over all requests of a push.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Request:
    """One line of the log. `status` is 0 while the request is under way and when its connection was broken."""

    number: int
    method: str
    path: str
    query: str
    host: str
    received: int = 0
    sent: int = 0
    status: int = 0

    @property
    def line(self) -> str:
        """What a pattern is searched in: `POST /api/datasets/user/name/commit/main?create_pr=1`."""
        return f"{self.method} {self.path}" + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request, in this order: `call` runs, `delay` seconds pass, then `drop` or `status`.

    `drop` breaks the connection "before" the request is carried out, "after" it was carried out (its answer is
    lost), or "midway", when half of the answer's body has been sent; `how` says whether the client sees a reset or an
    early end. `status` answers in the Hub's stead; with `carried_out` the request is carried out first, like a
    gateway that times out on a commit that succeeds.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "injected fault"
    delay: float = 0.0
    drop: Literal["before", "after", "midway"] | None = None
    how: Literal["reset", "close"] = "reset"
    call: Callable[[Request], object] | None = None
    carried_out: bool = False

    @classmethod
    def rate_limit(cls, seconds: int = 0) -> Fault:
        """Return a 429 that names when to come back the way the Hub does, by a RateLimit header."""
        return cls(status=429, headers={"RateLimit": f'"api";r=0;t={seconds}'})

    @classmethod
    def retry_after(cls, status: int = 503, seconds: int = 0) -> Fault:
        return cls(status=status, headers={"Retry-After": str(seconds)})


Match = str | Callable[[Request], bool] | None


@dataclass(slots=True)
class Rule:
    """A fault and when it strikes. `seen` counts matching requests since the rule was added, `fired` the strikes."""

    match: Match
    nth: int
    times: int | None
    action: Fault
    seen: int = 0
    fired: int = 0

    def concerns(self, request: Request) -> bool:
        if self.match is None:
            return True
        return re.search(self.match, request.line) is not None if isinstance(self.match, str) else self.match(request)

    def strikes(self, request: Request) -> bool:
        """Count a request, and say whether the fault strikes it."""
        if not self.concerns(request):
            return False
        self.seen += 1
        struck = self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)
        self.fired += struck
        return struck


class Faults:
    """The rules in force. A request is counted by each of them and struck by the first that fires."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, action: Fault, *, match: Match = None, nth: int = 1, times: int | None = 1) -> Rule:
        """Strike the `nth` matching request from now on, and the `times - 1` that follow (None: for ever).

        `match` is a regular expression searched in `METHOD /path?query`, or a function of the request.
        """
        rule = Rule(match, nth, times, action)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def choose(self, request: Request) -> Fault | None:
        with self._lock:
            struck = [rule.action for rule in self._rules if rule.strikes(request)]
        return struck[0] if struck else None
