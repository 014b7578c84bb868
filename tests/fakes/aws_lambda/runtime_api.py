"""The Runtime API as one environment sees it.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
On h11, as trailers must be read: errors after the start of a stream come there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol

import h11

from tests.fakes.aws_lambda.invocation import FunctionError, Head, Invocation

if TYPE_CHECKING:
    from tests.fakes.aws_lambda.limits import Limits

_PREFIX = "/2018-06-01/runtime/"
_ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"


class Side(Protocol):
    """What the environment does for its runtime."""

    current: Invocation | None

    async def next(self) -> Invocation:
        """Wait for an event."""

    async def restored(self) -> None:
        """Wait for the restore of the snapshot that is taken now."""

    def failed(self, error: FunctionError) -> None:
        """Init or restore failed."""


class RuntimeApi:
    """A server on a loopback port of its own."""

    def __init__(self, side: Side, limits: Limits) -> None:
        self._side = side
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self) -> str:
        """Open the port; gives what AWS_LAMBDA_RUNTIME_API says."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Hang up."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = _Exchange(reader, writer)
        try:
            while (request := await exchange.request()) is not None:
                await self._route(request, exchange)
                if not exchange.again():
                    break
        except (h11.RemoteProtocolError, ConnectionError):
            if self._side.current is not None:
                lost = FunctionError("Runtime.TruncatedResponse", "the runtime hung up")
                self._side.current.fail(lost)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _route(self, request: h11.Request, exchange: _Exchange) -> None:
        method, path = request.method.decode(), request.target.decode()
        what = path.removeprefix(_PREFIX).split("/") if path.startswith(_PREFIX) else []
        headers = {name.decode(): value.decode() for name, value in request.headers}
        match method, what:
            case "GET", ["invocation", "next"]:
                await exchange.read()
                await self._next(exchange)
            case "GET", ["restore", "next"]:
                await exchange.read()
                await self._side.restored()
                await exchange.answer(200, b"")
            case "POST", ["init" | "restore", "error"]:
                self._side.failed(_error(headers, await exchange.read()))
                await exchange.answer(202, _OK)
            case "POST", ["invocation", request_id, "response" | "error" as kind]:
                invocation = self._side.current
                if invocation is None or invocation.id != request_id or invocation.answered:
                    await exchange.read()
                    await exchange.answer(400, _document("InvalidRequestID", "Invalid request ID"))
                elif kind == "error":
                    invocation.fail(_error(headers, await exchange.read()))
                    await exchange.answer(202, _OK)
                else:
                    await self._response(invocation, headers, exchange)
            case _:
                await exchange.read()
                await exchange.answer(404, _document("NotFound", f"nothing at {method} {path}"))

    async def _next(self, exchange: _Exchange) -> None:
        invocation = await self._side.next()
        await exchange.answer(
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.id,
                "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": (
                    "arn:aws:lambda:eu-west-1:123456789012:function:friend"
                ),
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
            },
        )

    async def _response(
        self, invocation: Invocation, headers: dict[str, str], exchange: _Exchange
    ) -> None:
        head = Head(
            streamed=headers.get("lambda-runtime-function-response-mode") == "streaming",
            content_type=headers.get("content-type", "application/octet-stream"),
        )
        limits = self._limits
        limit = limits.streamed_bytes if head.streamed else limits.response_bytes
        whole, size = bytearray(), 0
        if head.streamed:
            invocation.begin(head)
        async for data in exchange.body():
            size += len(data)
            if size > limit:
                words = f"Exceeded maximum allowed payload size ({limit} bytes)."
                invocation.fail(FunctionError("Function.ResponseSizeTooLarge", words))
                await exchange.read()
                await exchange.answer(413, _document("RequestEntityTooLarge", words))
                return
            if not head.streamed:
                whole += data
                continue
            invocation.write(data)
            if size > limits.burst_bytes:
                await asyncio.sleep(len(data) / limits.bytes_per_s)
        if kind := exchange.trailers.get(_ERROR_TYPE):
            coded = exchange.trailers.get(_ERROR_BODY, "")
            invocation.fail(_error({_ERROR_TYPE: kind}, base64.b64decode(coded)))
        elif not head.streamed:
            invocation.begin(head)
            invocation.write(bytes(whole))
        invocation.finish()
        await exchange.answer(202, _OK)


class _Exchange:
    """Requests and answers on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(h11.SERVER)
        self.trailers: dict[str, str] = {}

    async def request(self) -> h11.Request | None:
        """The next request's head; None when the connection is closed."""
        event = await self._event()
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it comes; `trailers` is set after it."""
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            yield bytes(event.data)
        self.trailers = {name.decode(): value.decode() for name, value in event.headers}

    async def read(self) -> bytes:
        """What is left of the body."""
        if self._state.their_state is not h11.SEND_BODY:
            return b""
        return b"".join([data async for data in self.body()])

    async def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        every = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        every |= headers or {}
        head = h11.Response(status_code=status, headers=list(every.items()))
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self._state.send(event) or b"")
        await self._writer.drain()

    def again(self) -> bool:
        """Whether another request can follow."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    async def _event(self) -> Any:
        while (event := self._state.next_event()) is h11.NEED_DATA:
            self._state.receive_data(await self._reader.read(1 << 16))
        return event


def _document(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


_OK = b'{"status":"OK"}\n'


def _error(headers: dict[str, str], body: bytes) -> FunctionError:
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    kind = headers.get(_ERROR_TYPE) or document.get("errorType", "Runtime.Unknown")
    return FunctionError(kind, document.get("errorMessage", ""))
