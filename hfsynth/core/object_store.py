"""Object stores by obstore: S3 and what speaks it, Google Cloud Storage, Azure, and the Hub's buckets.

The only module that knows obstore. A request that fails for the network's sake is sent again for some minutes.
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import MemoryStore, S3Store, from_url

from hfsynth.core.errors import OutputError
from hfsynth.core.stores import Entry

if TYPE_CHECKING:  # the library names these for annotations alone
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

GATEWAY = "https://s3.hf.co"
"""Where the Hub's buckets speak S3; HFSYNTH_HUB_S3 names another place."""

# The pauses are drawn, and last two minutes in all: as long as a service or a network may be away for a moment.
_RETRY: RetryConfig = {
    "max_retries": 16,
    "retry_timeout": timedelta(minutes=3),
    "backoff": {"init_backoff": timedelta(seconds=0.25), "max_backoff": timedelta(seconds=15), "base": 3},
}
_CLIENT: ClientConfig = {"connect_timeout": "10s", "timeout": "300s"}
_UPLOAD_CHUNK = 16 * 2**20
_READ_AHEAD = 2**20
_TRIES = 8
_PAUSE = 0.1  # seconds before the second try, twice as long before each that follows

T = TypeVar("T")


class _Unanswered(OutputError):
    """The connection broke, and the library does not try again what must not happen twice."""


class _Conflict(Exception):
    """The key is there, or the store was busy with it: it does not say which."""


def open_object_store(url: str) -> Objects:
    """Return the store at an address; raise OutputError for one that cannot be right."""
    scheme, _, place = url.partition("://")
    try:
        if scheme == "memory":
            return Objects(url, _memory(url))
        if scheme == "hf":
            return Objects(url, _bucket(url, place.removeprefix("buckets/")))
        client: ClientConfig = {**_CLIENT, "allow_http": _http_allowed()}
        return Objects(url, from_url(url, client_options=client, retry_config=_RETRY))
    except (BaseError, ValueError) as error:
        raise OutputError(f"{url} cannot be used: {_first_line(error)}.", hint=_credentials(url)) from error


@cache
def _memory(url: str) -> MemoryStore:
    """Return a store in this process's memory, always the same for one address."""
    return MemoryStore()


def _bucket(url: str, place: str) -> S3Store:
    """Return the S3 gateway's view of a bucket of the Hub."""
    namespace, _, rest = place.partition("/")
    name, _, prefix = rest.partition("/")
    if not namespace or not name:
        raise OutputError(
            f"{url} names no bucket.", hint="Write hf://buckets/NAMESPACE/BUCKET, and a path if you like."
        )
    key, secret = (_first(f"HFSYNTH_S3_{name}", f"AWS_{aws}") for name, aws in _KEYS)
    if not key or not secret:
        raise OutputError(f"{url} needs keys of the Hub's S3 gateway.", hint=_credentials(url))
    return S3Store(
        name,
        prefix=prefix or None,
        endpoint=f"{os.environ.get('HFSYNTH_HUB_S3', GATEWAY)}/{namespace}",
        access_key_id=key,
        secret_access_key=secret,
        region="us-east-1",
        client_options={**_CLIENT, "allow_http": _http_allowed()},
        retry_config=_RETRY,
    )


_KEYS = (("KEY", "ACCESS_KEY_ID"), ("SECRET", "SECRET_ACCESS_KEY"))


def _first(*names: str) -> str:
    return next((value for name in names if (value := os.environ.get(name))), "")


def _http_allowed() -> bool:
    return os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")


