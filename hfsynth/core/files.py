"""Put finished files in place: temporary name, fsync, rename; JSON files and digests.

Knows nothing of what they hold.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from hfsynth.core.errors import OutputError
from hfsynth.core.processes import mark
from hfsynth.core.store_paths import AnyPath, Located, StorePath

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links say: exFAT, some of FUSE and SMB."""


Somewhere = TypeVar("Somewhere", bound=Located)


def temporary(path: Somewhere, *, writer: str = "") -> Somewhere:
    """Name the file under which `path` is written until it is whole; it lies in the same folder.

    Where several may write it at once, each is a `writer` of its own.
    """
    return path.with_name(f".{path.name}{writer and f'.{writer}'}.tmp")


def publish(path: AnyPath, *, as_: AnyPath) -> None:
    """Flush the file `path` to the disk and rename it to `as_`, replacing what was there; within a store copy it."""
    if isinstance(path, StorePath):
        path.copy_to(as_)
        path.unlink()
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(path, as_)
    sync_folder(Path(as_.parent))


@contextmanager
def created(path: AnyPath) -> Iterator[Path]:
    """Lend a path of this machine to write a new file to; one for a store is put there when the block ends well."""
    with path.replaced() if isinstance(path, StorePath) else nullcontext(path) as part:
        yield part


@contextmanager
def replaced(path: AnyPath) -> Iterator[Path]:
    """Lend a temporary path beside `path`; sync and rename it over `path` when the block ends without an error.

    For a file on a store it lies elsewhere on this machine, and is put there then.
    """
    with path.replaced() if isinstance(path, StorePath) else _replaced_here(path) as part:
        yield part


@contextmanager
def _replaced_here(path: Path) -> Iterator[Path]:
    part = temporary(path, writer=mark())
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            publish(part, as_=path)
        finally:
            part.unlink(missing_ok=True)


def write_text(path: AnyPath, text: str) -> None:
    """Replace the content of `path`, whole or not at all, whoever else does it at the same time."""
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")


def sync_folder(path: Path) -> None:
    """Make renames within a folder outlast a power failure, where the system can."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """Turn the system's refusals to write into OutputError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputError(
            f"The disk is full: {path} cannot be written."
            if full
            else f"{path} cannot be written: {error.strerror or error}.",
            hint="Make room and give the same command again: it goes on where it was." if full else "",
        ) from error


def read_json(path: AnyPath) -> Any:  # noqa: ANN401
    """Return the values in a JSON file; None where there is no such file; OutputError where it is damaged."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(values, dict):
        raise damaged(path, f"it holds a {type(values).__name__} where names and values belong")
    return values


def damaged(path: AnyPath, what: str) -> OutputError:
    """Return the error for a JSON file that cannot be what was written, with the way to repair it."""
    anew = "Remove it and give the same `hfsynth synthesize` command again: it is written anew."
    hint = "Bring it back from a copy, or give another folder." if path.name == "job.json" else anew
    return OutputError(f"{path} is damaged: {what}.", hint=hint)


@contextmanager
def reading_values(*paths: AnyPath) -> Iterator[None]:
    """Turn what values of the wrong shape lead to into OutputError, naming the files that they were read from."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        where = " or ".join(path.name for path in paths)
        told = f"a value is missing or of the wrong kind ({type(error).__name__}: {error})"
        raise damaged(paths[0].with_name(where), told) from error


def write_json(path: AnyPath, values: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, whatever happens in between."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def file_digest(path: AnyPath) -> tuple[str, int]:
    """Return a file's sha256 and its size."""
    if isinstance(path, StorePath):
        digest, size = hashlib.sha256(), 0
        for piece in path.pieces():
            digest.update(piece)
            size += len(piece)
        return digest.hexdigest(), size
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def create_once(path: Path, content: bytes) -> bool:
    """Write a file that nobody has written, whole; return False where somebody has."""
    part = temporary(path, writer=f"{mark()}.{token_hex(3)}")
    try:
        part.write_bytes(content)
        return link_once(part, path)
    finally:
        part.unlink(missing_ok=True)


def link_once(part: Path, path: Path) -> bool:
    """Give a file a second name that nobody else has given; return False where somebody has.

    A server of NFS that is asked again, for its first answer was lost, says that the name is there: the number of names
    tells whose it is.
    """
    try:
        os.link(part, path)
    except FileExistsError:
        return part.stat().st_nlink > 1
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create(path, part.read_bytes())
    return True


def _create(path: Path, content: bytes) -> bool:
    """Make a file that nobody else has made; whoever reads it before its content is there finds it empty."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    return True
