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


def temporary(path: Path) -> Path:
    """Name the file under which `path` is written until it is whole; it lies in the same folder."""
    return path.with_name(f".{path.name}.tmp")


def publish(path: Path, *, as_: Path) -> None:
    """Flush the file `path` to the disk and rename it to `as_`, replacing what was there."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(path, as_)
    sync_folder(as_.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path`, whole or not at all."""
    part = temporary(path)
    part.write_text(text, encoding="utf-8")
    publish(part, as_=path)


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