class Objects:
    """A `Store` of objects."""

    def __init__(self, url: str, objects: ObjectStore) -> None:
        self.url = url
        self._objects = objects

    def create(self, key: str, content: bytes) -> bool:
        for pause in _pauses():
            try:
                with self._telling(key):
                    obstore.put(self._objects, key, content, mode="create")
                return True
            except (_Conflict, _Unanswered):
                # Also what is said of our own whose answer got lost, and where nothing was written.
                found = self._found(key)
            if found is not None:
                return found == content
            time.sleep(pause)
        raise self._torn(key)

    def put(self, key: str, content: bytes | Path) -> None:
        self._through(
            key, lambda: obstore.put(self._objects, key, content, chunk_size=_UPLOAD_CHUNK, max_concurrency=4)
        )

    def get(self, key: str, start: int = 0) -> bytes:
        if not start:
            return self._through(key, lambda: bytes(obstore.get(self._objects, key).bytes()), reading=True)
        size = self._head(key)["size"]
        return self.read_range(key, start, size) if start < size else b""

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`, which there must be."""
        read = partial(obstore.get_range, self._objects, key, start=start, end=end)
        return self._through(key, lambda: bytes(read()), reading=True)

    def open(self, key: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Ranges(self, key, self._head(key)["size"]), _READ_AHEAD))

    def list(self, prefix: str = "", after: str | None = None) -> Iterator[Entry]:
        folder = prefix.rpartition("/")[0]  # the library takes whole folders only
        chunks = iter(obstore.list(self._objects, folder or None, offset=after, chunk_size=1000))
        while chunk := self._through(folder, lambda: next(chunks, None)):
            for found in chunk:
                if found["path"].startswith(prefix):
                    yield Entry(found["path"], found["size"], _version(found))
                elif found["path"] > prefix:
                    return

    def delete(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        if wanted:
            self._through(wanted[0], lambda: obstore.delete(self._objects, wanted))

    def copy(self, source: str, target: str) -> None:
        self._through(source, lambda: obstore.copy(self._objects, source, target))

    def version(self, key: str) -> str | None:
        try:
            return _version(self._head(key))
        except FileNotFoundError:
            return None

    def _head(self, key: str) -> ObjectMeta:
        return self._through(key, lambda: obstore.head(self._objects, key), reading=True)

    def _found(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except FileNotFoundError:
            return None

    def _through(self, key: str, do: Callable[[], T], *, reading: bool = False) -> T:
        """Do something, again and again where the store says that something else is in its way."""
        for pause in _pauses():
            try:
                with self._telling(key, reading=reading):
                    return do()
            except _Conflict:
                time.sleep(pause)
        raise self._torn(key)

    def _torn(self, key: str) -> OutputError:
        return OutputError(
            f"{self.url}/{key} cannot be written: the store says again and again that something is in the way.",
            hint="Give the same command again: it goes on where it was.",
        )

    @contextmanager
    def _telling(self, key: str, *, reading: bool = False) -> Iterator[None]:
        """Turn what is left of errors into OutputError; what the callers here deal with goes through."""
        try:
            yield
        except (AlreadyExistsError, PreconditionError) as error:
            raise _Conflict from error
        except FileNotFoundError as error:
            if reading:
                raise FileNotFoundError(f"{self.url}/{key}") from error
            raise OutputError(f"{self.url} is not there: {_first_line(error)}.", hint=_MAKE_IT) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise OutputError(f"{self.url} refuses: {_first_line(error)}.", hint=_credentials(self.url)) from error
        except (BaseError, OSError) as error:
            if "<Code>NoSuchBucket" in str(error):
                raise OutputError(f"{self.url} is not there: {_first_line(error)}.", hint=_MAKE_IT) from error
            hint = "Give the same command again once it can: it goes on where it was."
            if _METADATA in str(error):  # nothing in the environment: the machine itself was asked for credentials
                hint = _credentials(self.url)
            message = f"{self.url}/{key} cannot be reached: {_first_line(error)}."
            broken = any(kind in str(error) for kind in _BROKEN)
            raise (_Unanswered if broken else OutputError)(message, hint=hint) from error


_METADATA = "169.254.169.254"
_BROKEN = ("kind: Interrupted", "kind: Timeout")
_MAKE_IT = "Make the bucket first, or mend the address."


def _pauses() -> Iterator[float]:
    yield from (_PAUSE * 2**attempt * (1 + random.random()) for attempt in range(_TRIES))


def _version(found: ObjectMeta) -> str:
    return found["e_tag"] or found["last_modified"].isoformat()


class _Ranges(io.RawIOBase):
    """An object as a file: every read is a request for a range, a buffer around it makes them fewer."""

    def __init__(self, objects: Objects, key: str, size: int) -> None:
        self._objects, self._key, self._size, self._at = objects, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        found = self._objects.read_range(self._key, self._at, end)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(": <?xml")[0].rstrip(".")


def _credentials(url: str) -> str:
    """Return which variables the service's clients look at."""
    names = {
        "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION; AWS_ENDPOINT_URL where it is not Amazon's",
        "gs": "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS",
        "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        "hf": "HFSYNTH_S3_KEY and HFSYNTH_S3_SECRET, made of a token in the bucket's settings on the Hub",
    }
    told = names.get(url.partition(":")[0])
    profile = " `aws configure export-credentials --format env` prints those of a profile." * (url[:2] == "s3")
    return f"Set {told}.{profile}" if told else ""
