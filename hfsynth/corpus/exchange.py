"""Replace a whole folder at once: whoever looks sees the old one or the new one. Knows nothing of what is in it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hfsynth.core.files import sync_folder, writing

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_REFUSED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


@contextmanager
def replaced_folder(root: Path) -> Iterator[Path]:
    """Lend an empty folder beside `root`; it takes the place of `root` when the block ends without an error.

    The two are exchanged in one step where the file system can (Linux, on local disks). Elsewhere `root` is moved aside
    first, and `mend_folder` brings it back where the process ended between the two renames.
    """
    root = Path(os.path.realpath(root))
    staged = root.with_name(f"{_prefix(root)}{os.getpid()}.tmp")
    with writing(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        mend_folder(root)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
    try:
        yield staged
        with writing(root):
            sync_folder(staged)
            _put(staged, root)
            sync_folder(root.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def mend_folder(root: Path) -> None:
    """Bring `root` back where it was moved aside and nothing took its place; remove what ended processes have left."""
    root = Path(os.path.realpath(root))
    aside = _aside(root)
    if aside.exists():
        if root.exists():
            shutil.rmtree(aside)
        else:
            os.replace(aside, root)
    for left in root.parent.glob(f"{_prefix(root)}*.tmp"):
        if not _is_alive(left.name.removeprefix(_prefix(root)).removesuffix(".tmp")):
            shutil.rmtree(left, ignore_errors=True)


def _put(staged: Path, root: Path) -> None:
    if not root.exists() or not any(root.iterdir()):
        os.replace(staged, root)
    elif not _exchanged(staged, root):
        os.replace(root, _aside(root))
        os.replace(staged, root)
        shutil.rmtree(_aside(root), ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _REFUSED:
        return False
    raise OSError(number, os.strerror(number))


def _prefix(root: Path) -> str:
    """Return how the names of folders begin that processes of this machine write beside `root`."""
    return f".{root.name}.{socket.gethostname()}-"


def _aside(root: Path) -> Path:
    return root.with_name(f".{root.name}.old")


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True
