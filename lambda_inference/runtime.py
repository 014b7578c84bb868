"""Our own Lambda runtime: streams replies through a Function URL. `python -m
lambda_inference.runtime` is the container's command.

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
import queue
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Literal

from lambda_inference.runtime_api import Invocation, RuntimeApi, RuntimeApiError

if TYPE_CHECKING:
    from lambda_inference.handler import LambdaServer
    from lambda_inference.service import HttpResponse

_log = logging.getLogger(__name__)

_CUT_SECONDS = 0.4  # before Lambda's time limit, to end a reply that did not end by itself
_SNAPSHOT_SECONDS = 120.0  # of the 130 s that Lambda gives to initialise before a snapshot
_ENVELOPE = ("content-length", "connection", "transfer-encoding")  # Lambda writes these itself


class TimeIsUp(Exception):
    """The answer did not come by the time at which it has to be ended."""


def main() -> int:
    """Start the environment and answer events until Lambda ends it; gives the exit code."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        print(
            "lambda_inference.runtime runs inside AWS Lambda, which sets AWS_LAMBDA_RUNTIME_API. "
            "On your own machine use `friend serve`.",
            file=sys.stderr,
        )
        return 2
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _exit)
    api = RuntimeApi(address)
    server = _initialise(api)
    if server is None:
        return 1
    mode = os.environ.get("FRIEND_LAMBDA_INVOKE_MODE", "").strip().upper()
    return Runtime(api, server, streaming=mode != "BUFFERED").run()


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
            sys.exit(0)

    def _answer(self, invocation: Invocation) -> bool:
        """Answer one event; False if its thread hangs, so that this process cannot be used."""
        from lambda_inference.handler import is_ping

        event = _parsed(invocation.event)
        streamed = self._streaming and _by_url(event)
        if is_ping(event):
            self._pong(invocation, event, streamed=streamed)
            return True
        reply = _Reply(lambda: self._server.respond(event, invocation))
        until = time.monotonic() + invocation.get_remaining_time_in_millis() / 1000 - _CUT_SECONDS
        reply.start()
        if streamed:
            self._stream(invocation, reply, until)
        else:
            self._whole(invocation, reply, until)
        return reply.ended(until + _CUT_SECONDS / 2)

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

    def _stream(self, invocation: Invocation, reply: _Reply, until: float) -> None:
        try:
            response = reply.response(until)
        except TimeIsUp:
            response = _too_late()
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
        except _Broken as error:
            out.fail("Runtime.StreamError", str(error))
            return
        out.close()

    def _whole(self, invocation: Invocation, reply: _Reply, until: float) -> None:
        try:
            response = reply.response(until)
            body = response.body
            if not isinstance(body, bytes):
                body = b"".join(reply.chunks(until))
        except TimeIsUp:
            response = _too_late()
            assert isinstance(response.body, bytes)
            body = response.body
        except _Broken as error:
            self._api.fail(invocation.request_id, "Runtime.StreamError", str(error))
            return
        answer = {
            "statusCode": response.status,
            "headers": dict(response.headers),
            "body": body.decode(),
            "isBase64Encoded": False,
        }
        self._api.respond(invocation.request_id, json.dumps(answer).encode())


class _Broken(Exception):
    """The answer's stream raised; the text is for a person."""


