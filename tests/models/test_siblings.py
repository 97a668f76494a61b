"""torchvision and its siblings are hidden where they were built for another torch, and only there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hfsynth.models.siblings import SIBLINGS

BROKEN = 'raise RuntimeError("operator torchvision::nms does not exist")'


def install(folder: Path, name: str, version: str, *requirements: str, content: str = "") -> None:
    """Write what pip leaves of a package: its module and its metadata."""
    (folder / f"{name}.py").write_text(content, encoding="utf-8")
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    requires = [f"Requires-Dist: {requirement}" for requirement in requirements]
    metadata.write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *requires, ""]))


def run(folder: Path, program: str) -> str:
    """Run a program in a process of its own that finds the packages in `folder` first; return what it printed."""
    path = f"import sys; sys.path.insert(0, {str(folder)!r}); sys.path.append({str(Path(__file__).parents[2])!r})\n"
    ran = subprocess.run([sys.executable, "-c", path + program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


SHOW = """
from importlib.util import find_spec
from hfsynth.models.siblings import SIBLINGS, hide_unfit_siblings
print(*hide_unfit_siblings(), "|", *[name for name in SIBLINGS if find_spec(name)])
"""


@pytest.mark.parametrize(
    ("torch", "torchvision", "requirement", "fits"),
    [
        ("2.13.0+cpu", "0.28.0", "torch==2.13.0", False),  # what an index without CPU builds of it gives
        ("2.13.0+cpu", "0.28.0+cpu", "torch==2.13.0", True),
        ("2.13.0", "0.28.0", "torch==2.13.0", True),
        ("2.13.0", "0.28.0", "torch (==2.14.1)", False),
        ("2.13.0+cu130", "0.28.0+cu130", "torch==2.13.0", True),
        ("2.13.0", "0.28.0", "torchinfo==1.0", True),
        ("2.13.0", "0.28.0+cpu", "torch==2.13.0", False),
    ],
)
def test_a_torchvision_for_another_torch_is_hidden(
    tmp_path: Path, torch: str, torchvision: str, requirement: str, fits: bool
) -> None:
    install(tmp_path, "torch", torch)
    install(tmp_path, "torchvision", torchvision, "numpy", requirement)
    hidden, _, found = run(tmp_path, SHOW).partition("|")
    assert ("torchvision" in hidden.split(), "torchvision" in found.split()) == (not fits, fits)


def test_all_three_are_hidden_and_absent_to_whoever_asks(tmp_path: Path) -> None:
    install(tmp_path, "torch", "2.13.0+cpu")
    for name in SIBLINGS:
        install(tmp_path, name, "0.28.0", content=BROKEN)
    assert run(tmp_path, SHOW) == " ".join([*SIBLINGS, "|"])
    program = "from hfsynth.models.siblings import hide_unfit_siblings as hide\nhide()\ntry:\n import torchvision.ops\n"
    assert run(tmp_path, f"{program}except ImportError: print('absent')") == "absent"


def test_nothing_is_hidden_where_there_is_no_torch(tmp_path: Path) -> None:
    program = (
        "import hfsynth.models.siblings as s; s._installed = lambda name: None if name == 'torch' else object();"
        "print(s.unfit_siblings())"
    )
    assert run(tmp_path, program) == "()"


def test_transformers_can_be_imported_beside_a_broken_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch").__version__
    install(tmp_path, "torchvision", "0.28.0", "torch==1.0", content=BROKEN)
    program = "from transformers import AutoModelForCausalLM, LlamaForCausalLM; print('imported')"
    guard = "from hfsynth.models.siblings import hide_unfit_siblings; hide_unfit_siblings()\n"
    assert run(tmp_path, guard + program) == "imported", torch
