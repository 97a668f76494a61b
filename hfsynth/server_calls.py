"""Calls to a server: sent, tried again, given up, many at once. Knows nothing of chains, prompts or models.

A failure is read in one of three ways. *Busy* (429, 502, 503, 504, nobody listens) says nothing about the request: it
is tried again for as long as the server answers others. *Broken* (any other 5xx, 408, 409, a connection that breaks or
stays silent) may be the request's doing: after some attempts the server is asked for the least it can do, and if it
does that, the request is at fault. Anything else is a refusal, and final; until the server has completed something, it
is asked for the least it can do then, too, so that one which takes no token ids is not blamed on every document.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from queue import SimpleQueue
from random import SystemRandom
from threading import Thread, current_thread
from types import TracebackType
from typing import Self

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from hfsynth.chains import Completion
from hfsynth.errors import EngineError
from hfsynth.retrying import asked_delay
from hfsynth.server_protocol import (
    Body,
    ServerOptions,
    UnreadableAnswer,
    completion_of,
    refusal,
    smallest_body,
)

_BUSY = frozenset({429, 502, 503, 504})
_BROKEN = frozenset({408, 409})  # and every other status from 500
_NOT_THE_REQUEST = frozenset({401, 402, 404, 405})
"""Statuses that every request would get: no key, no credit, no such model or address."""

_FIRST_DELAY, _LONGEST_DELAY = 0.25, 30.0
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 3.0  # shorter than the 5 s after which uvicorn, and so vLLM, closes an idle connection
_LEAVE_SECONDS = 5.0
_random = SystemRandom()


@dataclass
class Server:
    """A server as its callers see it. `headers` hold the key and are shown nowhere."""

    options: ServerOptions
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._last_answer = time.monotonic()
        self._has_completed = False

    def client(self) -> httpx2.AsyncClient:
        """Return a client with a connection for every request in flight."""
        concurrency = self.options.concurrency
        return httpx2.AsyncClient(
            headers=dict(self.headers),
            timeout=httpx2.Timeout(self.options.timeout, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx2.Limits(
                max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=_IDLE_SECONDS
            ),
        )

    async def complete(self, client: httpx2.AsyncClient, body: Body) -> Completion:
        """Return the server's completion, or one with `error` where this request cannot be answered.

        Raise EngineError when the server is gone for longer than `patience`, or would refuse every request.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: _is_busy(error) or _is_broken(error)),
            wait=_delay,
            stop=self._until(),
            reraise=True,
        )
        try:
            return await retrying(self._ask, client, body)
        except (httpx2.HTTPStatusError, httpx2.TransportError, UnreadableAnswer) as error:
            if _is_busy(error) or (_is_broken(error) and not await self._lives(client, body)):
                raise self._gone(error) from error
            if isinstance(error, httpx2.HTTPStatusError) and not _is_broken(error):
                return await self._refused(client, body, error)
            return self._failed(f"given up after several attempts: {_reason(error)}")

    async def _ask(self, client: httpx2.AsyncClient, body: Body) -> Completion:
        response = await client.post(f"{self.options.base_url}/completions", json=body)
        response.raise_for_status()
        completion = completion_of(response.content)
        self._last_answer = time.monotonic()
        self._has_completed = True
        return completion

    def _until(self) -> Callable[[RetryCallState], bool]:
        """Return what ends the attempts of one request: it broke too often, or nobody was answered for too long."""
        broken = 0

        def stop(state: RetryCallState) -> bool:
            nonlocal broken
            broken += _is_broken(_error_of(state))
            since = max(self._last_answer, state.start_time)
            return broken >= self.options.attempts or (
                time.monotonic() + state.upcoming_sleep - since > self.options.patience
            )

        return stop

    async def _least(self, client: httpx2.AsyncClient, body: Body) -> Exception | None:
        """Ask for as little as possible in the same way; return what went wrong."""
        try:
            await self._ask(client, smallest_body(body))
        except (httpx2.HTTPStatusError, httpx2.TransportError, UnreadableAnswer) as error:
            return error
        return None

    async def _lives(self, client: httpx2.AsyncClient, body: Body) -> bool:
        error = await self._least(client, body)
        return error is None or (
            isinstance(error, httpx2.HTTPStatusError) and error.response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
        )

    async def _refused(self, client: httpx2.AsyncClient, body: Body, error: httpx2.HTTPStatusError) -> Completion:
        """Return the completion of a refused request; raise EngineError where any other would be refused, too."""
        status = error.response.status_code
        if status in _NOT_THE_REQUEST or status < HTTPStatus.BAD_REQUEST:
            raise self.unusable(error) from error
        if not self._has_completed:
            least = await self._least(client, body)
            if isinstance(least, httpx2.HTTPStatusError) and least.response.status_code == status:
                raise self.unusable(least) from error
        self._last_answer = time.monotonic()
        return self._failed(_reason(error))

    def _failed(self, reason: str) -> Completion:
        return Completion("", "error", error=self._discreet(reason))

    def _gone(self, error: Exception) -> EngineError:
        """Return the error for a server that answers nobody."""
        message = f"The server at {self.options.base_url} answers no more; the last attempt: {_reason(error)}."
        return EngineError(
            self._discreet(message),
            hint="See that it runs and is not overloaded (a smaller --concurrency helps), then give the same command "
            "again.",
        )

    def unusable(self, error: httpx2.HTTPStatusError) -> EngineError:
        """Return the error for a server that refuses whatever it is asked."""
        hint = "Check --base-url (it mostly ends in /v1) and --model."
        if error.response.status_code in (401, 403):
            hint = "Set HFSYNTH_API_KEY (or OPENAI_API_KEY) to a key that this server takes."
        message = f"The server at {self.options.base_url} cannot be used: {_reason(error)}."
        return EngineError(self._discreet(message), hint=hint)

    def _discreet(self, text: str) -> str:
        """Return a message without the key, which some servers repeat in theirs."""
        for value in self.headers.values():
            text = text.replace(value.removeprefix("Bearer "), "…")
        return text


