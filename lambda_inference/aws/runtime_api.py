"""The runtime's side of Lambda's Runtime API, with response streaming.

http.client alone, because a cold start pays for every import.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

MAX_BUFFERED_BYTES = 6 * 1024 * 1024
"""Largest answer that is not streamed."""

_VERSION = "/2018-06-01/runtime"
_PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
_PRELUDE_END = b"\0" * 8
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"


class RuntimeApiError(Exception):
    """Lambda's side did not accept what this runtime sent."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Invocation:
    """One event to answer; also the handler's context."""

    request_id: str
    event: bytes
    """JSON."""
    deadline: float
    """Unix time at which Lambda kills the call, seconds."""

    def get_remaining_time_in_millis(self) -> int:
        """Time until Lambda kills the call."""
        return max(0, int((self.deadline - time.time()) * 1000))


class RuntimeApi:
    """Lambda's side of one environment. Not for several threads at once."""

    def __init__(self, address: str) -> None:
        """`address` is AWS_LAMBDA_RUNTIME_API: host and port."""
        self._connection = http.client.HTTPConnection(address)

    def next(self) -> Invocation:
        """Wait for an event, however long; Lambda may freeze the process meanwhile."""
        try:
            return self._next()
        except (ConnectionError, http.client.BadStatusLine):
            self._connection.close()  # kept open from before, and gone; a new one follows
            return self._next()

    def respond(self, request_id: str, body: bytes) -> None:
        """Answer with one JSON document."""
        if len(body) > MAX_BUFFERED_BYTES:
            self.fail(
                request_id,
                "Function.ResponseSizeTooLarge",
                f"The answer has {len(body)} bytes; Lambda takes {MAX_BUFFERED_BYTES} unstreamed.",
            )
            return
        self._post(f"invocation/{request_id}/response", body, {"Content-Type": "application/json"})

    def stream(self, request_id: str, status: int, headers: Mapping[str, str]) -> StreamedResponse:
        """Begin an HTTP answer that is sent piece by piece."""
        prelude = json.dumps({"statusCode": status, "headers": dict(headers)}).encode()
        return StreamedResponse(self._connection, request_id, prelude + _PRELUDE_END)

    def fail(self, request_id: str, kind: str, message: str) -> None:
        """Say that there is no answer."""
        self._error(f"invocation/{request_id}/error", kind, message)

    def fail_init(self, kind: str, message: str) -> None:
        """Say that this environment cannot start."""
        self._error("init/error", kind, message)

    def wait_restored(self) -> None:
        """Allow the snapshot; returns in each environment that is made from it."""
        status, _, body = self._exchange("GET", "restore/next", None, {})
        if status != 200:
            raise RuntimeApiError(f"restore/next answered {status}: {_words(body)}", status)

    def fail_restore(self, kind: str, message: str) -> None:
        """Say that the environment made from the snapshot cannot start."""
        self._error("restore/error", kind, message)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _next(self) -> Invocation:
        status, headers, body = self._exchange("GET", "invocation/next", None, {})
        if status != 200:
            raise RuntimeApiError(f"invocation/next answered {status}: {_words(body)}", status)
        return Invocation(
            headers["Lambda-Runtime-Aws-Request-Id"],
            body,
            int(headers["Lambda-Runtime-Deadline-Ms"]) / 1000,
        )

    def _error(self, where: str, kind: str, message: str) -> None:
        self._post(where, _error_document(kind, message), {_ERROR_TYPE: kind})

    def _post(self, where: str, body: bytes, headers: Mapping[str, str]) -> None:
        status, _, answer = self._exchange("POST", where, body, headers)
        if status != 202:
            raise RuntimeApiError(f"{where} answered {status}: {_words(answer)}", status)

    def _exchange(
        self, method: str, where: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        try:
            self._connection.request(method, f"{_VERSION}/{where}", body, dict(headers))
            response = self._connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise


class StreamedResponse:
    """An answer under way. Ends by `close`, or by `fail` if it broke."""

    def __init__(
        self, connection: http.client.HTTPConnection, request_id: str, prelude: bytes
    ) -> None:
        self._connection = connection
        connection.putrequest("POST", f"{_VERSION}/invocation/{request_id}/response")
        connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.putheader("Content-Type", _PRELUDE_TYPE)
        connection.putheader("Trailer", f"{_ERROR_TYPE}, {_ERROR_BODY}")
        connection.endheaders()
        self.write(prelude)

    def write(self, data: bytes) -> None:
        """Send some more; the client has it at once."""
        if data:  # an empty chunk would end the body
            self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def close(self) -> None:
        """The answer is whole."""
        self._end(b"")

    def fail(self, kind: str, message: str) -> None:
        """The answer broke off: Lambda cuts the client's connection and counts an error."""
        body = base64.b64encode(_error_document(kind, message)).decode()
        self._end(f"{_ERROR_TYPE}: {kind}\r\n{_ERROR_BODY}: {body}\r\n".encode())

    def _end(self, trailers: bytes) -> None:
        self._send(b"0\r\n" + trailers + b"\r\n")
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 202:
            raise RuntimeApiError(
                f"the answer was not taken ({response.status}): {_words(body)}", response.status
            )

    def _send(self, data: bytes) -> None:
        try:
            self._connection.send(data)
        except OSError:
            self._connection.close()
            raise


def _error_document(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message, "stackTrace": []}).encode()


def _words(body: bytes) -> str:
    return body[:500].decode("utf-8", "replace")
