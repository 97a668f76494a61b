"""Make the lock files of this folder, or tell with --check whether pyproject.toml has changed since they were made.

`make lock` runs it with uv and packaging at hand; --check needs the standard library alone, and no network. A lock is
an ordinary requirements file: exact versions, the hashes of the wheels that fit, and no word of where they come from.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from install import UNHASHED, index_settings

ROOT = Path(__file__).parent.parent
LOCKS = Path(__file__).parent
_MADE_FOR = "# made for: "
_LINUX = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
_CPYTHON = {"implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": ""}
_WHERE = "sys_platform == 'linux' and platform_machine == 'x86_64' and platform_python_implementation == 'CPython'"
_CUDA = ("nvidia-", "cuda-")  # what PyTorch's other build asks for


@dataclass(frozen=True, slots=True)
class Package:
    """One line of a lock: a version, the Pythons that take it, and each fitting wheel's hash with its size."""

    name: str
    version: str
    pythons: tuple[str, ...]
    wheels: Mapping[str, int]


def inputs(project: Mapping[str, Any]) -> dict[str, Any]:
    """Return all of pyproject.toml that a lock depends on."""
    about = project["project"]
    return {
        "build": project["build-system"]["requires"],
        "python": about["requires-python"],
        "dependencies": about["dependencies"],
        "extras": about["optional-dependencies"],
        "locks": project["tool"]["hfsynth"]["locks"],
    }


def digest(project: Mapping[str, Any]) -> str:
    """Return what names these inputs in the head of a lock."""
    return hashlib.sha256(json.dumps(inputs(project), sort_keys=True).encode()).hexdigest()


def requirements(project: Mapping[str, Any], name: str) -> list[str]:
    """Return what a lock is made from: the project's own needs, its build's, and the extras and tools of that lock."""
    found, lock = inputs(project), inputs(project)["locks"][name]
    extras = [requirement for extra in lock["extras"] for requirement in found["extras"][extra]]
    return [*found["dependencies"], *found["build"], *extras, *lock["more"]]


def stale(root: Path = ROOT) -> list[str]:
    """Return the locks that were made for another pyproject.toml, or by hand."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    head = f"{_MADE_FOR}{digest(project)}"
    names = [name for name, lock in inputs(project)["locks"].items() if isinstance(lock, dict)]
    texts = {name: root / "locks" / f"{name}.txt" for name in names}
    return [
        name for name, path in texts.items() if not path.is_file() or head not in path.read_text("utf-8").split("\n")
    ]


def make() -> None:
    """Resolve and write both locks. The demo's has the versions of the tests', so that one environment holds both."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    torch = _torch(project)
    tests = _resolved(project, "test", constraints=[])
    demo = _resolved(project, "demo", [f"{found.name}=={found.version}{_marker(project, found)}" for found in tests])
    for name, packages in (("test", tests), ("demo", demo)):
        whole = sorted([*packages, torch], key=lambda package: package.name)
        (LOCKS / f"{name}.txt").write_text(_text(project, name, whole), encoding="utf-8")
        print(f"locks/{name}.txt: {len(whole)} packages")


def _resolved(project: Mapping[str, Any], name: str, constraints: Sequence[str]) -> list[Package]:
    """Return all but torch. PyTorch's usual build stands in for its CPU build, which few indexes have for all Pythons.

    Both ask for the same, but for CUDA's libraries, which are dropped.
    """
    settings = inputs(project)["locks"]
    torch = settings["torch"].partition("+")[0]
    found = _compiled(
        requirements(project, name),
        *("--universal", "--python-version", settings["oldest"]),
        pythons=settings["pythons"],
        excludes=[*settings["left-out"], *settings[name]["left-out"]],
        overrides=[f"torch=={torch}"],
        constraints=constraints,
    )
    kept = [entry for entry in found if entry["name"] != "torch" and not entry["name"].startswith(_CUDA)]
    packages = (_package(entry, settings["pythons"]) for entry in kept)
    return [package for package in packages if package.pythons]


def _torch(project: Mapping[str, Any]) -> Package:
    """Return PyTorch's CPU build for the Pythons for which this machine's index has it."""
    settings = inputs(project)["locks"]
    pythons: list[str] = []
    wheels: dict[str, int] = {}
    for python in settings["pythons"]:
        platform = ("--python-version", python, "--python-platform", "x86_64-manylinux_2_28")
        try:
            (entry,) = _compiled([f"torch=={settings['torch']}"], "--no-deps", *platform, pythons=settings["pythons"])
        except subprocess.CalledProcessError:
            print(f"No torch {settings['torch']} for Python {python} here: it stays without a hash.", file=sys.stderr)
            continue
        pythons.append(python)
        wheels |= _package({**entry, "marker": ""}, [python]).wheels
    return Package("torch", settings["torch"], tuple(pythons), wheels)


