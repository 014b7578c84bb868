"""Every error this package raises on purpose.

InferenceError
├── SettingsError            a setting has a value that cannot be used
├── ModelError               the model cannot be served
│   ├── ModelNotFound        nothing there
│   ├── ModelCorrupt         there, but truncated, foreign or inconsistent
│   ├── EngineUnavailable    the engine for this kind of file is not installed
│   └── StateForeign         a learnt state that was learnt with another model
├── StateCorrupt             serialized engine state that this model cannot use
├── StateStoreFailed         the store that servers share states through does not work
└── RequestError             an answer other than 200, in OpenAI's error envelope
    ├── BadRequest           400, names the field
    ├── Unauthorized         401
    ├── NotFound             404
    ├── MethodNotAllowed     405
    ├── TooLong              413
    ├── Busy                 429, Retry-After
    ├── ModelUnavailable     503
    ├── DeadlinePassed       504
    └── InternalError        500, always with a request id
"""

from __future__ import annotations

from collections.abc import Mapping


class InferenceError(Exception):
    """The root. Its text is a sentence for a person: what happened and what to do."""


class SettingsError(InferenceError):
    """A setting cannot be used; the text names the variable."""


class ModelError(InferenceError):
    """The model cannot be served."""


class ModelNotFound(ModelError):
    """There is no model at the given path."""


class ModelCorrupt(ModelError):
    """The model's files are there, but cannot be what they claim to be."""


class EngineUnavailable(ModelError):
    """The engine that this model needs is not installed."""


class StateForeign(ModelError):
    """A learnt initial state that was learnt with another model."""


class StateCorrupt(InferenceError):
    """Bytes that are not a state of this model: for a cache, a miss."""


class StateStoreFailed(InferenceError):
    """A shared store refused or did not answer: for a cache, a miss."""


class RequestError(InferenceError):
    """A refusal with an HTTP status, rendered in OpenAI's error envelope.

    `param` names the offending field in the request (`messages[0].role`), `code` is a stable
    word for programs, and the message is for a person.
    """

    status = 500
    kind = "server_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers that belong to this refusal."""
        return {}


class BadRequest(RequestError):
    """The request is malformed or asks for something this server does not do."""

    status = 400
    kind = "invalid_request_error"


class Unauthorized(RequestError):
    """The bearer key is missing or wrong."""

    status = 401
    kind = "authentication_error"

    @property
    def headers(self) -> Mapping[str, str]:
        """RFC 9110 wants the scheme named with every 401."""
        return {"www-authenticate": "Bearer"}


class NotFound(RequestError):
    """No such path or model."""

    status = 404
    kind = "invalid_request_error"


class MethodNotAllowed(RequestError):
    """The path exists, but not for this method."""

    status = 405
    kind = "invalid_request_error"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message, code="method_not_allowed")
        self.allow = allow

    @property
    def headers(self) -> Mapping[str, str]:
        """RFC 9110 wants the allowed methods with every 405."""
        return {"allow": self.allow}


class TooLong(RequestError):
    """The body or the prompt is over its limit."""

    status = 413
    kind = "invalid_request_error"


class Busy(RequestError):
    """The queue is full; `retry_after` is in seconds."""

    status = 429
    kind = "rate_limit_error"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, code="busy")
        self.retry_after = retry_after

    @property
    def headers(self) -> Mapping[str, str]:
        """When to come back, in whole seconds."""
        return {"retry-after": str(self.retry_after)}


class ClientGone(RequestError):
    """The client went away before its answer; 499 is nginx's number for it."""

    status = 499
    kind = "invalid_request_error"


class ModelUnavailable(RequestError):
    """The model failed to load, so nothing can be answered."""

    status = 503


class DeadlinePassed(RequestError):
    """The time limit passed before the first word."""

    status = 504
    kind = "timeout_error"


class InternalError(RequestError):
    """A bug; the request id leads to the traceback in the log."""
