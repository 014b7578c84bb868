"""Everything that can go wrong between us and a model, as one tree.

    InferenceError
    ├── Unreachable     no connection, or it broke
    ├── TimedOut        connected, but too slow in one phase
    ├── Busy            429: asked to come back later
    ├── Refused         bad key, bad request, too long: the same request never works (4xx, or a
    │                   5xx whose words are about the request)
    ├── ServerFailed    5xx: the server's own fault
    ├── BadAnswer       it answered, but not in the chat-completions format
    └── BreakerOpen     not asked at all: the model has been down, and it is too early to try

`str(error)` is a sentence for a log or a terminal: what happened, and what to do where the
person running the client can do something. It never holds a key.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "BadAnswer",
    "BreakerOpen",
    "Busy",
    "InferenceError",
    "Phase",
    "Refused",
    "ServerFailed",
    "TimedOut",
    "Unreachable",
]

Phase = Literal["connect", "first_token", "between_tokens", "answer", "total"]
"""Where the time went: opening the connection; waiting for the first word; between two pieces
of a stream; waiting for a whole answer that is not streamed; all attempts and pauses together."""


class InferenceError(Exception):
    """The base of the tree.

    request_id: the id that the server's log has too, where a request was made.
    retryable: the same request may succeed later. The client has used up its own attempts by
        the time this is raised, except after the first word of a stream, where it makes none.
    text_so_far: what a stream had said before it broke; empty if it had not begun.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str | None = None,
        retryable: bool = False,
        text_so_far: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.retryable = retryable
        self.text_so_far = text_so_far


class Unreachable(InferenceError):
    """No connection could be made, or an open one broke before the answer was whole."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id, retryable=True)


class TimedOut(InferenceError):
    """One phase took longer than its limit (the `*_timeout` settings)."""

    def __init__(self, message: str, *, phase: Phase, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id, retryable=True)
        self.phase: Phase = phase


class Busy(InferenceError):
    """The server is up but takes no more work now. `retry_after`: seconds, where it said so."""

    def __init__(
        self, message: str, *, retry_after: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, request_id=request_id, retryable=True)
        self.retry_after = retry_after


class Refused(InferenceError):
    """The server will not do this: a wrong key, an unknown model, a bad or too long request.

    status: the HTTP status, or None where the request could not even be signed.
    field: the request's field at fault, where the server named one.
    code: the server's own short name of the error, where it gave one.
    too_long: a shorter prompt would help.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None,
        field: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        too_long: bool = False,
    ) -> None:
        super().__init__(message, request_id=request_id, retryable=False)
        self.status = status
        self.field = field
        self.code = code
        self.too_long = too_long


class ServerFailed(InferenceError):
    """5xx, or an error object inside a stream. `retry_after`: seconds, where it said so."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, retryable=True)
        self.status = status
        self.retry_after = retry_after


class BadAnswer(InferenceError):
    """A success by status that cannot be read: not JSON, no choices, too large, garbled."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id, retryable=True)


class BreakerOpen(InferenceError):
    """Too many failures in a row: nothing is sent for `retry_after` more seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, retryable=True)
        self.retry_after = retry_after