def _compiled(
    wanted: Sequence[str],
    *options: str,
    pythons: Sequence[str],
    excludes: Sequence[str] = (),
    overrides: Sequence[str] = (),
    constraints: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return the packages of the resolution that uv makes on Linux and x86-64."""
    lists = {"wanted": wanted, "excludes": excludes, "overrides": overrides, "constraints": constraints}
    oldest, newest = pythons[0], pythons[-1]
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in lists.items():
            (Path(folder) / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (Path(folder) / "pyproject.toml").write_text(
            f'[project]\nname = "lock"\nversion = "0"\nrequires-python = ">={oldest}"\n'
            f"[tool.uv]\nenvironments = [\"{_WHERE} and python_version <= '{newest}'\"]\n",
            encoding="utf-8",
        )
        given = [part for name in lists if name != "wanted" and lists[name] for part in (f"--{name}", f"{name}.txt")]
        command = ["uv", "pip", "compile", "-q", "--format", "pylock.toml", "-o", "pylock.lock.toml"]
        environment = {**os.environ, **index_settings(Path(sys.executable), extra="--no-deps" in options)}
        subprocess.run([*command, *options, *given, "wanted.txt"], cwd=folder, env=environment, check=True)
        found: list[dict[str, Any]] = tomllib.loads((Path(folder) / "pylock.lock.toml").read_text("utf-8"))["packages"]
    return found


def _package(entry: Mapping[str, Any], pythons: Iterable[str]) -> Package:
    from packaging.markers import Marker

    condition = Marker(entry["marker"]) if entry.get("marker") else None
    taking = tuple(python for python in pythons if condition is None or condition.evaluate(_environment(python)))
    wheels = {wheel["hashes"]["sha256"]: wheel.get("size", 0) for wheel in _fitting(entry, taking)}
    if taking and not wheels:
        raise SystemExit(f"{entry['name']} {entry['version']} has no wheel for Linux on x86-64.")
    return Package(entry["name"], entry["version"], taking, wheels)


def _environment(python: str) -> dict[str, str]:
    return {**_LINUX, **_CPYTHON, "python_version": python, "python_full_version": f"{python}.99"}


def _fitting(entry: Mapping[str, Any], pythons: Iterable[str]) -> list[Mapping[str, Any]]:
    """Return the wheels of a package that a Python takes on a Linux with glibc and x86-64."""
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import parse_wheel_filename

    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 40)]
    platforms += [f"{name}_x86_64" for name in ("manylinux1", "manylinux2010", "manylinux2014", "linux")]
    fitting = set()
    for python in pythons:
        number = tuple(map(int, python.split(".")))
        fitting |= {*cpython_tags(number, platforms=platforms), *compatible_tags(number, platforms=platforms)}
    files = {
        wheel.get("name") or (wheel.get("url") or wheel["path"]).rpartition("/")[2]: wheel for wheel in entry["wheels"]
    }
    return [wheel for name, wheel in files.items() if parse_wheel_filename(name.replace("%2B", "+"))[3] & fitting]


def _marker(project: Mapping[str, Any], package: Package, *, others: bool = False) -> str:
    """Return the condition under which a Python takes a package, or with `others` does not."""
    pythons = inputs(project)["locks"]["pythons"]
    taking = [python for python in pythons if (python in package.pythons) is not others]
    return "" if taking == pythons else " ; " + " or ".join(f'python_version == "{python}"' for python in taking)


def _text(project: Mapping[str, Any], name: str, packages: Sequence[Package]) -> str:
    pythons = inputs(project)["locks"]["pythons"]
    megabytes = sum(max(package.wheels.values(), default=0) for package in packages) / 1e6
    lines = [
        f"# What `make {name}` installs. Made by `make lock`: change pyproject.toml instead.",
        f"{_MADE_FOR}{digest(project)}",
        f"# pythons: {' '.join(pythons)}",
        f"# megabytes: {megabytes:.0f}",
    ]
    for package in packages:
        pinned = f"{package.name}=={package.version}"
        if package.wheels:
            hashes = [f"    --hash=sha256:{value}" for value in sorted(package.wheels)]
            lines.append(" \\\n".join([f"{pinned}{_marker(project, package)}", *hashes]))
        if package.name == "torch" and package.pythons != tuple(pythons):
            lines.append(f"{UNHASHED}{pinned}{_marker(project, package, others=True)}")
    return "\n".join(lines) + "\n"


def check() -> None:
    """End with a message and status 1 where a lock is stale."""
    if found := stale():
        names = " and ".join(f"locks/{name}.txt" for name in found)
        raise SystemExit(f"Made for another pyproject.toml: {names}. Run `make lock`, which needs the package index.")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else make()
