"""A fake OpenAI-compatible model server on a loopback port, with faults to order.

    async with FakeModel() as model:
        model.reply_with("hello!")
        model.faults.status(503, times=2)
        ...  # point a client at model.url
        assert model.requests[-1]["messages"][-1]["content"] == "hi"

Without an order it answers `I heard: <the last user's text>`. By hand:

    python -m tests.fakes.model --port 8080 --reply "hello" --delay 0.1
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import inspect
import json
import re
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from aiohttp import web

from tests.fakes.aws_signature import AwsKeys, signature_problem

if TYPE_CHECKING:
    from types import TracebackType

Message = dict[str, Any]
Answerer = Callable[[list[Message]], str | Awaitable[str]]
Rule = Callable[[dict[str, Any]], web.Response | None]

_MAX_BODY = 6 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one chat request."""

    kind: Literal["status", "hang", "drop", "silence", "garbage", "stream_error", "frames"]
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    after_words: int = 0
    content_type: str = "text/html"


class Faults:
    """Faults for the next chat requests, one each, in the order they were asked for."""

    def __init__(self) -> None:
        self._queue: deque[Fault] = deque()

    def status(
        self,
        status: int,
        *,
        times: int = 1,
        retry_after: float | str | None = None,
        body: str | None = None,
        location: str | None = None,
    ) -> None:
        """Answer with this status, in OpenAI's error envelope unless `body` says otherwise."""
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after}"}
        if location is not None:
            headers["Location"] = location
        self._queue.extend([Fault("status", status=status, headers=headers, body=body)] * times)

    def hang(self, *, times: int = 1) -> None:
        """Take the request and never say a byte."""
        self._queue.extend([Fault("hang")] * times)

    def drop(self, *, after_words: int = 0, times: int = 1) -> None:
        """Cut the connection after so many words; without `stream`, half-way in the body."""
        self._queue.extend([Fault("drop", after_words=after_words)] * times)

    def silence(self, *, after_words: int = 1, times: int = 1) -> None:
        """Stream so many words, then nothing more, the connection left open."""
        self._queue.extend([Fault("silence", after_words=after_words)] * times)

    def garbage(
        self,
        *,
        times: int = 1,
        body: str = "<html>It works!</html>",
        content_type: str = "text/html",
    ) -> None:
        """Answer 200 with something that is no chat completion."""
        self._queue.extend([Fault("garbage", body=body, content_type=content_type)] * times)

    def frames(self, text: str, *, after_words: int = 0, times: int = 1) -> None:
        """Stream so many words, then exactly this text, and end the answer."""
        self._queue.extend([Fault("frames", body=text, after_words=after_words)] * times)

    def error_in_stream(
        self, *, after_words: int = 1, times: int = 1, error: dict[str, Any] | None = None
    ) -> None:
        """Stream so many words, then an error object in place of a chunk."""
        body = json.dumps({"error": error or {"message": "the model broke", "code": 500}})
        self._queue.extend([Fault("stream_error", body=body, after_words=after_words)] * times)

    def none(self, *, times: int = 1) -> None:
        """Let this many requests through before the fault that is asked for next."""
        self._queue.extend([Fault("status", status=200)] * times)

    def clear(self) -> None:
        """Forget what is still to come."""
        self._queue.clear()

    def __len__(self) -> int:
        return len(self._queue)

    def take(self) -> Fault | None:
        """The next request's fault."""
        fault = self._queue.popleft() if self._queue else None
        return None if fault is None or fault.status == 200 else fault


@dataclass(frozen=True)
class Received:
    """One request as it came, whatever became of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int] | None = None
    """The client's end of the connection."""


