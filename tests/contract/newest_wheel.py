"""Check the contract with vLLM against the newest CUDA wheel that pyproject.toml allows. Needs no GPU.

The wheel is downloaded without its requirements, its Python files are unpacked and read by tests/contract/test_vllm.py,
and pip is asked, without installing anything, whether `hfsynth[vllm]` resolves on each Python that is supported.
checked.json says which range this was last done for: commit it.

    make contract
    make contract CONTRACT=--if-changed        # only where the range is another than the one in checked.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent / "pyproject.toml"
CHECKED = HERE / "checked.json"
PYTHONS = ("3.11", "3.12", "3.13")
WHEELS = ("--only-binary", ":all:")
# The machines with CUDA that hfsynth is for, whatever this one is.
MACHINE = [part for libc in (28, 31, 34, 35) for part in ("--platform", f"manylinux_2_{libc}_x86_64")]


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--if-changed", action="store_true", help="do nothing for the range in checked.json")
    args = made.parse_args()
    wanted = requirements(PROJECT)[0]
    if args.if_changed and is_checked(wanted, CHECKED):
        say(f"{wanted}: checked already, see {CHECKED.name}.")
        return
    with tempfile.TemporaryDirectory(prefix="hfsynth-contract-") as folder:
        wheel = downloaded(wanted, Path(folder))
        say(f"{wheel.name}: reading it.")
        check(unpacked(wheel, Path(folder) / "source"))
    for python in PYTHONS:
        say(f"Python {python}: {resolved(requirements(PROJECT), python)}")
    CHECKED.write_text(json.dumps({"range": wanted, "vllm": wheel.name.split("-")[1]}, indent=2) + "\n", "utf-8")


def requirements(project: Path) -> list[str]:
    """Return what `hfsynth[vllm]` requires, vLLM first."""
    values = tomllib.loads(project.read_text("utf-8"))["project"]
    return [*values["optional-dependencies"]["vllm"], *values["dependencies"]]


def is_checked(wanted: str, checked: Path) -> bool:
    """Return whether the contract was checked for this range."""
    return checked.is_file() and json.loads(checked.read_text("utf-8"))["range"] == wanted


def downloaded(wanted: str, folder: Path) -> Path:
    """Download the newest wheel of a range and nothing that it requires."""
    pip("download", "--no-deps", *WHEELS, *MACHINE, "--python-version", PYTHONS[-1], "--dest", str(folder), wanted)
    return next(folder.glob("vllm-*.whl"))


def unpacked(wheel: Path, folder: Path) -> Path:
    """Unpack a wheel's Python files; return the package's folder."""
    with ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".py")])
    return folder / "vllm"


def check(source: Path) -> None:
    """Run the table's tests on a source."""
    command = [sys.executable, "-m", "pytest", "-q", str(HERE)]
    done = subprocess.run(command, env={**os.environ, "HFSYNTH_VLLM_SOURCE": str(source)}, check=False)
    if done.returncode:
        sys.exit("The newest vLLM that pyproject.toml allows does not keep the contract. Mend hfsynth or the range.")


def resolved(wanted: Sequence[str], python: str) -> str:
    """Ask pip for versions that go together on a Python; return the main ones. Nothing is installed.

    Where that Python is not on this machine, conditions like `python_version < "3.12"` are those of this one.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        other = interpreter(python)
        where = ["--python", other] if other else []
        which = [] if other else ["--python-version", python, "--target", folder]
        pip(*where, "install", "--dry-run", "--ignore-installed", *WHEELS, *which, "--report", str(report), *wanted)
        return shown(json.loads(report.read_text("utf-8")))


def interpreter(python: str) -> str | None:
    """Return the path of a Python of this version that runs here."""
    found = shutil.which(f"python{python}")
    works = found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
    return found if works else None


def shown(report: dict[str, list[dict[str, dict[str, str]]]]) -> str:
    """Return the versions of a report that decide most."""
    found = {one["metadata"]["name"].lower(): one["metadata"]["version"] for one in report["install"]}
    main_ones = ("vllm", "torch", "transformers", "huggingface_hub", "datasets")
    return f"{len(found)} packages, " + ", ".join(f"{name} {found[name]}" for name in main_ones if name in found)


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=False)
    if done.returncode:
        sys.exit(f"pip {' '.join(arguments)} failed.")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
