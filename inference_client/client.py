"""The client: one object for one model."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from .breaker import Breaker, BreakerState
from .deadline import Deadline
from .dialect import PLAIN, Dialect, learn
from .errors import BadAnswer, InferenceError, Refused, Unreachable
from .messages import ChatMessage, Health, Reply, SamplingOptions, Usage
from .refusals import error_in_stream
from .retries import Retries
from .settings import BearerAuth, ClientSettings
from .stream import EmptyStream, OpenStream, ReplyStream
from .transport import Transport
from .wire import Malformed, read_completion, read_models, request_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

__all__ = ["InferenceClient"]

T = TypeVar("T")

_log = logging.getLogger(__name__)
_WARM = b'{"warm":true}'


class InferenceClient:
    """Talks to one OpenAI-compatible model server; safe for many tasks of one event loop.

        async with InferenceClient(ClientSettings(base_url=..., model=...)) as client:
            reply = await client.chat([ChatMessage("user", "hello")])

    Retries connection errors, timeouts before the first word, 429 and 5xx, all under
    `total_timeout`. A breaker stops asking a model that is down. What a server refuses by name
    (an optional field, names, two turns of one role) it is not sent again. Every error is an
    InferenceError; only misuse (a closed client, options that are not JSON) raises
    RuntimeError or ValueError.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._transport = Transport(settings)
        self._breaker = Breaker(
            threshold=settings.breaker_threshold, cooldown=settings.breaker_cooldown
        )
        self._retries = Retries(settings, self._breaker)
        self._dialect = PLAIN
        self._warm_path: str | None = None

    @property
    def settings(self) -> ClientSettings:
        """What the client was made with."""
        return self._settings

    @property
    def breaker_state(self) -> BreakerState:
        """For metrics and health pages."""
        return self._breaker.state

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The client cannot be used again."""
        await self._transport.aclose()

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        options: SamplingOptions | None = None,
        *,
        request_id: str | None = None,
        asker: str = "",
    ) -> Reply:
        """The whole reply at once.

        Args:
            messages: the conversation.
            options: how to sample.
            request_id: the caller's own id for logs, else a new one.
            asker: for whom, as in `stream`.
        """
        request_id = request_id or _new_id()
        request = _Request(self._settings.model, messages, options or SamplingOptions(), False)
        request.body(PLAIN)  # raise here, if at all
        deadline = Deadline(self._settings.total_timeout, request_id)

        async def attempt(body: bytes) -> Reply:
            async with (
                deadline.phase("answer", self._settings.answer_timeout),
                self._transport.exchange(
                    "POST",
                    f"{self._settings.api_url}/chat/completions",
                    body=body,
                    deadline=deadline,
                    request_id=request_id,
                ) as answer,
            ):
                try:
                    whole = read_completion(await answer.read())
                except Malformed as error:
                    raise BadAnswer(
                        f"The model's answer cannot be read: {error}.",
                        request_id=answer.request_id,
                    ) from error
                if whole.error is not None:
                    raise error_in_stream(
                        whole.error, request_id=answer.request_id, secret=self._secret
                    )
                return Reply(
                    text=whole.text,
                    finish_reason=whole.finish_reason,
                    usage=whole.usage or Usage(),
                    timings=whole.timings,
                    request_id=answer.request_id,
                )

        return await self._retries.run(
            lambda: self._understood(request, attempt), deadline, asker=asker
        )

    def stream(
        self,
        messages: Sequence[ChatMessage],
        options: SamplingOptions | None = None,
        *,
        request_id: str | None = None,
        asker: str = "",
    ) -> ReplyStream:
        """The reply word by word; see ReplyStream. The request is made on entering it.

        Args:
            messages: the conversation.
            options: how to sample.
            request_id: the caller's own id for logs, else a new one.
            asker: any name for whom or what the reply is for. A model that fails for one asker
                only is not taken for down.
        """
        request = _Request(self._settings.model, messages, options or SamplingOptions(), True)
        request.body(PLAIN)  # raise here, if at all

        async def open_stream() -> tuple[OpenStream, str]:
            rid = request_id or _new_id()
            deadline = Deadline(self._settings.total_timeout, rid)

            async def attempt(body: bytes) -> tuple[OpenStream, str]:
                return await self._open(body, deadline, rid)

            return await self._retries.run(
                lambda: self._understood(request, attempt), deadline, asker=asker
            )

        return ReplyStream(open_stream)

    async def models(self) -> list[str]:
        """The names of the models that the server offers."""
        request_id = _new_id()
        deadline = Deadline(self._settings.total_timeout, request_id)
        return await self._retries.run(lambda: self._models(deadline, request_id), deadline)

    async def health(self) -> Health:
        """Ask once whether a reply could be had, key included. Never raises InferenceError."""
        request_id = _new_id()
        deadline = Deadline(self._settings.first_token_timeout, request_id)
        started = asyncio.get_running_loop().time()
        try:
            names = await self._models(deadline, request_id)
        except InferenceError as error:
            return Health(ok=False, detail=error.message)
        latency_ms = (asyncio.get_running_loop().time() - started) * 1000
        if names and self._settings.model not in names:
            return Health(
                ok=True,
                detail=f"The model's server answers, but does not list {self._settings.model!r}; "
                f"it offers {', '.join(names[:5])}.",
                models=tuple(names),
                latency_ms=latency_ms,
            )
        return Health(
            ok=True,
            detail=f"The model's server answers in {latency_ms:.0f} ms.",
            models=tuple(names),
            latency_ms=latency_ms,
        )

    async def warm(self) -> bool:
        """Wake a sleeping model, without a reply; True if something answered.

        Our own server knows `{"warm": true}`; for others a health or models request wakes at
        least the machine. Asked once, outside retries and breaker, and never an InferenceError:
        a failure here only means that the next reply waits longer.
        """
        request_id = _new_id()
        deadline = Deadline(self._settings.first_token_timeout, request_id)
        ways = ("warm", "healthz", "models")
        for way in ways if self._warm_path is None else (self._warm_path,):
            try:
                await self._warm_by(way, deadline, request_id)
            except Refused as error:
                if error.status not in (400, 404, 405, 415, 422):
                    _log.info("warming refused: %s", error)
                    return False
            except InferenceError as error:
                _log.info("warming failed: %s", error)
                return False
            else:
                self._warm_path = way
                return True
        return False

    @property
    def _secret(self) -> str | None:
        auth = self._settings.auth
        return auth.key if isinstance(auth, BearerAuth) else None

    async def _understood(self, request: _Request, attempt: Callable[[bytes], Awaitable[T]]) -> T:
        """One attempt, in the dialect of the server, which its refusals teach."""
        while True:
            spoken = self._dialect
            body = request.body(spoken)
            try:
                return await attempt(body)
            except Refused as error:
                learnt = learn(error, spoken, request.messages, json.loads(body))
                if learnt is None:
                    raise
                _log.warning("the server is spoken to otherwise from now on: %s", error)
                self._dialect |= learnt

    async def _open(
        self, body: bytes, deadline: Deadline, request_id: str
    ) -> tuple[OpenStream, str]:
        """A stream with its first words.

        Some servers (llama-cpp-python's) see what is wrong with a request only after the head of
        their answer, and break off without a byte; asked without a stream, they say it.
        """
        try:
            return await self._open_once(body, deadline, request_id)
        except EmptyStream as error:
            _log.info("asked again without a stream: %s", error)
            whole = json.loads(body) | {"stream": False}
            whole.pop("stream_options", None)
            body = json.dumps(whole).encode()
        try:
            return await self._open_once(body, deadline, request_id)
        except Unreachable:
            # on the connection that the server gave up with its stream, in all likelihood
            return await self._open_once(body, deadline, request_id)

    async def _open_once(
        self, body: bytes, deadline: Deadline, request_id: str
    ) -> tuple[OpenStream, str]:
        stack = AsyncExitStack()
        try:
            async with deadline.phase("first_token", self._settings.first_token_timeout):
                answer = await stack.enter_async_context(
                    self._transport.exchange(
                        "POST",
                        f"{self._settings.api_url}/chat/completions",
                        body=body,
                        accept="text/event-stream",
                        deadline=deadline,
                        request_id=request_id,
                    )
                )
                stream = OpenStream(
                    answer, deadline, self._settings.between_tokens_timeout, self._secret, stack
                )
                try:
                    return stream, await stream.first()
                except Unreachable as error:
                    if answer.received:
                        raise
                    raise EmptyStream(error.message, request_id=error.request_id) from error
        except BaseException:
            await stack.aclose()
            raise

    async def _models(self, deadline: Deadline, request_id: str) -> list[str]:
        async with (
            deadline.phase("answer", self._settings.answer_timeout),
            self._transport.exchange(
                "GET",
                f"{self._settings.api_url}/models",
                deadline=deadline,
                request_id=request_id,
            ) as answer,
        ):
            try:
                return read_models(await answer.read())
            except Malformed as error:
                raise BadAnswer(
                    f"The server's list of models cannot be read: {error}.",
                    request_id=answer.request_id,
                ) from error

    async def _warm_by(self, way: str, deadline: Deadline, request_id: str) -> None:
        if way == "models":
            await self._models(deadline, request_id)
            return
        method, path, body = ("POST", "/", _WARM) if way == "warm" else ("GET", "/healthz", None)
        async with (
            deadline.phase("answer", self._settings.first_token_timeout),
            self._transport.exchange(
                method,
                f"{self._settings.root_url}{path}",
                body=body,
                deadline=deadline,
                request_id=request_id,
            ) as answer,
        ):
            await answer.read()


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked for, before it is put into the server's dialect."""

    model: str
    messages: Sequence[ChatMessage]
    options: SamplingOptions
    stream: bool

    def body(self, dialect: Dialect) -> bytes:
        return request_body(
            self.model, self.messages, self.options, stream=self.stream, dialect=dialect
        )
