"""A page on its way over the Hub: a Space's files, one commit of them, and the Space started from its own files."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from loopback_hub.server import Hub
from page_corpora import everything

from hfsynth.page.space import space_files
from hfsynth.version import __version__

COMMAND = [sys.executable, "-m", "hfsynth", "page"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = everything(tmp_path_factory.mktemp("space") / "corpus")
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with Hub() as made:
        made.commit("user/corpus", files)
        yield made


def pushed(hub: Hub, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return hub.run([*COMMAND, *words], hub.env(folder), check=False)


def test_a_space_is_three_files_that_say_everything() -> None:
    files = space_files("user/corpus", "user/page")
    front = yaml.safe_load(files["README.md"].split("---")[1])
    assert front["sdk"] == "gradio" and re.fullmatch(r"6\.\d+\.\d+", front["sdk_version"])
    assert front["python_version"] == "3.12" and isinstance(front["python_version"], str)
    assert front["datasets"] == ["user/corpus"] and front["app_file"] == "app.py"
    assert front["suggested_hardware"] == "cpu-basic" and len(front["short_description"]) <= 60
    assert files["requirements.txt"].endswith(f"hfsynth[app,cpu]=={__version__}\n")
    assert len(files["app.py"].splitlines()) <= 10
    other = space_files("user/corpus@v1", "user/page", "user/model")
    front = yaml.safe_load(other["README.md"].split("---")[1])
    assert front["models"] == ["user/model"] and front["datasets"] == ["user/corpus"]
    assert "app,vllm" in other["requirements.txt"] and "'user/corpus@v1'" in other["app.py"]


def test_a_page_is_published_in_one_commit_and_stays_as_it_is(hub: Hub, tmp_path: Path) -> None:
    done = pushed(hub, tmp_path, "user/corpus", "--push", "user/page", "--model", "mined")
    assert done.returncode == 0 and done.stdout.strip() == f"{hub.endpoint}/spaces/user/page", done.stderr
    assert {"README.md", "app.py", "requirements.txt"} <= set(hub.files("user/page", kind="space"))
    commits = hub.commits("user/page", kind="space")
    again = pushed(hub, tmp_path, "user/corpus", "--push", "user/page", "--model", "mined")
    assert "nothing had to change" in again.stderr and hub.commits("user/page", kind="space") == commits


def test_what_cannot_be_published_is_refused_with_the_next_step(hub: Hub, tmp_path: Path) -> None:
    folder = everything(tmp_path / "corpus")
    local = pushed(hub, tmp_path, str(folder), "--push", "user/other")
    assert local.returncode == 1 and "hfsynth push" in local.stderr
    nowhere = pushed(hub, tmp_path, "user/nowhere", "--push", "user/other")
    assert nowhere.returncode == 1 and "user/nowhere" in nowhere.stderr
    hub.commit("user/theirs", {"app.py": b"print()", "README.md": b"---\nsdk: gradio\n---\n"}, kind="space")
    theirs = pushed(hub, tmp_path, "user/corpus", "--push", "user/theirs")
    assert theirs.returncode == 1 and "another app" in theirs.stderr
    assert hub.files("user/theirs", kind="space")["app.py"] == b"print()"
    assert pushed(hub, tmp_path, "--push", "user/other").returncode == 2
    assert pushed(hub, tmp_path, "user/corpus", "--push", "no name").returncode == 1


def test_a_space_runs_from_its_own_files(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    place = tmp_path / "space"
    place.mkdir()
    for name, text in space_files("user/corpus", "user/page", "mined").items():
        (place / name).write_text(text, encoding="utf-8")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    env = {**hub.env(tmp_path), "GRADIO_SERVER_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=place, env=env)
    try:
        config = json.loads(_answered(f"http://127.0.0.1:{port}/config"))
    finally:
        process.terminate()
        process.wait(timeout=30)
    shown = json.dumps(config)
    assert "user/corpus" in shown and "13" in shown and "Cordouan" in shown


def _answered(address: str) -> str:
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
