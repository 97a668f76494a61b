"""What `import hfsynth` loads, which names it has, and who knows the Hub's client; import-linter checks the rest."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hfsynth

PACKAGE = Path(hfsynth.__file__).parent
PACKAGES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_each_package_says_what_it_is_for_and_loads_nothing() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        said, *rest = ast.parse(path.read_text("utf-8")).body
        assert isinstance(said, ast.Expr), path
        assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in rest), path


def test_one_module_alone_knows_the_hubs_client() -> None:
    def names(path: Path) -> set[str]:
        imports = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom))
        return {f"{node.module}.{alias.name}" for node in imports for alias in node.names}

    knowing = [path.name for path in PACKAGE.rglob("*.py") if "huggingface_hub.HfApi" in names(path)]
    assert knowing == ["repo.py"]


def test_one_module_alone_starts_jobs_on_the_hub() -> None:
    knowing = [path.name for path in PACKAGE.rglob("*.py") if "run_uv_job" in path.read_text("utf-8")]
    assert knowing == ["api.py"]


def test_no_module_is_longer_than_one_would_inherit() -> None:
    longest = max(PACKAGE.rglob("*.py"), key=lambda path: len(path.read_text("utf-8").splitlines()))
    assert len(longest.read_text("utf-8").splitlines()) <= 400, longest


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = ["torch", "vllm", "transformers", "datasets"]
    program = f"import sys, hfsynth; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_public_name_is_found() -> None:
    names = [name for name in dir(hfsynth) if not name.startswith("_")]
    assert {"synthesize", "evaluate_corpus", "evaluate_synthesizer", "train", "TrainingConfig"} <= set(names)
    assert set(hfsynth.__all__) <= set(names)
    for name in hfsynth.__all__:
        assert getattr(hfsynth, name) is not None


def test_no_package_hides_a_public_name() -> None:
    assert PACKAGES.isdisjoint(hfsynth.__all__)


def test_everything_can_be_imported_where_there_is_no_model_library() -> None:
    program = "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'peft'])); from hfsynth import *"
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)


def test_training_is_a_library_function() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    assert hfsynth.TrainingConfig(base="embedded", packing=hfsynth.Packing(512)).rate == 2e-4
    assert callable(hfsynth.train)


def test_the_architecture_page_leads_to_what_it_names() -> None:
    page = (PACKAGE.parent / "ARCHITECTURE.md").read_text("utf-8")
    rows = [row for row in page.partition("## Where is")[2].splitlines() if row.startswith("| ") and "`" in row]
    assert len(rows) >= 5
    for row in rows:
        named = re.findall(r"`([^`]+)`", row)
        paths = [PACKAGE.parent / name for name in named if "/" in name]
        paths = [path if path.exists() else PACKAGE / path.relative_to(PACKAGE.parent) for path in paths]
        assert paths and all(path.exists() for path in paths), row
        symbols = {part for name in named if name[0].isupper() for part in name.split(".")}
        texts = "".join(path.read_text("utf-8") for path in paths if path.is_file())
        assert all(re.search(rf"^\s*(class|def) {symbol}\b", texts, re.M) for symbol in symbols), row
