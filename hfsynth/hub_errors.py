"""What the Hub's refusals mean, in one sentence, with what to do next. A token is never part of a sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from hfsynth.errors import HubError
from hfsynth.retrying import StorageError, asked_wait, reason_of, status_of

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
