"""The same workers as Ray actors, on a real cluster of two nodes on this machine, one of which is lost."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from jobs import command, documents, ended, parts, run, scripted, start, stats, until
from scripts_kill import LOG

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own: unclosed sockets and files of the cluster it starts
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the cluster's nodes tell whatever runs on them to note its calls."""
    return tmp_path_factory.mktemp("ray") / "calls"


@pytest.fixture(scope="module")
def cluster(log: Path) -> Iterator[Any]:
    """Return a cluster of one node, to which others can be added."""
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for every other test
        patch.setenv(LOG, str(log))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        yield made
        made.shutdown()
    # A node of the cluster answers SIGTERM in this process; a forked worker of a later test's pool that inherits the
    # answer outlives the pool's end, which waits for it for ever.
    signal.signal(signal.SIGTERM, before)


def pids(out: Path) -> list[int]:
    """Return the processes of the workers that say they are running."""
    sessions = [json.loads(path.read_text()) for path in (out / ".hfsynth" / "sessions").glob("[!.]*.json")]
    return [session["pid"] for session in sessions if session.get("ended", "buried") is None]


def node_of(pid: int) -> int:
    """Return the raylet a worker's process descends from: worker, actor, raylet."""
    actor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return int(Path(f"/proc/{actor}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_node_is_lost_half_way(cluster: Any, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    second = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    log.unlink(missing_ok=True)
    source, out = documents(tmp_path / "texts.jsonl", 1000), tmp_path / "out"
    options = (*scripted(latency=0.1), "--shots", 2, "--shard-rows", 20)
    ray = ("--launcher", "ray", "--address", cluster.address, "--gpus-per-worker", 0, "--workers", 2)
    monkeypatch.delenv(LOG)
    run(command(source, tmp_path / "whole", *options, "--workers", 0))
    process = start(command(source, out, *options, *ray))
    # One of them may be well ahead before the other's node has started a process.
    assert until(lambda: len({node_of(pid) for pid in pids(out)}) == 2, process)
    before = len(log.read_text().splitlines()) if log.exists() else 0
    assert until(lambda: log.exists() and len(log.read_text().splitlines()) > before + 100, process)
    cluster.remove_node(second, allow_graceful=False)
    code, _, errors = ended(process)
    assert code == 0, errors
    assert parts(out) == parts(tmp_path / "whole")
    begun = Counter(call for call in log.read_text().splitlines() if "|" not in call)
    assert len(begun) == 500
    assert sum(begun.values()) - 500 <= 2 * 4
    found = stats(out)
    assert len(found["workers"]) == 3
    assert sorted(worker["ended"] for worker in found["workers"])[:2] == ["done", "done"]
    assert not [pid for pid in pids(out) if Path(f"/proc/{pid}").exists()]


def test_a_verification_on_ray_judges_as_one_here(cluster: Any, tmp_path: Path) -> None:  # noqa: ANN401
    source, out, other = documents(tmp_path / "texts.jsonl", 60), tmp_path / "out", tmp_path / "other"
    run(command(source, out, *scripted(), "--shard-rows", 20, "--workers", 0))
    shutil.copytree(out, other)
    judge = ["--judge", "scripts_kill:judging", "--keep", "accuracy>=0.5", "--shard-rows", "20", "--engine", "scripted"]
    ray = ["--launcher", "ray", "--address", cluster.address, "--gpus-per-worker", "0", "--workers", "2"]
    run([sys.executable, "-m", "hfsynth", "verify", str(out), *judge, *ray])
    run([sys.executable, "-m", "hfsynth", "verify", str(other), *judge])
    assert parts(out) == parts(other)
    assert stats(out)["verify"]["rejected"] == stats(other)["verify"]["rejected"] != {}


def test_a_poison_ends_as_one_failed_row_on_ray_too(cluster: Any, tmp_path: Path) -> None:  # noqa: ANN401
    poison = {13: "Text number 0013 is poison."}
    source, out = documents(tmp_path / "texts.jsonl", 30, special=poison), tmp_path / "out"
    ray = ("--launcher", "ray", "--address", cluster.address, "--gpus-per-worker", 0, "--workers", 1)
    arguments = command(source, out, *scripted("exiting"), *ray)
    code, _, errors = ended(start([*arguments, "--max-engine-restarts", "0"]))
    assert (code, "A worker ended with exit code 9; 1 died" in errors) == (1, True), errors
    run(arguments)
    rows = [row for path in sorted((out / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert [row["id"] for row in rows] == [f"d{n}" for n in range(30)]
    assert [row["id"] for row in rows if row["synthesis"]["status"] != "ok"] == ["d13"]
    assert stats(out)["engine_restarts"] == 3


ELSEWHERE = (
    "import sys; from pathlib import Path; from hfsynth.job import ray_launcher; "
    "from hfsynth.cli import main; "
    "sign = ray_launcher.signed; ray_launcher.signed = lambda out: sign(out) + '.elsewhere'; "
    "sys.argv = ['hfsynth', *sys.argv[1:]]; main()"
)
"""Give a job whose sign the actors look for in vain, as on a node with another folder of the same name."""


def test_a_node_that_does_not_share_the_folder_is_said_at_once(cluster: Any, tmp_path: Path) -> None:  # noqa: ANN401
    source, out = documents(tmp_path / "texts.jsonl", 5), tmp_path / "out"
    ray = ("--launcher", "ray", "--address", cluster.address, "--gpus-per-worker", 0, "--workers", 1)
    arguments = command(source, out, *scripted(), *ray)
    code, _, errors = ended(start([sys.executable, "-c", ELSEWHERE, *arguments[3:]]))
    assert code == 1 and f"{out} cannot be worked on from the node" in errors and "all nodes" in errors
    assert not list((out / ".hfsynth" / "sessions").glob("*"))  # no worker was started, and none has died
    run(arguments)
    assert stats(out)["documents"]["ok"] == 5
    assert not list((out / ".hfsynth").glob(".shared*"))


def test_a_sign_is_seen_where_the_folder_is_shared_and_nowhere_else(tmp_path: Path) -> None:
    from hfsynth.job.ray_launcher import signed, unseen

    out = str(tmp_path)
    sign = signed(out)
    assert unseen(out, sign, patience=0) is None and signed(out) != sign
    (tmp_path / sign).unlink()
    assert "another place" in (unseen(out, sign, patience=0) or "")


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 5)
    options = (*scripted(), "--launcher", "ray", "--address", "127.0.0.1:1")
    code, _, errors = ended(start(command(source, tmp_path / "out", *options)))
    assert (code, "cannot be reached" in errors) == (2, True)
