"""One interface over a folder and object stores: the same behaviour, whatever is behind the address."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_s3.faults import APPLIED_THEN_500, APPLIED_THEN_DROPPED, CONFLICT, DROPPED, UNAVAILABLE, Fault
from loopback_s3.moto import MotoS3
from loopback_s3.server import ScriptedS3

from hfsynth.core.errors import OutputError
from hfsynth.core.stores import Store, is_store, open_store, store_url


@pytest.fixture(params=["folder", "memory", "s3", "hf"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, moto_s3: MotoS3, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    for name, value in moto_s3.env().items():
        monkeypatch.setenv(name, value)
    if request.param == "folder":
        yield open_store(tmp_path / "corpus")
    elif request.param == "memory":
        yield open_store(f"memory://{tmp_path.name}/{os.urandom(4).hex()}")
    elif request.param == "s3":
        yield open_store(f"s3://{moto_s3.new_bucket()}/my/corpus")
    else:  # moto has no namespaces: its host takes the place of one
        monkeypatch.setenv("HFSYNTH_HUB_S3", moto_s3.endpoint.rpartition("/")[0])
        host = moto_s3.endpoint.rpartition("/")[2]
        yield open_store(f"hf://buckets/{host}/{moto_s3.new_bucket()}/corpus")


def test_a_key_is_created_once(store: Store) -> None:
    assert store.create("claims/00000/000000.json", b"mine")
    assert not store.create("claims/00000/000000.json", b"yours")
    assert store.get("claims/00000/000000.json") == b"mine"


def test_creating_the_same_content_again_is_a_success_that_was_not_heard_of(store: Store) -> None:
    made = store.create("a", b"token 1")
    assert made and (store.create("a", b"token 1") or store.url.startswith("/"))


def test_of_many_who_create_at_once_one_wins(store: Store) -> None:
    for round_ in range(5):
        won: list[int] = []
        gate = threading.Barrier(8)

        def race(
            number: int, key: str = f"race/{round_}", won: list[int] = won, gate: threading.Barrier = gate
        ) -> None:
            gate.wait()
            if store.create(key, b"%d" % number):
                won.append(number)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.get(f"race/{round_}") == b"%d" % won[0]


def test_what_is_put_is_read_again(store: Store, tmp_path: Path) -> None:
    store.put("a/b", b"0123456789")
    store.put("a/b", b"abcdefghij")
    assert store.get("a/b") == b"abcdefghij"
    assert store.get("a/b", 4) == b"efghij"
    assert store.get("a/b", 10) == b""
    file = tmp_path / "some.bin"
    file.write_bytes(os.urandom(40_000_000))
    store.put("large", file)
    assert store.get("large") == file.read_bytes()


def test_a_key_that_is_not_there(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.get("nothing")
    with pytest.raises(FileNotFoundError):
        store.open("nothing")
    assert store.version("nothing") is None
    assert list(store.list("nothing/")) == []
    store.delete(["nothing", "nothing/else"])
    store.delete([])


def test_deleting_takes_what_is_there(store: Store) -> None:
    for key in ("a", "b", "c"):
        store.put(key, b"x")
    store.delete(["a", "nothing", "c"])
    assert [entry.key for entry in store.list()] == ["b"]


def test_a_listing_is_sorted_and_can_go_on(store: Store) -> None:
    keys = [f"parts/{number:05d}.{number % 7}.parquet" for number in range(30)] + ["parts.json", "records/1", "z"]
    for number, key in enumerate(keys):
        store.put(key, b"x" * number)
    assert [entry.key for entry in store.list()] == sorted(keys)
    assert [(entry.key, entry.size) for entry in store.list("parts/")] == [(key, n) for n, key in enumerate(keys[:30])]
    assert [entry.key for entry in store.list("parts/", after=keys[27])] == keys[28:30]
    assert [entry.key for entry in store.list("parts/0000")] == keys[:10]
    assert [entry.key for entry in store.list("parts/00007.")] == [keys[7]]


def test_a_version_changes_with_each_write(store: Store) -> None:
    store.put("beat", b"1")
    first = store.version("beat")
    assert first is not None
    assert next(store.list("beat")).version == first
    store.put("beat", b"2")
    assert store.version("beat") != first


def test_a_copy_is_made_where_it_lies(store: Store) -> None:
    store.put("parts/00000.abc.parquet", b"content")
    store.copy("parts/00000.abc.parquet", "pairs/train-00000-of-00001.parquet")
    assert store.get("pairs/train-00000-of-00001.parquet") == b"content"


def test_parquet_is_read_by_ranges(store: Store, tmp_path: Path) -> None:
    table = pa.table({"number": list(range(100_000)), "text": [f"text {n}" for n in range(100_000)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=10_000)
    store.put("t.parquet", tmp_path / "t.parquet")
    with store.open("t.parquet") as file, pq.ParquetFile(file) as found:
        assert found.num_row_groups == 10
        assert found.read_row_group(7).column("number")[0].as_py() == 70_000
        assert found.read().equals(table)
    with store.open("t.parquet") as file:
        file.seek(-4, 2)
        assert file.read() == b"PAR1" and file.read(1) == b""


@pytest.mark.parametrize("fault", [CONFLICT, UNAVAILABLE, APPLIED_THEN_500, APPLIED_THEN_DROPPED, DROPPED])
def test_who_was_first_is_known_whatever_happens_to_the_answer(scripted_s3: ScriptedS3, fault: Fault) -> None:
    store = open_store("s3://bucket/corpus")
    scripted_s3.script.add(fault, "PutObject .*claim")
    assert store.create("claim", b"mine")
    assert store.get("claim") == b"mine"
    scripted_s3.script.add(fault, "PutObject .*claim")
    assert not store.create("claim", b"yours")
    assert store.get("claim") == b"mine"


def test_a_service_that_is_away_for_a_moment_is_waited_for(scripted_s3: ScriptedS3) -> None:
    store = open_store("s3://bucket/corpus")
    store.put("a", b"content")
    rule = scripted_s3.script.add(UNAVAILABLE, "GetObject", times=9)
    assert store.get("a") == b"content" and rule.fired == 9


def test_a_store_that_does_not_answer_is_named(scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_s3.script.add(Fault(status=403), "GetObject", times=None)
    with pytest.raises(OutputError, match="AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket/corpus").get("a")
    scripted_s3.script.clear()
    scripted_s3.script.add(Fault(status=400), "PutObject", times=None)
    with pytest.raises(OutputError, match="s3://bucket/corpus/a cannot be reached"):
        open_store("s3://bucket/corpus").put("a", b"")


def test_addresses_are_told_from_folders() -> None:
    stores = ("s3://b/x", "gs://b", "az://c/x", "hf://buckets/me/b/x", Path("s3://b/x"))
    assert all(map(is_store, stores))
    assert not any(map(is_store, ("corpus", "/a/b", "hf://datasets/me/x", "s3", "https://s3.host/x", "s3://")))
    assert store_url(Path("s3://b/x/")) == "s3://b/x"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, moto_s3: MotoS3) -> None:
    for name in ("HFSYNTH_S3_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match="HFSYNTH_S3_KEY"):
        open_store("hf://buckets/me/mine")
    with pytest.raises(OutputError, match="names no bucket"):
        open_store("hf://buckets/me")
    for name, value in moto_s3.env().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OutputError, match="Make the bucket first"):
        open_store("s3://no-such-bucket-here/x").put("a", b"")
