"""Paths on a store do what paths of this machine do, and ask the store no more than they must."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from corpus_folders import upload
from hypothesis import given
from hypothesis import strategies as st
from loopback_s3.server import ScriptedS3

from hfsynth.core.errors import OutputError
from hfsynth.core.files import file_digest, read_json, write_json
from hfsynth.core.store_paths import AnyPath, StorePath, sorted_glob
from hfsynth.core.stores import any_path

pytest.importorskip("obstore")

NAMES = st.text("ab.-~0", min_size=1, max_size=3).filter(lambda name: name.strip("."))
KEYS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12)


def memory(files: dict[str, bytes]) -> StorePath:
    place = any_path(f"memory://{uuid4().hex}")
    assert isinstance(place, StorePath)
    for key, content in files.items():
        (place / key).put(content)
    return place


def seen(place: AnyPath) -> Any:  # noqa: ANN401
    """Return what one can see of a place and all below it."""
    below = {path.name: seen(path) for path in place.iterdir()} if place.is_dir() else {}
    content = (place.read_bytes(), place.stat().st_size) if place.is_file() else None
    return place.exists(), content, below


@given(KEYS)
def test_a_store_looks_like_the_same_folder(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    folder = tmp_path_factory.mktemp("folder")
    for key in keys:
        path = folder / key
        if not path.exists() and all(not part.is_file() for part in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.encode())
    url = f"memory://{uuid4().hex}"
    place = upload(folder, url)
    assert seen(place) == seen(folder)
    for pattern in ("*", "a*", "*/*", "a/*b", ".a/*"):
        folder_name = folder / pattern.rpartition("/")[0]
        if "*" not in str(folder_name):
            here = sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))
            assert [path.relative_to(place).as_posix() for path in sorted_glob(place, pattern)] == here


def test_names_are_those_of_pathlib() -> None:
    root = memory({})
    path = root / "pairs" / "train-00000-of-00001.parquet"
    assert str(path) == f"{root}/pairs/train-00000-of-00001.parquet" and path.key == str(path.relative_to(root))
    assert (path.name, path.parent, path.parent.parent) == ("train-00000-of-00001.parquet", root / "pairs", root)
    assert root.name == str(root).removeprefix("memory://") and root.resolve() == root.parent == root
    assert path.with_suffix(".json").name == "train-00000-of-00001.json" and path.with_name("x") == root / "pairs/x"
    assert {path, root / "pairs/train-00000-of-00001.parquet"} == {path} and root / "a" < root / "b"
    with pytest.raises(ValueError, match="is not below"):
        path.relative_to(Path("pairs"))
    with pytest.raises(TypeError, match="it has no path on this machine"):
        os.fspath(path)


def test_files_are_read_and_written() -> None:
    root = memory({"text": "a\r\nb\xe4".encode("latin-1")})
    assert (root / "text").read_text("utf-8", "replace") == "a\nb\ufffd"
    assert read_json(root / "values.json") is None
    write_json(root / "values.json", {"a": [1]})
    assert read_json(root / "values.json") == {"a": [1]}
    assert (
        file_digest(root / "values.json")[1]
        == (root / "values.json").stat().st_size
        == len(b'{\n  "a": [\n    1\n  ]\n}\n')
    )
    (root / "values.json").copy_to(root / "copied.json")
    with (root / "copied.json").open("rb") as file:
        file.seek(-2, os.SEEK_END)
        assert file.read() == b"}\n"
    (root / "values.json").unlink()
    assert not (root / "values.json").exists() and (root / "copied.json").is_file()
    with pytest.raises(FileNotFoundError):
        (root / "values.json").stat()
    with pytest.raises(OutputError, match="is damaged"):
        read_json(root / "text")


def test_a_folder_of_thousands_below_is_not_listed(scripted_s3: ScriptedS3) -> None:
    """What lies right in a folder is found by a request for each of its folders, whatever is in these."""
    bucket = scripted_s3.bucket("bucket")
    for number in range(5000):
        bucket.put(f"corpus/.hfsynth/records/{number:05d}.json", b"{}", {})
        bucket.put(f"corpus/.hfsynth/segments/{number:05d}/000001.jsonl.zst", b"", {})
    for name in (".hfsynth/manifest.json", "README.md", "pairs/train-00000-of-00001.parquet"):
        bucket.put(f"corpus/{name}", b"{}", {})
    place = any_path("s3://bucket/corpus")
    assert [path.name for path in place.iterdir()] == [".hfsynth", "README.md", "pairs"]
    assert [path.name for path in sorted_glob(place / ".hfsynth", "*manifest*.json")] == ["manifest.json"]
    assert (place / ".hfsynth" / "manifest.json").is_file() and not (place / ".hfsynth" / "job.json").exists()
    assert scripted_s3.script.counted()["ListObjectsV2"] <= 8


def test_a_file_that_is_not_there_is_removed_without_a_request(scripted_s3: ScriptedS3) -> None:
    path = any_path("s3://bucket/corpus") / "old.svg"
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()
    assert "DeleteObjects" not in scripted_s3.script.counted()
