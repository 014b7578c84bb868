"""A reply that comes word by word."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from .errors import BadAnswer, InferenceError, TimedOut, Unreachable
from .messages import Reply, Timings, Usage
from .refusals import error_in_stream
from .sse import EventTooLong, SSEDecoder
from .wire import Chunk, Malformed, is_document, read_chunk, read_completion

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from .deadline import Deadline
    from .transport import Answer

__all__ = ["EmptyStream", "OpenStream", "ReplyStream"]

_DRAIN_SECONDS = 0.25
_MAX_EVENT_BYTES = 1024 * 1024


class EmptyStream(Unreachable):
    """A success by status, and then not a byte."""


class OpenStream:
    """One attempt's stream, read up to its first word."""

    def __init__(
        self,
        answer: Answer,
        deadline: Deadline,
        between_tokens: float,
        secret: str | None,
        stack: AsyncExitStack,
    ) -> None:
        self.request_id = answer.request_id
        self._deadline = deadline
        self._between_tokens = between_tokens
        self._secret = secret
        self._stack = stack
        self._chunks = _chunks(answer)
        self.text = ""
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.timings: Timings | None = None
        self.ended = False

    async def first(self) -> str:
        """The first words, or "" if the stream ended without any. The caller sets the limit."""
        return await self._next_text()

    async def following(self) -> str:
        """The next words, or "" at the end. Errors carry the text so far."""
        try:
            async with self._deadline.phase("between_tokens", self._between_tokens):
                return await self._next_text()
        except InferenceError as error:
            if self.finish_reason is not None and isinstance(error, TimedOut | Unreachable):
                self.ended = True  # the reply is whole; only the end of the stream got lost
                return ""
            error.text_so_far = self.text
            raise

    async def aclose(self) -> None:
        """Let the connection go; unread words are dropped, and the server sees it."""
        await self._chunks.aclose()
        await self._stack.aclose()

    def reply(self) -> Reply:
        """What has come, as a whole."""
        return Reply(
            text=self.text,
            finish_reason=self.finish_reason,
            usage=self.usage or Usage(),
            timings=self.timings,
            request_id=self.request_id,
        )

    async def _next_text(self) -> str:
        async for chunk in self._chunks:
            if chunk.error is not None:
                raise error_in_stream(chunk.error, request_id=self.request_id, secret=self._secret)
            self.finish_reason = chunk.finish_reason or self.finish_reason
            self.usage = chunk.usage or self.usage
            self.timings = chunk.timings or self.timings
            if chunk.text:
                self.text += chunk.text
                return chunk.text
        self.ended = True
        return ""


class ReplyStream:
    """What `InferenceClient.stream` gives.

        async with client.stream(messages) as reply:
            async for text in reply:
                show(text)
        reply.final  # the Reply

    Entering waits for the first word, with retries; after it nothing is tried again, because the
    person has begun to read: an error then has what was said as `text_so_far`. Leaving early
    closes the connection, which tells the server to stop.
    """

    def __init__(self, open_stream: Callable[[], Awaitable[tuple[OpenStream, str]]]) -> None:
        self._open_stream = open_stream
        self._stream: OpenStream | None = None
        self._pending = ""

    async def __aenter__(self) -> Self:
        if self._stream is not None:
            raise RuntimeError("A ReplyStream is entered once; call stream() again.")
        self._stream, self._pending = await self._open_stream()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        stream = self._entered()
        if self._pending:
            text, self._pending = self._pending, ""
            return text
        if stream.ended or not (text := await stream.following()):
            raise StopAsyncIteration
        return text

    @property
    def text(self) -> str:
        """All words received up to now."""
        return self._entered().text

    @property
    def request_id(self) -> str:
        """The id under which server and client both logged this."""
        return self._entered().request_id

    @property
    def final(self) -> Reply:
        """The whole reply. Raises RuntimeError before the stream has been read to its end."""
        stream = self._entered()
        if not stream.ended or self._pending:
            raise RuntimeError("The reply is not whole yet: read the stream to its end first.")
        return stream.reply()

    def _entered(self) -> OpenStream:
        if self._stream is None:
            raise RuntimeError("Use `async with client.stream(...) as reply`.")
        return self._stream


async def _chunks(answer: Answer) -> AsyncGenerator[Chunk]:
    """The answer's parts, up to [DONE] or the end of the body.

    A server that does not stream gives its whole answer as one part; which of the two it is shows
    in the first byte, since content types are not to be relied on. Raises Unreachable if the body
    ends before the reply does, and BadAnswer if it is something else than a stream.
    """
    began = chosen = finished = False
    try:
        async with contextlib.aclosing(answer.chunks()) as body:
            beginning = await _beginning(body)
            if is_document(beginning):
                rest = [piece async for piece in body]
                yield read_completion(b"".join([beginning, *rest]))
                return
            whole = _whole(beginning, body)
            async with contextlib.aclosing(whole), contextlib.aclosing(_events(whole)) as events:
                async for data in events:
                    began = True
                    if data.strip() == "[DONE]":
                        if not chosen:
                            raise Malformed("it ended without a reply")
                        return
                    if not data.strip():
                        continue
                    chunk = read_chunk(data)
                    chosen = chosen or chunk.has_choice
                    finished = finished or chunk.finish_reason is not None
                    yield chunk
    except (Malformed, EventTooLong) as error:
        raise BadAnswer(
            f"The model's stream cannot be read: {error}.", request_id=answer.request_id
        ) from error
    if not began and answer.received:
        raise BadAnswer(
            "The model's server answered with something that is not a stream of words; "
            "check that its address is that of a chat-completions API.",
            request_id=answer.request_id,
        )
    if not finished:
        raise Unreachable(
            "The model's stream ended in the middle of a reply.", request_id=answer.request_id
        )


async def _beginning(body: AsyncIterator[bytes]) -> bytes:
    """The body up to its first visible byte, or all of it if it has none."""
    beginning = b""
    async for piece in body:
        beginning += piece
        if beginning.removeprefix(b"\xef\xbb\xbf").strip():
            break
    return beginning


async def _whole(beginning: bytes, body: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield beginning
    async for piece in body:
        yield piece


async def _events(body: AsyncGenerator[bytes]) -> AsyncGenerator[str]:
    """The data of each event; after [DONE] the rest is drained to free the connection."""
    decoder = SSEDecoder(_MAX_EVENT_BYTES)
    async for piece in body:
        for data in decoder.feed(piece):
            if data.strip() == "[DONE]":
                await _drain(body)
                yield data
                return
            yield data
    for data in decoder.close():
        yield data


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Read what follows [DONE], normally nothing, so that the connection can be used again."""
    with contextlib.suppress(InferenceError, TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in body:
                pass
