"""Calls to the Hub: tried again when, after how long, and until when; and what a refusal means.

The status code decides, not the class of an error. How long to wait before any remote call is made again, `pause`
says: what the answer asks for (`RateLimit`, `Retry-After`), else a delay that doubles; always with jitter, so that
processes do not come back together. A refusal is told in one sentence, with what to do next; a token is never part of
it. Knows nothing of what is called.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from random import SystemRandom

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay

from hfsynth.core.errors import HubError

TRANSIENT = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same call can succeed. 409 and 412 say that somebody else was quicker."""

_RATE_LIMIT = re.compile(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
_FIRST_DELAY, _LONGEST_DELAY, _LONG_DELAY = 0.25, 20.0, 60.0
_random = SystemRandom()

OnRetry = Callable[[str], None]


class StorageError(ConnectionError):
    """What the Hub's storage answered, by its status; None where no answer came."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


_log = logging.getLogger(__name__)


def retrying(timeout: float, on_retry: OnRetry = lambda reason: None) -> Retrying:
    """Return tenacity's loop: it goes on for `timeout` seconds at most, then raises the last error as it came.

    `on_retry` is told in a few words why there is another attempt.
    """

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        spent = state.seconds_since_start or 0.0
        if error is None:
            return
        told = _told(error, state.upcoming_sleep, timeout - spent)
        last = time.strftime("%H:%M:%S", time.localtime(time.time() + timeout - spent))
        _log.info("call refused: %s (until %s)", told, last)
        if spent + state.upcoming_sleep >= 1:
            on_retry(told)

    return Retrying(
        retry=retry_if_exception(is_transient),
        wait=pause,
        stop=stop_before_delay(timeout),
        before_sleep=tell,
        reraise=True,
    )


def _told(error: BaseException, wait: float, left: float) -> str:
    if wait < _LONG_DELAY:
        return f"{reason_of(error)}; trying again in {wait:.1f} s, for {left:.0f} s at most"
    until = time.strftime("%H:%M", time.localtime(time.time() + wait))
    return f"{reason_of(error)} and asks to wait; going on at {until}. Ctrl-C stops, the same command goes on then"


def is_transient(error: BaseException) -> bool:
    """Say whether the same call can succeed later."""
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT or (status == 401 and isinstance(error, StorageError))
    return isinstance(error, (httpx2.TransportError, ConnectionError, TimeoutError)) and not _offline(error)


def status_of(error: BaseException) -> int | None:
    """Return the status code that an error carries; None where no answer came."""
    if isinstance(error, StorageError):
        return error.status
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def reason_of(error: BaseException) -> str:
    """Return in a few words what went wrong on the way."""
    status = status_of(error)
    if isinstance(error, StorageError):
        return f"the Hub's storage answered {status}" if status else f"the way to the Hub's storage broke ({error})"
    return f"the Hub answered {status}" if status is not None else f"the connection broke ({type(error).__name__})"


def asked_wait(error: BaseException | None) -> float | None:
    """Return how many seconds the answer behind an error asks to wait; None where it does not say."""
    return asked_delay(getattr(getattr(error, "response", None), "headers", {}))


def asked_delay(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds an answer asks to wait; None where it does not say.

    `RateLimit: "api";r=0;t=2` and `Retry-After` as seconds or as a date, as the Hub and its storage send them.
    """
    values = {name.lower(): value for name, value in headers.items()}
    if found := _RATE_LIMIT.search(values.get("ratelimit", "")):
        return float(found[1])
    after = values.get("retry-after", "").strip()
    if after.isdigit():
        return float(after)
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except ValueError:
        return None


def pause(state: RetryCallState) -> float:
    """Return the seconds until a remote call is made again: tenacity's wait, for every server that is called."""
    asked = asked_wait(state.outcome.exception() if state.outcome else None)
    if asked is not None:
        return asked + _random.uniform(0, _FIRST_DELAY)
    doubled: float = _FIRST_DELAY * 2 ** min(state.attempt_number - 1, 10)
    return _random.uniform(0.5, 1.5) * min(doubled, _LONGEST_DELAY)


def _offline(error: BaseException) -> bool:
    return type(error).__name__ == "OfflineModeIsEnabled"


AGAIN = "Give the same command again: it goes on where it was, and sends nothing twice."
WITHOUT_XET = "To send without Xet: HF_HUB_DISABLE_XET=1"
LOG_IN = "Log in: hf auth login (or set HF_TOKEN)."
_TOKENS = "https://huggingface.co/settings/tokens"


@contextmanager
def explained(repo: str, token: str | None = None) -> Iterator[None]:
    """Turn what the Hub's client raises into HubError."""
    try:
        yield
    except HFValidationError as error:
        raise invalid_name(repo) from error
    except OfflineModeIsEnabled as error:
        raise HubError("The Hub is switched off by HF_HUB_OFFLINE.", hint="Unset it and try again.") from error
    except HfHubHTTPError as error:
        raise _refusal(error, repo, token) from error
    except StorageError as error:
        raise _storage_refusal(error, repo) from error
    except (httpx2.TransportError, ConnectionError, TimeoutError) as error:
        reason = f"{constants.ENDPOINT} cannot be reached: {reason_of(error)}"
        raise HubError(f"{reason}.", hint=f"Check the network. {AGAIN}") from error


def invalid_name(repo: str) -> HubError:
    """Return the error for something that is no repo's name."""
    return HubError(
        f"{repo!r} is no valid name of a repo.",
        hint="Write it USER/NAME: letters, digits, dots, dashes and underscores, 96 characters a part at most.",
    )


def no_token() -> HubError:
    """Return the error for a missing login."""
    return HubError("There is no token to publish with.", hint=LOG_IN)


def _refusal(error: HfHubHTTPError, repo: str, token: str | None) -> HubError:
    asked = asked_wait(error)
    if asked and asked >= 1:
        return _asked_to_wait(status_of(error), asked)
    match status_of(error):
        case 401:
            return HubError("The Hub does not accept this token.", hint=f"{LOG_IN} Tokens are made at {_TOKENS}")
        case 403:
            return no_right(repo)
        case 404:
            return HubError(
                f"{repo} is not on the Hub, or this token may not see it.", hint="Check the name and the revision."
            )
        case 400 | 413 | 422:
            return HubError(f"The Hub refused the push to {repo}: {_first_line(error, token)}", hint="Nothing changed.")
        case 412 | 409:
            return HubError(f"Others kept changing {repo} while this was pushed.", hint=AGAIN)
    return HubError(f"The push to {repo} failed: {reason_of(error)}, again and again.", hint=AGAIN)


def _asked_to_wait(status: int | None, seconds: float) -> HubError:
    until = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
    return HubError(
        f"The Hub answered {status} and asks to wait {seconds:,.0f} s, longer than a step is tried for.",
        hint=f"Give the same command again after {until}, it goes on where it was; or let it wait: "
        f"--timeout {seconds + 60:.0f}",
    )


def _storage_refusal(error: StorageError, repo: str) -> HubError:
    match error.status:
        case 403:
            return no_right(repo)
        case 400 | 404 | 413 | 422:
            reason = f"The Hub's storage refused what was sent for {repo} ({error.status})"
            return HubError(f"{reason}.", hint=f"Nothing visible has changed. {WITHOUT_XET}")
    return HubError(f"The push to {repo} failed: {reason_of(error)}, again and again.", hint=f"{AGAIN} {WITHOUT_XET}")


def no_storage(repo: str) -> HubError:
    """Return the error for a Hub that gives no token for Xet."""
    return HubError(
        f"The Hub gives no access to its storage for {repo} (404): this token may not write there, or it has no Xet.",
        hint=f"Check the name and the token's rights. {WITHOUT_XET}",
    )


def no_right(repo: str) -> HubError:
    """Return the error for a token without the right to write."""
    return HubError(
        f"This token may not write to {repo}.",
        hint=f"Make one with write access at {_TOKENS}, then: hf auth login. Or propose it: --create-pr",
    )


def _first_line(error: HfHubHTTPError, token: str | None) -> str:
    text = str(error.server_message or error).strip().splitlines()[0]
    return text.replace(token, "hf_***") if token else text
