"""The loopback Hub's Xet, used by the real hf_xet through huggingface_hub and datasets in fresh processes."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_hub.server import READ_TOKEN, TOKEN, Hub
from loopback_hub.trees import Refusal
from loopback_hub.xet_formats import GROUPED_LZ4, STORED, Chunk, chunks_of, content_of, shard_of

PRELUDE = """
import json
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download
api, out = HfApi(), {}
where = dict(repo_id="user/data", repo_type="dataset")
"""


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def test_files_go_by_xet_and_come_back(tmp_path: Path) -> None:
    files = {"a.parquet": content(400_000) + b"abcd" * 200_000, "b.bin": b"0\0", "notes.txt": b"regular"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with Hub(xet=True) as hub:
        hub.commit("user/data", {"old.parquet": b"from before"})
        code = f"""{PRELUDE}
for name in {list(files)!r}:
    api.upload_file(path_or_fileobj={str(tmp_path)!r} + "/" + name, path_in_repo=name, **where)
out["read"] = [open(hf_hub_download(filename=name, **where), "rb").read().hex() for name in [*{list(files)!r}, "old.parquet"]]
with HfFileSystem().open("datasets/user/data/a.parquet") as file:
    file.seek(399_990)
    out["part"] = file.read(20).hex()
out["hashes"] = {{f.path: f.xet_hash for f in api.list_repo_tree(**where)}}
print(json.dumps(out))
"""  # noqa: E501
        out = json.loads(hub.run(code, hub.env(tmp_path)).stdout.splitlines()[-1])
        assert [bytes.fromhex(data) for data in out["read"]] == [*files.values(), b"from before"]
        assert bytes.fromhex(out["part"]) == files["a.parquet"][399_990:400_010]
        assert out["hashes"]["a.parquet"] in hub.api.xet.files and out["hashes"]["old.parquet"] is None
        assert hub.files("user/data") == files | {"old.parquet": b"from before"}
        assert set(hub.sent.values()) == {1} and hub.api.xet.shards == 2 and not hub.api.sent
        assert hub.lines("POST /xet/v1/xorbs/") and not hub.lines("/info/lfs/")


def test_what_is_stored_is_found_from_another_machine(tmp_path: Path) -> None:
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    old.write_bytes(content(2_000_000))
    new.write_bytes(old.read_bytes()[:1_000_000] + b"changed" + old.read_bytes()[1_000_000:])
    with Hub(xet=True) as hub:
        hub.store.create("dataset", "user/data")
        for path in (old, new):
            code = f"{PRELUDE}\napi.upload_file(path_or_fileobj={str(path)!r}, path_in_repo={path.name!r}, **where)"
            hub.run(code, hub.env(tmp_path))
        first, second = (len(hub.api.xet.xorbs[name]) for name in hub.sent)
        assert first >= 2_000_000 and second < 400_000
        assert hub.files("user/data") == {path.name: path.read_bytes() for path in (old, new)}


def test_who_may_come_in() -> None:
    with Hub(xet=True) as hub:
        hub.store.create("dataset", "user/data")

        def ask(url: str, token: str, body: bytes | None = None) -> tuple[int, dict[str, object]]:
            request = urllib.request.Request(url, body, {"Authorization": f"Bearer {token}"})
            try:
                with urllib.request.urlopen(request) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, {}

        tokens = f"{hub.endpoint}/api/datasets/user/data/xet"
        assert ask(f"{tokens}-write-token/main", READ_TOKEN)[0] == 403
        assert ask(f"{tokens}-write-token/main", "hf_bad")[0] == 401
        status, reading = ask(f"{tokens}-read-token/main", READ_TOKEN)
        shards = f"{reading['casUrl']}/v1/shards"
        assert status == 200 and ask(shards, str(reading["accessToken"]), b"x")[0] == 403
        writing = ask(f"{tokens}-write-token/main", TOKEN)[1]
        assert ask(shards, str(writing["accessToken"]), b"x")[0] == 400 and ask(shards, TOKEN, b"x")[0] == 401
    with Hub() as hub:
        hub.store.create("dataset", "user/data")
        assert ask(f"{hub.endpoint}/api/datasets/user/data/xet-write-token/main", TOKEN)[0] == 404


@given(st.binary(min_size=1, max_size=40))
def test_grouped_bytes_come_back_in_order(data: bytes) -> None:
    grouped = pa.compress(b"".join(data[first::4] for first in range(4)), codec="lz4", asbytes=True)
    chunk = Chunk(0, 8 + len(grouped), len(data), GROUPED_LZ4)
    assert content_of(bytes(8) + grouped, chunk) == data


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1), st.booleans())
def test_the_chunks_of_a_xorb_are_found(contents: list[bytes], footer: bool) -> None:
    sizes = [len(data).to_bytes(3, "little") for data in contents]
    parts = [
        b"\0" + size + bytes([STORED]) + size + data for size, data in zip(sizes, contents, strict=True)
    ]  # version, stored size, scheme, size
    xorb = b"".join(parts) + (b"XETBLOB\x01" + b"..." if footer else b"")
    chunks = chunks_of(xorb)
    assert [content_of(xorb, chunk) for chunk in chunks] == contents
    with pytest.raises(Refusal):
        chunks_of(b"".join(parts)[:-1])


def test_a_damaged_shard_is_refused() -> None:
    for body in (b"", b"HFRepo", bytes(500)):
        with pytest.raises(Refusal):
            shard_of(body)
