"""A file or a folder wherever it lies: a path of this machine, or one on an object store, which is read in place.

Either is an `AnyPath` and speaks as `pathlib` does (`Located`). A store has no folders: one is there as long as a key
begins with its name. Knows no store's library; `hfsynth.core.stores` opens them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Literal, Protocol, Self, TypeAlias, cast

PIECE = 16 * 2**20
"""So much of a file on a store is in memory where all of it is read."""


class Size(Protocol):
    """What is asked of a file's status."""

    @property
    def st_size(self) -> int:
        """The size in bytes."""


class Located(Protocol):
    """What `Path` and `StorePath` have in common, as `pathlib` has it."""

    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> Self: ...
    def __truediv__(self, key: str, /) -> Self: ...
    def __lt__(self, other: Self, /) -> bool: ...
    def with_name(self, name: str, /) -> Self: ...
    def with_suffix(self, suffix: str, /) -> Self: ...
    def relative_to(self, other: Any, /) -> PurePath: ...  # noqa: ANN401 - of the same kind
    def resolve(self) -> Self: ...
    def exists(self) -> bool: ...
    def is_file(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def is_symlink(self) -> bool: ...
    def stat(self) -> Size: ...
    def glob(self, pattern: str, /) -> Iterator[Self]: ...
    def iterdir(self) -> Iterator[Self]: ...
    def open(self, mode: Literal["rb"], /) -> io.BufferedReader: ...
    def read_bytes(self) -> bytes: ...
    def read_text(self, encoding: str, errors: str = ..., /) -> str: ...
    def unlink(self, missing_ok: bool = False) -> None: ...


class Listed(Protocol):
    """A key of a listing."""

    @property
    def key(self) -> str: ...
    @property
    def size(self) -> int: ...


class Contents(Protocol):
    """What a path on a store needs of it; `hfsynth.core.stores.Store` says what each does."""

    @property
    def url(self) -> str: ...
    def put(self, key: str, content: bytes | Path) -> None: ...
    def get(self, key: str) -> bytes: ...
    def open(self, key: str) -> BinaryIO: ...
    def list(self, prefix: str = "", after: str | None = None) -> Iterator[Listed]: ...
    def delete(self, keys: Iterable[str]) -> None: ...
    def copy(self, source: str, target: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Level:
    """The files right in a folder, with their sizes, and the folders."""

    files: dict[str, int]
    folders: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Tree:
    """A store, and what of it was listed since something was written last."""

    contents: Contents
    levels: dict[str, _Level] = field(default_factory=dict)

    def level(self, folder: str) -> _Level:
        if folder not in self.levels:
            self.levels[folder] = self._listed(f"{folder}/" if folder else "")
        return self.levels[folder]

    def _listed(self, prefix: str) -> _Level:
        """List a folder without what is in its folders, which may be a thousand times as much."""
        files: dict[str, int] = {}
        folders: set[str] = set()
        after: str | None = None
        more = True
        while more:
            more = False
            for entry in self.contents.list(prefix, after):
                name, slash, _ = entry.key.removeprefix(prefix).partition("/")
                if not slash:
                    files[name] = entry.size
                elif name not in folders:
                    folders.add(name)
                    after, more = f"{prefix}{name}/~", True  # behind whatever usually lies in it
                    break
        return _Level({name: size for name, size in files.items() if name and name not in folders}, frozenset(folders))

    def changed(self) -> None:
        self.levels.clear()


@dataclass(frozen=True, slots=True)
class _Status:
    st_size: int


class StorePath:
    """A path on a store. What was listed is remembered until something is written through a path of the same root.

    Raises what `Store` does: OutputError where the store cannot be reached, FileNotFoundError for a key that is not
    there.
    """

    __slots__ = ("_path", "_tree")

    def __init__(self, contents: Contents) -> None:
        self._tree = _Tree(contents)
        self._path = PurePosixPath()

    def _at(self, path: PurePosixPath) -> Self:
        made = object.__new__(type(self))
        made._tree, made._path = self._tree, path
        return made

    @property
    def key(self) -> str:
        """The key on the store; of the root it is empty."""
        return "" if self._path == PurePosixPath() else self._path.as_posix()

    def __str__(self) -> str:
        return f"{self._tree.contents.url}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __lt__(self, other: StorePath) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is on a store: it has no path on this machine.")

    # Names

    @property
    def name(self) -> str:
        """The last part; of the root that of the store's address."""
        return self._path.name or self._tree.contents.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Self:
        return self._at(self._path.parent)

    def __truediv__(self, key: str) -> Self:
        return self._at(self._path / key)

    def with_name(self, name: str) -> Self:
        return self._at(self._path.with_name(name))

    def with_suffix(self, suffix: str) -> Self:
        return self._at(self._path.with_suffix(suffix))

    def relative_to(self, other: AnyPath) -> PurePosixPath:
        """Return the rest of the path below `other`; raise ValueError where it is not below it."""
        if isinstance(other, StorePath) and other._tree is self._tree:
            return self._path.relative_to(other._path)
        raise ValueError(f"{self} is not below {other}.")

    def resolve(self) -> Self:
        return self

    def as_posix(self) -> str:
        return str(self)

    # What is there

    @property
    def _siblings(self) -> _Level:
        return self._tree.level(self.parent.key)

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        return bool(self.key) and self._path.name in self._siblings.files

    def is_dir(self) -> bool:
        if self.key:
            return self._path.name in self._siblings.folders
        level = self._tree.level("")
        return bool(level.files or level.folders)

    def is_symlink(self) -> bool:
        return False

    def stat(self) -> _Status:
        if not self.is_file():
            raise FileNotFoundError(str(self))
        return _Status(self._siblings.files[self._path.name])

    def iterdir(self) -> Iterator[Self]:
        level = self._tree.level(self.key)
        for name in sorted([*level.files, *level.folders]):
            yield self / name

    def glob(self, pattern: str) -> Iterator[Self]:
        """Yield what is right in a folder and whose name a pattern matches: `*.parquet`, `pairs/*.parquet`."""
        folder, _, names = pattern.rpartition("/")
        for path in (self / folder if folder else self).iterdir():
            if fnmatchcase(path.name, names):
                yield path

    # Contents

    def open(self, mode: Literal["rb"]) -> io.BufferedReader:
        """Open to read and to seek; what is read is asked for in ranges."""
        return cast(io.BufferedReader, self._tree.contents.open(self.key))

    def pieces(self) -> Iterator[bytes]:
        """Yield the content a request at a time."""
        with self.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    def read_bytes(self) -> bytes:
        return self._tree.contents.get(self.key)

    def read_text(self, encoding: str, errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors).replace("\r\n", "\n")

    def put(self, content: bytes | Path) -> None:
        """Write the file, whole or not at all; `content` is it, or lies in a file of this machine."""
        self._tree.contents.put(self.key, content)
        self._tree.changed()

    def copy_to(self, target: AnyPath) -> None:
        """Copy a file where it lies; raise ValueError for a target that is not below the same root."""
        self._tree.contents.copy(self.key, str(target.relative_to(self._at(PurePosixPath()))))
        self._tree.changed()

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file; raise FileNotFoundError where there is none, unless it may be missing."""
        if not self.is_file():
            if missing_ok:
                return
            raise FileNotFoundError(str(self))
        self._tree.contents.delete([self.key])
        self._tree.changed()

    def remove_below(self) -> None:
        """Remove all that is in a folder."""
        self._tree.contents.delete([entry.key for entry in self._tree.contents.list(f"{self.key}/")])
        self._tree.changed()

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        """Lend a temporary path of this machine; what is written there is put when the block ends without an error."""
        with TemporaryDirectory(prefix="hfsynth-") as folder:
            part = Path(folder) / self.name
            yield part
            self.put(part)


AnyPath: TypeAlias = Path | StorePath


def sorted_glob(folder: AnyPath, pattern: str) -> list[AnyPath]:
    """Return what in a folder a pattern matches, by name."""
    found: list[AnyPath] = [*folder.glob(pattern)]
    return sorted(found, key=str)
