"""AWS Lambda's entry point: `handler(event, context)`, buffered answers.

Takes Function URL and API Gateway HTTP API events (payload format 2.0) and `{"warm": true}`. Runs
under awslambdaric, whose runtime has no streaming: `stream: true` is answered with all events at
once. The model loads while Lambda initialises the environment.
"""

from __future__ import annotations

import base64
import binascii
import functools
import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

from lambda_inference.errors import BadRequest, Unauthorized
from lambda_inference.serving.host import host_for
from lambda_inference.serving.service import (
    HttpRequest,
    HttpResponse,
    Service,
    asks_for_warmth,
    refusal,
    request_id_of,
)
from lambda_inference.settings import ModelSettings, ServerSettings

_INIT_SECONDS = (
    8.5  # of the 10 s that Lambda gives to initialise; the rest loads on in the first call
)
_MARGIN_SECONDS = 1.0  # before Lambda's time limit, to end the reply and send it


class Context(Protocol):
    """What is used of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Time until Lambda kills the call."""


class LambdaServer:
    """The service in one Lambda environment."""

    def __init__(self, server: ServerSettings, model: ModelSettings) -> None:
        self._key = server.key
        self._host = host_for(server, model)
        self._service = Service(server, self._host)

    def initialise(self, seconds: float = _INIT_SECONDS) -> None:
        """Load the model for at most this long; it goes on loading in the background."""
        self._host.start()
        self._host.settled(seconds)

    def handle(self, event: Any, context: Context | None) -> dict[str, Any]:
        """Answer one event."""
        if is_ping(event):
            return {"statusCode": 200} | self.pong()
        return _result(self.respond(event if isinstance(event, dict) else {}, context))

    def pong(self) -> dict[str, Any]:
        """The answer to a warm ping, which waits for nothing."""
        return self._service.pong()

    @property
    def failure(self) -> str | None:
        """Why this environment will never have a model; None while it has or may have one."""
        return self._host.error

    def respond(self, event: Mapping[str, Any], context: Context | None) -> HttpResponse:
        """Answer a request's event; a streaming runtime carries the event stream from here."""
        try:
            request = self._request(event, context)
        except (BadRequest, Unauthorized) as error:
            return refusal(error, request_id_of(_headers(event)))
        return self._service.handle(request)

    def _request(self, event: Mapping[str, Any], context: Context | None) -> HttpRequest:
        about = event.get("requestContext")
        http = about.get("http") if isinstance(about, dict) else None
        if not isinstance(about, dict) or not isinstance(http, dict):
            raise BadRequest(
                'The event is neither a Function URL or API Gateway v2 request nor {"warm": true}.',
                code="unknown_event",
            )
        # Lambda itself fills in who signed the request; a client cannot.
        authorizer = about.get("authorizer")
        signed = isinstance(authorizer, dict) and bool(authorizer.get("iam"))
        if not signed and not self._key:
            raise Unauthorized(
                "This function has neither IAM authorisation nor a key. Set the Function URL's "
                "auth type to AWS_IAM, or FRIEND_SERVER_KEY in the function's environment.",
                code="no_authorisation",
            )
        return HttpRequest(
            method=str(http.get("method", "GET")),
            path=_path(event, about),
            headers=_headers(event),
            body=_body(event),
            trusted=signed,
            deadline=_deadline(context),
        )


def is_ping(event: Any) -> bool:
    """Whether it is `{"warm": true}`, by itself or posted to the Function URL's root."""
    if not isinstance(event, dict):
        return False
    if event.get("rawPath") != "/" or event.get("warm") is not None:
        return event.get("warm") is True
    try:
        return asks_for_warmth(_body(event))
    except BadRequest:
        return False


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    headers = event.get("headers")
    if not isinstance(headers, dict):
        return {}
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _path(event: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The path, without API Gateway's stage before it."""
    path, stage = str(event.get("rawPath") or "/"), about.get("stage")
    if isinstance(stage, str) and stage != "$default" and path.startswith(f"/{stage}/"):
        return path[len(stage) + 1 :]
    return path


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not isinstance(body, str):
        raise BadRequest("The event's body is not text.", code="unknown_event")
    if not event.get("isBase64Encoded"):
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("The event's body is not base64.", code="unknown_event") from error


def _deadline(context: Context | None) -> float | None:
    if context is None:
        return None
    left = context.get_remaining_time_in_millis() / 1000
    return time.monotonic() + max(0.0, left - _MARGIN_SECONDS)


def _result(response: HttpResponse) -> dict[str, Any]:
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": body.decode(),
        "isBase64Encoded": False,
    }


@functools.cache
def _server() -> LambdaServer:
    logging.getLogger("lambda_inference").setLevel(logging.INFO)
    return LambdaServer(ServerSettings.from_environment(), ModelSettings.from_environment())


def function() -> LambdaServer:
    """The server of this environment, made once."""
    return _server()


def handler(event: Any, context: Context | None) -> dict[str, Any]:
    """Lambda's handler."""
    return _server().handle(event, context)


if "AWS_LAMBDA_RUNTIME_API" in os.environ:  # inside Lambda, importing this module is its init phase
    _server().initialise()
