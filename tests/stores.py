"""What tests of jobs in object stores have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.stores import open_store
from hfsynth.documents.source import Source
from hfsynth.job.run import JobResult, synthesize

ENGINE = EngineConfig("scripted", {"max_in_flight": 2})


def pairs_of(url: str | Path) -> dict[str, bytes]:
    """Return the names and bytes of a corpus' files of pairs, wherever it lies."""
    store = open_store(url)
    return {entry.key: store.get(entry.key) for entry in store.list("pairs/")}


def stats_of(url: str | Path) -> dict[str, Any]:
    """Return a corpus' statistics."""
    found: dict[str, Any] = json.loads(open_store(url).get("stats.json"))
    return found


def left_over(url: str) -> list[str]:
    """Return the keys that a finished job should have taken away."""
    names = ("segments/", "parts/", "workers/claims/", "workers/probe/")
    return [
        entry.key
        for entry in open_store(url).list(".hfsynth/")
        if entry.key.startswith(tuple(f".hfsynth/{n}" for n in names))
    ]


def job(source: Path, out: str | Path, **options: Any) -> JobResult:  # noqa: ANN401
    """Do a small job in this process."""
    config = options.pop("config", SynthesizerConfig("scripted", shots=2))
    return synthesize(Source(str(source)), out, config, **{"engine": ENGINE, "shard_rows": 4, **options})
