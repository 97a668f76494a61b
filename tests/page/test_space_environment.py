"""A Space in an environment of its own: its requirements installed as they stand, its app started, its page asked.

hfsynth itself is the wheel of this tree, for the version that the Space pins may not be on the index. With the embedded
model that is 3.5 gigabytes and five minutes: `make space`, or HFSYNTH_SPACE=1.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loopback_hub.server import Hub
from page_corpora import everything

from hfsynth.page.space import space_files

pytest.importorskip("gradio_client")
pytestmark = pytest.mark.long
ROOT = Path(__file__).parent.parent.parent
WHOLE = bool(os.environ.get("HFSYNTH_SPACE"))
TEXT = "The lamp was lit in 1823 at Cordouan, and every ship in the bay saw it that night."
HERE = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def run(*command: object, **environment: str) -> None:
    argv = [str(word) for word in command]
    done = subprocess.run(argv, env={**HERE, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@contextmanager
def started(python: Path, place: Path, env: dict[str, str]) -> Iterator[str]:
    """Start a Space's app as the Hub does, and lend its address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    own = {name: value for name, value in env.items() if name in HERE or not name.startswith("PYTHON")}
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [python, "app.py"], cwd=place, env={**own, "GRADIO_SERVER_PORT": str(port)}, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}/"
            until = time.monotonic() + 300
            while not _answers(address):
                assert process.poll() is None and time.monotonic() < until, (place / "log").read_text("utf-8")
                time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}config", timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def installed(place: Path, folder: Path) -> Path:
    """Install what a Space in `place` asks for into a new environment; return its Python."""
    run(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment")
    python = folder / "environment" / "bin" / "python"
    front = (place / "README.md").read_text("utf-8")
    gradio = re.search(r"sdk_version: '?([\d.]+)", front)
    assert gradio is not None
    wanted = ("-r", place / "requirements.txt", f"gradio=={gradio[1]}", wheel)
    # An index that cannot be reached is asked for every package: once is enough.
    into = (sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--no-compile")
    run(*into, *wanted, PIP_RETRIES="0")
    return python


@pytest.mark.parametrize(
    "model",
    [
        "mined",
        pytest.param("embedded", marks=pytest.mark.skipif(not WHOLE, reason="3.5 gigabytes: HFSYNTH_SPACE=1 does it")),
    ],
)
def test_a_space_runs_in_an_environment_of_its_own(tmp_path: Path, model: str) -> None:
    from gradio_client import Client

    place = tmp_path / "space"
    place.mkdir()
    for name, text in space_files("user/corpus", "user/page", model).items():
        (place / name).write_text(text, encoding="utf-8")
    began = time.monotonic()
    python = installed(place, tmp_path)
    seconds = time.monotonic() - began
    size = sum(path.lstat().st_size for path in (tmp_path / "environment").rglob("*"))
    sys.stderr.write(f"{model}: installed in {seconds:.0f} s, {size / 1e6:,.0f} MB\n")
    corpus = everything(tmp_path / "corpus")
    files = {path.relative_to(corpus).as_posix(): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    with Hub() as hub:
        hub.commit("user/corpus", files)
        with started(python, place, hub.env(tmp_path)) as address:
            client = Client(address, verbose=False)
            listed = client.predict("no_pairs", "", "", "", "", 0, 0, "", "train", api_name="/list_rows")
            document, *_ = client.predict(1, api_name="/show_row")
            job = client.submit(TEXT, "", "", model, 1, "", 0, 50, api_name="/try")
            job.result(timeout=900)
            tried: list[Any] = job.outputs()[-1]
            client.close()
    assert [number for _, number in listed["rows"]] == [2] and "Andes" in document
    assert "Done." in tried[0] and "classic" in tried[1], tried[0]
