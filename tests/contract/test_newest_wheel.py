"""`make contract`, as far as it needs no package index."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import newest_wheel
import pytest


def test_what_is_required_is_read_from_the_project(tmp_path: Path) -> None:
    wanted = newest_wheel.requirements(newest_wheel.PROJECT)
    assert wanted[0].startswith("vllm>=")
    assert any(one.startswith("datasets>=") for one in wanted)


def test_a_range_that_was_checked_is_not_checked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checked, wanted = tmp_path / "checked.json", newest_wheel.requirements(newest_wheel.PROJECT)[0]
    assert not newest_wheel.is_checked(wanted, checked)
    checked.write_text(f'{{"range": "{wanted}", "vllm": "0.33.0"}}')
    assert newest_wheel.is_checked(wanted, checked)
    assert not newest_wheel.is_checked("vllm>=0.32,<0.35", checked)
    monkeypatch.setattr(newest_wheel, "CHECKED", checked)
    monkeypatch.setattr(sys, "argv", ["newest_wheel.py", "--if-changed"])
    newest_wheel.main()
    assert "checked already" in capsys.readouterr().out


def test_only_python_files_are_unpacked(tmp_path: Path) -> None:
    wheel = tmp_path / "vllm-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vllm/__init__.py", "")
        archive.writestr("vllm/_C.abi3.so", "")
    folder = newest_wheel.unpacked(wheel, tmp_path / "source")
    assert [path.name for path in folder.iterdir()] == ["__init__.py"]


def test_an_interpreter_that_does_not_run_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    broken = tmp_path / "python3.99"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    assert newest_wheel.interpreter("3.99") is None
    assert newest_wheel.interpreter("3.98") is None
    broken.write_text("#!/bin/sh\nexit 0\n")
    assert newest_wheel.interpreter("3.99") == str(broken)


def test_the_versions_that_decide_most_are_shown() -> None:
    names = {"vllm": "0.33.0", "torch": "2.14.0", "idna": "3.1"}
    report = {"install": [{"metadata": {"name": name, "version": version}} for name, version in names.items()]}
    assert newest_wheel.shown(report) == "3 packages, vllm 0.33.0, torch 2.14.0"
