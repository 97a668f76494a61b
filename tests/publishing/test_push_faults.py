"""A push among faults, kills and readers: the old state or the new one, never a mixture, and nothing sent twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_folders import contents, corpus_folder
from loopback_hub.faults import Fault, Request
from loopback_hub.server import Hub
from seeds import EVERYTHING, SEED
from started import start_process

from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import write_card

SMALL = {"default": {"train": 3}, "pairs": {"train": 3}}
LARGE = {"default": {"train": 40}, "pairs": {"train": 40}, "more": {"train": 40}}
STATED = CardSettings(license="mit", language=("en",), title="Title")

# Pushes one folder after another, as lines on standard input say, and answers each with a line.
WORKER = """
import json, sys
from hfsynth.core.errors import HfsynthError
from hfsynth.publishing.hub import PushOptions, push_folder
for line in sys.stdin:
    folder, repo, limit = json.loads(line)
    try:
        answer = push_folder(folder, repo, PushOptions(timeout=60, commit_limit=limit)).changed
    except HfsynthError as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
"""
# Look at the tree, or at the rows of one config, until the new state is there; say everything that was seen.
READER = """
import json, time
from datasets import load_dataset
from huggingface_hub import HfApi

def tree():
    files = HfApi().list_repo_tree("user/corpus", repo_type="dataset", recursive=True)
    return sorted([f.path, f.lfs.sha256 if f.lfs else f.blob_id] for f in files if hasattr(f, "lfs"))

def rows():
    loaded = load_dataset("user/corpus", "more", split="train", streaming=True)
    return sorted({{row["text"].split()[0] for row in loaded}})

seen, deadline = [{what}()], time.monotonic() + 600
print("ready", flush=True)
while {what}() == seen[0] and time.monotonic() < deadline:
    time.sleep(0.01)
seen.append({what}())
print(json.dumps(seen))
"""


class Worker:
    """A process that pushes what it is told, one folder after another."""

    def __init__(self, hub: Hub, tmp_path: Path) -> None:
        self.errors = tmp_path / "errors.txt"
        pipe = subprocess.PIPE
        with self.errors.open("w") as errors:
            argv, env = [sys.executable, "-c", WORKER], hub.env(tmp_path)
            self.process = start_process(argv, env=env, stdin=pipe, stdout=pipe, stderr=errors)

    def push(self, folder: Path, repo: str, limit: int = 1000) -> Any:  # noqa: ANN401
        """Push, and return whether something changed, or what was wrong."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder), repo, limit]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else self.errors.read_text()


@contextmanager
def worker(hub: Hub, tmp_path: Path) -> Iterator[Worker]:
    found = Worker(hub, tmp_path)
    with found.process:
        try:
            yield found
        finally:
            found.process.kill()


def versions(tmp_path: Path, shape: Mapping[str, Mapping[str, int]]) -> tuple[Path, Path]:
    """Return an old and a new version of one corpus, the old one with a file that the new one has not."""
    pairs = dict(shape["pairs"])
    old = corpus_folder(tmp_path / "old", {**shape, "pairs": {"train": pairs["train"] + 1}}, mark="old")
    new = corpus_folder(tmp_path / "new", shape, mark="new")
    for folder in (old, new):
        write_card(folder, STATED)
    return old, new


def expected(folder: Path, repo: str) -> dict[str, bytes]:
    """Return what a repo holds after a push of `folder`: its files, with the card as it is for that repo."""
    files = contents(folder)
    card = write_card(folder, CardSettings(repo=repo)).path.read_bytes()
    return {**files, "README.md": card}


FAULTS = {
    "429": Fault.rate_limit(0),
    "503": Fault.retry_after(503, 0),
    "412": Fault(status=412),
    "reset": Fault(drop="before"),
}
# To the storage's client 412 is no failure: the Hub alone says it.
ASKED = {"412": "^[A-Z]+ /(?!xet/)"}


@pytest.mark.long
@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_fault_at_every_request_in_turn(xet: bool, tmp_path: Path) -> None:
    """Every request meets a fault, and every fault each fourth request: which of them, the seed says."""
    for turn in range(len(FAULTS)) if EVERYTHING else [SEED % len(FAULTS)]:
        walks = [(name, (place + turn) % len(FAULTS) + 1) for place, name in enumerate(FAULTS)]
        with ThreadPoolExecutor(len(walks)) as pool:  # most of the time is waiting: walk side by side
            walked = pool.map(lambda walk, turn=turn: _walk(tmp_path / f"{walk[0]}-{turn}", *walk, xet=xet), walks)
            struck = list(walked)
        assert sum(struck) >= 25 and min(struck) >= 5, struck


