"""A create of ours is told from another's, whatever becomes of its answer; what is not there is named."""

from __future__ import annotations

import pytest

from hfsynth.core.errors import OutputError
from hfsynth.core.stores import open_store
from loopback_s3.faults import (
    APPLIED_THEN_500,
    APPLIED_THEN_DROPPED,
    APPLIED_THEN_RESET,
    CONFLICT,
    DROPPED,
    RESET,
    UNAVAILABLE,
    Fault,
)
from loopback_s3.server import ScriptedS3

pytest.importorskip("obstore")

FAULTS = (APPLIED_THEN_500, APPLIED_THEN_DROPPED, APPLIED_THEN_RESET, CONFLICT, DROPPED, RESET, UNAVAILABLE)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_create_is_ours_or_anothers(scripted_s3: ScriptedS3, fault: Fault) -> None:
    store = open_store("s3://bucket/job")
    rule = scripted_s3.script.add(fault, "PutObject")
    assert store.create("claim", b"mine") is True
    assert rule.fired == 1 and scripted_s3.contents("bucket") == {"job/claim": b"mine"}
    rule = scripted_s3.script.add(fault, "PutObject")
    assert store.create("claim", b"another's") is False
    assert rule.fired == 1 and scripted_s3.contents("bucket") == {"job/claim": b"mine"}


def test_a_create_whose_answer_comes_too_late_is_ours(scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfsynth.core.object_store._CLIENT", {"timeout": "500ms"})
    store = open_store("s3://bucket/job")
    rule = scripted_s3.script.add(Fault(delay=1.0), "PutObject")
    assert store.create("claim", b"mine") is True
    assert rule.fired == 1 and scripted_s3.contents("bucket") == {"job/claim": b"mine"}


def test_a_store_whose_connections_break_for_ever_is_told(
    scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hfsynth.core.object_store._PAUSE", 0.001)
    scripted_s3.script.add(RESET, "PutObject", times=None)
    with pytest.raises(OutputError, match="s3://bucket/job/claim cannot be"):
        open_store("s3://bucket/job").create("claim", b"mine")


def test_a_refusal_is_told_at_once(scripted_s3: ScriptedS3) -> None:
    scripted_s3.script.add(Fault(status=403), "PutObject", times=None)
    with pytest.raises(OutputError, match="s3://bucket/job refuses"):
        open_store("s3://bucket/job").create("claim", b"mine")
    assert scripted_s3.script.counted() == {"PutObject": 1}


def test_a_bucket_that_is_not_there_is_named(bucket: str) -> None:
    store = open_store("s3://no-such-bucket-here/corpus")
    with pytest.raises(OutputError, match=r"^s3://no-such-bucket-here/corpus is not there") as told:
        list(store.list("a/"))
    assert told.value.hint == "Make the bucket first, or mend the address." and "<" not in told.value.message
