"""vLLM's source, read without importing it: classes, parameters, members, words.

A tree of vLLM's files is parsed by `ast`, so that the CUDA build can be read where neither a GPU nor any of its
requirements is at hand. Names are followed through imports and base classes as far as they stay inside vLLM. Knows
nothing of what hfsynth uses.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


class NotThere(LookupError):
    """A module or a name that the source does not have."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a call: whether it must be given, and whether it can be by position or by name."""

    name: str
    required: bool
    positional: bool = True
    named: bool = True


@dataclass(frozen=True)
class Signature:
    """What a call takes; `any_name` says that other names are taken too."""

    parameters: tuple[Parameter, ...]
    any_name: bool = False

    def refusal(self, positional: tuple[str, ...], keywords: tuple[str, ...]) -> str | None:
        """Say why a call is refused that gives `positional` in this order, then `keywords`; None where it is not."""
        in_order = tuple(one.name for one in self.parameters if one.positional)[: len(positional)]
        if in_order != positional:
            return f"takes {', '.join(in_order) or 'nothing'} by position, not {', '.join(positional)}"
        names = {one.name for one in self.parameters if one.named}
        if unknown := [name for name in keywords if name not in names and not self.any_name]:
            return f"takes no {', '.join(unknown)}"
        given = {*positional, *keywords}
        if wanting := [one.name for one in self.parameters if one.required and one.name not in given]:
            return f"wants {', '.join(wanting)} too"
        return None


