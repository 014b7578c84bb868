"""The function's two doors on loopback ports: its URL, and Lambda's Invoke API."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from tests.fakes.aws_lambda.environment import Container, Environment, FunctionSettings
from tests.fakes.aws_lambda.function import Function, Report, Throttled
from tests.fakes.aws_lambda.function_url import (
    PRELUDE_TYPE,
    BadAnswer,
    HttpAnswer,
    read_answer,
    read_prelude,
    url_event,
)
from tests.fakes.aws_lambda.invocation import FunctionError, Invocation
from tests.fakes.aws_lambda.limits import Limits
from tests.fakes.aws_signature import AwsKeys, signature_problem

_INVOKE_PATH = "/2015-03-31/functions/{name}/invocations"


class LambdaEmulator:
    """A Lambda function whose environments are processes of this machine.

        command = [sys.executable, "-m", "lambda_inference.aws.runtime"]
        async with LambdaEmulator(command) as function:
            ...  # an HTTP client at function.url
            assert function.reports[-1].error is None

    command: starts a runtime, which finds its API by AWS_LAMBDA_RUNTIME_API.
    environment: variables, over those of this process.
    keys: who may call the URL (AuthType AWS_IAM); None lets everybody (AuthType NONE).
    invoke_mode: the URL's.
    concurrency: events at the same time; one more is told 429. New accounts have 10.
    idle_s: after it an unused environment is ended.
    freeze: False leaves processes running between events.
    cpus: see FunctionSettings. container: for commands that start one.
    clock: in seconds, what `idle_s` is counted by; with one of its own a test calls `expire`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        memory_mb: int = 1769,
        timeout_s: float = 30.0,
        concurrency: int = 10,
        idle_s: float = 300.0,
        freeze: bool = True,
        snapstart: bool = False,
        cpus: int | None = None,
        container: Container | None = None,
        keys: AwsKeys | None = None,
        invoke_mode: Literal["RESPONSE_STREAM", "BUFFERED"] = "RESPONSE_STREAM",
        port: int = 0,
        invoke_port: int = 0,
        limits: Limits | None = None,
        echo: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or Limits()
        settings = FunctionSettings(
            command=command,
            environment=environment or {},
            cwd=cwd,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            concurrency=concurrency,
            idle_s=idle_s,
            freeze=freeze,
            snapstart=snapstart,
            cpus=cpus,
            container=container,
        )
        self._function = Function(settings, self._limits, self._say, clock)
        self._keys = keys
        self._invoke_mode = invoke_mode
        self._ports = {"url": port, "invoke": invoke_port}
        self._runners: list[web.AppRunner] = []
        self._echo = echo
        self.log: list[str] = []
        """What the environments wrote, and Lambda's own lines."""

    @property
    def url(self) -> str:
        """The Function URL."""
        return f"http://127.0.0.1:{self._ports['url']}"

    @property
    def invoke_url(self) -> str:
        """Lambda's Invoke API, where the Runtime Interface Emulator has it: POST the event."""
        path = _INVOKE_PATH.format(name="function")
        return f"http://127.0.0.1:{self._ports['invoke']}{path}"

    @property
    def reports(self) -> Sequence[Report]:
        """One for each invocation that has ended."""
        return self._function.reports

    @property
    def started(self) -> int:
        """Environments ever started, init phases that ran again included."""
        return self._function.started

    @property
    def environments(self) -> list[Environment]:
        """Those that are there now."""
        return [*self._function.busy, *self._function.idle]

    async def settle(self) -> None:
        """Wait until every event is handled and its environment is frozen."""
        await self._function.settle()

    async def expire(self) -> None:
        """End what has been idle for too long by now; it happens by itself too."""
        await self._function.expire()

    async def invoke(self, payload: Any) -> Any:
        """Call the function directly, as the Scheduler does. Raises FunctionError, Throttled."""
        return json.loads(await _whole(self._function.begin(json.dumps(payload).encode())))

    async def __aenter__(self) -> Self:
        try:
            await self._listen("url", "/{path:.*}", self._on_url)
            await self._listen("invoke", _INVOKE_PATH, self._on_invoke)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _listen(self, door: str, path: str, handler: Any) -> None:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", path, handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._ports[door]).start()
        self._ports[door] = runner.addresses[0][1]

    async def _close(self) -> None:
        await self._function.close()
        for runner in self._runners:
            await runner.cleanup()

    def _say(self, line: str) -> None:
        self.log.append(line)
        if self._echo:
            print(line, flush=True)

    async def _on_invoke(self, request: web.Request) -> web.StreamResponse:
        event = await _limited(request, self._limits.request_bytes)
        if event is None:
            return _refused(413, "Request must be smaller than the limit of the payload")
        try:
            answer = await _whole(self._function.begin(event))
        except Throttled:
            return _refused(429, "Rate Exceeded.")
        except FunctionError as error:
            document = {"errorType": error.kind, "errorMessage": error.message}
            return web.json_response(document, headers={"X-Amz-Function-Error": "Unhandled"})
        return web.Response(body=answer, content_type="application/json")

    async def _on_url(self, request: web.Request) -> web.StreamResponse:
        limit = self._limits.request_bytes
        body = await _limited(request, limit)
        if body is None:
            return _refused(413, f"Request must be smaller than {limit} bytes")
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            name = name.lower()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
        if self._keys is not None:
            problem = signature_problem(
                self._keys,
                method=request.method,
                path=path,
                query=query,
                headers=headers,
                body=body,
            )
            if problem is not None:
                why = {"x-amzn-ErrorType": "AccessDeniedException", "X-Why": problem}
                return web.json_response({"Message": "Forbidden"}, status=403, headers=why)
        event = url_event(
            method=request.method,
            path=path,
            query=query,
            headers=headers,
            body=body,
            source=request.remote or "",
            request_id=str(uuid.uuid4()),
            access_key=self._keys.access_key if self._keys else None,
        )
        payload = json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")
        if len(payload) > limit:
            return _refused(413, f"Request must be smaller than {limit} bytes")
        try:
            invocation = self._function.begin(payload)
        except Throttled:
            return _refused(429, "Rate Exceeded.")
        try:
            return await self._answer(request, invocation)
        except (FunctionError, BadAnswer) as error:
            self._say(f"{invocation.id} {error}")
            return _refused(502, "Internal Server Error")

    async def _answer(self, request: web.Request, invocation: Invocation) -> web.StreamResponse:
        head = await invocation.head()
        parts = invocation.body()
        streams = self._invoke_mode == "RESPONSE_STREAM"
        if streams and head.streamed and head.content_type == PRELUDE_TYPE:
            answer, begun = await read_prelude(parts)
        elif streams:
            # Only a prelude speaks of HTTP here: the payload is the body, as it is.
            answer, begun = HttpAnswer(200, {"content-type": head.content_type}), b""
        else:
            answer, whole = read_answer(b"".join([part async for part in parts]))
            complete = web.Response(status=answer.status, body=whole)
            _write_head(complete, answer, invocation)
            return complete
        response = web.StreamResponse(status=answer.status)
        _write_head(response, answer, invocation)
        with contextlib.suppress(ConnectionError):  # the client has gone; the function runs on
            await response.prepare(request)
            wanted = request.method != "HEAD"
            try:
                if wanted:
                    await response.write(begun)
                async for part in parts:
                    if wanted:
                        await response.write(part)
            except FunctionError as error:
                self._say(f"{invocation.id} {error}; the stream is cut")
                if request.transport is not None:
                    request.transport.abort()
                return response
            await response.write_eof()
        return response


def _write_head(response: web.StreamResponse, answer: HttpAnswer, invocation: Invocation) -> None:
    response.headers.update(answer.headers)
    response.headers["x-amzn-RequestId"] = invocation.id
    for cookie in answer.cookies:
        response.headers.add("set-cookie", cookie)


async def _whole(invocation: Invocation) -> bytes:
    await invocation.head()
    return b"".join([part async for part in invocation.body()])


async def _limited(request: web.Request, limit: int) -> bytes | None:
    """The body; None if it is longer than `limit`."""
    if (request.content_length or 0) > limit:
        return None
    body = bytearray()
    async for data in request.content.iter_any():
        body += data
        if len(body) > limit:
            return None
    return bytes(body)


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"Message": message}, status=status)
