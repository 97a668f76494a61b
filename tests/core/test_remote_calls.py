"""The one rule for how long to wait before a remote call is made again, whichever server it goes to."""

from __future__ import annotations

import time

import httpx2
import pytest
from tenacity import RetryCallState

from hfsynth.core.remote_calls import StorageError, pause, retrying
from hfsynth.engine.server_calls import Server
from hfsynth.engine.server_protocol import ServerOptions


def failed(error: Exception, attempt: int) -> RetryCallState:
    """Return the state of a call that has failed so many times."""
    state = RetryCallState(retrying(60.0), None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(error), error, None))
    return state


def refused(status: int, **headers: str) -> Exception:
    request = httpx2.Request("POST", "http://localhost/v1/completions")
    response = httpx2.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return httpx2.HTTPStatusError("refused", request=request, response=response)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (refused(429, retry_after="7"), 7),
        (refused(503, retry_after="45"), 45),
        (refused(429, ratelimit='"api";r=0;t=3', retry_after="9"), 3),
    ],
)
def test_what_the_answer_asks_for_is_waited_in_full(error: Exception, seconds: int) -> None:
    assert all(seconds <= pause(failed(error, attempt)) <= seconds + 0.25 for attempt in (1, 5, 50))


@pytest.mark.parametrize("error", [refused(503), StorageError("", 500), ConnectionError()])
def test_else_the_delay_doubles_up_to_twenty_seconds(error: Exception) -> None:
    for attempt, middle in ((1, 0.25), (2, 0.5), (5, 4.0), (8, 20.0), (1000, 20.0)):
        assert 0.5 * middle <= pause(failed(error, attempt)) <= 1.5 * middle


def test_the_hub_and_an_engines_server_are_called_again_by_the_same_rule() -> None:
    assert retrying(60.0).wait is pause
    server = Server(ServerOptions("http://localhost/v1", concurrency=1, patience=3600, timeout=1, attempts=2))
    asked, late = failed(refused(429, retry_after="40"), 3), failed(refused(429, retry_after="40"), 3)
    late.start_time = time.monotonic() - 3590
    wait = server._retrying().wait
    assert 40 <= wait(asked) <= 40.25
    assert 0.25 <= wait(late) <= 10  # no longer than the patience that is left
