"""What S3 servers answer, seen by the real client: ours says what moto's says, and faults do what they are said to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

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

obstore = pytest.importorskip("obstore")

RETRIES = {"max_retries": 3, "backoff": {"init_backoff": timedelta(milliseconds=5)}}


def client(name: str) -> Any:  # noqa: ANN401
    from obstore.store import S3Store

    return S3Store(name, retry_config=RETRIES)


@pytest.fixture(params=["scripted", "moto"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "scripted":
        request.getfixturevalue("scripted_s3")
        yield client("bucket")
    else:
        yield client(request.getfixturevalue("bucket").removeprefix("s3://"))


@pytest.fixture
def own(scripted_s3: ScriptedS3) -> Any:  # noqa: ANN401
    return client("bucket")


def create(store: Any, key: str, content: bytes) -> str:  # noqa: ANN401
    """Return "made", or the name of the error."""
    try:
        obstore.put(store, key, content, mode="create")
    except Exception as error:
        return type(error).__name__
    return "made"


def test_create_put_and_change(store: Any) -> None:  # noqa: ANN401
    assert create(store, "a/key with ünïcode & <marks>+%", b"1") == "made"
    assert create(store, "a/key with ünïcode & <marks>+%", b"2") == "AlreadyExistsError"
    first = obstore.put(store, "a/b", b"one")["e_tag"]
    second = obstore.put(store, "a/b", b"two", mode={"e_tag": first})["e_tag"]
    assert first != second == obstore.head(store, "a/b")["e_tag"]
    for key, tag in (("a/b", first), ("a/c", first)):
        with pytest.raises(obstore.exceptions.PreconditionError):
            obstore.put(store, key, b"three", mode={"e_tag": tag})
    assert bytes(obstore.get(store, "a/b").bytes()) == b"two"
    obstore.copy(store, "a/key with ünïcode & <marks>+%", "copied")
    assert bytes(obstore.get(store, "copied").bytes()) == b"1"


def test_ranges(store: Any) -> None:  # noqa: ANN401
    obstore.put(store, "digits", b"0123456789")
    assert bytes(obstore.get_range(store, "digits", start=3, end=6)) == b"345"
    assert bytes(obstore.get(store, "digits", options={"range": {"offset": 8}}).bytes()) == b"89"
    assert bytes(obstore.get(store, "digits", options={"range": {"suffix": 3}}).bytes()) == b"789"
    file = obstore.open_reader(store, "digits", buffer_size=4)
    file.seek(7)
    assert bytes(file.read(2)) == b"78"


def test_missing_keys(store: Any) -> None:  # noqa: ANN401
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "nothing")
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "nothing")
    obstore.delete(store, ["nothing", "nothing else"])


def test_listings_are_sorted_and_begin_after_a_key(store: Any) -> None:  # noqa: ANN401
    keys = [f"many/{number:04d}" for number in range(1200)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: obstore.put(store, key, b"x"), [*keys, "mane", "other/1"]))
    listed = [entry["path"] for chunk in obstore.list(store, "many") for entry in chunk]
    assert listed == keys
    later = [entry["path"] for chunk in obstore.list(store, "many", offset=keys[1000]) for entry in chunk]
    assert later == keys[1001:]
    top = obstore.list_with_delimiter(store)
    assert list(top["common_prefixes"]) == ["many", "other"] and [entry["path"] for entry in top["objects"]] == ["mane"]
    obstore.delete(store, keys)
    assert [entry["path"] for chunk in obstore.list(store) for entry in chunk] == ["mane", "other/1"]


def test_large_files_come_in_parts(store: Any) -> None:  # noqa: ANN401
    content = os.urandom(12 << 20)
    obstore.put(store, "large", content)
    assert bytes(obstore.get(store, "large").bytes()) == content
    assert create(store, "large", content) == "AlreadyExistsError"


def test_one_of_many_creates_is_made(store: Any) -> None:  # noqa: ANN401
    gate = threading.Barrier(16)

    def race(number: int, key: str) -> str:
        gate.wait()
        return create(store, key, str(number).encode())

    with ThreadPoolExecutor(16) as pool:
        for key in ("k1", "k2", "k3"):
            ends = list(pool.map(race, range(16), [key] * 16))
            assert sorted(ends) == ["AlreadyExistsError"] * 15 + ["made"]
            assert bytes(obstore.get(store, key).bytes()) == str(ends.index("made")).encode()


@pytest.mark.parametrize(
    ("fault", "times", "said", "stored", "requests"),
    [
        (CONFLICT, 1, "AlreadyExistsError", False, 1),
        (UNAVAILABLE, 2, "made", True, 3),
        (APPLIED_THEN_500, 1, "AlreadyExistsError", True, 2),
        (APPLIED_THEN_DROPPED, 1, "AlreadyExistsError", True, 2),
        (APPLIED_THEN_RESET, 1, "GenericError", True, 1),
        (DROPPED, 1, "made", True, 2),
        (RESET, 1, "GenericError", False, 1),
        (Fault(delay=0.1), 1, "made", True, 1),
    ],
)
def test_what_the_client_says_of_a_create_is_not_always_so(
    scripted_s3: ScriptedS3,
    own: Any,  # noqa: ANN401
    fault: Fault,
    times: int,
    said: str,
    stored: bool,
    requests: int,
) -> None:
    rule = scripted_s3.script.add(fault, "PutObject", times=times)
    assert create(own, "key", b"ours") == said
    assert scripted_s3.contents("bucket") == ({"key": b"ours"} if stored else {})
    assert rule.fired == times and scripted_s3.script.counted() == {"PutObject": requests}


def test_reads_are_tried_again(scripted_s3: ScriptedS3, own: Any) -> None:  # noqa: ANN401
    obstore.put(own, "key", b"content")
    for fault in (UNAVAILABLE, DROPPED, RESET, APPLIED_THEN_500, APPLIED_THEN_DROPPED, APPLIED_THEN_RESET):
        scripted_s3.script.add(fault, "GetObject")
        assert bytes(obstore.get(own, "key").bytes()) == b"content"
        scripted_s3.script.add(fault, "ListObjectsV2")
        assert [entry["path"] for chunk in obstore.list(own) for entry in chunk] == ["key"]


def test_a_stale_listing_shows_what_was_there_before(scripted_s3: ScriptedS3, own: Any) -> None:  # noqa: ANN401
    def listed() -> list[tuple[str, int]]:
        return [(entry["path"], entry["size"]) for chunk in obstore.list(own) for entry in chunk]

    obstore.put(own, "a", b"1")
    obstore.put(own, "b", b"22")
    obstore.put(own, "a", b"333")
    obstore.delete(own, "b")
    now = [("a", 3)]
    before = {1: [("a", 3), ("b", 2)], 2: [("a", 1), ("b", 2)], 3: [("a", 1)], 4: []}
    for writes, expected in before.items():
        scripted_s3.script.add(Fault(stale=writes), "ListObjectsV2")
        assert listed() == expected
        assert listed() == now


def test_a_fault_walks_over_all_requests(scripted_s3: ScriptedS3, own: Any) -> None:  # noqa: ANN401
    """Each request in turn is struck, whatever it is."""
    for number in range(1, 6):
        scripted_s3.script.clear()
        rule = scripted_s3.script.add(UNAVAILABLE, nth=number)
        obstore.put(own, "a", b"content")
        obstore.copy(own, "a", "b")
        obstore.get(own, "b").bytes()
        obstore.delete(own, "a")
        list(obstore.list(own))
        assert rule.fired == 1
        log = scripted_s3.script.requests
        assert len(log) == 6 and [request.status for request in log].count(503) == 1
        assert log[number - 1].status == 503 and log[number].kind == log[number - 1].kind
    sizes = {request.line: (request.received, request.sent) for request in log}
    assert sizes["PutObject bucket/a"] == (7, 0) and sizes["GetObject bucket/b"] == (0, 7)


def test_a_fault_that_stays_is_told(scripted_s3: ScriptedS3, own: Any) -> None:  # noqa: ANN401
    scripted_s3.script.add(UNAVAILABLE, "PutObject bucket/b$", times=None)
    obstore.put(own, "a", b"content")
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.put(own, "b", b"content")
    assert set(scripted_s3.contents("bucket")) == {"a"}