def _walk(tmp_path: Path, name: str, first: int, *, xet: bool) -> int:
    """Push to new repos with a fault at every fourth request in turn; return how many requests were struck."""
    tmp_path.mkdir()
    old, new = versions(tmp_path, SMALL)
    before, struck = contents(old), 0
    with Hub(xet=xet) as hub, worker(hub, tmp_path) as process:
        for nth in range(first, 200, len(FAULTS)):
            repo = f"user/corpus{nth}"
            hub.commit(repo, before, author="user")
            sent = hub.sent.copy()
            if xet:  # what another repo has already would not be sent at all
                new = corpus_folder(tmp_path / f"new{nth}", SMALL, mark=f"new{nth}")
                write_card(new, STATED)
            rule = hub.faults.add(FAULTS[name], match=ASKED.get(name) if xet else None, nth=nth)
            assert process.push(new, repo) is True, f"{name} at request {nth}"
            hub.faults.clear()
            assert hub.files(repo) == expected(new, repo), f"{name} at request {nth}"
            assert hub.commits(repo) == 2, f"{name} at request {nth}"
            assert sorted((hub.sent - sent).values()) == [1] * (1 if xet else 6), f"{name} at request {nth}"
            if not rule.fired:
                return struck
            struck += 1
    raise AssertionError("a push that never ends")


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_commit_whose_answer_is_lost_is_found(xet: bool, tmp_path: Path) -> None:
    old, new = versions(tmp_path, SMALL)
    lost = [Fault(drop="after"), Fault(status=504, carried_out=True), Fault(drop="midway", how="close")]
    with Hub(xet=xet) as hub, worker(hub, tmp_path) as process:
        for number, fault in enumerate(lost):
            repo = f"user/corpus{number}"
            hub.commit(repo, contents(old), author="user")
            hub.faults.add(fault, match=f"POST .*{repo}/commit/main")
            assert process.push(new, repo) is True
            assert hub.files(repo) == expected(new, repo) and hub.commits(repo) == 2


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_pull_request_among_faults(xet: bool, tmp_path: Path) -> None:
    old, new = versions(tmp_path, SMALL)
    calls = ["/discussions$", "/commit/refs", "/status$", "/merge$"]
    faults = [Fault(drop="after"), Fault(status=412)]
    with Hub(xet=xet) as hub, worker(hub, tmp_path) as process:
        for number, (call, fault) in enumerate((call, fault) for call in calls for fault in faults):
            repo = f"user/corpus{number}"
            hub.commit(repo, contents(old), author="user")
            rule = hub.faults.add(fault, match=f"POST .*{repo}{call}|POST .*{repo}/discussions.*{call}")
            assert process.push(new, repo, 5) is True, rule
            assert rule.fired and hub.files(repo) == expected(new, repo), rule
            assert hub.commits(repo) == 2 and [d.status for d in hub.repo(repo).discussions.values()] == ["merged"]


@pytest.mark.long
@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_killed_at_many_moments_and_started_again(xet: bool, tmp_path: Path) -> None:
    times = 20 if EVERYTHING else 5
    old, new = versions(tmp_path, SMALL)
    moments = random.Random(SEED)
    plan = [(n, moments.randint(4, 24), moments.uniform(0, 0.03)) for n in range(times)]
    with Hub(xet=xet) as hub, worker(hub, tmp_path) as process:
        with ThreadPoolExecutor(3) as pool:
            killed = list(pool.map(lambda item: _killed(tmp_path, old, new, *item, xet=xet), plan))
        assert sum(killed) >= times * 3 / 4
        hub.commit("user/corpus", contents(old), author="user")
        assert process.push(new, "user/corpus") is True


