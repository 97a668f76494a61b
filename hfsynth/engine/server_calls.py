"""Calls to a server: sent, tried again, given up, many at once. Knows nothing of chains, prompts or models.

A failure is read in one of three ways. *Busy* (429, 502, 503, 504, nobody listens) says nothing about the request: it
is tried again until its patience is at an end. If the server then does the least it can do, the request alone is given
up; if it does nothing for anybody for so long, it is gone. However long a server asks to wait, no request waits longer
than that before it asks once more. *Broken* (any other 5xx, 408, 409, a connection that breaks or
stays silent) may be the request's doing: after some attempts the server is asked for the least it can do, and if it
does that, the request is at fault. Anything else is a refusal, and final; until the server has completed something, it
is asked for the least it can do then, too, so that one which takes no token ids is not blamed on every document.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from queue import SimpleQueue
from threading import Thread, current_thread

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from hfsynth.core.errors import EngineError
from hfsynth.core.remote_calls import pause
from hfsynth.engine.protocol import Completion
from hfsynth.engine.server_protocol import Body, ServerOptions, UnreadableAnswer, completion_of, refusal, smallest_body

_log = logging.getLogger(__name__)

_BUSY = frozenset({429, 502, 503, 504})
_BROKEN = frozenset({408, 409})  # and every other status from 500
_NOT_THE_REQUEST = frozenset({401, 402, 404, 405})
"""Statuses that every request would get: no key, no credit, no such model or address."""

_SHORTEST_DELAY = 0.25
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 3.0  # shorter than the 5 s after which uvicorn, and so vLLM, closes an idle connection
_LEAVE_SECONDS = 5.0
_SECONDS_BETWEEN_LINES = 10.0
_ANSWER_BYTES, _TOKEN_BYTES = 2**20, 2**10
"""The most that is read of an answer, and the most that each token which was asked for adds to it."""


@dataclass
class Server:
    """A server as its callers see it. `headers` hold the key and are shown nowhere."""

    options: ServerOptions
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._last_answer = time.monotonic()
        self._has_completed = False
        self._last_told = -_SECONDS_BETWEEN_LINES

    def client(self) -> httpx2.AsyncClient:
        """Return a client with a connection for every request in flight."""
        concurrency = self.options.concurrency
        return httpx2.AsyncClient(
            headers={**self.headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(self.options.timeout, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx2.Limits(
                max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=_IDLE_SECONDS
            ),
        )

    async def complete(self, client: httpx2.AsyncClient, body: Body, choices: Sequence[str] = ()) -> Completion:
        """Return the server's completion, or one with `error` where this request cannot be answered.

        `choices` are the server's names for the tokens of which it is to tell how likely they are.

        Raise EngineError when the server is gone for longer than `patience`, or would refuse every request.
        """
        while True:
            try:
                return await self._retrying()(self._ask, client, body, choices)
            except (httpx2.HTTPStatusError, httpx2.TransportError, UnreadableAnswer) as error:
                if not _is_busy(error):
                    return await self._not_busy(client, body, error)
                if await self._least(client, body) is None:
                    return self._failed(f"given up after {self.options.patience:g} s: {_reason(error)}")
                if time.monotonic() - self._last_answer >= self.options.patience:
                    raise self._gone(error) from error

    async def _not_busy(self, client: httpx2.AsyncClient, body: Body, error: Exception) -> Completion:
        """Return the completion of a request that was refused, or that broke the server too often."""
        if isinstance(error, httpx2.HTTPStatusError) and not _is_broken(error):
            return await self._refused(client, body, error)
        if not await self._lives(client, body):
            raise self._gone(error) from error
        return self._failed(f"given up after several attempts: {_reason(error)}")

    async def _ask(self, client: httpx2.AsyncClient, body: Body, choices: Sequence[str] = ()) -> Completion:
        limit = _ANSWER_BYTES + _TOKEN_BYTES * body["max_tokens"]
        async with client.stream("POST", f"{self.options.base_url}/completions", json=body) as response:
            content = await _read(response, limit)
        completion = completion_of(content, choices)
        self._last_answer = time.monotonic()
        self._has_completed = True
        return completion

    def _retrying(self) -> AsyncRetrying:
        """Return the attempts of one request, which end when it broke too often or its patience is at an end.

        A request that breaks the server is given its attempts for as long as others are answered.
        """
        broken, patience = 0, self.options.patience

        def stop(state: RetryCallState) -> bool:
            nonlocal broken
            error = _error_of(state)
            broken += _is_broken(error)
            since = state.start_time if _is_busy(error) else max(self._last_answer, state.start_time)
            return broken >= self.options.attempts or time.monotonic() - since >= patience

        def wait(state: RetryCallState) -> float:
            left = state.start_time + patience - time.monotonic()
            return min(pause(state), max(left, _SHORTEST_DELAY))

        retry = retry_if_exception(lambda error: _is_busy(error) or _is_broken(error))
        return AsyncRetrying(retry=retry, wait=wait, stop=stop, before_sleep=self._log_retry, reraise=True)

    def _log_retry(self, state: RetryCallState) -> None:
        """Log that a request is sent again; many wait at once, so most of it as debug."""
        now = time.monotonic()
        level = logging.INFO if now - self._last_told >= _SECONDS_BETWEEN_LINES else logging.DEBUG
        if level == logging.INFO:
            self._last_told = now
        why = self._discreet(_reason(_error_of(state))).partition(":")[0]  # what comes then may quote a prompt
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + state.start_time + self.options.patience - now))
        _log.log(level, "request put off: %s; sent again in %.1f s, until %s", why, state.upcoming_sleep, until)

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

    They begin when it is made; `leave` takes back what is still in flight.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.concurrency = server.options.concurrency
        self._ended: SimpleQueue[tuple[int, Future[Completion]]] = SimpleQueue()
        self._client = server.client()
        self._loop = asyncio.new_event_loop()
        self._left = asyncio.Event()
        self._thread = Thread(target=self._fly, name="hfsynth-server", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Take back what is in flight and end the thread."""
        self._loop.call_soon_threadsafe(self._left.set)
        if current_thread() is not self._thread:  # as it is when that thread's garbage collector ends a forgotten run
            self._thread.join(_LEAVE_SECONDS)

    def send(self, number: int, body: Body, choices: Sequence[str] = ()) -> None:
        """Send a request and return at once; `next_ended` gives its `number` back."""
        future = asyncio.run_coroutine_threadsafe(self._server.complete(self._client, body, choices), self._loop)
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


async def _read(response: httpx2.Response, limit: int) -> bytes:
    """Return the content of an answer; raise HTTPStatusError for a failure, UnreadableAnswer for one without end."""
    content = bytearray()
    async for block in response.aiter_bytes():
        content += block
        if len(content) > limit:
            raise UnreadableAnswer(f"an answer of more than {limit:,} bytes")
    plain = {name: response.headers[name] for name in ("retry-after", "ratelimit") if name in response.headers}
    whole = httpx2.Response(response.status_code, headers=plain, content=bytes(content), request=response.request)
    whole.raise_for_status()
    return bytes(content)


def _is_busy(error: BaseException | None) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in _BUSY
    return isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))


def _is_broken(error: BaseException | None) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        status = error.response.status_code
        return status in _BROKEN or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _BUSY)
    return isinstance(error, (httpx2.TransportError, UnreadableAnswer)) and not _is_busy(error)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return refusal(error.response.status_code, error.response.content)
    return f"the connection failed ({type(error).__name__}: {error})" if str(error) else type(error).__name__


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
