"""Where files are shared by name: a folder, or an object store, behind the few verbs that both can keep.

There is no append, no rename and no lock. What decides who was first is `create`: of all who create a key at once, one
is told that it is theirs. `hfsynth.core.object_store` alone knows the library behind the addresses.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, Protocol

from hfsynth.core.errors import OutputError
from hfsynth.core.files import create_once, replaced, writing
from hfsynth.core.store_paths import AnyPath, StorePath

_ADDRESS = re.compile(r"(s3|gs|az|memory):/{1,2}(?=[^/])|hf:/{1,2}(?=buckets/)")
"""A `Path` of an address has one slash of the two."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing says of a key: the size in bytes, and a `version` that changes with each write."""

    key: str
    size: int
    version: str


class Store(Protocol):
    """Contents by key, such as `pairs/train-00000-of-00002.parquet`. `url` says where, for people and for `open_store`.

    Every method raises OutputError where the store cannot be reached or refuses, after retries.
    """

    url: str

    def create(self, key: str, content: bytes) -> bool:
        """Write a key that nobody has written; return whether it is ours, and False where somebody else's is there.

        An answer that got lost is made up for by reading back: whoever must know that nobody wrote the same content
        puts a token into it.
        """

    def put(self, key: str, content: bytes | Path) -> None:
        """Write a key, whole or not at all, whatever was there."""

    def get(self, key: str, start: int = 0) -> bytes:
        """Return the content from byte `start` on; raise FileNotFoundError where there is no such key."""

    def open(self, key: str) -> BinaryIO:
        """Return a file to read and seek in, such as pyarrow reads; raise FileNotFoundError as `get` does."""

    def list(self, prefix: str = "", after: str | None = None) -> Iterator[Entry]:
        """Yield what begins with `prefix` and comes after the key `after`, sorted by key."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys; one that is not there is no error."""

    def copy(self, source: str, target: str) -> None:
        """Copy a content where it lies, without reading it here."""

    def version(self, key: str) -> str | None:
        """Return the key's version, None where there is no such key."""


def is_store(out: str | Path) -> bool:
    """Return whether `out` is the address of an object store: `s3://`, `gs://`, `az://` or `hf://buckets/`."""
    return _ADDRESS.match(str(out)) is not None


def store_url(out: str | Path) -> str:
    """Return the address as one writes it: two slashes, none at the end."""
    scheme, _, rest = str(out).partition(":")
    return f"{scheme}://{rest.strip('/')}"


def open_store(out: str | Path) -> Store:
    """Return the store at an address, by the service's usual environment variables, or that of a folder.

    Raise OutputError where the extra `hfsynth[stores]` is missing or the address cannot be one.
    """
    if not is_store(out):
        return FolderStore(Path(out))
    try:
        objects = import_module("hfsynth.core.object_store")  # by its name: it builds on this module
    except ImportError as error:
        raise OutputError(
            f"{store_url(out)} needs a library that is not installed.", hint="pip install 'hfsynth[stores]'"
        ) from error
    opened: Store = objects.open_object_store(store_url(out))
    return opened


def any_path(out: str | os.PathLike[str] | AnyPath) -> AnyPath:
    """Return where something lies, to be read in place: a path of this machine, or one on the store at an address.

    Raise what `open_store` raises.
    """
    if isinstance(out, StorePath):
        return out
    return StorePath(open_store(str(out))) if is_store(str(out)) else Path(out)


class FolderStore:
    """A folder as a store: its own primitives are links and renames, its versions times of change."""

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root

    def create(self, key: str, content: bytes) -> bool:
        path = self._root / key
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return create_once(path, content)

    def put(self, key: str, content: bytes | Path) -> None:
        with replaced(self._root / key) as part:
            if isinstance(content, Path):
                shutil.copyfile(content, part)
            else:
                part.write_bytes(content)

    def get(self, key: str, start: int = 0) -> bytes:
        with self.open(key) as file:
            file.seek(start)
            return file.read()

    def open(self, key: str) -> BinaryIO:
        return (self._root / key).open("rb")

    def list(self, prefix: str = "", after: str | None = None) -> Iterator[Entry]:
        for key in sorted(self._keys()):
            if key.startswith(prefix) and (after is None or key > after):
                try:
                    found = (self._root / key).stat()
                except FileNotFoundError:  # deleted meanwhile
                    continue
                yield Entry(key, found.st_size, str(found.st_mtime_ns))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with writing(self._root / key):
                (self._root / key).unlink(missing_ok=True)

    def copy(self, source: str, target: str) -> None:
        self.put(target, self._root / source)

    def version(self, key: str) -> str | None:
        try:
            return str((self._root / key).stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def _keys(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._root):
            for name in names:
                if not (name.startswith(".") and name.endswith(".tmp")):  # not whole yet
                    yield (Path(folder) / name).relative_to(self._root).as_posix()
