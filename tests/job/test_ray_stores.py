"""Ray on two nodes that share nothing but an object store: each has mounts and process ids of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jobs import command, documents, ended, run, scripted, start, until
from loopback_s3.moto import MotoS3
from stores import left_over, pairs_of, stats_of

from hfsynth.core.stores import open_store

ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def can_be_alone() -> bool:
    """Return whether this user may make namespaces."""
    try:
        return subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed"),
    pytest.mark.skipif(not can_be_alone(), reason="no namespaces can be made here (util-linux, root)"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own: unclosed sockets and files of the cluster it starts
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the address of a cluster whose head does no work."""
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for every other test
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield made.address
        made.shutdown()
    signal.signal(signal.SIGTERM, before)


@contextmanager
def node(address: str, scratch: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Add a node with one processor. It sees an empty folder at `scratch`, its folder for temporary files."""
    scratch.mkdir(exist_ok=True)
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--address", address, "--num-cpus", "1", "--block"]
    words = [*ALONE, "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(scratch), *ray]
    env = {**os.environ, "TMPDIR": str(scratch), **variables}
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        try:
            # Two nodes that start at once take the same names for their sockets.
            assert any("runtime started" in line for line in process.stdout or ()), "the node did not start"
            yield process
        finally:
            process.kill()


def ray_command(source: Path, url: str, address: str, *options: Any) -> list[str]:  # noqa: ANN401
    ray = ("--launcher", "ray", "--address", address, "--gpus-per-worker", 0, "--workers", 2)
    return command(source, url, *options, *ray)


def names(url: str, folder: str) -> list[str]:
    return [entry.key for entry in open_store(url).list(f".hfsynth/{folder}/")]


def test_a_node_is_lost_and_nothing_is_shared_but_the_store(
    address: str, tmp_path: Path, moto_s3: MotoS3, bucket: str
) -> None:
    url, source = f"{bucket}/corpus", documents(tmp_path / "texts.jsonl", 400)
    options = (*scripted(latency=0.1), "--shots", 2, "--shard-rows", 20)
    run(command(source, tmp_path / "whole", *options, "--workers", 0))
    variables = moto_s3.env()
    with node(address, tmp_path / "one", variables), node(address, tmp_path / "two", variables) as lost:
        process = start(ray_command(source, url, address, *options))
        assert until(lambda: len(names(url, "workers/beats")) == 2 and len(names(url, "records")) > 3, process)
        lost.kill()
        code, _, errors = ended(process)
    assert code == 0, errors
    assert pairs_of(url) == pairs_of(tmp_path / "whole")
    assert stats_of(url)["documents"]["ok"] == 400
    assert not left_over(url)


def test_a_node_that_cannot_reach_the_store_is_said_at_once(
    address: str, tmp_path: Path, moto_s3: MotoS3, bucket: str
) -> None:
    url, source = f"{bucket}/corpus", documents(tmp_path / "texts.jsonl", 5)
    elsewhere = {**moto_s3.env(), "AWS_ALLOW_HTTP": "false"}
    with node(address, tmp_path / "one", elsewhere):
        code, _, errors = ended(start(ray_command(source, url, address, *scripted())))
    assert code == 1 and f"{url} cannot be worked on from the node" in errors and "variables" in errors
