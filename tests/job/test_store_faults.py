"""Faults of an object store, one at every single request of a job in turn: the bytes stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from jobs import documents
from loopback_s3.faults import APPLIED_THEN_500, APPLIED_THEN_DROPPED, CONFLICT, DROPPED, UNAVAILABLE, Fault
from loopback_s3.server import ScriptedS3
from seeds import EVERYTHING, SEED
from stores import job, left_over, pairs_of, stats_of

from hfsynth.core.errors import OutputError
from hfsynth.core.stores import Entry, FolderStore
from hfsynth.job import store_keys as keys
from hfsynth.job.check import check
from hfsynth.job.store_site import StoreSite

FAULTS = {
    "409": CONFLICT,
    "503": UNAVAILABLE,
    "answer lost": APPLIED_THEN_500,
    "connection lost": APPLIED_THEN_DROPPED,
    "dropped": DROPPED,
    "403": Fault(status=403),
    "stale listing": Fault(stale=3),
}
EVERY = 1 if EVERYTHING else len(FAULTS)
"""Each request meets every fault, or one of them."""

FEWEST = 40
"""How many requests a job of two shards makes at least; a slow one looks at the store more often."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return done_in_a_folder(tmp_path_factory.mktemp("local"), number=16)


@pytest.fixture(scope="module")
def two_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return done_in_a_folder(tmp_path_factory.mktemp("two"), number=8)


def done_in_a_folder(folder: Path, *, number: int) -> Path:
    """Return a folder with a source of so many documents, and the corpus that a job in a folder made of it."""
    documents(folder / "texts.jsonl", number)
    job(folder / "texts.jsonl", folder / "out")
    return folder


@pytest.mark.long
def test_a_fault_at_every_single_request_changes_nothing(scripted_s3: ScriptedS3, two_shards: Path) -> None:
    told = 0
    for turn, (nth, name) in enumerate(every_fault()):
        scripted_s3.script.clear()
        out = f"s3://bucket/corpus{turn}"
        rule = scripted_s3.script.add(FAULTS[name], nth=nth)
        with suppress(OutputError):
            told += 1
            job(two_shards / "texts.jsonl", out)
            told -= 1
        if len(scripted_s3.script.requests) < nth:
            break  # the job was over before
        assert rule.fired or name == "stale listing", (nth, name)
        scripted_s3.script.clear()
        job(two_shards / "texts.jsonl", out)
        assert pairs_of(out) == pairs_of(two_shards / "out"), (nth, name)
        assert stats_of(out)["documents"] == stats_of(two_shards / "out")["documents"], (nth, name)
        assert left_over(out) == [] and check(out).damaged == (), (nth, name)
    assert nth > FEWEST, "a job makes more requests"
    assert told < nth, "most faults are outlived by the command itself"


def every_fault() -> Iterator[tuple[int, str]]:
    names = list(FAULTS)
    for nth in count(1):
        for shift in range(0, len(names), EVERY):
            yield nth, names[(nth + SEED + shift) % len(names)]


def test_faults_that_a_retry_mends_are_not_even_noticed(scripted_s3: ScriptedS3, local: Path) -> None:
    for match in ("PutObject .*records/", "PutObject .*claims/", "PutObject .*parts/", "PutObject .*manifest"):
        for fault in (UNAVAILABLE, APPLIED_THEN_500, APPLIED_THEN_DROPPED, DROPPED):
            scripted_s3.script.add(fault, match)
    for match in ("PutObject .*records/", "PutObject .*claims/"):  # are created: a conflict is tried again
        scripted_s3.script.add(CONFLICT, match, nth=2)
    result = job(local / "texts.jsonl", "s3://bucket/corpus")
    assert result.finished and pairs_of(result.out) == pairs_of(local / "out")


def test_a_store_that_stays_away_is_named_with_what_to_do(scripted_s3: ScriptedS3, local: Path) -> None:
    scripted_s3.script.add(Fault(status=403), "PutObject .*parts/", times=None)
    with pytest.raises(OutputError) as error:
        job(local / "texts.jsonl", "s3://bucket/corpus")
    assert "s3://bucket/corpus refuses" in error.value.message and "AWS_ACCESS_KEY_ID" in error.value.hint
    scripted_s3.script.clear()
    assert pairs_of(job(local / "texts.jsonl", "s3://bucket/corpus").out) == pairs_of(local / "out")


class Forgetful(FolderStore):
    """A store whose listings are old: they show no part, and for a while not the last record."""

    looks = 0

    def list(self, prefix: str = "", after: str | None = None) -> Iterator[Entry]:
        self.looks += prefix.startswith(keys.RECORDS)
        for entry in super().list(prefix, after):
            if not entry.key.startswith(keys.PARTS) and (entry.key != keys.record(3) or self.looks > 12):
                yield entry


def test_what_a_listing_does_not_show_yet_is_not_lost(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Forgetful(tmp_path / "store")
    monkeypatch.setattr("hfsynth.job.opening.open_store", lambda out: store)
    result = job(local / "texts.jsonl", "s3://bucket/corpus")
    assert result.finished and pairs_of(tmp_path / "store") == pairs_of(local / "out")
    with StoreSite(store) as site:
        store.delete([entry.key for entry in store.list("pairs/")])
        site.fetch_state()
        assert not site.is_whole()