def _killed(tmp_path: Path, old: Path, new: Path, number: int, nth: int, delay: float, *, xet: bool) -> bool:
    """Kill a push at a moment, look at the repo, push again, and look again; say whether the kill came in time."""
    repo = "user/corpus"
    with Hub(xet=xet) as hub:
        hub.commit(repo, contents(old), author="user")
        started: list[subprocess.Popen[str]] = []

        def kill(request: Request) -> None:
            time.sleep(delay)
            started[0].send_signal(signal.SIGKILL)

        hub.at(nth, kill)
        env = hub.env(tmp_path)
        argv = [sys.executable, "-c", WORKER]
        code = WORKER.replace("sys.stdin", f"[{json.dumps(json.dumps([str(new), repo, 1000]))}]")
        started.append(hub.start([*argv[:2], code], env))
        started[0].communicate(timeout=600)
        after = hub.files(repo)
        assert after in (contents(old), expected(new, repo)), f"a mixture after request {nth}"
        assert hub.run([*argv[:2], code], env).stdout.strip() in ("true", "false")
        assert hub.files(repo) == expected(new, repo) and hub.commits(repo) == 2
        if xet:  # all of it is one xorb, in any order of the files; it goes again where the kill came upon it
            assert sum(hub.sent.values()) <= 2
        else:
            assert set(hub.sent.values()) == {1} and len(hub.sent) == 6
        return started[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_readers_see_the_old_state_or_the_new(xet: bool, tmp_path: Path) -> None:
    old, new = versions(tmp_path, LARGE)
    with Hub(xet=xet) as hub, worker(hub, tmp_path) as process:
        hub.commit("user/corpus", contents(old), author="user")
        first = hub.head("user/corpus")
        readers = [hub.start(READER.format(what=what), hub.env(tmp_path)) for what in ("tree", "rows")]
        for reader in readers:
            assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
        assert process.push(new, "user/corpus") is True
        trees, rows = (json.loads(reader.communicate(timeout=600)[0].splitlines()[-1]) for reader in readers)
        assert trees == [_listing(hub, first), _listing(hub, "main")]
        assert rows == [["old"], ["new"]]
        assert hub.files("user/corpus") == expected(new, "user/corpus")
        assert hub.commits("user/corpus") == 2 and set(hub.sent.values()) == {1}
        assert len(hub.sent) == (2 if xet else 120)  # a xorb for each unit of 64 files


def _listing(hub: Hub, revision: str) -> list[list[str]]:
    tree = hub.repo("user/corpus").resolve(revision).tree
    return sorted([path, entry.sha256 if entry.lfs else entry.oid] for path, entry in tree.items())


def large_folder(root: Path, files: int, size: int) -> Path:
    """Write a finished folder whose files cannot be made smaller."""
    folder = corpus_folder(root, {"default": {"train": files}, "pairs": {"train": 1}})
    manifest = folder / ".hfsynth/manifest.json"
    found = json.loads(manifest.read_text())
    for number, path in enumerate(sorted((folder / "data").iterdir())):
        noise = random.Random(number).randbytes(size)
        texts = pa.array([noise[at : at + 2**16].hex() for at in range(0, size, 2**16)])
        pq.write_table(pa.table({"text": texts}), path, compression="zstd")
        content = path.read_bytes()
        described = {"rows": len(texts), "size": len(content), "sha256": sha256(content).hexdigest()}
        found["files"][f"data/{path.name}"] = described
    manifest.write_text(json.dumps(found))
    return folder


def test_a_killed_push_sends_no_xorb_twice(tmp_path: Path) -> None:
    """A xorb holds 64 MB; one is under way at a time here, so one at most may have to be sent again."""
    folder = large_folder(tmp_path / "corpus", 2, 40 * 10**6)
    write_card(folder, STATED)
    with Hub(xet=True) as hub:
        env = hub.env(tmp_path) | {f"HF_XET_CLIENT_AC_{which}_UPLOAD_CONCURRENCY": "1" for which in ("INITIAL", "MAX")}
        code = WORKER.replace("sys.stdin", f"[{json.dumps(json.dumps([str(folder), 'user/corpus', 1000]))}]")
        for nth in (2, 1):
            started: list[subprocess.Popen[str]] = []
            rule = hub.at(nth, lambda request: started[0].send_signal(signal.SIGKILL), "POST /xet/v1/xorbs/")  # noqa: B023
            started.append(hub.start(code, env))
            started[0].communicate(timeout=600)
            assert rule.fired and started[0].returncode == -signal.SIGKILL
        assert hub.run(code, env).stdout.strip() == "true"
        assert hub.files("user/corpus") == expected(folder, "user/corpus") and hub.commits("user/corpus") == 1
        content = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        stored = sum(len(hub.api.xet.xorbs[name]) * times for name, times in hub.sent.items())
        assert set(hub.sent.values()) == {1} and stored < 1.01 * content
