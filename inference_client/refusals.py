"""From an error answer to an error of ours, with a sentence that says what to do."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from .errors import Busy, InferenceError, Refused, ServerFailed
from .server_errors import ServerError, read_error

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["error_from_answer", "error_in_stream", "retry_after"]

_ADVICE = {
    400: "The model's server did not accept the request",
    401: "The model's server did not accept the key; check that it is the right one",
    403: (
        "The model's server does not allow this; check the key, or on AWS the credentials, "
        "the region and the permission lambda:InvokeFunctionUrl"
    ),
    404: "The model's server does not know this address or model; check both names",
    413: "The message is too long for the model's server",
    422: "The model's server did not accept the request",
    500: "The model's server cannot read the request",
}
_ABOUT_LENGTH = re.compile(
    r"context\b.*(exceed|maximum|too long|longer|larger|overflow|not enough)|"
    r"(exceed|maximum|too long|longer|larger).*\bcontext|context_(length|size)|"
    r"(prompt|input|messages?|request)\b.* (is|are) (too long|longer)|request too large|"
    r"too many (input |prompt )?tokens|tokens\b.*(exceed|longer than|must be <=)|"
    r"exceed\w*\b.*\btokens",
    re.IGNORECASE,
)
_BAD_REQUESTS = ("invalid_request", "badrequest", "bad_request", "validation", "context_")
_ABOUT_PACE = re.compile(r"quota|rate.?limit|per (min|hour|day)", re.IGNORECASE)
_ABOUT_REQUEST = re.compile(
    r"alternat|\broles?\b|template|jinja|system message|(first|last) message|messages\W{0,4}\d|"
    r"invalid_request|tokeniz",
    re.IGNORECASE,
)


def error_from_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    request_id: str,
    secret: str | None = None,
    now: datetime | None = None,
) -> InferenceError:
    """What an answer that is not 2xx means. `secret` is kept out of the text."""
    said = read_error(body)
    if status < 400:
        return Refused(
            f"The model's server sent the request elsewhere (status {status}); redirects are not "
            "followed, so set the address to where it really is.",
            status=status,
            request_id=request_id,
        )
    after = retry_after(headers.get("retry-after"), now or datetime.now(UTC))
    return _error(status, said, after, request_id, secret)


def error_in_stream(
    said: ServerError, *, request_id: str, secret: str | None = None
) -> InferenceError:
    """What an error object means that came with, or after, a success by status."""
    status = int(said.code) if said.code and said.code.isascii() and said.code.isdigit() else None
    if status is None or not 400 <= status <= 599:
        kind = f"{said.type} {said.code}".lower()
        if "rate_limit" in kind or "overloaded" in kind:
            status = 429
        elif any(name in kind for name in _BAD_REQUESTS):
            status = 400
        elif "authentication" in kind or "permission" in kind:
            status = 401
        else:
            status = 500
    return _error(status, said, None, request_id, secret)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110, section 10.2.3), or None if unreadable.

    Seconds may have a fraction, which some servers send; a date in the past means 0.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = (date - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _error(
    status: int, said: ServerError, after: float | None, request_id: str, secret: str | None
) -> InferenceError:
    words = said.message.replace(secret, "***") if secret else said.message
    detail = f": {words}" if words else "."
    too_long = _is_about_length(status, said)
    if status == 429 and said.code == "insufficient_quota":
        return Refused(
            f"The model account's quota is used up{detail}",
            status=status,
            code=said.code,
            request_id=request_id,
        )
    if status in (408, 425, 429) and not too_long:
        return Busy(
            f"The model is busy (status {status}){detail}",
            retry_after=after,
            request_id=request_id,
        )
    kind = f"{said.type} {said.code} {said.message}"
    is_about_request = status == 500 and bool(said.field or _ABOUT_REQUEST.search(kind))
    if status >= 500 and not too_long and not is_about_request:
        return ServerFailed(
            f"The model's server failed (status {status}){detail}",
            status=status,
            retry_after=after,
            request_id=request_id,
        )
    advice = _ADVICE.get(status, "The model's server refused the request")
    where = f", field {said.field}" if said.field else ""
    return Refused(
        f"{advice} (status {status}{where}){detail}",
        status=status,
        field=said.field,
        code=said.code,
        request_id=request_id,
        too_long=too_long,
    )


def _is_about_length(status: int, said: ServerError) -> bool:
    """Whether a shorter prompt would help; every server has words of its own for that."""
    if status in (401, 403, 404):
        return False
    words = f"{said.type} {said.code} {said.message}"
    if status == 413 or "request too large" in words.lower():
        return True
    return bool(_ABOUT_LENGTH.search(words)) and not _ABOUT_PACE.search(words)