class FakeModel:
    """The server.

    requests: the parsed body of every chat request, the failed ones included.
    answered: those that got a whole reply.
    received: every request of any kind, refused ones included.
    warm_ping: whether `{"warm": true}` is understood; else it gets a 404.
    warmed: how many `{"warm": true}` pings came.
    delay: seconds before each word; first_delay: seconds before the first one, in addition.
    cancelled: chat requests whose client went away before the reply was whole.
    rules: each sees the body of every chat request, and answers those that it refuses.
    count_tokens: how long a prompt is, for `usage`.
    """

    def __init__(
        self,
        *,
        bearer: str | None = None,
        sigv4: AwsKeys | None = None,
        models: tuple[str, ...] = ("fake-model",),
        delay: float = 0.0,
        first_delay: float = 0.0,
        port: int = 0,
        usage: bool = True,
        timings: bool = True,
        warm_ping: bool = True,
    ) -> None:
        self.bearer = bearer
        self.sigv4 = sigv4
        self.models = models
        self.delay = delay
        self.first_delay = first_delay
        self.usage = usage
        self.timings = timings
        self.warm_ping = warm_ping
        self.faults = Faults()
        self.rules: list[Rule] = []
        self.count_tokens: Callable[[list[Message]], int] = count_words
        self.requests: list[dict[str, Any]] = []
        self.answered: list[dict[str, Any]] = []
        self.received: list[Received] = []
        self.warmed = 0
        self.cancelled = 0
        self.port = port
        self._answerer: Answerer = echo
        self._seen: list[list[Message]] = []
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()
        self._free = asyncio.Event()
        self._free.set()

    @property
    def root_url(self) -> str:
        """`http://127.0.0.1:<port>`"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What a client takes as its base URL, `/v1` included."""
        return f"{self.root_url}/v1"

    def reply_with(self, answer: str | Answerer) -> None:
        """Say this from now on: a text, or a function (async or not) of the messages."""
        if isinstance(answer, str):
            self._answerer = lambda _: answer
        else:
            self._answerer = answer

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Requests are taken meanwhile, and not answered before the end."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Listen; after `down` on the same port as before."""
        if self._runner is not None:
            return
        self._closing = asyncio.Event()
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/healthz", self._health)
        app.router.add_post("/", self._root)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def down(self) -> None:
        """Refuse connections and cut the open ones."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self._closing.set()
            await runner.cleanup()

    async def _admit(self, request: web.Request) -> web.Response | None:
        """Record the request; an error answer if its credentials are not right."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer = request.transport.get_extra_info("peername") if request.transport else None
        self.received.append(Received(request.method, request.path, headers, body, peer))
        if self.bearer is not None:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.bearer.encode()):
                return _error(401, "Incorrect API key provided.", code="invalid_api_key")
        if self.sigv4 is not None:
            problem = signature_problem(
                self.sigv4,
                method=request.method,
                path=request.rel_url.raw_path,
                query=request.rel_url.raw_query_string,
                headers=headers,
                body=body,
            )
            if problem is not None:
                return web.json_response(
                    {"Message": "Forbidden"},
                    status=403,
                    headers={"x-amzn-ErrorType": "AccessDeniedException", "X-Why": problem},
                )
        return None

    async def _root(self, request: web.Request) -> web.Response:
        if (refusal := await self._admit(request)) is not None:
            return refusal
        with contextlib.suppress(ValueError):
            if self.warm_ping and json.loads(await request.read()) == {"warm": True}:
                self.warmed += 1
                return web.json_response({"warm": True})
        return _error(404, "Not found.")

    async def _health(self, request: web.Request) -> web.Response:
        self.received.append(Received("GET", request.path, dict(request.headers), b""))
        return web.json_response({"status": "ok"})

    async def _models(self, request: web.Request) -> web.Response:
        if (refusal := await self._admit(request)) is not None:
            return refusal
        data = [{"id": m, "object": "model", "created": 0, "owned_by": "fake"} for m in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if (refusal := await self._admit(request)) is not None:
            return refusal
        try:
            body = json.loads(await request.read())
            messages = body["messages"]
            assert messages
            assert all(isinstance(m["content"], str) for m in messages)
        except (ValueError, KeyError, TypeError, AssertionError):
            return _error(400, "messages must be a list of turns.", param="messages")
        self.requests.append(body)
        for rule in self.rules:
            if (refused := rule(body)) is not None:
                return refused
        fault = self.faults.take()
        try:
            if fault is not None and fault.kind == "status":
                return _fault_answer(fault)
            if fault is not None and fault.kind == "hang":
                await self._closing.wait()
            if fault is not None and fault.kind == "garbage":
                return web.Response(text=fault.body, content_type=fault.content_type)
            await self._free.wait()
            said = self._answerer(messages)
            text = await said if inspect.isawaitable(said) else said
            words, finish_reason = _cut(text, body)
            done = {
                "finish_reason": finish_reason,
                "extras": self._extras(messages, len(words)),
            }
            if body.get("stream"):
                return await self._stream(request, body, words, done, fault)
            return await self._whole(request, body, words, done, fault)
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled += 1
            raise

    async def _whole(
        self,
        request: web.Request,
        body: dict[str, Any],
        words: list[str],
        done: dict[str, Any],
        fault: Fault | None,
    ) -> web.StreamResponse:
        await asyncio.sleep(self.first_delay + self.delay * len(words))
        answer = _envelope(body, "chat.completion") | done["extras"]
        answer["choices"] = [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(words)},
                "finish_reason": done["finish_reason"],
            }
        ]
        headers = {"X-Request-Id": request.headers.get("X-Request-Id", uuid.uuid4().hex)}
        if fault is not None and fault.kind == "drop":
            data = json.dumps(answer).encode()
            response = web.StreamResponse(headers=headers | {"Content-Type": "application/json"})
            response.content_length = len(data)
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            _cut_connection(request)
            return response
        if fault is not None and fault.kind == "silence":
            await self._closing.wait()
        if fault is not None and fault.kind == "stream_error":
            return web.json_response(text=fault.body, headers=headers)
        self.answered.append(body)
        return web.json_response(answer, headers=headers)

    async def _stream(
        self,
        request: web.Request,
        body: dict[str, Any],
        words: list[str],
        done: dict[str, Any],
        fault: Fault | None,
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-cache",
                "X-Request-Id": request.headers.get("X-Request-Id", uuid.uuid4().hex),
            }
        )
        await response.prepare(request)
        envelope = _envelope(body, "chat.completion.chunk")

        async def send(
            delta: dict[str, Any], finish_reason: str | None = None, **more: Any
        ) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            chunk = envelope | {"choices": [choice]} | more
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        await send({"role": "assistant", "content": ""})
        await asyncio.sleep(self.first_delay)
        for at, word in enumerate([*words, ""]):
            if fault is not None and at == min(fault.after_words, len(words)):
                if fault.kind == "drop":
                    _cut_connection(request)
                    return response
                if fault.kind == "silence":
                    await self._closing.wait()
                if fault.kind in ("stream_error", "frames"):
                    said = f"data: {fault.body}\n\n" if fault.kind == "stream_error" else fault.body
                    await response.write((said or "").encode())
                    await response.write_eof()
                    return response
            if word:
                await asyncio.sleep(self.delay)
                await send({"content": word})
        extras = done["extras"]
        timings = {"timings": extras["timings"]} if "timings" in extras else {}
        await send({}, done["finish_reason"], **timings)
        if "usage" in extras and (body.get("stream_options") or {}).get("include_usage"):
            last = envelope | {"choices": [], "usage": extras["usage"]}
            await response.write(b"data: " + json.dumps(last).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        self.answered.append(body)
        return response

    def _extras(self, messages: list[Message], completion_tokens: int) -> dict[str, Any]:
        """Usage and timings; a word is a token, and turns seen before count as cached."""
        cached = max((_shared(messages, old) for old in self._seen), default=0)
        self._seen.append(messages)
        prompt = self.count_tokens(messages)
        extras: dict[str, Any] = {}
        if self.usage:
            extras["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt + completion_tokens,
                "prompt_tokens_details": {"cached_tokens": cached},
            }
        if self.timings:
            extras["timings"] = {
                "queue_ms": 0.0,
                "load_ms": 0.0,
                "prefill_ms": 1000 * self.first_delay,
                "decode_ms": 1000 * self.delay * completion_tokens,
            }
        return extras


def echo(messages: list[Message]) -> str:
    """The answer without an order: what was said last, deterministic."""
    said = [m["content"] for m in messages if m.get("role") == "user"]
    return f"I heard: {said[-1]}" if said else "I heard nothing."


def count_words(messages: list[Message]) -> int:
    """A word is a token, and so is a turn's end."""
    return sum(_tokens(m) for m in messages)


def _cut(text: str, body: dict[str, Any]) -> tuple[list[str], str]:
    """The reply's words, ended by `stop` and `max_tokens` as asked, and why it ended."""
    stop = body.get("stop") or []
    for end in [stop] if isinstance(stop, str) else stop:
        text = text.partition(end)[0]
    words = re.findall(r"\s*\S+|\s+\Z", text)
    limit = body.get("max_tokens")
    return (words[:limit], "length") if limit and len(words) > limit else (words, "stop")


def _tokens(message: Message) -> int:
    return len(message["content"].split()) + 1


def _shared(a: list[Message], b: list[Message]) -> int:
    total = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        total += _tokens(one)
    return total


def _envelope(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": 0,
        "model": body.get("model", "fake-model"),
    }


def _error(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> web.Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return web.json_response({"error": error}, status=status)


def _fault_answer(fault: Fault) -> web.Response:
    if fault.body is not None:
        return web.Response(status=fault.status, text=fault.body, headers=fault.headers)
    answer = _error(fault.status, f"a {fault.status} to order")
    answer.headers.update(fault.headers)
    return answer


def _cut_connection(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _serve(arguments: argparse.Namespace) -> None:
    async with FakeModel(
        port=arguments.port, delay=arguments.delay, bearer=arguments.bearer
    ) as model:
        if arguments.reply is not None:
            model.reply_with(arguments.reply)
        print(model.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until Ctrl-C; the first line on stdout is the address."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--reply", help="what to say; else it repeats the last message")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds a word")
    parser.add_argument("--bearer", help="the key to ask for")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
