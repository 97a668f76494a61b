"""Put finished files in place: temporary name, fsync, rename. Knows nothing of what they hold.

Whoever looks into the folder sees the old file or the new one, never half of one; a killed run leaves only names that
start with a dot and end in `.tmp`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hfsynth.errors import OutputError
from hfsynth.processes import mark


def temporary(path: Path, *, writer: str = "") -> Path:
    """Name the file under which `path` is written until it is whole; it lies in the same folder.

    Where several may write it at once, each is a `writer` of its own.
    """
    return path.with_name(f".{path.name}{writer and f'.{writer}'}.tmp")


def publish(path: Path, *, as_: Path) -> None:
    """Flush the file `path` to the disk and rename it to `as_`, replacing what was there."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(path, as_)
    sync_folder(as_.parent)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Lend a temporary path beside `path`; sync and rename it over `path` when the block ends without an error."""
    part = temporary(path, writer=mark())
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            publish(part, as_=path)
        finally:
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
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
def writing(path: Path) -> Iterator[None]:
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