class _Reply(threading.Thread):
    """Makes one answer in a thread of its own, so that the loop can end it by the clock."""

    def __init__(self, make: Callable[[], HttpResponse]) -> None:
        super().__init__(name="reply", daemon=True)
        self._make = make
        self._parts: queue.SimpleQueue[HttpResponse | bytes | _Broken | None] = queue.SimpleQueue()

    def run(self) -> None:
        try:
            response = self._make()
            self._parts.put(response)
            if not isinstance(response.body, bytes):
                for chunk in response.body:
                    self._parts.put(chunk)
            self._parts.put(None)
        except BaseException as error:
            _log.exception("an answer broke off")
            self._parts.put(_Broken(f"The answer broke off: {type(error).__name__}."))

    def response(self, until: float) -> HttpResponse:
        """Status and headers. Raises TimeIsUp at `until` (monotonic seconds)."""
        part = self._part(until)
        if isinstance(part, _Broken):
            return _internal_error()
        assert part is not None
        assert not isinstance(part, bytes)
        return part

    def chunks(self, until: float) -> Iterator[bytes]:
        """The body's pieces as they are made. Raises TimeIsUp, _Broken."""
        while (part := self._part(until)) is not None:
            if isinstance(part, _Broken):
                raise part
            assert isinstance(part, bytes)
            yield part

    def ended(self, until: float) -> bool:
        """Wait for the thread to end, up to `until`."""
        self.join(max(0.0, until - time.monotonic()))
        return not self.is_alive()

    def _part(self, until: float) -> HttpResponse | bytes | _Broken | None:
        try:
            return self._parts.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise TimeIsUp from None


_JSON = {"content-type": "application/json"}


def ending(last: bytes, request_id: str) -> bytes:
    """The events that end a stream whose time is up; `last` is its latest one.

    What was said counts as a reply that reached its limit. Nothing said is an error, as it would
    have been before the stream began.
    """
    from lambda_inference import wire
    from lambda_inference.errors import DeadlinePassed

    event = _parsed(last.removeprefix(b"data: "))
    choices = event.get("choices")
    choice = choices[0] if choices else {}
    if not choice.get("delta", {}).get("content"):
        return wire.error_event(DeadlinePassed(_LATE, code="deadline_passed"), request_id)
    event["choices"] = [choice | {"delta": {}, "finish_reason": "length"}]
    return b"data: " + json.dumps(event).encode() + b"\n\n" + wire.DONE


def reseed() -> None:
    """Begin new series of random numbers, as every copy of a snapshot holds the same ones.

    Replies draw from generators of their own, seeded by the system at each request; this is for
    whatever uses the ones that modules share.
    """
    import numpy as np

    random.seed()
    np.random.seed(None)  # noqa: NPY002


_LATE = "The time limit passed before the first word. Try again, or allow more time."


def _too_late() -> HttpResponse:
    from lambda_inference.errors import DeadlinePassed
    from lambda_inference.service import new_request_id, refusal

    return refusal(DeadlinePassed(_LATE, code="deadline_passed"), new_request_id())


def _internal_error() -> HttpResponse:
    from lambda_inference.errors import InternalError
    from lambda_inference.service import new_request_id, refusal

    request_id = new_request_id()
    return refusal(
        InternalError(
            f"Something went wrong in the server. Its log has more near {request_id}.",
            code="internal_error",
        ),
        request_id,
    )


def _initialise(api: RuntimeApi) -> LambdaServer | None:
    """The init phase; None if this environment cannot start, which Lambda then knows."""
    stage: Literal["init", "restore"] = "init"
    try:
        from lambda_inference import handler  # importing it loads the model

        server = handler.function()
        if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            server.initialise(_SNAPSHOT_SECONDS)
            if server.failure is None:
                api.wait_restored()
                stage = "restore"
                reseed()
        kind, message = "Runtime.ModelUnavailable", server.failure
    except Exception as error:
        _log.exception("the environment cannot start")
        kind, message = f"Runtime.{type(error).__name__}", str(error) or "It cannot start."
    if message is None:
        return server
    _log.error("the environment cannot start: %s", message)
    (api.fail_init if stage == "init" else api.fail_restore)(kind, message)
    return None


def _parsed(event: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one in place of anything else."""
    try:
        parsed = json.loads(event)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _by_url(event: Mapping[str, Any]) -> bool:
    """Whether it came through a Function URL, whose names are <id>.lambda-url.<region>.on.aws."""
    about = event.get("requestContext")
    return isinstance(about, dict) and ".lambda-url." in str(about.get("domainName"))


def _exit(*_: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # A hanging reply's thread may be inside the engine, where an orderly end could crash.
    os._exit(code)
