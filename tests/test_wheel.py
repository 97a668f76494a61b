"""The wheel as a user gets it: everything the code reads is in it, and it works in an empty environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "Tides are caused mainly by the Moon.",
    "A bond is a loan that can be traded.",
    "Insulin lowers blood sugar.",
    " ",
]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the project, so that only what is installed is found; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the programs of an environment that holds the wheel and what it declares to need."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    into = ("--python", programs / "python", "install", "-qq", "--no-compile")  # to compile it all would take longest
    run(sys.executable, "-m", "pip", *into, wheel, cwd=folder)
    return programs


def test_everything_the_code_reads_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = {path.relative_to(ROOT) for path in (ROOT / "hfsynth").rglob("*") if path.is_file()}
    cards = {path.relative_to(ROOT / "cards") for path in (ROOT / "cards").rglob("*") if path.is_file()}
    expected = {path.as_posix() for path in package if "__pycache__" not in path.parts}
    expected |= {f"hfsynth/cards_data/{path.as_posix()}" for path in cards}
    assert {"hfsynth/models/embedded/adapter_model.safetensors", "hfsynth/py.typed"} <= expected
    assert expected <= inside
    outside = {name for name in inside - expected if ".dist-info/" not in name}
    assert not outside, f"the wheel holds what the project does not: {sorted(outside)}"


def test_a_plain_install_is_light(installed: Path, tmp_path: Path) -> None:
    heavy = ["torch", "transformers", "vllm"]
    program = f"from importlib.util import find_spec; print([name for name in {heavy} if find_spec(name)])"
    assert run(installed / "python", "-c", program, cwd=tmp_path).strip() == "[]"


def test_the_installed_command_line_explains_itself(installed: Path, tmp_path: Path) -> None:
    assert "synthesize" in run(installed / "hfsynth", "--help", cwd=tmp_path)


def test_the_installed_command_line_runs_a_scripted_job(installed: Path, tmp_path: Path) -> None:
    lines = (json.dumps({"id": str(number), "text": text}) for number, text in enumerate(DOCUMENTS))
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["synthesize", "corpus.jsonl", "out", "--engine", "scripted", "--shots", "2"]
    run(installed / "hfsynth", *command, cwd=tmp_path)
    program = (
        "import json; from datasets import load_dataset;"
        "rows = load_dataset('out', 'pairs', split='train', cache_dir='cache');"  # by its name it finds others' of old
        "print(json.dumps([[row['id'], row['synthesis']['status'], len(row['pairs'])] for row in rows]))"
    )
    rows = json.loads(run(installed / "python", "-c", program, cwd=tmp_path))
    assert [(row_id, status) for row_id, status, _ in rows] == [("0", "ok"), ("1", "ok"), ("2", "ok"), ("3", "empty")]
    assert [bool(pairs) for _, _, pairs in rows] == [True, True, True, False]
