"""Send contents by Xet, the Hub's own road. The one module that imports hf_xet.

huggingface_hub's way through hf_xet tells nothing before a whole group of files is there, writes down now and then
what is stored, tries again by itself for minutes, and calls every refusal a broken connection. Here bytes are told
while they go, each xorb is written down as soon as it is stored, so that a push that was killed sends none twice, and
a refusal comes with its status, to be judged by `retrying` as any other. Knows nothing of repos and commits.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from hfsynth.core.errors import HubError
from hfsynth.core.remote_calls import StorageError
from hfsynth.core.store_paths import PIECE

_SETTINGS = {
    "data.session_xorb_metadata_flush_max_count": 1,
    "client.retry_max_attempts": 1,
    "client.retry_base_delay": "1s",
}
_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})\b")
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, slots=True)
class Access:
    """Where the storage is, what opens it until when, and where a later token comes from."""

    endpoint: str
    token: str
    expires: int
    refresh_url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send, by its path, by its content, or opened where it is on no disk."""

    source: Path | bytes | io.BufferedReader
    sha256: str


@dataclass(slots=True)
class _Watch:
    """How many bytes are done, and since when none was."""

    on_bytes: Callable[[int], None]
    done: int = 0
    moved: float = field(default_factory=time.monotonic)

    def see(self, group: Any, items: object) -> None:  # noqa: ANN401
        new = group.total_bytes_completed - self.done
        if new > 0:
            self.done, self.moved = self.done + new, time.monotonic()
            self.on_bytes(new)

    def still(self) -> float:
        return time.monotonic() - self.moved


class BytesTold:
    """The bytes of a unit, told once however often it is sent."""

    def __init__(self, size: int, on_bytes: Callable[[int], None]) -> None:
        self._size, self._on_bytes = size, on_bytes
        self._done = self._said = 0

    def begin(self) -> None:
        self._done = 0

    def more(self, size: int) -> None:
        self._done = min(self._done + size, self._size)
        if self._done > self._said:
            fresh, self._said = self._done - self._said, self._done
            self._on_bytes(fresh)

    def finish(self) -> None:
        self.begin()
        self.more(self._size)


def is_available() -> bool:
    """Say whether contents go by Xet: hf_xet is installed, and HF_HUB_DISABLE_XET is not set."""
    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def send(
    contents: Sequence[Upload], access: Access, *, patience: float, on_bytes: Callable[[int], None] = lambda size: None
) -> None:
    """Store contents and register them; what the storage has already is not sent.

    `on_bytes` is told from another thread how many more bytes are done. Raise StorageError for what the storage
    answers, and where nothing has moved for `patience` seconds.
    """
    watch = _Watch(on_bytes)
    try:
        commit = _session(os.getpid()).new_upload_commit(
            endpoint=access.endpoint,
            token=access.token,
            token_expiry_unix_secs=access.expires,
            token_refresh_url=access.refresh_url,
            token_refresh_headers=dict(access.headers),
            custom_headers={name: value for name, value in access.headers.items() if name.lower() != "authorization"},
            progress_callback=watch.see,
        )
        _start(commit, contents)
        _finish(commit, contents, watch, patience)
    except StorageError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise _answered(error) from error
    except (RuntimeError, ValueError) as error:
        raise HubError(f"Xet refused what was sent: {error}", hint="Nothing visible has changed.") from error


@cache
def _session(pid: int) -> Any:  # noqa: ANN401
    """Return this process's session; a forked one needs its own."""
    import hf_xet

    config = hf_xet.XetConfig()
    known = set(config.keys())
    return hf_xet.XetSession(config.with_config({key: value for key, value in _SETTINGS.items() if key in known}))


def _start(commit: Any, contents: Sequence[Upload]) -> None:  # noqa: ANN401
    for content in contents:
        if isinstance(content.source, bytes):
            commit.start_upload_bytes(content.source, sha256=content.sha256)
        elif isinstance(content.source, Path):
            commit.start_upload_file(str(content.source), sha256=content.sha256)


def _finish(commit: Any, contents: Sequence[Upload], watch: _Watch, patience: float) -> None:  # noqa: ANN401
    """Wait for the end in a thread of its own, so that a storage that never answers can be given up."""

    def end() -> None:
        for content in contents:
            if isinstance(content.source, io.BufferedReader):
                _stream(commit, content.source, content.sha256)
        commit.wait_to_finish()

    with ThreadPoolExecutor(1, thread_name_prefix="xet") as pool:
        ending = pool.submit(end)
        try:
            while not wait([ending], timeout=_SECONDS_BETWEEN_LOOKS).done:
                if watch.still() > patience:
                    raise StorageError(f"nothing has moved for {patience:.0f} s", None)
        except BaseException:
            commit.abort()
            raise
        ending.result()


def _stream(commit: Any, source: io.BufferedReader, sha256: str) -> None:  # noqa: ANN401
    """Send what is on no disk, a piece at a time."""
    source.seek(0)
    with commit.start_upload_stream(sha256=sha256) as stream:
        while piece := source.read(PIECE):
            stream.write(piece)


def _answered(error: Exception) -> StorageError:
    found = _STATUS.search(str(error))
    return StorageError(str(error), int(found[1]) if found else None)
