"""AWS Lambda's entry point: `handler(event, context)`, buffered answers.

Runs under awslambdaric, whose runtime has no streaming: `stream: true` is answered with all events
at once. The model loads while Lambda initialises the environment. Which events there are, `events`
knows.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

from lambda_inference.aws.events import headers_of, is_ping, request_of, result_of
from lambda_inference.errors import BadRequest, Unauthorized
from lambda_inference.serving.host import host_for
from lambda_inference.serving.service import (
    HttpResponse,
    Service,
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
        return result_of(self.respond(event if isinstance(event, dict) else {}, context))

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
            request = request_of(event, has_key=bool(self._key), deadline=_deadline(context))
        except (BadRequest, Unauthorized) as error:
            return refusal(error, request_id_of(headers_of(event)))
        return self._service.handle(request)


def _deadline(context: Context | None) -> float | None:
    if context is None:
        return None
    left = context.get_remaining_time_in_millis() / 1000
    return time.monotonic() + max(0.0, left - _MARGIN_SECONDS)


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
