"""A corpus on an object store is described and published where it lies: what goes to the Hub, what goes to the disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_folders import contents, corpus_folder, record, stored, upload
from loopback_hub.faults import Fault
from loopback_hub.server import Hub
from loopback_s3.faults import UNAVAILABLE
from loopback_s3.faults import Fault as S3Fault
from loopback_s3.server import ScriptedS3

import hfsynth
from hfsynth.core.errors import OutputError
from hfsynth.core.stores import any_path
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import check_folder_card, prepare, write_card

SHAPE = {"default": {"train": 2}, "pairs": {"train": 2}}
STATED = CardSettings(license="cc-by-4.0", language=("en",))

WATCHED = """
import json, os, sys, threading, time
import hfsynth

url, *folders = sys.argv[1:]
peak, ended = 0, threading.Event()

def size():
    total = 0
    for folder in folders:
        for at, _, names in os.walk(folder):
            for name in names:
                try:
                    total += os.lstat(os.path.join(at, name)).st_size
                except OSError:
                    pass
    return total

def watch():
    global peak
    while not ended.is_set():
        peak = max(peak, size())
        time.sleep(0.002)

before = size()
thread = threading.Thread(target=watch)
thread.start()
result = hfsynth.push(url, "user/corpus", license="cc-by-4.0", language="en")
ended.set()
thread.join()
print(json.dumps({"commit": result.commit, "peak": peak - before}))
"""


@pytest.fixture(params=["lfs", "xet"])
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with Hub(xet=request.param == "xet") as running:
        yield running


def command(hub: Hub, tmp_path: Path, *arguments: object) -> str:
    argv = [sys.executable, "-m", "hfsynth", *map(str, arguments)]
    return hub.run(argv, hub.env(tmp_path)).stdout


def test_the_card_of_a_corpus_on_a_store_is_that_of_the_same_folder(bucket: str, tmp_path: Path) -> None:
    folder, url = corpus_folder(tmp_path / "corpus", SHAPE), f"{bucket}/some/corpus"
    upload(folder, url)
    write_card(folder, STATED)
    result = write_card(url, STATED)
    assert result.changed and str(result.path) == f"{url}/README.md"
    assert stored(url) == contents(folder)
    assert not write_card(url, STATED).changed
    check_folder_card(url)
    write_card(url, CardSettings(title="Another title"))
    with pytest.raises(OutputError, match=f"of {url} is stale"):
        check_folder_card(url, CardSettings(title="A third title"))


def test_a_push_from_a_store_is_that_of_the_same_folder(hub: Hub, bucket: str, tmp_path: Path) -> None:
    folder, url = corpus_folder(tmp_path / "corpus", SHAPE), f"{bucket}/corpus"
    upload(folder, url)
    options = ("--license", "cc-by-4.0", "--language", "en", "--json")
    assert json.loads(command(hub, tmp_path, "push", url, "user/corpus", *options))["changed"] is True
    assert hub.files("user/corpus") == stored(url)
    assert hub.commits("user/corpus") == 1
    assert json.loads(command(hub, tmp_path, "push", url, "user/corpus", *options))["changed"] is False
    command(hub, tmp_path, "push", folder, "user/other", *options)
    data = {path: content for path, content in hub.files("user/other").items() if path.endswith(".parquet")}
    assert data.items() <= hub.files("user/corpus").items()


def test_a_push_from_a_store_leaves_no_file_on_the_disk_meanwhile(hub: Hub, bucket: str, tmp_path: Path) -> None:
    folder, url = corpus_folder(tmp_path / "corpus", SHAPE), f"{bucket}/corpus"
    for number, path in enumerate(sorted(folder.glob("*/*.parquet"))):
        texts = [noise(f"{number} {row}", 1000) for row in range(3000)]
        rows: dict[str, Any] = {"text": texts}
        if path.parent.name == "pairs":
            rows["pairs"] = [[{"instruction": "What?", "response": text[:50]}] for text in texts]
        pq.write_table(pa.table(rows), path)
    record(folder)
    upload(folder, url)
    smallest = min(path.stat().st_size for path in folder.glob("*/*.parquet"))
    env = hub.env(tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    program = [sys.executable, "-c", WATCHED, url, str(temporary), env["HF_HOME"]]
    found = json.loads(hub.run(program, {**env, "TMPDIR": str(temporary)}).stdout.splitlines()[-1])
    assert hub.files("user/corpus") == stored(url)
    assert smallest > 1_500_000 and found["peak"] < smallest / 2, (smallest, found)


def noise(name: str, length: int) -> str:
    return "".join(Random(name).choices("abcdefghijklmnopqrstuvwxyz ", k=length))


def test_what_may_not_be_pushed_is_refused_on_a_store_too(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/corpus"
    place = upload(corpus_folder(tmp_path / "corpus", SHAPE), url)
    prepare(place, "user/corpus", "dataset", STATED, write=False)
    (place / "notes" / "key.txt").put(b"AKIA" + b"Q7T3M5ZX2WPL7KDN")
    with pytest.raises(OutputError, match=r"What looks like a secret is in notes/key.txt"):
        prepare(place, "user/corpus", "dataset", CardSettings(license="mit", include=("notes/*",)), write=False)
    part = place / "data" / "train-00001-of-00002.parquet"
    content = part.read_bytes()
    part.put(content[:-200] + bytes(200))
    with pytest.raises(OutputError, match="is damaged"):
        prepare(place, "user/corpus", "dataset", STATED, write=False)
    part.put(content[:-1])
    with pytest.raises(OutputError, match="is not whole: data/train-00001-of-00002.parquet has"):
        prepare(place, "user/corpus", "dataset", STATED, write=False)
    part.unlink()
    with pytest.raises(OutputError, match="is not whole: data/train-00001-of-00002.parquet is missing"):
        prepare(place, "user/corpus", "dataset", STATED, write=False)
    (place / ".hfsynth" / "manifest.json").unlink()
    with pytest.raises(OutputError, match=f"{url} is not finished"):
        prepare(place, "user/corpus", "dataset", STATED, write=False)


@pytest.mark.parametrize(
    ("url", "said"),
    [("BUCKET/nothing", "BUCKET/nothing is no folder"), ("s3://no-bucket-here/a", "s3://no-bucket-here")],
)
def test_where_there_is_no_corpus_it_is_said(bucket: str, url: str, said: str) -> None:
    with pytest.raises(OutputError) as told:
        hfsynth.card(url.replace("BUCKET", bucket), license="mit")
    assert said.replace("BUCKET", bucket) in told.value.message and told.value.hint


def test_a_card_is_written_through_faults(scripted_s3: ScriptedS3, tmp_path: Path) -> None:
    """Whatever request fails once, the card is there, and what was read is what is there."""
    folder, url = corpus_folder(tmp_path / "corpus", SHAPE), "s3://bucket/corpus"
    upload(folder, url)
    write_card(folder, STATED)
    before = dict(scripted_s3.bucket("bucket").objects)
    scripted_s3.script.clear()
    write_card(url, STATED)
    asked = len(scripted_s3.script.requests)
    for number in range(1, asked + 1, 3):
        scripted_s3.bucket("bucket").objects = dict(before)
        scripted_s3.script.clear()
        scripted_s3.script.add(UNAVAILABLE, nth=number)
        write_card(url, STATED)
        assert stored(url) == contents(folder)


PUSH = """
import json, sys
import hfsynth
from hfsynth.core.errors import HfsynthError