class Calls:
    """Requests in flight, on an event loop of their own in a thread: the caller's own loop, if any, is left alone.

    A context manager; leaving it takes back what is still in flight.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended: SimpleQueue[tuple[int, Future[Completion]]] = SimpleQueue()

    def __enter__(self) -> Self:
        self._client = self._server.client()
        self._loop = asyncio.new_event_loop()
        self._left = asyncio.Event()
        self._thread = Thread(target=self._fly, name="hfsynth-server", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._left.set)
        if current_thread() is not self._thread:  # as it is when that thread's garbage collector ends a forgotten run
            self._thread.join(_LEAVE_SECONDS)

    def send(self, number: int, body: Body) -> None:
        """Send a request and return at once; `next_ended` gives its `number` back."""
        future = asyncio.run_coroutine_threadsafe(self._server.complete(self._client, body), self._loop)
        future.add_done_callback(lambda ended: self._ended.put((number, ended)))

    def next_ended(self) -> tuple[int, Completion]:
        """Wait for the next request that ends, whichever it is; raise EngineError when the server is gone."""
        number, future = self._ended.get()
        return number, future.result()

    def _fly(self) -> None:
        try:
            self._loop.run_until_complete(self._until_left())
        finally:
            self._loop.close()

    async def _until_left(self) -> None:
        await self._left.wait()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._client.aclose()
        await self._loop.shutdown_default_executor()


def _is_busy(error: BaseException | None) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in _BUSY
    return isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))


def _is_broken(error: BaseException | None) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        status = error.response.status_code
        return status in _BROKEN or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _BUSY)
    return isinstance(error, (httpx2.TransportError, UnreadableAnswer)) and not _is_busy(error)


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return refusal(error.response.status_code, error.response.content)
    return f"the connection failed ({type(error).__name__}: {error})" if str(error) else type(error).__name__


def _delay(state: RetryCallState) -> float:
    """Return the seconds until the next attempt: what the server asks for, else a delay that doubles; with jitter."""
    error = _error_of(state)
    asked = asked_delay(error.response.headers) if isinstance(error, httpx2.HTTPStatusError) else None
    if asked is not None:
        return asked + _random.uniform(0, _FIRST_DELAY)
    doubled: float = _FIRST_DELAY * 2 ** min(state.attempt_number - 1, 10)
    return _random.uniform(0.5, 1.5) * min(doubled, _LONGEST_DELAY)


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
