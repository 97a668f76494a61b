"""One module knows the private names of other libraries, and says of each what to watch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

import hfsynth
from hfsynth.core import private_names

PACKAGE = Path(hfsynth.__file__).parent
ALONE = Path(private_names.__file__)
DOCUMENTED = {"os._exit"}  # the manual of Python describes it


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def borrowed(code: str, inherited: Set[str] = frozenset()) -> list[str]:
    """Return the private names in a module that are not its own: it imports them, or takes them off foreign values.

    What is `inherited` it may take off `self`.
    """
    own = {*defined(code), *(f"self.{name}" for name in inherited)}
    names = (name for node in ast.walk(ast.parse(code)) for name in taken(node))
    return [name for name in names if name not in own and name.rpartition(".")[2] not in own]


def defined(code: str) -> set[str]:
    """Return what the classes of a module define."""
    return {name for kind in ast.walk(ast.parse(code)) if isinstance(kind, ast.ClassDef) for name in members(kind)}


def members(kind: ast.ClassDef) -> Iterator[str]:
    """Yield what a class defines: methods, fields, and what its methods put on `self`."""
    for node in ast.walk(kind):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def taken(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names if any(map(private, alias.name.split("."))))
        case ast.ImportFrom(module=str(module), names=names, level=0) if module.partition(".")[0] != "hfsynth":
            full = [f"{module}.{alias.name}" for alias in names]
            yield from (name for name in full if any(map(private, name.split("."))))
        case ast.Attribute(attr=name) if private(name) and ast.unparse(node) not in DOCUMENTED:
            yield ast.unparse(node)
        case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]):
            yield from [name] if private(name) else []
        case ast.Subscript(slice=ast.Constant(value=str(name))) if private(name):
            yield name


@pytest.mark.parametrize(
    "code",
    [
        "from datasets.utils._dill import pklregister",
        "from huggingface_hub.utils import _http",
        "import huggingface_hub._commit_api as commits",
        "def _fingerprint(rows):\n    return rows._fingerprint",
        "rows._fingerprint = 'mine'",
        "found = getattr(rows, '_ex_iterable', None)",
        "found = state['_data_files']",
        "class Own(Theirs):\n    def take(self):\n        return self._theirs",
    ],
)
def test_a_borrowed_name_is_seen(code: str) -> None:
    assert borrowed(code)


@pytest.mark.parametrize(
    "code",
    [
        "class Own:\n    def __init__(self):\n        self._mine = 1\n\ndef of(own):\n    return own._mine",
        "class Own:\n    _mine: int = 0\n\nfound = Own()._mine",
        "from hfsynth.core import private_names",
        "from __future__ import annotations",
        "os._exit(1)",
    ],
)
def test_a_modules_own_names_are_its_own(code: str) -> None:
    assert borrowed(code) == []


def test_one_module_alone_borrows_private_names() -> None:
    texts = {path: path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    inherited = {name for text in texts.values() for name in defined(text)}
    found = {path: borrowed(text, inherited) for path, text in texts.items()}
    assert found.pop(ALONE)
    assert {path: names for path, names in found.items() if names} == {}


def test_each_says_what_to_watch_and_which_tests_tell() -> None:
    functions = [node for node in ast.parse(ALONE.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        said = ast.get_docstring(function) or ""
        tests = re.findall(r"`(tests/[\w/.]+)`", said.partition("Tests:")[2])
        assert "Watch: " in said and tests, function.name
        assert all((PACKAGE.parent / name).exists() for name in tests), said
