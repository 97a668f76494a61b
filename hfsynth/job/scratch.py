"""A folder of this process alone, on this machine, for its view of a job that lies elsewhere.

It goes with the process; what a killed one has left is found by the next on this machine, which may still send what the
other had no time to. Knows nothing of what lies in it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex

from hfsynth.core.errors import OutputError
from hfsynth.core.files import writing
from hfsynth.core.processes import lives, mark

_OLD = 7 * 24 * 3600.0  # seconds after which the folder of a process that is not known here is nobody's


class Scratch:
    """A folder for the view of `url`, below the machine's own for temporary files (TMPDIR)."""

    def __init__(self, url: str) -> None:
        self._home = _own_folder() / blake2b(url.encode(), digest_size=8).hexdigest()
        self.root = self._home / _name()
        with writing(self.root):
            self.root.mkdir(parents=True)

    def others(self) -> Iterator[Path]:
        """Yield the folders of living processes of this machine that look at the same place."""
        yield from (path for path in self._neighbours() if lives(path.name.partition(".")[0]))

    def adopted(self) -> Iterator[Path]:
        """Yield the folders that dead processes have left, each to one caller alone; they are removed afterwards."""
        for path in self._neighbours():
            alive = lives(path.name.partition(".")[0])
            if alive is False or (alive is None and _age(path) > _OLD):
                own = self._home / _name()
                with suppress(OSError):  # another was quicker
                    path.rename(own)
                    yield own
                    shutil.rmtree(own, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.root, ignore_errors=True)
        with suppress(OSError):  # others are there
            self._home.rmdir()

    def _neighbours(self) -> list[Path]:
        with suppress(OSError):
            return sorted(path for path in self._home.iterdir() if path != self.root)
        return []


def _name() -> str:
    return f"{mark()}.{token_hex(4)}"


def _age(path: Path) -> float:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _own_folder() -> Path:
    """Return a folder that nobody else can write to: what lies there is sent on."""
    folder = Path(tempfile.gettempdir()) / f"hfsynth-{os.getuid()}"
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    if found.st_uid != os.getuid() or folder.is_symlink() or found.st_mode & 0o022:
        raise OutputError(f"{folder} is open to others.", hint="Remove it, or let TMPDIR name a folder of your own.")
    return folder