try:
    options = hfsynth.PushOptions(timeout=float(sys.argv[2]))
    print(hfsynth.push(sys.argv[1], "user/corpus", options, license="cc-by-4.0", language="en").changed)
except HfsynthError as error:
    print(json.dumps([type(error).__name__, error.message, error.hint]))
"""


def pushed(hub: Hub, tmp_path: Path, url: str, *, timeout: float) -> str:
    program = [sys.executable, "-c", PUSH, url, str(timeout)]
    return str(hub.run(program, hub.env(tmp_path)).stdout.splitlines()[-1])


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(drop="before"), Fault(drop="after")])
def test_what_the_hub_fails_to_take_is_read_and_sent_again(hub: Hub, bucket: str, tmp_path: Path, fault: Fault) -> None:
    url = f"{bucket}/corpus"
    upload(corpus_folder(tmp_path / "corpus", SHAPE), url)
    rule = hub.faults.add(fault, match=r"POST /xet/v1/(xorbs|shards)|PUT /", times=2)
    assert pushed(hub, tmp_path, url, timeout=60) == "True"
    assert rule.fired == 2 and hub.files("user/corpus") == stored(url) and hub.commits("user/corpus") == 1


def test_a_storage_that_takes_nothing_more_is_given_up(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/corpus"
    upload(corpus_folder(tmp_path / "corpus", SHAPE), url)
    with Hub(xet=True) as hub:
        hub.faults.add(Fault(delay=600), match="POST /xet/v1/xorbs/", times=None)
        assert "nothing has moved for 2 s" in pushed(hub, tmp_path, url, timeout=2)
        assert hub.commits("user/corpus") == 0


def test_a_store_that_goes_away_leaves_the_repo_as_it_was(hub: Hub, scripted_s3: ScriptedS3, tmp_path: Path) -> None:
    url = "s3://bucket/corpus"
    upload(corpus_folder(tmp_path / "corpus", SHAPE), url)
    write_card(url, STATED)
    scripted_s3.script.clear()
    prepare(any_path(url), "user/corpus", "dataset", STATED)
    before = scripted_s3.script.counted()["GetObject"]
    scripted_s3.script.clear()
    scripted_s3.script.add(S3Fault(status=403), "GetObject", nth=before + 5, times=None)
    kind, message, hint = json.loads(pushed(hub, tmp_path, url, timeout=20))
    assert kind == "OutputError" and url in message and hint
    assert hub.commits("user/corpus") == 0
    scripted_s3.script.clear()
    assert pushed(hub, tmp_path, url, timeout=60) == "True"
    assert hub.files("user/corpus") == stored(url)
