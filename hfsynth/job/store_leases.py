"""Leases where there are no links and no times of change: each generation an object that is created once.

Who is alive shows in the version of an object that its worker writes again and again; no clock is compared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from secrets import token_hex
from typing import Any

from hfsynth.job import store_keys as keys
from hfsynth.job.store_view import StoreView

BEAT_EVERY = 20.0
_TOKEN = "token"
_COSTLY = 8
"""So many leases of others are looked into after each look at all of them."""


class StoreLeases:
    """The leases of one holder, on a view of the store that its process has."""

    def __init__(self, view: StoreView, worker: str, stale_after: float) -> None:
        self._view = view
        self._worker = worker
        self._every = min(BEAT_EVERY, stale_after / 3)
        self._most = min(15.0, stale_after / 4)
        self._beaten = -self._every
        self._read: dict[str, tuple[str, bytes]] = {}
        self._made: dict[str, int] = {}

    def look(self) -> None:
        self._view.look(now=True)

    def pauses(self) -> Iterator[float]:
        return chain((min(2.0**n, self._most) for n in range(4)), repeat(self._most))

    def newest(self, name: str, *, now: bool = False) -> int | None:
        if now:
            self._view.look_at_workers()
        made = [self._made[name]] if name in self._made else []  # a look may be older than that
        return max((*self._view.claims.get(name, {}), *made), default=None)

    def is_costly(self, name: str) -> bool:
        newest = self.newest(name)
        if newest is None or self._known(name, newest) is not None:
            return False
        self._view.looked_into += 1
        return self._view.looked_into > _COSTLY

    def read(self, name: str, generation: int) -> tuple[bytes, object] | None:
        version = self._view.claims.get(name, {}).get(generation)
        content = self._known(name, generation)
        if content is None:
            try:
                content = self._view.store.get(keys.claim(name, generation))
            except FileNotFoundError:
                return None
            if version:
                self._read[keys.claim(name, generation)] = version, content
        values = _values(content)
        beat = self._view.beats.get(str(values.get("worker", "")), version)
        return json.dumps({name: value for name, value in values.items() if name != _TOKEN}).encode(), beat

    def make(self, name: str, generation: int, content: bytes) -> bool:
        # The token tells this claim from one that this very holder has made: a look may be older than that.
        tokened = json.dumps({**json.loads(content), _TOKEN: token_hex(8)}).encode()
        made = self._view.store.create(keys.claim(name, generation), tokened)
        self._view.claims.setdefault(name, {})[generation] = ""
        if made:
            self._made[name] = generation
            self._view.look_soon()
        return made

    def replace(self, name: str, generation: int, content: bytes) -> None:
        key = keys.claim(name, generation)
        if self._view.store.version(key) is not None:
            self._view.store.put(key, content)

    def remove(self, name: str) -> None:
        made = {self._made.pop(name)} if name in self._made else set()
        for generation in sorted({*self._view.claims.pop(name, {}), *made}):
            self._view.store.delete([keys.claim(name, generation)])

    def beat(self, held: Sequence[tuple[str, int]]) -> None:
        if time.monotonic() - self._beaten >= self._every:
            self._beaten = time.monotonic()
            self._view.beat(self._worker)

    def rest(self) -> None:
        self._view.end_beat(self._worker)

    def _known(self, name: str, generation: int) -> bytes | None:
        """Return what a lease is known to say, as it is now."""
        version = self._view.claims.get(name, {}).get(generation)
        read, content = self._read.get(keys.claim(name, generation), ("", b""))
        return content if version and read == version else None


def _values(content: bytes) -> dict[str, Any]:
    """Return what a claim says, nothing where it is damaged."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
