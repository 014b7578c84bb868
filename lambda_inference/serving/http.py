"""The service behind starlette: reads requests, runs them in threads, carries events back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from lambda_inference.errors import ModelUnavailable
from lambda_inference.serving.host import ModelHost
from lambda_inference.serving.service import (
    HttpRequest,
    Service,
    body_too_long,
    refusal,
    request_id_of,
)
from lambda_inference.settings import ServerSettings

_SPARE_THREADS = 8  # for health checks and refusals while the queue is full
_DISCARDED_BYTES = 16 << 20  # read and dropped of a body that was refused
_DISCARD_SECONDS = 5.0  # spent on that


def create_app(settings: ServerSettings, host: ModelHost) -> Starlette:
    """The server as an ASGI application; the model begins to load when it starts."""
    endpoint = _Endpoint(settings, Service(settings, host))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        host.start()
        yield
        endpoint.close()

    return Starlette(routes=[Mount("/", endpoint)], lifespan=lifespan)


class _Endpoint:
    """One ASGI endpoint for every path: the service routes, so that Lambda routes alike."""

    def __init__(self, settings: ServerSettings, service: Service) -> None:
        self._service = service
        workers = settings.parallel + settings.queue + _SPARE_THREADS
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="request")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            body = await self._body(request)
        except ClientDisconnect:
            return
        if body is None:
            answer = refusal(
                body_too_long(self._service.max_body_bytes), request_id_of(request.headers)
            )
            with contextlib.suppress(OSError):
                await _start(send, answer.status, {**answer.headers, "connection": "close"})
                await send({"type": "http.response.body", "body": answer.body, "more_body": True})
                await _discard(receive)
                await send({"type": "http.response.body", "body": b""})
            return
        gone = threading.Event()
        watch = asyncio.create_task(_watch(receive, gone))
        try:
            await self._answer(request, body, gone, send)
        except OSError:  # the connection broke while sending
            return
        finally:
            gone.set()
            watch.cancel()

    async def _body(self, request: Request) -> bytes | None:
        """The body; None if it is over the limit, without reading the rest."""
        limit = self._service.max_body_bytes
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            return None
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                return None
        return bytes(body)

    async def _answer(
        self, request: Request, body: bytes, gone: threading.Event, send: Send
    ) -> None:
        loop = asyncio.get_running_loop()
        asked = HttpRequest(
            method=request.method,
            path=request.url.path,
            headers=dict(request.headers),
            body=body,
            cancelled=gone.is_set,
        )
        try:
            answer = await loop.run_in_executor(self._threads, self._service.handle, asked)
        except RuntimeError:  # the threads are shut down: the drain is over
            stopping = ModelUnavailable("The server is stopping.", code="stopping")
            answer = refusal(stopping, request_id_of(request.headers))
        await _start(send, answer.status, answer.headers)
        if isinstance(answer.body, bytes):
            sent = b"" if request.method == "HEAD" else answer.body
            await send({"type": "http.response.body", "body": sent})
            return
        chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        done = loop.run_in_executor(self._threads, _drain, answer.body, loop, chunks, gone)
        try:
            while (chunk := await chunks.get()) is not None and not gone.is_set():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.set()
            await asyncio.shield(done)


def _drain(
    stream: Iterator[bytes],
    loop: asyncio.AbstractEventLoop,
    chunks: asyncio.Queue[bytes | None],
    gone: threading.Event,
) -> None:
    """Run a reply to its end in one thread; None marks the end."""
    try:
        for chunk in stream:
            if gone.is_set():
                break
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)
    finally:
        if close := getattr(stream, "close", None):
            close()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(chunks.put_nowait, None)


async def _discard(receive: Receive) -> None:
    """Read on for a while, for nothing.

    Most clients send their whole body before they read; closing on them in the middle of it would
    reset the connection, and the answer would be lost.
    """
    left = _DISCARDED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


async def _watch(receive: Receive, gone: threading.Event) -> None:
    """Note when the client goes away, so that nobody thinks on for nobody."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
