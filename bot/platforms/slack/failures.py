"""What Slack's answers mean: whether to look, to try again, or to give up, and why."""

from __future__ import annotations

from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError

from bot.errors import BadToken, DeliveryFailed, MissingScope, PlatformFailed

TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, ConnectionError)
CALL_ERRORS = (SlackApiError, *TRANSPORT_ERRORS)
"""Everything that one call of the Web API may raise."""

_SLACKS_OWN = frozenset({"fatal_error", "internal_error", "request_timeout", "service_unavailable"})
"""Slack broke while it was at work: it may have done what was asked."""

_TOKEN_ERRORS = frozenset(
    {
        "not_authed",
        "invalid_auth",
        "account_inactive",
        "token_revoked",
        "token_expired",
        "not_allowed_token_type",
        "no_permission",
    }
)

_NOT_YET = frozenset({"streaming_state_conflict"})
"""The message is still being streamed; it can be completed once the stream has been stopped."""

_CANNOT_POST = {
    "channel_not_found": "the channel is gone, or friend is not in it",
    "not_in_channel": "friend is not in the channel; invite it with /invite @friend",
    "is_archived": "the channel is archived",
    "thread_not_found": "the message it answers is gone",
    "message_not_found": "the message it answers is gone",
    "restricted_action": "the workspace does not let apps post there",
    "restricted_action_thread_locked": "the thread is locked",
    "msg_too_long": "it is too long",
}


def code_of(error: BaseException) -> str:
    """Slack's error code, or "" if the failure came before Slack could say one."""
    if not isinstance(error, SlackApiError):
        return ""
    data: Any = getattr(error.response, "data", None)
    return str(data.get("error", "")) if isinstance(data, dict) else ""


def status_of(error: BaseException) -> int:
    """HTTP status of Slack's answer, 0 if there was none."""
    if not isinstance(error, SlackApiError):
        return 0
    response: Any = error.response
    return int(getattr(response, "status_code", 0) or getattr(response, "status", 0))


def retry_after(error: BaseException) -> float:
    """Seconds Slack asks to wait after a 429; 1 if it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return float(headers.get("Retry-After", 1))
    except ValueError:
        return 1.0


def is_rate_limit(error: BaseException) -> bool:
    """Whether Slack refused the call for its pace; nothing was done."""
    return status_of(error) == 429 or code_of(error) in {"ratelimited", "rate_limited"}


def is_ambiguous(error: BaseException) -> bool:
    """Whether Slack may have done what was asked all the same."""
    if isinstance(error, TRANSPORT_ERRORS):
        return not isinstance(error, aiohttp.ClientConnectorError)
    return status_of(error) >= 500 or code_of(error) in _SLACKS_OWN


def delivery_failed(error: BaseException) -> DeliveryFailed:
    """The failure of a post, in a sentence for the log."""
    if isinstance(error, TRANSPORT_ERRORS):
        return DeliveryFailed(
            f"Slack did not take the reply: no connection ({type(error).__name__}).",
            retryable=True,
        )
    code = code_of(error) or f"HTTP {status_of(error)}"
    if is_rate_limit(error) or is_ambiguous(error) or code in _NOT_YET:
        return DeliveryFailed(f"Slack did not take the reply just now ({code}).", retryable=True)
    reason = _CANNOT_POST.get(code, f"Slack says {code}")
    words_refused = code == "msg_too_long" or not (code in _CANNOT_POST or code in _TOKEN_ERRORS)
    return DeliveryFailed(
        f"The reply cannot be posted: {reason}.", retryable=False, words_refused=words_refused
    )


def sign_in_failed(error: SlackApiError, *, variable: str, kind: str) -> PlatformFailed | None:
    """What is wrong with a token, or None if the failure is not about it.

    Args:
        variable: the setting that holds the token.
        kind: how Slack's settings page calls it, and where it is.
    """
    code = code_of(error)
    if code == "missing_scope":
        needed = error.response.get("needed", "")
        return MissingScope(
            f"Slack refuses friend for want of the scope {needed}. Put the app manifest "
            "(`friend manifest slack`) into your app's settings, then reinstall the app."
        )
    if code == "not_allowed_token_type":
        return BadToken(f"{variable} holds a token of the wrong kind: it must be the {kind}.")
    if code in _TOKEN_ERRORS:
        return BadToken(
            f"Slack does not accept {variable} ({code}). Copy the {kind}, then start friend again."
        )
    return None