class VLLMSource:
    """The files of one version of vLLM below `root`, the folder named vllm.

    `changed` replaces modules' text; `parsed` are modules that another source has read.
    """

    def __init__(
        self, root: Path, changed: Mapping[str, str] | None = None, parsed: Mapping[str, ast.Module] | None = None
    ) -> None:
        self.root = root
        self._changed = dict(changed or {})
        self._trees = dict(parsed or {})

    @property
    def paths(self) -> list[Path]:
        """Return the files that have been read so far, relative to the root."""
        return [self._path(module).relative_to(self.root) for module in sorted(self._trees)]

    def text(self, module: str) -> str:
        """Return a module's text."""
        return self._changed[module] if module in self._changed else self._path(module).read_text("utf-8")

    def tree(self, module: str) -> ast.Module:
        """Return a module, parsed."""
        if module not in self._trees:
            changed = module in self._changed
            self._trees[module] = ast.parse(self._changed[module]) if changed else _parsed(self._path(module))
        return self._trees[module]

    def without(self, words: Iterable[str]) -> VLLMSource:
        """Return this source with some words replaced by another, in the modules that have been read so far."""
        any_of = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)")
        changed = {
            one: text for one in self._trees if (text := any_of.sub(_renamed, before := self.text(one))) != before
        }
        return VLLMSource(self.root, changed, {one: tree for one, tree in self._trees.items() if one not in changed})

    def replaced(self, module: str, before: str, after: str) -> VLLMSource:
        """Return this source with a piece of a module's text replaced; raise NotThere where there is no such piece."""
        text = self.text(module)
        if before not in text:
            raise NotThere(f"{module} does not have the text {before!r}")
        return VLLMSource(self.root, {module: text.replace(before, after)})

    def find(self, module: str, name: str) -> tuple[str, Definition]:
        """Return where a name is defined, and how: `Class.method` too. Raise NotThere."""
        owner, dot, member = name.partition(".")
        if dot:
            where, class_node = self.find_class(module, owner)
            for home, ancestor in self._ancestors(where, class_node):
                for node in ancestor.body:
                    if member in _defined(node):
                        return home, node  # type: ignore[return-value]
            raise NotThere(f"{module}.{owner} has no {member}")
        for node, for_types in _statements(self.tree(module)):
            if isinstance(node, ast.ImportFrom) and not for_types and (found := self._imported(module, node, name)):
                return self.find(*found)
            if name in _defined(node):
                return module, node  # type: ignore[return-value]
        if found := self._lazily(module, name):
            return self.find(*found)
        raise NotThere(f"{module} has no {name}")

    def find_class(self, module: str, name: str) -> tuple[str, ast.ClassDef]:
        """Return where a class is defined, and its node."""
        where, node = self.find(module, name)
        if not isinstance(node, ast.ClassDef):
            raise NotThere(f"{module}.{name} is no class")
        return where, node

    def bases(self, module: str, name: str) -> set[str]:
        """Return the names of a class and of all it descends from, as far as they are vLLM's."""
        return {ancestor.name for _, ancestor in self._ancestors(*self.find_class(module, name))}

    def members(self, module: str, name: str) -> set[str]:
        """Return what an object of a class has: fields, methods, and what its methods set on `self`."""
        found: set[str] = set()
        for _, ancestor in self._ancestors(*self.find_class(module, name)):
            for node in ancestor.body:
                found |= _defined(node)
            found |= {node.attr for node in ast.walk(ancestor) if _is_set_on_self(node)}
        return found

    def fields(self, module: str, name: str) -> dict[str, ast.AnnAssign]:
        """Return the annotated fields of a class and its ancestors, those of the ancestors first."""
        lines = list(self._ancestors(*self.find_class(module, name)))
        nodes = [node for _, one in reversed(lines) for node in one.body if isinstance(node, ast.AnnAssign)]
        return {node.target.id: node for node in nodes if isinstance(node.target, ast.Name)}

    def signature(self, module: str, name: str) -> Signature:
        """Return what a function, a method or a class takes; a class without `__init__` takes its fields."""
        where, node = self.find(module, name)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return _signature(node, is_method="." in name)
        if isinstance(node, ast.ClassDef):
            return self._constructor(where, node)
        raise NotThere(f"{module}.{name} cannot be called")

    def value(self, module: str, name: str) -> object:
        """Return the plain value that a name of a module is set to, also where it is for types alone."""
        for node, _ in _statements(self.tree(module)):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and name in _defined(node) and node.value is not None:
                return ast.literal_eval(node.value)
        raise NotThere(f"{module} has no {name}")

    def texts(self, module: str) -> set[str]:
        """Return every text that stands in a module's code as a constant."""
        nodes = ast.walk(self.tree(module))
        return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    def _constructor(self, where: str, node: ast.ClassDef) -> Signature:
        for _, ancestor in self._ancestors(where, node):
            for member in ancestor.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    return _signature(member, is_method=True)
        taken = {name: field for name, field in self.fields(where, node.name).items() if _is_taken(field)}
        return Signature(tuple(Parameter(name, field.value is None) for name, field in taken.items()))

    def _ancestors(self, module: str, node: ast.ClassDef) -> Iterator[tuple[str, ast.ClassDef]]:
        """Yield a class and all it descends from, with their modules."""
        yield module, node
        for base in node.bases:
            name = base.value if isinstance(base, ast.Subscript) else base
            if not isinstance(name, ast.Name):
                continue
            try:
                yield from self._ancestors(*self.find_class(module, name.id))
            except NotThere:  # another library's, or the language's own
                continue

    def _imported(self, module: str, node: ast.ImportFrom, name: str) -> tuple[str, str] | None:
        """Return where an import statement gets a name from, None where it does not import it."""
        found = next((alias.name for alias in node.names if (alias.asname or alias.name) == name), None)
        if found is None:
            return None
        parts = module.split(".") if self._path(module).name == "__init__.py" else module.split(".")[:-1]
        package = parts[: len(parts) - node.level + 1] if node.level else []
        return ".".join([*package, *filter(None, [node.module])]), found

    def _lazily(self, module: str, name: str) -> tuple[str, str] | None:
        """Return where a package's table of names to import on demand says that a name is."""
        for node in ast.walk(self.tree(module)):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == name and isinstance(value, ast.Constant):
                        path, _, found = str(value.value).partition(":")
                        return f"{module}{path}", found
        return None

    def _path(self, module: str) -> Path:
        parts = module.split(".")
        if parts[0] != "vllm":
            raise NotThere(f"{module} is not vLLM's")
        plain = self.root.joinpath(*parts[1:])
        for path in (plain.with_suffix(".py") if parts[1:] else plain / "__init__.py", plain / "__init__.py"):
            if path.is_file():
                return path
        raise NotThere(f"there is no module {module}")


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _renamed(found: re.Match[str]) -> str:
    return f"other{len(found[0])}" + "".join(letter for letter in found[0] if letter.isalnum())


def _statements(tree: ast.Module) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield a module's statements, those below an `if` or a `try` too, and whether one is there for types alone."""
    waiting = [(node, False) for node in tree.body]
    while waiting:
        node, for_types = waiting.pop(0)
        yield node, for_types
        if isinstance(node, (ast.If, ast.Try)):
            types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            below = [*((one, for_types or types) for one in node.body), *((one, for_types) for one in node.orelse)]
            waiting = [*below, *waiting]


def _defined(node: ast.AST) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _is_set_on_self(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)):
        return False
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def _is_taken(field: ast.AnnAssign) -> bool:
    """Say whether a class's field is a parameter of its constructor."""
    if "ClassVar" in ast.unparse(field.annotation):
        return False
    made = field.value if isinstance(field.value, ast.Call) else None
    return made is None or not any(one.arg == "init" and ast.unparse(one.value) == "False" for one in made.keywords)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool) -> Signature:
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    without_default = len(plain) - len(arguments.defaults)
    found = [
        Parameter(one.arg, number < without_default, named=number >= len(arguments.posonlyargs))
        for number, one in enumerate(plain)
    ]
    static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in node.decorator_list)
    own = found[1:] if is_method and not static else found
    defaults = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    by_name = [Parameter(one.arg, default is None, positional=False) for one, default in defaults]
    return Signature((*own, *by_name), arguments.kwarg is not None)
