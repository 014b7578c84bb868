"""Our own Lambda runtime, which streams replies through a Function URL.

The container's command is `python -m lambda_inference.aws.runtime`.

awslambdaric cannot stream, so this is a loop on the Runtime API in its place: the model loads while
Lambda initialises the environment, each event is answered by `LambdaServer`, and a reply whose time
is nearly up is ended here, before Lambda would kill the process and with it the cache of states.

A Function URL whose InvokeMode is RESPONSE_STREAM gets every answer as a stream; API Gateway and
direct calls get one JSON document. A function cannot see a URL's InvokeMode, so
FRIEND_LAMBDA_INVOKE_MODE=BUFFERED says that it is the other one.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from lambda_inference.aws.runtime_api import Invocation, RuntimeApi, RuntimeApiError
from lambda_inference.aws.runtime_reply import BrokenOff, Reply, TimeIsUp, ending, parsed, too_late

if TYPE_CHECKING:
    from lambda_inference.aws.handler import LambdaServer

_log = logging.getLogger(__name__)

_CUT_SECONDS = 0.5  # before Lambda's time limit, to end a reply that did not end by itself
_END_SECONDS = 0.2  # of those, for the thread of such a reply
_SNAPSHOT_SECONDS = 120.0  # of the 130 s that Lambda gives to initialise before a snapshot
_ENVELOPE = ("content-length", "connection", "transfer-encoding")  # Lambda writes these itself


class _Stopped(BaseException):
    """SIGTERM came while nothing was being answered."""


def main() -> int:
    """Start the environment and answer events until Lambda ends it; gives the exit code."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        print(
            "lambda_inference.aws.runtime runs inside AWS Lambda, which sets "
            "AWS_LAMBDA_RUNTIME_API. On your own machine use `friend serve`.",
            file=sys.stderr,
        )
        return 2
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _stop)
    api = RuntimeApi(address)
    try:
        server = _initialise(api)
        if server is None:
            return 1
        mode = os.environ.get("FRIEND_LAMBDA_INVOKE_MODE", "").strip().upper()
        return Runtime(api, server, streaming=mode != "BUFFERED").run()
    except _Stopped:
        return 0
    except (OSError, HTTPException, RuntimeApiError) as error:
        _log.error("Lambda's Runtime API at %s cannot be talked to: %s", address, error)
        return 1
    finally:
        api.close()


class Runtime:
    """Takes events one by one and answers them."""

    def __init__(self, api: RuntimeApi, server: LambdaServer, *, streaming: bool = True) -> None:
        self._api = api
        self._server = server
        self._streaming = streaming
        self._answering = False
        self._stopping = False

    def run(self) -> int:
        """Answer until SIGTERM, or until this environment is better replaced; the exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        while not self._stopping:
            invocation = self._api.next()
            self._answering = True
            try:
                sound = self._answer(invocation)
            except (OSError, HTTPException, RuntimeApiError) as error:
                _log.error("%s: the answer was lost: %s", invocation.request_id, error)
                self._api.close()  # it may be in the middle of something; the next call reopens it
                sound = True
            if not sound:
                _log.error("this environment ends, so that Lambda starts another")
                return 1
            if self._server.failure is not None:
                _log.error("this environment ends, as it has no model: %s", self._server.failure)
                return 1
            self._answering = False
        return 0

    def _stop(self, *_: object) -> None:
        """SIGTERM: a reply under way goes on to its end."""
        self._stopping = True
        if not self._answering:
            raise _Stopped

    def _answer(self, invocation: Invocation) -> bool:
        """Answer one event; False if its thread hangs, so that this process cannot be used."""
        from lambda_inference.aws.events import is_by_url, is_ping

        event = parsed(invocation.event)
        streamed = self._streaming and is_by_url(event)
        if is_ping(event):
            self._pong(invocation, event, streamed=streamed)
            return True
        reply = Reply(lambda: self._server.respond(event, invocation))
        until = time.monotonic() + invocation.get_remaining_time_in_millis() / 1000 - _CUT_SECONDS
        reply.start()
        try:
            if streamed:
                self._stream(invocation, reply, until)
            else:
                self._whole(invocation, reply, until)
        finally:
            reply.leave()
        return reply.ended(until + _END_SECONDS)

    def _pong(self, invocation: Invocation, event: Mapping[str, Any], *, streamed: bool) -> None:
        """A ping is answered as it came: by a direct call, or through a URL."""
        pong = self._server.pong()
        if not streamed:
            document = {"statusCode": 200} | pong
            if "rawPath" in event:
                document = {"statusCode": 200, "headers": _JSON, "body": json.dumps(pong)}
            self._api.respond(invocation.request_id, json.dumps(document).encode())
            return
        out = self._api.stream(invocation.request_id, 200, _JSON)
        out.write(json.dumps(pong).encode())
        out.close()

    def _stream(self, invocation: Invocation, reply: Reply, until: float) -> None:
        try:
            response = reply.response(until)
        except TimeIsUp:
            response = too_late()
        headers = {k: v for k, v in response.headers.items() if k.lower() not in _ENVELOPE}
        out = self._api.stream(invocation.request_id, response.status, headers)
        if isinstance(response.body, bytes):
            out.write(response.body)
            out.close()
            return
        last = b""
        try:
            for last in reply.chunks(until):
                out.write(last)
        except TimeIsUp:
            _log.warning("%s: the reply was cut at its time limit", invocation.request_id)
            out.write(ending(last, response.headers.get("x-request-id", "")))
        except BrokenOff as error:
            out.fail("Runtime.StreamError", str(error))
            return
        out.close()

    def _whole(self, invocation: Invocation, reply: Reply, until: float) -> None:
        try:
            response = reply.response(until)
            body = response.body
            if not isinstance(body, bytes):
                body = b"".join(reply.chunks(until))
        except TimeIsUp:
            response = too_late()
            assert isinstance(response.body, bytes)
            body = response.body
        except BrokenOff as error:
            self._api.fail(invocation.request_id, "Runtime.StreamError", str(error))
            return
        answer = {
            "statusCode": response.status,
            "headers": dict(response.headers),
            "body": body.decode(),
            "isBase64Encoded": False,
        }
        self._api.respond(invocation.request_id, json.dumps(answer).encode())


_JSON = {"content-type": "application/json"}


def reseed() -> None:
    """Begin new series of random numbers, as every copy of a snapshot holds the same ones.

    Replies draw from generators of their own, seeded by the system at each request; this is for
    whatever uses the ones that modules share.
    """
    import numpy as np

    random.seed()
    np.random.seed(None)


def _initialise(api: RuntimeApi) -> LambdaServer | None:
    """The init phase; None if this environment cannot start, which Lambda then knows."""
    stage: Literal["init", "restore"] = "init"
    try:
        from lambda_inference.aws import handler  # importing it loads the model

        server = handler.function()
        if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            server.initialise(_SNAPSHOT_SECONDS)
            if server.failure is None:
                api.wait_restored()
                stage = "restore"
                reseed()
        kind, message = "Runtime.ModelUnavailable", server.failure
    except Exception as error:  # noqa: BLE001
        _log.exception("the environment cannot start")
        kind, message = f"Runtime.{type(error).__name__}", str(error) or "It cannot start."
    if message is None:
        return server
    _log.error("the environment cannot start: %s", message)
    (api.fail_init if stage == "init" else api.fail_restore)(kind, message)
    return None


def _stop(*_: object) -> None:
    raise _Stopped


def start() -> NoReturn:
    """Run, and leave without ceremony: a hanging reply's thread may be inside the engine."""
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    start()
