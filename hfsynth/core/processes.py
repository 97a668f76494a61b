"""Name a process so that others can tell whether it still lives. Knows nothing of what processes do.

An id alone is not enough: other machines and containers use the same ones, and ids are used again.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path


@cache
def machine() -> str:
    """Name what process ids are unique in: a boot of a machine, and a container's own numbering."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def began(pid: int) -> str:
    """Return when a process of this machine began, in the system's own unit; nothing where it has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return _exists(pid)
    return "" if state[0] in "ZX" else state[19]  # a zombie works no more


def _exists(pid: int) -> str:
    """Answer for systems without /proc: there, or not."""
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"


def mark() -> str:
    """Return this process's name, short enough for the name of a file."""
    return f"{os.getpid()}-{_short(machine())}-{began(os.getpid())}"


def lives(mark: str) -> bool | None:
    """Return whether a process that gave itself this `mark` lives; None for one of another machine, and for no mark."""
    pid, _, rest = mark.partition("-")
    where, _, since = rest.partition("-")
    if where != _short(machine()) or not pid.isdecimal():
        return None
    return began(int(pid)) == since


def _short(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
