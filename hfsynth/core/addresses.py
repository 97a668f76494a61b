"""What may be told of where something lies: an address without its credentials, a path without this machine's folders.

Identity never hangs on it: what an address gave is pinned by its revision. Pure but for asking what the home folder is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from hfsynth.core.store_paths import AnyPath

_USER = re.compile(r"://(?:[^/?#\s]*@|[^/?#\s@:]*:(?!:|\d+(?:[/?#\s]|$))(?:(?!://)[^@\s])*@)")
_CONTAINER = re.compile(r"(?:abfss?|wasbs?)(?=://[^/?#\s@:]+@)")  # container@account: no user
_REST = re.compile(r"(\w+)(://[^\s?#'\"<>)]*)([?#][^\s'\"<>)]*?)(?=::|[\s'\"<>)]|$)")
_WEB = ("http", "https", "ftp")


def without_credentials(text: str) -> str:
    """Return a text whose addresses have lost user, password, query and fragment."""
    if "://" not in text:
        return text
    return _REST.sub(_without_query, _USER.sub(_without_user, text))


def public_location(location: str) -> str:
    """Return the name of a source, model or tokenizer: an address without credentials, of a path its last part."""
    if "://" in location:
        return without_credentials(location)
    at_hand = is_absolute(location) or os.path.exists(os.path.expanduser(location))
    return Path(os.path.abspath(os.path.expanduser(location))).name or location if at_hand else location


def public_values(value: Any, folder: AnyPath) -> Any:  # noqa: ANN401 - plain JSON values
    """Return JSON values in which no text tells credentials or where things lie on this machine.

    A path becomes its last part; within a longer text `folder` and the user's home are taken out.
    """
    if isinstance(value, dict):
        return {public_values(key, folder): public_values(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [public_values(inner, folder) for inner in value]
    if not isinstance(value, str):
        return value
    if is_absolute(value) and value.strip("/"):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    shown = without_credentials(value)
    for path, instead in ((str(folder.resolve()), folder.resolve().name), (str(Path.home()), "~")):
        shown = shown.replace(f"{path}/", f"{instead}/") if len(path) > 1 else shown
    return shown


def is_absolute(path: str) -> bool:
    """Say whether a text is the path of something on a machine, this one or another."""
    one_line = bool(path) and len(path) < 4096 and not re.search(r"[\n\0]", path)
    rooted = path.startswith("~/") or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    return one_line and rooted


def _without_user(found: re.Match[str]) -> str:
    before = found.string[: found.start()]
    container = _CONTAINER.search(found.string, max(0, len(before) - 5))
    return found.group() if container and container.end() == found.start() else "://"


def _without_query(found: re.Match[str]) -> str:
    """Drop a query; elsewhere than on the web a question mark without `=` stands for any character."""
    scheme, address, query = found.groups()
    return f"{scheme}{address}" if scheme in _WEB or "=" in query else found.group()
